"""Statements that make a file ready for a stream, inside the transaction of sink.py."""

from __future__ import annotations

import duckdb

from sinks import errors
from sinks.duckdb_file import tables
from sinks.duckdb_file.connection import one
from sinks.duckdb_file.known import count
from sinks.duckdb_file.landing import read_entries, rewrite
from sinks.duckdb_file.schema import migrate
from sinks.entries import Entry, Rebuild
from sinks.ledger import follows


def prepare(
    db: duckdb.DuckDBPyConnection,
    name: str,
    project_id: int,
    stream: str,
    *,
    host: str,
    event_filter: str,
    rebuild: bool,
) -> None:
    """What sinks.sink.Sink.prepare says, inside the running transaction of the file *name*."""
    migrate(db, name)
    known = one(db, "SELECT value FROM hedgerow.meta WHERE key = ?", [f"host:{project_id}"])
    if known is None:
        db.execute("INSERT INTO hedgerow.meta VALUES (?, ?)", [f"host:{project_id}", host])
    elif known[0] != host:
        raise errors.HostChanged(
            f"project {project_id} in {name} comes from {known[0]}, not from {host}",
            hint="use another destination for another PostHog host",
        )
    row = one(db, "SELECT filter FROM hedgerow.streams WHERE project_id = ? AND stream = ?", [project_id, stream])
    if row is None:
        if stream != "events":
            tables.check_free(db, stream)
        db.execute("INSERT INTO hedgerow.streams VALUES (?, ?, ?, NULL)", [project_id, stream, event_filter])
    elif row[0] != event_filter and not rebuild:
        raise errors.FilterChanged(
            f"stream {stream!r} of project {project_id} was landed with the event filter {row[0] or 'none'}, "
            f"now it is {event_filter or 'none'}",
            hint="go back to the old filter, or land everything again with --rebuild",
        )
    if rebuild:
        db.execute(
            "UPDATE hedgerow.streams SET filter = ? WHERE project_id = ? AND stream = ?",
            [event_filter, project_id, stream],
        )
        stale = [follows(entry, Rebuild()) for entry in read_entries(db, project_id, stream)]
        rewrite(db, [entry for entry in stale if isinstance(entry, Entry)])
        count(db, (project_id, stream))
