"""One sweep of the events list, cut where windows end: each window comes out as soon as all of it is read.

Lands nothing and asks the destination nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from extractors.http.decode import REJECTS
from extractors.reading.events import EventsReader
from extractors.reading.rows import Passage, joined
from extractors.reading.zone import HourCount
from extractors.window import midnight
from flows.landing import plan
from flows.landing.ahead import Joining, ahead
from flows.landing.plan import Sweep, Target
from flows.landing.session import Session
from flows.landing.spool import Spool
from sinks.entries import Base, State, Tally
from transforms import copies, digest
from transforms import events as rows_of
from transforms.events import STAGED


@dataclass(frozen=True, slots=True)
class WindowRead:
    """All that the source showed of a target's range, as it would be landed.

    *read_at*: the server's time before it was asked for; *base*: sums of an open window's settled part; *unproven*,
    *unserved*: microseconds, as Passage has them; *older*: copies that were left out on purpose.
    """

    target: Target
    settled: rows_of.Settled
    rejects: pa.Table
    read_at: datetime
    base: Base | None
    unproven: tuple[datetime, ...]
    unserved: tuple[datetime, ...]
    older: pa.Table | None

    @property
    def start(self) -> datetime:
        return self.target.window.start

    @property
    def tally(self) -> Tally:
        """What the ledger will say of the whole window: of a tail, with the part before it."""
        tally, previous = _tally(self.settled, self.rejects.num_rows), self.target.previous
        if self.target.reads.start > self.target.covers.start and previous is not None and previous.base is not None:
            return added(previous.base.tally, tally)
        return tally


@dataclass(frozen=True, slots=True)
class Step:
    """What one passage brought: *windows* that are read whole with it, and whether they are the *last*.

    *passed*: everything before it has come; *waiting*: rows of windows still to come; *cut*: dates that were cut into
    shorter windows than planned, which makes *more* windows.
    """

    windows: tuple[WindowRead, ...]
    last: bool
    passed: datetime
    waiting: int
    cut: frozenset[date]
    more: int


@contextmanager
def read(
    session: Session,
    reader: EventsReader,
    sweep: Sweep,
    *,
    now: datetime,
    hours: Mapping[datetime, HourCount] | None = None,
    older: pa.Table | None = None,
) -> Iterator[Iterator[Step]]:
    """The steps of *sweep*, read in another thread while the block works.

    *now*: the source's time when the run began; *hours*: counts by query, where known; *older*: copies to leave out, as
    transforms.events.settled takes them. Raises SourceError, DestinationUnusable for the spool.
    """
    order, edge = session.order, _Edge()

    def typed(rows: pa.Table) -> pa.Table:
        return rows_of.from_page(rows, project_id=order.project_id, loaded_at=session.clock())

    def looked_up(passage: Passage) -> _Read:
        # Asked here, by the thread that reads: one client asks one question at a time.
        return _Read(passage, _later(edge.joined(passage.rows), typed, reader, order.lookback_queries))

    def staged_of(found: list[_Read]) -> _Staged:
        passage = joined([one.passage for one in found])
        return _Staged(typed(passage.rows), pa.concat_tables([one.later for one in found]), passage)

    joining = Joining(staged_of, lambda one: one.passage.rows.nbytes, session.held.joined, reader.resting)
    served_at = max(now, reader.served_at or now)
    passages = reader.sweep(sweep.range, window_end=plan.window_ends(sweep.targets), hours=hours)
    with (
        Spool(session.spool, STAGED, max_memory_bytes=session.held.spool) as spool,
        ahead(map(looked_up, passages), joining, interrupted=reader.interrupted) as staged,
    ):
        cutter = _Cutter(sweep, spool, settled_by=now - order.settle, served_at=served_at, older=older)
        yield map(cutter.take, staged)


@dataclass(frozen=True, slots=True)
class _Read:
    """A passage, and which of different copies in it the source created last."""

    passage: Passage
    later: pa.Table


@dataclass(frozen=True, slots=True)
class _Staged:
    """Passages in one, their rows as they are landed, and which of different copies among them the source created last."""

    rows: pa.Table
    later: pa.Table
    passage: Passage


class _Cutter:
    """Takes passages in, lets windows out. *settled_by*: what is older does not change any more."""

    def __init__(
        self, sweep: Sweep, spool: Spool, *, settled_by: datetime, served_at: datetime, older: pa.Table | None
    ) -> None:
        self._targets, self._spool, self._older = deque(sweep.targets), spool, older
        self._settled_by = settled_by
        self._served_at = self._asked_at = self._began_at = served_at
        self._later = copies.LATER.empty_table()
        self._rejects: list[pa.Table] = []
        self._unproven: set[datetime] = set()
        self._unserved: set[datetime] = set()

    def take(self, staged: _Staged) -> Step:
        """The windows that end with a passage, whose rows ascend; everything before its `passed` has come."""
        passage, rows, planned = staged.passage, staged.rows, len(self._targets)
        # The answer before this one came before this one's rows were asked for.
        self._asked_at, self._served_at = (
            self._served_at,
            max(filter(None, (self._served_at, passage.served_at))),
        )
        self._unproven.update(passage.unproven)
        self._unserved.update(passage.unread)
        self._later = pa.concat_tables([_from(self._later, self._targets), staged.later])
        if passage.rejects.num_rows:
            self._rejects.append(passage.rejects)
        cut = self._cut_dates(rows, passage.rejects)
        windows = self._windows(rows, passage.passed)
        while (day := self._cut_finer(passage.passed)) is not None:
            cut.add(day)
            windows += self._windows(self._spool.take(), passage.passed)
        more = len(self._targets) + len(windows) - planned
        return Step(tuple(windows), not self._targets, passage.passed, self._spool.num_rows, frozenset(cut), more)

    def _windows(self, rows: pa.Table, passed: datetime) -> list[WindowRead]:
        """The windows that end before *passed*; what is left of *rows* waits for the others."""
        found = []
        while self._targets and self._targets[0].reads.end <= passed:
            head, rows = _cut(rows, self._targets[0].reads.end)
            self._spool.append(head)
            found.append(self._window(self._targets.popleft()))
            self._began_at = self._asked_at
        self._spool.append(rows)
        return found

    def _window(self, target: Target) -> WindowRead:
        rows = self._spool.take()
        rejects = self._take_rejects(target)
        unproven, unserved = (
            tuple(sorted(at for at in found if target.reads.start <= at < target.reads.end))
            for found in (self._unproven, self._unserved)
        )
        return WindowRead(
            target,
            rows_of.settled(rows, older=self._older, later=self._later),
            rejects,
            self._began_at,
            self._base(target, rows, rejects) if target.state is State.OPEN else None,
            unproven,
            unserved,
            self._older,
        )

    def _cut_dates(self, rows: pa.Table, rejects: pa.Table) -> set[date]:
        """Dates that were planned as one window should they be empty have rows: cut them as any that nobody counted."""
        days = _days(rows["timestamp"])
        if rejects.num_rows and self._targets:
            # One without a time, or with an earlier one, goes to the window under way.
            first = self._targets[0].window.start.date()
            days |= {max(first, day) for day in _days(rejects["at"])}
            days |= {first} if rejects["at"].null_count else set()
        front: list[Target] = []
        found = set()
        while days and self._targets and self._targets[0].window.start.date() <= max(days):
            target = self._targets.popleft()
            cut = plan.cut_if_rows(target, days)
            if len(cut) > 1:
                found.add(target.window.start.date())
            front.extend(cut)
        self._targets.extendleft(reversed(front))
        return found

    def _cut_finer(self, passed: datetime) -> date | None:
        """Where a date runs over its step: the date, whose rest, with what was read of it, is cut into shorter windows."""
        weight = plan.weight(self._spool.num_rows, self._spool.num_bytes)
        if not self._targets or weight <= plan.OVERRUN_ROWS or self._targets[0].step_known:
            return None
        first = self._targets[0]
        day, span = first.window.start.date(), max(passed - first.reads.start, timedelta(seconds=1))
        step = plan.finer_step(first.step, weight, span)
        if step is None or first.window.start != midnight(day):
            return None
        finer: deque[Target] = deque()
        for target in self._targets:
            finer.extend(plan.recut(target, step) if target.window.start.date() == day else [target])
        self._targets = finer
        return day

    def _base(self, target: Target, rows: pa.Table, rejects: pa.Table) -> Base | None:
        """Sums of the part that the next sweep will not read again: older than the settle time."""
        until = min(target.reads.end, self._settled_by)
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


class _Edge:
    """The last time's rows of the page before: copies of one event may lie on two pages."""

    def __init__(self) -> None:
        self._rows: pa.Table | None = None

    def joined(self, rows: pa.Table) -> pa.Table:
        """*rows*, which ascend, behind those that the edge held; it then holds their last ones."""
        if self._rows is not None:
            rows = pa.concat_tables([self._rows, rows])
        if rows.num_rows:
            self._rows = rows.filter(pc.equal(rows["timestamp"], rows["timestamp"][-1]))
        return rows


def _later(
    rows: pa.Table, typed: Callable[[pa.Table], pa.Table], reader: EventsReader, queries: int | None
) -> pa.Table:
    """Which of the different copies among *rows* the source created last, as far as it tells. *typed*: gives rows _h."""
    twice = copies.twice(rows)
    if not twice.num_rows:
        return copies.LATER.empty_table()
    differing = copies.differing(twice.append_column("_h", typed(twice)["_h"]))
    if not differing.num_rows or not reader.queries_left(queries):
        return copies.LATER.empty_table()
    return copies.later(differing, reader.probe.contents(differing))


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
