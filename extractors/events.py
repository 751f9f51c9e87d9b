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

from extractors import decode, errors, queries, ties
from extractors.client import Client, Heard, one_clock
from extractors.probe import Probe
from extractors.queries import EventFilter, Filters, Narrowing, Request
from extractors.window import MICROSECOND, Range, iso
from extractors.zone import HourCount, Spans, ZoneCheck, check_cursor

LIMIT = 10_000  # servers of 2023 give that many at a time; today's clamp to 1,000, silently, so asking for more is free
MAX_SPAN = timedelta(days=365)  # over 366 days the server answers a bare 500 (facts/posthog-api.md §1.9)
MIN_SPAN = timedelta(seconds=1)
MAX_HALVINGS = 8
SAMPLE_ROWS = 1_000
MAX_CUTS = 8


@dataclass(frozen=True, slots=True)
class Passage:
    """Rows in ascending order of time, and *passed*: all events before it are in this passage or an earlier one.

    *rejects* may bring a row again that an earlier passage brought: pages overlap, and such a row has no identity.
    *unproven*: microseconds that hold more events than could be told apart; they may miss some. *served_at*: the Date of
    the page's answer, for a microsecond that was split that of its first page.
    """

    rows: pa.Table
    rejects: pa.Table
    passed: datetime
    unproven: tuple[datetime, ...] = ()
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
                self._decoded(queries.newest_event(self._project_id))
                return self._told()
        asked = Range(queries.EPOCH, queries.EPOCH + MIN_SPAN)
        request = queries.events_page(self._project_id, asked, limit=1, events=EventFilter())
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
        start, end = queries.EPOCH, self.now() + timedelta(days=1)
        while start < end:
            part = Range(start, min(end, start + MAX_SPAN))
            page = self._page(part, 1, divisible=False)
            if page.rows.num_rows:
                return _first(page.rows)
            if page.received:  # a row that cannot be typed
                return part.start
            start = part.end
        return None

    def sample(self, rng: Range) -> Sample:
        """The first page of *rng*, weighed: what planning knows of the events without counting them."""
        asked = Range(rng.start, min(rng.end, rng.start + MAX_SPAN))
        request = queries.events_page(
            self._project_id, asked, limit=SAMPLE_ROWS, events=self._events, hogql=self.learned.hogql_filter
        )
        before = self._client.received_bytes
        body = self._client.send(replace(request, divisible=False)).body
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
        self._try_filter(rng)
        zone = ZoneCheck(hours or {}, self.uuids, self._proven)
        cursor, span = rng.start, window_end(rng.start) - rng.start
        ceiling, halvings, cuts = MAX_SPAN, 0, 0
        limit = LIMIT
        seen: frozenset[tuple[object, ...]] = frozenset()
        while cursor < rng.end:
            asked = Range(cursor, min(rng.end, cursor + min(span, ceiling)))
            try:
                page = self._page_of(asked, limit)
            except errors.RangeTooHeavy as exc:
                halvings += 1
                if asked.duration <= MIN_SPAN or halvings > MAX_HALVINGS:
                    raise errors.SourceUnavailable(f"{exc} for the range {asked}", hint="run again later") from exc
                ceiling = max(MIN_SPAN, asked.duration / 2)
                continue
            except errors.BodyCut as exc:
                cuts += 1
                if cuts > MAX_CUTS:
                    raise errors.SourceUnavailable(f"{exc}, again and again, for the range {asked}") from exc
                limit = max(1, min(limit, self.learned.page_cap or limit) // 2)
                continue
            heard = self._client.heard
            self._confirm_clock(heard)
            halvings = cuts = 0
            ceiling = min(MAX_SPAN, ceiling * 2)
            if page.more and not page.received:
                raise errors.UnusableAnswer(f"an empty page claims that more follow, for the range {asked}")
            if page.more and page.received < limit:
                self.learned.clamped(page.received)
            limit = min(LIMIT, limit * 2)
            zone.check(page, asked)
            fresh = _unseen(page.rows, cursor, seen)
            if not page.more:
                yield Passage(self._events.passing(fresh), page.rejects, asked.end, served_at=heard.served_at)
                cursor, seen, span = asked.end, frozenset(), min(MAX_SPAN, asked.duration * 2)
                continue
            first, last = _bounds(page, asked)
            if first == last:
                # What this page could not type may lie before that microsecond, which is all that is asked again.
                whole = self._microsecond(last, limit)
                yield replace(whole, rejects=pa.concat_tables([page.rejects, whole.rejects]))
                cursor, seen = last + MICROSECOND, frozenset()
            else:
                seen = (seen if last == cursor else frozenset()) | _keys_at(page.rows, last)
                yield Passage(self._events.passing(fresh), page.rejects, last, served_at=heard.served_at)
                cursor = last
            # A window at least, so that the server can prune; more where a window holds less than a page, so that
            # the partial page at a window's end is not wasted.
            span = max(window_end(cursor) - cursor, 2 * (last - asked.start))

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
            self._page(Range(rng.start, rng.start + MICROSECOND), 1, divisible=False)
        except (errors.ServerFault, errors.RangeTooHeavy, errors.RequestRefused):
            self.learned.hogql_filter = False

    def _page_of(self, asked: Range, limit: int) -> decode.Page:
        """A page of a sweep. What cannot be halved any more is asked patiently: one bad answer is no end."""
        try:
            return self._page(asked, limit)
        except errors.RangeTooHeavy:
            if asked.duration > MIN_SPAN:
                raise
        return self._page(asked, limit, divisible=False)

    def _page(
        self, asked: Range, limit: int, narrowing: Narrowing | None = None, *, divisible: bool = True
    ) -> decode.Page:
        """One page; its rows lie in *asked* and ascend. They may hold what the filter excludes.

        Not *divisible*: less cannot be asked, so every transient failure is retried as it is.
        """
        request = queries.events_page(
            self._project_id,
            asked,
            limit=limit,
            events=self._events,
            hogql=self.learned.hogql_filter,
            narrowing=narrowing,
            filters=self._filters,
        )
        request = replace(request, divisible=divisible)
        try:
            page = self._decoded(request)
        except errors.ServerFault as exc:
            if not divisible:
                raise
            raise errors.RangeTooHeavy(str(exc)) from exc
        if page.rows.num_rows:
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
            if not _ascends(times):
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

    def _microsecond(self, at: datetime, limit: int) -> Passage:
        """All events of one microsecond (design.md, reading rule 3)."""
        asked = Range(at, at + MICROSECOND)
        page = self._surely(asked, limit)
        served_at = self._client.heard.served_at
        if not page.more:
            return Passage(self._events.passing(page.rows), page.rejects, asked.end, served_at=served_at)
        pages, proven = self._split(asked, limit, page)
        rows = self._events.passing(_distinct(pa.concat_tables([page.rows, *(part.rows for part in pages)])))
        rejects = pa.concat_tables([part.rejects for part in [page, *pages]])
        if not proven:
            proven = self.probe.identities(asked) == len(_identities(rows))
        return Passage(rows, rejects, asked.end, () if proven else (at,), served_at=served_at)

    def _surely(self, asked: Range, limit: int, narrowing: Narrowing | None = None) -> decode.Page:
        """A page of a range that cannot be divided, or SourceUnavailable naming it."""
        try:
            return self._page(asked, limit, narrowing, divisible=False)
        except (errors.RangeTooHeavy, errors.ServerFault, errors.BodyCut) as exc:
            raise errors.SourceUnavailable(f"{exc} for the range {asked}", hint="run again later") from exc

    def _split(self, asked: Range, limit: int, page: decode.Page) -> tuple[list[decode.Page], bool]:
        def ask(narrowing: Narrowing) -> decode.Page:
            return self._page(asked, limit, narrowing, divisible=False)

        if self.learned.hogql_filter:
            try:
                return ties.by_uuid(ask, page)
            except errors.BodyCut as exc:
                raise errors.SourceUnavailable(f"{exc} for the range {asked}", hint="run again later") from exc
            except (errors.ServerFault, errors.RangeTooHeavy, errors.RequestRefused):
                self.learned.hogql_filter = False
        return ties.by_names(lambda narrowing: self._surely(asked, limit, narrowing), page), False

    @property
    def served_at(self) -> datetime | None:
        """The server's clock in the latest answer that told it."""
        return self._client.served_at

    @property
    def events(self) -> EventFilter:
        """Which events belong to the stream."""
        return self._events

    def uuids(self, asked: Range) -> set[str]:
        """Uuids of the first page of *asked*, a range that cannot be divided, such as one microsecond."""
        rows = self._surely(asked, LIMIT).rows
        return set(rows["uuid"].to_pylist())


def _date(heard: Heard) -> datetime:
    """The Date of an answer that must have one."""
    if heard.served_at is None:
        raise errors.UnusableAnswer("the server sends no Date header, so its clock is not known")
    return heard.served_at


_KEY = ("uuid", "event", "distinct_id", "properties", "elements_chain")


def _first(rows: pa.Table) -> datetime:
    at: datetime = rows["timestamp"][0].as_py()
    return at


def _bounds(page: decode.Page, asked: Range) -> tuple[datetime, datetime]:
    """First and last time of a full page."""
    if not page.rows.num_rows:
        raise errors.UnusableAnswer(f"a full page has no row that can be read, for the range {asked}")
    return _first(page.rows), page.rows["timestamp"][-1].as_py()


def _ascends(times: pa.ChunkedArray) -> bool:
    if len(times) < 2:
        return True
    micros = times.combine_chunks().cast(pa.int64())
    return bool(pc.all(pc.less_equal(micros[:-1], micros[1:])).as_py())


def _keys_at(rows: pa.Table, at: datetime) -> frozenset[tuple[object, ...]]:
    """What tells rows of one timestamp apart, content included: an unmerged copy that differs is another row."""
    here = rows.filter(pc.equal(rows["timestamp"], pa.scalar(at, pa.timestamp("us", "UTC"))))
    return frozenset(zip(*(here[name].to_pylist() for name in _KEY), strict=True))


def _identities(rows: pa.Table) -> set[tuple[object, ...]]:
    """What /query counts as one: copies that differ in content are the same event."""
    return set(zip(*(rows[name].to_pylist() for name in (*_KEY[:3], "timestamp")), strict=True))


def _unseen(rows: pa.Table, cursor: datetime, seen: frozenset[tuple[object, ...]]) -> pa.Table:
    """Drop the rows at the cursor that an earlier page has brought."""
    if not seen or not rows.num_rows:
        return rows
    again = pc.sum(pc.equal(rows["timestamp"], pa.scalar(cursor, pa.timestamp("us", "UTC")))).as_py()
    head, tail = rows.slice(0, again), rows.slice(again)
    keep = [key not in seen for key in zip(*(head[name].to_pylist() for name in _KEY), strict=True)]
    return pa.concat_tables([head.filter(pa.array(keep, pa.bool_())), tail])


def _distinct(rows: pa.Table) -> pa.Table:
    """Each row once, by content."""
    keys: dict[tuple[object, ...], int] = {}
    for index, key in enumerate(zip(*(rows[name].to_pylist() for name in _KEY), strict=True)):
        keys.setdefault(key, index)
    return rows.take(pa.array(sorted(keys.values()), pa.int64()))
