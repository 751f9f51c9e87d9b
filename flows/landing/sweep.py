"""One sweep after the other into windows: cuts rows where windows end, and lands each window that was passed.

A reading thread asks the next page while this thread lands the last (design.md, "One page, from bytes to a committed
row").
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from extractors.filters import EventFilter
from extractors.http.decode import REJECTS
from extractors.reading.events import EventsReader
from extractors.reading.rows import Passage
from extractors.reading.zone import HourCount
from extractors.window import DAY, Range, midnight
from flows.landing import plan
from flows.landing.guard import Guard
from flows.landing.outcome import STREAM, Committed, Order, Outcome, Progress
from flows.landing.plan import Sweep, Target
from flows.landing.spool import Spool
from sinks.errors import SinkError
from sinks.ledger import Base, Changes, Entry, Facts, Landing, State, Tally
from transforms import copies, digest
from transforms import events as rows_of

PAGES_AHEAD = 2
T = TypeVar("T")


class Lander(Protocol):
    """The part of a sink that loading needs; contracts: sinks.sink.Sink."""

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]: ...

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table: ...


class Loader:
    """Takes passages in, lets windows out: cuts rows at window ends and lands each window that was passed.

    *now*: the source's time when the run began; *guard*: decides what may be removed; *stopped*: windows that it left as
    they were; *cut*: dates that were cut into shorter windows than planned. *query_budget_left*: whether
    a query about copies may be asked.
    """

    def __init__(
        self,
        order: Order,
        sink: Lander,
        spool: Spool,
        outcome: Outcome,
        *,
        now: datetime,
        clock: Callable[[], datetime],
        on_progress: Callable[[Progress], None],
        on_commit: Callable[[Committed], None] = lambda committed: None,
        planned: int,
        guard: Guard,
        query_budget_left: Callable[[], bool] = lambda: True,
    ) -> None:
        self._order, self._sink, self._spool, self._outcome = order, sink, spool, outcome
        self._query_budget_left = query_budget_left
        self._later = copies.LATER.empty_table()
        self._clock, self._on_progress, self._on_commit, self._planned = clock, on_progress, on_commit, planned
        self._targets: deque[Target] = deque()
        self._rejects: list[pa.Table] = []
        self._mark: datetime | None = None
        self._older: pa.Table | None = None
        self._events = EventFilter()
        self._pending: dict[datetime, _Pending] = {}
        self._now = self._served_at = self._asked_at = self._began_at = now
        self.guard = guard
        self.stopped: list[Entry] = []
        self.cut: set[date] = set()
        self._unproven: set[datetime] = set()
        self._unserved: set[datetime] = set()

    def dry_run_loader(self, sink: Lander, outcome: Outcome, *, guard: Guard) -> Loader:
        """A loader of the same order into another sink, which shares the spool: not at the same time."""
        quiet: Callable[[Progress], None] = lambda progress: None  # noqa: E731
        return Loader(
            self._order,
            sink,
            self._spool,
            outcome,
            now=self._now,
            clock=self._clock,
            on_progress=quiet,
            planned=0,
            guard=guard,
            query_budget_left=self._query_budget_left,
        )

    def load(
        self,
        sweep: Sweep,
        reader: EventsReader,
        *,
        hours: Mapping[datetime, HourCount] | None = None,
        mark: datetime | None = None,
        older: pa.Table | None = None,
    ) -> None:
        """Read *sweep* and land its windows; the last one carries *mark*.

        *hours*: counts by query, where known. *older*: copies to leave out, as transforms.events.settled takes them.
        """
        self._targets, self._mark, self._older = deque(sweep.targets), mark, older
        self._events, self._rejects, self._unproven, self._unserved = reader.events, [], set(), set()
        self._began_at, self._later = self._served_at, copies.LATER.empty_table()
        edge, window_end = _Edge(), plan.window_ends(sweep.targets)

        def stage(passage: Passage) -> tuple[pa.Table, pa.Table, Passage]:
            rows = rows_of.from_page(passage.rows, project_id=self._order.project_id, loaded_at=self._clock())
            # Asked here, by the thread that reads: one client asks one question at a time.
            return rows, self._told(edge.joined(passage.rows, rows["_h"]), reader), passage

        with _ahead(
            map(stage, reader.sweep(sweep.range, window_end=window_end, hours=hours)), interrupted=reader.interrupted
        ) as staged:
            for rows, later, passage in staged:
                # The answer before this one came before this one's rows were asked for.
                self._asked_at, self._served_at = (
                    self._served_at,
                    max(filter(None, (self._served_at, passage.served_at))),
                )
                self._unproven.update(passage.unproven)
                self._unserved.update(passage.unread)
                self._later = pa.concat_tables([_from(self._later, self._targets), later])
                self._feed(rows, passage.rejects, passage.passed)

    def _told(self, rows: pa.Table, reader: EventsReader) -> pa.Table:
        """Which of the different copies among *rows* the source created last, as far as it tells."""
        differing = copies.differing(rows)
        if not differing.num_rows or not self._query_budget_left():
            return copies.LATER.empty_table()
        return copies.later(differing, reader.probe.contents(differing))

    def _feed(self, rows: pa.Table, rejects: pa.Table, passed: datetime) -> None:
        """Rows ascending; everything before *passed* has come."""
        landings: list[Landing] = []
        if rejects.num_rows:
            self._rejects.append(rejects)
        self._cut_dates(rows, rejects)
        while self._targets and self._targets[0].reads.end <= passed:
            head, rows = _cut(rows, self._targets[0].reads.end)
            self._spool.append(head)
            landing = self._landing(self._targets.popleft())
            if landing is not None:
                landings.append(landing)
            self._began_at = self._asked_at
        self._spool.append(rows)
        if landings:
            self._land(landings)
        weight = plan.weight(self._spool.num_rows, self._spool.num_bytes)
        if self._targets and weight > plan.OVERRUN_ROWS and not self._targets[0].step_known:
            self._cut_finer(passed)
        self._report(passed)

    def _cut_dates(self, rows: pa.Table, rejects: pa.Table) -> None:
        """Dates that were planned as one window should they be empty have rows: cut them as any that nobody counted."""
        days = _days(rows["timestamp"])
        if rejects.num_rows and self._targets:
            # One without a time, or with an earlier one, goes to the window under way.
            first = self._targets[0].window.start.date()
            days |= {max(first, day) for day in _days(rejects["at"])}
            days |= {first} if rejects["at"].null_count else set()
        front: list[Target] = []
        while days and self._targets and self._targets[0].window.start.date() <= max(days):
            target = self._targets.popleft()
            cut = plan.cut_if_rows(target, days)
            if len(cut) > 1:
                self.cut.add(target.window.start.date())
                self._planned += len(cut) - 1
            front.extend(cut)
        self._targets.extendleft(reversed(front))

    def _cut_finer(self, passed: datetime) -> None:
        """A date runs over its step: cut the rest of it, and what was read, into shorter windows."""
        first = self._targets[0]
        span = max(passed - first.reads.start, timedelta(seconds=1))
        weight = plan.weight(self._spool.num_rows, self._spool.num_bytes)
        step = plan.finer_step(first.step, weight, span)
        if step is None or first.window.start != midnight(first.window.start.date()):
            return
        day = first.window.start.date()
        finer: deque[Target] = deque()
        for target in self._targets:
            finer.extend(plan.recut(target, step) if target.window.start.date() == day else [target])
        self._planned += len(finer) - len(self._targets)
        self._targets = finer
        self.cut.add(day)
        self._feed(self._spool.take(), REJECTS.empty_table(), passed)

    def _landing(self, target: Target) -> Landing | None:
        """The window's landing; None where it would remove too much, which is noted."""
        rows = self._spool.take()
        rejects = self._take_rejects(target)
        settled = rows_of.settled(rows, older=self._older, later=self._later)
        held = self._held(target, settled)
        removed = self._removed(target, held, settled)
        if target.previous is not None and self.guard.stops(target.window.start, removed, now=self._now):
            self.stopped.append(target.previous)
            return None
        changes = self._changes(target, settled, held)
        tally = _tally(settled, rejects.num_rows)
        unproven, unserved = (
            sorted(at for at in found if target.reads.start <= at < target.reads.end)
            for found in (self._unproven, self._unserved)
        )
        base = self._base(target, rows, rejects) if target.state is State.OPEN else None
        previous = target.previous
        if target.reads.start > target.covers.start and previous is not None and previous.base is not None:
            tally = added(previous.base.tally, tally)
        read_at = self._began_at
        entry = Entry(
            project_id=self._order.project_id,
            stream=STREAM,
            start=target.window.start,
            end=target.window.end,
            covered_start=target.covers.start,
            covered_end=target.covers.end,
            state=target.state,
            read_at=read_at,
            tally=tally,
            generation=previous.generation if previous else 0,
            base=base,
            facts=Facts(
                unread=read_at if unproven or unserved else None, unmerged=read_at if settled.unmerged else None
            ),
        )
        self._pending[entry.start] = _Pending(
            _new_rows(entry.tally, target, changes),
            (settled.copies, rejects.num_rows),
            changes,
            unproven,
            unserved,
            settled.undecided,
        )
        # Counted as decided: windows that are landed together must not each be allowed the same rows.
        removed = 0 if self.guard.accept else removed
        self.guard.landed(entry, removed)
        return Landing(
            entry,
            settled.rows,
            rejects,
            target.reads.start,
            target.step,
            changes=changes,
            removed=removed,
        )

    def _held(self, target: Target, settled: rows_of.Settled) -> pa.Table | None:
        """Rows of the destination that the landing replaces; None where there are none, or where they stay as they are."""
        known = target.previous
        if known is None:
            return None
        whole = Range(known.covered_start, known.covered_end) == target.reads
        if not self._rewrites(target) and whole and _same(known.tally, settled):
            return None
        return self._sink.hashes(self._order.project_id, target.reads.start, target.window.end)

    def _removed(self, target: Target, held: pa.Table | None, settled: rows_of.Settled) -> int:
        """How many events the destination would lose: of those that belong to the stream, not copies left out, and not
        those that another window of their date holds.

        Whatever the reason of the landing: a rebuild and a repair, too, must not empty a warehouse.
        """
        if held is None:
            return 0
        gone = self._events.passing(rows_of.difference(held, settled.hashes).deleted)
        if self._older is not None:
            gone = rows_of.without(gone, self._older)
        if not gone.num_rows or target.window.duration >= DAY:
            return int(gone.num_rows)
        day = midnight(target.window.start.date())
        window = target.window
        parts = [(day, window.start), (window.end, day + DAY)]
        others = [self._sink.hashes(self._order.project_id, low, high) for low, high in parts if low < high]
        return int(rows_of.nowhere(gone, pa.concat_tables(others)).num_rows)

    def _rewrites(self, target: Target) -> bool:
        """Whether the rows are replaced even where the ledger calls them equal: the destination is known to be damaged."""
        return target.previous is not None and target.previous.facts.damaged is not None

    def _changes(self, target: Target, settled: rows_of.Settled, held: pa.Table | None) -> Changes:
        """What the source changed since the window was landed, in the part that was read after it had settled.

        Nothing is said of windows landed under another filter, of damage that is repaired, of copies left out.
        """
        known = target.previous
        if known is None or held is None or known.state is State.STALE or self._older is not None:
            return Changes()
        if self._rewrites(target):
            return Changes()
        # What an open window showed of its last minutes was still coming in.
        until = (
            (known.base.until if known.base else known.covered_start)
            if known.state is State.OPEN
            else known.covered_end
        )
        if max(target.reads.start, known.covered_start) >= min(target.reads.end, until):
            return Changes()
        part = Range(max(target.reads.start, known.covered_start), min(target.reads.end, until))
        found = rows_of.difference(_inside(held, part), _inside(settled.hashes, part))
        asked_at = max(known.read_at, known.probed.at if known.probed else known.read_at)
        first = found.earliest_added
        return Changes(
            late=found.added.num_rows,
            deleted=found.deleted.num_rows,
            changed=found.changed.num_rows,
            lateness=max(asked_at - first, timedelta(0)) if first else timedelta(0),
        )

    def _base(self, target: Target, rows: pa.Table, rejects: pa.Table) -> Base | None:
        """Sums of the part that the next sweep will not read again: older than the settle time."""
        until = min(target.reads.end, self._now - self._order.settle)
        tail = target.reads.start > target.covers.start
        previous = target.previous.base if target.previous and tail else None
        if until <= target.reads.start:
            return previous
        head, _ = _cut(rows, until)
        early = pc.less(rejects["at"], pa.scalar(until, pa.timestamp("us", "UTC")))
        tally = _tally(rows_of.settled(head, older=self._older, later=self._later), int(pc.sum(early).as_py() or 0))
        if previous:
            return Base(until, added(previous.tally, tally), previous.whole_at)
        return Base(until, tally, self._began_at)

    def _take_rejects(self, target: Target) -> pa.Table:
        """Rejects that belong to the window by their time, each text once: pages overlap. Without a time: to this window."""
        if not self._rejects:
            return REJECTS.empty_table()
        held = pa.concat_tables(self._rejects)
        if not self._targets:  # whatever time they claim: no window comes after this one
            self._rejects = []
            return _distinct(held)
        bound = pa.scalar(target.reads.end, pa.timestamp("us", "UTC"))
        mine = pc.fill_null(pc.less(held["at"], bound), True)
        rest = held.filter(pc.invert(mine))
        self._rejects = [rest] if rest.num_rows else []
        return _distinct(held.filter(mine))

    def _land(self, landings: list[Landing]) -> None:
        mark = self._mark if not self._targets else None
        try:
            self._count(self._sink.land(landings, mark=mark))
        except SinkError as exc:
            self._count(exc.landed)
            raise
        finally:
            pa.default_memory_pool().release_unused()

    def _count(self, landed: Sequence[Entry]) -> None:
        """Tell what was committed: only that counts, also of an attempt that ends in a conflict."""
        if not landed:
            return
        rows = sum([self._committed(entry) for entry in landed])
        spanned = Range(min(entry.start for entry in landed), max(entry.end for entry in landed))
        self._on_commit(Committed(spanned, len(landed), rows))

    def _committed(self, entry: Entry) -> int:
        start, outcome = entry.start, self._outcome
        pending = self._pending.pop(start)
        outcome.windows += 1
        outcome.rows += pending.rows
        outcome.landed.add(start)
        outcome.left_out[start] = pending.left_out
        outcome.agreed.discard(start)
        outcome.moving.discard(start)
        outcome.unproven.pop(start, None)
        if pending.unproven:
            outcome.unproven[start] = pending.unproven
        outcome.unserved.pop(start, None)
        if pending.unserved:
            outcome.unserved[start] = pending.unserved
        outcome.undecided.pop(start, None)
        if pending.undecided:
            outcome.undecided[start] = pending.undecided
        if pending.changes:
            outcome.changes[start] = pending.changes
        return pending.rows

    def _report(self, passed: datetime) -> None:
        self._on_progress(
            Progress(self._outcome.windows, self._planned, self._outcome.rows + self._spool.num_rows, passed)
        )


@dataclass(frozen=True, slots=True)
class _Pending:
    """What a landing will be told as, once it is committed."""

    rows: int
    left_out: tuple[int, int]
    changes: Changes
    unproven: list[datetime]
    unserved: list[datetime]
    undecided: int


class _Edge:
    """The last time's rows of the passage before: copies of one event may lie on two pages."""

    def __init__(self) -> None:
        self._rows: pa.Table | None = None

    def joined(self, rows: pa.Table, hashes: pa.ChunkedArray) -> pa.Table:
        """*rows*, which ascend, with their *hashes* as _h, behind those that the edge held; it then holds their last ones."""
        rows = rows.append_column("_h", hashes)
        if self._rows is not None:
            rows = pa.concat_tables([self._rows, rows])
        if rows.num_rows:
            self._rows = rows.filter(pc.equal(rows["timestamp"], rows["timestamp"][-1]))
        return rows


def _from(later: pa.Table, targets: Sequence[Target]) -> pa.Table:
    """Those of *later* that windows still to come may need."""
    if not later.num_rows or not targets:
        return later
    return later.filter(
        pc.greater_equal(later["timestamp"], pa.scalar(targets[0].reads.start, later["timestamp"].type))
    )


def added(first: Tally, second: Tally) -> Tally:
    """The tally of two ranges that do not overlap."""
    return Tally(
        source_rows=first.source_rows + second.source_rows,
        source_digest=str(
            digest.SourceDigest.parse(first.source_digest) + digest.SourceDigest.parse(second.source_digest)
        ),
        landed_rows=first.landed_rows + second.landed_rows,
        landed_digest=str((int(first.landed_digest) + int(second.landed_digest)) % digest.MODULUS),
        quarantined_rows=first.quarantined_rows + second.quarantined_rows,
        suppressed_rows=first.suppressed_rows + second.suppressed_rows,
        copies=first.copies + second.copies,
    )


def _tally(settled: rows_of.Settled, quarantined_rows: int) -> Tally:
    return Tally(
        source_rows=settled.source.count + quarantined_rows,
        source_digest=str(settled.source),
        landed_rows=settled.landed_rows,
        landed_digest=str(settled.landed_digest),
        quarantined_rows=quarantined_rows,
        copies=settled.copies,
    )


def _new_rows(tally: Tally, target: Target, changes: Changes) -> int:
    """Rows that this landing brings: all of a window that is new, else what the window has grown by and what changed."""
    known = target.previous
    if known is None or known.state is State.STALE:
        return tally.landed_rows
    return max(0, tally.landed_rows - known.tally.landed_rows + changes.deleted) + changes.changed


def _same(tally: Tally, settled: rows_of.Settled) -> bool:
    return (tally.landed_rows, tally.landed_digest) == (settled.landed_rows, str(settled.landed_digest))


def _inside(rows: pa.Table, rng: Range) -> pa.Table:
    low, high = (pa.scalar(at, pa.timestamp("us", "UTC")) for at in (rng.start, rng.end))
    return rows.filter(pc.and_(pc.greater_equal(rows["timestamp"], low), pc.less(rows["timestamp"], high)))


def _days(times: pa.ChunkedArray) -> set[date]:
    """The UTC dates of *times*."""
    return set(pc.unique(pc.drop_null(times).cast(pa.date32(), safe=False)).to_pylist())


def _distinct(rejects: pa.Table) -> pa.Table:
    first: dict[str, int] = {}
    for number, text in enumerate(rejects["text"].to_pylist()):
        first.setdefault(text, number)
    return rejects.take(pa.array(first.values(), pa.int64()))


def _cut(rows: pa.Table, at: datetime) -> tuple[pa.Table, pa.Table]:
    """Rows before *at* and the rest; *rows* ascend by time."""
    if not rows.num_rows:
        return rows, rows
    before = int(pc.sum(pc.less(rows["timestamp"], pa.scalar(at, pa.timestamp("us", "UTC")))).as_py() or 0)
    return rows.slice(0, before), rows.slice(before)


@contextmanager
def _ahead(
    items: Iterator[T], *, interrupted: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[Iterator[T]]:
    """Iterate *items* in another thread, a few ahead; its error is raised here.

    However the block is left, the thread has ended, or what comes next would meet it in the client: *interrupted* ends
    its waits meanwhile. Only Ctrl-C and what else ends the whole run wait for nobody.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=PAGES_AHEAD)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item, None)
                if stopped.is_set():
                    return
            put(None, None)
        except BaseException as exc:
            put(None, exc)

    def results() -> Iterator[T]:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    # A daemon: Ctrl-C must not wait for an answer or for a limit; a request under way changes nothing at the source.
    thread = threading.Thread(target=work, name="reader", daemon=True)
    thread.start()
    hurried = False
    try:
        yield results()
    except BaseException as exc:
        hurried = not isinstance(exc, Exception)
        raise
    finally:
        stopped.set()
        if not hurried:
            with interrupted():
                thread.join()
