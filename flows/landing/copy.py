"""`hedgerow copy`: landed windows from one destination to another, without asking PostHog.

Each window is compared with its ledger entry before it is copied and after it has landed, so that damage is not handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from flows.landing import groups
from flows.landing.guard import Guard
from flows.landing.session import STREAM, Progress
from sinks.destination import Destination
from sinks.entries import Changes, Entry, Landing
from sinks.errors import CoversLess, DestinationUnusable, GenerationConflict
from sinks.ledger import Ledger
from sinks.sink import Change, Holding, after
from transforms import events as rows_of
from transforms.schema import EVENTS

BATCH_ROWS, BATCH_WINDOWS = 200_000, 256  # what is held in memory, and compared, at once
ROUNDS = 5  # looks at what other runs land meanwhile; what still moves then is named


PROBLEMS = (
    "damaged",
    "broken",
    "behind",
    "doubled",
    "narrower",
    "held",
    "moved_on",
    "standing",
    "differing",
)
"""Lists of Copied that each make a copy incomplete."""


@dataclass(slots=True)
class Copied:
    """What was copied of one project. *kept*: windows that the target has, as new or newer.

    *broken*: of these, windows that the target knows to be damaged, and of which it has a newer reading; *behind*: of
    these, windows that cover less than the source's: their newer reading stays, and what it does not cover is not copied.
    *doubled*: dates with an event in two windows, because the source moved it. *damaged*: windows whose rows are not what
    the source's ledger says, left out; *narrower*: windows that cover less than the target does, left out; *held*: windows
    that would remove too much from the target, left out; *moved_on*: windows that another run landed meanwhile;
    *differing*: windows that do not hold in the target what was put there. *standing*: copied windows that the source of
    the copy itself calls disputed, held or unread.
    """

    project_id: int
    windows: int = 0
    rows: int = 0
    kept: int = 0
    behind: list[datetime] = field(default_factory=list)
    broken: list[datetime] = field(default_factory=list)
    doubled: list[date] = field(default_factory=list)
    damaged: list[datetime] = field(default_factory=list)
    narrower: list[datetime] = field(default_factory=list)
    held: list[datetime] = field(default_factory=list)
    differing: list[datetime] = field(default_factory=list)
    standing: list[datetime] = field(default_factory=list)
    moved_on: list[datetime] = field(default_factory=list)

    @property
    def left_out(self) -> bool:
        return bool(self.damaged or self.behind or self.narrower or self.held or self.moved_on)

    @property
    def problems(self) -> dict[str, list[datetime] | list[date]]:
        """What is not as it should be: the lists of these names that are not empty."""
        return {name: found for name in PROBLEMS if (found := getattr(self, name))}


def copy(
    project_id: int,
    source: Destination,
    target: Destination,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Copied:
    """Land in *target* every window of *source* that it lacks or has as it was before. Can be interrupted and goes on.

    What another run lands meanwhile, here or there, is looked at again. Raises SinkError; what is landed stays.
    """
    total, moved = Copied(project_id), set[datetime]()
    for _ in range(ROUNDS):
        theirs = source.ledger(project_id, STREAM)
        done = _copied(project_id, theirs, source, target, on_progress)
        total = _together(total, done, again=moved)
        moved = _moved(done, theirs, source.ledger(project_id, STREAM))
        if not moved:
            break
    return total


def _moved(done: Copied, theirs: Ledger, now: Ledger) -> set[datetime]:
    """Windows that were left out, or are not there as copied, because another run has landed them since *theirs*."""
    doubtful = {*done.damaged, *done.differing, *done.narrower}
    same = {start for start in doubtful if now.entries[start].generation == theirs.entries[start].generation}
    return doubtful - same | {*done.moved_on}


def _together(total: Copied, done: Copied, *, again: set[datetime]) -> Copied:
    """What was copied in all; what is wrong as the last look says, which was *again* a look at some windows."""
    return replace(
        done,
        windows=total.windows + done.windows,
        rows=total.rows + done.rows,
        kept=max(0, done.kept - total.windows),
        differing=sorted({*total.differing} - again | {*done.differing}),
        standing=sorted({*total.standing} - again | {*done.standing}),
    )


def _copied(
    project_id: int,
    theirs: Ledger,
    source: Destination,
    target: Destination,
    on_progress: Callable[[Progress], None],
) -> Copied:
    """One look at both, and what it lands. *theirs*: the ledger of *source*."""
    done = Copied(project_id)
    origin = source.origin(project_id, STREAM)
    if origin is None:
        raise DestinationUnusable(
            f"{source.name} holds nothing of project {project_id}",
            hint="hedgerow status shows what a destination holds",
        )
    host, event_filter = origin
    target.prepare(project_id, STREAM, host=host, event_filter=event_filter, rebuild=False)
    ours = target.ledger(project_id, STREAM)
    entries = [entry for _, entry in sorted(theirs.entries.items()) if _wanted(entry, ours)]
    done.kept = len(theirs.entries) - len(entries)
    wanted = {entry.start for entry in entries}
    done.behind = [
        start
        for start, entry in sorted(theirs.entries.items())
        if start not in wanted and _covers_more(entry, ours.entries[start])
    ]
    _check_steps(theirs, ours, entries, source=source, target=target)
    _copy_windows(entries, source, target, theirs, ours, done, on_progress)
    done.broken = [start for start in ours.entries if start not in wanted and ours.entries[start].facts.damaged]
    _hand_mark_on(theirs, target, done)
    if days := target.ledger(project_id, STREAM).unchecked:
        moments: list[datetime] = target.duplicates(project_id, STREAM, days)["timestamp"].to_pylist()
        done.doubled = sorted({at.date() for at in moments})
    return done


def _copy_windows(
    entries: Sequence[Entry],
    source: Destination,
    target: Destination,
    theirs: Ledger,
    ours: Ledger,
    done: Copied,
    on_progress: Callable[[Progress], None],
) -> None:
    guard = Guard(accept=False)
    guard.look(ours, target.changes(done.project_id, STREAM))
    found = source.changes(done.project_id, STREAM)
    # The source's time: that of the latest reading on either side.
    known = [*theirs.entries.values(), *ours.entries.values()]
    now = max((entry.read_at for entry in known), default=datetime.now(UTC))
    for batch in groups.batches(entries, lambda entry: entry.tally.landed_rows, rows=BATCH_ROWS, count=BATCH_WINDOWS):
        landings = []
        for entry in _sound(source, batch, done):
            try:
                landing = _landing(entry, source, target, ours, theirs.steps.get(entry.start.date()))
                after(ours.entries.get(entry.start), landing)
            except CoversLess:
                done.narrower.append(entry.start)
                continue
            except GenerationConflict:  # the source of the copy was synced meanwhile
                done.moved_on.append(entry.start)
                continue
            if guard.stops(entry.start, landing.removed, now=now):
                done.held.append(entry.start)
                continue
            news = _news(entry, ours.entries.get(entry.start), found)
            landing = replace(landing, removed_at=now, history=news)
            guard.landed(landing.entry, landing.removed, at=now)
            landings.append(landing)
        landed = _landed(target, landings, done)
        done.windows += len(landed)
        done.rows += sum(entry.tally.landed_rows for entry in landed)
        done.standing += [entry.start for entry in landed if _stands(entry)]
        done.differing += _differing(target, landed)
        on_progress(Progress(done.windows, len(entries), done.rows, batch[-1].covered_end))


def _news(entry: Entry, known: Entry | None, found: Sequence[Change]) -> tuple[tuple[datetime, Changes], ...]:
    """What was found of the window in the source after the reading that the target has: the target knows of the rest."""
    mine = [(one.found_at, one.changes) for one in found if one.window_start == entry.start]
    return tuple((at, changes) for at, changes in mine if known is None or at > known.read_at)


def _landed(target: Destination, landings: Sequence[Landing], done: Copied) -> list[Entry]:
    """Land windows; one that another run lands meanwhile is left to that run and named."""
    try:
        return list(target.land(landings))
    except (GenerationConflict, CoversLess) as exc:
        landed = list(exc.landed)
    starts = {entry.start for entry in landed}
    # A commit of many says that one of them is in the way, not which.
    for landing in landings:
        if landing.entry.start not in starts:
            try:
                landed += target.land([landing])
            except (GenerationConflict, CoversLess):
                done.moved_on.append(landing.entry.start)
    return landed


def _hand_mark_on(theirs: Ledger, target: Destination, done: Copied) -> None:
    """Give a target that has no mark the source's, where the copy left no window out.

    It goes with the last window that it covers, landed once more as it is.
    """
    ours = target.ledger(done.project_id, STREAM)
    if ours.marks or theirs.mark is None or done.left_out or done.differing or not ours.entries:
        return
    within = [entry for entry in ours.entries.values() if entry.start < theirs.mark]
    if set(theirs.entries) - set(ours.entries) or not within:
        return
    last = max(within, key=lambda entry: entry.start)
    if not last.facts.damaged:
        own = _landing(last, target, target, ours, ours.steps.get(last.start.date()))
        with suppress(GenerationConflict):  # a sync of the target is at work: its mark is the better one
            target.land([own], mark=theirs.mark)


def _wanted(entry: Entry, ours: Ledger) -> bool:
    """Whether the window is newer than the target's, or the target's own reading of it is damaged."""
    known = ours.entries.get(entry.start)
    if known is None or known.read_at < entry.read_at:
        return True
    return known.facts.damaged is not None and known.read_at == entry.read_at


def _covers_more(entry: Entry, known: Entry) -> bool:
    return entry.covered_start < known.covered_start or entry.covered_end > known.covered_end


def _stands(entry: Entry) -> bool:
    facts = entry.facts
    return bool(facts.disputed or facts.held or facts.unread or facts.witness)


def _check_steps(
    theirs: Ledger, ours: Ledger, entries: Sequence[Entry], *, source: Destination, target: Destination
) -> None:
    """A date is cut into windows once and for all, so two ledgers that cut it otherwise cannot be joined."""
    for day in sorted({entry.start.date() for entry in entries}):
        if day in ours.steps and ours.steps[day] != theirs.steps.get(day):
            raise DestinationUnusable(
                f"{day} is cut into other windows in {target.name} than in {source.name}",
                hint="copy into another destination; nothing of this one was changed",
            )


def _sound(source: Destination, batch: Sequence[Entry], done: Copied) -> list[Entry]:
    """Windows of *batch* that hold what the ledger says; the others are noted."""
    wrong = set(_differing(source, batch))
    done.damaged += sorted(wrong)
    return [entry for entry in batch if entry.start not in wrong]


def _differing(sink: Destination, entries: Sequence[Entry]) -> list[datetime]:
    if not entries:
        return []
    held = sink.audit(entries[0].project_id, STREAM, entries[0].start, entries[-1].end)
    return [
        entry.start
        for entry in entries
        if held.get(entry.start) != Holding(entry.tally.landed_rows, entry.tally.landed_digest)
    ]


def _landing(entry: Entry, source: Destination, target: Destination, ours: Ledger, step: timedelta | None) -> Landing:
    known = ours.entries.get(entry.start)
    rows = EVENTS.empty_table()
    if entry.tally.landed_rows:
        held = source.rows(entry.project_id, entry.covered_start, entry.covered_end)
        rows = held.select(EVENTS.names).cast(EVENTS)
    removed = 0
    if known is not None and known.tally.landed_rows:
        before = target.hashes(entry.project_id, entry.covered_start, entry.covered_end)
        removed = rows_of.difference(before, rows_of.hashed(rows)).deleted.num_rows
    return Landing(
        # Its rows were counted just now: what an older note says of them does not go along.
        entry=replace(entry, generation=known.generation if known else 0, facts=replace(entry.facts, damaged=None)),
        rows=rows,
        rejects=source.rejects(entry),
        replace_start=entry.covered_start,
        step=step or entry.end - entry.start,
        rewrite=True,
        removed=removed,
    )
