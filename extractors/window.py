"""Half-open UTC ranges of event time, and the grid of windows that cuts a date.

Knows nothing of HTTP, of rows or of what is landed. Window and step: design.md, "The one idea".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)

STEPS: tuple[timedelta, ...] = (
    DAY,
    timedelta(hours=6),
    timedelta(hours=1),
    timedelta(minutes=15),
    timedelta(minutes=5),
    timedelta(minutes=1),
)
"""The lengths a date's windows may have, longest first; each divides the day."""


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Half-open interval [start, end) of event time, UTC, microseconds."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() != timedelta(0) or self.end.utcoffset() != timedelta(0):
            raise ValueError(f"range must be UTC: {self.start!r} .. {self.end!r}")
        if not self.start < self.end:
            raise ValueError(f"range is empty: start {self.start} is not before end {self.end}")

    @property
    def duration(self) -> timedelta:
        return self.end - self.start

    def covers(self, other: Range) -> bool:
        return self.start <= other.start and other.end <= self.end

    def overlap(self, other: Range) -> Range | None:
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Range(start, end) if start < end else None

    def hull(self, other: Range) -> Range:
        return Range(min(self.start, other.start), max(self.end, other.end))

    def __str__(self) -> str:
        return f"{iso(self.start)} .. {iso(self.end)}"


@dataclass(frozen=True, slots=True, order=True)
class Window(Range):
    """A range inside one UTC date: the unit of checkpointing, landing and proof."""

    def __post_init__(self) -> None:
        Range.__post_init__(self)
        if self.end > midnight(self.start.date()) + DAY:
            raise ValueError(f"window crosses midnight: {self.start} .. {self.end}")


def iso(at: datetime) -> str:
    """UTC text with microseconds only where there are some, for people and logs."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def window_at(at: datetime, step: timedelta) -> Window:
    """The window of the grid with *step* that holds *at*."""
    start = midnight(at.date())
    first = start + (at - start) // step * step
    return Window(first, first + step)


def windows_of(day: date, step: timedelta) -> Iterator[Window]:
    """All windows of *day*, in order."""
    start = midnight(day)
    for number in range(DAY // step):
        yield Window(start + number * step, start + (number + 1) * step)


def dates(rng: Range) -> Iterator[date]:
    """The UTC dates that *rng* touches, in order."""
    day = rng.start.date()
    while midnight(day) < rng.end:
        yield day
        day += DAY


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
