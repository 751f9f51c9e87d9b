"""What the ledger says of one window, and what a landing, a note or a rebuild says to it: values (docs/ledger.md)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum

import pyarrow as pa

HEAVY = "heavy"
"""What `Probed.values` says where the question was too heavy for the source, down to one second."""


class State(StrEnum):
    """What is known of a window, as people and queries see it (`hedgerow.windows.state`).

    An entry itself is open, landed, verified or stale; the others are facts that stand beside these.
    """

    OPEN = "open"
    LANDED = "landed"
    VERIFIED = "verified"
    UNMERGED = "unmerged"
    DISPUTED = "disputed"
    HELD = "held"
    STALE = "stale"


OWN = frozenset({State.OPEN, State.LANDED, State.VERIFIED, State.STALE})
"""The states that an entry can have itself."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands against a window beside its state: since when, the gravest first. Each has its own way out.

    *damaged*: the destination does not hold what was landed. *unread*: microseconds that may miss events. *unmerged*: the
    source holds different copies of one event. *held*: the guard stopped a removal. *disputed*: the source counts
    something else. *witness*: the events list contradicts the query.
    """

    damaged: datetime | None = None
    unread: datetime | None = None
    unmerged: datetime | None = None
    held: datetime | None = None
    disputed: datetime | None = None
    witness: datetime | None = None

    def __bool__(self) -> bool:
        return self is not NO_FACTS and self != NO_FACTS

    @property
    def gravest(self) -> str | None:
        """Name of the gravest fact; None where there is none."""
        return next((name for name in FACTS if getattr(self, name) is not None), None)

    @property
    def grave(self) -> bool:
        """Something is not as landed, or may not be. Different copies alone are no such thing: one of them is landed."""
        return any(getattr(self, name) is not None for name in FACTS if name != "unmerged")

    def first_of(self, earlier: Facts) -> Facts:
        """These facts, each since the time at which *earlier* has it, if it does."""
        if not self or not earlier:
            return self
        since = {name: getattr(earlier, name) for name in FACTS if getattr(self, name) and getattr(earlier, name)}
        return replace(self, **since)

    def joined(self, other: Facts) -> Facts:
        """The facts of both; where both have one, this one's time."""
        return replace(self, **{name: getattr(self, name) or getattr(other, name) for name in FACTS})


FACTS = tuple(one.name for one in fields(Facts))
NO_FACTS = Facts()
SHOWN = {"damaged": State.DISPUTED, "unread": State.DISPUTED, "unmerged": State.UNMERGED, "held": State.HELD}
"""The state that a fact shows as; `disputed` and `witness` as disputed."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and digests of one range. Always source = landed + quarantined + suppressed + copies."""

    source_rows: int
    source_digest: str
    landed_rows: int
    landed_digest: str
    quarantined_rows: int = 0
    suppressed_rows: int = 0
    copies: int = 0

    def __post_init__(self) -> None:
        accounted = self.landed_rows + self.quarantined_rows + self.suppressed_rows + self.copies
        if self.source_rows != accounted:
            raise ValueError(f"tally does not add up: {self.source_rows} rows at the source, {accounted} accounted for")


@dataclass(frozen=True, slots=True)
class Base:
    """The part of an open window that the next sweep does not read again: everything before *until*.

    *whole_at*: the source's time at which it was last read from its start; None where an older hedgerow wrote it.
    """

    until: datetime
    tally: Tally
    whole_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """What the last probe said of a window's source side, as text, and when; *values* is HEAVY for no answer, since *at*."""

    at: datetime
    values: str


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the source said when it last agreed with the ledger, as text, of everything before *until*."""

    values: str
    until: datetime

    @property
    def created(self) -> str:
        """The part that moves when an event is inserted anew."""
        return self.values.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a landing found changed in a part that was landed before; *lateness*: how long after its time a late event came,
    at least."""

    late: int = 0
    deleted: int = 0
    changed: int = 0
    lateness: timedelta = timedelta(0)

    def __bool__(self) -> bool:
        return bool(self.late or self.deleted or self.changed)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: what the destination holds of a window, and what the source showed when it was read.

    [start, end) is the window, [covered_start, covered_end) the part that was asked. *read_at*: the source's time before
    the first page of the reading was asked. *generation* counts landings; 0 is a window never landed. *base* is set for
    open windows only. *probed*: None where the source was not asked since; *agreed*: None where it has not agreed since.
    *noted* counts what was noted since the landing; *tried_at*: when a stop, a dispute or no answer was noted last.
    """

    project_id: int
    stream: str
    start: datetime
    end: datetime
    covered_start: datetime
    covered_end: datetime
    state: State
    read_at: datetime
    tally: Tally
    generation: int = 0
    base: Base | None = None
    probed: Probed | None = None
    agreed: Agreed | None = None
    facts: Facts = NO_FACTS
    noted: int = 0
    tried_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.start <= self.covered_start < self.covered_end <= self.end:
            raise ValueError(f"covered range {self.covered_start} .. {self.covered_end} is not inside the window")
        if self.state not in OWN:
            raise ValueError(f"{self.state} is a fact beside a state, not a state")
        if self.state is State.VERIFIED and self.facts:
            raise ValueError(f"a window cannot be verified and {self.facts.gravest}")

    @property
    def key(self) -> tuple[int, str, datetime]:
        return self.project_id, self.stream, self.start

    @property
    def shown(self) -> State:
        """The state as people see it: the gravest fact, except of windows that are to be landed again anyway."""
        gravest = self.facts.gravest
        if gravest is None or not self.settled:
            return self.state
        return SHOWN.get(gravest, State.DISPUTED)

    @property
    def settled(self) -> bool:
        """Read whole after it settled, and not to be read again without a reason."""
        return self.state in (State.LANDED, State.VERIFIED)

    @property
    def known_tally(self) -> Tally:
        """The tally of the part that the source can be compared with: an open window's before its base ends."""
        return self.base.tally if self.base is not None else self.tally

    @property
    def compared_until(self) -> datetime:
        """The end of the part that the source can be compared with."""
        return self.base.until if self.base is not None else self.covered_end

    def known_as(self, facts: Facts) -> Entry:
        """The entry with *facts*; verified no more where there are any."""
        verified = self.state is State.VERIFIED and facts
        return replace(self, facts=facts, state=State.LANDED if verified else self.state)


@dataclass(frozen=True, slots=True)
class Removal:
    """Rows that a landing of the window at *window_start* removed, at *at* (the source's time)."""

    window_start: datetime
    at: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class Landing:
    """One window to land: its new entry, the rows of [replace_start, covered_end), and what could not be typed.

    *entry.generation* is the generation expected at the destination; landing raises it by one. Rows that the window
    holds from *replace_start* on are replaced, earlier ones stay. *rows*: transforms' EVENTS schema, each identity once;
    *rejects*: at, reason, text. *step* is written for the window's date if the date has none. *changes* go into the
    history of changes. *rewrite*: replace the rows even where the ledger says that they are the same. *removed*: how many
    rows the guard counts as removed, for the 24 hours after *removed_at* (None: when the window was read). *history*: what
    landings at another destination found changed, and when, of a window that is copied.
    """

    entry: Entry
    rows: pa.Table
    rejects: pa.Table
    replace_start: datetime
    step: timedelta
    changes: Changes = Changes()
    rewrite: bool = False
    removed: int = 0
    removed_at: datetime | None = None
    history: tuple[tuple[datetime, Changes], ...] = ()

    def __post_init__(self) -> None:
        if not self.entry.covered_start <= self.replace_start < self.entry.covered_end:
            raise ValueError(f"replaced range starts outside the covered one: {self.replace_start}")

    @property
    def removal(self) -> Removal | None:
        """What the landing removes, and when."""
        at = self.removed_at or self.entry.read_at
        return Removal(self.entry.start, at, self.removed) if self.removed else None

    @property
    def partial(self) -> bool:
        """The date has rows beside these, so that an identity may now occur in it twice (docs/ledger.md)."""
        return self.tail or self.entry.end - self.entry.start < timedelta(days=1)

    @property
    def tail(self) -> bool:
        """It replaces the end of the window only."""
        return self.replace_start > self.entry.covered_start


@dataclass(frozen=True, slots=True)
class Agreement:
    """The source holds what was landed: its answer, for everything before *until*."""

    answer: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Dispute:
    """The source counts something else, even after a second reading; *answer*: what it says."""

    answer: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The guard stopped a removal; *answer*: what the source counts, None where it was not asked."""

    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """The destination does not hold what was landed."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The destination holds what was landed, counted row by row."""


@dataclass(frozen=True, slots=True)
class TooHeavy:
    """The source cannot count the window: one second of it is too heavy."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """The source counts what was landed and, beside it, what it cannot serve; *answer*: what it says."""

    answer: str


Finding = Agreement | Dispute | Stop | Damage | Sound | TooHeavy | Unserved
GRAVITY: tuple[type, ...] = (Damage, Stop, Dispute, TooHeavy, Unserved, Agreement, Sound)
"""Of two notes with the same number the graver counts; the gravest first."""


@dataclass(frozen=True, slots=True)
class Note:
    """What was found out about a landing at *at* (the source's time), decided from the entry *known*."""

    known: Entry
    at: datetime
    finding: Finding


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Every window of the stream is to be landed again."""


def of_older(
    state: str, *, read_at: datetime, probed: Probed | None, covered_end: datetime
) -> tuple[State, Facts, Agreed | None]:
    """State, facts and agreement of an entry that hedgerow wrote before facts stood beside the state (formats 1 and 2).

    `disputed` meant damage or a dispute with the source, so both are taken: a landing clears both.
    """
    shown = State(state)
    at = probed.at if probed else read_at
    agreed = Agreed(probed.values, covered_end) if probed else None
    match shown:
        case State.UNMERGED:
            return State.LANDED, Facts(unmerged=read_at), agreed
        case State.DISPUTED:
            return State.LANDED, Facts(damaged=at, disputed=at), None
        case State.HELD:
            return State.LANDED, Facts(held=at), None
        case State.OPEN:
            return shown, NO_FACTS, None
    return shown, NO_FACTS, agreed
