"""Tables of a DuckDB file, and what older formats are given."""

from __future__ import annotations

import duckdb

from sinks import errors
from sinks.duckdb_file.connection import one
from sinks.entries import FACTS
from sinks.sink import FORMAT

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS hedgerow;
CREATE TABLE IF NOT EXISTS hedgerow.meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS hedgerow.streams (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, filter VARCHAR NOT NULL, mark TIMESTAMPTZ);
CREATE TABLE IF NOT EXISTS hedgerow.steps (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, date DATE NOT NULL, step_s INTEGER NOT NULL,
    unchecked BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS hedgerow.windows (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, window_start TIMESTAMPTZ NOT NULL, window_end TIMESTAMPTZ NOT NULL,
    covered_start TIMESTAMPTZ NOT NULL, covered_end TIMESTAMPTZ NOT NULL, state VARCHAR NOT NULL, generation BIGINT NOT NULL,
    read_at TIMESTAMPTZ NOT NULL, source_rows BIGINT NOT NULL, source_digest VARCHAR NOT NULL, landed_rows BIGINT NOT NULL,
    landed_digest VARCHAR NOT NULL, quarantined_rows BIGINT NOT NULL, suppressed_rows BIGINT NOT NULL, copies BIGINT NOT NULL,
    base VARCHAR);
CREATE TABLE IF NOT EXISTS hedgerow.quarantine (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, window_start TIMESTAMPTZ NOT NULL, "at" TIMESTAMPTZ,
    reason VARCHAR NOT NULL, text VARCHAR NOT NULL, read_at TIMESTAMPTZ NOT NULL);
CREATE TABLE IF NOT EXISTS hedgerow.runs (
    run_id VARCHAR NOT NULL, command VARCHAR NOT NULL, project_id BIGINT NOT NULL, stream VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ NOT NULL, outcome VARCHAR NOT NULL, windows BIGINT NOT NULL,
    rows BIGINT NOT NULL, requests BIGINT NOT NULL, waited_s DOUBLE NOT NULL, error VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    project_id BIGINT NOT NULL, uuid UUID NOT NULL, event VARCHAR NOT NULL, distinct_id VARCHAR NOT NULL, person_id VARCHAR,
    properties JSON NOT NULL USING COMPRESSION zstd, person_properties JSON, elements_chain VARCHAR USING COMPRESSION zstd,
    "timestamp" TIMESTAMPTZ NOT NULL, created_at TIMESTAMPTZ, _loaded_at TIMESTAMPTZ NOT NULL);
"""
"""Format 1."""
EVENTS = (
    *("project_id", "uuid", "event", "distinct_id", "person_id", "properties", "person_properties", "elements_chain"),
    *("timestamp", "created_at", "_loaded_at"),
)
ADDED = """
ALTER TABLE hedgerow.windows ADD COLUMN IF NOT EXISTS probed_at TIMESTAMPTZ;
ALTER TABLE hedgerow.windows ADD COLUMN IF NOT EXISTS probed VARCHAR;
CREATE TABLE IF NOT EXISTS hedgerow.changes (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, window_start TIMESTAMPTZ NOT NULL, found_at TIMESTAMPTZ NOT NULL,
    late BIGINT NOT NULL, deleted BIGINT NOT NULL, changed BIGINT NOT NULL, lateness_s DOUBLE NOT NULL);
"""
"""What format 2 adds. Every format only adds: columns that may be null, tables."""
ADDED_3 = "\n".join(
    [
        *(
            f"ALTER TABLE hedgerow.windows ADD COLUMN IF NOT EXISTS {column};"
            for column in (
                "agreed VARCHAR",
                "agreed_until TIMESTAMPTZ",
                "noted BIGINT",
                "tried_at TIMESTAMPTZ",
                *(f"{name}_at TIMESTAMPTZ" for name in FACTS),
            )
        ),
        "CREATE TABLE IF NOT EXISTS hedgerow.marks ("
        "project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, mark TIMESTAMPTZ NOT NULL);",
        "CREATE TABLE IF NOT EXISTS hedgerow.removals (project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, "
        "window_start TIMESTAMPTZ NOT NULL, removed_at TIMESTAMPTZ NOT NULL, rows BIGINT NOT NULL);",
    ]
)
"""What format 3 adds: facts beside the state, the number of the last note, marks, and what the deletion guard counts."""
COLUMNS = (
    "project_id, stream, window_start, window_end, covered_start, covered_end, state, generation, read_at, source_rows, "
    "source_digest, landed_rows, landed_digest, quarantined_rows, suppressed_rows, copies, base"
)
ADDED_COLUMNS = (
    "probed_at",
    "probed",
    "agreed",
    "agreed_until",
    "noted",
    "tried_at",
    *(f"{name}_at" for name in FACTS),
)
ALL_COLUMNS = f"{COLUMNS}, {', '.join(ADDED_COLUMNS)}"
SINCE = {1: 0, 2: 2}
"""How many of ADDED_COLUMNS each older format has."""


def format_of(db: duckdb.DuckDBPyConnection) -> int:
    """Number of the bookkeeping's format; 0 for a file that has none."""
    query = "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'hedgerow' AND table_name = 'meta'"
    row = one(db, query)
    if not row or not row[0]:
        return 0
    row = one(db, "SELECT value FROM hedgerow.meta WHERE key = 'format'")
    return int(row[0]) if row else 0


def migrate(db: duckdb.DuckDBPyConnection, file: str) -> None:
    """Create the tables of this format; a newer format is refused, an older one is added to.

    Raises DestinationUnusable, before anything is made, for a file in which ours would meet somebody else's tables.
    """
    found = format_of(db)
    if found > FORMAT:
        raise errors.DestinationUnusable(
            f"{file} was written by a newer hedgerow: format {found}, this one knows {FORMAT}", hint="upgrade hedgerow"
        )
    if foreign := _foreign(db) if found else _taken(db):
        raise errors.DestinationUnusable(f"{file} holds {foreign}", hint="choose another file; nothing was changed")
    if found == FORMAT:
        return
    db.execute(SCHEMA)
    db.execute(ADDED)
    db.execute(ADDED_3)
    if found:
        db.execute(
            "INSERT INTO hedgerow.marks SELECT project_id, stream, mark FROM hedgerow.streams WHERE mark IS NOT NULL"
        )
    db.execute("DELETE FROM hedgerow.meta WHERE key = 'format'")
    db.execute("INSERT INTO hedgerow.meta VALUES ('format', ?)", [str(FORMAT)])


def _taken(db: duckdb.DuckDBPyConnection) -> str:
    """What stands where our tables would, in a file without our bookkeeping; empty where nothing does."""
    row = one(
        db,
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = current_database() AND "
        "(lower(table_schema) = 'hedgerow' OR table_schema = 'main' AND lower(table_name) = 'events') ORDER BY ALL",
    )
    if row is None:
        return ""
    return f"a table or view {row[1] if row[0] == 'main' else '.'.join(row)} that is not hedgerow's"


def _foreign(db: duckdb.DuckDBPyConnection) -> str:
    """What is wrong with the table of events beside our bookkeeping; empty where it is ours."""
    query = (
        "SELECT column_name FROM information_schema.columns WHERE table_catalog = current_database() "
        "AND table_schema = 'main' AND lower(table_name) = 'events'"
    )
    there = {str(name) for (name,) in db.execute(query).fetchall()}
    if not there:
        return "hedgerow's bookkeeping, and its table events is gone"
    missing = [name for name in EVENTS if name not in there]
    return f"a table or view events that is not hedgerow's: it has no column {missing[0]}" if missing else ""
