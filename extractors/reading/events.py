"""Reads one project's events list without losing an event: ranges as sweeps, and what lies outside of what can be asked.

Knows nothing of windows that are landed, of tables or of Prefect. One request at a time; what it has read comes out as
passages, each with the time before which nothing is missing any more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from extractors import errors
from extractors.filters import EventFilter, Filters, Narrowing
from extractors.http import decode
from extractors.http.client import Client
from extractors.reading import ancient
from extractors.reading import rows as rows_of
from extractors.reading.ancient import Ancient
from extractors.reading.clock import ServerClock
from extractors.reading.microsecond import Microseconds
from extractors.reading.pace import LIMIT, MAX_SPAN, Pace
from extractors.reading.page import Learned, NotServed, PageSource
from extractors.reading.probe import Probe
from extractors.reading.rows import Passage
from extractors.reading.sweep import Sweep
from extractors.reading.unserved import Unserved
from extractors.reading.zone import HourCount, Spans, ZoneCheck
from extractors.request import LAST_BOUND, SAMPLE, WHOLE, Bucket
from extractors.window import EPOCH, MICROSECOND, Range

SAMPLE_ROWS = 1_000
SAMPLE_SPAN = timedelta(seconds=1)  # the least that is asked for one


@dataclass(frozen=True, slots=True)
class Sample:
    """One page: its rows, its bytes as received and as gzip packs them, and whether it is all there is."""

    rows: int
    wire_bytes: int
    packed_bytes: int
    whole: bool


class EventsReader:
    """Reads ranges of one project's events; *filters* are those of a look-up; *page_bytes*: how large a page may be at most,
    once the size of rows is known."""

    def __init__(
        self,
        client: Client,
        project_id: int,
        *,
        events: EventFilter,
        filters: Filters | None = None,
        page_bytes: int | None = None,
    ) -> None:
        self._client = client
        self._events = events
        self.probe = Probe(client, project_id, events=events)
        self._pages = PageSource(client, project_id, events=events, filters=filters or Filters())
        self._clock = ServerClock(client, self._pages)
        self._unserved = Unserved(client, self._pages)
        self._microseconds = Microseconds(client, self._pages, self._unserved, probe=self.probe, events=events)
        self._sweep = Sweep(client, self._pages, self._unserved, self._microseconds, self._clock, page_bytes)
        self._proven = Spans()
        self._ancient: Ancient | None = None
        self._empty: set[Range] = set()

    @property
    def learned(self) -> Learned:
        """What this server's answers taught."""
        return self._pages.learned

    @property
    def tried(self) -> bool:
        """Whether an event of the server was asked for."""
        return self._clock.tried

    @property
    def served_at(self) -> datetime | None:
        """The server's clock, as Client.served_at has it."""
        return self._client.served_at

    @property
    def requests(self) -> int:
        """How many requests the client has sent."""
        return sum(self._client.requests.values())

    def queries_left(self, most: int | None) -> bool:
        """Whether fewer than *most* queries were sent within an hour, by every process of the key; None: any number may be."""
        return most is None or self._client.used(Bucket.QUERY) < most

    @property
    def events(self) -> EventFilter:
        """Which events belong to the stream."""
        return self._events

    def interrupted(self) -> AbstractContextManager[None]:
        """Within the block whoever reads, in another thread, waits no longer and asks nothing more: Stopped is raised."""
        return self._client.interrupted()

    def resting(self, before: Callable[[], None]) -> AbstractContextManager[None]:
        """Within the block *before* is called ahead of every wait, by whoever reads."""
        return self._client.resting(before)

    def now(self, *, first: bool = False) -> datetime:
        """The server's clock, by one cheap list request, which also tries the key and the project.

        *first*: nothing is landed from this server yet. Then an event is asked for, once, so that a server whose events
        cannot be landed is refused before its empty time is.
        It is one answer's word: the first page of the next sweep must agree with it, or that raises ClockJumped.
        Raises UnusableAnswer if the answer is no events list or has no Date header.
        """
        return self._clock.now(first=first)

    def confirm_clock(self) -> None:
        """Let the latest answer confirm what now() was told, where no page has; asks nothing. Raises ClockJumped."""
        self._clock.confirm_by_any()

    def earliest(self) -> datetime | None:
        """Time of the first event, by query, else by ascending sweeps of one row from 1970 on; None for an empty project."""
        found = self.probe.first_time()
        if found is not None:
            return found[0]
        old = self._before_1970().rows
        if old.num_rows:
            return rows_of.first(old)
        pace = Pace(EPOCH, self.now() + timedelta(days=1), MAX_SPAN, limit=1, most=1)
        while pace.cursor < pace.end:
            asked, page, pace = self._sweep.next_page(pace)
            if page is None or (page.received and not page.rows.num_rows):  # a row that cannot be served, or typed
                return asked.start
            if page.rows.num_rows:
                return rows_of.first(page.rows)
            pace = replace(pace.short(asked), span=MAX_SPAN)
        return None

    def reachable(self, rng: Range) -> Range | None:
        """The part of *rng* in which this server can be asked for every event; all of it but for times far away.

        Before 1970 and behind LAST_BOUND no bound can be sent (docs/decisions/0008): what is there comes where the server
        shows events without a lower bound, and where it counts none there, nothing is left out.
        """
        start, end = rng.start, rng.end
        if start < EPOCH:
            start = max(start, self._before_1970().since)
        if end > LAST_BOUND and not self._is_empty(Range(max(start, LAST_BOUND), end)):
            end = LAST_BOUND
        return Range(start, end) if start < end else None

    def sample(self, rng: Range) -> Sample:
        """The first page of *rng*, weighed: what planning knows of the events without counting them."""
        start = max(rng.start, EPOCH)
        asked = Range(start, min(max(rng.end, start + MICROSECOND), start + MAX_SPAN))
        before, body = self._client.received_bytes, b""
        while not body:
            # A 500 may be one row's: what lies before it does for a sample, so nobody waits while less can be asked.
            least = asked.duration <= SAMPLE_SPAN
            try:
                body = self._pages.first_body(asked, SAMPLE_ROWS, policy=WHOLE if least else SAMPLE)
            except errors.ServerFault:
                if least:
                    raise
                asked = Range(start, start + asked.duration / 16)
        page = decode.page(body)
        return Sample(
            page.received,
            wire_bytes=self._client.received_bytes - before,
            packed_bytes=len(zlib.compress(body, 6)),
            whole=not page.more and asked == rng,
        )

    def sweep(
        self,
        rng: Range,
        *,
        window_end: Callable[[datetime], datetime],
        hours: Mapping[datetime, HourCount] | None = None,
    ) -> Iterator[Passage]:
        """All events of *rng*, ascending, in passages; the last one has passed = rng.end.

        *window_end(t)*: end of the window that holds t, which bounds the range asked after a full page. *hours*: counts
        by query, where they are known; rows that agree with them need no time-zone check.
        Raises SourceUnavailable naming the range that cannot be read, TimeZoneFault, UnusableAnswer; ClockJumped before
        anything is yielded.
        """
        if self.reachable(rng) != rng:
            raise errors.SourceUnavailable(f"events so far away cannot be asked for on this server: {rng}")
        self._pages.try_filter()
        zone = ZoneCheck(hours or {}, self.uuids, self._proven)
        cursor, end = rng.start, min(rng.end, LAST_BOUND)
        if cursor < EPOCH:
            yield self.before_1970(rng)
            cursor = min(rng.end, EPOCH)
        pace = Pace(cursor, end, window_end(cursor) - cursor)
        yield from self._sweep.passages(pace, zone, self._events, window_end=window_end)
        if max(cursor, end) < rng.end:  # nothing is there
            yield Passage(decode.RAW_ROWS.empty_table(), decode.REJECTS.empty_table(), rng.end)

    def uuids(self, asked: Range) -> set[str] | None:
        """Uuids of the first page of *asked*, such as one microsecond; None where the server does not serve it."""
        page = self._unserved.page_or_none(asked, LIMIT)
        return None if page is None else set(page.rows["uuid"].to_pylist())

    def before_1970(self, rng: Range) -> Passage:
        """The part of *rng*, which is reachable, before 1970."""
        part, found = Range(rng.start, min(rng.end, EPOCH)), self._before_1970()
        rows, rejects = rows_of.within(found.rows, "timestamp", part), rows_of.within(found.rejects, "at", part)
        return Passage(rows, rejects, part.end)

    def _before_1970(self) -> Ancient:
        """What this server shows of the time before 1970, asked once: without a lower bound, and cut here."""
        if self._ancient is None:
            self._ancient = ancient.shown(
                self._ask_any_time,
                count=self.probe.identities,
                sliceable=lambda: self.learned.hogql_filter and self._pages.takes_hogql(),
                passing=self._events.passing,
            )
        return self._ancient

    def _ask_any_time(self, asked: Range, narrowing: Narrowing | None = None) -> decode.Page | None:
        """One page of *asked*, shorter where some row of a long one is not served; None where its first is not."""
        limit = LIMIT
        while limit:
            answer = self._pages.ask(asked, limit, narrowing)
            if not isinstance(answer, NotServed):
                return answer
            limit //= 10
        return None

    def _is_empty(self, rng: Range) -> bool:
        """Whether the source counts no event in *rng*, which cannot be asked for; False without an answer."""
        if rng not in self._empty and self.probe.identities(rng) == 0:
            self._empty.add(rng)
        return rng in self._empty
