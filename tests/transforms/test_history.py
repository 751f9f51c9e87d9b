"""A list as a history: evaluations, whose rows that vanish are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from transforms.history import Merged, Shown, merged
from transforms.shapes import EVALUATIONS

AT = datetime(2026, 3, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def shown(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": name, "name": name} | more for name in names]


def read(history: pa.Table | None, rows: list[dict[str, Any]], *, project_id: int = 1, at: datetime = AT) -> Merged:
    return merged(history, Shown(tuple(rows), at), shape=EVALUATIONS, project_id=project_id)


def periods(history: pa.Table, name: str) -> list[tuple[Any, ...]]:
    rows = [row for row in history.to_pylist() if row["id"] == name]
    return sorted(((row["valid_from"], row["valid_to"], row["deleted"]) for row in rows), key=lambda row: row[0])


def test_time_goes_on_where_the_clock_goes_back():
    """A server's clock that was set back: a change begins one microsecond after the latest of the history."""
    first = read(None, shown("a", "b")).table
    second = read(first, shown("a", "b", enabled=True), at=AT - timedelta(days=1)).table
    third = read(second, shown("a", enabled=True), at=AT - timedelta(days=1)).table

    assert periods(third, "a") == [(AT, AT + MICROSECOND, False), (AT + MICROSECOND, None, False)]
    assert periods(third, "b") == [
        (AT, AT + MICROSECOND, False),
        (AT + MICROSECOND, AT + 2 * MICROSECOND, False),
        (AT + 2 * MICROSECOND, None, True),
    ]


class Deep:
    """A value of which only the text is known."""

    def __repr__(self) -> str:
        return "[" * 5_000 + "]" * 5_000


def test_a_row_that_is_deep_is_compared_to_the_letter():
    """The same text is no change; another one is."""
    first = read(None, shown("a", conditions=Deep())).table
    again = read(first, shown("a", conditions=Deep()), at=AT + timedelta(hours=1))
    other = read(first, shown("a", conditions=Deep(), enabled=True), at=AT + timedelta(hours=1))

    assert (again.changed, other.changed, bool(again)) == (0, 1, False)


def test_projects_do_not_touch_each_other():
    """The same ids, and times far ahead, in another project."""
    other = read(None, shown("a", "b"), project_id=2, at=AT + timedelta(days=9)).table
    both = read(other, shown("a")).table
    changed = read(both, shown("a", enabled=True), at=AT + timedelta(days=1)).table

    assert [row for row in changed.to_pylist() if row["project_id"] == 2] == other.to_pylist()
    mine = [(row["valid_from"], row["valid_to"]) for row in changed.to_pylist() if row["project_id"] == 1]
    assert mine == [(AT, AT + timedelta(days=1)), (AT + timedelta(days=1), None)]


def test_what_is_shown_as_deleted_is_deleted_once():
    """A server that lists deleted evaluations: one row says so, however often it is read."""
    first = read(None, shown("a", "b")).table
    gone = read(first, shown("a", deleted=True) + shown("b"), at=AT + timedelta(hours=1))
    again = read(gone.table, shown("a", deleted=True) + shown("b"), at=AT + timedelta(hours=2))

    assert [row[2] for row in periods(gone.table, "a")] == [False, True]
    assert not again


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("2026-03-01T00:00:00Z", AT),
        ("2026-03-01T02:00:00+02:00", AT),
        ("2026-03-01T00:00:00", AT),
        ("soon", None),
        ("0001-01-01T00:00:00+14:00", None),
        (None, None),
    ],
)
def test_time_of_a_change_is_the_moment_the_source_names(said, at):
    """Whatever zone it is written in; none is UTC, and what is no time is null."""
    (row,) = read(None, shown("a", updated_at=said)).table.to_pylist()

    assert row["updated_at"] == at


MANY = [f"{number:02}" for number in range(20)]


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        pytest.param(MANY[:3], [], 3, id="none of three"),
        pytest.param(MANY[:1], [], 1, id="none of one"),
        pytest.param(MANY[:3], MANY[:1], 0, id="one of three"),
        pytest.param(MANY[:9], MANY[:1], 0, id="one of nine"),
        pytest.param(MANY[:10], MANY[:4], 6, id="four of ten"),
        pytest.param(MANY[:10], MANY[:5], 0, id="half of ten"),
        pytest.param(MANY, [*MANY[:1], "new"], 19, id="one of twenty and a new one"),
        pytest.param(MANY[:3], ["new"], 3, id="others"),
    ],
)
def test_a_list_that_lacks_too_much_deletes_nothing(before, after, missing):
    """None of the current ones, or more than half of ten and more missing: they stay, and what is shown is landed."""
    first = read(None, shown(*before)).table
    second = read(first, shown(*after), at=AT + timedelta(hours=1))
    again = Shown(tuple(shown(*after)), AT + timedelta(hours=2))
    accepted = merged(second.table, again, shape=EVALUATIONS, project_id=1, accept_deletions=True)
    gone = len(set(before) - set(after))
    current = {row["id"]: row["deleted"] for row in second.table.to_pylist() if row["valid_to"] is None}

    assert (len(second.missing), second.deleted) == ((missing, 0) if missing else (0, gone))
    assert second.new == len(set(after) - set(before))
    assert {name for name, deleted in current.items() if not deleted} == {*after, *(before if missing else ())}
    assert (len(accepted.missing), accepted.deleted) == (0, missing)


def test_what_is_missing_stays_so_until_it_is_shown_or_accepted():
    """New evaluations do not make up for those that are missing, one that is shown again does; a single one goes as ever."""
    first = read(None, shown("a", "b", "c")).table
    others = read(first, shown("d", "e", "f"), at=AT + timedelta(hours=1))
    again = read(others.table, shown("d", "e", "f"), at=AT + timedelta(hours=2))
    one_back = read(again.table, shown("a", "d", "e"), at=AT + timedelta(hours=3))
    whole = read(one_back.table, shown("a", "b", "c", "d", "e"), at=AT + timedelta(hours=4))

    assert [one.missing for one in (others, again, one_back, whole)] == [("a", "b", "c")] * 2 + [("b", "c"), ()]
    assert [one.deleted for one in (others, again, one_back, whole)] == [0, 0, 1, 0]
    assert not again
    assert {row["id"]: row["missing_since"] for row in one_back.table.to_pylist() if row["missing_since"]} == {
        "b": AT + timedelta(hours=1),
        "c": AT + timedelta(hours=1),
    }
    assert len(periods(whole.table, "a")) == 1


def test_a_history_of_before_has_nothing_missing():
    """Tables without the column `missing_since`."""
    old = read(None, shown("a", "b")).table.drop_columns(["missing_since"])

    assert not read(old, shown("a", "b"))
    assert read(old, shown("a")).deleted == 1
