"""Passages of a sweep, and what tells their rows apart. Pure functions over tables of decode.RAW_ROWS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from extractors import errors
from extractors.http import decode
from extractors.window import Range


@dataclass(frozen=True, slots=True)
class Passage:
    """Rows in ascending order of time, and *passed*: all events before it are in this passage or an earlier one.

    *rejects* may bring a row again that an earlier passage brought: pages overlap, and such a row has no identity.
    *unproven*: microseconds that hold more events than could be told apart; they may miss some. *unread*: microseconds
    with an event that the server cannot serve. *served_at*: the server's clock by the page's answer, for a microsecond that was
    split that of its first page.
    """

    rows: pa.Table
    rejects: pa.Table
    passed: datetime
    unproven: tuple[datetime, ...] = ()
    unread: tuple[datetime, ...] = ()
    served_at: datetime | None = None


def joined(passages: Sequence[Passage]) -> Passage:
    """Consecutive passages as one."""
    if len(passages) == 1:
        return passages[0]
    return Passage(
        pa.concat_tables([passage.rows for passage in passages]),
        pa.concat_tables([passage.rejects for passage in passages]),
        passages[-1].passed,
        unproven=tuple(at for passage in passages for at in passage.unproven),
        unread=tuple(at for passage in passages for at in passage.unread),
        served_at=max((passage.served_at for passage in passages if passage.served_at), default=None),
    )


def within(rows: pa.Table, column: str, rng: Range) -> pa.Table:
    """Rows whose time in *column* lies in *rng*."""
    low, high = (pa.scalar(at, pa.timestamp("us", "UTC")) for at in (rng.start, rng.end))
    return rows.filter(pc.and_(pc.greater_equal(rows[column], low), pc.less(rows[column], high)))


_KEY = ("uuid", "event", "distinct_id", "properties", "elements_chain")


def first(rows: pa.Table) -> datetime:
    """The time of the first row."""
    at: datetime = rows["timestamp"][0].as_py()
    return at


def bounds(page: decode.Page, asked: Range) -> tuple[datetime, datetime]:
    """First and last time of a full page."""
    if not page.rows.num_rows:
        raise errors.UnusableAnswer(f"a full page has no row that can be read, for the range {asked}")
    return first(page.rows), page.rows["timestamp"][-1].as_py()


def ascends(times: pa.ChunkedArray) -> bool:
    """Whether no time is before the one above it."""
    if len(times) < 2:
        return True
    micros = times.combine_chunks().cast(pa.int64())
    return bool(pc.all(pc.less_equal(micros[:-1], micros[1:])).as_py())


def keys_at(rows: pa.Table, at: datetime) -> frozenset[tuple[object, ...]]:
    """What tells rows of one timestamp apart, content included: an unmerged copy that differs is another row."""
    here = rows.filter(pc.equal(rows["timestamp"], pa.scalar(at, pa.timestamp("us", "UTC"))))
    return frozenset(zip(*(here[name].to_pylist() for name in _KEY), strict=True))


def identities(rows: pa.Table) -> set[tuple[object, ...]]:
    """What /query counts as one: copies that differ in content are the same event."""
    return set(zip(*(rows[name].to_pylist() for name in (*_KEY[:3], "timestamp")), strict=True))


def unseen(rows: pa.Table, cursor: datetime, seen: frozenset[tuple[object, ...]]) -> pa.Table:
    """Drop the rows at the cursor that an earlier page has brought."""
    if not seen or not rows.num_rows:
        return rows
    again = pc.sum(pc.equal(rows["timestamp"], pa.scalar(cursor, pa.timestamp("us", "UTC")))).as_py()
    head, tail = rows.slice(0, again), rows.slice(again)
    keep = [key not in seen for key in zip(*(head[name].to_pylist() for name in _KEY), strict=True)]
    return pa.concat_tables([head.filter(pa.array(keep, pa.bool_())), tail])


def distinct(rows: pa.Table) -> pa.Table:
    """Each row once, by content."""
    keys: dict[tuple[object, ...], int] = {}
    for index, key in enumerate(zip(*(rows[name].to_pylist() for name in _KEY), strict=True)):
        keys.setdefault(key, index)
    return rows.take(pa.array(sorted(keys.values()), pa.int64()))
