"""How a simulated server behaves: one switch per difference between servers (facts/posthog-api.md §1, §5, §8)."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Profile:
    """Switches of a server. None: the limit does not exist there."""

    page_cap: int = 1000
    default_limit: int = 100
    probing: bool = True
    lower_bound_hours: int | None = 24
    max_range_days: int | None = 366
    max_offset: int | None = 50_000
    per_minute: int | None = 240
    per_hour: int | None = 1200
    values_per_minute: int | None = 60
    values_per_hour: int | None = 300
    query_per_minute: int | None = 240
    query_per_hour: int | None = 2400
    in_flight: int | None = 2
    prefixes: tuple[str, ...] = ("environments", "projects")
    query_allowed: bool = True
    hogql_filter_allowed: bool = True
    project_timezone: str = "America/New_York"

    def __post_init__(self) -> None:
        if self.page_cap < 1 or self.default_limit < 1:
            raise ValueError("a page holds at least one row")
        ZoneInfo(self.project_timezone)


CLOUD = Profile()
"""PostHog Cloud of late 2026."""
