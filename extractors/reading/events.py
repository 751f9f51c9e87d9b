"""Reading the events list without losing an event: the reading rule of design.md as an ascending sweep.

Knows the rule and nothing of windows that are landed, of tables or of Prefect. One request at a time; what it has read
comes out as passages, each with the time before which nothing is missing any more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from extractors import errors
from extractors.filters import EventFilter, Filters, Narrowing, uuid_between
from extractors.http import decode
from extractors.http.client import Client, Heard, one_clock
from extractors.reading import ancient, ties
from extractors.reading import rows as rows_of
from extractors.reading.ancient import Ancient
from extractors.reading.pace import MAX_SPAN, Pace
from extractors.reading.probe import Probe
from extractors.reading.zone import HourCount, Spans, ZoneCheck, check_cursor
from extractors.request import LAST_BOUND, QUIET, Bucket, Request, events_page, newest_event
from extractors.window import EPOCH, MICROSECOND, Range, iso

LIMIT = 10_000  # servers of 2023 give that many at a time; today's clamp to 1,000, silently, so asking for more is free
ASK_WHETHER_IT_ANSWERS = 8  # failures in a row after which a question without rows tells a fault from an outage
UNREAD_IN_A_ROW = (
    4  # microseconds that are not served, with nothing served between them nor soon behind: no row's fault
)
SOON = timedelta(seconds=1)
MAX_UNREAD = 100  # in a run, and the window under way: that one lands, and the next run goes on behind it
SAMPLE_ROWS = 1_000
SAMPLE_SPAN = timedelta(seconds=1)  # the least that is asked for one
MAX_CUTS = 8
NOT_SERVED = (errors.RangeTooHeavy, errors.BodyCut)


@dataclass(frozen=True, slots=True)
class Passage:
    """Rows in ascending order of time, and *passed*: all events before it are in this passage or an earlier one.

    *rejects* may bring a row again that an earlier passage brought: pages overlap, and such a row has no identity.
    *unproven*: microseconds that hold more events than could be told apart; they may miss some. *unread*: microseconds
    with an event that the server cannot serve. *served_at*: the server's clock by the page's answer, for a microsecond that was
    split that of its first page.
    """

    rows: pa.Table
    rejects: pa.Table
    passed: datetime
    unproven: tuple[datetime, ...] = ()
    unread: tuple[datetime, ...] = ()
    served_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One page: its rows, its bytes as received and as gzip packs them, and whether it is all there is."""

    rows: int
    wire_bytes: int
    packed_bytes: int
    whole: bool


@dataclass(slots=True)
class Learned:
    """What the answers of a server taught: rows it gives at most, and whether HogQL works in filters."""

    page_cap: int | None = None
    hogql_filter: bool = True
    _short: int | None = None

    def clamped(self, received: int) -> None:
        """A page has fewer rows than were asked for, and more behind it. Two in a row that agree tell the cap.

        One alone does not: a server may give a short page now and then.
        """
        self.page_cap = received if received == self._short else None
        self._short = received


class EventsReader:
    """Reads ranges of one project's events; *filters* are those of a look-up. *tried*: an event of the server was asked for."""

    def __init__(self, client: Client, project_id: int, *, events: EventFilter, filters: Filters | None = None) -> None:
        self._client = client
        self._project_id = project_id
        self._events = events
        self._filters = filters or Filters()
        # A group cannot be joined with a condition of ours: some servers flatten groups into one AND.
        self.learned = Learned(hogql_filter=isinstance(self._filters.conditions(), list))
        self.probe = Probe(client, project_id, events=events)
        self._proven = Spans()
        self._unconfirmed: Heard | None = None
        self.tried = False
        self._filter_tried = False
        self._waited = False  # a 500 has outlived a full wait: the next ones are not waited for
        self._unread = self._unread_in_a_row = 0
        self._ancient: Ancient | None = None
        self._empty: set[Range] = set()
        self._sliced = False

    def interrupted(self) -> AbstractContextManager[None]:
        """Within the block whoever reads, in another thread, waits no longer and asks nothing more: Stopped is raised."""
        return self._client.interrupted()

    def now(self, *, first: bool = False) -> datetime:
        """The server's clock, by one cheap list request, which also tries the key and the project.

        *first*: nothing is landed from this server yet. Then an event is asked for, once, so that a server whose events
        cannot be landed is refused before its empty time is.
        It is one answer's word: the first page of the next sweep must agree with it, or that raises ClockJumped.
        Raises UnusableAnswer if the answer is no events list or has no Date header.
        """
        if first and not self.tried:
            self.tried = True
            # An answer that fails says nothing of the others: reading meets it again, where it matters.
            with suppress(errors.ServerFault, errors.RangeTooHeavy, errors.BodyCut, errors.RequestRefused):
                self._decoded(newest_event(self._project_id))
                return self._told()
        request = events_page(self._project_id, QUIET, limit=1, events=EventFilter())
        request = replace(request, divisible=False)
        try:
            self._decoded(request)
        except errors.BodyCut as exc:
            raise errors.UnusableAnswer(
                f"{self._client.host} does not answer as PostHog does: 200 with what is no events list",
                hint="check POSTHOG_HOST: is it the address of the PostHog app?",
            ) from exc
        return self._told()

    def _told(self) -> datetime:
        told = _date(self._client.heard)
        self._unconfirmed = self._client.heard
        return told

    def earliest(self) -> datetime | None:
        """Time of the first event, by query, else by ascending sweeps of one row from 1970 on; None for an empty project."""
        found = self.probe.first_time()
        if found is not None:
            return found[0]
        old = self._before_1970().rows
        if old.num_rows:
            return rows_of.first(old)
        cursor, end, pace = EPOCH, self.now() + timedelta(days=1), Pace(MAX_SPAN)
        while cursor < end:
            asked, page, _ = self._served(pace, cursor, end, 1)
            if page is None or (page.received and not page.rows.num_rows):  # a row that cannot be served, or typed
                return asked.start
            if page.rows.num_rows:
                return rows_of.first(page.rows)
            cursor = asked.end
            pace.served(asked, cursor, MAX_SPAN)
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
            request = events_page(
                self._project_id, asked, limit=SAMPLE_ROWS, events=self._events, hogql=self.learned.hogql_filter
            )
            try:
                # A 500 may be one row's: what lies before it does for a sample, so nobody waits while less can be asked.
                least = asked.duration <= SAMPLE_SPAN
                body = self._client.send(replace(request, divisible=False, patient=least)).body
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
        self._try_filter(rng)
        zone = ZoneCheck(hours or {}, self.uuids, self._proven)
        cursor, end = rng.start, min(rng.end, LAST_BOUND)
        if cursor < EPOCH:
            yield self.before_1970(rng)
            cursor = min(rng.end, EPOCH)
        pace, limit = Pace(window_end(cursor) - cursor), LIMIT
        seen: frozenset[tuple[object, ...]] = frozenset()
        stop: datetime | None = None
        while cursor < end:
            if self._unread > MAX_UNREAD:
                # A window that was begun is read to its end, or every run would begin it anew and land nothing of it.
                stop = stop or window_end(cursor - MICROSECOND)
                if cursor >= stop:
                    raise errors.SourceUnavailable(
                        f"more than {MAX_UNREAD} microseconds before {iso(cursor)} hold events that cannot be served",
                        hint="what was read is landed, and the next run goes on from there",
                    )
            asked, page, limit = self._served(pace, cursor, end, limit)
            heard = self._client.heard
            self._confirm_clock(heard)
            served_at = self._client.served_at
            if page is None:
                part = self._microsecond(asked.start, limit, served=False)
                yield replace(part, rows=rows_of.unseen(part.rows, cursor, seen))
                cursor, seen = asked.end, frozenset()
                continue
            if page.more and not page.received:
                raise errors.UnusableAnswer(f"an empty page claims that more follow, for the range {asked}")
            if page.more and page.received < limit:
                self.learned.clamped(page.received)
            limit = min(LIMIT, limit * 2)
            zone.check(page, asked)
            fresh = rows_of.unseen(page.rows, cursor, seen)
            if not page.more:
                yield Passage(self._events.passing(fresh), page.rejects, asked.end, served_at=served_at)
                cursor, seen = asked.end, frozenset()
                pace.served(asked, cursor, min(MAX_SPAN, asked.duration * 2))
                continue
            first, last = rows_of.bounds(page, asked)
            if first == last:
                # What this page could not type may lie before that microsecond, which is all that is asked again.
                whole = self._microsecond(last, limit)
                yield replace(whole, rejects=pa.concat_tables([page.rejects, whole.rejects]))
                cursor, seen = last + MICROSECOND, frozenset()
            else:
                seen = (seen if last == cursor else frozenset()) | rows_of.keys_at(page.rows, last)
                yield Passage(self._events.passing(fresh), page.rejects, last, served_at=served_at)
                cursor = last
            # A window at least, so that the server can prune; more where a window holds less than a page, so that
            # the partial page at a window's end is not wasted.
            window = window_end(cursor) - cursor if cursor < end else timedelta(0)
            pace.served(asked, cursor, max(window, 2 * (last - asked.start)))
        if cursor < rng.end:  # nothing is there
            yield Passage(decode.RAW_ROWS.empty_table(), decode.REJECTS.empty_table(), rng.end)

    def confirm_clock(self) -> None:
        """Let the latest answer confirm what now() was told, where no page has; asks nothing. Raises ClockJumped."""
        heard = self._client.heard
        if self._unconfirmed is not None and heard is not self._unconfirmed and heard.served_at is not None:
            self._confirm_clock(heard)

    def _confirm_clock(self, heard: Heard) -> None:
        """Let a page's answer confirm what now() was told; once, as a run is planned by the clock of its beginning."""
        told, self._unconfirmed = self._unconfirmed, None
        if told is None or one_clock(told, heard):
            return
        raise errors.ClockJumped(
            f"the server's clock jumped: it said {iso(_date(told))}, and {heard.received_s - told.received_s:.0f} s later "
            f"{iso(_date(heard))}",
            hint="run again; if it stays, a server or a proxy behind this address has a wrong clock",
        )

    def _try_filter(self, rng: Range) -> None:
        """Learn once whether this server takes the stream's filter as HogQL; if not, rows are dropped after reading."""
        if self._filter_tried or self._events.single is not None or not self._events.identity:
            return
        self._filter_tried = True
        try:
            self._page(QUIET, 1, divisible=False)
        except (errors.ServerFault, errors.RangeTooHeavy, errors.RequestRefused):
            self.learned.hogql_filter = False

    def _served(self, pace: Pace, cursor: datetime, end: datetime, limit: int) -> tuple[Range, decode.Page | None, int]:
        """The next range from *cursor* on that is served, its page, and the limit it was asked with.

        A cut body halves the limit first, then as every failure the range. No page: one microsecond that is not served,
        while the server answers other questions. Raises SourceUnavailable where it does not, or where nothing is served.
        """
        cuts = 0
        while True:
            asked, waited = pace.asked(cursor, end), self._waited
            try:
                page = self._page(asked, limit)
            except errors.BodyCut as exc:
                cuts += 1
                if cuts <= MAX_CUTS:
                    limit = max(1, min(limit, self.learned.page_cap or limit) // 2)
                    continue
                failure: errors.SourceError = exc
            except errors.RangeTooHeavy as exc:
                failure = exc
            else:
                self._unread_in_a_row = 0
                return asked, page, limit
            if asked.duration > MICROSECOND:
                pace.failed(asked)
                doubtful = self._waited != waited or pace.failures == ASK_WHETHER_IT_ANSWERS
                if doubtful and not self._answers(asked, failure):
                    pace.passed_over()  # nothing was answered for a while: no fault of that range
                continue
            again = self._again(asked, limit, failure)
            pace.passed_over()
            if again is None:
                self._count_unread(asked, end, failure)
            return asked, again, limit

    def _answers(self, asked: Range, failure: errors.SourceError) -> bool:
        """Whether the server answers a question that finds no row, at once. Raises SourceUnavailable if not within a minute."""
        try:
            self._page(QUIET, 1)
        except NOT_SERVED:
            try:
                self._page(QUIET, 1, divisible=False)
            except (errors.ServerFault, *NOT_SERVED) as exc:
                raise errors.SourceUnavailable(
                    f"{failure} for the range {asked}, and {exc} to a question that finds nothing",
                    hint="run again later",
                ) from exc
            return False
        return True

    def _again(
        self, asked: Range, limit: int, failure: errors.SourceError, narrowing: Narrowing | None = None
    ) -> decode.Page | None:
        """The page of what has just failed and cannot be divided: one bad answer is no end.

        None if it fails again while the server answers other questions; if it does not, it is waited for.
        """
        self._client.wait((*self._client.patience.server_error_waits_s, 0.0)[0], failure)
        try:
            return self._page(asked, limit, narrowing)
        except NOT_SERVED as exc:
            return None if self._answers(asked, exc) else self._page_or_unavailable(asked, limit, narrowing)

    def _twice(self, asked: Range, limit: int, narrowing: Narrowing | None = None) -> decode.Page | None:
        """The page of what cannot be divided, or None as _again says."""
        try:
            return self._page(asked, limit, narrowing)
        except NOT_SERVED as exc:
            return self._again(asked, limit, exc, narrowing)

    def _count_unread(self, asked: Range, end: datetime, failure: errors.SourceError) -> None:
        """Raises SourceUnavailable where there are too many to be single rows' fault."""
        self._unread += 1
        self._unread_in_a_row += 1
        if self._unread_in_a_row == UNREAD_IN_A_ROW:
            if not self._serves_soon(asked.end, end):
                raise errors.SourceUnavailable(
                    f"{failure}: nothing of the range from {iso(asked.start)} on is served", hint="run again later"
                )
            self._unread_in_a_row = 0

    def _serves_soon(self, cursor: datetime, end: datetime) -> bool:
        """Whether something behind *cursor* is served: one client's events may lie a microsecond apart, and all be bad."""
        span, last = MICROSECOND, min(end, cursor + SOON)
        while cursor < last:
            asked = Range(cursor, min(last, cursor + span))
            try:
                self._page(asked, 1)
            except NOT_SERVED:
                cursor, span = asked.end, span * 16
            else:
                return True
        return False

    def _page(
        self, asked: Range, limit: int, narrowing: Narrowing | None = None, *, divisible: bool = True
    ) -> decode.Page:
        """One page; its rows lie in *asked* and ascend. They may hold what the filter excludes.

        Not *divisible*: less cannot be asked, so every transient failure is retried as it is. Else a 500 is waited for
        only while none has outlived that: RangeTooHeavy says that less is to be asked.
        """
        request = events_page(
            self._project_id,
            asked,
            limit=limit,
            events=self._events,
            hogql=self.learned.hogql_filter,
            narrowing=narrowing,
            filters=self._filters,
        )
        request = replace(request, divisible=divisible, patient=not (divisible and self._waited))
        try:
            page = self._decoded(request)
        except errors.ServerFault as exc:
            if not divisible:
                raise
            self._waited = True
            raise errors.RangeTooHeavy(str(exc)) from exc
        if page.rows.num_rows and asked.start >= EPOCH:
            times = page.rows["timestamp"]
            low, high = pc.min(times).as_py(), pc.max(times).as_py()
            if low < asked.start or high >= asked.end:
                check_cursor(page)  # labels of another zone look the same, and have their own remedy
                stray = low if low < asked.start else high
                raise errors.UnusableAnswer(
                    f"a row outside the range asked: {iso(stray)}, expected {asked}",
                    hint="the server ignores a bound, or labels local times as UTC (then set the project's time zone to UTC); "
                    "nothing of this page was landed",
                )
            if not rows_of.ascends(times):
                raise errors.UnusableAnswer(f"rows do not ascend by time for the range {asked}")
        return page

    def _decoded(self, request: Request) -> decode.Page:
        """The page. Where less cannot be asked, what came whole and is none, such as a proxy's, is asked for again."""
        for wait_s in (*self._client.patience.foreign_answer_waits_s, None):
            body = self._client.send(request).body
            try:
                return decode.page(body)
            except errors.BodyCut as exc:
                if request.divisible or wait_s is None:
                    raise
                self._client.wait(wait_s, exc)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _microsecond(self, at: datetime, limit: int, *, served: bool = True) -> Passage:
        """All events of one microsecond; where it is not *served* whole, what can be had of it."""
        asked = Range(at, at + MICROSECOND)
        page = self._twice(asked, limit) if served else None
        served_at = self._client.served_at
        if page is not None and not page.more:
            return Passage(self._events.passing(page.rows), page.rejects, asked.end, served_at=served_at)
        count = self.probe.identities(asked) if page is None else None
        # Alone in its microsecond: there is nothing else to be had.
        found = ties.Found(lost=True) if count == 1 else self._split(asked, limit, page, count)
        pages = found.pages if page is None else [page, *found.pages]
        read = pa.concat_tables([decode.RAW_ROWS.empty_table(), *(part.rows for part in pages)])
        rows = self._events.passing(rows_of.distinct(read))
        rejects = pa.concat_tables([decode.REJECTS.empty_table(), *(part.rejects for part in pages)])
        proven = found.whole and not found.lost
        if not proven:
            count = self.probe.identities(asked) if count is None else count
            proven = count == len(rows_of.identities(rows))
        unread = (at,) if found.lost and not proven else ()
        return Passage(rows, rejects, asked.end, () if proven or unread else (at,), unread, served_at=served_at)

    def _page_or_unavailable(self, asked: Range, limit: int, narrowing: Narrowing | None = None) -> decode.Page:
        """A page of a range that cannot be divided, or SourceUnavailable naming it."""
        try:
            return self._page(asked, limit, narrowing, divisible=False)
        except (errors.RangeTooHeavy, errors.ServerFault, errors.BodyCut) as exc:
            raise errors.SourceUnavailable(f"{exc} for the range {asked}", hint="run again later") from exc

    def _split(self, asked: Range, limit: int, page: decode.Page | None, count: int | None) -> ties.Found:
        """Pages of *asked*, of which *page* is one, under further conditions; *count*: how many events it holds, if known."""

        def ask(narrowing: Narrowing) -> decode.Page | None:
            try:
                page = self._page(asked, limit, narrowing)
            except NOT_SERVED as exc:
                if not self._takes_hogql():
                    raise errors.RequestRefused(f"no HogQL in filters: {exc}") from exc
                return None
            self._sliced = True
            return page

        def patiently(narrowing: Narrowing) -> decode.Page | None:
            return self._twice(asked, limit, narrowing)

        if self.learned.hogql_filter:
            try:
                return ties.by_uuid(ask, page, patiently=patiently, count=count)
            except errors.RequestRefused:
                self.learned.hogql_filter = False
        return ties.by_names(patiently, page)

    def _takes_hogql(self) -> bool:
        """Whether this server takes HogQL in filters, by a question that finds no row; a refusal is remembered."""
        if not self._sliced:
            try:
                self._page(QUIET, 1, Narrowing(hogql=uuid_between("8", None)))
                self._sliced = True
            except (*NOT_SERVED, errors.RequestRefused):
                self.learned.hogql_filter = False
        return self._sliced

    def _before_1970(self) -> Ancient:
        """What this server shows of the time before 1970, asked once: without a lower bound, and cut here."""
        if self._ancient is None:
            self._ancient = ancient.shown(
                self._ask_any_time,
                count=self.probe.identities,
                sliceable=lambda: self.learned.hogql_filter and self._takes_hogql(),
                passing=self._events.passing,
            )
        return self._ancient

    def _ask_any_time(self, asked: Range, narrowing: Narrowing | None = None) -> decode.Page | None:
        """One page of *asked*, shorter where some row of a long one is not served; None where its first is not."""
        limit = LIMIT
        while limit:
            try:
                return self._page(asked, limit, narrowing)
            except NOT_SERVED:
                limit //= 10
        return None

    def before_1970(self, rng: Range) -> Passage:
        """The part of *rng*, which is reachable, before 1970."""
        part, found = Range(rng.start, min(rng.end, EPOCH)), self._before_1970()
        rows, rejects = rows_of.within(found.rows, "timestamp", part), rows_of.within(found.rejects, "at", part)
        return Passage(rows, rejects, part.end)

    def _is_empty(self, rng: Range) -> bool:
        """Whether the source counts no event in *rng*, which cannot be asked for; False without an answer."""
        if rng not in self._empty and self.probe.identities(rng) == 0:
            self._empty.add(rng)
        return rng in self._empty

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

    def uuids(self, asked: Range) -> set[str] | None:
        """Uuids of the first page of *asked*, such as one microsecond; None where the server does not serve it."""
        page = self._twice(asked, LIMIT)
        return None if page is None else set(page.rows["uuid"].to_pylist())


def _date(heard: Heard) -> datetime:
    """The Date of an answer that must have one."""
    if heard.served_at is None:
        raise errors.UnusableAnswer("the server sends no Date header, so its clock is not known")
    return heard.served_at
