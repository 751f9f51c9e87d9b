"""Pure construction of every HogQL statement hedgerow asks: no I/O, no clock, no key (facts/posthog-api.md §10)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise

from extractors.filters import EventFilter, quoted
from extractors.request import LAST_BOUND, QUERY, Bucket, Request, instant
from extractors.window import DAY, EPOCH, MICROSECOND, Range

QUERY_MAX_ROWS = 50_000  # the server's own maximum (§10); without a LIMIT it answers 100


class Dialect(Enum):
    """How HogQL writes a constant instant: exact to the microsecond, whatever the project's time zone. Newest first.

    Servers of 2023 refuse toDateTime64, and read toDateTime of a text that ends in Z as exactly (docs/proof.md).
    Without the Z they take the text for the project's wall clock.
    """

    DATETIME64 = "toDateTime64('{}', 6, 'UTC')"
    DATETIME = "toDateTime('{}Z')"

    def instant(self, at: datetime) -> str:
        """*at* as a HogQL constant."""
        return self.value.format(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}")


def query(project_id: int, hogql: str) -> Request:
    """POST /query, past every cache. *hogql* must carry its own LIMIT (§10)."""
    body = {"query": {"kind": "HogQLQuery", "query": hogql}, "refresh": "force_blocking"}
    return Request(project_id, "query/", Bucket.QUERY, body=json.dumps(body).encode(), method="POST", policy=QUERY)


def _between(rng: Range, dialect: Dialect) -> str:
    """HogQL: the timestamp lies in *rng*. Where no bound can be sent the engine must not look in its index of days."""
    if rng.start >= EPOCH and rng.end <= LAST_BOUND:
        return f"timestamp >= {dialect.instant(rng.start)} AND timestamp < {dialect.instant(rng.end)}"
    at = _micros(EPOCH, "timestamp", dialect)
    first, last = ((bound - EPOCH) // MICROSECOND for bound in (rng.start, rng.end))
    return f"{at} >= {first} AND {at} < {last}"


def _where(ranges: Sequence[Range], events: EventFilter, dialect: Dialect) -> str:
    pieces = [_between(rng, dialect) for rng in ranges]
    inside = pieces[0] if len(pieces) == 1 else " OR ".join(f"({piece})" for piece in pieces)
    condition = inside if len(ranges) == 1 else f"({inside})"
    return f"{condition} AND ({events.hogql})" if events.hogql else condition


def _micros(since: datetime, column: str, dialect: Dialect) -> str:
    if EPOCH <= since <= LAST_BOUND:
        return f"dateDiff('microsecond', {dialect.instant(since)}, {column})"
    return f"({_micros(EPOCH, column, dialect)} - ({(since - EPOCH) // MICROSECOND}))"


_IDENTITY = "uuid AS u, event AS e, distinct_id AS di, timestamp AS ts"


def hour_counts(project_id: int, rng: Range, *, events: EventFilter, dialect: Dialect) -> Request:
    """Rows and least uuid of every UTC hour of *rng* that has any: columns hour number from rng.start, count, uuid.

    The digits-and-dateDiff form works on servers of 2023 and 2026 alike and does not know a project time zone (§10).
    """
    hour = f"intDiv({_micros(rng.start, 'timestamp', dialect)}, 3600000000)"
    inner = f"SELECT {hour} AS h, toString(uuid) AS u FROM events WHERE {_where([rng], events, dialect)}"
    return query(
        project_id,
        f"SELECT h, count() AS n, min(u) AS m FROM ({inner}) GROUP BY h ORDER BY h LIMIT {QUERY_MAX_ROWS}",
    )


def identity_count(project_id: int, rng: Range, *, events: EventFilter, dialect: Dialect) -> Request:
    """How many distinct (uuid, event, distinct_id, timestamp) *rng* holds: one row, one number."""
    inner = f"SELECT DISTINCT {_IDENTITY} FROM events WHERE {_where([rng], events, dialect)}"
    return query(project_id, f"SELECT count() AS n FROM ({inner}) LIMIT 1")


def earliest(project_id: int, *, events: EventFilter, dialect: Dialect) -> Request:
    """The first timestamp in microseconds since 1970, and the number of rows: one row."""
    condition = f" WHERE {events.hogql}" if events.hogql else ""
    first = _micros(EPOCH, "min(timestamp)", dialect)
    return query(project_id, f"SELECT {first} AS m, count() AS n FROM events{condition} LIMIT 1")


@dataclass(frozen=True, slots=True)
class Grid:
    """How a probe cuts time: dates from *first* (a UTC midnight) on, and their step up to each day number, ascending.

    *splits*: few further instants to cut at, ascending.
    """

    first: datetime
    steps: tuple[tuple[int, timedelta], ...]
    splits: tuple[datetime, ...] = ()

    def __post_init__(self) -> None:
        if any(one >= other for one, other in pairwise(self.splits)):
            raise ValueError(f"splits do not ascend: {', '.join(map(instant, self.splits))}")

    @property
    def slot(self) -> str:
        """HogQL: number of the window within its day d, from the microsecond t of the day."""
        expression = ""
        for until, step in reversed(self.steps):
            micros = str(step // MICROSECOND)
            expression = f"if(d < {until}, {micros}, {expression})" if expression else micros
        return f"intDiv(t, {expression})"

    @property
    def piece(self) -> str:
        """HogQL: how many of the splits are at or before the microsecond o since *first*; empty without any."""
        return " + ".join(f"if(o >= {(split - self.first) // MICROSECOND}, 1, 0)" for split in self.splits)


# The value of a hexadecimal digit, and the last ten digits of a uuid as a number: hex functions are not on every
# server's list (§10).
_DIGITS = " + ".join(
    f"(position('0123456789abcdef', substring(h, {27 + place}, 1)) - 1) * {16 ** (9 - place)}" for place in range(10)
)
_PRIME = 1_000_003


def probe(
    project_id: int, grid: Grid, ranges: Sequence[Range], *, limit: int, events: EventFilter, dialect: Dialect
) -> Request:
    """The source side of every window of *ranges* that has any event, one row each (design.md, "What the ledger proves").

    Columns: day number from grid.first, window number within the day, count, Σu, Σt, Σut, Σun, Σ µs of the day of the
    latest created_at of each event, and the latest created_at in µs since 1970. With splits a row is of one piece of a
    window, and a last column tells how many splits are at or before it. The digits-and-dateDiff form, which is equal to
    DuckDB on a real server of 2023 and uses no function that newer servers lack (§10).
    """
    day = DAY // MICROSECOND
    where = _where(ranges, events, dialect)
    events_of = f"SELECT {_IDENTITY}, max(created_at) AS c FROM events WHERE {where} GROUP BY u, e, di, ts"
    numbers = (
        f"SELECT {_micros(grid.first, 'ts', dialect)} AS o, {_micros(EPOCH, 'c', dialect)} AS m, toString(u) AS h, "
        f"length(e) + 31 * length(di) AS n FROM ({events_of})"
    )
    piece, p = (f", {grid.piece} AS p", ", p") if grid.splits else ("", "")
    placed = f"SELECT intDiv(o, {day}) AS d, modulo(o, {day}) AS t, {_DIGITS} AS x, n, m{piece} FROM ({numbers})"
    return query(
        project_id,
        f"SELECT d, {grid.slot} AS s, count() AS k, sum(x) AS sx, sum(t) AS st, "
        f"sum(modulo(x, {_PRIME}) * modulo(t, {_PRIME})) AS sxt, sum(modulo(x, {_PRIME}) * n) AS sxn, "
        f"sum(modulo(m, {day})) AS sm, max(m) AS lm{p} FROM ({placed}) GROUP BY d, s{p} ORDER BY d, s{p} "
        f"LIMIT {limit}",
    )


def contents(
    project_id: int, rng: Range, uuids: Sequence[str], *, limit: int, events: EventFilter, dialect: Dialect
) -> Request:
    """What is stored of the events of *uuids* in *rng*, one row for each content of an event.

    Columns: uuid, event, distinct_id, time in µs since 1970, properties and elements_chain as stored, and the latest
    created_at in µs since 1970.
    """
    named = ", ".join(map(quoted, uuids))
    return query(
        project_id,
        f"SELECT toString(uuid) AS u, event AS e, distinct_id AS di, {_micros(EPOCH, 'timestamp', dialect)} AS t, "
        f"properties AS p, elements_chain AS x, max({_micros(EPOCH, 'created_at', dialect)}) AS m FROM events "
        f"WHERE {_where([rng], events, dialect)} AND toString(uuid) IN ({named}) GROUP BY u, e, di, t, p, x LIMIT {limit}",
    )


def outside(
    project_id: int, ranges: Sequence[Range], *, within: Range | None = None, events: EventFilter, dialect: Dialect
) -> Request:
    """What lies in none of *ranges*: one row each for before, between and after them (0, 1, 2) that has any.

    *within*: nothing else is looked at. Columns: place, count of rows, first and last timestamp in µs since 1970.
    """
    ordered = sorted(ranges)
    first, last = ((at - EPOCH) // MICROSECOND for at in (ordered[0].start, ordered[-1].end))
    inside = [f"({_between(within, dialect)})"] if within else []
    where = " AND ".join([*inside, *(f"NOT ({_between(rng, dialect)})" for rng in ordered)])
    condition = f"{where} AND ({events.hogql})" if events.hogql else where
    at = _micros(EPOCH, "ts", dialect)
    place = f"if({at} < {first}, 0, if({at} < {last}, 1, 2))"
    return query(
        project_id,
        f"SELECT {place} AS w, count() AS k, min({at}) AS a, max({at}) AS b "
        f"FROM (SELECT timestamp AS ts FROM events WHERE {condition}) GROUP BY w ORDER BY w LIMIT 4",
    )


def objects(
    project_id: int, table: str, columns: Sequence[str], *, after: int, but: tuple[str, str] | None, limit: int
) -> Request:
    """*columns* of the objects in *table* whose whole-numbered id is greater than *after*, ascending by it.

    *but*: a column, and the value that leaves an object out.
    """
    condition = f" AND {but[0]} != {quoted(but[1])}" if but else ""
    return query(
        project_id,
        f"SELECT {', '.join(columns)} FROM {table} WHERE id > {after}{condition} ORDER BY id LIMIT {limit}",
    )
