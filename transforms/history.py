"""A list as a history: a row per object per change, `valid_to` null for the current one (docs/streams.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa

from transforms import texts
from transforms.shapes import Kind, Shape

TIME = pa.timestamp("us", "UTC")
ARROW = {
    Kind.TEXT: pa.string(),
    Kind.WHOLE: pa.int64(),
    Kind.FLAG: pa.bool_(),
    Kind.TIME: TIME,
    Kind.JSON: pa.string(),
}
MANY = 10
"""From so many current rows on, a list that lacks more than half of them is not believed."""


def schema(shape: Shape) -> pa.Schema:
    """The columns of a table with history, in order."""
    return pa.schema(
        [
            pa.field("project_id", pa.int64(), nullable=False),
            pa.field("id", ARROW[shape.key], nullable=False),
            *(pa.field(name, ARROW[kind], nullable=name != "deleted") for name, kind in shape.columns.items()),
            pa.field("raw", pa.string(), nullable=False),
            pa.field("updated_at", TIME),
            pa.field("valid_from", TIME, nullable=False),
            pa.field("valid_to", TIME),
            pa.field("missing_since", TIME),
        ]
    )


def json_columns(shape: Shape) -> tuple[str, ...]:
    """Columns that hold JSON as text."""
    return (*(name for name, kind in shape.columns.items() if kind is Kind.JSON), "raw")


@dataclass(frozen=True, slots=True)
class Merged:
    """The new history, and how many objects were new, changed and gone.

    *missing*: ids that the source does not show and that are kept all the same, out of *current* ones, and how many of
    these it says are there (*hidden*); *doubtful*: so many that the list is not believed. *differs*: the table is another
    than before. *unwritten*: ids of rows that cannot be, whose history stays as it is.
    """

    table: pa.Table
    new: int
    changed: int
    deleted: int
    missing: tuple[Any, ...]
    hidden: int
    doubtful: bool
    current: int
    differs: bool
    unwritten: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return self.differs


@dataclass(frozen=True, slots=True)
class Shown:
    """What the source showed of a project at *at*. *complete*: that is all there is, so that the rest is missing.

    *deleted*, *living*: ids that it says are deleted, or there, beside the rows.
    """

    rows: tuple[Mapping[str, Any], ...]
    at: datetime
    complete: bool = True
    deleted: frozenset[Any] = frozenset()
    living: frozenset[Any] = frozenset()


def merged(
    history: pa.Table | None, shown: Shown, *, shape: Shape, project_id: int, accept_deletions: bool = False
) -> Merged:
    """The history after the source has shown a project's rows. What it does not show any more is deleted where gone says
    so, or with *accept_deletions*; else it is missing.

    The rows were read after *history* was: the reading is the newer one, whatever the clocks say. Where its time is not
    after every time of the project's history, the next microsecond takes its place. A change is any key that differs,
    also one that hedgerow does not know, but for volatile ones: `raw` has the row whole, but for what is never written.
    """
    held: list[dict[str, Any]] = history.to_pylist() if history is not None else []
    ours = [row for row in held if row["project_id"] == project_id]
    current = {row["id"]: row for row in ours if row["valid_to"] is None}
    rows, unwritten = _made(shown.rows, shape=shape, project_id=project_id)
    gone, missing, doubtful = _gone(current, {*rows, *unwritten}, shown, shape=shape, accept_deletions=accept_deletions)
    at = _after(ours, shown.at)
    now: dict[Any, dict[str, Any]] = {}  # what the current row of an id becomes
    added = []
    for name, row in rows.items():
        before = current.get(name)
        if before is not None and not _differs(row, before, shape):
            now[name] = before | {"missing_since": None}
            continue
        if before is not None:
            now[name] = before | {"valid_to": at, "missing_since": None}
        added.append(row | {"valid_from": at})
    new = sum(name not in current for name in rows)
    now |= {name: current[name] | {"missing_since": current[name].get("missing_since") or at} for name in missing}
    for name in gone:
        now[name] = current[name] | {"valid_to": at, "missing_since": None}
        added.append(current[name] | {"deleted": True, "valid_from": at, "missing_since": None})
    kept = [now.get(row["id"], row) if row is current.get(row["id"]) else row for row in held]
    return Merged(
        table=pa.Table.from_pylist([*kept, *added], schema=schema(shape)),
        new=new,
        changed=len(added) - len(gone) - new,
        deleted=len(gone),
        missing=tuple(sorted(missing)),
        hidden=len(missing & shown.living),
        doubtful=doubtful,
        current=sum(not row["deleted"] for row in current.values()),
        differs=bool(added)
        or any(row["missing_since"] != current[name].get("missing_since") for name, row in now.items()),
        unwritten=unwritten,
    )


def _made(
    shown: Iterable[Mapping[str, Any]], *, shape: Shape, project_id: int
) -> tuple[dict[Any, dict[str, Any]], tuple[Any, ...]]:
    """The table's row of each id that can be one, and the other ids."""
    rows: dict[Any, dict[str, Any]] = {}
    unwritten = []
    for one in shown:
        name = _id(one, shape)
        try:
            rows[name] = _row(shape.written(one), shape=shape, project_id=project_id)
        except (RecursionError, ValueError, OverflowError):  # nested too deeply, or an id of more than 64 bits
            unwritten.append(name)
    return rows, tuple(unwritten)


def broken(history: pa.Table, project_id: int) -> dict[Any, str]:
    """What cannot be in a project's history, by id: each object has one current row, and each row begins where the one
    before it ended."""
    found: dict[Any, list[tuple[datetime, datetime | None]]] = {}
    for row in history.select(["project_id", "id", "valid_from", "valid_to"]).to_pylist():
        if row["project_id"] == project_id:
            found.setdefault(row["id"], []).append((row["valid_from"], row["valid_to"]))
    faults = {name: _fault(sorted(times, key=_last_first_ended)) for name, times in found.items()}
    return {name: fault for name, fault in sorted(faults.items()) if fault}


def _last_first_ended(times: tuple[datetime, datetime | None]) -> tuple[datetime, bool]:
    return times[0], times[1] is None


def _fault(times: Sequence[tuple[datetime, datetime | None]]) -> str:
    """What is wrong with the rows of one object, which ascend; empty where nothing is."""
    current = sum(end is None for _, end in times)
    if current != 1:
        return f"{current} current rows" if current else "no current row"
    for (start, end), (following, _) in pairwise(times):
        if end != following or end <= start:
            return f"rows that do not follow each other at {following:%Y-%m-%dT%H:%M:%SZ}"
    return ""


def _gone(
    current: Mapping[Any, Mapping[str, Any]],
    rows: Container[Any],
    shown: Shown,
    *,
    shape: Shape,
    accept_deletions: bool,
) -> tuple[list[Any], frozenset[Any], bool]:
    """Of *current*, in its order: what is deleted, what is missing, and whether so much is that the list is in doubt."""
    if not shown.complete:
        return [], frozenset(), False
    living = {name: row for name, row in current.items() if not row["deleted"]}
    unsaid = {name: row for name, row in living.items() if name not in shown.deleted}
    missing = kept_back(unsaid, rows) if shape.vanished_is_deleted else frozenset(n for n in unsaid if n not in rows)
    if accept_deletions:  # but what is said to be there was not deleted
        missing &= shown.living
    doubtful = bool(missing - shown.living) and (shape.vanished_is_deleted or not believable(unsaid, rows))
    return [name for name in living if name not in rows and name not in missing], missing, doubtful


def kept_back(living: Mapping[Any, Mapping[str, Any]], rows: Container[Any]) -> frozenset[Any]:
    """Ids of *living* rows that the source does not show and that are not taken for deleted.

    All that it does not show, where that is not believable. Those kept back before stay so, whatever has been added
    meanwhile.
    """
    gone = frozenset(name for name in living if name not in rows)
    if not believable(living, rows):
        return gone
    return frozenset(name for name in gone if living[name].get("missing_since") is not None)


def believable(living: Collection[Any], rows: Container[Any]) -> bool:
    """Whether a list may lack so many: not every one of them, and not more than half of many.

    A source that has lost its list, or a key that no longer sees it, looks the same as deletions.
    """
    gone = sum(name not in rows for name in living)
    return not (gone == len(living) or (len(living) >= MANY and 2 * gone > len(living)))


def _after(history: Iterable[Mapping[str, Any]], at: datetime) -> datetime:
    """*at*, or the first microsecond after the last change of *history*."""
    times = [time for row in history for time in (row["valid_from"], row["valid_to"]) if time is not None]
    latest = max(times, default=None)
    return at if latest is None or latest < at else latest.astimezone(UTC) + timedelta(microseconds=1)


def _differs(row: Mapping[str, Any], before: Mapping[str, Any], shape: Shape) -> bool:
    """Whether the source shows another thing than the current row, or again what was deleted. A text that is the same says
    so; another one may be the same in another spelling."""
    if before["deleted"] != row["deleted"]:
        return True
    return bool(before["raw"] != row["raw"] and _compared(before["raw"], shape) != _compared(row["raw"], shape))


def _compared(raw: str, shape: Shape) -> Any:
    """What of a row's JSON tells a change; all of it, to the letter, where it is nested too deeply to be read."""
    try:
        return {name: value for name, value in texts.exactly(raw).items() if name not in shape.volatile}
    except RecursionError:
        return raw


def _id(row: Mapping[str, Any], shape: Shape) -> Any:
    return int(row["id"]) if shape.key is Kind.WHOLE else str(row["id"])


def _row(row: Mapping[str, Any], *, shape: Shape, project_id: int) -> dict[str, Any]:
    """The row of the table that *row* becomes, but for when it is valid from. Raises RecursionError, OverflowError."""
    if shape.key is Kind.WHOLE and _whole(row["id"]) is None:
        raise OverflowError("an id of more than 64 bits")
    return {
        "project_id": project_id,
        "id": _id(row, shape),
        **{name: VALUE[kind](row.get(name)) for name, kind in shape.columns.items()},
        "deleted": row.get("deleted") is True,
        "raw": texts.dumps(row),
        "updated_at": _time(row.get("updated_at")),
        "valid_to": None,
        "missing_since": None,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _json(value: object) -> str | None:
    return None if value is None else texts.dumps(value)


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):  # of the year 0, or 10000, in UTC
        return None


VALUE: Mapping[Kind, Callable[[object], object]] = {
    Kind.TEXT: _text,
    Kind.WHOLE: _whole,
    Kind.FLAG: _flag,
    Kind.TIME: _time,
    Kind.JSON: _json,
}
