"""Tables beside the events in a lake: an object each, read and replaced whole; its footer says what Parquet does not."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from sinks import errors
from sinks.destination import HISTORIES, Table
from sinks.lake import window_file
from sinks.objects.base import Changed, Exists, Found, Missing, Objects

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


def replace(
    objects: Objects, name: str, rows: pa.Table, *, version: str, json: Sequence[str], views: Mapping[str, str]
) -> None:
    """As sinks.destination.Destination.replace."""
    buffer = pa.BufferOutputStream()
    # JSON is text in Parquet, and views are made where the lake is queried: the footer says what they are. Its id
    # makes two versions of the same rows two.
    notes = window_file.TableNotes(uuid.uuid4().hex, list(json), dict(views))
    pq.write_table(window_file.noted(rows, notes), buffer, compression="zstd")
    try:
        objects.put(table_path(name), buffer.getvalue().to_pybytes(), create=not version, match=version or None)
    except (Exists, Changed) as exc:
        raise errors.GenerationConflict(f"table {name}", expected=0, found=1) from exc


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
