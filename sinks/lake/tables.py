"""Tables beside the events in a lake: an object each, read and replaced whole; its footer says what Parquet does not."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sinks import errors
from sinks.destination import HISTORIES, Rows, Table
from sinks.lake import window_file
from sinks.objects.base import Changed, Exists, Found, Missing, Objects

GROUP_BYTES = 16 * 2**20
UNREADABLE_HINT = "bring it back from a backup, or delete it"


def unreadable(objects: Objects, path: str) -> str:
    """What is said of a table that is there and cannot be read."""
    return f"{objects.name}: {path} cannot be read"


def read(objects: Objects, name: str) -> Table | None:
    """As sinks.destination.Destination.table."""
    try:
        data, etag = objects.get(table_path(name))
    except Missing:
        return None
    try:
        return Table(window_file.read(data), etag)
    except window_file.Unreadable as exc:
        said = unreadable(objects, table_path(name))
        raise errors.TableUnreadable(said, hint=UNREADABLE_HINT, version=etag) from exc


def notes(json: Sequence[str], views: Mapping[str, str]) -> window_file.TableNotes:
    """What a footer says of a version: JSON is text in Parquet, and views are made where the lake is queried. Its id makes
    two versions of the same rows two."""
    return window_file.TableNotes(uuid.uuid4().hex, list(json), dict(views))


def replace(
    objects: Objects, name: str, rows: Rows, noted: window_file.TableNotes, *, version: str, spool: Path
) -> None:
    """As sinks.destination.Destination.replace. Waits in *spool*; memory: a row group."""
    reader = rows.to_reader() if isinstance(rows, pa.Table) else rows()
    schema = reader.schema.with_metadata({window_file.KEY: msgspec.json.encode(noted)})
    with errors.writing(spool), tempfile.NamedTemporaryFile(dir=spool, suffix=".parquet") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in _groups(reader):
                writer.write_table(group.cast(schema))
        file.flush()
        try:
            objects.put(table_path(name), Path(file.name), create=not version, match=version or None)
        except (Exists, Changed) as exc:
            raise errors.GenerationConflict(f"table {name}", expected=0, found=1) from exc


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The rows by row groups: large enough to be read quickly, small enough to be held."""
    waiting: list[pa.RecordBatch] = []
    for batch in reader:
        waiting.append(batch)
        if (
            sum(len(one) for one in waiting) >= window_file.ROWS_PER_GROUP
            or sum(one.nbytes for one in waiting) >= GROUP_BYTES
        ):
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def listed(objects: Objects) -> dict[str, Found]:
    """The objects of all of them, by name."""
    there = {}
    for place in ("exports", *HISTORIES):
        for one in objects.list(place):
            name = named(one.path)
            if name is not None:
                there[name] = one
    return there


def named(path: str) -> str | None:
    """The table whose object is at *path*; None for any other object."""
    name = "exports" if path == table_path("exports") else path.rpartition("/")[2].removesuffix(".parquet")
    return name if path == table_path(name) else None


def found(objects: Objects) -> dict[str, tuple[str, window_file.TableNotes | None]]:
    """All of them, by name: where they are, and what their footers say; None where that cannot be read."""
    there: dict[str, tuple[str, window_file.TableNotes | None]] = {}
    for name, one in listed(objects).items():
        notes = None
        with suppress(window_file.Unreadable):
            notes = window_file.read_end(objects, one, window_file.read_notes)
        there[name] = one.path, notes
    return there


def table_path(name: str) -> str:
    """The object of a table beside the events (docs/lake.md)."""
    if name == "exports":
        return "exports/assets.parquet"
    if name in HISTORIES:
        return f"{name}/{name}.parquet"
    return f"exports/{'tables' if re.fullmatch(r'export_[0-9]+_[0-9]+', name) else 'snapshots'}/{name}.parquet"
