"""Questions about landed rows, as DuckDB answers them: rows, rows twice, hashes, and what is really held of each window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa

from sinks import errors
from sinks.sink import HASHED, IDENTITIES, Holding

TABLES = 'hedgerow sql "SHOW TABLES" names them; also hedgerow.windows, .runs, .changes and .quarantine'

_DIGESTED = (
    "project_id::VARCHAR",
    "uuid::VARCHAR",
    "event",
    "distinct_id",
    "person_id",
    "properties::VARCHAR",
    "person_properties::VARCHAR",
    "elements_chain",
    'epoch_us("timestamp")::VARCHAR',
    "epoch_us(created_at)::VARCHAR",
)
HASH_SQL = (
    "('0x' || md5("
    + " || ".join(f"CASE WHEN {text} IS NULL THEN '~' ELSE strlen({text}) || ':' || {text} END" for text in _DIGESTED)
    + ")[1:16])::UBIGINT"
)
"""The hash of a landed row: equal to transforms.digest.row_hashes (docs/ledger.md)."""
SUM_SQL = f"coalesce(sum({HASH_SQL}::HUGEINT) % 18446744073709551616, 0)::VARCHAR"
"""The landed digest as one aggregate over rows of events."""
HELD = f"""
SELECT w, count(*) FILTER (inside), coalesce(sum(h) FILTER (inside) % 18446744073709551616, 0)::VARCHAR,
    count(*) FILTER (NOT inside AND "timestamp" >= $start AND "timestamp" < $end)
FROM (
    SELECT w, "timestamp", "timestamp" >= low AND "timestamp" < high AS inside, {HASH_SQL}::HUGEINT AS h
    FROM (SELECT $project::BIGINT AS project_id, * FROM landed))
GROUP BY w
"""
"""Of rows with their window w, which covers [low, high): per window rows and digest inside it, and strays of a range."""
INSIDE = 'project_id = $project AND "timestamp" >= $start AND "timestamp" < $end'

# Hashes first: a date of millions of rows is searched within the memory limit, and what they pick is compared in full.
TWICE = f"""
WITH day AS (
    SELECT uuid, event, distinct_id, "timestamp", hash(uuid, event, distinct_id) AS h FROM events WHERE {INSIDE}),
picked AS (
    SELECT * FROM day WHERE h IN (SELECT h FROM day GROUP BY h HAVING count(*) > 1))
SELECT uuid::VARCHAR AS uuid, event, distinct_id, "timestamp" FROM picked
QUALIFY count(*) OVER (PARTITION BY uuid, event, distinct_id) > 1
"""
HASHES = f'SELECT uuid::VARCHAR AS uuid, event, distinct_id, "timestamp", {HASH_SQL} AS hash FROM events WHERE {INSIDE}'
# Hashed before they are joined with windows: the join sorts what it is given.
AUDIT = f"""
WITH covers AS (
    SELECT window_start, covered_start, covered_end FROM hedgerow.windows
    WHERE project_id = $project AND stream = $stream AND window_end > $start AND window_start < $end),
span AS (SELECT least($start, min(covered_start)) AS a, greatest($end, max(covered_end)) AS b FROM covers),
held AS (
    SELECT CASE WHEN e."timestamp" < covers.covered_end THEN covers.window_start END AS window_start,
        count(*) AS rows, coalesce(sum(h::HUGEINT) % 18446744073709551616, 0)::VARCHAR AS digest,
        count(*) FILTER ("timestamp" >= $start AND "timestamp" < $end) AS asked
    FROM (SELECT "timestamp", {HASH_SQL} AS h FROM events, span
        WHERE project_id = $project AND "timestamp" >= a AND "timestamp" < b) e
    ASOF LEFT JOIN covers ON e."timestamp" >= covers.covered_start
    GROUP BY 1)
SELECT covers.window_start, coalesce(rows, 0), coalesce(digest, '0')
FROM covers LEFT JOIN held ON covers.window_start = held.window_start
UNION ALL SELECT NULL, asked, '' FROM held WHERE window_start IS NULL AND asked > 0
"""


def duplicates(db: duckdb.DuckDBPyConnection, project_id: int, days: Iterable[date]) -> pa.Table:
    """As sinks.sink.Sink.duplicates."""
    found: list[pa.Table] = []
    for day in sorted(days):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        asked = {"project": project_id, "start": start, "end": start + timedelta(days=1)}
        found.append(db.sql(TWICE, params=asked).to_arrow_table().cast(IDENTITIES))
    return pa.concat_tables([IDENTITIES.empty_table(), *found])


def hashes(db: duckdb.DuckDBPyConnection, project_id: int, start: datetime, end: datetime) -> pa.Table:
    """As sinks.sink.Sink.hashes."""
    asked = {"project": project_id, "start": start, "end": end}
    return db.sql(HASHES, params=asked).to_arrow_table().cast(HASHED)


def rows(db: duckdb.DuckDBPyConnection, project_id: int, start: datetime, end: datetime) -> pa.Table:
    """As sinks.sink.Sink.rows."""
    return db.sql(
        "SELECT * REPLACE (uuid::VARCHAR AS uuid, properties::VARCHAR AS properties, "
        "person_properties::VARCHAR AS person_properties) FROM events "
        'WHERE project_id = ? AND "timestamp" >= ? AND "timestamp" < ? '
        'ORDER BY "timestamp", uuid::VARCHAR, event, distinct_id',
        params=[project_id, start, end],
    ).to_arrow_table()


@contextmanager
def refusals() -> Iterator[None]:
    """DuckDB's refusal of a user's SQL as BadQuery."""
    try:
        yield
    except duckdb.Error as exc:
        # DuckDB's first line says what; the rest draws it.
        said = str(exc).split("\n\n")[0].replace("\n", " ")
        raise errors.BadQuery(said, hint="" if isinstance(exc, duckdb.ParserException) else TABLES) from exc


def results(db: duckdb.DuckDBPyConnection, sql: str, *, alone: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """The result of each query in a user's *sql*, to be read before the next; of SQL without any that of the last statement.

    Raises BadQuery for text without SQL, and before anything is done for several queries where one has to be *alone*.
    """
    statements = duckdb.extract_statements(sql)
    if not statements:
        raise errors.BadQuery("no query", hint=TABLES)
    rows = duckdb.ExpectedResultType.QUERY_RESULT
    queries = [number for number, one in enumerate(statements) if one.expected_result_type[0] == rows]
    if alone and len(queries) > 1:
        raise errors.BadQuery(
            f"{len(queries)} queries at once, where the result of one is written",
            hint="ask one at a time, or as a table: that shows all",
        )
    for number, statement in enumerate(statements):
        result = db.execute(statement)
        if number in (queries or [len(statements) - 1]):
            yield result


def audit(
    db: duckdb.DuckDBPyConnection, project_id: int, stream: str, start: datetime, end: datetime
) -> dict[datetime | None, Holding]:
    """As sinks.sink.Sink.audit."""
    asked = {"project": project_id, "stream": stream, "start": start, "end": end}
    return {
        window_start.astimezone(UTC) if window_start else None: Holding(rows, digest)
        for window_start, rows, digest in db.execute(AUDIT, asked).fetchall()
    }
