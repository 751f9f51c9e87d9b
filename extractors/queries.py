"""Pure construction of every request hedgerow sends: no I/O, no clock, no key.

Each request is built from the plan and never from an address found in an answer (design.md, reading rule 5).
Addresses and parameters: facts/posthog-api.md §1 and §10.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from extractors.window import DAY, MICROSECOND, Range

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The engine numbers days with 16 bits: a bound before 1970, or behind 2149-06-06, makes it leave events out, status 200
# (docs/decisions/0008). No such bound is sent.
LAST_BOUND = datetime(2149, 6, 6, tzinfo=UTC)
ALL_TIME = Range(datetime.min.replace(tzinfo=UTC), LAST_BOUND)
# A microsecond in which nothing happened: a server that answers at all answers what is asked of it.
QUIET = Range(datetime(1971, 3, 4, 5, 6, 7, 891_011, tzinfo=UTC), datetime(1971, 3, 4, 5, 6, 7, 891_012, tzinfo=UTC))
QUERY_MAX_ROWS = 50_000  # the server's own maximum (§10); without a LIMIT it answers 100


class Bucket(StrEnum):
    """Which of the source's rate limits a request counts against (facts/posthog-api.md §5.4)."""

    LIST = "list"
    QUERY = "query"
    VALUES = "values"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, without host, prefix and key.

    *resource* is the part after `/api/<prefix>/<project>/`. *divisible*: the caller can ask for less, so a heavy range,
    a cut body or a 500 goes back to it at once instead of being retried as it is. *once*: a write, which is sent again
    only where it was surely not done. *entry*: what the address names, such as "export 7": a 404 then is about that.
    *by_user*: a 400 is about what the user gave. *patient*: a bare 500 is asked again for a minute. *answer_s*: how
    long to wait for an answer, seconds.
    """

    project_id: int
    resource: str
    bucket: Bucket
    params: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    divisible: bool = False
    method: str = "GET"
    once: bool = False
    accept: str = "application/json"
    entry: str = ""
    by_user: bool = False
    patient: bool = True
    answer_s: float = 100.0

    @property
    def newer(self) -> str:
        """What is asked for, in words, where older servers do not have it; else empty."""
        collection, _, rest = self.resource.partition("/")
        if collection == "exports":
            return "the list of exports" if self.method == "GET" and not rest else "exports"
        return {"evaluations": "evaluations", "query": "queries (POST /query)"}.get(collection, "")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which event names belong to the stream; part of the stream's identity (contract.md §2)."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "include", tuple(sorted(set(self.include))))
        object.__setattr__(self, "exclude", tuple(sorted(set(self.exclude))))

    @property
    def identity(self) -> str:
        """Text that is equal exactly when two filters let the same events pass; empty for no filter."""
        if not self.include and not self.exclude:
            return ""
        return json.dumps({"include": self.include, "exclude": self.exclude}, ensure_ascii=False)

    def __str__(self) -> str:
        parts = [(word, names) for word, names in (("include", self.include), ("exclude", self.exclude)) if names]
        return " and ".join(f"{word} {_some(names)}" for word, names in parts) or "none"

    @property
    def hogql(self) -> str:
        """The same condition in HogQL, empty for no filter."""
        parts = []
        if self.include:
            parts.append(f"event IN ({', '.join(map(quoted, self.include))})")
        if self.exclude:
            parts.append(f"event NOT IN ({', '.join(map(quoted, self.exclude))})")
        return " AND ".join(parts)

    def passing(self, rows: pa.Table) -> pa.Table:
        """The rows, by their column event, that the filter lets pass."""
        for names, keeps in ((self.include, True), (self.exclude, False)):
            if names:
                named = pc.is_in(rows["event"], value_set=pa.array(names, pa.string()))
                rows = rows.filter(named if keeps else pc.invert(named))
        return rows

    @property
    def single(self) -> str | None:
        """The one name that `event=` can express, if that is all the filter says."""
        return self.include[0] if len(self.include) == 1 and not self.exclude else None


def quoted(text: str) -> str:
    """A HogQL string literal; names are data, whatever they contain."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def instant(at: datetime) -> str:
    """UTC with microseconds and an explicit zone: the one form every server version reads alike (§1.3)."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


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


def _some(names: Sequence[str], *, shown: int = 5) -> str:
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more


def in_words(text: str) -> str:
    """*text* with every identity of a filter that stands in it said in words."""
    start = text.find('{"include": [')
    if start < 0:
        return text
    found, end = json.JSONDecoder().raw_decode(text, start)
    return f"{text[:start]}{EventFilter(tuple(found['include']), tuple(found['exclude']))}{in_words(text[end:])}"


@dataclass(frozen=True, slots=True)
class Filters:
    """What a look-up asks for beside the range, as the endpoint documents it (facts/posthog-api.md §1.4).

    *properties*: the JSON of one filter, a list of filters or a group. *select* and *where*: lists of HogQL
    expressions, documented as experimental and not read by the servers known to us.
    """

    event: str | None = None
    distinct_id: str | None = None
    person_id: str | None = None
    properties: str = ""
    select: tuple[str, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.conditions()

    def conditions(self) -> list[object] | dict[str, object]:
        """The filters of *properties* as a list, or the group that they are. Raises ValueError."""
        if not self.properties:
            return []
        given = json.loads(self.properties)
        if isinstance(given, list):
            return given
        if not isinstance(given, dict):
            raise ValueError("expected a filter, a list of filters or a group")
        return given if "values" in given else [given]

    @property
    def params(self) -> list[tuple[str, str]]:
        """All but `properties`, which further conditions are added to."""
        named = (("event", self.event), ("distinct_id", self.distinct_id), ("person_id", self.person_id))
        listed = (("select", self.select), ("where", self.where))
        return [(name, value) for name, value in named if value is not None] + [
            (name, json.dumps(value)) for name, value in listed if value
        ]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Further conditions of one page: a HogQL expression, or one event and one distinct id."""

    hogql: str = ""
    event: str | None = None
    distinct_id: str | None = None


def events_page(
    project_id: int,
    rng: Range,
    *,
    limit: int,
    events: EventFilter,
    hogql: bool = True,
    narrowing: Narrowing | None = None,
    filters: Filters | None = None,
) -> Request:
    """One ascending page of the events list over *rng*. A group in *filters* takes no further HogQL condition.

    Both bounds of the endpoint are exclusive, hence `after` = start − 1 µs (§0.3); ascending order switches the lying
    window probe off (§0.2). Without *hogql* only a filter of one name is sent; the reader drops the rest. A range that
    begins before 1970 is asked without `after`, and no `before` lies before 1970 or behind LAST_BOUND: the page may bring
    rows of other times.
    """
    narrowing = narrowing or Narrowing()
    filters = filters or Filters()
    params = [("orderBy", '["timestamp"]')]
    if rng.start >= EPOCH:
        params.append(("after", instant(rng.start - MICROSECOND)))
    params += [("before", instant(min(max(rng.end, EPOCH), LAST_BOUND))), ("limit", str(limit))]
    params += [(name, value) for name, value in filters.params if getattr(narrowing, name, None) is None]
    conditions = []
    event = narrowing.event if narrowing.event is not None else events.single
    if event is not None:
        params.append(("event", event))
    if hogql and events.single is None and events.hogql:
        conditions.append(events.hogql)
    if narrowing.hogql:
        conditions.append(narrowing.hogql)
    if narrowing.distinct_id is not None:
        params.append(("distinct_id", narrowing.distinct_id))
    given = filters.conditions()
    if isinstance(given, list):
        given = [*given, *({"type": "hogql", "key": key} for key in conditions)]
    if given:
        params.append(("properties", json.dumps(given)))
    return Request(project_id, "events/", Bucket.LIST, tuple(params), divisible=True, by_user=bool(filters.properties))


def newest_event(project_id: int) -> Request:
    """The newest event, asked for as the page of events in PostHog does: cheap on every server."""
    return Request(project_id, "events/", Bucket.LIST, (("limit", "1"),), divisible=True, patient=False)


def uuid_between(low: str | None, high: str | None) -> str:
    """HogQL: the uuid's text lies in [low, high); None is open. Slices need no order (facts/posthog-observed.md)."""
    bounds = []
    if low is not None:
        bounds.append(f"toString(uuid) >= {quoted(low)}")
    if high is not None:
        bounds.append(f"toString(uuid) < {quoted(high)}")
    return " AND ".join(bounds)


def query(project_id: int, hogql: str) -> Request:
    """POST /query, past every cache. *hogql* must carry its own LIMIT (§10)."""
    body = {"query": {"kind": "HogQLQuery", "query": hogql}, "refresh": "force_blocking"}
    return Request(project_id, "query/", Bucket.QUERY, body=json.dumps(body).encode(), method="POST")


def rest(project_id: int, resource: str, *, limit: int) -> Request:
    """The first *limit* entries of a plain list, such as `exports/` (§3.4, §4)."""
    return Request(project_id, resource, Bucket.REST, (("limit", str(limit)),))


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


def outside(project_id: int, ranges: Sequence[Range], *, events: EventFilter, dialect: Dialect) -> Request:
    """What lies in none of *ranges*: one row each for before, between and after them (0, 1, 2) that has any.

    Columns: place, count of rows, first and last timestamp in µs since 1970.
    """
    ordered = sorted(ranges)
    first, last = ((at - EPOCH) // MICROSECOND for at in (ordered[0].start, ordered[-1].end))
    where = " AND ".join(f"NOT ({_between(rng, dialect)})" for rng in ordered)
    condition = f"{where} AND ({events.hogql})" if events.hogql else where
    at = _micros(EPOCH, "ts", dialect)
    place = f"if({at} < {first}, 0, if({at} < {last}, 1, 2))"
    return query(
        project_id,
        f"SELECT {place} AS w, count() AS k, min({at}) AS a, max({at}) AS b "
        f"FROM (SELECT timestamp AS ts FROM events WHERE {condition}) GROUP BY w ORDER BY w LIMIT 4",
    )
