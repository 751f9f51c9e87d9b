"""What must hold of a destination that many hands write, whatever they do and whenever they die.

The model knows what the source showed at each of its versions, looks at the destination after every call that writes,
and hears how each run ends. It decides by rows, and never by what the ledger says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from extractors.simulator.data.dataset import Event
from extractors.window import Range, iso
from flows.landing import guard
from flows.landing.session import STREAM
from sinks.entries import Entry, State
from sinks.ledger import Ledger
from sinks.sink import Holding
from tests.flows.hands import Call, Part, Report, Task
from tests.flows.hands_places import Place, held_open
from tests.flows.hands_source import Source
from tests.flows.harness import COLUMNS, SETTLE

Key = tuple[str, str, str, datetime]  # identity and time
Row = tuple[object, ...]
LEFT = frozenset({State.STALE, State.DISPUTED, State.HELD})  # what a mended destination has no window in
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# How a run may end beside its own end: others were faster again and again, or, for a copy, once; or a date is cut into
# other windows in the two destinations.
ALLOWED = {"GenerationConflict": "copy", "DestinationUnusable": "copy"}


class Broken(AssertionError):
    """An invariant does not hold. *name*: which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


@dataclass(slots=True)
class Hand:
    """One run as the model knows it. *version*, *tick*: of the source when it began. *audited*: tick of its first look at
    all rows, with the generations then."""

    task: Task
    version: int
    tick: int
    audited: int = -1
    generations: dict[datetime, int] = field(default_factory=dict)


@dataclass(slots=True)
class Damage:
    """Damage by hand. *noticed*: tick at which a run had said so; None: not yet."""

    tick: int
    how: str
    noticed: int | None = None


class Model:
    """Watches one destination. *waived*: invariants, or last parts of their names, that are not to be checked."""

    def __init__(self, source: Source, place: Place, *, waived: frozenset[str] = frozenset()) -> None:
        self._source, self._place, self._waived = source, place, waived
        self._sink = place.open()
        self.ledger = Ledger()
        self.landed: dict[datetime, int] = {}
        self.landed_by: dict[datetime, str] = {}
        self.unasked: set[datetime] = set()
        self.writes: list[tuple[int, str]] = []
        self.damage: dict[datetime, Damage] = {}
        self._held: dict[datetime, set[Key]] = {}
        self._removed: list[tuple[datetime, int]] = []
        self._most_rows = 0
        self._all_rows: list[Row] | None = None
        self.seen: Counter[str] = Counter()

    def check(self, name: str, holds: object, text: str | Callable[[], str]) -> None:
        if holds or name.endswith("-unmerged"):
            return
        if not any(name == one or name.endswith(f"-{one}") for one in self._waived):
            raise Broken(name, text if isinstance(text, str) else text())

    # --- after a call

    def called(self, hand: Hand, call: Call, other: Place | None) -> None:
        """*hand* has done *call*: look at what the ledger says now, and at the rows that were landed."""
        with self._looking():
            if call.parts or call.name == "rebuild":
                self.writes.append((self._source.tick, hand.task.name))
            before, self.ledger = self.ledger, self._read()
            self._check_course(before)
            for part in call.parts:
                self._check_landing(hand, part, before, other)
            self._check_claims(hand, before)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """The destination is read anew, and its file opened once."""
        self._source.tick += 1
        self._all_rows = None
        with held_open(self._sink):
            yield

    def _read(self) -> Ledger:
        return self._sink.ledger(1, STREAM)

    def _check_course(self, before: Ledger) -> None:
        """Covered time does not shrink, generations do not go back, and the mark does not pass over a gap."""
        for start, old in before.entries.items():
            if self._lost(start):
                continue
            new = self.ledger.entries.get(start)
            self.check("covered", new is not None, f"the window {iso(start)} is gone")
            if new is None:
                continue
            shrunk = new.covered_start > old.covered_start or new.covered_end < old.covered_end
            self.check("covered", not shrunk, lambda old=old, new=new: f"{_told(old)} became {_told(new)}")
            back = new.generation < old.generation
            self.check("generation", not back, lambda old=old, new=new: f"{_told(old)} became {_told(new)}")
        for entry in self.ledger.entries.values():
            tally = entry.tally
            parts = tally.landed_rows + tally.quarantined_rows + tally.suppressed_rows + tally.copies
            self.check("sum", tally.source_rows == parts, lambda entry=entry: _told(entry))
        now = self._source.now
        mark, old_mark = self.ledger.mark_at(now), before.mark_at(now)
        if mark is None:
            self.check("mark", old_mark is None, "the mark is gone")
            return
        if mark != old_mark:
            self.seen["mark moved"] += 1
        ahead = mark > self._source.now + timedelta(minutes=1)
        self.check("mark-ahead", not ahead, f"mark {iso(mark)}, now {iso(self._source.now)}")
        if old_mark is not None and old_mark < mark:
            gap = _gap(self.ledger.entries.values(), Range(old_mark, mark))
            self.check("mark-gap", gap is None, f"mark {iso(mark)} over {iso(gap) if gap else ''}, not covered")

    def held(self) -> bool:
        """Whether the guard has stopped the landing of any window."""
        return any(one.facts.held for one in self.ledger.entries.values())

    def unread_tail(self) -> bool:
        """Whether an open window ends before now: the guard held it, and a repair reads what was covered, no more."""
        now = self._source.now
        return any(
            one.state is State.OPEN and one.covered_end < min(one.end, now) for one in self.ledger.entries.values()
        )

    def _lost(self, start: datetime) -> bool:
        """The window's object was taken away, and its ledger entry with it."""
        damage = self.damage.get(start)
        return damage is not None and damage.how == "lose" and self._place.kind in ("lake", "s3")

    # --- what was landed

    def _check_landing(self, hand: Hand, part: Part, before: Ledger, other: Place | None) -> None:
        """Every event that was shown all through the reading is held once, and none that was never shown."""
        old, entry = before.entries.get(part.start), self.ledger.entries[part.start]
        anew = self._lost(part.start) and self._sound(entry)  # what nobody remembers begins with generation 1 once more
        if old is not None and entry.generation == old.generation and not anew:
            return  # a landing that did not come to that
        self.landed[part.start], self.landed_by[part.start] = self._source.tick, hand.task.name
        self.seen["landed"] += 1
        window = Range(entry.start, entry.end)
        own = [answer for answer in self._source.answers if answer.who == hand.task.name]
        asked = any(rng.overlap(window) for answer in own for rng in answer.ranges)
        (self.unasked.discard if asked else self.unasked.add)(entry.start)
        rows = self._rows(Range(entry.covered_start, entry.covered_end))
        if self._settle_damage(entry, part, hand):
            return
        self._check_removals(hand, entry, rows)
        held = [row for row in rows if part.replaced.start <= row[3] < part.replaced.end]
        if other is not None:
            if old is not None and (entry.read_at, entry.tally) == (old.read_at, old.tally):
                # The target's own, once more as it is: the other's mark came with it.
                self.check("handed-on", self._sound(entry), lambda: _told(entry))
                return
            theirs = _rows_of(other, part.replaced)
            self.check("copied", Counter(held) == Counter(theirs), f"{_told(entry)}: {_differ(held, theirs)}")
            return
        shown = [self._source.shown(version, part.replaced) for version in self._source.since(hand.version)]
        wrong = wrong_rows(held, always=_common(shown), ever=_contents(event for some in shown for event in some))
        self.check(
            "landing", not wrong, f"{hand.task.name} landed {_told(entry)} from {iso(part.replace_start)}: {wrong}"
        )

    def _settle_damage(self, entry: Entry, part: Part, hand: Hand) -> bool:
        """Whether the window is still damaged after it was landed; a landing of noticed damage must mend it."""
        damage = self.damage.get(entry.start)
        if damage is None:
            return False
        if self._sound(entry):
            del self.damage[entry.start]
            self.seen["damage mended"] += 1
            return False
        whole = part.replace_start == entry.covered_start
        told = damage.noticed is not None and damage.noticed < hand.tick and whole
        self.check(
            "mended", not told, f"{hand.task.name} landed {_told(entry)}; the {damage.how} by hand is still there"
        )
        return True

    def _sound(self, entry: Entry) -> bool:
        """Whether the destination holds what the ledger says was landed."""
        held = self._sink.audit(1, STREAM, entry.start, entry.end).get(entry.start)
        return held == Holding(entry.tally.landed_rows, entry.tally.landed_digest)

    def _check_removals(self, hand: Hand, entry: Entry, rows: Sequence[Row]) -> None:
        """No more rows go within a day than the guard allows, unless somebody accepts it."""
        before, after = self._held.get(entry.start, set()), {_key(row) for row in rows}
        self._held[entry.start] = after
        elsewhere = {
            key[:3] for start, keys in self._held.items() if start.date() == entry.start.date() for key in keys
        }
        gone = {key for key in before - after if key[:3] not in elsewhere}
        counted = bool(gone) and hand.task.kind != "accept"
        now = self._source.now
        recent = [(at, rows) for at, rows in self._removed if at > now - timedelta(days=1)]
        self._removed = [*recent, (now, len(gone))] if counted else recent
        removed = sum(rows for _, rows in self._removed)
        # What the project holds is what it would hold without the removals of the day.
        total = sum(map(len, self._held.values()))
        self._most_rows = max(self._most_rows, total + (removed if counted else removed + len(gone)))
        if not counted:
            return
        self.seen["removed rows"] += 1
        most = max(guard.MOST_ROWS, guard.MOST_SHARE * self._most_rows)
        self.check(
            "guard",
            removed <= most,
            f"{hand.task.name} took {len(gone)} of {_told(entry)}: {removed} in a day, {most:.0f} allowed",
        )

    # --- what is claimed

    def _check_claims(self, hand: Hand, before: Ledger) -> None:
        """What became `verified` is what the source showed when *hand* asked last; damage that was noticed never is."""
        for start, entry in self.ledger.entries.items():
            if entry.state is not State.VERIFIED:
                continue
            damage = self.damage.get(start)
            told = damage is not None and damage.noticed is not None
            self.check(
                "verified-damage", not told, f"{_told(entry)} after a {damage.how if damage else ''} was noticed"
            )
            old = before.entries.get(start)
            if hand.task.kind == "copy" or old == entry:
                continue
            self.seen["verified"] += 1
            if damage is None:
                wrong = self._compared(hand, entry)
                self.check("verified", wrong is not None, f"{_told(entry)}, and {hand.task.name} did not ask about it")
                self.check(
                    self._named("verified", entry, wrong), not wrong, f"{_told(entry)} by {hand.task.name}: {wrong}"
                )

    def _named(self, name: str, entry: Entry, wrong: str | None) -> str:
        """The invariant's name: apart where only contents differ, and the window is said to hold one of several copies, or
        no answer came before it was read with which a later one could be compared."""
        content = bool(wrong) and not any(word in (wrong or "") for word in ("missing", "stray", "doubled"))
        if content and entry.shown is State.UNMERGED:
            return f"{name}-unmerged"
        return f"{name}-content-unasked" if content and entry.start in self.unasked else name

    def _compared(self, hand: Hand, entry: Entry, *, since: int = -1, anyone: bool = False) -> str | None:
        """How the rows of a window differ from the last answers that *hand*, or *anyone*, had about it: after it began,
        and after tick *since*.

        None where some of the window was not asked about.
        """
        left, wrong = [Range(entry.covered_start, entry.covered_end)], []
        for answer in reversed(self._source.answers):
            if answer.tick <= max(since, hand.tick) or (answer.who != hand.task.name and not anyone):
                continue
            for asked in answer.ranges:
                for part in [part for one in left if (part := one.overlap(asked)) is not None]:
                    events = self._source.shown(answer.version, part)
                    wrong.append(wrong_rows(self._rows(part), always=_common([events]), ever=_contents(events)))
                    left = [rest for one in left for rest in _without(one, part)]
            if not left:
                return "; ".join(filter(None, wrong))
        return None

    # --- when a run ends

    def ended(self, hand: Hand, report: Report) -> None:
        """*hand* has ended by itself: what it says must be so."""
        if report.killed:
            return
        with self._looking():
            self._check_ended(hand, report)

    def _check_ended(self, hand: Hand, report: Report) -> None:
        kind = hand.task.kind
        if report.error:
            allowed = report.error in ALLOWED and ALLOWED[report.error] in (None, kind)
            self.seen[f"{kind} ended by {report.error}"] += 1
            self.check("died", allowed, f"{hand.task.name}: {report.trace}")
            return
        self.seen[f"{kind} {'good' if report.good else 'not good'}"] += 1
        if kind == "copy":
            return
        self._check_damage_told(hand, report)
        if report.verification is not None:
            self._check_audit(hand, report)
        elif report.good:
            self._check_complete(hand, report)

    def _check_damage_told(self, hand: Hand, report: Report) -> None:
        """Damage that had been noticed before a run began is told by it, unless it is mended."""
        for start, damage in self.damage.items():
            if damage.noticed is None or damage.noticed > hand.tick or start not in self.ledger.entries:
                continue
            if self._within(hand.task, self.ledger.entries[start]):
                name = "told-open" if self.ledger.entries[start].state is State.OPEN else "told"
                self.check(
                    name, not report.good, f"{hand.task.name} says all is well; {iso(start)} is damaged, as was noticed"
                )

    @staticmethod
    def _within(task: Task, entry: Entry) -> bool:
        """Whether a run is about a window: a sync is about all."""
        if task.kind in ("sync", "rebuild"):
            return True
        after = task.until is not None and entry.start >= task.until
        return not (after or (task.since is not None and entry.end <= task.since))

    def _check_audit(self, hand: Hand, report: Report) -> None:
        """Damage that lay there when the rows were read was told, and is noted from now on."""
        found = report.verification
        assert found is not None
        told = {one.start for one in found.differences}
        for start, damage in self.damage.items():
            entry = self.ledger.entries.get(start)
            if entry is None or damage.tick > hand.audited or not self._within(hand.task, entry):
                continue
            if hand.generations.get(start) != entry.generation:
                continue  # landed since, by this run or by another
            self.check("audit", start in told, f"{hand.task.name} did not find the {damage.how} in {_told(entry)}")
            self.check("audit", not found.good, f"{hand.task.name} says all is well, and names {iso(start)}")
            if damage.noticed is None:
                damage.noticed = self._source.tick
                self.seen["damage noticed"] += 1
        for start, entry in self.ledger.entries.items():
            told_of = start in found.left or not found.good
            if start in self.damage or not entry.settled or told_of or not self._within(hand.task, entry):
                continue
            wrong = self._compared(hand, entry, since=self.landed.get(start, -1))
            name = self._named("audit", entry, wrong)
            self.check(name, not wrong, f"{hand.task.name} says all is well; {_told(entry)}: {wrong}")

    def _check_complete(self, hand: Hand, report: Report) -> None:
        """A run that says complete holds what it compared, and compared what it does not name."""
        outcome = report.outcome
        assert outcome is not None
        silent = hand.task.name not in self._source.refused and not outcome.unasked and hand.task.kind != "backfill"
        for start, entry in self.ledger.entries.items():
            if start in self.damage or not entry.settled or start in outcome.moving:
                continue
            if entry.end > self._source.now - SETTLE:
                continue  # landed when the clock was ahead: open again, whatever its line says
            wrong = self._compared(hand, entry, since=self.landed.get(start, -1))
            name = self._named("complete", entry, wrong)
            self.check(name, not wrong, f"{hand.task.name} says complete; {_told(entry)}: {wrong}")
            own = self.landed_by.get(start) == hand.task.name or self.landed.get(start, -1) <= hand.tick
            # A window that was too heavy is named, and asked about again at its ages.
            if silent and own and start not in outcome.heavy and not self._too_heavy(hand, entry):
                asked = self._compared(hand, entry, since=self.landed.get(start, -1), anyone=True)
                said = f"{hand.task.name} says complete, and did not ask about {_told(entry)}"
                self.check("compared", asked is not None, said)

    def _too_heavy(self, hand: Hand, entry: Entry) -> bool:
        """The source could not answer *hand* about some moment of the window."""
        return any(who == hand.task.name and entry.start <= at < entry.end for who, at in self._source.too_heavy)

    # --- by hand, and in the end

    def damaged(self, entry: Entry, how: str) -> None:
        with self._looking():
            self.damage[entry.start] = Damage(self._source.tick, how)
            self._read()  # so that a lake's object is known as it is now
            rows = self._rows(Range(entry.covered_start, entry.covered_end))
            self._held[entry.start] = {_key(row) for row in rows}

    def mended(self, entry: Entry) -> None:
        """The window is by hand what it was; a lost object brings its entry back."""
        with self._looking():
            self.ledger = self._read()
            rows = self._rows(Range(entry.covered_start, entry.covered_end))
            self._held[entry.start] = {_key(row) for row in rows}
            if self._sound(entry):
                del self.damage[entry.start]

    def audited(self, hand: Hand) -> None:
        """*hand* is about to read all rows of its range."""
        if hand.audited >= 0:
            return  # the look after a repair: what it finds is told as left
        hand.audited = self._source.tick
        hand.generations = {start: entry.generation for start, entry in self._read().entries.items()}

    @property
    def unmerged(self) -> bool:
        """Some window is said to hold one of several copies: it is read again when its time has come."""
        return any(entry.shown is State.UNMERGED for entry in self.ledger.entries.values())

    def check_end(self) -> None:
        """Everything is mended: the destination is the source, row by row, where time is covered and settled."""
        with self._looking():
            self._check_end()

    def _check_end(self) -> None:
        self.ledger = self._read()
        until, version = self._source.now - SETTLE, self._source.dataset.version
        covered: list[Range] = []
        for entry in sorted(self.ledger.entries.values(), key=lambda entry: entry.start):
            part = Range(entry.covered_start, entry.covered_end)
            covered.append(part)
            self.check(
                "left",
                entry.shown not in LEFT and not entry.facts.damaged,
                lambda entry=entry: f"in the end {_told(entry)}",
            )
            settled = part.overlap(Range(part.start, min(part.end, until))) if part.start < until else None
            if settled is not None:
                events = self._source.shown(version, settled)
                wrong = wrong_rows(self._rows(settled), always=_common([events]), ever=_contents(events))
                name = "end-open" if entry.state is State.OPEN else "end"
                self.check(self._named(name, entry, wrong), not wrong, f"in the end {_told(entry)}: {wrong}")
        whole = self._rows(Range(FIRST, LAST))
        stray = [row for row in whole if not any(one.start <= row[3] < one.end for one in covered)]
        self.check("stray", not stray, f"{len(stray)} rows outside of all windows, the first of {stray[:1]}")

    def _rows(self, rng: Range) -> list[Row]:
        if self._all_rows is None:
            self._all_rows = _tuples(self._sink.rows(1, FIRST, LAST))
        return [row for row in self._all_rows if rng.start <= row[3] < rng.end]


# --- rows and events


def wrong_rows(held: Iterable[Row], *, always: set[Key], ever: Mapping[Key, set[tuple[object, object]]]) -> str:
    """What is wrong with the rows held, where *always* must be there and nothing but *ever* may; "" where nothing is."""
    keys: Counter[Key] = Counter()
    stray, other = [], []
    for row in held:
        key = _key(row)
        keys[key] += 1
        if key not in ever:
            stray.append(key)
        elif (row[4], row[5]) not in ever[key]:
            other.append(key)
    missing = sorted(always - set(keys), key=str)
    doubled = sorted((key for key, count in keys.items() if count > 1), key=str)
    found = {"missing": missing, "stray": stray, "doubled": doubled, "not as shown": other}
    return ", ".join(f"{len(some)} {name} ({_named(some[0])})" for name, some in found.items() if some)


def _key(row: Row) -> Key:
    return row[:4]  # type: ignore[return-value]


def _named(key: Key) -> str:
    return f"{key[0][-4:]} {key[1]} of {key[2]} at {iso(key[3])}"


def _contents(events: Iterable[Event]) -> dict[Key, set[tuple[object, object]]]:
    found: dict[Key, set[tuple[object, object]]] = {}
    for event in events:
        key = event.uuid, event.event, event.distinct_id, event.timestamp
        found.setdefault(key, set()).add((event.properties, event.elements_chain))
    return found


def _common(shown: Sequence[Sequence[Event]]) -> set[Key]:
    """Events that were shown at every version."""
    return set.intersection(*(set(_contents(some)) for some in shown))


def _tuples(rows: object) -> list[Row]:
    if not rows.num_rows:
        return []
    return list(zip(*(rows[name].to_pylist() for name in COLUMNS), strict=True))


def _rows_of(place: Place, rng: Range) -> list[Row]:
    sink = place.open()
    sink.ledger(1, STREAM)
    return _tuples(sink.rows(1, rng.start, rng.end))


def _differ(one: Sequence[Row], other: Sequence[Row]) -> str:
    return f"{len(one)} rows, {len(other)} in the other"


def _told(entry: Entry) -> str:
    covered = f"{entry.covered_start:%d %H:%M:%S}..{entry.covered_end:%d %H:%M:%S}"
    return f"{entry.start:%d %H:%M} ({covered}, {entry.shown}, generation {entry.generation}, {entry.tally.landed_rows} rows)"


def _gap(entries: Iterable[Entry], rng: Range) -> datetime | None:
    """The first moment of *rng* that no window covers."""
    passed = rng.start
    for entry in sorted(entries, key=lambda entry: entry.covered_start):
        if entry.covered_start > passed:
            break
        passed = max(passed, entry.covered_end)
    return passed if passed < rng.end else None


def _without(one: Range, part: Range) -> list[Range]:
    """What of *one* lies outside of *part*."""
    bounds = [(one.start, min(one.end, part.start)), (max(one.start, part.end), one.end)]
    return [Range(start, end) for start, end in bounds if start < end]
