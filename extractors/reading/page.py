"""One way to ask for a page of the events list, with two outcomes: the page, or that it is not served.

Knows requests and what a page must be like (docs/decisions/0002), and nothing of what is asked next.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from extractors import errors
from extractors.filters import EventFilter, Filters, Narrowing, uuid_between
from extractors.http import decode
from extractors.http.client import Client
from extractors.reading import rows as rows_of
from extractors.reading.zone import check_cursor
from extractors.request import HASTY_PAGE, PAGE, QUIET, WHOLE, Policy, events_page, newest_event
from extractors.window import EPOCH, Range, iso


@dataclass(frozen=True, slots=True)
class NotServed:
    """The server did not give the page. *waited*: a bare 500 outlived a full wait, for the first time in the run."""

    error: errors.SourceError
    waited: bool = False

    @property
    def cut(self) -> bool:
        """Whether the body was cut, so that fewer rows may be served."""
        return isinstance(self.error, errors.BodyCut)


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


class PageSource:
    """Asks for pages of one project's events that pass *events*; *filters* are those of a look-up."""

    def __init__(self, client: Client, project_id: int, *, events: EventFilter, filters: Filters) -> None:
        self._client = client
        self._project_id = project_id
        self._events = events
        self._filters = filters
        # A group cannot be joined with a condition of ours: some servers flatten groups into one AND.
        self.learned = Learned(hogql_filter=isinstance(filters.conditions(), list))
        self._filter_tried = False
        self._waited = False  # a 500 has outlived a full wait: the next ones are not waited for
        self._sliced = False  # HogQL in a filter was served

    def ask(
        self, asked: Range, limit: int, narrowing: Narrowing | None = None, *, policy: Policy = PAGE
    ) -> decode.Page | NotServed:
        """One page; its rows lie in *asked* and ascend. They may hold what the filter excludes.

        A 500 of a PAGE is waited for only while none has outlived that; a WHOLE one is asked for as if it were the first.
        Raises UnusableAnswer for rows that contradict the question.
        """
        if policy.divisible and self._waited:
            policy = HASTY_PAGE
        request = events_page(
            self._project_id,
            asked,
            limit=limit,
            events=self._events,
            hogql=self.learned.hogql_filter,
            narrowing=narrowing,
            filters=self._filters,
            policy=policy,
        )
        try:
            page = self._client.page(request)
        except errors.ServerFault as exc:
            waited = policy == PAGE
            self._waited = self._waited or waited
            return NotServed(exc, waited)
        except (errors.RangeTooHeavy, errors.BodyCut) as exc:
            return NotServed(exc)
        if asked.start >= EPOCH:
            _check(page, asked)
        if narrowing is not None and narrowing.hogql:
            self._sliced = True
        return page

    def first_body(self, asked: Range, limit: int, *, policy: Policy) -> bytes:
        """The first page of *asked* as it came, without a look-up's filters. Raises what the client raises."""
        hogql = self.learned.hogql_filter
        request = events_page(self._project_id, asked, limit=limit, events=self._events, hogql=hogql, policy=policy)
        return self._client.send(request).body

    def newest(self) -> None:
        """Ask for the newest event. Raises what the client raises, and BodyCut."""
        self._client.page(newest_event(self._project_id))

    def quiet(self) -> None:
        """Ask what finds no event, whatever the stream's filter. Raises what the client raises, and BodyCut."""
        self._client.page(events_page(self._project_id, QUIET, limit=1, events=EventFilter(), policy=WHOLE))

    def try_filter(self) -> None:
        """Learn once whether this server takes the stream's filter as HogQL; if not, rows are dropped after reading."""
        if self._filter_tried or self._events.single is not None or not self._events.identity:
            return
        self._filter_tried = True
        try:
            answer = self.ask(QUIET, 1, policy=WHOLE)
        except errors.RequestRefused:
            self.learned.hogql_filter = False
            return
        if isinstance(answer, NotServed):
            if answer.cut:
                raise answer.error
            self.learned.hogql_filter = False

    def takes_hogql(self) -> bool:
        """Whether this server takes HogQL in filters, by a question that finds no row; a refusal is remembered."""
        if not self._sliced:
            try:
                answer = self.ask(QUIET, 1, Narrowing(hogql=uuid_between("8", None)))
            except errors.RequestRefused:
                answer = None
            if not isinstance(answer, decode.Page):
                self.learned.hogql_filter = False
        return self._sliced


def _check(page: decode.Page, asked: Range) -> None:
    """Raises UnusableAnswer where a row lies outside of *asked*, or rows do not ascend."""
    if not page.rows.num_rows:
        return
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
