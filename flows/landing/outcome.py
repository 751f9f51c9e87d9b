"""What a run over events did: facts, appended in the order in which they came, and the outcome that they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeVar

from extractors.reading.questions import Outside
from extractors.window import Range
from flows.landing import due
from flows.landing.plan import Bounds
from sinks.entries import FACTS, Changes
from sinks.ledger import Ledger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Planned:
    """What the run is for; the time that its source cannot be asked for; rows that earlier runs could not type.

    *idle*: the bounds that leave nothing to be wanted.
    """

    wanted: Range | None
    unreachable: tuple[Range, ...] = ()
    in_quarantine: int = 0
    idle: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Landed:
    """A window is committed. *rows*: new or changed ones; *undecided*: events with different copies of which the source
    did not tell the later; *unproven*, *unserved*: microseconds, as Outcome has them; *covers*: what of it is landed."""

    start: datetime
    rows: int
    copies: int = 0
    quarantined: int = 0
    changes: Changes = field(default_factory=Changes)
    unproven: tuple[datetime, ...] = ()
    unserved: tuple[datetime, ...] = ()
    undecided: int = 0
    covers: Range | None = None


@dataclass(frozen=True, slots=True)
class Agreed:
    """The source holds what is landed of a settled window; not *whole*: the same events, but one of several copies."""

    start: datetime
    whole: bool


@dataclass(frozen=True, slots=True)
class Moving:
    """The source changed a window while it was read, also the second time."""

    start: datetime


@dataclass(frozen=True, slots=True)
class Doubled:
    """Dates that hold an event in two windows, after the latest search."""

    days: tuple[date, ...]


@dataclass(frozen=True, slots=True)
class Unasked:
    """How many windows wait for the next run's look-back."""

    windows: int


@dataclass(frozen=True, slots=True)
class Beyond:
    """What the source holds before and after all that is landed, said by a first sync; *earliest*: where the source does
    not count, the time of its first event, if that is not landed."""

    parts: tuple[Outside, ...] = ()
    earliest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says in the end: starts of windows by the fact that stands beside their state, those that are too
    heavy to count, and settled ones landed by this run that the source has not confirmed."""

    facts: Mapping[str, list[datetime]] = field(default_factory=dict)
    heavy: tuple[datetime, ...] = ()
    unconfirmed: tuple[datetime, ...] = ()


Fact = Planned | Landed | Agreed | Moving | Doubled | Unasked | Beyond | Standing


class Log:
    """The facts of one run; one that was told stays, whatever ends an attempt. *landed*: the latest landing of each window;
    *windows*, *rows*: landed so far."""

    def __init__(self) -> None:
        self._facts: list[Fact] = []
        self.landed: dict[datetime, Landed] = {}
        self.windows = self.rows = 0

    def append(self, fact: Fact) -> None:
        self._facts.append(fact)
        if isinstance(fact, Landed):
            self.landed[fact.start] = fact
            self.windows += 1
            self.rows += fact.rows

    def conclude(self, ledger: Ledger) -> None:
        """Take in what the ledger says in the end: every run tells each fact until it is gone."""
        standing: dict[str, list[datetime]] = {}
        heavy, unconfirmed = [], []
        for start, entry in sorted(ledger.entries.items()):
            for name in FACTS:
                if getattr(entry.facts, name) is not None:
                    standing.setdefault(name, []).append(start)
            if due.heavy(entry):
                heavy.append(start)
            if start in self.landed and entry.settled and entry.agreed is None:
                unconfirmed.append(start)
        self.append(Standing(standing, tuple(heavy), tuple(unconfirmed)))

    def outcome(self) -> Outcome:
        """What the run has done so far."""
        return Outcome.of(self._facts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did, and what the ledger says against its windows in the end.

    *left_out*: copies and rows that could not be typed, as each window was read last; *unproven*: microseconds that
    may miss events; *unserved*: those with an event that the source cannot serve; *unreachable*: time that this
    source cannot be asked for, and that the run left out; *doubled*: dates whose events the source kept moving
    between windows. *changes*: what the source changed in windows landed before. *agreed*: windows whose source side
    was the same after landing, or still is, and that hold no different copies; *unasked*: windows that wait for the
    next run's probe; *moving*: windows that the source changed while they were read, also the second time;
    *undecided*: how many events of windows landed by this run have different copies of which the source did not tell
    the later; *in_quarantine*: rows that earlier runs could not type, and that still are not in the table. *standing*:
    starts of windows by the fact that stands beside their state; *landed*: windows landed by this run; *heavy*: windows
    that are too heavy for the source to count; *unconfirmed*: settled windows landed by this run that the source has
    not confirmed; *idle*: why nothing was wanted, as Planned has it; *span*: from the first to the last of what was wanted
    and what was landed, which may lie before it; *beyond*: what a first sync does not reach.
    """

    wanted: Range | None = None
    windows: int = 0
    rows: int = 0
    left_out: dict[datetime, tuple[int, int]] = field(default_factory=dict)
    unproven: dict[datetime, list[datetime]] = field(default_factory=dict)
    unserved: dict[datetime, list[datetime]] = field(default_factory=dict)
    unreachable: list[Range] = field(default_factory=list)
    doubled: list[date] = field(default_factory=list)
    changes: dict[datetime, Changes] = field(default_factory=dict)
    agreed: frozenset[datetime] = frozenset()
    unasked: int = 0
    moving: frozenset[datetime] = frozenset()
    in_quarantine: int = 0
    standing: Mapping[str, list[datetime]] = field(default_factory=dict)
    landed: frozenset[datetime] = frozenset()
    heavy: list[datetime] = field(default_factory=list)
    unconfirmed: list[datetime] = field(default_factory=list)
    undecided: dict[datetime, int] = field(default_factory=dict)
    idle: Bounds | None = None
    span: Range | None = None
    beyond: Beyond = field(default_factory=Beyond)

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Outcome:
        """What *facts* add up to: a later one of a window takes the place of the earlier."""
        facts = list(facts)
        landed = [fact for fact in facts if isinstance(fact, Landed)]
        latest, judged = {fact.start: fact for fact in landed}, _judged(facts)
        agreed = {start for start, fact in judged.items() if isinstance(fact, Agreed)}
        planned, standing = _last(facts, Planned(None)), _last(facts, Standing())
        return cls(
            wanted=planned.wanted,
            windows=len(landed),
            rows=sum(fact.rows for fact in landed),
            left_out={start: (fact.copies, fact.quarantined) for start, fact in latest.items()},
            # A count confirms what could not be told apart.
            unproven={
                start: list(fact.unproven) for start, fact in latest.items() if fact.unproven and start not in agreed
            },
            unserved={start: list(fact.unserved) for start, fact in latest.items() if fact.unserved},
            unreachable=list(planned.unreachable),
            doubled=list(_last(facts, Doubled(())).days),
            changes={fact.start: fact.changes for fact in landed if fact.changes},
            agreed=frozenset(start for start, fact in judged.items() if isinstance(fact, Agreed) and fact.whole),
            unasked=_last(facts, Unasked(0)).windows,
            moving=frozenset(judged) - agreed,
            in_quarantine=planned.in_quarantine,
            standing=standing.facts,
            landed=frozenset(latest),
            heavy=list(standing.heavy),
            unconfirmed=list(standing.unconfirmed),
            undecided={start: fact.undecided for start, fact in latest.items() if fact.undecided},
            idle=planned.idle,
            beyond=_last(facts, Beyond()),
            span=_span([planned.wanted, *(fact.covers for fact in landed)]),
        )

    @property
    def verified(self) -> int:
        return len(self.agreed)

    @property
    def copies(self) -> int:
        return sum(copies for copies, _ in self.left_out.values())

    @property
    def quarantined(self) -> int:
        return sum(quarantined for _, quarantined in self.left_out.values())

    @property
    def disputed(self) -> list[datetime]:
        return self.standing.get("disputed", [])

    @property
    def held(self) -> list[datetime]:
        return self.standing.get("held", [])

    @property
    def damaged(self) -> list[datetime]:
        return self.standing.get("damaged", [])

    @property
    def unread(self) -> list[datetime]:
        return self.standing.get("unread", [])

    @property
    def unmerged(self) -> list[datetime]:
        return self.standing.get("unmerged", [])

    @property
    def complete(self) -> bool:
        """Nothing is missing, nothing was left out, nothing is there twice or in dispute."""
        standing = self.disputed or self.held or self.damaged or self.unread or self.standing.get("witness")
        left_out = self.unproven or self.unreachable or self.quarantined or self.doubled or self.undecided
        return not (left_out or standing)


def _judged(facts: Iterable[Fact]) -> dict[datetime, Agreed | Moving]:
    """What the source said of each window since it was landed last."""
    found: dict[datetime, Agreed | Moving] = {}
    for fact in facts:
        if isinstance(fact, Landed):
            found.pop(fact.start, None)
        elif isinstance(fact, Agreed | Moving):
            found[fact.start] = fact
    return found


def _span(ranges: Iterable[Range | None]) -> Range | None:
    """From the first to the last of *ranges*."""
    found = [rng for rng in ranges if rng is not None]
    return Range(min(rng.start for rng in found), max(rng.end for rng in found)) if found else None


def _last(facts: Sequence[Fact], unless: T) -> T:
    """The last fact of the kind of *unless*, which stands where there is none."""
    return next((fact for fact in reversed(facts) if isinstance(fact, type(unless))), unless)
