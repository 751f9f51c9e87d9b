"""Proves landed windows against the source: asks the probe before and after reading, reads again what differs, notes the rest.

States, facts and rules: docs/ledger.md, docs/proof.md. The acting part of a run; what is decided from values alone stands
in flows.landing.agreement, what a note makes of an entry in sinks.ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TypeVar

import pyarrow as pa

from extractors.reading import questions
from extractors.reading.questions import Answers, Part, Seen
from extractors.reading.zone import HourCount
from extractors.window import MICROSECOND, Range, Window
from flows.landing import due, plan
from flows.landing.agreement import agrees, equals, part_of, still_stands
from flows.landing.attempt import Attempt
from flows.landing.groups import expected_rows
from flows.landing.load import Loader
from flows.landing.outcome import Agreed, Doubled, Moving, Unasked
from flows.landing.plan import Sweep, Target
from flows.landing.session import STREAM
from flows.landing.sweep import WindowRead, read
from sinks.entries import Agreement, Damage, Dispute, Entry, Finding, Note, Sound, State, Stop, TooHeavy, Unserved
from transforms import events as rows_of

MOVED_ROUNDS = 3  # an event that still moves is left to the next run, and named
T = TypeVar("T")


class Prover:
    """Lands the targets of an attempt with *loader*, and proves them."""

    def __init__(self, attempt: Attempt, loader: Loader) -> None:
        self._attempt, self._loader = attempt, loader
        self._order, self._sink, self._reader = attempt.session.order, attempt.session.sink, attempt.reader
        self._asked: set[datetime] = set()

    def land(self, targets: Sequence[Target], hours: Mapping[datetime, HourCount], *, mark: datetime | None) -> None:
        """Read and land *targets*, which ascend; then compare those that have settled with the source."""
        rows = {hour: count.rows for hour, count in hours.items()}
        settled = [target for target in targets if target.state is State.LANDED]
        before = self._answers([Part(target.window, target.covers, expected_rows(target, rows)) for target in settled])
        known = [target.previous for target in targets if target.previous is not None]
        stopped = self._stopped(known, before or Answers({}, {}))
        kept = (plan.tail_of(target) if target.window.start in stopped else target for target in targets)
        targets = [target for target in kept if target is not None]
        settled = [target for target in settled if target.window.start not in stopped]
        sweeps = list(plan.sweeps(targets))
        cut: set[date] = set()
        for number, sweep in enumerate(sweeps):
            last = number == len(sweeps) - 1
            cut |= self._load(sweep, hours=hours, mark=mark if last else None)
        moved = self.settle_moved()
        if before is not None:
            # Of a date that was cut since, the answers speak of other windows; the look-back compares the rest of them.
            same = {start: seen for start, seen in before.seen.items() if start.date() not in cut}
            self._prove({*(target.window.start for target in settled), *moved}, {**same, **moved})

    def settle_moved(self) -> dict[datetime, Seen | None]:
        """One identity in two windows of its date: the source moved the event, or holds copies. Land those windows again.

        Searches the dates landed in parts since their last check (docs/ledger.md). What a second reading still shows twice
        are copies that PostHog has not merged: the latest is kept. Gives the windows that were landed, to be compared, and
        what the source said of each before it was read.
        """
        order, sink, log = self._order, self._sink, self._attempt.log
        older: pa.Table | None = None
        moved: dict[datetime, Seen | None] = {}
        for remaining in reversed(range(MOVED_ROUNDS + 1)):
            ledger = self._attempt.ledger()
            if not ledger.unchecked:
                return moved
            twice = sink.duplicates(order.project_id, STREAM, ledger.unchecked)
            moments: list[datetime] = twice["timestamp"].to_pylist()
            doubled = sorted({at.date() for at in moments})
            log.append(Doubled(tuple(doubled)))
            if clean := ledger.unchecked.difference(doubled):
                sink.mark_searched(order.project_id, STREAM, clean, seen=ledger)
            if not doubled or not remaining:
                return moved
            targets = plan.again(ledger, moments, now=self._attempt.sure, settle=order.settle)
            entries = [target.previous for target in targets if target.previous is not None]
            said = self._answers(map(part_of, entries))
            moved |= {entry.start: said.seen.get(entry.start) if said else None for entry in entries}
            for sweep in plan.sweeps(targets):
                self._load(sweep, older=older)
            older = rows_of.superseded(twice)
        raise AssertionError("unreachable: the last round returns")

    def look_back(self, rng: Range | None, *, since: datetime | None) -> None:
        """Ask again for windows landed before: open ones, those never compared, and all since *since*; read what differs.

        *rng*: only windows inside it. What the budget does not reach comes first in the next run.
        """
        order = self._order
        ledger = self._attempt.ledger()
        entries = due.compared_again(
            ledger, order.reread_at, rng=rng, since=since, now=self._attempt.now, asked=self._asked
        )
        reached = 0
        for batch in questions.batches([part_of(entry) for entry in entries]):
            if not self._reader.queries_left(order.lookback_queries):
                break
            answers = self._answers(batch)
            if answers is None or self._reader.probe.unavailable:
                return
            reached += len(batch) - len(answers.unanswered)
            self.settle_differences([ledger.entries[part.window.start] for part in batch], answers)
        self._attempt.log.append(Unasked(len(entries) - reached))

    def note_holdings(self, damaged: Sequence[Entry], sound: Sequence[Entry]) -> None:
        """Note which windows the destination does not hold as they were landed, and which it does again."""
        self._note([(entry, Damage()) for entry in damaged])
        self._note([(entry, Sound()) for entry in sound if entry.facts.damaged is not None])

    def settle_differences(
        self, entries: Sequence[Entry], answers: Answers, *, force: Collection[datetime] = ()
    ) -> None:
        """Note what agrees with *answers*, and read again what does not, if the source says something new of it.

        *force*: starts of windows to be read again whatever the source says.
        """
        found: list[tuple[Entry, Finding]] = []
        differing: list[Entry] = []
        for entry in entries:
            said, accepted = answers.seen.get(entry.start), self._order.accept_deletions
            if entry.start in force or (accepted and entry.facts.held is not None):
                differing.append(entry)
            elif entry.start in answers.heavy:
                found.append((entry, TooHeavy()))
            elif said is None:
                continue
            elif equals(entry, said, answers.early.get(entry.start)):
                found.append((entry, Agreement(str(said), entry.compared_until)))
            elif still_stands(entry, said) or (entry.facts.unread is not None and not entry.settled):
                continue  # an open window's microseconds are read again when it has settled, or at their ages
            elif self._counts_what_is_not_served(entry, said):
                found.append((entry, Unserved(str(said))))
            else:
                differing.append(entry)
        self._note(found)
        stopped = self._stopped(differing, answers)
        differing = [entry for entry in differing if entry.start not in stopped]
        if differing:
            self.load_again(differing)
            moved = self.settle_moved()
            self._prove({*(entry.start for entry in differing), *moved}, {**answers.seen, **moved})

    def read_again(self, *, allowance: int) -> None:
        """Read windows again that have come to a re-read age, within *allowance* pages and what earlier runs saved."""
        order = self._order
        ledger = self._attempt.ledger()
        refused = bool(self._reader.probe.refusal or self._reader.probe.unavailable)
        waiting = due.due_again(ledger, order.reread_at, now=self._attempt.now, refused=refused)
        accepted = [entry for entry in ledger.entries.values() if entry.facts.held and order.accept_deletions]
        waiting = [one for one in waiting if one.entry not in accepted]
        taken, saved = due.affordable(waiting, allowance=allowance, saved=ledger.saved)
        taken += accepted
        if saved != ledger.saved:
            self._sink.save(order.project_id, STREAM, saved)
        if taken:
            before = self._answers(map(part_of, sorted(taken, key=lambda entry: entry.start)))
            self.load_again(taken)
            moved = self.settle_moved()
            self._prove({*(entry.start for entry in taken), *moved}, {**(before.seen if before else {}), **moved})

    def load_again(self, entries: Sequence[Entry]) -> None:
        """Read the windows of *entries* again, as far as they are covered, and land them."""
        for sweep in self._sweeps_of(entries):
            self._load(sweep)

    def read_only(self, entries: Sequence[Entry], look: Callable[[WindowRead], T]) -> dict[datetime, T]:
        """Read the windows of *entries* again and land nothing; by window what *look* makes of its reading."""
        found = {}
        for sweep in self._sweeps_of(entries):
            with read(self._attempt.session, self._reader, sweep, now=self._attempt.now) as steps:
                found.update({window.start: look(window) for step in steps for window in step.windows})
        return found

    def _sweeps_of(self, entries: Sequence[Entry]) -> Iterable[Sweep]:
        moments = sorted(entry.start for entry in entries)
        targets = plan.again(self._attempt.ledger(), moments, now=self._attempt.sure, settle=self._order.settle)
        return plan.sweeps(targets)

    def _load(
        self,
        sweep: Sweep,
        *,
        hours: Mapping[datetime, HourCount] | None = None,
        mark: datetime | None = None,
        older: pa.Table | None = None,
    ) -> frozenset[date]:
        """Read *sweep* and land it; what the guard stopped is noted, and the tail behind it lands all the same.

        Gives the dates that were cut into shorter windows than planned.
        """
        loaded = self._loader.load(sweep, hours=hours, mark=mark, older=older)
        self._note([(entry, Stop()) for entry in loaded.stopped])
        stopped = {entry.start for entry in loaded.stopped}
        tails = (plan.tail_of(target) for target in sweep.targets if target.window.start in stopped)
        for tail in plan.sweeps(target for target in tails if target is not None):
            self._loader.load(tail)
        return loaded.cut

    def _stopped(self, entries: Sequence[Entry], answers: Answers) -> set[datetime]:
        """Windows of *entries* that are not to be read again, because all together that would remove too much; noted.

        The source's count alone is no proof of absence: what the events list shows decides, read without landing.
        """
        missing = {
            entry.start: self._rows_of_stream(entry) - answers.seen[entry.start].rows
            for entry in entries
            if entry.start in answers.seen
        }
        gone = {start: rows for start, rows in missing.items() if rows > 0}
        guard, now = self._attempt.guard, self._attempt.now
        if not guard.foresees(gone, now=now):
            return set()
        doomed = [entry for entry in entries if entry.start in gone]
        if not guard.foresees(self.read_only(doomed, self._loader.removed), now=now):
            return set()
        self._note([(entry, Stop(str(answers.seen[entry.start]))) for entry in doomed])
        return set(gone)

    def _rows_of_stream(self, entry: Entry) -> int:
        """How many rows of a window the source should show: after a rebuild those that the filter in force lets pass."""
        if entry.state is not State.STALE:
            return entry.known_tally.source_rows
        if not self._reader.events.identity:
            return entry.tally.landed_rows
        held = self._sink.hashes(self._order.project_id, entry.covered_start, entry.covered_end)
        return int(self._reader.events.passing(held).num_rows)

    def _prove(self, starts: Collection[datetime], before: Mapping[datetime, Seen | None]) -> None:
        """Compare what was landed of the windows at *starts* with the source; what differs is read again once, then disputed.

        *before*: what the source held before it was read, by window; where created_at moved since, a change may have been
        missed.
        """
        for last in (False, True):
            ledger = self._attempt.ledger()
            known = [ledger.entries[start] for start in sorted(starts) if start in ledger.entries]
            entries = [entry for entry in known if entry.agreed is None and (entry.settled or entry.base is not None)]
            entries = [entry for entry in entries if entry.start in self._attempt.log.landed]
            answers = self._answers([part_of(entry) for entry in entries])
            if answers is None:
                return
            found: list[tuple[Entry, Finding]] = [
                (entry, TooHeavy()) for entry in entries if entry.start in answers.heavy
            ]
            differing = []
            for entry in entries:
                said = answers.seen.get(entry.start)
                if said is None:
                    continue
                if agrees(entry, said, before.get(entry.start)):
                    found.append((entry, Agreement(str(said), entry.compared_until)))
                elif self._counts_what_is_not_served(entry, said):
                    found.append((entry, Unserved(str(said))))
                elif last and said != before.get(entry.start):
                    # The source has moved on since the second reading began: no dispute, the next run compares again.
                    self._attempt.log.append(Moving(entry.start))
                elif last:
                    found.append((entry, Dispute(str(said))))
                else:
                    differing.append(entry)
            self._note(found)
            if not differing:
                return
            self.load_again(differing)
            moved = self.settle_moved()
            starts, before = {*starts, *moved}, {**answers.seen, **moved}

    def _counts_what_is_not_served(self, entry: Entry, said: Seen) -> bool:
        """Whether *said* is what was landed and what the source has in the microseconds that this run could not read."""
        rest, landed = said.digest, self._attempt.log.landed.get(entry.start)
        moments = [at for at in (landed.unserved if landed else ()) if at < entry.compared_until]
        for at in moments if entry.facts.unread is not None else ():
            part = Part(Window(entry.start, entry.end), Range(at, at + MICROSECOND), 1)
            answers = self._reader.probe.windows([part])
            if answers is None or entry.start not in answers.seen:
                return False
            held = self._sink.rows(entry.project_id, at, at + MICROSECOND)
            rest = questions.without(rest, answers.seen[entry.start].digest, str(rows_of.source_digest(held)))
        return bool(moments) and not entry.tally.quarantined_rows and rest == entry.known_tally.source_digest

    def _note(self, found: Sequence[tuple[Entry, Finding]]) -> None:
        """Note findings; one that was decided from an older note is decided anew once."""
        notes = [Note(entry, self._attempt.now, finding) for entry, finding in found]
        if not notes:
            return
        left = self._sink.note(notes)
        again: list[Note] = []
        if left:
            entries = self._sink.ledger(self._order.project_id, STREAM).entries
            for note in left:
                entry = entries.get(note.known.start)
                if entry is not None and _speaks_of(note, entry):
                    again.append(replace(note, known=entry))
            left = [*self._sink.note(again), *(note for note in left if note.known.start not in _starts(again))]
        missed = _starts(left)
        for note in notes:
            start = note.known.start
            self._asked.add(start)
            if isinstance(note.finding, Agreement) and start not in missed and note.known.settled:
                self._attempt.log.append(Agreed(start, whole=note.known.facts.unmerged is None))

    def _answers(self, parts: Iterable[Part]) -> Answers | None:
        """What the source says of *parts*; None where it refuses to."""
        found = Answers({}, {})
        for batch in questions.batches(parts):
            answers = self._reader.probe.windows(batch)
            if answers is None:
                return None
            found |= answers
        return found


def _speaks_of(note: Note, entry: Entry) -> bool:
    """Whether a note that was left out still says something of *entry*: the same landing, noted since; or damage of the
    part of an open window before a tail that has landed since."""
    known = note.known
    if entry.generation == known.generation:
        return entry.noted != known.noted
    same_part = known.base is not None and entry.base is not None and entry.base.whole_at == known.base.whole_at
    return same_part and isinstance(note.finding, Damage)


def _starts(notes: Iterable[Note]) -> set[datetime]:
    return {note.known.start for note in notes}
