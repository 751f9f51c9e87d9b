"""The reading rule as an ascending sweep: ask what the pace says, tell the pace what came.

After a full page the sweep goes on from the last row's time, whose rows come again (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from extractors import errors
from extractors.filters import EventFilter
from extractors.http.client import Client
from extractors.http.decode import Page
from extractors.reading import rows as rows_of
from extractors.reading.clock import ServerClock
from extractors.reading.microsecond import Microseconds
from extractors.reading.pace import Pace
from extractors.reading.page import NotServed, PageSource
from extractors.reading.rows import Passage
from extractors.reading.unserved import Unserved
from extractors.reading.zone import ZoneCheck
from extractors.window import MICROSECOND, Range


class Sweep:
    """Sweeps over ranges of one project's events."""

    def __init__(
        self,
        client: Client,
        pages: PageSource,
        unserved: Unserved,
        microseconds: Microseconds,
        clock: ServerClock,
        page_bytes: int | None = None,
    ) -> None:
        self._client = client
        self._pages = pages
        self._unserved = unserved
        self._microseconds = microseconds
        self._clock = clock
        self._page_bytes = page_bytes
        self._fitting: int | None = None  # rows of the last page's size that a page may hold, for the next sweep too

    def passages(
        self, pace: Pace, zone: ZoneCheck, events: EventFilter, *, window_end: Callable[[datetime], datetime]
    ) -> Iterator[Passage]:
        """What *pace* still has to read, ascending; as EventsReader.sweep says."""
        seen: frozenset[tuple[object, ...]] = frozenset()
        stop: datetime | None = None
        if self._fitting is not None:
            pace = pace.at_most(self._fitting)
        while pace.cursor < pace.end:
            if self._unserved.too_many:
                # A window that was begun is read to its end, or every run would begin it anew and land nothing of it.
                stop = stop or window_end(pace.cursor - MICROSECOND)
                if pace.cursor >= stop:
                    raise self._unserved.too_many_before(pace.cursor)
            asked, page, pace = self.next_page(pace)
            self._clock.confirm()
            served_at = self._client.served_at
            if page is None:
                part = self._microseconds.read(asked.start, pace.limit, served=False)
                yield replace(part, rows=rows_of.unseen(part.rows, asked.start, seen))
                seen = frozenset()
                continue
            self._learn(page, asked, pace.limit)
            if self._page_bytes and page.rows.num_rows:
                self._fitting = self._page_bytes * page.rows.num_rows // page.rows.nbytes
                pace = pace.at_most(self._fitting)
            zone.check(page, asked)
            fresh = rows_of.unseen(page.rows, asked.start, seen)
            if not page.more:
                yield Passage(events.passing(fresh), page.rejects, asked.end, served_at=served_at)
                pace, seen = pace.short(asked), frozenset()
                continue
            first, last = rows_of.bounds(page, asked)
            if first == last:
                pace, seen = pace.one_microsecond(asked, last, window_end), frozenset()
                # What this page could not type may lie before that microsecond, which is all that is asked again.
                whole = self._microseconds.read(last, pace.limit)
                yield replace(whole, rejects=pa.concat_tables([page.rejects, whole.rejects]))
            else:
                seen = rows_of.keys_at(page.rows, last)
                yield Passage(events.passing(fresh), page.rejects, last, served_at=served_at)
                pace = pace.full(asked, last, window_end)

    def next_page(self, pace: Pace) -> tuple[Range, Page | None, Pace]:
        """The next range that is served, its page, and the pace it was asked at.

        No page: one microsecond that is not served, while the server answers other questions; the pace has passed it over.
        Raises SourceUnavailable where it does not, or where nothing is served.
        """
        while True:
            asked = pace.asked
            answer = self._pages.ask(asked, pace.limit)
            if not isinstance(answer, NotServed):
                self._unserved.was_served()
                return asked, answer, pace
            if answer.cut and pace.takes_fewer_rows:
                pace = pace.cut(self._pages.learned.page_cap)
            elif asked.duration > MICROSECOND:
                pace = pace.heavy(asked)
                if (answer.waited or pace.is_doubtful) and not self._unserved.answers(asked, answer.error):
                    pace = pace.recovered()  # nothing was answered for a while: no fault of that range
            else:
                page = self._unserved.again(asked, pace.limit, answer)
                if page is not None:
                    return asked, page, pace.recovered()
                self._unserved.give_up(asked, pace.end, answer.error)
                return asked, None, pace.passed_over(asked)

    def _learn(self, page: Page, asked: Range, limit: int) -> None:
        """What the number of rows says of the server. Raises UnusableAnswer for an empty page that has more behind it."""
        if page.more and not page.received:
            raise errors.UnusableAnswer(f"an empty page claims that more follow, for the range {asked}")
        if page.more and page.received < limit:
            self._pages.learned.clamped(page.received)
