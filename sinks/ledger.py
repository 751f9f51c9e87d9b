"""The ledger of a stream: its values, and the one place that decides what an entry may become.

Pure: no I/O, no clock. Every sink asks `follows` inside its commit, with the entry that it reads there, so a decision made
from something older is refused. Reasons: docs/ledger.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from sinks.entries import (
    HEAVY,
    NO_FACTS,
    Agreed,
    Agreement,
    Damage,
    Dispute,
    Entry,
    Facts,
    Landing,
    Note,
    Probed,
    Rebuild,
    Removal,
    Sound,
    State,
    Stop,
    TooHeavy,
    Unserved,
)

MARKS_KEPT = timedelta(days=2)
REMOVALS_KEPT = timedelta(hours=48)  # the guard looks back 24 hours, by clocks that may differ


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
