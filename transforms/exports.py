"""Exported assets as rows of the table `exports`, and their contents as tables (contract.md §4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms import columns, tables, texts
from transforms.blocks import Blocks, Leave, NotTabular

TIME = pa.timestamp("us", "UTC")
EXPORTS = pa.schema(
    [
        pa.field("project_id", pa.int64(), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("export_format", pa.string()),
        pa.field("filename", pa.string()),
        pa.field("dashboard", pa.int64()),
        pa.field("insight", pa.int64()),
        pa.field("export_context", pa.string()),
        pa.field("created_at", TIME),
        pa.field("expires_after", TIME),
        pa.field("has_content", pa.bool_()),
        pa.field("exception", pa.string()),
        pa.field("content_path", pa.string()),
        pa.field("content_sha256", pa.string()),
        pa.field("content_bytes", pa.int64()),
        pa.field("content_rows", pa.int64()),
        pa.field("possibly_cut", pa.bool_()),
        pa.field("_loaded_at", TIME, nullable=False),
    ]
)
JSON = ("export_context",)
SNAPSHOT = ("_snapshot_at", "_export_id", "_project_id")
CONTENT = ("content_path", "content_sha256", "content_bytes", "content_rows", "possibly_cut")

Row = dict[str, Any]
Key = tuple[int, int]
"""Project and id of an export."""
Tables = Callable[[Sequence[pa.Table]], Sequence[pa.Table]]
"""Tables to be joined → the same, where a column of theirs becomes text with the texts that its values were written as."""
READERS = tables.READERS
"""Formats whose contents may be tables."""


def blocks_of(export_format: str, content: Path) -> Blocks | None:
    """The table that a content is, in blocks, which wait beside it; None for formats that hold none. Raises NotTabular,
    whatever is wrong with it."""
    reader = READERS.get(export_format)
    if reader is None:
        return None
    if content.stat().st_size > tables.LARGEST_BYTES:
        raise NotTabular("it is too large", broken=False)
    try:
        return reader(content, content.parent)
    except (NotTabular, OSError):
        raise
    except Exception as exc:  # one content must not end the run: what lies behind it would expire
        raise NotTabular(f"it cannot be read: {type(exc).__name__}: {exc}"[:300]) from exc
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":  # what libraries in Rust raise, and no Exception
            raise
        raise NotTabular(f"it cannot be read: {exc}"[:300]) from exc


def row_of(
    shown: Mapping[str, Any],
    *,
    project_id: int,
    created_at: datetime | None,
    expires_after: datetime | None,
    has_content: bool,
    loaded_at: datetime,
) -> Row:
    """An asset as PostHog shows it, without its content. *shown*: the row; times and has_content as they were typed."""
    context = shown.get("export_context")
    return {
        "project_id": project_id,
        "id": shown["id"],
        "export_format": _text(shown.get("export_format")),
        "filename": _text(shown.get("filename")),
        "dashboard": _number(shown.get("dashboard")),
        "insight": _number(shown.get("insight")),
        "export_context": None if context is None else texts.dumps(context),
        "created_at": created_at,
        "expires_after": expires_after,
        "has_content": has_content,
        "exception": _text(shown.get("exception")),
        **dict.fromkeys(CONTENT),
        "_loaded_at": loaded_at,
    }


def with_content(row: Row, *, path: str, sha256: str, size: int, rows: int | None, possibly_cut: bool) -> Row:
    """The row once its content is kept."""
    return row | dict(zip(CONTENT, (path, sha256, size, rows, possibly_cut), strict=True))


def known(table: pa.Table | None, project_id: int) -> dict[int, Row]:
    """The landed rows of a project by id."""
    rows: list[Row] = table.to_pylist() if table is not None else []
    return {row["id"]: row for row in rows if row["project_id"] == project_id}


def differs(row: Row, before: Row | None) -> bool:
    """Whether what PostHog shows of an asset has changed, content aside."""
    return before is None or any(row[name] != before[name] for name in row if name not in (*CONTENT, "_loaded_at"))


def merged(held: Row | None, read: Row) -> Row:
    """The row of an asset of which *held* is landed, after *read*, which another run may have overtaken.

    An asset gets its content once and keeps it: a reading without one is older than one with it. A content that is
    stored is never forgotten, because PostHog may have let it expire.
    """
    if held is None:
        return read
    newer = held if held["has_content"] and not read["has_content"] else read
    stored = held if read["content_sha256"] is None else read
    return newer | {name: stored[name] for name in CONTENT}


def updated(table: pa.Table | None, rows: Sequence[Row]) -> pa.Table:
    """The table with *rows* merged into those of the same project and id; in order of both."""
    held: list[Row] = table.to_pylist() if table is not None else []
    by_key: dict[tuple[int, int], Row] = {}
    for row in (*held, *rows):
        key = row["project_id"], row["id"]
        by_key[key] = merged(by_key.get(key), row)
    ordered = [by_key[key] for key in sorted(by_key)]
    return pa.Table.from_pylist(ordered, schema=EXPORTS)


def snapshot(content: pa.Table, *, at: datetime, project_id: int, asset_id: int) -> pa.Table:
    """A content as rows of a growing table: when it was taken, and from which export."""
    names = columns.names([*SNAPSHOT, *content.column_names], 0)
    made = [
        pa.array([at] * content.num_rows, TIME),
        pa.array([asset_id] * content.num_rows, pa.int64()),
        pa.array([project_id] * content.num_rows, pa.int64()),
        *content.columns,
    ]
    return pa.table(made, names=names)


def left_in(names: Collection[str]) -> Leave:
    """Which columns of a content stay texts, so that *names* (folded) do in the growing table that snapshot makes of it."""

    def leave(given: Sequence[str]) -> list[bool]:
        grown = columns.names([*SNAPSHOT, *given], 0)[len(SNAPSHOT) :]
        return [columns.folded(name) in names for name in grown]

    return leave


def runs(table: pa.Table, project_id: int) -> dict[Key, pa.Table]:
    """The rows of a growing table by their exports, in order; those that name no project are of *project_id*."""
    projects = pa.chunked_array([pa.repeat(project_id, table.num_rows)])
    if SNAPSHOT[2] in table.column_names:
        projects = pc.fill_null(table[SNAPSHOT[2]], project_id)
    ids = table[SNAPSHOT[1]]
    keys = pa.table([projects, ids], ["project", "id"]).group_by(["project", "id"], use_threads=False).aggregate([])
    return {
        (project, one): table.filter(pc.and_(pc.equal(projects, project), pc.equal(ids, one)))
        for project, one in zip(keys["project"].to_pylist(), keys["id"].to_pylist(), strict=True)
    }


def of_project(table: pa.Table, project_id: int) -> pa.ChunkedArray | pa.Array:
    """Which rows of a growing table are a project's; those that name none are, made before projects were told apart."""
    if SNAPSHOT[2] not in table.column_names:
        return pa.repeat(True, table.num_rows)
    return pc.fill_null(pc.equal(table[SNAPSHOT[2]], project_id), True)


def grown(table: pa.Table | None, rows: pa.Table, written: Tables = list) -> pa.Table | None:
    """The growing table with *rows*, which snapshot made of one export; None where it holds that export already."""
    if table is None:
        return rows
    if set(_exports_of(rows)) & set(_exports_of(table)):
        return None
    return columns.joined(*written([table, rows]))


def regrown(table: pa.Table | None, parts: Sequence[pa.Table], written: Tables = list) -> pa.Table:
    """The growing table with the exports of *parts*, which snapshot made of one each, made anew. Rows of others stay."""
    made = pa.chunked_array([part[SNAPSHOT[1]].slice(0, 1).combine_chunks() for part in parts])
    rest = table
    if table is not None:
        ours = pc.is_in(table[SNAPSHOT[1]], made)
        if SNAPSHOT[2] in table.column_names:
            projects = pa.chunked_array([part[SNAPSHOT[2]].slice(0, 1).combine_chunks() for part in parts])
            of_project = pc.is_in(table[SNAPSHOT[2]], projects)
            ours = pc.and_(ours, pc.or_(of_project, pc.is_null(table[SNAPSHOT[2]])))
        left = table.filter(pc.invert(ours))
        rest = left if left.num_rows else None
    return columns.joined(*written([one for one in (rest, *parts) if one is not None]))


def _exports_of(table: pa.Table) -> Iterable[Key]:
    """Project and id of the export of each row; none of tables made before projects were told apart."""
    if "_project_id" not in table.column_names:
        return ()
    return zip(table["_project_id"].to_pylist(), table["_export_id"].to_pylist(), strict=True)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None
