"""One stream of events from the source to the destination: plan → sweep → rows → land. No Prefect, no settings, no output.

A reading thread asks the next page while this thread lands the last (design.md, "One page, from bytes to a committed
row"). Everything committed stays whatever happens after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from extractors.events import EventsReader
from extractors.window import MICROSECOND, Range, midnight
from extractors.zone import HourCount
from flows import plan
from flows.loader import STREAM, Loader, Order, Outcome, Progress
from flows.plan import Target
from flows.spool import Spool
from sinks.base import Ledger, Sink
from transforms import events as rows_of
from transforms.events import STAGED

__all__ = ["STREAM", "Order", "Outcome", "Progress", "run"]

MOVED_ROUNDS = 3  # an event that still moves is left to the next run, and named


def run(
    order: Order,
    *,
    reader: EventsReader,
    sink: Sink,
    spool_directory: Path,
    clock: Callable[[], datetime],
    outcome: Outcome,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Land everything of *order* that the ledger does not have; *outcome* says so far what was done, also after an error.

    Raises SourceError and SinkError; what is landed stays.
    """
    now = reader.now()
    ledger = sink.ledger(order.project_id, STREAM)
    wanted = plan.wanted_range(ledger, since=order.since, until=order.until, now=now, settle=order.settle)
    outcome.wanted = wanted
    hours: Mapping[datetime, HourCount] = {}
    found: list[Target] = []
    if wanted is not None:
        hours, steps = _steps(reader, ledger, wanted, now=now)
        found = plan.targets(ledger, steps, wanted, now=now, settle=order.settle)
    if order.marks:
        found += plan.unfinished(ledger, wanted, now=now, settle=order.settle)
        found.sort(key=lambda target: target.reads.start)
    planned = list(plan.sweeps(found))
    with Spool(spool_directory, STAGED) as spool:
        loader = Loader(order, sink, spool, outcome, clock=clock, on_progress=on_progress, planned=len(found))
        for number, sweep in enumerate(planned):
            mark = _mark(ledger, wanted) if order.marks and number == len(planned) - 1 else None
            loader.load(sweep, reader, hours=hours, mark=mark)
        if outcome.windows or ledger.unchecked:
            _settle_moved(order, sink, outcome, loader=loader, reader=reader, now=now)


def _mark(ledger: Ledger, wanted: Range | None) -> datetime | None:
    """The mark after a sync of *wanted*; a range beyond the mark leaves it, so that the gap between is filled later."""
    return wanted.end if wanted and (ledger.mark is None or wanted.start <= ledger.mark) else None


def _settle_moved(
    order: Order, sink: Sink, outcome: Outcome, *, loader: Loader, reader: EventsReader, now: datetime
) -> None:
    """One identity in two windows of its date: the source moved the event, or holds copies. Land those windows again.

    Searches the dates landed in parts since their last check (design.md, "An event that the source moves"). What a
    second reading still shows twice are copies that PostHog has not merged: the latest is kept.
    """
    older: pa.Table | None = None
    for remaining in reversed(range(MOVED_ROUNDS + 1)):
        ledger = sink.ledger(order.project_id, STREAM)
        if not ledger.unchecked:
            return
        twice = sink.twice(order.project_id, STREAM, ledger.unchecked)
        moments: list[datetime] = twice["timestamp"].to_pylist()
        outcome.doubled = sorted({at.date() for at in moments})
        if clean := ledger.unchecked.difference(outcome.doubled):
            sink.checked(order.project_id, STREAM, clean)
        if not outcome.doubled or not remaining:
            return
        for sweep in plan.sweeps(plan.again(ledger, moments, now=now, settle=order.settle)):
            loader.load(sweep, reader, older=older)
        older = rows_of.superseded(twice)


def _steps(
    reader: EventsReader, ledger: Ledger, wanted: Range, *, now: datetime
) -> tuple[Mapping[datetime, HourCount], dict[date, timedelta]]:
    """Hour counts of the dates that are new to the ledger, and the steps they give."""
    days = plan.unplanned_dates(ledger, wanted)
    if not days:
        return {}, {}
    # A date that is not over is judged by the week before it.
    start = midnight(days[0]) - (plan.HISTORY if midnight(days[-1]) + timedelta(days=1) > now else timedelta(0))
    end = min(midnight(days[-1]) + timedelta(days=1), max(now, midnight(days[-1]) + MICROSECOND))
    counts = reader.probe.hour_counts(Range(start, end))
    rows = None if counts is None else {hour: count.rows for hour, count in counts.items()}
    return counts or {}, dict(plan.steps_for(days, rows, now=now))
