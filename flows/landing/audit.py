"""`hedgerow verify`: landed windows against what the destination really holds and what the source counts.

Every difference is named; only windows that differ are read again, and only with *repair* (docs/proof.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from extractors.reading import questions
from extractors.reading.events import EventsReader
from extractors.reading.questions import Answers, Outside, Seen
from extractors.window import DAY, Range, midnight
from flows.landing import plan
from flows.landing.agreement import agrees, answered, equals, part_of
from flows.landing.attempt import Attempt
from flows.landing.crossing import until_done
from flows.landing.load import Loader
from flows.landing.outcome import Log, Planned
from flows.landing.proof import Prover
from flows.landing.session import STREAM, Session
from flows.landing.sweep import WindowRead
from flows.landing.verification import Difference, Verification
from sinks.entries import Entry, State
from sinks.ledger import Ledger
from sinks.sink import Holding, Sink
from transforms import differences

FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def run(session: Session, reader: EventsReader, log: Log, *, repair: bool, detail: bool) -> Verification:
    """Compare every window of the ledger that touches the order's range; with *repair* land again those that differ.

    Raises SourceError, SinkError; what was repaired stays.
    """
    order, sink = session.order, session.sink
    rng = Range(order.since or FIRST, order.until or LAST)
    log.append(Planned(rng))

    def attempt() -> Verification:
        now = reader.now()
        ledger = sink.ledger(order.project_id, STREAM)
        begun = Attempt.begun(session, reader, log, ledger=ledger, now=now)
        return _verify(begun, rng, repair=repair, detail=detail)

    return until_done(
        attempt,
        landed=lambda: sink.ledger(order.project_id, STREAM).landings,
        own=lambda: log.windows,
        on_retry=session.listener.retry,
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    """Windows of the range as the ledger, the destination and the source have them, before anything is mended.

    *comparable*: those that the source can be asked about; *damaged*, *changed*: starts of windows that the destination
    does not hold as landed, and of which the source says something else; *standing*: of which earlier runs did.
    """

    entries: Sequence[Entry]
    comparable: Sequence[Entry]
    held: Mapping[datetime | None, Holding]
    answers: Answers
    outside: Sequence[Outside]
    damaged: frozenset[datetime]
    changed: frozenset[datetime]
    standing: frozenset[datetime]

    @property
    def wrong(self) -> list[Entry]:
        damaged, changed, standing = self.damaged, self.changed, self.standing
        return [entry for entry in self.entries if entry.start in damaged | changed | standing]

    def difference(self, entry: Entry, detail: _Detail | None) -> Difference:
        """What is wrong with the window of *entry*."""
        start, facts = entry.start, entry.facts
        held, said = self.held.get(start, Holding()), self.answers.seen.get(start)
        nothing_new = said is None or answered(entry) == said
        unread = bool(facts.unread and nothing_new and not (facts.disputed or facts.held or facts.witness))
        # What an earlier run found is one thing, what the source says now another.
        changed = said is not None and not unread and _shows_other(entry, said, self.answers.early.get(start))
        return Difference(
            start=start,
            end=entry.end,
            state=entry.shown,
            ledger_rows=entry.tally.landed_rows,
            held_rows=held.rows,
            source_rows=said.rows if said else None,
            damaged=start in self.damaged,
            changed=changed,
            standing=start in self.changed | self.standing and not (changed or unread),
            unread=unread,
            missing=detail.named.missing if detail else (),
            extra=detail.named.extra if detail else (),
            differing=detail.named.differing if detail else (),
            differing_in=dict(detail.columns) if detail else {},
        )


def _verify(attempt: Attempt, rng: Range, *, repair: bool, detail: bool) -> Verification:
    prover, sink = Prover(attempt, Loader(attempt)), attempt.session.sink
    project_id = attempt.session.order.project_id
    found = _compared(attempt, rng)
    entries, seen, wrong = found.entries, found.answers.seen, found.wrong
    settled = {entry.start for entry in entries if entry.settled}
    details = prover.read_only(wrong, lambda window: _detail(sink, project_id, window)) if detail else {}
    differences = [found.difference(entry, details.get(entry.start)) for entry in wrong]
    prover.note_holdings(
        [entry for entry in entries if entry.start in found.damaged],
        [entry for entry in entries if entry.start not in found.damaged],
    )
    known = attempt.ledger().entries
    prover.settle_differences(_agreeing(found, known), found.answers)
    if repair:
        _repair(attempt, prover, found, known)
    doubled = [] if repair else _doubled(sink, project_id, rng)
    held = sink.audit(project_id, STREAM, rng.start, rng.end) if repair else found.held  # counted after the mend
    ledger = sink.ledger(project_id, STREAM)
    attempt.log.conclude(ledger)
    after = _entries(ledger, rng)
    inside = {entry.start for entry in after}
    return Verification(
        windows=len(entries),
        compared=len(settled & set(seen)),
        open=sum(entry.state is State.OPEN for entry in entries),
        unknown=len(settled - set(seen)),
        stale=sum(entry.state is State.STALE for entry in after),
        quarantined=sum(entry.tally.quarantined_rows for entry in after),
        unmerged=sum(entry.facts.unmerged is not None for entry in after),
        stray_rows=held[None].rows if None in held else 0,
        outside=list(found.outside),
        differences=differences,
        left=[entry.start for entry in (_left(after, held) if repair else wrong)],
        elsewhere=sorted(at for at, entry in ledger.entries.items() if entry.facts.grave and at not in inside),
        doubled=doubled,
    )


def _compared(attempt: Attempt, rng: Range) -> _Compared:
    reader, sink, project_id = attempt.reader, attempt.session.sink, attempt.session.order.project_id
    ledger = attempt.ledger()
    held = sink.audit(project_id, STREAM, rng.start, rng.end)
    # What another run landed while the rows were counted is no damage, and was compared by that run.
    now_known = sink.ledger(project_id, STREAM).entries
    entries = [entry for entry in _entries(ledger, rng) if _same_landing(entry, now_known)]
    comparable = [entry for entry in entries if entry.settled or entry.base is not None]
    answers = _answers(reader, comparable)
    covered = (Range(entry.covered_start, entry.covered_end) for entry in ledger.entries.values())
    outside = reader.probe.outside(covered) or []
    reader.confirm_clock()  # before anything is noted or said by it
    damaged = {entry.start for entry in entries if held.get(entry.start, Holding()) != _landed(entry)}
    asked = [entry for entry in comparable if entry.start in answers.seen]
    changed = {
        entry.start for entry in asked if _differs(entry, answers.seen[entry.start], answers.early.get(entry.start))
    }
    agreeing = {entry.start for entry in asked} - changed
    standing = {entry.start for entry in entries if _stands(entry, answered=entry.start in agreeing)}
    return _Compared(
        entries, comparable, held, answers, outside, frozenset(damaged), frozenset(changed), frozenset(standing)
    )


def _agreeing(found: _Compared, known: Mapping[datetime, Entry]) -> list[Entry]:
    """Windows that the source still shows as they were landed, by the ledger as it is *known* now."""
    seen, changed = found.answers.seen, found.changed
    same = [entry for entry in found.comparable if _same_landing(entry, known)]
    return [known[entry.start] for entry in same if entry.start in seen and entry.start not in changed]


def _repair(attempt: Attempt, prover: Prover, found: _Compared, known: Mapping[datetime, Entry]) -> None:
    """Read again what is wrong, and land what is stale."""
    again = [known[entry.start] for entry in found.wrong if entry.start in known]
    # Different copies may be merged by now, and what could not be typed may have been damaged on its way.
    others = [entry for entry in known.values() if entry.facts.unmerged or entry.tally.quarantined_rows]
    asked = {entry.start for entry in found.entries} - {entry.start for entry in again}
    again += [entry for entry in others if entry.start in asked]
    again = [entry for entry in again if entry.state is not State.STALE]
    prover.settle_differences(again, found.answers, force={entry.start for entry in again})
    stale = {entry.start for entry in found.entries if entry.state is State.STALE}
    order = attempt.session.order
    unfinished = plan.unfinished(attempt.ledger(), None, now=attempt.sure, settle=order.settle)
    prover.land([target for target in unfinished if target.window.start in stale], {}, mark=None)


def _same_landing(entry: Entry, known: Mapping[datetime, Entry]) -> bool:
    """Whether nobody has landed the window anew."""
    return entry.start in known and known[entry.start].generation == entry.generation


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


def _shows_other(entry: Entry, said: Seen, early: Seen | None) -> bool:
    """Whether the source says something else of the window now than was read, whatever stands against it since earlier."""
    return _differs(replace(entry, facts=replace(entry.facts, disputed=None, held=None)), said, early)


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


def _left(entries: Sequence[Entry], held: Mapping[datetime | None, Holding]) -> list[Entry]:
    """Windows that the repair could not mend; *held*: after it."""
    return [entry for entry in entries if held.get(entry.start, Holding()) != _landed(entry) or entry.facts.grave]


@dataclass(frozen=True, slots=True)
class _Detail:
    """How a window's reading differs from what the destination holds of it, and in which columns by uuid."""

    named: differences.Named
    columns: Mapping[str, tuple[str, ...]]


def _detail(sink: Sink, project_id: int, window: WindowRead) -> _Detail:
    target, read = window.target, window.settled
    part = target.reads.start, target.covers.end
    found = differences.named(sink.hashes(project_id, *part), read.hashes)
    if not found.differing:
        return _Detail(found, {})
    return _Detail(found, differences.columns(sink.rows(project_id, *part), read.rows, found.differing))
