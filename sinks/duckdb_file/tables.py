"""Tables beside the events in a DuckDB file: read and replaced whole, their versions in `hedgerow.meta`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from sinks import errors
from sinks.destination import Rows, Table
from sinks.duckdb_file.connection import one

VERSION = "SELECT value FROM hedgerow.meta WHERE key = ?"


def names(db: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """As sinks.destination.Destination.tables."""
    start = _key("")
    rows = db.execute("SELECT key FROM hedgerow.meta WHERE starts_with(key, ?) ORDER BY key", [start]).fetchall()
    return tuple(key.removeprefix(start) for (key,) in rows)


def read(db: duckdb.DuckDBPyConnection, name: str) -> Table | None:
    """As sinks.destination.Destination.table."""
    if not _exists(db, name):
        return None
    version = one(db, VERSION, [_key(name)])
    if version is None:
        raise _foreign(name)
    described = db.execute(f"DESCRIBE {_named(name)}").fetchall()
    texts = [_named(row[0]) for row in described if row[1] in ("JSON", "UUID")]
    star = f"* REPLACE ({', '.join(f'{text}::VARCHAR AS {text}' for text in texts)})" if texts else "*"
    return Table(db.sql(f"SELECT {star} FROM {_named(name)}").to_arrow_table(), version[0])


def check_free(db: duckdb.DuckDBPyConnection, name: str) -> None:
    """Whether the table *name* is ours, or may be made. Raises DestinationUnusable."""
    if _exists(db, name) and one(db, VERSION, [_key(name)]) is None:
        raise _foreign(name)


def replace(
    db: duckdb.DuckDBPyConnection,
    name: str,
    rows: Rows,
    *,
    version: str,
    json: Sequence[str],
    views: Mapping[str, str],
) -> None:
    """As sinks.destination.Destination.replace, inside the running transaction."""
    found = one(db, VERSION, [_key(name)])
    if (found[0] if found else "") != version:
        raise errors.GenerationConflict(f"table {name}", expected=0, found=1)
    made = views if found else (name, *views)  # a later version makes views that an earlier one did not
    taken = [wanted for wanted in made if _exists(db, wanted) and not _is_ours(db, wanted, table=name)]
    if taken:
        raise _foreign(taken[0])
    typed = ", ".join(f"{_named(column)}::JSON AS {_named(column)}" for column in json)
    star = f"* REPLACE ({typed})" if typed else "*"
    db.execute("SET threads = 1")  # rows come one after the other: a second thread would hold a row group of its own
    db.register("given", rows if isinstance(rows, pa.Table) else rows())
    db.execute(f"CREATE OR REPLACE TABLE {_named(name)} AS SELECT {star} FROM given")
    db.unregister("given")
    db.execute("DELETE FROM hedgerow.meta WHERE key = ?", [_key(name)])
    db.execute("INSERT INTO hedgerow.meta VALUES (?, ?)", [_key(name), uuid.uuid4().hex])
    for view, select in views.items():
        db.execute(f"CREATE OR REPLACE VIEW {_named(view)} AS {select}")


def drop(db: duckdb.DuckDBPyConnection, name: str, views: Sequence[str]) -> None:
    """As sinks.destination.Destination.drop, inside the running transaction."""
    if one(db, VERSION, [_key(name)]) is None:
        return
    for view in views:
        if _is_ours(db, view, table=name):
            db.execute(f"DROP VIEW {_named(view)}")
    db.execute(f"DROP TABLE IF EXISTS {_named(name)}")
    db.execute("DELETE FROM hedgerow.meta WHERE key = ?", [_key(name)])


def _foreign(name: str) -> errors.DestinationUnusable:
    return errors.DestinationUnusable(
        f"there is a table or view {name} that is not hedgerow's",
        hint="rename it, or choose another name; nothing was changed",
    )


def _is_ours(db: duckdb.DuckDBPyConnection, view: str, *, table: str) -> bool:
    """Whether *view* is one of ours over *table*, of a time before this table."""
    sql = one(db, "SELECT sql FROM duckdb_views() WHERE schema_name = 'main' AND lower(view_name) = lower(?)", [view])
    return sql is not None and table.lower() in str(sql[0]).partition(" AS ")[2].lower()


def _key(name: str) -> str:
    return f"table:{name}"


def _named(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _exists(db: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = (
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'main' AND lower(table_name) = lower(?)"
    )
    return one(db, found, [name]) != (0,)
