"""Work cut into groups of about as many rows: what is proven before the next begins, and the parts of a backfill. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import TypeVar

from extractors.window import Range, midnight
from flows.landing import plan
from flows.landing.plan import Target

T = TypeVar("T")


def batches(
    found: Iterable[T], expected: Callable[[T], int], *, rows: int, count: int | None = None
) -> Iterator[list[T]]:
    """Groups of consecutive windows that are expected to hold at most *rows* rows, or one each; at most *count* a group."""
    batch: list[T] = []
    total = 0
    for one in found:
        more = expected(one)
        if batch and (total + more > rows or len(batch) == count):
            yield batch
            batch, total = [], 0
        batch.append(one)
        total += more
    if batch:
        yield batch


def parts(found: Sequence[Target], expected: Callable[[Target], int], *, count: int) -> list[Range]:
    """The ranges of at most *count* runs of targets, cut between dates, that hold about the same rows; in order.

    An empty window weighs something too: it is landed.
    """
    days: dict[date, int] = {}
    for target in found:
        day = target.window.start.date()
        days[day] = days.get(day, 0) + max(1, expected(target))
    left, cuts = sum(days.values()), []
    held, missing = 0, count
    for day, weight in days.items():
        # A day belongs to the part that its middle lies in.
        if held and missing > 1 and held + weight / 2 > left / missing:
            cuts.append(midnight(day))
            left, held, missing = left - held, 0, missing - 1
        held += weight
    bounds = [found[0].covers.start, *cuts, found[-1].covers.end] if found else []
    return [Range(start, end) for start, end in pairwise(bounds)]


def expected_rows(target: Target, hours: Mapping[datetime, int]) -> int:
    """Rows to expect in a target: by the counts of its hours, else by what it held, else a full window."""
    if hours:
        return sum(rows for hour, rows in hours.items() if target.covers.start <= hour < target.covers.end)
    return target.previous.tally.source_rows if target.previous else plan.WINDOW_ROWS
