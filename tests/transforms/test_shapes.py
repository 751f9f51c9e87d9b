"""What a table with history takes of a row, what it never writes, and what it does with rows that vanish."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from transforms.history import Merged, Shown, json_columns, merged, schema
from transforms.shapes import ANNOTATIONS, EVALUATIONS, Kind, Shape

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHAPE = Shape(
    {"deleted": Kind.FLAG, "n": Kind.WHOLE, "on": Kind.FLAG, "at": Kind.TIME, "name": Kind.TEXT, "j": Kind.JSON},
    key=Kind.WHOLE,
)


def read(history: pa.Table | None, *ids: int, shape: Shape = SHAPE, at: datetime = AT, **more: Any) -> Merged:
    """The history after a list of *ids*; *more*: of Shown, or accept_deletions."""
    accept = more.pop("accept_deletions", False)
    rows = tuple({"id": one, **more.pop("row", {})} for one in ids)
    return merged(history, Shown(rows, at, **more), shape=shape, project_id=1, accept_deletions=accept)


def current(found: Merged) -> dict[int, tuple[bool, datetime | None]]:
    rows = [row for row in found.table.to_pylist() if row["valid_to"] is None]
    return {row["id"]: (row["deleted"], row["missing_since"]) for row in rows}


VALUES = [
    pytest.param("n", 7, 7, id="number"),
    pytest.param("n", True, None, id="no number"),
    pytest.param("n", 2**63, None, id="too large a number"),
    pytest.param("n", "7", None, id="text for a number"),
    pytest.param("on", False, False, id="flag"),
    pytest.param("on", 0, None, id="no flag"),
    pytest.param("name", 7, "7", id="text"),
    pytest.param("j", [], "[]", id="json"),
    pytest.param("j", None, None, id="no json"),
    pytest.param("at", "2026-03-01T02:00:00+02:00", AT, id="time"),
    pytest.param("at", "soon", None, id="no time"),
]


@pytest.mark.parametrize(("name", "given", "taken"), VALUES)
def test_column_takes_what_fits_it(name, given, taken):
    """Anything else is null there, and whole in `raw`."""
    (row,) = read(None, 1, row={name: given}).table.to_pylist()

    assert row[name] == taken
    assert json.loads(row["raw"])[name] == given


def test_tables_have_their_columns_in_order():
    """Project and id, columns of its own, and those of every history."""
    assert schema(SHAPE).names == [
        *("project_id", "id", "deleted", "n", "on", "at", "name", "j"),
        *("raw", "updated_at", "valid_from", "valid_to", "missing_since"),
    ]
    assert json_columns(SHAPE) == ("j", "raw")
    assert schema(ANNOTATIONS).field("id").type == pa.int64()
    assert schema(EVALUATIONS).field("id").type == pa.string()


@pytest.mark.parametrize("wrong", [{"columns": {}}, {"columns": {"deleted": Kind.TEXT}}, {"key": Kind.JSON}])
def test_shape_that_cannot_be(wrong):
    """Every history says what was deleted, by an id."""
    with pytest.raises(ValueError, match=r"deleted|an id"):
        Shape(**{"columns": {"deleted": Kind.FLAG}} | wrong)


WRITTEN = Shape({"deleted": Kind.FLAG, "who": Kind.JSON}, key=Kind.WHOLE, written_of={"who": ("id",), "token": ()})


@pytest.mark.parametrize(
    ("who", "kept"),
    [({"id": 1, "email": "a@b"}, {"id": 1}), ({"email": "a@b"}, {}), ("a@b", None), (None, None), (["a@b"], None)],
)
def test_what_is_never_written_is_nowhere(who, kept):
    """Neither in a column nor in `raw`, whatever form it comes in; the rest stays in its order."""
    (row,) = read(None, 1, shape=WRITTEN, row={"who": who, "token": "secret", "x": 1}).table.to_pylist()

    assert "a@b" not in str(row)
    assert "secret" not in str(row)
    assert list(json.loads(row["raw"]).items()) == [("id", 1), ("who", kept), ("x", 1)]
    assert row["who"] == (None if kept is None else json.dumps(kept))


def test_what_is_never_written_is_no_change():
    """A colleague who is renamed changes no object."""
    first = read(None, 1, shape=WRITTEN, row={"who": {"id": 1, "email": "a@b"}})

    assert not read(first.table, 1, shape=WRITTEN, row={"who": {"id": 1, "email": "c@d"}})
    assert read(first.table, 1, shape=WRITTEN, row={"who": {"id": 2, "email": "a@b"}}).changed == 1


def test_what_moves_by_itself_is_no_change():
    """Nor where it comes or goes; with a real change `raw` has it as it is then."""
    first = read(None, 1, shape=ANNOTATIONS, row={"insight_name": "a"})
    moved = read(first.table, 1, shape=ANNOTATIONS, row={"insight_name": "b"}, at=AT + HOUR)
    gone = read(first.table, 1, shape=ANNOTATIONS, at=AT + HOUR)
    changed = read(first.table, 1, shape=ANNOTATIONS, row={"insight_name": "b", "content": "c"}, at=AT + HOUR)

    assert (bool(moved), bool(gone), changed.changed) == (False, False, 1)
    assert json.loads(changed.table.to_pylist()[-1]["raw"])["insight_name"] == "b"


KEPT, GONE = (False, AT + HOUR), (True, None)
VANISHED = [
    pytest.param({}, KEPT, False, id="kept"),
    pytest.param({"deleted": frozenset({3})}, GONE, False, id="said to be deleted"),
    pytest.param({"accept_deletions": True}, GONE, False, id="accepted"),
    pytest.param({"complete": False}, (False, None), False, id="not all came"),
]


@pytest.mark.parametrize(("more", "state", "doubtful"), VANISHED)
def test_what_vanishes_is_missing_unless_somebody_says_more(more, state, doubtful):
    """One of three: it stays, with the time, until the source says so, or the user."""
    first = read(None, 1, 2, 3)
    second = read(first.table, 1, 2, at=AT + HOUR, **more)
    again = read(second.table, 1, 2, at=AT + 2 * HOUR, **more)
    back = read(again.table, 1, 2, 3, at=AT + 3 * HOUR)

    assert (current(second)[3], second.doubtful) == (state, doubtful)
    assert current(again) == current(second)
    assert not again
    assert current(back)[3] == (False, None)


@pytest.mark.parametrize(
    ("left", "said", "doubtful"),
    [
        pytest.param(0, 0, True, id="none of twenty"),
        pytest.param(9, 0, True, id="nine of twenty"),
        pytest.param(10, 0, False, id="half"),
        pytest.param(0, 20, False, id="none, and the source says that all are deleted"),
        pytest.param(0, 19, True, id="none, and it says so of all but one"),
    ],
)
def test_too_many_that_vanish_are_doubted(left, said, doubtful):
    """What the source itself calls deleted counts for nothing there."""
    first = read(None, *range(20))
    second = read(first.table, *range(left), at=AT + HOUR, deleted=frozenset(range(said)))

    assert second.doubtful == doubtful
    assert second.deleted == max(0, said - left)
