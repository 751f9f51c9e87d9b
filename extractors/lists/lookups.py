"""Look-ups that land nothing: lists with limit and offset, one event, a page as PostHog gives it, values of a property.

Requests are built here, answers decoded here; the HTTP is the client's. Addresses: facts/posthog-api.md §1.8, §2, §3.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pyarrow as pa

from extractors import errors
from extractors.filters import EventFilter, Filters
from extractors.http import decode
from extractors.http.client import Client
from extractors.lists import exact
from extractors.reading.events import EventsReader
from extractors.reading.rows import Passage
from extractors.request import LOOKUP, QUIET, SAMPLE, TRIAL_PAGE, WHOLE, Bucket, Request, events_page
from extractors.window import DAY, Range, window_at

PAGE_ROWS = 100
MAX_WALKS = 5
MAX_STEPS_BACK = 50
Row = Mapping[str, Any]
_IDENTITY = ("timestamp", "uuid", "event", "distinct_id")


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of a plain list: its rows, and how many there are in all as the server counts."""

    rows: tuple[Row, ...]
    count: int


class NeverWhole(errors.SourceUnavailable):
    """A list that shows fewer rows than it counts, however often it is walked."""


def listed(client: Client, project_id: int, resource: str, *, limit: int, offset: int) -> Listed:
    """One page of a plain list such as `exports/`, as the server gives it."""
    params = (("limit", str(limit)), ("offset", str(offset)))
    request = Request(project_id, resource, Bucket.REST, params, policy=LOOKUP)
    found = document(client.send(request).body)
    rows, count = found.get("results"), found.get("count")
    named = isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("id"), int | str) for row in rows
    )
    if not isinstance(rows, list) or not isinstance(count, int) or not named:
        raise errors.UnusableAnswer(f"the list of {resource.strip('/')} has no count, no results or one without an id")
    return Listed(tuple(rows), count)


def every(page: Callable[[int, int], Listed], *, page_rows: int = PAGE_ROWS) -> Iterator[Row]:
    """Each row of a plain list once, newest first, while rows are added and removed meanwhile.

    *page(limit, offset)* asks for one page. A page begins with the last row of the one before, or rows went away and
    the walk goes back to where they meet again; rows that moved down are not given twice. Rows of one moment may change
    places between two pages: while fewer rows came than the server counts, the list is walked again. Rows that are
    added after the first page may or may not come. Raises NeverWhole if rows stay fewer, SourceUnavailable if pages do not
    meet.
    """
    seen: set[object] = set()
    for _ in range(MAX_WALKS):
        count = None
        for found in _pages(page, page_rows, seen):
            # The least: what is added at the head meanwhile is counted and not shown any more.
            count = found.count if count is None else min(count, found.count)
            fresh = [row for row in found.rows if row["id"] not in seen]
            seen.update(row["id"] for row in fresh)
            yield from fresh
        if count is None or len(seen) >= count:
            return
    raise NeverWhole(
        f"the list has {count} rows, of which {len(seen)} came in {MAX_WALKS} readings", hint="run again later"
    )


def _pages(page: Callable[[int, int], Listed], page_rows: int, seen: set[object]) -> Iterator[Listed]:
    """Pages from the first to the last, each beginning with a row that is known already."""
    offset = steps_back = 0
    while True:
        found = page(page_rows, offset)
        if offset and (not found.rows or found.rows[0]["id"] not in seen):
            steps_back += 1
            if steps_back > MAX_STEPS_BACK:
                raise errors.SourceUnavailable("the list changes faster than it can be read", hint="run again later")
            offset = max(0, offset - page_rows // 2)
            continue
        yield found
        if offset + len(found.rows) >= found.count or len(found.rows) < 2:
            return
        offset += len(found.rows) - 1


def document(body: bytes) -> dict[str, Any]:
    """A JSON object of PostHog's, to the letter (extractors/lists/exact.py). Raises UnusableAnswer."""
    try:
        found = exact.loads(body)
    except ValueError as exc:
        raise errors.UnusableAnswer(f"the answer is not the JSON expected: {len(body)} bytes") from exc
    if not isinstance(found, dict):
        raise errors.UnusableAnswer("the answer is not the JSON object expected")
    return found


def passages(reader: EventsReader, rng: Range) -> Iterator[Passage]:
    """All events of *rng* that pass the reader's filters, by the reading rule, each once.

    A passage of the sweep may bring its last microsecond incomplete and the next one brings it whole; unmerged copies
    of one moment are one event here.
    """
    seen: set[tuple[object, ...]] = set()
    rejected: set[str] = set()
    for passage in reader.sweep(rng, window_end=lambda at: window_at(at, DAY).end):
        keys = list(zip(*(passage.rows[name].to_pylist() for name in _IDENTITY), strict=True))
        fresh = []
        for key in keys:
            fresh.append(key not in seen)
            seen.add(key)
        texts = passage.rejects["text"].to_pylist()
        new = [text not in rejected for text in texts]
        rejected.update(texts)
        yield replace(
            passage,
            rows=passage.rows.filter(pa.array(fresh, pa.bool_())),
            rejects=passage.rejects.filter(pa.array(new, pa.bool_())),
        )
        seen = {key for key in seen if key[0] >= passage.passed}  # type: ignore[operator]


def tried(client: Client, project_id: int, filters: Filters) -> None:
    """Ask with *filters* where no event is: a bare 500 that goes away without them is theirs (§1.9).

    Raises BadQuestion.
    """
    try:
        client.send(events_page(project_id, QUIET, limit=1, events=EventFilter(), filters=filters, policy=TRIAL_PAGE))
    except errors.ServerFault as exc:
        client.send(events_page(project_id, QUIET, limit=1, events=EventFilter(), policy=WHOLE))
        raise errors.BadQuestion(
            f"{exc} to these filters, and none without them",
            hint="PostHog does not say why: check the HogQL, keys and operators of --properties, and --person-id",
        ) from exc


def selected(client: Client, request: Request) -> bytes | None:
    """The answer to a page that has `select` where the server takes it; None where ordinary rows come, empty where none do."""
    body = client.send(request).body
    rows = document(body).get("results")
    if rows == []:
        return b""
    return None if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else body


def ignores_where(client: Client, project_id: int, rng: Range, filters: Filters) -> bool:
    """Whether rows come although none can pass; False also where the range is empty."""
    never = replace(filters, where=("1 = 2",), select=())
    request = events_page(project_id, rng, limit=1, events=EventFilter(), filters=never, policy=SAMPLE)
    try:
        return decode.page(client.send(request).body).received > 0
    except errors.ServerFault:
        return False


def page_request(
    project_id: int, rng: Range, filters: Filters, *, limit: int | None, offset: int | None, csv: bool
) -> Request:
    """One page as PostHog gives it, ascending; with `offset` and as CSV if wanted. No *limit*: the server's own."""
    request = events_page(project_id, rng, limit=limit or 0, events=EventFilter(), filters=filters, policy=LOOKUP)
    params = [(name, value) for name, value in request.params if name != "limit" or limit is not None]
    if offset is not None:
        params.append(("offset", str(offset)))
    return _formatted(replace(request, params=tuple(params)), csv=csv)


def _formatted(request: Request, *, csv: bool) -> Request:
    """*request* for CSV; the Accept header must allow it or the server refuses (406)."""
    if not csv:
        return request
    return replace(request, params=(*request.params, ("format", "csv")), accept="text/csv")


def event_request(project_id: int, uuid: UUID, *, csv: bool) -> Request:
    """One event by its uuid, without a bound of time: slow on big projects (§2.1)."""
    request = Request(project_id, f"events/{uuid}/", Bucket.LIST, entry=f"event {uuid}", policy=LOOKUP)
    return _formatted(request, csv=csv)


def values_request(
    project_id: int,
    key: str,
    *,
    events: Sequence[str],
    value: str | None,
    column: bool,
    properties: Mapping[str, object],
    csv: bool,
) -> Request:
    """Suggested values of a property, or with *column* of a column of the events (§2.2); its bucket is its own."""
    params = [("key", key), *(("event_name", name) for name in events)]
    if value is not None:
        params.append(("value", value))
    if column:
        params.append(("is_column", "true"))
    params += [
        (f"properties_{name}", one if isinstance(one, str) else exact.dumps(one)) for name, one in properties.items()
    ]
    return _formatted(Request(project_id, "events/values/", Bucket.VALUES, tuple(params), policy=LOOKUP), csv=csv)


@dataclass(frozen=True, slots=True)
class Values:
    """At most ten values; *refreshing*: the server gave older ones while it looks again."""

    values: tuple[object, ...]
    refreshing: bool


def values_of(body: bytes) -> Values:
    """Both shapes: an object with `results`, and the bare list of older servers. Raises UnusableAnswer."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise errors.UnusableAnswer(f"the answer is not the JSON expected: {len(body)} bytes") from exc
    rows = found.get("results") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
        raise errors.UnusableAnswer("the answer has no list of values")
    return Values(tuple(row["name"] for row in rows), isinstance(found, dict) and found.get("refreshing") is True)
