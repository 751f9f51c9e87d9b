"""All events of one microsecond: more than a page holds, or some among them that are not served.

Joins what ties.py decides with who asks for it.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from extractors import errors
from extractors.filters import EventFilter, Narrowing
from extractors.http import decode
from extractors.http.client import Client
from extractors.reading import rows as rows_of
from extractors.reading import ties
from extractors.reading.page import NotServed, PageSource
from extractors.reading.probe import Probe
from extractors.reading.rows import Passage
from extractors.reading.unserved import Unserved
from extractors.window import MICROSECOND, Range


class Microseconds:
    """Reads single microseconds of one project's events."""

    def __init__(
        self, client: Client, pages: PageSource, unserved: Unserved, *, probe: Probe, events: EventFilter
    ) -> None:
        self._client = client
        self._pages = pages
        self._unserved = unserved
        self._probe = probe
        self._events = events

    def read(self, at: datetime, limit: int, *, served: bool = True) -> Passage:
        """All events of one microsecond; where it is not *served* whole, what can be had of it."""
        asked = Range(at, at + MICROSECOND)
        page = self._unserved.page_or_none(asked, limit) if served else None
        served_at = self._client.served_at
        if page is not None and not page.more:
            return Passage(self._events.passing(page.rows), page.rejects, asked.end, served_at=served_at)
        count = self._probe.identities(asked) if page is None else None
        # Alone in its microsecond: there is nothing else to be had.
        found = ties.Found(lost=True) if count == 1 else self._split(asked, limit, page, count)
        pages = found.pages if page is None else [page, *found.pages]
        read = pa.concat_tables([decode.RAW_ROWS.empty_table(), *(part.rows for part in pages)])
        rows = self._events.passing(rows_of.distinct(read))
        rejects = pa.concat_tables([decode.REJECTS.empty_table(), *(part.rejects for part in pages)])
        proven = found.whole and not found.lost
        if not proven:
            count = self._probe.identities(asked) if count is None else count
            proven = count == len(rows_of.identities(rows))
        unread = (at,) if found.lost and not proven else ()
        return Passage(rows, rejects, asked.end, () if proven or unread else (at,), unread, served_at=served_at)

    def _split(self, asked: Range, limit: int, page: decode.Page | None, count: int | None) -> ties.Found:
        """Pages of *asked*, of which *page* is one, under further conditions; *count*: how many events it holds, if known."""

        def at_once(narrowing: Narrowing) -> decode.Page | None:
            answer = self._pages.ask(asked, limit, narrowing)
            if not isinstance(answer, NotServed):
                return answer
            if not self._pages.takes_hogql():
                raise errors.RequestRefused(f"no HogQL in filters: {answer.error}") from answer.error
            return None

        def patiently(narrowing: Narrowing) -> decode.Page | None:
            return self._unserved.page_or_none(asked, limit, narrowing)

        if self._pages.learned.hogql_filter:
            try:
                return ties.by_uuid(at_once, page, patiently=patiently, count=count)
            except errors.RequestRefused:
                self._pages.learned.hogql_filter = False
        return ties.by_names(patiently, page)
