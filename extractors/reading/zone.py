"""The time-zone check of the reading rule (design.md, point 6; facts/posthog-api.md §1.7).

A server with the fault labels project-local wall clock as UTC. Its cursors are right, its rows are not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from extractors.errors import TimeZoneFault
from extractors.http.decode import Page
from extractors.window import DAY, MICROSECOND, Range, iso

HOUR = timedelta(hours=1)
QUARTER_HOUR = timedelta(minutes=15)
# No zone that was UTC, was away from it and came back took less than 41 days between 2009 and 2036 (Casablanca, 2012).
REACH = timedelta(days=28)
LEAST_OFFSET = timedelta(minutes=30)  # no zone was nearer to UTC than an hour since 2009, if not at it
TRIES = 3  # a row may have been deleted between two requests


@dataclass(frozen=True, slots=True)
class HourCount:
    """What /query says of one UTC hour: rows (unmerged copies included) and the least uuid as text."""

    rows: int
    least_uuid: str


def check_cursor(page: Page) -> bool:
    """Whether the last row's time is the one in `next`, which carries it as the server knows it.

    False where nothing can be said: a row that could not be typed may have been the last. Raises TimeZoneFault where
    they differ by quarter hours.
    """
    if page.cursor is None or not page.rows.num_rows:
        return False
    last = pc.max(page.rows["timestamp"]).as_py()
    shift = page.cursor - last
    if shift and shift % QUARTER_HOUR == timedelta(0) and not page.rejects.num_rows:
        raise _fault(f"the last row says {iso(last)}, the server's own cursor {iso(page.cursor)}")
    return not shift


class Spans:
    """Spans of time in which the server's rows are known to say UTC, bounds included; it grows.

    Two that lie no farther apart than REACH are one: between two times that are right there is none that is wrong.
    """

    def __init__(self) -> None:
        self._spans: list[tuple[datetime, datetime]] = []

    def add(self, first: datetime, last: datetime) -> None:
        apart = []
        for span in self._spans:
            if span[1] < first - REACH or last + REACH < span[0]:
                apart.append(span)
            else:
                first, last = min(first, span[0]), max(last, span[1])
        self._spans = sorted([*apart, (first, last)])

    def end_at(self, at: datetime) -> datetime | None:
        """Where the span that holds *at* ends; None where none does."""
        return next((last for first, last in self._spans if first <= at <= last), None)

    def end_before(self, at: datetime) -> datetime | None:
        """Where the last span before *at* ends, if that is within REACH."""
        return next((last for _, last in reversed(self._spans) if last < at <= last + REACH), None)


class ZoneCheck:
    """Checks that every row of a page lies in time that is proven: the server's rows say UTC there.

    A time is proven by a row that the server finds where it lists it, by the last row of a full page that agrees with the
    server's own cursor, and by an hour that /query counts alike. Two proven times at most REACH apart prove all between
    them. A full page is proven by its cursor and the one before it, so that of a sweep only the first row is asked for,
    and the last one of its last page, which has no cursor; where rows lie farther apart, as many as it takes. Of a range
    no longer than LEAST_OFFSET nothing is asked: a row of another zone's time would lie outside of it, which is an error.

    *exactly(range)* asks for the first page of a range, a microsecond as a rule, and returns its uuids; None where the
    server cannot serve it, which says nothing against any row. *proven*: what earlier sweeps proved; it grows.
    """

    def __init__(
        self,
        hours: Mapping[datetime, HourCount],
        exactly: Callable[[Range], set[str] | None],
        proven: Spans | None = None,
    ) -> None:
        self._hours = hours
        self._exactly = exactly
        self._proven = proven or Spans()

    def check(self, page: Page, asked: Range) -> None:
        """Raises TimeZoneFault where the rows' times cannot be UTC."""
        if not page.rows.num_rows:
            return
        first, last = (page.rows["timestamp"][place].as_py() for place in (0, -1))
        if asked.duration <= LEAST_OFFSET:
            self._proven.add(first, last)
            return
        if page.more and check_cursor(page):
            self._proven.add(last, last)
        # The hour of a full page's last row may go on.
        if self._agrees_with_hours(page.rows, asked.start, last if page.more else asked.end):
            self._proven.add(first, first)
            if not page.more:
                self._proven.add(last, last)
        end = self._proven.end_at(first)
        if end is None or end < last:
            self._prove(page.rows, asked)

    def _agrees_with_hours(self, rows: pa.Table, start: datetime, end: datetime) -> bool:
        """Whether the rows are those of the whole hours of [start, end) that /query counted in UTC; these are proven."""
        if not self._hours:
            return False
        hours = pc.floor_temporal(rows["timestamp"], unit="hour")
        found = (
            pa.table({"hour": hours, "uuid": rows["uuid"]})
            .group_by("hour")
            .aggregate([("uuid", "count"), ("uuid", "min")])
        )
        agreed: list[datetime] = []
        for hour, count, least in zip(
            *(found[name].to_pylist() for name in ("hour", "uuid_count", "uuid_min")), strict=True
        ):
            if hour < start or hour + HOUR > end:
                continue
            if self._hours.get(hour) != HourCount(count, least):
                return False
            agreed.append(hour)
        for hour in agreed:
            self._proven.add(hour, hour + HOUR - MICROSECOND)
        return bool(agreed)

    def _prove(self, rows: pa.Table, asked: Range) -> None:
        """Ask for rows by their own time until all lie in proven spans. *rows* ascend."""
        times = rows["timestamp"].to_pylist()
        place = 0
        while place < len(times):
            end = self._proven.end_at(times[place])
            if end is not None:
                place = bisect_right(times, end)
                continue
            before = self._proven.end_before(times[place])
            if before is None:
                start = times[place - 1] + MICROSECOND if place else asked.start
                self._find(rows, range(place, min(place + TRIES, len(times))), start)
            else:
                farthest = bisect_right(times, before + REACH) - 1
                self._find(rows, range(farthest, max(place, farthest - TRIES + 1) - 1, -1), before)

    def _find(self, rows: pa.Table, places: Sequence[int], start: datetime) -> None:
        """Prove the first of *places*, or the next one if it is gone. *start*: no other row lies between this time and them."""
        first = rows["timestamp"][places[0]].as_py()
        missed: set[str] = set()
        for place in places:
            at = rows["timestamp"][place].as_py()
            # Any row will do, as it says that time: of more ties than a page holds the same one need not come again.
            found = self._exactly(Range(at, at + MICROSECOND))
            if found is not None and not found:
                missed.add(rows["uuid"][place].as_py())
                continue
            # Gone, or at another time? There it is one of the next few rows, as rows come in the order of right times.
            low = at + MICROSECOND if at < first else start
            if missed and missed & (self._exactly(Range(low, max(at, first) + DAY)) or set()):
                break
            self._proven.add(min(first, at), max(first, at))
            return
        raise _fault(f"an event listed at {iso(first)} is not found at that time")


def _fault(found: str) -> TimeZoneFault:
    return TimeZoneFault(
        f"the server labels local times as UTC: {found}",
        hint="a fault of some PostHog builds of 2026: set the project's time zone to UTC, or upgrade PostHog",
    )
