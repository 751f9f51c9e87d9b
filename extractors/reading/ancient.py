"""Events before 1970: no bound can be sent for them (docs/decisions/0008), so they are asked for without one, and cut here.

Knows pages and counts and how to ask for them, and nothing of requests or windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from extractors.filters import Narrowing
from extractors.http.decode import RAW_ROWS, REJECTS, Page
from extractors.reading import rows as rows_of
from extractors.reading import ties
from extractors.request import ALL_TIME
from extractors.window import EPOCH, Range

BEFORE = Range(ALL_TIME.start, EPOCH)
Ask = Callable[[Range, Narrowing | None], Page | None]


@dataclass(frozen=True, slots=True)
class Ancient:
    """The events before 1970, ascending; none is missing from *since* on."""

    since: datetime
    rows: pa.Table
    rejects: pa.Table


UNKNOWN = Ancient(EPOCH, RAW_ROWS.empty_table(), REJECTS.empty_table())


def shown(
    ask: Ask,
    *,
    count: Callable[[Range], int | None],
    sliceable: Callable[[], bool],
    passing: Callable[[pa.Table], pa.Table],
) -> Ancient:
    """What the server shows of the time before 1970, or UNKNOWN where something may be missing.

    *ask* gives a page, None where it is not served. *count*: events of the stream in a range, None without an answer.
    *sliceable*: whether pages can be narrowed by HogQL. *passing*: the rows that belong to the stream.
    """
    page = ask(ALL_TIME, None)
    if page is not None and page.received:
        first = _cut(page)
        return _sliced(ask, first, sliceable, passing) if first.more else _of([first], passing, whole=True)
    # A server that puts a lower bound itself, a day before the upper one, shows nothing there.
    counted = count(BEFORE)
    page = ask(BEFORE, None) if counted else None
    pages = [_cut(page)] if page is not None else []
    return _of(pages, passing, whole=len(rows_of.identities(passing(_rows(pages)))) == counted)


def _sliced(ask: Ask, page: Page, sliceable: Callable[[], bool], passing: Callable[[pa.Table], pa.Table]) -> Ancient:
    """More than a page of them: without a bound there is no going on from the last row."""
    if not sliceable():
        return UNKNOWN

    def narrowed(narrowing: Narrowing) -> Page | None:
        found = ask(ALL_TIME, narrowing)
        return None if found is None else _cut(found)

    found = ties.by_uuid(narrowed, page, patiently=narrowed, count=None)
    return _of([page, *found.pages], passing, whole=found.whole and not found.lost)


def _cut(page: Page) -> Page:
    """What of *page* is before 1970; no more of that follows where later rows do."""
    epoch = pa.scalar(EPOCH, pa.timestamp("us", "UTC"))
    rows = page.rows.filter(pc.less(page.rows["timestamp"], epoch))
    rejects = page.rejects.filter(pc.fill_null(pc.less(page.rejects["at"], epoch), False))
    return replace(page, rows=rows, rejects=rejects, more=page.more and rows.num_rows == page.rows.num_rows)


def _rows(pages: Sequence[Page]) -> pa.Table:
    return rows_of.distinct(pa.concat_tables([RAW_ROWS.empty_table(), *(page.rows for page in pages)]))


def _of(pages: Sequence[Page], passing: Callable[[pa.Table], pa.Table], *, whole: bool) -> Ancient:
    if not whole:
        return UNKNOWN
    rejects = pa.concat_tables([REJECTS.empty_table(), *(page.rejects for page in pages)])
    return Ancient(ALL_TIME.start, passing(_rows(pages).sort_by("timestamp")), rejects)
