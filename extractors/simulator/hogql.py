"""POST /query and HogQL filters, answered by an in-memory DuckDB with macros that bear ClickHouse's names (§10)."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from datetime import timedelta

import duckdb
import pyarrow as pa

from extractors.simulator.dataset import Dataset, Event
from extractors.simulator.listing import BadInput

MAX_ROWS, IMPLICIT_ROWS = 50_000, 100
_NAMES = """count sum min max avg uniqexact distinct intdiv modulo multiply plus minus datediff todatetime64 todatetime todate
tostring touuid length position substring tostartofhour tostartofday if coalesce abs least greatest
in and or not from select where by as values on between"""
ALLOWED = frozenset(_NAMES.split())
"""HogQL's own functions that are simulated, and the keywords that may stand before a bracket."""
MACROS = """
CREATE MACRO intDiv(a, b) AS a // b;
CREATE MACRO modulo(a, b) AS a % b;
CREATE MACRO multiply(a, b) AS a * b;
CREATE MACRO plus(a, b) AS a + b;
CREATE MACRO minus(a, b) AS a - b;
CREATE MACRO toDateTime64(text, digits, zone) AS (text::TIMESTAMP AT TIME ZONE zone);
CREATE MACRO toString(x) AS x::VARCHAR;
CREATE MACRO toUUID(x) AS x::UUID;
CREATE MACRO toDate(moment, zone) AS (moment AT TIME ZONE zone)::DATE;
CREATE MACRO toStartOfHour(moment, zone) AS date_trunc('hour', moment AT TIME ZONE zone) AT TIME ZONE zone;
CREATE MACRO toStartOfDay(moment, zone) AS date_trunc('day', moment AT TIME ZONE zone) AT TIME ZONE zone;
"""
STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'")


class Refused(BadInput):
    """HogQL that the server does not run."""


class Engine:
    """Answers HogQL over one dataset; its copy in DuckDB follows the dataset's version."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self._db = duckdb.connect(":memory:", config={"threads": 1})
        self._db.execute("SET TimeZone = 'UTC'")
        self._db.execute(MACROS)
        self._version = -1

    def query(self, hogql: str, project_timezone: str) -> tuple[list[str], list[list[object]], bool]:
        """Column names, rows, and whether rows beyond an implicit limit were left out. Raises Refused."""
        limit = re.search(r"\bLIMIT\s+(\d+)\s*$", hogql, re.IGNORECASE)
        rows_wanted = min(int(limit[1]), MAX_ROWS) if limit else IMPLICIT_ROWS
        body = hogql[: limit.start()] if limit else hogql
        sql = f"{translated(body, project_timezone)} LIMIT {rows_wanted + 1}"
        with self._lock:
            self._refresh()
            try:
                cursor = self._db.execute(sql)
                names = [column[0].replace("count_star()", "count()") for column in cursor.description or []]
                rows = [list(row) for row in cursor.fetchall()]
            except duckdb.Error as exc:
                raise Refused(f"Query failed: {str(exc).splitlines()[0]}") from exc
        return (
            names,
            [[_plain(value) for value in row] for row in rows[:rows_wanted]],
            len(rows) > rows_wanted and limit is None,
        )

    def matching(self, expression: str, events: Sequence[Event], project_timezone: str) -> frozenset[int]:
        """Positions of the *events* that pass a boolean HogQL *expression*. Raises Refused."""
        sql = f"SELECT n FROM candidates AS events WHERE {translated(expression, project_timezone)}"
        candidates = _table(events).append_column("n", pa.array(range(len(events)), pa.int64()))
        with self._lock:
            self._db.register("candidates_text", candidates)
            try:
                self._db.execute(
                    "CREATE OR REPLACE TEMP TABLE candidates AS SELECT * REPLACE (uuid::UUID AS uuid) FROM candidates_text"
                )
                return frozenset(row[0] for row in self._db.execute(sql).fetchall())
            except duckdb.Error as exc:
                raise Refused(str(exc)) from exc
            finally:
                self._db.unregister("candidates_text")

    def _refresh(self) -> None:
        if self._version == self._dataset.version:
            return
        self._version = self._dataset.version
        self._db.register("source", _table(self._dataset.events))
        self._db.execute("CREATE OR REPLACE TABLE events AS SELECT * REPLACE (uuid::UUID AS uuid) FROM source")
        self._db.unregister("source")


def _table(events: Sequence[Event]) -> pa.Table:
    names = ("uuid", "event", "distinct_id", "properties", "elements_chain")
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(event, name) for event in events], pa.string()) for name in names
    }
    stamp = pa.timestamp("us", "UTC")
    columns["timestamp"] = pa.array([event.micros for event in events], pa.int64()).cast(stamp)
    columns["created_at"] = pa.array(
        [event.created_at or event.timestamp + timedelta(seconds=2) for event in events], stamp
    )
    return pa.table(columns)


def translated(hogql: str, project_timezone: str) -> str:
    """DuckDB's spelling of *hogql*; functions outside HogQL's list and OFFSET are refused."""
    parts, last = [], 0
    for match in STRING.finditer(hogql):
        parts += [_code(hogql[last : match.start()], project_timezone), _literal(match[0])]
        last = match.end()
    return "".join([*parts, _code(hogql[last:], project_timezone)])


def _literal(text: str) -> str:
    """ClickHouse escapes with a backslash, DuckDB by doubling."""
    inner = re.sub(r"\\(.)", r"\1", text[1:-1].replace("''", "\\'"))
    return "'" + inner.replace("'", "''") + "'"


def _code(text: str, project_timezone: str) -> str:
    if re.search(r"\bOFFSET\b", text, re.IGNORECASE):
        raise Refused("OFFSET is not allowed for personal API keys")
    for name in re.findall(r"\b([A-Za-z_]\w*)\s*\(", text):
        if name.lower() not in ALLOWED:
            raise Refused(f"Unsupported function call '{name}(...)'")
    for here, there in (("length", "strlen"), ("position", "strpos"), ("uniqExact", "hogql_uniq")):
        text = re.sub(rf"\b{here}\s*\(", f"{there}(", text)
    text = re.sub(r"\bhogql_uniq\(\(?([\w ,]+)\)?\)", r"count(DISTINCT (\1))", text)
    # Without a named zone the project's own applies; arguments without parentheses only, as hedgerow sends them.
    return re.sub(r"\b(toStartOfHour|toStartOfDay|toDate)\(\s*(\w+)\s*\)", rf"\1(\2, '{project_timezone}')", text)


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str | None) else str(value)
