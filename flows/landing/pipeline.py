"""One stream of events from the source to the destination: plan → sweep → rows → land. No Prefect, no settings, no output.

A reading thread asks the next page while this thread lands the last. Everything committed stays whatever happens after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

from extractors.reading.events import EventsReader
from extractors.reading.questions import BATCH_ROWS
from extractors.reading.zone import HourCount
from extractors.window import MICROSECOND, Range, midnight
from flows.landing import due, groups, plan
from flows.landing.attempt import Attempt
from flows.landing.crossing import until_done
from flows.landing.load import Loader
from flows.landing.outcome import Beyond, Log, Planned
from flows.landing.plan import Target
from flows.landing.proof import Prover
from flows.landing.session import STREAM, Group, Order, Session
from sinks.ledger import Ledger
from sinks.sink import Sink


def run(session: Session, reader: EventsReader, log: Log, *, served_at: datetime | None = None) -> None:
    """Land everything of the order that the ledger does not have, and prove it where the source answers queries.

    *log* says so far what was done, also after an error. *served_at*: the server's clock, if it was asked just now.
    Raises SourceError and SinkError; what is landed stays.
    """
    told = [served_at] if served_at is not None else []

    def attempt() -> None:
        _attempt(session, reader, log, served_at=told.pop() if told else None)

    until_done(
        attempt,
        landed=lambda: session.sink.ledger(session.order.project_id, STREAM).landings,
        own=lambda: log.windows,
        on_retry=session.listener.retry,
    )


def _attempt(session: Session, reader: EventsReader, log: Log, *, served_at: datetime | None) -> None:
    order, sink = session.order, session.sink
    ledger = sink.ledger(order.project_id, STREAM)
    first = not ledger.entries
    now = served_at if served_at is not None and (reader.tried or not first) else reader.now(first=first)
    ledger = plan.as_of(ledger, now, settle=order.settle)
    attempt = Attempt.begun(session, reader, log, ledger=ledger, now=now)
    work = _planned(attempt, ledger)
    prover = Prover(attempt, Loader(attempt, planned=len(work.targets)))
    found = list(batches(work.targets, work.hours))
    for batch in found:
        mark = work.wanted.end if order.marks and work.wanted and batch is found[-1] else None
        session.listener.run_group(Group.of(batch), partial(prover.land, batch, work.hours, mark=mark))
    if not found:
        prover.settle_moved()
    if order.marks or work.wanted is not None:
        session.listener.run_group(Group(), partial(_compare_again, prover, attempt, ledger, work.wanted))
    if order.marks and order.since is None and not ledger.marks:
        attempt.log.append(_beyond(reader, sink.ledger(order.project_id, STREAM), until=order.until))
    reader.confirm_clock()  # a run that had nothing to read was planned by one answer's time
    log.conclude(sink.ledger(order.project_id, STREAM))


@dataclass(frozen=True, slots=True)
class _Work:
    """The range that an attempt is for, as far as it can be asked; rows by hour, where they were counted; what to land."""

    wanted: Range | None
    hours: Mapping[datetime, HourCount]
    targets: list[Target]


def _planned(attempt: Attempt, ledger: Ledger) -> _Work:
    order, now, sure = attempt.session.order, attempt.now, attempt.sure
    bounds = plan.bounds(ledger, since=order.since, until=order.until, now=now, settle=order.settle)
    asked, idle = bounds.range, None if bounds.range else bounds
    held = due.stopped(ledger, order.reread_at, now=now, accept=order.accept_deletions)
    in_quarantine = sum(entry.tally.quarantined_rows for entry in ledger.entries.values())
    # Said also of a source that does not answer.
    attempt.log.append(Planned(asked, in_quarantine=in_quarantine, idle=idle))
    wanted = reached(attempt.reader, asked)
    attempt.log.append(Planned(asked, _left(asked, wanted), in_quarantine, idle))
    hours: Mapping[datetime, HourCount] = {}
    found: list[Target] = []
    if wanted is not None:
        hours, known = steps(attempt.reader, ledger, wanted, now=now)
        found = plan.targets(ledger, known, wanted, now=sure, settle=order.settle, held=held)
    if order.marks:
        found += plan.unfinished(ledger, wanted, now=sure, settle=order.settle, held=held)
        found.sort(key=lambda target: target.reads.start)
    return _Work(wanted, hours, found)


def reached(reader: EventsReader, wanted: Range | None) -> Range | None:
    """The part of *wanted* that the source can be asked for."""
    return reader.reachable(wanted) if wanted is not None else None


def _left(asked: Range | None, wanted: Range | None) -> tuple[Range, ...]:
    """What of the range *asked* the source cannot be asked for, and is not covered."""
    if asked is None:
        return ()
    bounds = (wanted.start, wanted.end) if wanted is not None else (asked.end, asked.end)
    left = ((asked.start, bounds[0]), (bounds[1], asked.end))
    return tuple(Range(start, end) for start, end in left if start < end)


def _compare_again(prover: Prover, attempt: Attempt, ledger: Ledger, wanted: Range | None) -> None:
    """The look-back of a sync, or what a backfill's range still owes of comparison."""
    order, now = attempt.session.order, attempt.now
    if not order.marks:
        prover.look_back(wanted, since=None)
        return
    prover.look_back(None, since=now - order.lookback)
    mark = ledger.mark_at(now)
    since_mark = now - mark if mark else timedelta(0)
    prover.read_again(allowance=int(order.reread_requests * min(1.0, since_mark / timedelta(hours=1))))


def _beyond(reader: EventsReader, ledger: Ledger, *, until: datetime | None) -> Beyond:
    """What a first sync, which lands the last days only, leaves at the source; but for what lies after *until*, an end that
    the user named."""
    covered = [Range(entry.covered_start, entry.covered_end) for entry in ledger.entries.values()]
    if not covered:
        return Beyond()
    found = reader.probe.outside(covered)
    if found is not None:
        places = ("before",) if until else ("before", "after")
        return Beyond(tuple(part for part in found if part.where in places))
    first = reader.earliest() if reader.probe.refusal else None
    return Beyond(earliest=first if first is not None and first < min(rng.start for rng in covered) else None)


def parts(order: Order, reader: EventsReader, sink: Sink, *, now: datetime, count: int) -> list[Range]:
    """What *order* has yet to land, cut at midnights into at most *count* ranges of about as many rows each.

    Empty where nothing is left. By the source's counts, or by time where it gives none.
    """
    ledger = plan.as_of(sink.ledger(order.project_id, STREAM), now, settle=order.settle)
    bounds = plan.bounds(ledger, since=order.since, until=order.until, now=now, settle=order.settle)
    wanted = reached(reader, bounds.range)
    if wanted is None:
        return []
    hours, known = steps(reader, ledger, wanted, now=now)
    rows = {hour: count.rows for hour, count in hours.items()}
    found = plan.targets(ledger, known, wanted, now=now, settle=order.settle)
    return groups.parts(found, lambda target: groups.expected_rows(target, rows), count=count)


def batches(found: list[Target], hours: Mapping[datetime, HourCount]) -> Iterator[list[Target]]:
    """Parts of the work that are proven before the next begins: a kill loses no more proof than that.

    Without counts all at once, so that sweeps stay whole.
    """
    if not hours:
        return iter([found] if found else [])
    rows = {hour: count.rows for hour, count in hours.items()}
    return groups.batches(found, lambda target: groups.expected_rows(target, rows), rows=BATCH_ROWS)


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
