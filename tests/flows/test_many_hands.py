"""Several writers of one destination, stopped, interleaved and killed at every call, while the source changes.

The steps of a red history are printed as a script. In the environment: HEDGEROW_HISTORIES, how many the long test runs
of all sinks together; HEDGEROW_SHRINK=1 makes a red history as short as it can be; HEDGEROW_WAIVED=name,… leaves
invariants out.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from sinks.ledger import Rule
from tests.flows import hands
from tests.flows.hands import ProcessWorker, ThreadWorker
from tests.flows.hands_history import TO_THE_END, History, Setting
from tests.flows.hands_places import DAMAGES
from tests.flows.hands_source import Source, serving
from tests.flows.test_hands_scripts import SCRIPTS

# Histories of the long test: sinks, writers in threads or in processes of their own, and how many parts of the budget.
LONG = {
    ("memory", "threads"): 1580,
    ("duckdb", "threads"): 60,
    ("duckdb", "processes"): 40,
    ("lake", "threads"): 80,
    ("lake", "processes"): 40,
    ("s3", "threads"): 150,
    ("s3", "processes"): 50,
}
HIRED = {"threads": ThreadWorker, "processes": ProcessWorker}
RULES: Counter[str] = Counter()  # of all histories of this process
WAIVED = frozenset(filter(None, os.environ.get("HEDGEROW_WAIVED", "").split(",")))

kinds = st.sampled_from(hands.KINDS)
skews = st.sampled_from([0, 0, 0, -23, -1, 1, 23])  # hours
minutes = st.sampled_from([1, 5, 11, 30, 61, 125, 370, 725])
ago = st.sampled_from([7, 45, 95, 200, 400, 800, 1500, 2500])  # minutes


CHANGES: dict[str, Callable[[History], None]] = {
    "change": History.change,
    "copy": History.copies,
    "delete a few": lambda history: history.delete(0.02, most=3),
    "end outage": History.end_outage,
    "hide a third": lambda history: history.hide(0.3),
    "hide a little": lambda history: history.hide(0.06),
    "hide all": lambda history: history.hide(1.0),
    "merge": History.merge,
    "move": History.move,
    "move again": History.move,
}
MOODS: dict[str, Callable[[History, int], None]] = {
    "date ahead": lambda history, at: history.wrong_date(24),
    "clock ahead": lambda history, at: history.clock_ahead(7),
    "clock right": lambda history, at: history.clock_ahead(0),
    "date behind": lambda history, at: history.wrong_date(-24),
    "grant": lambda history, at: history.grant(True),
    "refuse": lambda history, at: history.grant(False),
    "heavy": lambda history, at: history.weigh(at, 0),
    "heavy in large": lambda history, at: history.weigh(at, 100),
    "light": lambda history, at: history.weigh(None),
    "list at once": lambda history, at: history.list_slowly(0.0),
    "list slowly": lambda history, at: history.list_slowly(1.0),
}


class ManyHands(RuleBasedStateMachine):
    """Rules are what writers and the world may do next."""

    setting: Setting

    @initialize(
        events=st.sampled_from([20, 60, 120, 200]),
        page_rows=st.sampled_from([10, 25, 50]),
        seed=st.integers(0, 10**6),
        granted=st.sampled_from([True, True, True, False]),
        first=st.sampled_from(["sync", "sync", "backfill", ""]),
    )
    def begin(self, events: int, page_rows: int, seed: int, granted: bool, first: str) -> None:
        self.broken = False
        self.history = History(self.setting, events=events, page_rows=page_rows, seed=seed)
        self.setting.counts["histories"] += 1
        self.steps = 0
        if not granted:
            self._do(partial(self.history.grant, False))
        if first:
            self._do(partial(self._whole, first))

    def teardown(self) -> None:
        if not hasattr(self, "history"):
            return
        try:
            if not self.broken:
                self.history.finish()
        finally:
            self.history.close()

    def _do(self, step: Callable[[], object]) -> object:
        self.setting.counts["steps"] += 1
        try:
            return step()
        except BaseException:
            self.broken = True
            raise

    def _whole(self, kind: str) -> None:
        name = self.history.start(kind)
        if name is not None and name in self.history.running:
            self.history.go(name)

    @property
    def names(self) -> list[str]:
        return list(self.history.running)

    # --- writers

    @precondition(lambda self: len(self.names) < 3)
    @rule(
        kind=kinds,
        skew=skews,
        since=ago,
        until=ago,
        bounded=st.booleans(),
        stops=st.sampled_from([0, 2, 5, 9, TO_THE_END]),
    )
    def start(self, kind: str, skew: int, since: int, until: int, bounded: bool, stops: int) -> None:
        """A writer begins and does some calls; verify and sync are bounded now and then, a backfill always."""
        bounded = bounded and kind in ("sync", "verify", "repair")
        late, early = sorted((since, until)) if kind == "backfill" or bounded else (None, None)
        late = None if kind == "sync" else late
        name = self._do(lambda: self.history.start(kind, skew_h=skew, since_m=early, until_m=late))
        if name in self.history.running and stops:
            self._do(lambda: self.history.go(name, stops))

    @precondition(lambda self: len(self.names) < 3)
    @rule(
        kind=st.sampled_from(["sync", "sync", "verify", "repair"]), stops=st.sampled_from([5, TO_THE_END, TO_THE_END])
    )
    def start_plain(self, kind: str, stops: int) -> None:
        """A writer as it is started every day."""
        self.start(kind, 0, 0, 0, False, stops)

    @precondition(lambda self: self.names)
    @rule(who=st.integers(0, 2), stops=st.sampled_from([1, 2, 3, 5, 8, 13, TO_THE_END]))
    def go(self, who: int, stops: int) -> None:
        names = self.names
        self._do(lambda: self.history.go(names[who % len(names)], stops))

    @precondition(lambda self: len(self.names) > 1)
    @rule(who=st.integers(0, 2))
    def go_to_the_end(self, who: int) -> None:
        self.go(who, TO_THE_END)

    @precondition(lambda self: self.names)
    @rule(who=st.integers(0, 2), how=st.sampled_from(["die", "midway"]))
    def kill(self, who: int, how: str) -> None:
        names = self.names
        self._do(lambda: self.history.kill(names[who % len(names)], how))

    @precondition(lambda self: len(self.names) < 2)
    @rule(
        first=st.sampled_from(["sync", "verify", "repair", "backfill", "copy", "rebuild"]),
        second=st.sampled_from(["sync", "sync", "verify", "repair", "accept", "rebuild", "backfill"]),
        call=st.sampled_from(["note", "note", "land", "mark_searched", "save"]),
        between=st.sampled_from(["", "damage", "move", "late"]),
    )
    def cross(self, first: str, second: str, call: str, between: str) -> None:
        """Another run does all its work between what a writer has decided and its commit."""
        name = self._do(lambda: self.history.start(first))
        if name not in self.history.running:
            return
        if self._do(lambda: self.history.go(name, before=call)) is not None:
            return
        if between == "damage":
            self.damage("delete")
        elif between == "move":
            self.alter("move")
        elif between == "late":
            self.come_late(3, 400, 45)
        self._do(partial(self._whole, second))
        self._do(lambda: self.history.go(name))

    @rule(since=ago, fresh=st.booleans())
    def colleague_syncs(self, since: int, fresh: bool) -> None:
        self._do(lambda: self.history.colleague_syncs(since, fresh=fresh))

    # --- the source

    @rule(span=minutes, events=st.integers(0, 12))
    def pass_time(self, span: int, events: int) -> None:
        self._do(lambda: self.history.pass_time(span, events))

    @rule(events=st.integers(1, 12), one=ago, other=ago)
    def come_late(self, events: int, one: int, other: int) -> None:
        newest, oldest = sorted((one, other))
        self._do(lambda: self.history.come_late(events, oldest + 1, newest))

    @rule(how=st.sampled_from(sorted(CHANGES)))
    def alter(self, how: str) -> None:
        """What the source shows changes."""
        self._do(lambda: CHANGES[how](self.history))

    @rule(how=st.sampled_from(sorted(MOODS)), at=ago)
    def behave(self, how: str, at: int) -> None:
        """What the source, or the store, does beside showing events."""
        self._do(lambda: MOODS[how](self.history, at))

    @rule(how=st.sampled_from(DAMAGES))
    def damage(self, how: str) -> None:
        self._do(lambda: self.history.damage(how))

    @rule()
    def undo_damage(self) -> None:
        self._do(self.history.undo_damage)


FAST = settings(
    max_examples=10,
    stateful_step_count=16,
    deadline=None,
    derandomize=True,
    database=None,
    # A red history is short enough to be read; shrinking it takes minutes.
    phases=[Phase.generate, *([Phase.shrink] if os.environ.get("HEDGEROW_SHRINK") else [])],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """One simulator for all histories of a process."""
    source = Source()
    with hands.small(), serving(source):
        yield source


def run(setting: Setting, how: settings) -> None:
    """Histories as *how* says; tells how many, how fast, and what happened in them."""

    class Machine(ManyHands):
        pass

    Machine.setting = setting
    started = time.monotonic()
    try:
        run_state_machine_as_test(Machine, settings=how)
    finally:
        took = time.monotonic() - started
        RULES.update(setting.rules)
        histories, steps = setting.counts.pop("histories", 0), setting.counts.pop("steps", 0)
        print(
            f"\n{setting.kind}, {setting.hire.__name__}: {histories} histories, {steps} steps, {histories / took:.1f}/s"
        )
        for name, counts in (("rules of the ledger", setting.rules), ("seen", setting.counts)):
            print(f"  {name}: {', '.join(f'{what} {count}' for what, count in sorted(counts.items())) or 'none told'}")


@pytest.mark.parametrize(("kind", "histories"), {"memory": 8, "duckdb": 1, "lake": 1}.items())
def test_many_hands(kind, histories, source):
    """A few histories of each sink."""
    run(Setting(source, kind, ThreadWorker, waived=WAIVED), settings(FAST, max_examples=histories))


def test_windows_that_a_sync_lands_again_because_an_event_moved_are_compared(source):
    """A history that was found: a sync reads windows again, finds an event in two of a date, and says complete of both."""

    class Machine(ManyHands):
        setting = Setting(source, "memory", ThreadWorker, waived=WAIVED)

    hands = Machine()
    hands.begin(page_rows=10, seed=36066, events=200, first="sync", granted=True)
    hands.damage(how="double")
    hands.pass_time(events=11, span=30)
    hands.damage(how="change")
    hands.undo_damage()
    hands.pass_time(events=6, span=1)
    hands.pass_time(events=0, span=125)
    hands.undo_damage()
    hands.damage(how="double")
    hands.cross(between="", call="mark_searched", first="backfill", second="sync")
    hands.come_late(events=3, one=800, other=95)
    hands.cross(between="late", call="mark_searched", first="verify", second="sync")
    hands.behave(at=200, how="heavy in large")
    hands.behave(at=45, how="refuse")
    hands.come_late(events=9, one=400, other=400)
    hands.start_plain(kind="sync", stops=5)
    hands.pass_time(events=0, span=125)
    hands.alter(how="copy")
    hands.teardown()


@pytest.mark.long
@pytest.mark.parametrize(("kind", "hired"), LONG)
def test_very_many_hands(kind, hired, source, request):
    """HEDGEROW_HISTORIES: how many histories all sinks together run; each has its share."""
    server = request.getfixturevalue("moto") if kind == "s3" else ""
    budget = int(os.environ.get("HEDGEROW_HISTORIES", sum(LONG.values())))
    share = max(1, budget * LONG[kind, hired] // sum(LONG.values()))
    setting = Setting(source, kind, HIRED[hired], server=server, waived=WAIVED)
    run(setting, settings(FAST, max_examples=share, stateful_step_count=18))


@pytest.mark.long
def test_every_rule_of_the_ledger_fired(source):
    """After all histories of this process: a rule that never took or refused anything is not tested by them."""
    if not RULES:
        pytest.skip("no history has run")
    for script in SCRIPTS.values():  # histories that somebody thought of count as well
        setting = Setting(source, "memory", ThreadWorker)
        history = History(setting, events=120, page_rows=25, seed=3)
        try:
            script(history)
            history.finish()
        finally:
            history.close()
        RULES.update(setting.rules)
    print(f"\nrules of the ledger: {', '.join(f'{rule.name} {RULES[rule.name]}' for rule in Rule)}")
    assert [rule.name for rule in Rule if not RULES[rule.name]] == []
