"""`hedgerow verify`: landed windows against what the destination really holds and what the source counts.

Every difference is named; only windows that differ are read again, and only with *repair*. design.md, "What the ledger
proves".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path

import pyarrow as pa

from extractors.reading import questions
from extractors.reading.events import EventsReader
from extractors.reading.questions import Answers, Outside, Seen
from extractors.window import DAY, Range, midnight
from flows.landing import plan
from flows.landing.crossing import Retried, until_done
from flows.landing.guard import Guard
from flows.landing.outcome import STREAM, Order, Outcome, Progress
from flows.landing.proof import DryRun, Prover, agrees, answered, equals, part_of
from flows.landing.spool import Spool
from flows.landing.sweep import Loader
from sinks.ledger import Entry, Landing, Ledger, State
from sinks.sink import Holding, Sink
from transforms import events as rows_of
from transforms.events import STAGED

FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Difference:
    """One window that is not what it should be: rows the ledger, the destination and the source (None: unknown) have.

    *damaged*: the destination does not hold what was landed. *changed*: the source does not show any more what was read.
    *unread*: some microseconds of it could not be read whole, and as far as it is known nothing else is wrong.
    With detail: uuids that the source has and the destination lacks, the other way round, and those that differ.
    """

    start: datetime
    end: datetime
    state: State
    ledger_rows: int
    held_rows: int
    source_rows: int | None
    damaged: bool
    changed: bool
    unread: bool = False
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()


class Problem(Enum):
    """A way in which a verification is not good; Verification's field of the same name says how much of it there is."""

    EMPTY = "windows"
    LEFT = "left"
    ELSEWHERE = "elsewhere"
    DOUBLED = "doubled"
    STALE = "stale"
    MISSING = "missing"
    STRAY = "stray_rows"
    UNKNOWN = "unknown"
    QUARANTINED = "quarantined"


@dataclass(slots=True)
class Verification:
    """What was compared and found. *differences*: before any repair; *left*: starts of the windows that still differ.

    *compared*: windows whose source side was asked for; *open*: windows that have not settled; *unknown*: windows that the
    source does not let us compare; *stale*: windows that are to be landed again and were not yet; *stray_rows*: rows of the
    destination that belong to no window; *quarantined*: rows that could not be typed, and are missing from the table;
    *unmerged*: windows of which the source holds different copies of one event, and the destination one; *elsewhere*: windows
    outside the range that earlier runs found damaged, held or in dispute; *doubled*: dates with an event in two windows.
    """

    windows: int = 0
    compared: int = 0
    open: int = 0
    unknown: int = 0
    stale: int = 0
    quarantined: int = 0
    unmerged: int = 0
    stray_rows: int = 0
    outside: list[Outside] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    left: list[datetime] = field(default_factory=list)
    elsewhere: list[datetime] = field(default_factory=list)
    doubled: list[date] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """There is something landed, every window of it was compared, and nothing differs or is missing any more."""
        return not self.problems

    @property
    def missing(self) -> int:
        """Rows that the source holds between landed windows: a gap."""
        return sum(part.rows for part in self.outside if part.where == "between")

    @property
    def problems(self) -> list[Problem]:
        """What is not as it should be."""
        wrong = {
            Problem.EMPTY: not self.windows,
            Problem.LEFT: self.left,
            Problem.ELSEWHERE: self.elsewhere,
            Problem.DOUBLED: self.doubled,
            Problem.STALE: self.stale,
            Problem.MISSING: self.missing,
            Problem.STRAY: self.stray_rows,
            Problem.UNKNOWN: self.unknown,
            Problem.QUARANTINED: self.quarantined,
        }
        return [problem for problem, found in wrong.items() if found]


def run(
    order: Order,
    *,
    reader: EventsReader,
    sink: Sink,
    spool_directory: Path,
    clock: Callable[[], datetime],
    outcome: Outcome,
    repair: bool,
    detail: bool,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_retry: Retried = lambda error, wait_s: None,
) -> Verification:
    """Compare every window of the ledger that touches the order's range; with *repair* land again those that differ.

    Raises SourceError, SinkError; what was repaired stays.
    """
    rng = Range(order.since or FIRST, order.until or LAST)
    outcome.wanted = rng

    def attempt() -> Verification:
        now = reader.now()
        with Spool(spool_directory, STAGED) as spool:
            guard = Guard(order.accept_deletions)
            guard.look(sink.ledger(order.project_id, STREAM), sink.changes(order.project_id, STREAM))
            loader = Loader(
                order,
                sink,
                spool,
                outcome,
                now=now,
                clock=clock,
                on_progress=on_progress,
                planned=0,
                guard=guard,
            )
            prover = Prover(
                order, reader, sink, loader, outcome, now=now, sure=min(now, clock()), query_budget_left=lambda: True
            )
            return _verify(prover, reader, sink, loader, outcome, order, rng, repair=repair, detail=detail)

    return until_done(
        attempt,
        landed=lambda: sink.ledger(order.project_id, STREAM).landings,
        own=lambda: outcome.windows,
        on_retry=on_retry,
    )


def _verify(
    prover: Prover,
    reader: EventsReader,
    sink: Sink,
    loader: Loader,
    outcome: Outcome,
    order: Order,
    rng: Range,
    *,
    repair: bool,
    detail: bool,
) -> Verification:
    done, project_id = Verification(), order.project_id
    ledger = prover.ledger()
    held = sink.audit(project_id, STREAM, rng.start, rng.end)
    # What another run landed while the rows were counted is no damage, and was compared by that run.
    generations = {start: entry.generation for start, entry in sink.ledger(project_id, STREAM).entries.items()}
    entries = [entry for entry in _entries(ledger, rng) if generations.get(entry.start) == entry.generation]
    done.windows = len(entries)
    done.open = sum(entry.state is State.OPEN for entry in entries)
    done.stray_rows = held[None].rows if None in held else 0
    comparable = [entry for entry in entries if entry.settled or entry.base is not None]
    settled = {entry.start for entry in entries if entry.settled}
    answers = _answers(reader, comparable)
    seen = answers.seen
    done.compared = len(settled & set(seen))
    done.unknown = len(settled - set(seen))
    covered = (Range(entry.covered_start, entry.covered_end) for entry in ledger.entries.values())
    done.outside = reader.probe.outside(covered) or []
    reader.confirm_clock()  # before anything is noted or said by it
    damaged = {entry.start for entry in entries if held.get(entry.start, Holding()) != _landed(entry)}
    changed = {
        entry.start
        for entry in comparable
        if entry.start in seen and _differs(entry, seen[entry.start], answers.early.get(entry.start))
    }
    agreeing_now = {entry.start for entry in comparable if entry.start in seen and entry.start not in changed}
    standing = {entry.start for entry in entries if _stands(entry, answered=entry.start in agreeing_now)}
    details: dict[datetime, rows_of.Difference] = {}
    wrong = [entry for entry in entries if entry.start in damaged | changed | standing]
    if detail:
        details = _details(prover, sink, loader, wrong)
    done.differences = [
        _difference(
            entry,
            held.get(entry.start, Holding()),
            seen.get(entry.start),
            damaged=entry.start in damaged,
            changed=entry.start in changed | standing,
            detail=details.get(entry.start),
        )
        for entry in wrong
    ]
    prover.note_holdings(
        [entry for entry in entries if entry.start in damaged],
        [entry for entry in entries if entry.start not in damaged],
    )
    now_known = prover.ledger().entries
    compared = [now_known[entry.start] for entry in comparable if entry.start in now_known]
    compared = [entry for entry in compared if entry.generation == generations.get(entry.start)]
    agreeing = [entry for entry in compared if entry.start in seen and entry.start not in changed]
    prover.settle_differences(agreeing, answers)
    if repair:
        again = [now_known[entry.start] for entry in wrong if entry.start in now_known]
        # Different copies may be merged by now, and what could not be typed may have been damaged on its way.
        others = [entry for entry in now_known.values() if entry.facts.unmerged or entry.tally.quarantined_rows]
        asked = {entry.start for entry in entries} - {entry.start for entry in again}
        again += [entry for entry in others if entry.start in asked]
        again = [entry for entry in again if entry.state is not State.STALE]
        prover.settle_differences(again, answers, force={entry.start for entry in again})
        stale = {entry.start for entry in entries if entry.state is State.STALE}
        unfinished = plan.unfinished(prover.ledger(), None, now=prover.sure, settle=order.settle)
        prover.land([target for target in unfinished if target.window.start in stale], {}, mark=None)
    else:
        done.doubled = _doubled(sink, project_id, rng)
    ledger = sink.ledger(project_id, STREAM)
    outcome.conclude(ledger)
    entries = _entries(ledger, rng)
    inside = {entry.start for entry in entries}
    done.elsewhere = sorted(
        start for start, entry in ledger.entries.items() if entry.facts.grave and start not in inside
    )
    done.left = _left(sink, ledger, project_id, rng) if repair else [entry.start for entry in wrong]
    done.stale = sum(entry.state is State.STALE for entry in entries)
    done.unmerged = sum(entry.facts.unmerged is not None for entry in entries)
    done.quarantined = sum(entry.tally.quarantined_rows for entry in entries)
    return done


def _entries(ledger: Ledger, rng: Range) -> list[Entry]:
    touching = (entry for entry in ledger.entries.values() if entry.start < rng.end and entry.end > rng.start)
    return sorted(touching, key=lambda entry: entry.start)


def _landed(entry: Entry) -> Holding:
    return Holding(entry.tally.landed_rows, entry.tally.landed_digest)


def _answers(reader: EventsReader, entries: Sequence[Entry]) -> Answers:
    """What the source says of *entries*; windows that it does not speak of are missing."""
    found = Answers({}, {})
    for batch in questions.batches([part_of(entry) for entry in entries]):
        said = reader.probe.windows(batch)
        if said is None:
            return found
        found |= said
    return found


def _stands(entry: Entry, *, answered: bool) -> bool:
    """Whether something else than damage, which was counted just now, stands against the window.

    *answered*: the source holds what was landed, which settles all but what the events list contradicts.
    """
    facts = entry.facts
    return bool(facts.witness or (not answered and (facts.disputed or facts.held or facts.unread)))


def _differs(entry: Entry, said: Seen, early: Seen | None) -> bool:
    """Whether the source does not show what was read; of an open window without a baseline only the sums can say so."""
    if entry.state is State.OPEN and entry.agreed is None:
        return not agrees(entry, said, None)
    return not equals(entry, said, early)


def _doubled(sink: Sink, project_id: int, rng: Range) -> list[date]:
    """Dates not searched yet that hold an event in two windows."""
    days = [
        day
        for day in sink.ledger(project_id, STREAM).unchecked
        if rng.overlap(Range(midnight(day), midnight(day) + DAY))
    ]
    if not days:
        return []
    moments: list[datetime] = sink.duplicates(project_id, STREAM, days)["timestamp"].to_pylist()
    return sorted({at.date() for at in moments})


def _left(sink: Sink, ledger: Ledger, project_id: int, rng: Range) -> list[datetime]:
    """Starts of windows that the repair could not mend."""
    held = sink.audit(project_id, STREAM, rng.start, rng.end)
    return [
        entry.start
        for entry in _entries(ledger, rng)
        if held.get(entry.start, Holding()) != _landed(entry) or entry.facts.grave
    ]


class Comparing(DryRun):
    """Lands nothing, and notes how each window's reading differs from what the destination holds of it."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self.found: dict[datetime, rows_of.Difference] = {}

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        for landing in landings:
            entry = landing.entry
            held = self.hashes(entry.project_id, landing.replace_start, entry.covered_end)
            self.found[entry.start] = rows_of.difference(held, rows_of.hashed(landing.rows))
        return super().land(landings, mark=mark)


def _details(
    prover: Prover, sink: Sink, loader: Loader, entries: Sequence[Entry]
) -> dict[datetime, rows_of.Difference]:
    comparing = Comparing(sink)
    prover.load_again(entries, loader=loader.dry_run_loader(comparing, Outcome(), guard=Guard(accept=True)))
    return comparing.found


def _difference(
    entry: Entry,
    held: Holding,
    said: Seen | None,
    *,
    damaged: bool,
    changed: bool,
    detail: rows_of.Difference | None,
) -> Difference:
    def uuids(rows: pa.Table | None) -> tuple[str, ...]:
        return tuple(rows["uuid"].to_pylist()) if rows is not None else ()

    facts = entry.facts
    nothing_new = said is None or answered(entry) == said
    unread = bool(facts.unread and nothing_new and not (facts.disputed or facts.held or facts.witness))
    return Difference(
        start=entry.start,
        end=entry.end,
        state=entry.shown,
        ledger_rows=entry.tally.landed_rows,
        held_rows=held.rows,
        source_rows=said.rows if said else None,
        damaged=damaged,
        changed=changed and not unread,
        unread=unread,
        missing=uuids(detail.added if detail else None),
        extra=uuids(pa.concat_tables([detail.deleted, detail.doubled]) if detail else None),
        differing=uuids(detail.changed if detail else None),
    )
