"""Lines of a lake's journal: what is known of a landing after it, in whatever order notes come (docs/lake.md)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

import msgspec

from sinks.entries import GRAVITY, NO_FACTS, Agreed, Damage, Dispute, Entry, Note, Probed, Sound, Stop
from sinks.lake import window_file
from sinks.objects.base import Missing, Objects
from sinks.sink import Run

HOME = "_hedgerow"
AT_ONCE = 16  # requests side by side: small objects, so latency is all that counts
JOURNAL_OBJECTS = 48  # more are merged into one
RUNS_KEPT = 1000
T = TypeVar("T")
U = TypeVar("U")
GRAVE = (Damage, Stop, Dispute)  # findings that no landing beside them may forget


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the journal: what is known of the landing *id* after its note number *n*, or that it was searched, or a run.

    *gravity*: of two lines with the same number the lesser counts. *damaged_n*, *sound_n*: the numbers of the last notes
    of damage and of soundness: damage stands while no later note says sound, whatever other notes say that did not know
    of it. *at*: a wall clock, for people; it decides only between lines of format 2, which have no number (n = -1).
    """

    id: str = ""
    state: str = ""
    probed_at: datetime | None = None
    probed: str | None = None
    checked: bool = False
    run: dict[str, str | int | float] | None = None
    at: float = 0.0
    n: int = -1
    gravity: int = 9
    facts: dict[str, datetime] = {}
    damaged_n: int = -1
    damaged_at: datetime | None = None
    sound_n: int = -1
    agreed: str | None = None
    agreed_until: datetime | None = None
    tried_at: datetime | None = None


def joined(one: Line, other: Line) -> Line:
    """What both lines about one landing say together, in whatever order they come: needs no clock."""
    winner = max(one, other, key=_rank)
    damage = max(one, other, key=lambda line: (line.damaged_n, str(line.damaged_at)))
    return msgspec.structs.replace(
        winner,
        damaged_n=damage.damaged_n,
        damaged_at=damage.damaged_at,
        sound_n=max(one.sound_n, other.sound_n),
    )


def _rank(line: Line) -> tuple[object, ...]:
    legacy = line.at if line.n < 0 else 0.0
    return line.n, legacy, -line.gravity, line.probed_at is not None, str(line.probed_at), msgspec.json.encode(line)


def line_of(footer_id: str, entry: Entry, note: Note, before: Line | None) -> Line:
    """The line that says what *entry* is after *note*; *before*: what was known."""
    damaged_n, sound_n = (before.damaged_n, before.sound_n) if before else (-1, -1)
    damaged_at = before.damaged_at if before else None
    match note.finding:
        case Damage():
            damaged_n, damaged_at = entry.noted, entry.facts.damaged
        case Sound():
            sound_n = entry.noted
    if entry.facts.damaged is not None and damaged_n < 0:  # known from the footer, or from a line without number
        damaged_n, damaged_at = entry.noted - 1, entry.facts.damaged
    return Line(
        id=footer_id,
        state=str(entry.state),
        probed_at=entry.probed.at if entry.probed else None,
        probed=entry.probed.values if entry.probed else None,
        at=time.time(),
        n=entry.noted,
        gravity=GRAVITY.index(type(note.finding)),
        facts=window_file.facts_text(entry.facts),
        damaged_n=damaged_n,
        damaged_at=damaged_at,
        sound_n=sound_n,
        agreed=entry.agreed.values if entry.agreed else None,
        agreed_until=entry.agreed.until if entry.agreed else None,
        tried_at=entry.tried_at,
    )


def carried(footer_id: str, entry: Entry) -> Line:
    """The line that says of a new landing what was noted of the one that it replaced a part of."""
    note = Note(entry, entry.read_at, Damage() if entry.facts.damaged else Stop())
    return line_of(footer_id, replace(entry, noted=entry.noted + 1), note, None)


def stored_run(run: Run) -> dict[str, str | int | float]:
    """A run as the journal writes it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in msgspec.to_builtins(run).items()
    }


def run_of(stored: dict[str, str | int | float]) -> Run:
    return msgspec.convert(stored, Run)


def run_started(line: Line) -> object:
    return line.run["started_at"] if line.run else ""


def noted(entry: Entry, line: Line) -> Entry:
    """The entry as its landing wrote it, with what the journal's *line* adds."""
    probed = Probed(line.probed_at, line.probed or "") if line.probed_at else None
    state, facts, agreed = window_file.own_state(
        line.state,
        {name: at for name, at in line.facts.items() if name != "damaged"},
        older=line.n < 0,
        read_at=entry.read_at,
        probed=probed,
        covered_end=entry.covered_end,
    )
    if line.agreed is not None and line.agreed_until is not None:
        agreed = Agreed(line.agreed, line.agreed_until)
    # A tail landing keeps the damage of the part before it in the footer: as if it had been noted first of all.
    kept = (0, entry.facts.damaged) if entry.facts.damaged else (-1, None)
    damaged_n, damaged_at = kept if line.damaged_n < 0 else (line.damaged_n, line.damaged_at)
    if damaged_n >= max(0, line.sound_n):
        facts = replace(facts, damaged=damaged_at)
    bare = replace(entry, state=state, facts=NO_FACTS, probed=probed, agreed=agreed, tried_at=line.tried_at)
    return replace(bare, noted=max(0, line.n)).known_as(facts)


def side_by_side(ask: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
    """Ask for many small objects at once; answers in the order of *items*."""
    if len(items) <= 1:
        yield from map(ask, items)
        return
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lake") as pool:
        yield from pool.map(ask, items)


@dataclass(slots=True)
class Journal:
    """The journal of one stream, *of* that name: objects that are written once, so that no writer overwrites another's.

    *objects_read*: lines by the object that they came in; *notes*: what is known of a landing, by its id; *searched*: ids of
    landings whose date was searched.
    """

    objects: Objects
    of: str
    objects_read: dict[str, list[Line]] = field(default_factory=dict)
    notes: dict[str, Line] = field(default_factory=dict)
    searched: set[str] = field(default_factory=set)

    @property
    def long(self) -> bool:
        """Whether it is to be merged."""
        return len(self.objects_read) > JOURNAL_OBJECTS

    def write(self, lines: Iterable[Line]) -> None:
        """Append: an object of its own."""
        written = list(lines)
        if written:
            path = f"{HOME}/journal/{self.of}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
            self.objects.put(path, b"\n".join(map(msgspec.json.encode, written)), create=True)
            self._take(path, written)

    def _take(self, path: str, lines: list[Line]) -> None:
        self.objects_read[path] = lines
        for line in lines:
            if line.checked:
                self.searched.add(line.id)
            elif line.run is None:
                self.notes[line.id] = joined(self.notes[line.id], line) if line.id in self.notes else line

    def read(self) -> None:
        """Learn what others have noted since."""
        listed = {one.path for one in self.objects.list(f"{HOME}/journal/{self.of}")}
        for path in [path for path in self.objects_read if path not in listed]:
            del self.objects_read[path]  # merged by another process: what it said is in the merged one
        new = sorted(listed - set(self.objects_read))
        for path, lines in side_by_side(self._lines, new):
            if lines is not None:
                self._take(path, lines)

    def _lines(self, path: str) -> tuple[str, list[Line] | None]:
        try:
            text = self.objects.get(path)[0]
        except Missing:
            return path, None
        return path, [msgspec.json.decode(line, type=Line) for line in text.splitlines() if line]

    def runs(self) -> list[Run]:
        """The runs that it tells of, newest first; read first."""
        found = {note.run["run_id"]: note.run for lines in self.objects_read.values() for note in lines if note.run}
        return sorted((run_of(stored) for stored in found.values()), key=lambda run: run.started_at, reverse=True)

    def merge(self, merged: Mapping[str, list[Line]], current: Collection[str]) -> None:
        """Write the objects *merged* as one, without what is said of landings that are not *current*."""
        lines = [line for some in merged.values() for line in some]
        runs = {line.run["run_id"]: line for line in lines if line.run is not None}
        ordered = sorted(runs.values(), key=lambda line: str(run_started(line)))[-RUNS_KEPT:]
        searched = {line.id: line for line in lines if line.checked and line.id in current}
        # Only what these objects say: another process may merge the rest at this moment.
        noted: dict[str, Line] = {}
        for line in lines:
            if line.run is None and not line.checked and line.id in current:
                noted[line.id] = joined(noted[line.id], line) if line.id in noted else line
        self.write([*ordered, *searched.values(), *noted.values()])
        for path in merged:
            self.objects.delete(path)
            del self.objects_read[path]
