"""SQL on a lake: the same names as in a DuckDB file, over the Parquet files as they are.

DuckDB reads S3 by its extension httpfs, which cannot always be had (facts/stack.md §3). So hedgerow gives it the lake's
objects as a file system of its own; the views are the same with httpfs, and with it they work in any DuckDB.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa

from sinks import errors
from sinks.destination import HISTORIES
from sinks.entries import FACTS, Entry
from sinks.lake import damage
from sinks.lake.bookkeeping import changes_sql, quarantine_sql, runs_sql
from sinks.lake.journal import HOME
from sinks.lake.statements import events_sql, named, said_of, secret_sql, table_sql, unreadable_sql, windows_sql
from sinks.lake.window_file import TableNotes
from sinks.objects.base import Objects
from sinks.objects.s3 import S3Objects
from sinks.sink import Change, Run

WHOLE_BYTES = 4 * 2**20
Tables = Mapping[str, tuple[str, TableNotes | None]]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a lake holds beside its events: the ledger's entries, the rejects of each that has any (or what is said where
    these cannot be read), and its histories.
    *tables*: by name, each with its object's path and what its footer says, None where it cannot be read."""

    entries: Sequence[Entry]
    rejects: Sequence[tuple[Entry, pa.Table]] | str
    runs: Sequence[Run]
    changes: Sequence[Change]
    tables: Tables


@contextmanager
def connected(objects: Objects, held: Contents) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory with the tables of a DuckDB file as views and tables.

    Raises DestinationUnusable where a query asks for what cannot be read.
    """
    with reading(objects, ":memory:") as db, damage.told(objects, _fill(db, objects, held)):
        yield db


def _fill(db: duckdb.DuckDBPyConnection, objects: Objects, held: Contents) -> list[str]:
    """Make views and tables; what is said of those that cannot be read."""
    db.execute("SET TimeZone = 'UTC'")
    db.execute("CREATE SCHEMA hedgerow")
    tables = {
        "windows": _windows(held.entries),
        "runs": _runs(held.runs),
        "changes": _changes(held.changes),
        "quarantine": _quarantine([] if isinstance(held.rejects, str) else held.rejects),
    }
    for name, table in tables.items():
        db.register("given", table)
        db.execute(f"CREATE TABLE hedgerow.{name} AS SELECT * FROM given")
        db.unregister("given")
    views = {"events": events_sql(objects, empty=not held.entries)}
    views |= {named(name): select for name, select in table_views(objects, held.tables).items()}
    said = unread(objects, held.tables)
    if isinstance(held.rejects, str):
        db.execute("DROP TABLE hedgerow.quarantine")
        views["hedgerow.quarantine"] = unreadable_sql(held.rejects)
        said.append(held.rejects)
    return said + damage.made(db, objects, views)[1]


def unread(objects: Objects, tables: Tables) -> list[str]:
    """What is said of those of *tables* that cannot be read."""
    return [said_of(objects, path) for path, notes in tables.values() if notes is None]


def table_views(objects: Objects, tables: Tables) -> dict[str, str]:
    """Views over the tables beside the events, and those that were made with them, in the order in which they can be made.

    A table that cannot be read does not say its views: of an export it is the one that is short for it, of a list with
    history they are known.
    """
    views = {name: table_sql(objects, path, notes) for name, (path, notes) in tables.items()}
    made = [notes.views for _, notes in tables.values() if notes is not None]
    silent = [(name, re.fullmatch(r"export_\d+_(\d+)", name)) for name, (_, notes) in tables.items() if notes is None]
    short = {f"export_{found[1]}": f"FROM {named(name)}" for name, found in silent if found}
    short |= {view: f"FROM {named(name)}" for name, _ in silent for view in HISTORIES.get(name, ())}
    return views | short | {name: select for some in made for name, select in some.items()}


def attach(
    objects: Objects, output: Path, tables: Tables, *, empty: bool, storage_version: str
) -> tuple[str, list[str]]:
    """Write a DuckDB file with the views, replacing one that was there; the SQL that does the same elsewhere, and what is
    said of what cannot be read.

    *tables*: those that are there now; *empty*: no window has landed yet. *storage_version*: the DuckDB that can read the
    file. No credentials go into it.
    Raises DestinationUnusable.
    """
    views = {"events": events_sql(objects, empty=empty)}
    noted = any(True for _ in objects.list(f"{HOME}/journal"))
    if not empty:
        rejected = any(True for _ in objects.list(f"{HOME}/quarantine"))
        views["hedgerow.windows"] = windows_sql(objects, noted=noted)
        views["hedgerow.changes"] = changes_sql(objects)
        views["hedgerow.quarantine"] = quarantine_sql(objects, empty=not rejected)
    views["hedgerow.runs"] = runs_sql(objects, noted=noted)
    views |= {named(name): select for name, select in table_views(objects, tables).items()}
    statements = ["CREATE SCHEMA IF NOT EXISTS hedgerow"]
    made = output.with_name(f".new-{output.name}")  # DuckDB names a database after its file: never hedgerow
    made.unlink(missing_ok=True)
    _check_replaceable(output)
    try:
        with reading(objects, str(made), storage_version=storage_version) as db:
            db.execute(statements[0])
            selects, damaged = damage.made(db, objects, views)
            statements += [f"CREATE OR REPLACE VIEW {name} AS\n{select}" for name, select in selects.items()]
            db.execute("CHECKPOINT")
        made.replace(output)
    except (duckdb.Error, OSError) as exc:
        said = str(exc).split("\n\n")[0].replace("\n", " ")
        raise errors.DestinationUnusable(
            f"cannot write {output}: {said}", hint="check path, permissions and disk"
        ) from exc
    finally:
        made.unlink(missing_ok=True)
    return secret_sql(objects) + ";\n".join(statements) + ";\n", [*unread(objects, tables), *damaged]


def _check_replaceable(output: Path) -> None:
    """Only views of ours are replaced. Raises DestinationUnusable for anything else."""
    if not output.exists():
        return
    reason = "it holds tables, or views of somebody else"
    try:
        with duckdb.connect(str(output), read_only=True) as db:
            tables = db.execute("SELECT count(*) FROM duckdb_tables()").fetchone()
            views = db.execute(
                "SELECT count(*) FROM duckdb_views() WHERE NOT internal AND view_name = 'events' "
                "AND 'hedgerow' IN (SELECT schema_name FROM duckdb_schemas() WHERE NOT internal)"
            ).fetchone()
        if tables == (0,) and views == (1,):
            return
    except duckdb.Error:
        reason = "it is no DuckDB file, or in use"
    raise errors.DestinationUnusable(
        f"{output} was not written by hedgerow attach: {reason}", hint="give another --output; nothing was changed"
    )


@contextmanager
def reading(objects: Objects, file: str, *, storage_version: str = "latest") -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that can read the lake without httpfs. *storage_version*: of a file that is made."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "storage_compatibility_version": storage_version,
    }
    with duckdb.connect(file, config=config) as db:
        if isinstance(objects, S3Objects):
            db.register_filesystem(_Bucket(objects))
            try:
                yield db
            finally:
                db.unregister_filesystem("s3")
        else:
            yield db


class _Bucket(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """The lake's objects for DuckDB, under their s3:// addresses. Read-only."""

    protocol = "s3"
    cachable = False

    def __init__(self, objects: S3Objects) -> None:
        super().__init__()
        self._objects = objects
        self._sizes: dict[str, int] = {}

    def _path(self, address: str) -> str:
        return address.removeprefix(self._objects.name).lstrip("/")

    def glob(self, path: str, **options: Any) -> list[str]:
        pattern = self._path(path)
        found = {}
        for one in self._objects.list(pattern.partition("/")[0]):
            if fnmatchcase(one.path, pattern.replace("**/", "*")):
                found[one.path] = one.size
        self._sizes |= found
        return [f"{self._objects.name}/{name}" for name in sorted(found)]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        name = self._path(path)
        if name not in self._sizes:
            found = self._objects.head(name)
            if found is None:
                raise FileNotFoundError(path)
            self._sizes[name] = found.size
        return {"name": path, "size": self._sizes[name], "type": "file"}

    def modified(self, path: str) -> datetime:
        return datetime(2000, 1, 1, tzinfo=UTC)

    def open(self, path: str, mode: str = "rb", **options: Any) -> io.BufferedIOBase:
        if self.info(path)["size"] <= WHOLE_BYTES:
            return io.BytesIO(self._objects.get(self._path(path))[0])
        return self._objects.open(self._path(path))


TIME = pa.timestamp("us", "UTC")


def _windows(entries: Sequence[Entry]) -> pa.Table:
    """The ledger as the DuckDB file's table of the same name has it."""
    schema = pa.schema(
        [
            ("project_id", pa.int64()),
            ("stream", pa.string()),
            *((name, TIME) for name in ("window_start", "window_end", "covered_start", "covered_end")),
            ("state", pa.string()),
            ("generation", pa.int64()),
            ("read_at", TIME),
            ("source_rows", pa.int64()),
            ("source_digest", pa.string()),
            ("landed_rows", pa.int64()),
            ("landed_digest", pa.string()),
            *((name, pa.int64()) for name in ("quarantined_rows", "suppressed_rows", "copies")),
            ("probed_at", TIME),
            ("probed", pa.string()),
            ("agreed", pa.string()),
            ("agreed_until", TIME),
            ("noted", pa.int64()),
            ("tried_at", TIME),
            *((f"{name}_at", TIME) for name in FACTS),
        ]
    )
    rows = [
        (
            *(one.project_id, one.stream, one.start, one.end, one.covered_start, one.covered_end),
            *(str(one.shown), one.generation, one.read_at),
            *(one.tally.source_rows, one.tally.source_digest, one.tally.landed_rows, one.tally.landed_digest),
            *(one.tally.quarantined_rows, one.tally.suppressed_rows, one.tally.copies),
            *((one.probed.at, one.probed.values) if one.probed else (None, None)),
            *((one.agreed.values, one.agreed.until) if one.agreed else (None, None)),
            *(one.noted, one.tried_at),
            *(getattr(one.facts, name) for name in FACTS),
        )
        for one in entries
    ]
    return _table(rows, schema)


def _runs(runs: Sequence[Run]) -> pa.Table:
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("run_id", "command")),
            ("project_id", pa.int64()),
            ("stream", pa.string()),
            *((name, TIME) for name in ("started_at", "finished_at")),
            ("outcome", pa.string()),
            *((name, pa.int64()) for name in ("windows", "rows", "requests")),
            ("waited_s", pa.float64()),
            ("error", pa.string()),
        ]
    )
    return _table([tuple(getattr(run, name) for name in schema.names) for run in runs], schema)


def _changes(changes: Sequence[Change]) -> pa.Table:
    schema = pa.schema(
        [
            ("project_id", pa.int64()),
            ("stream", pa.string()),
            *((name, TIME) for name in ("window_start", "found_at")),
            *((name, pa.int64()) for name in ("late", "deleted", "changed")),
            ("lateness_s", pa.float64()),
        ]
    )
    rows = [
        (
            *(one.project_id, one.stream, one.window_start, one.found_at),
            *(one.changes.late, one.changes.deleted, one.changes.changed, one.changes.lateness.total_seconds()),
        )
        for one in changes
    ]
    return _table(rows, schema)


def _quarantine(found: Sequence[tuple[Entry, pa.Table]]) -> pa.Table:
    schema = pa.schema(
        [
            ("project_id", pa.int64()),
            ("stream", pa.string()),
            *((name, TIME) for name in ("window_start", "at")),
            *((name, pa.string()) for name in ("reason", "text")),
            ("read_at", TIME),
        ]
    )
    rows = [
        (entry.project_id, entry.stream, entry.start, row["at"], row["reason"], row["text"], entry.read_at)
        for entry, rejects in found
        for row in rejects.to_pylist()
    ]
    return _table(rows, schema)


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
