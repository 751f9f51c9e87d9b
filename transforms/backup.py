"""What a copy of a table beside the events makes of the one that the target has: never less, and never an older one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms import columns, exports
from transforms.errors import TransformError

Row = Mapping[str, Any]
ENDS = ("valid_to", "missing_since")
"""What of a row of a history may still change."""


class OtherHistory(TransformError):
    """Neither of two histories is the other's beginning: they are of two lives, and none may replace the other."""


def same(one: pa.Table, other: pa.Table) -> bool:
    """Whether both hold the same columns and rows; a DuckDB file does not keep the order of rows."""
    if one.num_rows != other.num_rows or _columns(one) != _columns(other):
        return False
    if _equal(one, other):
        return True
    order = [(name, "ascending") for name in one.column_names]
    return _equal(one.sort_by(order), other.sort_by(order))


def _columns(table: pa.Table) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in table.schema]


def _equal(one: pa.Table, other: pa.Table) -> bool:
    return all(here.equals(there) for here, there in zip(one.columns, other.columns, strict=True))


def asset(held: exports.Row | None, read: exports.Row) -> exports.Row:
    """The row of an export of which the target *held* one: the later reading, with the content that is kept there."""
    if held is None:
        return read
    older, newer = sorted((held, read), key=lambda row: row["_loaded_at"])
    return exports.merged(older, newer)


def of_project(table: pa.Table, project_id: int) -> pa.Table:
    """The rows of a project."""
    return table.filter(pc.equal(table["project_id"], project_id))


def history(ours: pa.Table | None, theirs: pa.Table, project_id: int) -> pa.Table | None:
    """The target's history once it has the source's rows of a project; None where it has all of them already.

    An older hedgerow's table may lack a column. Raises OtherHistory.
    """
    mine = of_project(theirs, project_id)
    if ours is None:
        return mine
    before = of_project(ours, project_id)
    if _begins(before.to_pylist(), mine.to_pylist()):
        if same(before, mine):
            return None
        others = ours.filter(pc.not_equal(ours["project_id"], project_id))
        return pa.concat_tables([others, mine], promote_options="permissive")
    if _begins(mine.to_pylist(), before.to_pylist()):
        return None
    raise OtherHistory("each has rows that the other has not")


def _begins(first: Sequence[Row], whole: Sequence[Row]) -> bool:
    """Whether *whole* has every row of *first*, as it was before more was known of how long it is valid."""
    found = {(row["id"], row["valid_from"]): row for row in whole}
    return all(_goes_on(row, found.get((row["id"], row["valid_from"]))) for row in first)


def _goes_on(row: Row, later: Row | None) -> bool:
    if later is None or row["valid_to"] not in (None, later["valid_to"]):
        return False
    return all(value == later.get(name) for name, value in row.items() if name not in ENDS)


def snapshot(
    ours: pa.Table | None, theirs: pa.Table, project_id: int, written: exports.Tables = list
) -> tuple[pa.Table | None, list[int]]:
    """The target's growing table with the exports of a project that it lacks, None where it lacks none; and the exports
    of which it has other rows, which stay."""
    mine = theirs.filter(exports.of_project(theirs, project_id))
    here = ours.filter(exports.of_project(ours, project_id)) if ours is not None else mine.slice(0, 0)
    held = {*here[exports.SNAPSHOT[1]].to_pylist()}
    there = list(dict.fromkeys(mine[exports.SNAPSHOT[1]].to_pylist()))
    lacking = [one for one in there if one not in held]
    rows = _of_exports(mine, lacking)
    wanted = None
    if lacking or (ours is None and not theirs.num_rows):
        wanted = columns.joined(*written([one for one in (ours, rows) if one is not None]))
    shared = [one for one in there if one in held]
    if not _differ(_of_exports(here, shared), _of_exports(mine, shared), list):
        return wanted, []
    # A column that has become text on one side only is compared as it was written.
    return wanted, sorted(one for one in shared if _differ(_of_exports(here, [one]), _of_exports(mine, [one]), written))


def _of_exports(table: pa.Table, ids: Sequence[int]) -> pa.Table:
    return table.filter(pc.is_in(table[exports.SNAPSHOT[1]], pa.array(ids, pa.int64())))


def _differ(ours: pa.Table, theirs: pa.Table, written: exports.Tables) -> bool:
    """Whether two readings of the same exports hold other values, in types that hold both."""
    if ours.num_rows != theirs.num_rows:
        return True
    both = columns.joined(*written([ours, theirs]))
    both = both.drop_columns([name for name in (exports.SNAPSHOT[0], exports.SNAPSHOT[2]) if name in both.column_names])
    return not same(both.slice(0, ours.num_rows), both.slice(ours.num_rows))
