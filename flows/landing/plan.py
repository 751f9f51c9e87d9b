"""What to read, decided from the ledger, the range wanted and the source's clock. Pure: no I/O, no clock.

Words: window, step, settle, mark, hull: design.md, "The one idea".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from extractors.window import DAY, STEPS, Range, Window, dates, midnight, window_at, windows_of
from sinks.entries import Entry, State
from sinks.ledger import Ledger

WINDOW_ROWS = 50_000
WINDOW_BYTES = 64 * 2**20
OVERRUN_ROWS = 2 * WINDOW_ROWS
UNKNOWN_STEP = timedelta(hours=1)
FIRST_RANGE = timedelta(days=30)
HISTORY = timedelta(days=7)
ONE_CLOCK = timedelta(minutes=1)  # what two servers of one PostHog may differ by


@dataclass(frozen=True, slots=True)
class Target:
    """One window to land: *covers* is what the ledger will claim, *reads* the part that is asked and replaced.

    *reads* is *covers*, or for an unsettled window its tail. *step_known*: the date's step is written already.
    *if_empty*: a whole date that nobody has counted. It is one window if it proves to be empty, else it is cut.
    """

    window: Window
    covers: Range
    reads: Range
    state: State
    step: timedelta
    step_known: bool
    previous: Entry | None
    if_empty: bool = False

    def __post_init__(self) -> None:
        if not (self.window.covers(self.covers) and self.covers.covers(self.reads)):
            raise ValueError(f"target does not nest: {self.window}, {self.covers}, {self.reads}")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Targets whose reads follow one another without a gap: one ascending reading."""

    targets: tuple[Target, ...]

    @property
    def range(self) -> Range:
        return Range(self.targets[0].reads.start, self.targets[-1].reads.end)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where the range of a run begins and ends; *goes_on*: it begins where the syncs before it have come to."""

    start: datetime
    end: datetime
    goes_on: bool = False

    @property
    def range(self) -> Range | None:
        """None where it ends before it begins: then there is nothing to land."""
        return Range(self.start, self.end) if self.start < self.end else None


def bounds(
    ledger: Ledger, *, since: datetime | None, until: datetime | None, now: datetime, settle: timedelta
) -> Bounds:
    """The bounds of the range that a sync is for.

    Without *since*: from the mark less the settle time, at first from midnight 30 days before its end, so that the same
    command on the same day cuts no window twice.
    """
    end = min(until, now) if until else now
    if since is not None:
        return Bounds(since, end)
    mark = ledger.mark_at(now)
    return Bounds(mark - settle, end, goes_on=True) if mark else Bounds(midnight((end - FIRST_RANGE).date()), end)


def as_of(ledger: Ledger, now: datetime, *, settle: timedelta, latest: datetime | None = None) -> Ledger:
    """The ledger with every window open that cannot have settled by *now*, or was read later: a clock was ahead then.

    It is read from its start again. *latest*: the source's time in its latest answer, where that is later than *now*.
    """
    read_by = max(now, latest or now) + ONE_CLOCK
    early = {
        start: replace(entry, state=State.OPEN, base=None)
        for start, entry in ledger.entries.items()
        if (entry.settled and entry.end > now - settle) or (entry.state is not State.STALE and entry.read_at > read_by)
    }
    return replace(ledger, entries={**ledger.entries, **early}) if early else ledger


def unplanned_dates(ledger: Ledger, rng: Range) -> list[date]:
    """Dates of *rng* that have no step yet."""
    return [day for day in dates(rng) if day not in ledger.steps]


def steps_for(
    days: Iterable[date], hour_rows: Mapping[datetime, int] | None, *, now: datetime
) -> dict[date, timedelta]:
    """The step of every date: the longest that is expected to hold at most 50,000 rows; none where nobody has counted.

    *hour_rows*: rows per UTC hour, from HISTORY before the first date on; None where the source does not count.
    A date that is not over yet is expected to be as busy as the busiest hour of the week before it.
    """
    if hour_rows is None:
        return {}
    by_date: dict[date, dict[int, int]] = {}
    for hour, rows in hour_rows.items():
        by_date.setdefault(hour.date(), {})[hour.hour] = rows
    steps = {}
    for day in days:
        rows_by_hour = by_date.get(day, {})
        if midnight(day) + DAY > now:
            recent = [max(hours.values()) for other, hours in by_date.items() if day - HISTORY <= other <= day]
            rows_by_hour = dict.fromkeys(range(24), max(recent, default=0))
        steps[day] = _longest_step(rows_by_hour)
    return steps


def _longest_step(rows_by_hour: Mapping[int, int]) -> timedelta:
    for step in STEPS:
        hours = step / timedelta(hours=1)
        if hours >= 1:
            width = int(hours)
            fullest = max(sum(rows_by_hour.get(hour + i, 0) for i in range(width)) for hour in range(0, 24, width))
        else:
            fullest = int(max(rows_by_hour.values(), default=0) * hours)
        if fullest <= WINDOW_ROWS:
            return step
    return STEPS[-1]


def finer_step(step: timedelta, rows: int, span: timedelta) -> timedelta | None:
    """A shorter step for a date whose first window has *rows* in *span* already; None where there is none."""
    for shorter in STEPS:
        if shorter < step and rows * (shorter / span) <= WINDOW_ROWS:
            return shorter
    return STEPS[-1] if step > STEPS[-1] else None


def targets(
    ledger: Ledger,
    steps: Mapping[date, timedelta],
    rng: Range,
    *,
    now: datetime,
    settle: timedelta,
    held: Collection[datetime] = (),
) -> list[Target]:
    """Windows of *rng* that are not landed as wanted, in order. *steps* names those of dates new to the ledger.

    A new date without a step was not counted: it is planned as one window that is cut if rows come, or in windows of an
    hour where it is not over and settled, or not wanted whole.
    *held*: as stopped() gives them; of these only the tail is read.
    """
    found = []
    for day in dates(rng):
        known = ledger.steps.get(day)
        step = known or steps.get(day)
        whole = Window(midnight(day), midnight(day) + DAY)
        if step is None and rng.covers(whole) and whole.end <= now - settle:
            found.append(Target(whole, whole, whole, State.LANDED, DAY, False, None, if_empty=True))
            continue
        step = step or UNKNOWN_STEP
        for window in windows_of(day, step):
            need = window.overlap(rng)
            if need is None:
                continue
            entry = ledger.entries.get(window.start)
            target = _target(
                window,
                need,
                entry,
                settled=window.end <= now - settle,
                step=step,
                step_known=known is not None,
                tail_only=window.start in held,
            )
            if target is not None:
                found.append(target)
    return found


def unfinished(
    ledger: Ledger, rng: Range | None, *, now: datetime, settle: timedelta, held: Collection[datetime] = ()
) -> list[Target]:
    """Windows outside *rng* that the ledger calls stale, or open although they have settled; in order."""
    found = []
    for start, entry in sorted(ledger.entries.items()):
        window = Window(entry.start, entry.end)
        settled = window.end <= now - settle
        if entry.settled or (entry.state is State.OPEN and not settled) or (rng is not None and rng.overlap(window)):
            continue
        covered = Range(entry.covered_start, entry.covered_end)
        step = ledger.steps[start.date()]
        target = _target(window, covered, entry, settled=settled, step=step, step_known=True, tail_only=start in held)
        if target is not None:
            found.append(target)
    return found


def again(ledger: Ledger, moments: Iterable[datetime], *, now: datetime, settle: timedelta) -> list[Target]:
    """The landed windows that hold *moments*, to be read whole once more as far as they are covered; in order."""
    starts = {window_at(at, ledger.steps[at.date()]).start for at in moments if at.date() in ledger.steps}
    found = []
    for entry in (ledger.entries[start] for start in sorted(starts) if start in ledger.entries):
        window = Window(entry.start, entry.end)
        settled = window.end <= now - settle
        covers = _required_range(entry, settled=settled)
        state = State.LANDED if settled else State.OPEN
        found.append(Target(window, covers, covers, state, ledger.steps[entry.start.date()], True, entry))
    return found


def _required_range(entry: Entry, *, settled: bool) -> Range:
    """What a landing of the window must cover at least: an open one is read to its end once it has settled."""
    to_end = settled and entry.state is State.OPEN
    return Range(entry.covered_start, entry.end if to_end else entry.covered_end)


def _target(
    window: Window,
    need: Range,
    entry: Entry | None,
    *,
    settled: bool,
    step: timedelta,
    step_known: bool,
    tail_only: bool = False,
) -> Target | None:
    state = State.LANDED if settled else State.OPEN
    if entry is None:
        return Target(window, need, need, state, step, step_known, None)
    covered = Range(entry.covered_start, entry.covered_end)
    if entry.settled and covered.covers(need):
        return None
    covers = _required_range(entry, settled=settled).hull(need)
    if tail_only and entry.state is State.STALE:
        return None
    if entry.state is State.OPEN and entry.base is not None and (tail_only or not settled):
        tail_start = entry.base.until
        if tail_only and covers.start == covered.start:
            # What was stopped stays as it was, and the window goes on beside it.
            if tail_start >= covers.end:
                return None
            return Target(window, covers, Range(tail_start, covers.end), State.OPEN, step, step_known, entry)
        if covers.start == covered.start and covers.start < tail_start < covers.end:
            return Target(window, covers, Range(tail_start, covers.end), state, step, step_known, entry)
    return Target(window, covers, covers, state, step, step_known, entry)


def tail_of(target: Target) -> Target | None:
    """What a window has grown by behind the part that the guard keeps as it is; None where there is nothing."""
    known = target.previous
    if known is None or known.state is not State.OPEN or known.base is None or target.reads != target.covers:
        return None
    if target.covers.start < known.covered_start or target.covers.end <= known.covered_end:
        return None
    return replace(target, reads=Range(known.base.until, target.covers.end), state=State.OPEN)


def gaps(ledger: Ledger, rng: Range) -> list[Range]:
    """What of *rng* no landed window covers, in order. A stale window is still to be landed."""
    found, passed = [], rng.start
    for entry in sorted(ledger.entries.values(), key=lambda entry: entry.start):
        if entry.state is State.STALE or entry.covered_end <= passed or entry.covered_start >= rng.end:
            continue
        if entry.covered_start > passed:
            found.append(Range(passed, entry.covered_start))
        passed = entry.covered_end
    if passed < rng.end:
        found.append(Range(passed, rng.end))
    return found


def weight(rows: int, size_bytes: int) -> int:
    """How many ordinary rows weigh as much as these: large events fill a window too."""
    return max(rows, size_bytes * WINDOW_ROWS // WINDOW_BYTES)


def recut(target: Target, step: timedelta) -> list[Target]:
    """The same part of a date in shorter windows; only for a date whose step is not written yet."""
    parts = []
    for window in windows_of(target.window.start.date(), step):
        covers = window.overlap(target.covers)
        if covers is not None:
            parts.append(Target(window, covers, covers, target.state, step, False, None))
    return parts


def cut_if_rows(target: Target, days: Collection[date]) -> list[Target]:
    """The target, or the windows of an hour that take its place where its date is one of *days*, which have rows."""
    cut = target.if_empty and target.window.start.date() in days
    return recut(target, UNKNOWN_STEP) if cut else [target]


def window_ends(found: Iterable[Target]) -> Callable[[datetime], datetime]:
    """A function that gives the end of the window which holds a time, as *found* are cut once rows have come."""
    step_at = {target.window.start.date(): target.step for target in found if not target.if_empty}

    def window_end(at: datetime) -> datetime:
        return window_at(at, step_at.get(at.date(), UNKNOWN_STEP)).end

    return window_end


def sweeps(found: Iterable[Target]) -> Iterator[Sweep]:
    """Group targets whose reads touch."""
    group: list[Target] = []
    for target in found:
        if group and group[-1].reads.end != target.reads.start:
            yield Sweep(tuple(group))
            group = []
        group.append(target)
    if group:
        yield Sweep(tuple(group))
