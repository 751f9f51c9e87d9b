"""Evaluations as a history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from transforms.evaluations import Merged, merged

AT = datetime(2026, 3, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def shown(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": name, "name": name} | more for name in names]


def read(history: pa.Table | None, rows: list[dict[str, Any]], *, project_id: int = 1, at: datetime = AT) -> Merged:
    return merged(history, rows, project_id=project_id, at=at)


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
