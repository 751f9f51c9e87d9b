"""The ledger of a stream: its values, and the one place that decides what an entry may become.

Pure: no I/O, no clock. Every sink asks `follows` inside its commit, with the entry that it reads there, so a decision made
from something older is refused. Reasons: docs/ledger.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

import pyarrow as pa

HEAVY = "heavy"
"""What `Probed.values` says where the question was too heavy for the source, down to one second."""
MARKS_KEPT = timedelta(days=2)
REMOVALS_KEPT = timedelta(hours=48)  # the guard looks back 24 hours, by clocks that may differ


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
        return self != NO_FACTS

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
    rows the guard counts as removed, for the 24 hours after *removed_at* (None: when the window was read).
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


class Rule(StrEnum):
    """The rows of the table of `follows`, for refusals and for tests that count what was met."""

    COVERS_LESS = "a landing that covers less is refused"
    LANDED = "a landing is taken"
    TAIL = "a tail is landed, the facts of the part before it stay"
    CONFLICT = "a landing from another generation is refused"
    REBUILT = "a rebuild makes a window stale"
    NOTED = "a note is taken"
    GONE = "a note about another landing is left out"
    OUTDATED = "a note decided from an older note is left out"
    DAMAGED = "damage is noted whatever else was noted"
    SOUND = "an audit clears damage"
    AGREED = "an answer that agrees clears a dispute, a stop or unread microseconds"
    UNEQUAL = "an answer that is not what was landed cannot verify"
    REPLACED = "a landing of every row clears damage, dispute and stop"
    FOUND_AGAIN = "a fact that a reading finds again keeps its first time"
    MARK = "a mark over covered time is taken"
    MARK_GAP = "a mark beyond a gap is refused"
    MARK_AHEAD = "a mark ahead of the source's clock is not in force"
    SEARCHED = "a date that was searched is off the list"
    SEARCHED_ELSE = "a date that was landed again after its search stays on the list"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a window may not become what was asked for; *found*: the generation that it has."""

    rule: Rule
    found: int


watchers: list[Callable[[Rule], None]] = []
"""Called with every rule that took or refused something; tests count with them."""


def _met(rule: Rule) -> None:
    for watch in watchers:
        watch(rule)


def follows(known: Entry | None, new: Landing | Note | Rebuild) -> Entry | Refusal:
    """What the entry *known* becomes by *new*, or why it does not. None: a window that was never landed.

    | known | new | then |
    |---|---|---|
    | any | a landing that covers less | refused |
    | generation g | a landing decided from g | generation g + 1 |
    | generation g | a landing decided from another | refused: conflict |
    | any | a landing of every row of the covered part | no damage, dispute or stop; what the reading found stands |
    | open | a landing of its tail | facts and comparison of the part before the tail stay |
    | any | rebuild | stale, generation g + 1; facts and comparison stay |
    | (g, n) | a note decided from (g, n) | n + 1; from another n or g it is left out |
    | g | a note of damage decided from g | damaged, whatever n |
    | damaged | an audit that finds the ledger's digest | not damaged |
    | unread | an answer that counts what is not served beside what was landed | stays unread, and the answer is known |
    | disputed, held, unread | an answer equal to what was landed, also in created_at | cleared |
    | disputed, held | an answer, and no earlier answer that agreed | refused: it has to be read again |
    | open, stale | any note | stays open, stale |

    An answer never clears `unmerged`, damage or `witness`. A stop or dispute that stands keeps its time. What is too heavy
    for the source to count is not verified any more, since when it first was.
    """
    match new:
        case Landing():
            return _after_landing(known, new)
        case Note():
            return _after_note(known, new)
    if known is None:
        return Refusal(Rule.GONE, 0)
    _met(Rule.REBUILT)
    return replace(known, state=State.STALE, base=None, generation=known.generation + 1)


def _after_landing(known: Entry | None, landing: Landing) -> Entry | Refusal:
    new = landing.entry
    found = known.generation if known else 0
    if found != new.generation:
        return _refused(Rule.CONFLICT, found)
    landed = replace(new, generation=found + 1, noted=0, tried_at=None)
    if known is None:
        _met(Rule.LANDED)
        return landed
    if new.covered_start > known.covered_start or new.covered_end < known.covered_end:
        return _refused(Rule.COVERS_LESS, found)
    kept = Facts(witness=known.facts.witness)
    if landing.tail:
        _met(Rule.TAIL)
        kept = known.facts
        landed = replace(landed, probed=known.probed, agreed=known.agreed, tried_at=known.tried_at)
    else:
        _met(Rule.REPLACED if known.facts else Rule.LANDED)
    facts = new.facts.first_of(known.facts)
    if facts != new.facts:
        _met(Rule.FOUND_AGAIN)
    return replace(landed, facts=NO_FACTS, state=landed.state).known_as(facts.joined(kept))


def _after_note(known: Entry | None, note: Note) -> Entry | Refusal:
    if known is None or known.generation != note.known.generation:
        return _refused(Rule.GONE, known.generation if known else 0)
    facts, finding = known.facts, note.finding
    if known.noted != note.known.noted and not isinstance(finding, Damage):
        return _refused(Rule.OUTDATED, known.generation)
    noted = replace(known, noted=known.noted + 1)
    match finding:
        case Damage():
            _met(Rule.DAMAGED)
            return noted.known_as(replace(facts, damaged=facts.damaged or note.at))
        case Sound():
            _met(Rule.SOUND)
            return noted.known_as(replace(facts, damaged=None))
        case Dispute(answer):
            _met(Rule.NOTED)
            facts = replace(facts, disputed=facts.disputed or note.at)
            return replace(noted, probed=Probed(note.at, answer), tried_at=note.at).known_as(facts)
        case Stop(said):
            _met(Rule.NOTED)
            facts = replace(facts, held=facts.held or note.at)
            probed = Probed(note.at, said) if said is not None else known.probed
            return replace(noted, probed=probed, tried_at=note.at).known_as(facts)
        case Unserved(said):
            _met(Rule.NOTED)
            return replace(noted, probed=Probed(note.at, said))
        case TooHeavy():
            _met(Rule.NOTED)
            first = known.probed if known.probed is not None and known.probed.values == HEAVY else None
            state = State.LANDED if known.settled else known.state
            return replace(noted, state=state, probed=first or Probed(note.at, HEAVY), tried_at=note.at)
    if not _equal(known, finding):
        return _refused(Rule.UNEQUAL, known.generation)
    _met(Rule.AGREED if facts.disputed or facts.held or facts.unread else Rule.NOTED)
    left = replace(facts, disputed=None, held=None, unread=None)
    proven = known.settled and not left and not known.tally.quarantined_rows
    state = known.state if not known.settled else State.VERIFIED if proven else State.LANDED
    said_at = Probed(note.at, finding.answer)
    agreed = Agreed(finding.answer, finding.until)
    return replace(noted, probed=said_at, agreed=agreed, facts=left, state=state, tried_at=None)


def _equal(known: Entry, said: Agreement) -> bool:
    """Whether the answer is what was landed, and in `created_at` what it was at the last comparison that agreed.

    Rows in quarantine have no digest: then the number of rows is compared.
    """
    if said.until != known.compared_until:
        return False
    tally = known.known_tally
    sums = said.answer.partition("/")[0]
    same = sums.partition(":")[0] == str(tally.source_rows) if tally.quarantined_rows else sums == tally.source_digest
    if not same:
        return False
    if known.agreed is None:
        return not (known.facts.disputed or known.facts.held)
    until_then = known.agreed.until == said.until
    return not until_then or known.agreed.created == Agreed(said.answer, said.until).created


def _refused(rule: Rule, found: int) -> Refusal:
    _met(rule)
    return Refusal(rule, found)


# --- what a whole stream says


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that the destination knows of one stream, read once per run. Keys of entries: window starts.

    *marks*: the bounds of complete sweeps that are stored, ascending; `mark` says which is in force. *unchecked*: dates
    landed in parts since they were last searched for one identity in two places. *removals*: those of the last two days.
    *saved*: pages for reading windows again that earlier runs did not spend.
    """

    entries: Mapping[datetime, Entry] = field(default_factory=dict)
    steps: Mapping[date, timedelta] = field(default_factory=dict)
    marks: tuple[datetime, ...] = ()
    unchecked: frozenset[date] = frozenset()
    removals: tuple[Removal, ...] = ()
    saved: int = 0

    @property
    def mark(self) -> datetime | None:
        """The mark in force, whatever the source's clock says."""
        return self.mark_at(None)

    def mark_at(self, now: datetime | None) -> datetime | None:
        """The mark in force: the greatest stored one that is not after *now* and that is reached without a gap."""
        known = [mark for mark in self.marks if now is None or mark <= now]
        if len(known) < len(self.marks):
            _met(Rule.MARK_AHEAD)
        if len(known) < 2:
            return known[0] if known else None
        reached = covered_until(self._spans(known[0], known[-1]), known[0])
        return max(mark for mark in known if mark <= reached)

    @property
    def landings(self) -> int:
        """How often any window was landed, by any run."""
        return sum(entry.generation for entry in self.entries.values())

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether every moment of [start, end) is covered by a window. Stale windows count: their rows stay."""
        return covered_until(self._spans(start, end), start) >= end

    def _spans(self, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """What is covered of the dates from *start* to *end*, ascending."""
        first = start.replace(hour=0, minute=0, second=0, microsecond=0)
        found = [entry for at, entry in self.entries.items() if first <= at < end]
        return sorted((entry.covered_start, entry.covered_end) for entry in found)


def covered_until(spans: Iterable[tuple[datetime, datetime]], start: datetime) -> datetime:
    """How far *spans*, which ascend, reach from *start* on without a gap."""
    reached = start
    for low, high in spans:
        if low > reached:
            break
        reached = max(reached, high)
    return reached


def marks_after(ledger: Ledger, mark: datetime) -> tuple[datetime, ...] | None:
    """The stored marks once *mark* is taken; None where it is refused: not later, or beyond time that is not covered.

    *ledger*: as it is with the landings of the same commit.
    """
    known = ledger.mark_at(mark)
    if known is not None and known >= mark:
        return None
    if known is not None and not ledger.covers(known, mark):
        _met(Rule.MARK_GAP)
        return None
    _met(Rule.MARK)
    return marks_kept([*ledger.marks, mark])


def marks_kept(marks: Iterable[datetime]) -> tuple[datetime, ...]:
    """Of all stored marks those of the last two days, and the one before these; ascending."""
    ordered = sorted(set(marks))
    oldest = bisect_left(ordered, ordered[-1] - MARKS_KEPT) if ordered else 0
    return tuple(ordered[max(0, oldest - 1) :])


def off_the_list(seen: Ledger, now: Mapping[datetime, int], day: date) -> bool:
    """Whether *day* was searched as it is: a search that saw *seen* counts if no window of it was landed since.

    *now*: generations of the day's windows, by start.
    """
    same = generations(seen, day) == dict(now)
    _met(Rule.SEARCHED if same else Rule.SEARCHED_ELSE)
    return same


def generations(ledger: Ledger, day: date) -> dict[datetime, int]:
    """Generations of the windows of *day*, by start."""
    return {start: entry.generation for start, entry in ledger.entries.items() if start.date() == day}


def recent(removals: Iterable[Removal]) -> tuple[Removal, ...]:
    """Those of *removals* that the guard may still count, in order of time."""
    ordered = sorted(removals, key=lambda one: (one.at, one.window_start, one.rows))
    return tuple(one for one in ordered if one.at > ordered[-1].at - REMOVALS_KEPT)


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
