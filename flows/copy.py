"""`hedgerow copy`: landed windows from one destination to another, without asking PostHog.

Each window is compared with its ledger entry before it is copied and after it has landed, so that damage is not handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from extractors.window import counted, iso
from flows.loader import STREAM, Progress
from sinks.base import Destination, Entry, Holding, Landing, Ledger
from sinks.errors import DestinationUnusable
from transforms.schema import EVENTS

BATCH_ROWS, BATCH_WINDOWS = 200_000, 256  # what is held in memory, and compared, at once


@dataclass(slots=True)
class Copied:
    """What was copied of one project. *kept*: windows that the target has, as new or newer.

    *damaged*: windows whose rows are not what the source's ledger says, and which were left out; *differing*: windows that
    do not hold in the target what was put there.
    """

    project_id: int
    windows: int = 0
    rows: int = 0
    kept: int = 0
    damaged: list[datetime] = field(default_factory=list)
    differing: list[datetime] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        told = []
        if self.damaged:
            told.append(
                f"{_named(self.damaged)} not copied: the rows are not what was landed (hedgerow verify --repair)"
            )
        if self.differing:
            told.append(f"{_named(self.differing)} not in the target as copied")
        return told


def copy(
    project_id: int,
    source: Destination,
    target: Destination,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Copied:
    """Land in *target* every window of *source* that it lacks or has as it was before. Can be interrupted and goes on.

    Raises SinkError; what is landed stays.
    """
    done = Copied(project_id)
    origin = source.origin(project_id, STREAM)
    if origin is None:
        raise DestinationUnusable(
            f"{source.name} holds nothing of project {project_id}",
            hint="hedgerow status shows what a destination holds",
        )
    host, event_filter = origin
    target.prepare(project_id, STREAM, host=host, event_filter=event_filter, rebuild=False)
    theirs, ours = source.ledger(project_id, STREAM), target.ledger(project_id, STREAM)
    entries = [entry for _, entry in sorted(theirs.entries.items()) if _wanted(entry, ours)]
    done.kept = len(theirs.entries) - len(entries)
    _check_steps(theirs, ours, entries, source=source, target=target)
    batches = list(_batches(entries))
    for number, batch in enumerate(batches):
        sound = _sound(source, batch, done)
        last = number == len(batches) - 1 and not done.damaged
        landings = [_landing(entry, source, ours, theirs.steps.get(entry.start.date())) for entry in sound]
        landed = target.land(landings, mark=theirs.mark if last else None)
        done.windows += len(landed)
        done.rows += sum(entry.tally.landed_rows for entry in landed)
        done.differing += _differing(target, landed)
        at = batch[-1].covered_end
        on_progress(Progress(done.windows, len(entries), done.rows, at))
    return done


def _wanted(entry: Entry, ours: Ledger) -> bool:
    known = ours.entries.get(entry.start)
    return known is None or known.read_at < entry.read_at


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


def _landing(entry: Entry, source: Destination, ours: Ledger, step: timedelta | None) -> Landing:
    known = ours.entries.get(entry.start)
    rows = EVENTS.empty_table()
    if entry.tally.landed_rows:
        held = source.rows(entry.project_id, entry.covered_start, entry.covered_end)
        rows = held.select(EVENTS.names).cast(EVENTS)
    return Landing(
        entry=replace(entry, generation=known.generation if known else 0),
        rows=rows,
        rejects=source.rejects(entry),
        replace_start=entry.covered_start,
        step=step or entry.end - entry.start,
        rewrite=True,
    )


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    rows = 0
    for entry in entries:
        if batch and (rows + entry.tally.landed_rows > BATCH_ROWS or len(batch) == BATCH_WINDOWS):
            yield batch
            batch, rows = [], 0
        batch.append(entry)
        rows += entry.tally.landed_rows
    if batch:
        yield batch


def _named(starts: Sequence[datetime]) -> str:
    shown = ", ".join(iso(start) for start in starts[:3])
    return f"{counted(len(starts), 'window')} ({shown}{', …' if len(starts) > 3 else ''})"
