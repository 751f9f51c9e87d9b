"""One history of many hands: who is under way, what the world does between their calls, and the script of all that."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from extractors.window import iso
from flows.landing.session import STREAM
from flows.runs import findings
from sinks.entries import Entry, State
from tests.flows import hands_places
from tests.flows.hands import HERE, Call, Order, Report, Task, Worker, alone
from tests.flows.hands_model import Broken, Hand, Model
from tests.flows.hands_places import Place
from tests.flows.hands_source import Source

NOW = datetime(2026, 3, 10, 6, 20, tzinfo=UTC)
SPAN = timedelta(days=2)  # how far back events lie when a history begins
AT_ONCE = 3
TO_THE_END = 10**6


@dataclass(slots=True)
class Running:
    """A run that has not ended, at the call it waits before."""

    hand: Hand
    worker: Worker
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """Where histories take place: a kind of destination, how writers are hired, what is waived."""

    source: Source
    kind: str
    hire: Callable[[], Worker]
    server: str = ""
    waived: frozenset[str] = frozenset()
    counts: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)


class History:
    """The scheduler of one history. Its steps are those of a script, which is kept."""

    def __init__(self, setting: Setting, *, events: int, page_rows: int, seed: int) -> None:
        self.setting, self.source = setting, setting.source
        self.script: list[str] = []
        self._directory = tempfile.TemporaryDirectory()
        self.directory = Path(self._directory.name)
        self.rng = random.Random(seed)
        self.source.begin(NOW, page_rows=page_rows)
        self.source.happen(NOW - SPAN, NOW, events)
        self.place = hands_places.place(setting.kind, self.directory, "a", server=setting.server)
        self.colleague: Place | None = None
        self.model = Model(self.source, self.place, waived=setting.waived)
        self.running: dict[str, Running] = {}
        self._idle: list[Worker] = []
        self.look_s = 0.0
        self._hired = 0
        self._before: dict[datetime, tuple[Entry, object]] = {}
        self._write(f"{events} events of the last {SPAN.days} days, pages of {page_rows}, now {iso(NOW)}")

    def close(self) -> None:
        """Ends what is under way, without a look at it."""
        for name in list(self.running):
            self._quietly_kill(self.running.pop(name))
        for worker in self._idle:
            worker.close()
        self.setting.counts.update(self.model.seen)
        self._directory.cleanup()

    def _quietly_kill(self, one: Running) -> None:
        if one.call is not None:
            one.worker.order(Order(self.source.now, "die"))
            while one.worker.hear()[0] != "ended":
                one.worker.order(Order(self.source.now, "die"))
        one.worker.close()

    def _write(self, line: str) -> None:
        self.script.append(f"{len(self.script):>3} {self.source.now:%d %H:%M:%S}  {line}")

    # --- writers

    def start(
        self, kind: str, *, skew_h: int = 0, since_m: int | None = None, until_m: int | None = None
    ) -> str | None:
        """A new writer, up to its first call; *since_m*, *until_m*: minutes before now. None where it cannot be."""
        if len(self.running) >= AT_ONCE or (kind == "copy" and self.colleague is None):
            return None
        self._hired += 1
        name = f"{kind}-{self._hired}"
        now = self.source.now
        since, until = (None if m is None else now - timedelta(minutes=m) for m in (since_m, until_m))
        if since is None and kind == "backfill":
            since, until = now - SPAN, now
        if since is not None and until is not None and since >= until:
            until = since + timedelta(minutes=20)
        task = Task(
            name,
            kind,
            self.place,
            self.source.url,
            self.source.key,
            str(self.directory),
            skew=timedelta(hours=skew_h),
            since=since,
            until=until if kind not in ("sync", "rebuild") else None,
            other=self.colleague if kind == "copy" else None,
        )
        words = [name, "begins"]
        words += [f"its clock {skew_h:+} h"] if skew_h else []
        words += [f"since {iso(since)}"] if since else []
        words += [f"until {iso(task.until)}"] if task.until else []
        self._write(" ".join(words))
        worker = self._idle.pop() if self._idle else self.setting.hire()
        hand = Hand(task, self.source.dataset.version, self.source.tick)
        one = self.running[name] = Running(hand, worker)
        self.source.who = name
        worker.begin(task)
        self._hear(one)
        self._write(f"  {name} is before {one.call}" if one.call else f"  {name} has ended")
        return name

    def go(self, name: str, stops: int = TO_THE_END, *, before: str = "") -> Report | None:
        """Let a writer do *stops* calls, or come to one named *before*, or to its end; its report if it has ended."""
        one = self.running[name]
        done: list[str] = []
        for _ in range(stops):
            if one.call is None or (before and str(one.call).startswith(before)):
                break
            done.append(str(one.call))
            report = self._order(one, "go", done)
            if report is not None:
                self._write(f"{name} does {_packed(done)} and ends: {_told(report)}")
                return report
        self._write(f"{name} does {_packed(done)}; it is before {one.call}")
        return None

    def go_before(self, name: str, call: str) -> None:
        """Let a writer go until it is before its next call of that name."""
        if self.go(name, before=call) is not None:
            raise AssertionError(f"{name} has ended without {call}\n" + "\n".join(self.script))

    def whole(self, kind: str, **how: int) -> Report:
        """A run that nobody stops."""
        name = self.start(kind, **how)
        assert name is not None
        report = self.go(name)
        assert report is not None
        return report

    def kill(self, name: str, how: str = "die") -> None:
        """A writer dies before the call it waits for, or (`midway`) when a landing of several windows is half done."""
        one = self.running[name]
        midway = how == "midway" and one.call is not None and len(one.call.parts) > 1
        self._write(f"{name} is killed {'in the middle of' if midway else 'before'} {one.call}")
        self._order(one, "midway" if midway else "die", [])

    def _order(self, one: Running, do: str, done: list[str]) -> Report | None:
        self.source.who = one.hand.task.name
        if one.call is not None and one.call.name == "audit" and do == "go":
            self.model.audited(one.hand)
        one.worker.order(Order(self.source.now, do, self.look_s))
        try:
            return self._hear(one)
        except Broken as exc:
            self._write(f"{one.hand.task.name} does {_packed(done)}: {exc.name.upper()}")
            raise self._told(exc) from exc

    def _hear(self, one: Running) -> Report | None:
        """Hear a writer until it waits for a word or has ended."""
        other = one.hand.task.other
        while True:
            what, said = one.worker.hear()
            HERE.look_s = 0.0
            if what == "stop":
                assert isinstance(said, Call)
                one.call = said
                return None
            if what == "done":
                assert isinstance(said, Call)
                one.call = said
                self.model.called(one.hand, said, other)
                one.worker.order(Order(self.source.now, look_s=self.look_s))
                continue
            assert isinstance(said, Report)
            one.call = None
            del self.running[one.hand.task.name]
            self._idle.append(one.worker)
            self.setting.rules.update(said.rules)
            self.model.ended(one.hand, said)
            return said

    def _told(self, exc: Broken) -> Broken:
        """The error with the script of the history."""
        said = str(exc).removeprefix(f"{exc.name}: ")
        return Broken(exc.name, said + "\n" + "\n".join(self.script))

    # --- the world

    def pass_time(self, minutes: int, events: int) -> None:
        self.source.pass_time(timedelta(minutes=minutes), events=events)
        self._write(f"{minutes} minutes pass, {events} events happen")

    def come_late(self, events: int, oldest_m: int, newest_m: int) -> None:
        """*events* of some minutes ago are shown only now."""
        now = self.source.now
        self.source.happen(now - timedelta(minutes=oldest_m), now - timedelta(minutes=newest_m), events)
        self._write(f"{events} events come {newest_m} to {oldest_m} minutes late")

    def delete(self, share: float, *, most: int = TO_THE_END) -> None:
        """Some events are deleted for good."""
        doomed = self._some(share, most=most)
        self.source.delete({event.uuid for event in doomed})
        self._write(f"{len(doomed)} events are deleted, the first of {_at(doomed)}")

    def hide(self, share: float) -> None:
        """An outage hides a share of all events."""
        hidden = self._some(share)
        self.source.hide(hidden)
        self._write(f"an outage hides {len(hidden)} of {len(hidden) + len(self.source.dataset)} events")

    def end_outage(self) -> None:
        self._write(f"the outage ends: {len(self.source.hidden)} events are shown again")
        self.source.end_outage()

    def move(self) -> None:
        """An event moves to another time of its day, in the past."""
        for event in self._some(0.0, most=1):
            day = event.timestamp.replace(hour=0, minute=0, second=0, microsecond=0)
            span = min(day + timedelta(days=1), self.source.now) - day
            to = day + timedelta(seconds=self.rng.randrange(max(1, int(span.total_seconds()))))
            self.source.move(event, to)
            self._write(f"{event.uuid[-4:]} moves from {iso(event.timestamp)} to {iso(to)}")

    def change(self) -> None:
        for event in self._some(0.0, most=1):
            self.source.change(event)
            self._write(f"{event.uuid[-4:]} at {iso(event.timestamp)} changes in place")

    def copies(self) -> None:
        for event in self._some(0.0, most=1):
            self.source.copy(event)
            self._write(f"a different copy of {event.uuid[-4:]} at {iso(event.timestamp)} is shown")

    def merge(self) -> None:
        self.source.merge()
        self._write("the source merges copies")

    def _some(self, share: float, *, most: int = TO_THE_END) -> list:
        events = self.source.dataset.events
        count = min(most, len(events), max(1, round(share * len(events))))
        return sorted(self.rng.sample(list(events), count), key=lambda event: event.micros)

    def grant(self, granted: bool) -> None:
        self.source.granted = granted
        self._write(f"/query is {'granted' if granted else 'refused'}")

    def weigh(self, minutes_ago: int | None, longest_m: int = 0) -> None:
        """One moment is too heavy for /query in any range longer than *longest_m*; None: none is."""
        if minutes_ago is None:
            self.source.heavy = None
            self._write("nothing is too heavy for /query")
            return
        at = self.source.now - timedelta(minutes=minutes_ago)
        self.source.heavy = at, timedelta(minutes=longest_m)
        self._write(f"more than {longest_m} minutes around {iso(at)} are too heavy for /query")

    def wrong_date(self, hours: int) -> None:
        self.source.wrong_date = timedelta(hours=hours)
        self._write(f"the next list answer's date will be wrong by {hours:+} hours")

    def list_slowly(self, look_s: float) -> None:
        """A lake's listing takes so long from now on: what was listed counts for a while."""
        self.look_s = look_s
        self._write(f"listing a lake takes {look_s:.0f} s")

    def damage(self, how: str, *states: State) -> None:
        """Somebody damages one window by hand, in one of *states* if they are given."""
        entries = [one for one in self._entries() if one.tally.landed_rows and (not states or one.shown in states)]
        if not entries:
            return
        entry = self.rng.choice(entries)
        if entry.start in self.model.damage:
            return
        content = self.place.content(entry)
        if self.place.damage(entry, how, self.rng):
            self._before[entry.start] = entry, content
            self.model.damaged(entry, how)
            self._write(f"by hand: {how} in the window {iso(entry.start)} ({entry.shown})")

    def undo_damage(self) -> None:
        """Somebody puts back what was damaged by hand, where no landing came between."""
        known = {entry.start: entry for entry in self._entries()}
        for start, (entry, content) in list(self._before.items()):
            now = known.get(start)
            del self._before[start]
            if start in self.model.damage and now is not None and now.generation == entry.generation:
                self.place.restore(entry, content)
                self.model.mended(entry)
                self._write(f"by hand: the window {iso(start)} is put back as it was")

    def clock_ahead(self, hours: int) -> None:
        """The server's clock is wrong from now on, in every answer."""
        self.source.clock_ahead = timedelta(hours=hours)
        self._write(f"the server's clock is {hours} hours ahead")

    def _entries(self) -> list[Entry]:
        return [entry for _, entry in sorted(self.place.open().ledger(1, STREAM).entries.items())]

    def colleague_syncs(self, since_m: int, *, fresh: bool = False) -> None:
        """Somebody else syncs into another destination, from which `copy` may copy."""
        if self.colleague is None or fresh:
            self._hired += 1
            kind = self.setting.kind
            name = f"other-{self._hired}"
            self.colleague = hands_places.place(kind, self.directory, name, server=self.setting.server)
        since = self.source.now - timedelta(minutes=since_m)
        place = self.colleague
        task = Task("colleague", "sync", place, self.source.url, self.source.key, str(self.directory), since=since)
        self.source.who = "colleague"
        report = alone(task, self.source.now)
        self._write(f"a colleague syncs since {iso(since)}: {_told(report)}")

    # --- the end

    def finish(self) -> None:
        """Writers come to their ends, outages too; a sync and a repair mend everything, and a further sync finds nothing."""
        for name in list(self.running):
            self.go(name)
        self.end_outage()
        self.source.heavy, self.source.wrong_date, self.look_s = None, timedelta(0), 0.0
        self.source.clock_ahead = timedelta(0)
        self.grant(True)
        self.merge()
        self._ends(self.start("sync"))
        held = self.model.held()
        mended = self._ends(self.start("accept"))
        self._check(self.model.check_end)
        # What the guard held is read by a repair as far as it was covered; the rest, which the repair names, by a sync.
        missing = mended.verification is not None and mended.verification.missing
        if self.model.unread_tail() or (held and missing):
            self._ends(self.start("sync"))
        if self.model.unmerged:
            self.pass_time(26 * 60, 0)
            self._ends(self.start("sync"))
            self._check(
                lambda: self.model.check("unmerged", not self.model.unmerged, "copies are merged, and a day has passed")
            )
        last = self._ends(self.start("sync"))
        outcome = last.outcome
        assert outcome is not None
        quiet = last.good and not outcome.rows and not any(outcome.changes.values())
        said = f"the last sync: {_told(last)}, {outcome.rows} rows, {outcome.changes}"
        self._check(lambda: self.model.check("quiet", quiet, said))
        self._check(self.model.check_end)

    def _ends(self, name: str | None) -> Report:
        assert name is not None
        report = self.go(name)
        assert report is not None
        self._check(lambda: self.model.check("died", report.ended, f"{name}: {report.trace}"))
        return report

    def _check(self, checked: Callable[[], None]) -> None:
        try:
            checked()
        except Broken as exc:
            raise self._told(exc) from exc


def _told(report: Report) -> str:
    if report.killed:
        return "killed"
    if report.error:
        return report.error
    said = "all is well" if report.good else "all is not well"
    outcome = report.outcome
    if outcome is None:
        return said
    named = {
        "disputed": outcome.disputed,
        "held": outcome.held,
        "moving": outcome.moving,
        "unmerged": outcome.unmerged,
        "unproven": outcome.unproven,
    }
    more = [f"{what} {', '.join(f'{at:%d %H:%M}' for at in sorted(some))}" for what, some in named.items() if some]
    more += [f"{outcome.unasked} unasked"] if outcome.unasked else []
    if report.verification is not None:
        more += [f"left {', '.join(f'{at:%d %H:%M}' for at in report.verification.left)}"] * bool(
            report.verification.left
        )
        more += findings.of_verification(report.verification)
    return "; ".join([f"{said}, {outcome.windows} windows, {outcome.rows} rows", *more])


def _packed(calls: list[str]) -> str:
    """Calls in order, repeated ones counted."""
    found: list[tuple[str, int]] = []
    for call in calls:
        if found and found[-1][0] == call:
            found[-1] = call, found[-1][1] + 1
        else:
            found.append((call, 1))
    return ", ".join(call if count == 1 else f"{call} ×{count}" for call, count in found) or "nothing"


def _at(events: list) -> str:
    return iso(events[0].timestamp) if events else "none"
