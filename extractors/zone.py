"""The time-zone check of the reading rule (design.md, point 6; facts/posthog-api.md §1.7).

A server with the fault labels project-local wall clock as UTC. Its cursors are right, its rows are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from extractors.decode import Page
from extractors.errors import TimeZoneFault
from extractors.window import MICROSECOND, Range, iso

HOUR = timedelta(hours=1)
QUARTER_HOUR = timedelta(minutes=15)
TRIES = 3  # a row may have been deleted between two requests


@dataclass(frozen=True, slots=True)
class HourCount:
    """What /query says of one UTC hour: rows (unmerged copies included) and the least uuid as text."""

    rows: int
    least_uuid: str


def check_cursor(page: Page) -> bool:
    """Whether the last row's time is the one in `next`, which carries it as the server knows it.

    False where nothing can be said. Raises TimeZoneFault where they differ by quarter hours.
    """
    if page.cursor is None or page.rejects.num_rows or not page.rows.num_rows:
        return False
    last = pc.max(page.rows["timestamp"]).as_py()
    shift = page.cursor - last
    if shift and shift % QUARTER_HOUR == timedelta(0):
        raise _fault(f"the last row says {iso(last)}, the server's own cursor {iso(page.cursor)}")
    return not shift


class ZoneCheck:
    """Checks pages; a month that was confirmed once is not asked for again.

    *exactly(range)* reads a range of a microsecond by a further request and returns its uuids. *confirmed*: the months
    (year, number) that earlier sweeps confirmed; it grows.
    """

    def __init__(
        self,
        hours: Mapping[datetime, HourCount],
        exactly: Callable[[Range], set[str]],
        confirmed: set[tuple[int, int]] | None = None,
    ) -> None:
        self._hours = hours
        self._exactly = exactly
        self._confirmed = set() if confirmed is None else confirmed

    def check(self, page: Page, asked: Range) -> None:
        """Raises TimeZoneFault where the rows' times cannot be UTC."""
        if not page.rows.num_rows:
            return
        if page.more:
            if check_cursor(page):
                last = page.rows["timestamp"][-1].as_py()
                self._confirmed.add((last.year, last.month))
        elif not self._agrees_with_hours(page.rows, asked):
            self._ask_again(page.rows)

    def _agrees_with_hours(self, rows: pa.Table, asked: Range) -> bool:
        """Whether the rows are those of the hours that /query counted in UTC, hour by hour."""
        if not self._hours:
            return False
        hours = pc.floor_temporal(rows["timestamp"], unit="hour")
        found = (
            pa.table({"hour": hours, "uuid": rows["uuid"]})
            .group_by("hour")
            .aggregate([("uuid", "count"), ("uuid", "min")])
        )
        checked = 0
        for hour, count, least in zip(
            *(found[name].to_pylist() for name in ("hour", "uuid_count", "uuid_min")), strict=True
        ):
            if hour < asked.start or hour + HOUR > asked.end:
                continue
            if self._hours.get(hour) != HourCount(count, least):
                return False
            checked += 1
        return checked > 0

    def _ask_again(self, rows: pa.Table) -> None:
        """Ask for the first and the last row of each month by their own timestamp; a miss is tried on other rows."""
        months: dict[tuple[int, int], list[int]] = {}
        for index, at in enumerate(rows["timestamp"].to_pylist()):
            months.setdefault((at.year, at.month), []).append(index)
        for month, indexes in months.items():
            if month in self._confirmed:
                continue
            self._find(rows, indexes[:TRIES])
            if len(indexes) > TRIES:
                self._find(rows, indexes[: -TRIES - 1 : -1])
            self._confirmed.add(month)

    def _find(self, rows: pa.Table, indexes: list[int]) -> None:
        for index in indexes:
            at = rows["timestamp"][index].as_py()
            if rows["uuid"][index].as_py() in self._exactly(Range(at, at + MICROSECOND)):
                return
        raise _fault(f"an event listed at {iso(rows['timestamp'][indexes[0]].as_py())} is not found at that time")


def _fault(found: str) -> TimeZoneFault:
    return TimeZoneFault(
        f"the server labels local times as UTC: {found}",
        hint="a fault of some PostHog builds of 2026: set the project's time zone to UTC, or upgrade PostHog",
    )
