"""Exported assets as rows: what two readings of one asset make."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest

from transforms.exports import EXPORTS, TIME, Row, grown, known, regrown, row_of, snapshot, updated, with_content

AT = datetime(2026, 3, 1, tzinfo=UTC)


def read(*, has_content: bool, project_id: int = 1, **more: Any) -> Row:
    shown = {"id": 7, "export_format": "text/csv", "filename": "a.csv"} | more
    return row_of(shown, project_id=project_id, created_at=AT, expires_after=AT, has_content=has_content, loaded_at=AT)


def stored(row: Row) -> Row:
    return with_content(row, path="1/7-a.csv", sha256="ab", size=3, rows=1, possibly_cut=False)


UNREADY = read(has_content=False)
UNFETCHED = read(has_content=True)
FETCHED = stored(UNFETCHED)


@pytest.mark.parametrize("order", [*permutations([UNREADY, UNFETCHED, FETCHED])])
def test_a_content_is_never_forgotten(order):
    """Whichever reading of an asset is committed last: what was stored stays, and so does that there is a content."""
    table = None
    for row in order:
        table = updated(table, [row])

    assert table.to_pylist() == [FETCHED]


@pytest.mark.parametrize("order", [*permutations([UNREADY, FETCHED])])
def test_two_rows_of_one_commit(order):
    """The same rule inside one commit."""
    assert updated(None, order).to_pylist() == [FETCHED]


def test_what_posthog_changes_is_changed():
    """Other facts of an asset with its content: the last reading has them, the content stays."""
    table = updated(updated(None, [FETCHED]), [read(has_content=True, filename="b.csv")])

    assert table.to_pylist() == [FETCHED | {"filename": "b.csv"}]


def test_projects_do_not_touch_each_other():
    """The same id in two projects: neither gets the other's content, nor loses its own."""
    table = updated(updated(None, [FETCHED]), [read(has_content=False, project_id=2)])
    table = updated(table, [read(has_content=True, project_id=2, filename="b.csv"), UNREADY])

    assert table.schema == EXPORTS
    assert known(table, 1) == {7: FETCHED}
    assert known(table, 2) == {7: read(has_content=True, project_id=2, filename="b.csv")}


def test_a_growing_table_takes_an_export_once():
    """Again is nothing; the same number in another project, of another server perhaps, is another export."""
    content = pa.table({"n": [1, 2]})
    first = snapshot(content, at=AT, project_id=1, asset_id=7)
    table = grown(None, first)
    assert table is not None
    assert grown(table, first) is None

    other = grown(table, snapshot(content, at=AT, project_id=2, asset_id=7))
    assert other is not None
    assert other["_project_id"].to_pylist() == [1, 1, 2, 2]
    assert other["n"].to_pylist() == [1, 2, 1, 2]


def test_a_growing_table_without_projects_grows_on():
    """Tables made before they had `_project_id`."""
    old = pa.table({"_snapshot_at": pa.array([AT], TIME), "_export_id": [7], "n": [1]})
    table = grown(old, snapshot(pa.table({"n": [2]}), at=AT, project_id=1, asset_id=8))

    assert table is not None
    assert table["_project_id"].to_pylist() == [None, 1]
    assert table["n"].to_pylist() == [1, 2]


def test_a_growing_table_is_made_anew_for_its_exports_alone():
    """Also where the table is gone, or older than projects: the rows of other exports stay, and none is there twice."""
    anew = snapshot(pa.table({"n": [1, 2]}), at=AT, project_id=1, asset_id=7)
    old = pa.table({"_snapshot_at": pa.array([AT] * 2, TIME), "_export_id": [7, 8], "n": [9, 3]})
    tables = [regrown(held, [anew]) for held in (None, old, regrown(old, [anew]))]

    assert [sorted(table["n"].to_pylist()) for table in tables] == [[1, 2], [1, 2, 3], [1, 2, 3]]
