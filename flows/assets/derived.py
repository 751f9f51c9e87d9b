"""Tables that are made of kept contents: whether they hold what their export says, and how they are made again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flows.assets import contents, ordering
from flows.assets.growing import Written
from flows.assets.tables import put_table, replaced
from flows.runs.wiring import now
from sinks.destination import Destination
from sinks.errors import DestinationUnusable, TableUnreadable, writing
from transforms import columns
from transforms import exports as export_rows
from transforms import tables as made_of
from transforms.blocks import Blocks, NotTabular


@dataclass(frozen=True, slots=True)
class Derived:
    """A table of an export. *fault*: what is wrong with it, empty where nothing is; *mend*: makes it again, None where it
    cannot, for the reason in *hint*; what it could not bring back, it says."""

    fault: str = ""
    mend: Callable[[], str] | None = None
    hint: str = ""

    def mended(self) -> str:
        """Make it again; why that cannot be, empty where it is done."""
        return self.hint if self.mend is None else self.mend()


def tables(
    sink: Destination, row: export_rows.Row, *, growing: Container[str], there: Container[str]
) -> Iterator[Derived]:
    """The tables that the kept content of *row* is in, each looked at: its own, and that of its snapshot.

    *growing*: names of the snapshots in the settings; *there*: tables of the destination. What is not there is due only
    where the content makes a table, so then, and only then, it is read.
    """
    if row["export_format"] not in export_rows.READERS or row["content_bytes"] > made_of.LARGEST_BYTES:
        return
    name, snapshot = f"export_{row['project_id']}_{row['id']}", snapshot_of(row)
    if name in there:
        yield _own(sink, row, name)
    elif snapshot is None and made(sink, row) is not None:
        yield Derived(f"the table {name} is missing", lambda: _make(sink, row, name))
    if snapshot is not None and snapshot in growing:
        yield _grown(sink, row, snapshot)


def snapshot_of(row: export_rows.Row) -> str | None:
    """The name of the snapshot that the export of *row* was ordered for."""
    return ordering.snapshot_in(row["export_context"])


def made(sink: Destination, row: export_rows.Row) -> Blocks | None:
    """The table of a kept content; None where it is none."""
    with writing(sink.spool_directory), tempfile.NamedTemporaryFile(dir=sink.spool_directory) as file:
        contents.read(sink, row["content_path"], file)
        file.flush()
        try:
            return export_rows.blocks_of(row["export_format"], Path(file.name))
        except NotTabular:
            return None


def _make(sink: Destination, row: export_rows.Row, name: str) -> str:
    table = made(sink, row)
    put_table(sink, row["project_id"], name, lambda old: table)
    return ""


def _own(sink: Destination, row: export_rows.Row, name: str) -> Derived:
    try:
        held = sink.table(name)
        count = held.rows.num_rows if held else 0
        if count == row["content_rows"]:
            return Derived()
        fault = _short(f"the table {name}", count, row)
    except TableUnreadable as exc:
        fault = f"the table {name}: {exc}"
    except DestinationUnusable as exc:
        return Derived(f"the table {name}", None, f"{exc}: {exc.hint}")
    if made(sink, row) is None:  # an earlier version read it otherwise
        return Derived(fault, None, "its content makes no table any more; bring the table back from a backup")
    return Derived(fault, lambda: _make(sink, row, name))


def _grown(sink: Destination, row: export_rows.Row, name: str) -> Derived:
    try:
        held = sink.table(name)
        count = held.rows.filter(_mine(held.rows, row)).num_rows if held else 0
        if count == row["content_rows"]:
            return Derived()
        fault = _short(f"the snapshot {name}", count, row)
    except TableUnreadable as exc:
        fault = f"the snapshot {name}: {exc}"
    table = made(sink, row)
    if table is None:
        return Derived()
    at = row["created_at"] or now()
    rows = export_rows.snapshot(table.table(), at=at, project_id=row["project_id"], asset_id=row["id"])

    written = Written(sink, row["project_id"])

    def change(old: pa.Table | None) -> pa.Table:
        others = [old.filter(pc.invert(_mine(old, row)))] if old is not None else []
        return columns.joined(*written([*others, rows]))

    def mend() -> str:
        replaced(sink, name, change, made_of_contents=True)
        return "; ".join(written.problems(name))

    return Derived(fault, mend)


def _mine(table: pa.Table, row: export_rows.Row) -> pa.ChunkedArray:
    """Which rows of a growing table are of the export of *row*."""
    return pc.and_(
        pc.equal(table[export_rows.SNAPSHOT[1]], row["id"]), export_rows.of_project(table, row["project_id"])
    )


def _short(what: str, count: int, row: export_rows.Row) -> str:
    return f"{what} holds {count:,} of {row['content_rows'] or 0:,} rows of export {row['id']}"
