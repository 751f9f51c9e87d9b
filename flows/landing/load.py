"""Lands windows that were read: asks the guard, says what the source changed, commits, and tells what was committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from extractors.reading.zone import HourCount
from extractors.window import DAY, Range, midnight
from flows.landing.attempt import Attempt
from flows.landing.outcome import Landed
from flows.landing.plan import Sweep, Target
from flows.landing.session import STREAM, Committed, Progress
from flows.landing.sweep import Step, WindowRead, read
from sinks.entries import Changes, Entry, Facts, Landing, State, Tally
from sinks.errors import SinkError
from transforms import events as rows_of


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a sweep left: windows that the guard stopped, as they stand, and dates cut into shorter windows than planned."""

    stopped: tuple[Entry, ...] = ()
    cut: frozenset[date] = frozenset()


class Loader:
    """Lands the windows of an attempt. *planned*: how many there are to be."""

    def __init__(self, attempt: Attempt, *, planned: int = 0) -> None:
        self._attempt, self._planned = attempt, planned

    def load(
        self,
        sweep: Sweep,
        *,
        hours: Mapping[datetime, HourCount] | None = None,
        mark: datetime | None = None,
        older: pa.Table | None = None,
    ) -> Loaded:
        """Read *sweep* and land its windows; the last one carries *mark*. *hours*, *older*: as read() takes them."""
        attempt, stopped, cut = self._attempt, list[Entry](), set[date]()
        with read(attempt.session, attempt.reader, sweep, now=attempt.now, hours=hours, older=older) as steps:
            for step in steps:
                stopped += self._land(step.windows, mark=mark if step.last else None)
                self._planned += step.more
                cut |= step.cut
                self._tell(step)
                del step  # its rows go before the next ones are cut
        return Loaded(tuple(stopped), frozenset(cut))

    def removed(self, window: WindowRead) -> int:
        """How many events the destination would lose if *window* were landed."""
        return self._removed(window, self._held(window))

    def _land(self, windows: Sequence[WindowRead], *, mark: datetime | None) -> list[Entry]:
        """Land *windows* in one commit; gives those that would remove too much, which stay as they are."""
        landings: list[Landing] = []
        facts: dict[datetime, Landed] = {}
        stopped: list[Entry] = []
        for window in windows:
            held = self._held(window)
            removed = self._removed(window, held)
            previous = window.target.previous
            if previous is not None and self._attempt.guard.stops(window.start, removed, now=self._attempt.now):
                stopped.append(previous)
                continue
            found = changes(window, held)
            landings.append(self._landing(window, found, removed))
            facts[window.start] = _fact(window, found)
        if landings:
            self._commit(landings, facts, mark=mark)
        return stopped

    def _landing(self, window: WindowRead, found: Changes, removed: int) -> Landing:
        guard = self._attempt.guard
        entry = _entry(window, self._attempt.session.order.project_id)
        # Counted as decided: windows that are landed together must not each be allowed the same rows.
        removed = 0 if guard.accept else removed
        guard.landed(entry, removed)
        target, rows = window.target, window.settled.rows
        return Landing(entry, rows, window.rejects, target.reads.start, target.step, changes=found, removed=removed)

    def _commit(self, landings: Sequence[Landing], facts: Mapping[datetime, Landed], *, mark: datetime | None) -> None:
        try:
            self._count(self._attempt.session.sink.land(landings, mark=mark), facts)
        except SinkError as exc:
            self._count(exc.landed, facts)
            raise
        finally:
            pa.default_memory_pool().release_unused()

    def _count(self, landed: Sequence[Entry], facts: Mapping[datetime, Landed]) -> None:
        """Tell what was committed: only that counts, also of an attempt that ends in a conflict."""
        if not landed:
            return
        for entry in landed:
            self._attempt.log.append(facts[entry.start])
        spanned = Range(min(entry.start for entry in landed), max(entry.end for entry in landed))
        rows = sum(facts[entry.start].rows for entry in landed)
        self._attempt.session.listener.committed(Committed(spanned, len(landed), rows))

    def _tell(self, step: Step) -> None:
        log, requests = self._attempt.log, self._attempt.reader.requests
        at = Progress(log.windows, self._planned, log.rows + step.waiting, step.passed, requests)
        self._attempt.session.listener.progress(at)

    def _held(self, window: WindowRead) -> pa.Table | None:
        """Rows of the destination that the landing replaces; None where there are none, or where they stay as they are."""
        target, known = window.target, window.target.previous
        if known is None:
            return None
        whole = Range(known.covered_start, known.covered_end) == target.reads
        if not _rewrites(target) and whole and _same(known.tally, window.settled):
            return None
        project_id = self._attempt.session.order.project_id
        return self._attempt.session.sink.hashes(project_id, target.reads.start, target.window.end)

    def _removed(self, window: WindowRead, held: pa.Table | None) -> int:
        """How many events the destination would lose: of those that belong to the stream, not copies left out, and not
        those that another window of their date holds.

        Whatever the reason of the landing: a rebuild and a repair, too, must not empty a warehouse.
        """
        if held is None:
            return 0
        gone = self._attempt.reader.events.passing(rows_of.difference(held, window.settled.hashes).deleted)
        if window.older is not None:
            gone = rows_of.without(gone, window.older)
        target = window.target.window
        if not gone.num_rows or target.duration >= DAY:
            return int(gone.num_rows)
        day, session = midnight(target.start.date()), self._attempt.session
        parts = [(day, target.start), (target.end, day + DAY)]
        others = [session.sink.hashes(session.order.project_id, low, high) for low, high in parts if low < high]
        return int(rows_of.nowhere(gone, pa.concat_tables(others)).num_rows)


def changes(window: WindowRead, held: pa.Table | None) -> Changes:
    """What the source changed since the window was landed, in the part that was read after it had settled.

    *held*: the rows that the landing replaces. Nothing is said of windows landed under another filter, of damage that is
    repaired, of copies left out.
    """
    target, known = window.target, window.target.previous
    if known is None or held is None or known.state is State.STALE or window.older is not None:
        return Changes()
    if _rewrites(target):
        return Changes()
    # What an open window showed of its last minutes was still coming in.
    until = (
        (known.base.until if known.base else known.covered_start) if known.state is State.OPEN else known.covered_end
    )
    if max(target.reads.start, known.covered_start) >= min(target.reads.end, until):
        return Changes()
    part = Range(max(target.reads.start, known.covered_start), min(target.reads.end, until))
    found = rows_of.difference(_inside(held, part), _inside(window.settled.hashes, part))
    asked_at = max(known.read_at, known.probed.at if known.probed else known.read_at)
    first = found.earliest_added
    return Changes(
        late=found.added.num_rows,
        deleted=found.deleted.num_rows,
        changed=found.changed.num_rows,
        lateness=max(asked_at - first, timedelta(0)) if first else timedelta(0),
    )


def _entry(window: WindowRead, project_id: int) -> Entry:
    """What the ledger says of *window*, decided from what it said before."""
    target, read_at = window.target, window.read_at
    return Entry(
        project_id=project_id,
        stream=STREAM,
        start=target.window.start,
        end=target.window.end,
        covered_start=target.covers.start,
        covered_end=target.covers.end,
        state=target.state,
        read_at=read_at,
        tally=window.tally,
        generation=target.previous.generation if target.previous else 0,
        base=window.base,
        facts=Facts(
            unread=read_at if window.unproven or window.unserved else None,
            unmerged=read_at if window.settled.unmerged else None,
        ),
    )


def _fact(window: WindowRead, found: Changes) -> Landed:
    return Landed(
        window.start,
        rows=_new_rows(window.tally, window.target, found),
        copies=window.settled.copies,
        quarantined=window.rejects.num_rows,
        changes=found,
        unproven=window.unproven,
        unserved=window.unserved,
        undecided=window.settled.undecided,
        covers=window.target.covers,
    )


def _new_rows(tally: Tally, target: Target, found: Changes) -> int:
    """Rows that this landing brings: all of a window that is new, else what the window has grown by and what changed."""
    known = target.previous
    if known is None or known.state is State.STALE:
        return tally.landed_rows
    return max(0, tally.landed_rows - known.tally.landed_rows + found.deleted) + found.changed


def _rewrites(target: Target) -> bool:
    """Whether the rows are replaced even where the ledger calls them equal: the destination is known to be damaged."""
    return target.previous is not None and target.previous.facts.damaged is not None


def _same(tally: Tally, settled: rows_of.Settled) -> bool:
    return (tally.landed_rows, tally.landed_digest) == (settled.landed_rows, str(settled.landed_digest))


def _inside(rows: pa.Table, rng: Range) -> pa.Table:
    low, high = (pa.scalar(at, pa.timestamp("us", "UTC")) for at in (rng.start, rng.end))
    return rows.filter(pc.and_(pc.greater_equal(rows["timestamp"], low), pc.less(rows["timestamp"], high)))
