"""HogQL over a dataset, answered by an in-memory DuckDB with macros that bear ClickHouse's names (§10)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from extractors.simulator.data.columns import Column, described
from extractors.simulator.data.dataset import Dataset, Event, Person
from extractors.simulator.errors import BadInput
from extractors.simulator.functions import check
from extractors.simulator.profiles import Profile

MACROS = """
CREATE MACRO intDiv(a, b) AS a // b;
CREATE MACRO modulo(a, b) AS a % b;
CREATE MACRO multiply(a, b) AS a * b;
CREATE MACRO plus(a, b) AS a + b;
CREATE MACRO minus(a, b) AS a - b;
CREATE MACRO divide(a, b) AS a / b;
CREATE MACRO equals(a, b) AS a = b;
CREATE MACRO notEquals(a, b) AS a <> b;
CREATE MACRO less(a, b) AS a < b;
CREATE MACRO greater(a, b) AS a > b;
CREATE MACRO lessOrEquals(a, b) AS a <= b;
CREATE MACRO greaterOrEquals(a, b) AS a >= b;
CREATE MACRO startsWith(a, b) AS starts_with(a, b);
CREATE MACRO bitAnd(a, b) AS a & b;
CREATE MACRO bitOr(a, b) AS a | b;
CREATE MACRO bitXor(a, b) AS xor(a, b);
CREATE MACRO bitShiftLeft(a, b) AS a << b;
CREATE MACRO bitShiftRight(a, b) AS a >> b;
CREATE MACRO sumWithOverflow(x) AS sum(x);
CREATE MACRO groupBitXor(x) AS bit_xor(x);
CREATE MACRO minIf(x, c) AS min(x) FILTER (c);
CREATE MACRO maxIf(x, c) AS max(x) FILTER (c);
CREATE MACRO sumIf(x, c) AS sum(x) FILTER (c);
CREATE MACRO avgIf(x, c) AS avg(x) FILTER (c);
CREATE MACRO toInt(x) AS TRY_CAST(x AS BIGINT);
CREATE MACRO toFloat(x) AS TRY_CAST(x AS DOUBLE);
CREATE MACRO toString(x) AS x::VARCHAR;
CREATE MACRO toUUID(x) AS x::UUID;
CREATE MACRO toDateTime(text) AS text::TIMESTAMPTZ, (text, zone) AS (text::TIMESTAMP AT TIME ZONE zone);
CREATE MACRO toDateTime64(text, digits) AS text::TIMESTAMPTZ,
    (text, digits, zone) AS (text::TIMESTAMP AT TIME ZONE zone);
CREATE MACRO toDate(moment) AS (moment AT TIME ZONE $project)::DATE,
    (moment, zone) AS (moment AT TIME ZONE zone)::DATE;
CREATE MACRO toStartOfHour(moment) AS date_trunc('hour', moment AT TIME ZONE $project) AT TIME ZONE $project,
    (moment, zone) AS date_trunc('hour', moment AT TIME ZONE zone) AT TIME ZONE zone;
CREATE MACRO toStartOfDay(moment) AS date_trunc('day', moment AT TIME ZONE $project) AT TIME ZONE $project,
    (moment, zone) AS date_trunc('day', moment AT TIME ZONE zone) AT TIME ZONE zone;
"""
"""What names no zone is in the project's: $project is filled in when the engine starts."""
STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'")
CONSTANT = re.compile(r"(\btoDateTime\(\s*)'(19[0-6]\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d)\.(\d{1,6})([^']*)'")

TWIN = re.compile(r"\bsystem\.(\w+)")
"""Tables of a project's objects; DuckDB has a catalog of that name."""

TYPED = "* REPLACE (uuid::UUID AS uuid, poe_id::UUID AS poe_id)"
NOBODY, NIL = Person(""), "00000000-0000-0000-0000-000000000000"


class Refused(BadInput):
    """HogQL that the server does not run."""


@dataclass(frozen=True, slots=True)
class Result:
    """Columns and rows as JSON values; *more*: rows beyond the limit were left out."""

    columns: list[Column]
    rows: list[list[object]]
    more: bool


class Engine:
    """Answers HogQL over one dataset; its copy in DuckDB follows the dataset's version. *twins*: the tables of `system`."""

    def __init__(
        self, dataset: Dataset, profile: Profile, *, twins: Callable[[str], pa.Table | None] = lambda name: None
    ) -> None:
        self._twins = twins
        self._dataset, self._profile, self._timezone = dataset, profile, profile.project_timezone
        self._lock = threading.Lock()
        self._db = duckdb.connect(":memory:", config={"threads": 1})
        self._db.execute(f"SET TimeZone = '{self._timezone}'")
        self._db.execute(MACROS.replace("$project", f"'{self._timezone}'"))
        self._version = -1

    def query(self, hogql: str, limit: int) -> Result:
        """Up to *limit* rows of *hogql*, which has no LIMIT itself. Raises Refused."""
        sql = f"{self._translated(hogql)} LIMIT {limit + 1}"
        with self._lock:
            self._refresh()
            for name in set(TWIN.findall(hogql)):
                self._hold_twin(name)
            try:
                cursor = self._db.execute(sql)
                native = [(str(column[0]), str(column[1])) for column in cursor.description or []]
                rows = cursor.fetchall()
            except duckdb.Error as exc:
                raise Refused(f"Query failed: {str(exc).splitlines()[0]}") from exc
        columns = described(hogql, native, self._timezone)
        shown = [
            [self._as_json(value, column) for value, column in zip(row, columns, strict=True)] for row in rows[:limit]
        ]
        return Result(columns, shown, len(rows) > limit)

    def matching(self, expression: str, events: Sequence[Event]) -> frozenset[int]:
        """Positions of the *events* that pass a boolean HogQL *expression*. Raises Refused."""
        sql = f"SELECT n FROM candidates AS events WHERE {self._translated(expression)}"
        candidates = _table(events, self._dataset.persons).append_column("n", pa.array(range(len(events)), pa.int64()))
        with self._lock:
            self._db.register("candidates_text", candidates)
            try:
                self._db.execute(f"CREATE OR REPLACE TEMP TABLE candidates AS SELECT {TYPED} FROM candidates_text")
                return frozenset(row[0] for row in self._db.execute(sql).fetchall())
            except duckdb.Error as exc:
                raise Refused(str(exc)) from exc
            finally:
                self._db.unregister("candidates_text")

    def _refresh(self) -> None:
        if self._version == self._dataset.version:
            return
        self._version = self._dataset.version
        self._db.register("source", _table(self._dataset.events, self._dataset.persons))
        self._db.execute(f"CREATE OR REPLACE TABLE events AS SELECT {TYPED} FROM source")
        self._db.unregister("source")

    def _hold_twin(self, name: str) -> None:
        """Have the objects of a list as they are now; the engine refuses a table that it does not have."""
        found = self._twins(name) if self._profile.twins else None
        if found is not None:
            self._db.register("source", found)
            self._db.execute(f"CREATE OR REPLACE TABLE system_{name} AS SELECT * FROM source")
            self._db.unregister("source")

    def _translated(self, hogql: str) -> str:
        """DuckDB's spelling of *hogql*; functions outside the server's list and OFFSET are refused."""
        check(hogql, self._profile.functions)
        if self._profile.constants_before_1970_wrong:
            hogql = CONSTANT.sub(_subtracted, hogql)
        return translated(hogql)

    def _as_json(self, value: object, column: Column) -> object:
        """*value* in JSON: datetimes in the column's zone, UTC as `Z` (samples of server 1.43)."""
        if isinstance(value, datetime):
            text = value.astimezone(ZoneInfo(column.zone)).isoformat()
            if value.microsecond and self._profile.query_milliseconds:
                text = text[:23] + text[26:]
            return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, Decimal):
            return float(value)
        return value if isinstance(value, int | float | str | None) else str(value)


def _table(events: Sequence[Event], persons: Mapping[str, Person]) -> pa.Table:
    names = ("uuid", "event", "distinct_id", "properties", "elements_chain")
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(event, name) for event in events], pa.string()) for name in names
    }
    known = [persons.get(event.distinct_id, NOBODY) for event in events]
    columns["poe_id"] = pa.array([person.id if person is not NOBODY else NIL for person in known], pa.string())
    columns["poe_properties"] = pa.array([person.properties for person in known], pa.string())
    stamp = pa.timestamp("us", "UTC")
    columns["timestamp"] = pa.array([event.micros for event in events], pa.int64()).cast(stamp)
    columns["created_at"] = pa.array(
        [event.created_at or event.timestamp + timedelta(seconds=2) for event in events], stamp
    )
    return pa.table(columns)


def translated(hogql: str) -> str:
    """DuckDB's spelling of *hogql*; OFFSET is refused."""
    parts, last = [], 0
    for match in STRING.finditer(hogql):
        parts += [_code(hogql[last : match.start()]), _literal(match[0])]
        last = match.end()
    return "".join([*parts, _code(hogql[last:])])


def _literal(text: str) -> str:
    """ClickHouse escapes with a backslash, DuckDB by doubling."""
    inner = re.sub(r"\\(.)", r"\1", text[1:-1].replace("''", "\\'"))
    return "'" + inner.replace("'", "''") + "'"


def _code(text: str) -> str:
    if re.search(r"\bOFFSET\b", text, re.IGNORECASE):
        raise Refused("OFFSET is not allowed for personal API keys")
    for here, there in (("length", "strlen"), ("position", "strpos"), ("uniqExact", "hogql_uniq")):
        text = re.sub(rf"\b{here}\s*\(", f"{there}(", text)
    text = TWIN.sub(r"system_\1", text)
    text = re.sub(r"\bpoe\.(id|properties)\b", r"poe_\1", text)
    # Events' properties are texts, whatever their JSON type.
    text = re.sub(r"\bproperties\.(\$?\w+)", r"""json_extract_string(properties, '$."\1"')""", text)
    return re.sub(r"\bhogql_uniq\(\(?([\w ,]+)\)?\)", r"count(DISTINCT (\1))", text)


def _subtracted(constant: re.Match[str]) -> str:
    """A constant before 1970 as the engine of these servers reads it: 23:59:59.9 is 0.9 s before 23:59:59."""
    fraction = int(constant[3].ljust(6, "0"))
    at = datetime.fromisoformat(constant[2]) - timedelta(microseconds=fraction)
    return f"{constant[1]}'{at.isoformat(sep=' ', timespec='microseconds')}{constant[4]}'"
