"""More events in one microsecond than a page holds, or one among them that is not served: read all that can be had.

Never by offset: ties have no order (facts/posthog-observed.md: 166 distinct of 250). Slices of the uuid's text need no
order; their borders come from the uuids seen, so that time-ordered uuids, which share their first digits, split too.
Round an event that the server cannot serve nothing is seen: there a slice is cut in its middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from uuid import UUID

import pyarrow as pa

from extractors.filters import Narrowing, uuid_between
from extractors.http.decode import Page

MAX_DEPTH = 24
CUTS = (
    16  # round an event that is not served, where nobody counts its neighbours: one in 65,536 of them is lost with it
)
ALL_CUTS = 128  # where somebody does: down to one uuid

Ask = Callable[[Narrowing], Page | None]


@dataclass(slots=True)
class Found:
    """*pages* that together hold the events. *whole*: surely all that were served; *lost*: something was not served."""

    pages: list[Page] = field(default_factory=list)
    whole: bool = True
    lost: bool = False

    @property
    def uuids(self) -> int:
        return len({uuid for page in self.pages for uuid in page.rows["uuid"].to_pylist()})


def by_uuid(ask: Ask, full: Page | None, *, patiently: Ask, count: int | None) -> Found:
    """All events that slices of the uuid's text bring. Not whole: a slice of one single uuid overflows a page.

    *full* is one page of them, None where asking for all of them fails. *ask* reads one page under a further condition,
    None where that is not served; *patiently* does so patiently, before a slice is given up. *count*: how many events there
    are, if known: where one less is read no slice is cut any finer.
    """
    found = Found()
    todo = [_Slice()] if full is None else _slices(_Slice(), full)
    found.whole = bool(todo)
    while todo:
        one = todo.pop()
        page = None if one.fails else ask(one.narrowing)
        if page is None:
            enough = count is not None and found.uuids >= count - 1
            halves = [] if enough or one.cuts == (CUTS if count is None else ALL_CUTS) else one.halves()
            if halves:
                todo += halves
                continue
            page = patiently(one.narrowing)
        elif one.first_half:
            todo[-1] = replace(todo[-1], fails=True)  # the other half, as both together failed
        if page is None:
            found.lost = True
            continue
        found.pages.append(page)
        if page.more:
            finer = _slices(one, page)
            found.whole = found.whole and bool(finer)
            todo += finer
    return found


@dataclass(frozen=True, slots=True)
class _Slice:
    """Uuids in [low, high). *depth*, *cuts*: how often it was cut, for more than a page and round what is not served.

    *first_half*: the other half is the next one to be asked. *fails*: it would not be served.
    """

    low: str | None = None
    high: str | None = None
    depth: int = 0
    cuts: int = 0
    first_half: bool = False
    fails: bool = False

    @property
    def narrowing(self) -> Narrowing:
        return Narrowing(hogql=uuid_between(self.low, self.high))

    def halves(self) -> list[_Slice]:
        """The second and the first half; empty for a single uuid."""
        first, last = (UUID(self.low).int if self.low else 0), (UUID(self.high).int if self.high else 2**128)
        middle = str(UUID(int=(first + last) // 2))
        if last - first < 2:
            return []
        cuts = self.cuts + 1
        return [
            _Slice(middle, self.high, self.depth, cuts),
            _Slice(self.low, middle, self.depth, cuts, first_half=True),
        ]


def _slices(one: _Slice, page: Page) -> list[_Slice]:
    """Cut a slice at quartiles of the uuids seen; empty if they are all one."""
    uuids = sorted(set(page.rows["uuid"].to_pylist()))
    if len(uuids) < 2 or one.depth > MAX_DEPTH:
        return []
    cuts = sorted({uuids[len(uuids) * part // 4] for part in (1, 2, 3)} - {uuids[0]})
    borders: list[str | None] = [one.low, *(cuts or [uuids[-1]]), one.high]
    return [_Slice(low, high, one.depth + 1, one.cuts) for low, high in pairwise(borders)]


def by_names(ask: Ask, full: Page | None) -> Found:
    """The same without HogQL: by the events and distinct ids seen so far, until nothing new comes. Cannot prove itself."""
    found = Found(whole=False, lost=full is None)
    asked: set[Narrowing] = set()
    news = [full] if full is not None else []
    while news:
        todo: list[Narrowing] = []
        for page in news:
            todo += [Narrowing(event=name) for name in _distinct(page.rows, "event")]
            todo += [Narrowing(distinct_id=name) for name in _distinct(page.rows, "distinct_id")]
        news = []
        for narrowing in todo:
            if narrowing in asked:
                continue
            asked.add(narrowing)
            one = ask(narrowing)
            if one is None:
                found.lost = True
                continue
            found.pages.append(one)
            news.append(one)
    return found


def _distinct(rows: pa.Table, column: str) -> list[str]:
    return sorted(set(rows[column].to_pylist()))
