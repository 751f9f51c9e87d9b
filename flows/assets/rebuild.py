"""`hedgerow sync exports --rebuild`: tables of exports made anew from the contents that are kept, by the rules of today.

PostHog is not asked: what it has let expire is made anew, too. A content that is not the one that was landed makes no table.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import partial

import pyarrow as pa

from flows.assets import contents, derived
from flows.assets.growing import Written
from flows.assets.synced import Synced
from flows.assets.tables import named, put_table, replaced, table_of
from flows.runs.catalog import EXPORTS
from sinks.destination import Destination
from sinks.errors import TableUnreadable
from transforms import exports as export_rows
from transforms.blocks import Blocks
from transforms.exports import Row


def rebuild(sink: Destination, done: Synced, growing: Container[str]) -> None:
    """Make the tables of a project's kept contents anew. *growing*: names of the settings' snapshots.

    A snapshot's contents go into its growing table only: what an earlier version made of each by itself is removed. A
    table whose content makes none any more stays, and is named.
    """
    held = sink.table(EXPORTS)
    rows = export_rows.known(held.rows if held else None, done.project_id)
    there = sink.tables()
    grown: dict[str, list[pa.Table]] = {}
    for row in sorted(rows.values(), key=lambda row: (row["created_at"] is not None, row["created_at"], row["id"])):
        if row["content_sha256"] is None:
            continue
        own, snapshot = f"export_{done.project_id}_{row['id']}", derived.snapshot_of(row)
        if snapshot is not None and snapshot not in growing and not _grows(sink, snapshot, there):
            continue
        made = _made(sink, row, done, snapshot=snapshot)
        if made is None:
            continue
        if snapshot is None:
            with named(done, f"table {own} was not made anew"):
                put_table(sink, done.project_id, own, lambda old, made=made: made)  # type: ignore[misc]
                done.rebuilt += 1
        else:
            with named(done, f"snapshot {snapshot} was not made anew of export {row['id']}"):
                at = row["created_at"] or row["_loaded_at"]
                part = export_rows.snapshot(made.table(), at=at, project_id=done.project_id, asset_id=row["id"])
                grown.setdefault(snapshot, []).append(part)
                if own in there:
                    sink.drop(own, views=(f"export_{row['id']}",))
        _count(sink, row, made)
    for name, parts in grown.items():
        with named(done, f"snapshot {name} was not made anew"):
            written = Written(sink, done.project_id)
            change = partial(export_rows.regrown, parts=parts, written=written)
            replaced(sink, name, change, made_of_contents=True)
            done.problems += written.problems(name)
            done.rebuilt += 1


def _grows(sink: Destination, name: str, there: Container[str]) -> bool:
    """Whether *name* is the table of a snapshot that is in the settings no more."""
    if name not in there or re.fullmatch(r"export_\d+_\d+", name):
        return False
    try:
        held = sink.table(name)
    except TableUnreadable:  # an export was ordered for it, so it is one
        return True
    return held is not None and held.rows.column_names[:2] == list(export_rows.SNAPSHOT[:2])


def _made(sink: Destination, row: Row, done: Synced, *, snapshot: str | None) -> Blocks | None:
    """The table of the row's content, once its bytes are the ones that were landed."""
    try:
        with contents.as_landed(sink, row) as path:
            return table_of(row["id"], row["export_format"], path, done, snapshot=snapshot)
    except contents.NotAsLanded as exc:
        done.problems.append(f"the content of export {row['id']} makes no table: {exc} (hedgerow verify --repair)")
        return None


def _count(sink: Destination, row: Row, made: Blocks) -> None:
    """Say in `exports` how many rows the table has, where it said another number."""
    if row["content_rows"] != made.num_rows:
        counted = row | {"content_rows": made.num_rows}
        replaced(sink, EXPORTS, lambda old: export_rows.updated(old, [counted]), json=export_rows.JSON)
