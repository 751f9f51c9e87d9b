"""HogQL answered by the real ClickHouse engine (chdb) over the same events.

Knows HogQL's few differences from ClickHouse SQL that the facts name; any other ClickHouse SELECT simply works.
Knows nothing of HTTP. Sources: posthog-api.md §1.6, §10; posthog-observed.md "hogql" lines.
"""

import json
import re
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from .functions import refusal
from .rows import micros

IMPLICIT_LIMIT = 100  # §10: a query without LIMIT gets this one
MAX_LIMIT = 50_000  # §10

LITERAL = re.compile(r"('(?:[^'\\]|\\.|'')*')", re.DOTALL)
TO_DATETIME_OF_TEXT = re.compile(r"\btoDateTime\(\s*('[^']*')\s*(?:,\s*('[^']*')\s*)?\)")
OBJECTS = re.compile(r"\bsystem\.(\w+)")  # ClickHouse has a database of that name itself
PROPERTY = re.compile(r"\b(?:events\.)?properties\.([\w$]+)")
DATETIME_TYPE = re.compile(r"(?:Nullable\()?DateTime(?:64)?(?:\((?:\d+)?(?:, )?(?:'([^']+)')?\))?\)?")


class QueryError(Exception):
    """The engine or HogQL's own rules refused the query."""


@dataclass(frozen=True, slots=True)
class Table:
    """A query's answer in the shape of POST /query. *has_more* is None when the query named its own LIMIT."""

    columns: list[str]
    types: list[list[str]]
    results: list[list[Any]]
    has_more: bool | None


def rewritten(sql: str, *, zone: str, now: datetime) -> str:
    """*sql* with HogQL's own readings spelled out for ClickHouse.

    `now()` is the server's clock; `toDateTime('text')` keeps microseconds and reads the text in the project's zone
    (seen: posthog-observed.md, the comparison with `toDateTime('…')`); `properties.x` is the property as text or NULL.
    """
    sql = TO_DATETIME_OF_TEXT.sub(
        lambda found: f"parseDateTime64BestEffortOrNull({found[1]}, 6, {found[2] or repr(zone)})", sql
    )
    clock = f"fromUnixTimestamp64Micro({micros(now)}, '{zone}')"
    parts = LITERAL.split(sql)
    for i in range(0, len(parts), 2):  # the odd ones are text literals
        code = re.sub(r"\bnow\(\)", clock, parts[i])
        code = re.sub(r"\btoInt\(", "toInt64OrNull(", code)
        parts[i] = PROPERTY.sub(
            r"if(JSONType(properties, '\1') = 'String', JSONExtractString(properties, '\1'),"
            r" nullIf(nullIf(JSONExtractRaw(properties, '\1'), ''), 'null'))",
            code,
        )
    return "".join(parts)


def outer(sql: str) -> str:
    """*sql* without text literals and everything in parentheses: where an outer LIMIT or OFFSET would stand."""
    flat = LITERAL.sub("''", sql)
    while (smaller := re.sub(r"\([^()]*\)", " ", flat)) != flat:
        flat = smaller
    return flat


class Engine:
    """One project's events in ClickHouse. Loads when it is asked, because chdb's import alone takes a second.

    In-process: the engine is shared by all connections of a process, so each Engine has a database of its own.
    """

    def __init__(self, *, zone: str, project_id: int, older: bool) -> None:
        self._zone = zone
        self._older = older
        self._project_id = project_id
        self._lock = threading.Lock()
        self._connection: Any = None
        self._loaded = False

    def matching(
        self, expression: str, bounds_us: tuple[int, int], *, lines: Iterable[str], now: datetime
    ) -> list[int]:
        """Numbers of the rows strictly inside *bounds_us* for which the HogQL *expression* holds. Raises QueryError."""
        self._let_through(expression)
        condition = rewritten(expression, zone=self._zone, now=now)
        sql = f"SELECT _n FROM events WHERE _us > {bounds_us[0]} AND _us < {bounds_us[1]} AND ({condition}\n)"
        with self._lock:
            self._load(lines)
            return [n for (n,) in self._ask(sql, limit=0)["data"]]

    def select(
        self,
        sql: str,
        *,
        lines: Iterable[str],
        now: datetime,
        objects: Mapping[str, tuple[list[str], list[list[Any]]]],
    ) -> Table:
        """Answer of one SELECT, with the implicit and the maximal LIMIT; moments carry their column's zone.

        *objects*: columns and rows of the tables of `system`, by name.

        Raises QueryError, also for OFFSET, which personal keys may not use (§10).
        """
        self._let_through(sql)
        around = outer(sql)
        if not re.match(r"\s*(select|with)\b", around, re.IGNORECASE):
            raise QueryError("only SELECT is understood")
        if re.search(r"\boffset\b", around, re.IGNORECASE):
            raise QueryError("OFFSET is not allowed with a personal API key")
        limited = re.search(r"\blimit\b(?!\s+\d+\s+by\b)", around, re.IGNORECASE) is not None
        with self._lock:
            self._load(lines)
            for name in set(OBJECTS.findall(sql)) & set(objects):
                self._hold(name, *objects[name])
            # One row more than shown tells whether there are more.
            limit = MAX_LIMIT if limited else IMPLICIT_LIMIT + 1
            answer = self._ask(rewritten(OBJECTS.sub(r"objects_\1", sql), zone=self._zone, now=now), limit=limit)
        rows = answer["data"] if limited else answer["data"][:IMPLICIT_LIMIT]
        zones = [self._moment_zone(column["type"]) for column in answer["meta"]]
        return Table(
            columns=[column["name"] for column in answer["meta"]],
            types=[[column["name"], column["type"]] for column in answer["meta"]],
            results=[[self._told(value, zone) for value, zone in zip(row, zones, strict=True)] for row in rows],
            has_more=None if limited else len(answer["data"]) > IMPLICIT_LIMIT,
        )

    def _hold(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Have the objects of a plain list as they are now."""
        shape = ", ".join(columns)
        self._connection.query(f"CREATE OR REPLACE TABLE objects_{name} ({shape}) ENGINE = Memory")
        text = "\n".join(map(json.dumps, rows)).replace("\\", "\\\\").replace("'", "\\'")
        if rows:
            given = f"format(JSONCompactEachRow, '{shape}', '{text}')"
            self._connection.query(f"INSERT INTO objects_{name} SELECT * FROM {given} SETTINGS limit = 0")

    def forget(self) -> None:
        """Load the events anew before the next answer."""
        with self._lock:
            self._loaded = False

    def close(self) -> None:
        """Free the engine's copy of the events."""
        with self._lock:
            if self._connection is not None:
                self._connection.query(f"DROP DATABASE IF EXISTS {self._database}")
                self._connection.close()
                self._connection = None

    def _let_through(self, sql: str) -> None:
        if why := refusal(sql, older=self._older):
            raise QueryError(why)

    @property
    def _database(self) -> str:
        return f"second_{id(self)}"

    def _moment_zone(self, type_name: str) -> ZoneInfo | None:
        found = DATETIME_TYPE.fullmatch(type_name)
        return None if found is None else ZoneInfo(found[1] or self._zone)

    def _told(self, value: Any, zone: ZoneInfo | None) -> Any:
        if zone is None or value is None:
            return value
        at = datetime.fromisoformat(value).astimezone(zone)
        # An older server cuts microseconds off, unless there are none (seen: query_copies_before_merge.json).
        text = at.isoformat(timespec="milliseconds" if self._older and at.microsecond else "auto")
        return text.replace("+00:00", "Z")  # an offset otherwise (seen: query_eventsquery.json)

    def _load(self, lines: Iterable[str]) -> None:
        if self._connection is None:
            self._connection = self._connected()
        if self._loaded:
            return
        self._connection.query("TRUNCATE TABLE events")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.jsonl"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(lines)
            self._connection.query(
                "INSERT INTO events (uuid, event, properties, timestamp, team_id, distinct_id, elements_chain,"
                " created_at, _n, _us)"
                " SELECT uuid, event, properties, fromUnixTimestamp64Micro(us),"
                f" {self._project_id}, distinct_id, elements_chain, fromUnixTimestamp64Micro(created_us), n, us"
                f" FROM file('{path}', JSONEachRow, 'n UInt64, us Int64, uuid UUID, event String, distinct_id String,"
                " properties String, elements_chain String, created_us Int64')"
                " SETTINGS insert_allow_materialized_columns = 1, limit = 0"
            )
        self._loaded = True

    def _connected(self) -> Any:
        import chdb

        connection = chdb.connect(":memory:")
        connection.query(f"CREATE DATABASE {self._database}")
        connection.query(f"USE {self._database}")
        # Columns HogQL shows (§1.6), in the project's zone: that makes every function and comparison without a named
        # zone local, as HogQL's are (§10). What starts with _ is MATERIALIZED, so that SELECT * does not show it.
        moment = f"DateTime64(6, '{self._zone}')"
        connection.query(
            "CREATE TABLE events (uuid UUID, event String, properties String,"
            f" timestamp {moment}, team_id Int64, distinct_id String, elements_chain String, created_at {moment},"
            " _n UInt64 MATERIALIZED 0, _us Int64 MATERIALIZED 0) ENGINE = Memory"
        )
        connection.query(f"SET session_timezone = '{self._zone}'")
        # ISO text is UTC and so unambiguous in the hour that a zone repeats in autumn.
        connection.query("SET date_time_output_format = 'iso'")
        return connection

    def _ask(self, sql: str, *, limit: int) -> dict[str, Any]:
        # ClickHouse's own `limit` setting cuts the final answer only and keeps the order; wrapping in a SELECT may not.
        self._connection.query(f"SET limit = {limit}")
        try:
            answer: dict[str, Any] = json.loads(self._connection.query(sql.rstrip().rstrip(";"), "JSONCompact").bytes())
        except Exception as exc:  # chdb raises RuntimeError or its own type, by version
            raise QueryError(str(exc).strip().splitlines()[0][:300]) from exc
        return answer
