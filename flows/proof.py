"""Proves landed windows against the source: asks the probe before and after reading, reads again what differs, says the rest.

States and rules: design.md, "What the ledger proves". The acting part of a run beside the loader; what is decided from
values alone stands at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from extractors import probe
from extractors.events import EventsReader
from extractors.probe import Part, Seen
from extractors.window import Range, Window
from extractors.zone import HourCount
from flows import plan
from flows.loader import STREAM, Guard, Loader, Order, Outcome
from flows.plan import Target
from sinks.base import Entry, Landing, Probed, Sink, State
from transforms import events as rows_of

MOVED_ROUNDS = 3  # an event that still moves is left to the next run, and named


class Prover:
    """Lands targets and proves them. *may_ask*: whether the budget allows a further look-back query."""

    def __init__(
        self,
        order: Order,
        reader: EventsReader,
        sink: Sink,
        loader: Loader,
        outcome: Outcome,
        *,
        now: datetime,
        may_ask: Callable[[], bool],
    ) -> None:
        self._order, self._reader, self._sink, self._loader, self._outcome = order, reader, sink, loader, outcome
        self._now, self._may_ask = now, may_ask
        self._asked: set[datetime] = set()

    def land(self, targets: Sequence[Target], hours: Mapping[datetime, HourCount], *, mark: datetime | None) -> None:
        """Read and land *targets*, which ascend; then compare those that have settled with the source."""
        rows = {hour: count.rows for hour, count in hours.items()}
        settled = [target for target in targets if target.state is State.LANDED]
        before = self._seen(
            [Part(target.window, target.covers, plan.expected_rows(target, rows)) for target in settled]
        )
        known = [target.previous for target in targets if target.previous is not None]
        self._loader.guard.compared += sum(entry.tally.landed_rows for entry in known)
        held = self._held([entry for entry in known if before is not None and entry.start in before], before or {})
        targets = [target for target in targets if target.window.start not in held]
        settled = [target for target in settled if target.window.start not in held]
        sweeps = list(plan.sweeps(targets))
        for number, sweep in enumerate(sweeps):
            last = number == len(sweeps) - 1
            self._loader.load(sweep, self._reader, hours=hours, mark=mark if last else None)
        self.settle_moved()
        if settled and before is not None:
            self._prove(Range(settled[0].window.start, settled[-1].window.end), before)

    def settle_moved(self) -> None:
        """One identity in two windows of its date: the source moved the event, or holds copies. Land those windows again.

        Searches the dates landed in parts since their last check (design.md, "An event that the source moves"). What a
        second reading still shows twice are copies that PostHog has not merged: the latest is kept.
        """
        order, sink, outcome = self._order, self._sink, self._outcome
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
            for sweep in plan.sweeps(plan.again(ledger, moments, now=self._now, settle=order.settle)):
                self._loader.load(sweep, self._reader, older=older)
            older = rows_of.superseded(twice)

    def look_back(self, rng: Range | None, *, since: datetime | None) -> None:
        """Ask again for windows landed before: those never compared, and all since *since*; read again what differs.

        *rng*: only windows inside it. What the budget does not reach comes first in the next run.
        """
        ledger = self._sink.ledger(self._order.project_id, STREAM)
        entries = plan.compared_again(ledger, rng=rng, since=since, asked=self._asked)
        reached = 0
        for batch in probe.batches([part_of(entry) for entry in entries]):
            if not self._may_ask():
                break
            seen = self._seen(batch)
            if seen is None:
                return
            reached += len(batch)
            self.settle_differences([ledger.entries[part.window.start] for part in batch], seen)
        self._outcome.unasked = len(entries) - reached

    def dispute(self, entries: Sequence[Entry], seen: Mapping[datetime, Seen]) -> None:
        """Note that the destination does not hold what was landed: every later run says so until it is repaired."""
        self._sink.note(
            [
                self._noted(entry, seen[entry.start], State.DISPUTED)
                if entry.start in seen
                else replace(entry, state=State.DISPUTED)
                for entry in entries
                if entry.state.settled
            ]
        )

    def agree(self, entries: Sequence[Entry], seen: Mapping[datetime, Seen]) -> None:
        """Note that the source still holds what was read of *entries*."""
        self._note([self._noted(entry, seen[entry.start], proven(entry)) for entry in entries])

    def rewrite(self, entries: Sequence[Entry], seen: Mapping[datetime, Seen]) -> None:
        """Read the windows of *entries* again and replace their rows, whatever the ledger says of them."""
        self._loader.guard.compared += sum(entry.tally.landed_rows for entry in entries)
        held = self._held(entries, seen)
        entries = [entry for entry in entries if entry.start not in held]
        if entries:
            self.load_again(entries, rewrite=True)
            self.settle_moved()
            held = set(self._outcome.held)
            stopped = [entry for entry in entries if entry.start in held and entry.state.settled]
            self._sink.note([replace(entry, state=State.HELD) for entry in stopped])
            self._prove(Range(min(entry.start for entry in entries), max(entry.end for entry in entries)), {})

    def settle_differences(
        self, entries: Sequence[Entry], seen: Mapping[datetime, Seen], *, force: bool = False
    ) -> None:
        """Note what agrees with *seen*, and read again what does not, unless that would remove too much.

        *force*: read again also what was in dispute before.
        """
        asked = [entry for entry in entries if entry.start in seen]
        guard = self._loader.guard
        guard.compared += sum(entry.tally.landed_rows for entry in asked)
        agreeing, differing = [], []
        for entry in asked:
            said = seen[entry.start]
            if not force and still_disputed(entry, said, accept=guard.accept):
                (self._outcome.held if entry.state is State.HELD else self._outcome.disputed).append(entry.start)
            elif not force and agrees(entry, said, baseline(entry)):
                agreeing.append(entry)
            else:
                differing.append(entry)
        self.agree(agreeing, seen)
        if not differing:
            return
        held = self._held(differing, seen)
        differing = [entry for entry in differing if entry.start not in held]
        if differing:
            self.load_again(differing)
            self.settle_moved()
            held = set(self._outcome.held)
            self._sink.note(
                [self._noted(entry, seen[entry.start], State.HELD) for entry in differing if entry.start in held]
            )
            span = Range(min(entry.start for entry in differing), max(entry.end for entry in differing))
            self._prove(span, {entry.start: seen[entry.start] for entry in differing})

    def read_again(self, *, requests: int) -> None:
        """Read windows again at the re-read ages: those with unmerged copies, and all where the source is not to be asked.

        At most *requests* pages.
        """
        ledger = self._sink.ledger(self._order.project_id, STREAM)
        due = plan.due_again(ledger, self._order.reread_at, now=self._now, everything=bool(self._reader.probe.refusal))
        taken = sorted(plan.affordable(due, requests=requests), key=lambda entry: entry.start)
        if not taken:
            return
        self._loader.guard.compared += sum(entry.tally.landed_rows for entry in taken)
        self.load_again(taken)
        self.settle_moved()
        self._prove(Range(taken[0].start, taken[-1].end), {})

    def load_again(self, entries: Sequence[Entry], *, loader: Loader | None = None, rewrite: bool = False) -> None:
        """Read the windows of *entries* again, as far as they are covered, with *loader* or the run's own."""
        ledger = self._sink.ledger(self._order.project_id, STREAM)
        moments = sorted(entry.start for entry in entries)
        for sweep in plan.sweeps(plan.again(ledger, moments, now=self._now, settle=self._order.settle)):
            (loader or self._loader).load(sweep, self._reader, rewrite=rewrite)

    def _held(self, entries: Sequence[Entry], seen: Mapping[datetime, Seen]) -> set[datetime]:
        """Windows of *entries* that are not to be read again, because that would remove too much at once.

        Noted as held, so that every later run says so. Those of a rebuild stay stale, and those that were read last while
        they were open stay open, to be read to their end: both do the same.
        """
        missing = {
            entry.start: self._rows_of_stream(entry) - seen[entry.start].rows
            for entry in entries
            if entry.start in seen
        }
        gone = [entry for entry in entries if missing.get(entry.start, 0) > 0]
        if not (self._loader.guard.stops(sum(missing[entry.start] for entry in gone)) and self._would_empty(gone)):
            return set()
        self._sink.note([self._noted(entry, seen[entry.start], State.HELD) for entry in gone if entry.state.settled])
        self._outcome.held += [entry.start for entry in gone]
        return {entry.start for entry in gone}

    def _rows_of_stream(self, entry: Entry) -> int:
        """How many rows of a window the source should show: after a rebuild those that the filter in force lets pass."""
        if entry.state is not State.STALE:
            return entry.tally.source_rows
        if not self._reader.events.identity:
            return entry.tally.landed_rows
        held = self._sink.hashes(self._order.project_id, entry.covered_start, entry.covered_end)
        return int(self._reader.events.passing(held).num_rows)

    def _would_empty(self, entries: Sequence[Entry]) -> bool:
        """Whether the list, too, does not show the rows that the probe does not count: read without landing."""
        trial = Guard(accept=True)
        loader = self._loader.beside(Rehearsal(self._sink), Outcome(), guard=trial)
        for entry in sorted(entries, key=lambda entry: entry.start):
            self.load_again([entry], loader=loader)
            if self._loader.guard.stops(trial.removed):
                return True
        return False

    def _prove(self, span: Range, before: Mapping[datetime, Seen]) -> None:
        """Compare what was landed in *span* with the source; what differs is read again once, then disputed.

        *before*: what the source held before it was read, by window; where created_at moved since, a change may have been
        missed.
        """
        for last in (False, True):
            ledger = self._sink.ledger(self._order.project_id, STREAM)
            entries = [
                entry
                for entry in ledger.entries.values()
                if entry.probed is None and entry.state.settled and span.start <= entry.start < span.end
            ]
            seen = self._seen([part_of(entry) for entry in entries])
            if seen is None:
                return
            notes, differing = [], []
            for entry in entries:
                said = seen.get(entry.start)
                if said is None:
                    continue
                if agrees(entry, said, before.get(entry.start)):
                    notes.append(self._noted(entry, said, proven(entry)))
                elif last and said != before.get(entry.start):
                    # The source has moved on since the second reading began: no dispute, the next run compares again.
                    self._outcome.moving.append(entry.start)
                elif last:
                    notes.append(self._noted(entry, said, State.DISPUTED))
                    self._outcome.disputed.append(entry.start)
                else:
                    differing.append(entry)
            self._note(notes)
            if not differing:
                return
            before = seen
            self.load_again(differing)
            self.settle_moved()

    def _note(self, notes: Sequence[Entry]) -> None:
        self._sink.note(notes)
        self._outcome.verified += sum(note.state in (State.VERIFIED, State.UNMERGED) for note in notes)

    def _noted(self, entry: Entry, said: Seen, state: State) -> Entry:
        self._asked.add(entry.start)
        return replace(entry, state=state, probed=Probed(self._now, str(said)))

    def _seen(self, parts: Iterable[Part]) -> Mapping[datetime, Seen] | None:
        """What the source says of *parts*; None where it refuses to."""
        found: dict[datetime, Seen] = {}
        for batch in probe.batches(parts):
            seen = self._reader.probe.windows(batch)
            if seen is None:
                return None
            found |= seen.seen
        return found


class Rehearsal:
    """Takes landings and lands nothing: what would change is found out, and stays as it is."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        del mark
        return [landing.entry for landing in landings]

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        return self._sink.hashes(project_id, start, end)


def part_of(entry: Entry) -> Part:
    """The part of the source that *entry* speaks of."""
    covers = Range(entry.covered_start, entry.covered_end)
    return Part(Window(entry.start, entry.end), covers, entry.tally.source_rows)


def baseline(entry: Entry) -> Seen | None:
    """What the source said of the window when it was last compared."""
    return Seen.parse(entry.probed.values) if entry.probed else None


def agrees(entry: Entry, said: Seen, before: Seen | None) -> bool:
    """Whether the source holds what was read, and nothing was inserted anew since *before*.

    Rows in quarantine have no digest: such a window agrees in its count, and in everything that the source said *before*.
    """
    if entry.tally.quarantined_rows:
        return said.rows == entry.tally.source_rows and (before is None or said == before)
    return said.digest == entry.tally.source_digest and (before is None or said.created == before.created)


def still_disputed(entry: Entry, said: Seen, *, accept: bool) -> bool:
    """Whether a window in dispute stays so: the source says what it said when the dispute began."""
    disputed = entry.state is State.DISPUTED or (entry.state is State.HELD and not accept)
    return disputed and baseline(entry) == said


def proven(entry: Entry) -> State:
    """The state of a window whose source side is what was read.

    Different copies stay to be read again; where rows are in quarantine only their number is known to be right.
    """
    if entry.state is State.UNMERGED:
        return State.UNMERGED
    return State.LANDED if entry.tally.quarantined_rows else State.VERIFIED
