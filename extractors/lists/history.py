"""Reads a list whole, and proves it: rows against the list's own count, ids against the table of HogQL that is its twin.

Knows requests and answers, and nothing of what was landed before. Source: docs/streams.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from extractors import errors, hogql
from extractors.http import decode
from extractors.http.client import Client
from extractors.lists import lookups
from extractors.lists.lookups import Row
from extractors.lists.resources import Resource, Twin
from extractors.request import HASTY_PAGE, Bucket, Request

READINGS = 3  # of a list that does not agree with its count or twin: somebody may have changed it meanwhile
CLOCK_ANSWERS = 3  # that are asked for, so that two agree about the server's time
TWIN_ROWS = 9_999  # two real servers gave 10,000 rows at most, whatever was asked, and did not say so


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Ids that the list shows and its twin does not, and the other way round; ascending."""

    listed: tuple[int, ...]
    twin: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.listed or self.twin)


@dataclass(frozen=True, slots=True)
class Known:
    """What a twin holds: ids of *living* and *deleted* objects, and those of the living that hang on a parent."""

    living: frozenset[int]
    deleted: frozenset[int]
    hanging: frozenset[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """All rows that a list showed, and how many it says it has: *complete* where these agree.

    *twin*: what its twin holds; None where there is none, or where this server or key has no answer. *unanswered*: why, if
    another time may bring one. *tired*: the list was walked as often as it is worth.
    """

    rows: tuple[Row, ...]
    count: int
    twin: Known | None = None
    disagreement: Disagreement = Disagreement((), ())
    tired: bool = False
    unanswered: str = ""

    @property
    def complete(self) -> bool:
        return len(self.rows) == self.count

    @property
    def proven(self) -> bool:
        return self.complete and not self.disagreement


def read(client: Client, project_id: int, resource: Resource) -> Reading:
    """The list as it is now; read again where it does not agree with its own count or its twin.

    Raises what the client raises, EndpointMissing in words where the server has no such list.
    """
    asked_first(client, resource)
    for _ in range(READINGS):
        reading = _compared(client, project_id, resource, _walked(client, project_id, resource))
        if reading.proven or reading.tired:
            break
    return reading


def asked_first(client: Client, resource: Resource) -> None:
    """Let *client* begin with the address at which every server has the list, if there is one."""
    if resource.prefix:
        client.prefixes.setdefault(resource.path, resource.prefix)


def disagreement(rows: tuple[Row, ...], twin: Twin, known: Known) -> Disagreement:
    """Where the rows of a list and what its twin holds are not the same objects. Pure."""
    shown = {row["id"] for row in rows if row.get("deleted") is not True}
    beyond = {row["id"] for row in rows if twin.beyond and row.get(twin.beyond[0]) == twin.beyond[1]}
    return Disagreement(
        tuple(sorted(shown - beyond - known.living)), tuple(sorted(known.living - shown - known.hanging))
    )


def _walked(client: Client, project_id: int, resource: Resource) -> Reading:
    """One walk, and the count that it is proven by: that of the last answer where there were several that agree."""
    counts: list[int] = []

    def page(limit: int, offset: int) -> lookups.Listed:
        found = lookups.listed(client, project_id, f"{resource.path}/", limit=limit, offset=offset)
        counts.append(found.count)
        return found

    rows: list[Row] = []
    tired = False
    try:
        for row in lookups.every(page, page_rows=resource.page_rows):
            rows.append(row)
    except lookups.NeverWhole:
        tired = True
    except errors.EndpointMissing as exc:
        if Request(project_id, f"{resource.path}/", Bucket.REST).newer:  # told already
            raise
        raise errors.EndpointMissing(f"this server has no list of {resource.path}: {exc}") from exc
    if resource.numbered and not all(type(row["id"]) is int for row in rows):
        raise errors.UnusableAnswer(f"the list of {resource.path} has an id that is no whole number")
    # One answer alone dates nothing, and its count is as old as its rows.
    while len(counts) == 1 or (client.served_at != client.heard.served_at and len(counts) < CLOCK_ANSWERS):
        page(1, 0)
    return Reading(tuple(rows), counts[-1], tired=tired)


def _compared(client: Client, project_id: int, resource: Resource, reading: Reading) -> Reading:
    """*reading* with what its twin holds, where there is one that answers."""
    twin = resource.twin
    if twin is None:
        return reading
    try:
        known = _known(client, project_id, twin)
    except (errors.RequestRefused, errors.EndpointMissing, errors.AccessDenied):
        return reading  # no such table, or no such right
    except errors.SourceError as exc:
        return replace(reading, unanswered=str(exc))
    return replace(reading, twin=known, disagreement=disagreement(reading.rows, twin, known))


def _known(client: Client, project_id: int, twin: Twin) -> Known:
    living, deleted, hanging = set[int](), set[int](), set[int]()
    for number, gone, *parents in _twin_rows(client, project_id, twin):
        (deleted if gone else living).add(number)
        if not gone and any(parents):
            hanging.add(number)
    return Known(frozenset(living), frozenset(deleted), frozenset(hanging))


def _twin_rows(client: Client, project_id: int, twin: Twin) -> Iterator[tuple[int, ...]]:
    """Rows of id, deleted and parents by ascending ids, up to a page that brings none: no server says when it cuts."""
    columns, last = ("id", "deleted", *twin.parents), -1
    while True:
        question = hogql.objects(project_id, twin.table, columns, after=last, but=twin.beyond, limit=TWIN_ROWS)
        request = replace(question, policy=HASTY_PAGE)
        page = [tuple(int(value or 0) for value in row) for row in decode.query_rows(client.send(request).body)]
        if not page:
            return
        if any(one[0] >= other[0] for one, other in pairwise([(last,), *page])):
            raise errors.UnusableAnswer(f"the rows of {twin.table} do not come by ascending ids")
        yield from page
        last = page[-1][0]
