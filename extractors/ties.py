"""More events in one microsecond than a page holds: read them all, or say that they may not be all.

Never by offset: ties have no order (facts/posthog-observed.md: 166 distinct of 250). Slices of the uuid's text need no
order; their borders come from the uuids seen, so that time-ordered uuids, which share their first digits, split too.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pyarrow as pa

from extractors.decode import Page
from extractors.queries import Narrowing, uuid_between

MAX_DEPTH = 24


def by_uuid(ask: Callable[[Narrowing], Page], full: Page) -> tuple[list[Page], bool]:
    """Pages that together hold the microsecond, and whether they are surely all.

    *full* is one page of it. *ask* reads one page under a further condition. Not all: a slice of one single uuid that
    overflows a page cannot be cut further.
    """
    done: list[Page] = []
    todo = _slices(None, None, full, depth=0)
    whole = bool(todo)
    while todo:
        low, high, depth = todo.pop()
        page = ask(Narrowing(hogql=uuid_between(low, high)))
        done.append(page)
        if page.more:
            finer = _slices(low, high, page, depth=depth + 1)
            whole = whole and bool(finer)
            todo.extend(finer)
    return done, whole


def _slices(low: str | None, high: str | None, page: Page, *, depth: int) -> list[tuple[str | None, str | None, int]]:
    """Cut [low, high) at quartiles of the uuids seen; empty if they are all one."""
    uuids = sorted(set(page.rows["uuid"].to_pylist()))
    if len(uuids) < 2 or depth > MAX_DEPTH:
        return []
    cuts = sorted({uuids[len(uuids) * part // 4] for part in (1, 2, 3)} - {uuids[0]})
    borders: list[str | None] = [low, *(cuts or [uuids[-1]]), high]
    return [(a, b, depth) for a, b in pairwise(borders)]


def by_names(ask: Callable[[Narrowing], Page], full: Page) -> list[Page]:
    """The same without HogQL: by the events and distinct ids seen so far, until nothing new comes. Cannot prove itself."""
    done: list[Page] = []
    asked: set[Narrowing] = set()
    news = [full]
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
            page = ask(narrowing)
            done.append(page)
            news.append(page)
    return done


def _distinct(rows: pa.Table, column: str) -> list[str]:
    return sorted(set(rows[column].to_pylist()))
