"""One stream of events from the source to the destination: plan → sweep → rows → land. No Prefect, no settings, no output.

A reading thread asks the next page while this thread lands the last (design.md, "One page, from bytes to a committed
row"). Everything committed stays whatever happens after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

from extractors.reading.events import EventsReader
from extractors.reading.questions import BATCH_ROWS
from extractors.reading.zone import HourCount
from extractors.window import MICROSECOND, Range, midnight
from flows.landing import plan
from flows.landing.crossing import Retried, until_done
from flows.landing.guard import Guard
from flows.landing.outcome import STREAM, Committed, Order, Outcome, Progress
from flows.landing.plan import Target
from flows.landing.proof import Prover
from flows.landing.spool import Spool
from flows.landing.sweep import Loader
from sinks.ledger import Ledger
from sinks.sink import Sink
from transforms.events import STAGED


@dataclass(frozen=True, slots=True)
class Group:
    """Windows that are read, landed and proven together; none where landed ones are compared with the source again."""

    range: Range | None = None
    windows: int = 0

    @classmethod
    def of(cls, targets: Sequence[Target]) -> Group:
        """The group of *targets*, which ascend."""
        return cls(Range(targets[0].covers.start, targets[-1].covers.end), len(targets))


def run_directly(group: Group, work: Callable[[], None]) -> None:
    """Do the work of a group, and nothing beside it."""
    work()


def run(
    order: Order,
    *,
    reader: EventsReader,
    sink: Sink,
    spool_directory: Path,
    clock: Callable[[], datetime],
    outcome: Outcome,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_commit: Callable[[Committed], None] = lambda committed: None,
    query_budget_left: Callable[[], bool] = lambda: True,
    run_group: Callable[[Group, Callable[[], None]], None] = run_directly,
    on_retry: Retried = lambda error, wait_s: None,
    served_at: datetime | None = None,
) -> None:
    """Land everything of *order* that the ledger does not have, and prove it where the source answers queries.

    *outcome* says so far what was done, also after an error. *query_budget_left*: whether the look-back may ask one query more.
    *run_group*: does the work of each group, in order; what the work raises it must raise. *on_retry* hears why the run waits
    before it is planned anew: another run landed a window of its plan.
    *served_at*: the server's clock, if it was asked just now.
    Raises SourceError and SinkError; what is landed stays.
    """
    told = [served_at] if served_at is not None else []

    def attempt() -> None:
        _run(
            order,
            reader,
            sink,
            spool_directory,
            clock=clock,
            served_at=told.pop() if told else None,
            outcome=outcome,
            on_progress=on_progress,
            on_commit=on_commit,
            query_budget_left=query_budget_left,
            run_group=run_group,
        )

    until_done(
        attempt,
        landed=lambda: sink.ledger(order.project_id, STREAM).landings,
        own=lambda: outcome.windows,
        on_retry=on_retry,
    )


def _run(
    order: Order,
    reader: EventsReader,
    sink: Sink,
    spool_directory: Path,
    *,
    clock: Callable[[], datetime],
    served_at: datetime | None,
    outcome: Outcome,
    on_progress: Callable[[Progress], None],
    on_commit: Callable[[Committed], None],
    query_budget_left: Callable[[], bool],
    run_group: Callable[[Group, Callable[[], None]], None],
) -> None:
    ledger = sink.ledger(order.project_id, STREAM)
    first = not ledger.entries
    now = served_at if served_at is not None and (reader.tried or not first) else reader.now(first=first)
    ledger = plan.as_of(ledger, now, settle=order.settle)
    wanted = plan.wanted_range(ledger, since=order.since, until=order.until, now=now, settle=order.settle)
    held = plan.stopped(ledger, order.reread_at, now=now, accept=order.accept_deletions)
    sure = min(now, clock())  # a window is over when both clocks say so
    outcome.wanted = wanted
    wanted = reached(reader, wanted, outcome)
    outcome.in_quarantine = sum(entry.tally.quarantined_rows for entry in ledger.entries.values())
    hours: Mapping[datetime, HourCount] = {}
    found: list[Target] = []
    if wanted is not None:
        hours, known = steps(reader, ledger, wanted, now=now)
        found = plan.targets(ledger, known, wanted, now=sure, settle=order.settle, held=held)
    if order.marks:
        found += plan.unfinished(ledger, wanted, now=sure, settle=order.settle, held=held)
        found.sort(key=lambda target: target.reads.start)
    with Spool(spool_directory, STAGED) as spool:
        guard = Guard(order.accept_deletions)
        guard.look(ledger, sink.changes(order.project_id, STREAM))
        loader = Loader(
            order,
            sink,
            spool,
            outcome,
            now=now,
            clock=clock,
            on_progress=on_progress,
            on_commit=on_commit,
            planned=len(found),
            guard=guard,
            query_budget_left=query_budget_left,
        )
        prover = Prover(order, reader, sink, loader, outcome, now=now, sure=sure, query_budget_left=query_budget_left)
        groups = list(batches(found, hours))
        for batch in groups:
            mark = wanted.end if order.marks and wanted and batch is groups[-1] else None
            run_group(Group.of(batch), partial(prover.land, batch, hours, mark=mark))
        if not groups:
            prover.settle_moved()
        if order.marks or wanted is not None:
            run_group(Group(), partial(_compare_again, order, prover, ledger, wanted, now=now))
    reader.confirm_clock()  # a run that had nothing to read was planned by one answer's time
    outcome.conclude(sink.ledger(order.project_id, STREAM))


def reached(reader: EventsReader, wanted: Range | None, outcome: Outcome | None = None) -> Range | None:
    """The part of *wanted* that the source can be asked for; the rest is noted, and is not covered."""
    found = reader.reachable(wanted) if wanted is not None else None
    if outcome is not None and wanted is not None:
        bounds = (found.start, found.end) if found is not None else (wanted.end, wanted.end)
        left = ((wanted.start, bounds[0]), (bounds[1], wanted.end))
        outcome.unreachable = [Range(start, end) for start, end in left if start < end]
    return found


def _compare_again(order: Order, prover: Prover, ledger: Ledger, wanted: Range | None, *, now: datetime) -> None:
    """The look-back of a sync, or what a backfill's range still owes of comparison."""
    if not order.marks:
        prover.look_back(wanted, since=None)
        return
    prover.look_back(None, since=now - order.lookback)
    mark = ledger.mark_at(now)
    since_mark = now - mark if mark else timedelta(0)
    prover.read_again(allowance=int(order.reread_requests * min(1.0, since_mark / timedelta(hours=1))))


def parts(order: Order, reader: EventsReader, sink: Sink, *, now: datetime, count: int) -> list[Range]:
    """What *order* has yet to land, cut at midnights into at most *count* ranges of about as many rows each.

    Empty where nothing is left. By the source's counts, or by time where it gives none.
    """
    ledger = plan.as_of(sink.ledger(order.project_id, STREAM), now, settle=order.settle)
    wanted = plan.wanted_range(ledger, since=order.since, until=order.until, now=now, settle=order.settle)
    wanted = reached(reader, wanted)
    if wanted is None:
        return []
    hours, known = steps(reader, ledger, wanted, now=now)
    rows = {hour: count.rows for hour, count in hours.items()}
    found = plan.targets(ledger, known, wanted, now=now, settle=order.settle)
    return plan.parts(found, lambda target: plan.expected_rows(target, rows), count=count)


def batches(found: list[Target], hours: Mapping[datetime, HourCount]) -> Iterator[list[Target]]:
    """Parts of the work that are proven before the next begins: a kill loses no more proof than that.

    Without counts all at once, so that sweeps stay whole.
    """
    if not hours:
        return iter([found] if found else [])
    rows = {hour: count.rows for hour, count in hours.items()}
    return plan.batches(found, lambda target: plan.expected_rows(target, rows), rows=BATCH_ROWS)


def steps(
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
