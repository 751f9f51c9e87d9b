"""The deletion guard: what may go from a destination because the source does not show it any more, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from flows.landing.guard import Guard
from flows.landing.outcome import Outcome
from sinks.entries import Changes, Entry, Removal, State, Tally
from sinks.ledger import Ledger
from sinks.sink import Change, Sink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import place, steady

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
OLD, TODAY = NOW.replace(hour=0) - 9 * DAY, NOW.replace(hour=0)


def entry(start: datetime, rows: int) -> Entry:
    tally = Tally(rows, f"{rows}:0:0:0:0", rows, "1")
    return Entry(1, "events", start, start + DAY, start, start + DAY, State.LANDED, start + 2 * DAY, tally, 1)


def guard(
    held: Mapping[datetime, int],
    *,
    removed: tuple[Removal, ...] = (),
    late: Mapping[datetime, tuple[timedelta, int]] | None = None,
    accept: bool = False,
) -> Guard:
    """A guard over windows of a day with so many rows; *late*: how long ago so many rows came late into a date."""
    made = Guard(accept)
    changes = [Change(1, "events", day, NOW - ago, Changes(late=rows)) for day, (ago, rows) in (late or {}).items()]
    made.look(Ledger({start: entry(start, rows) for start, rows in held.items()}, removals=removed), changes)
    return made


def before(ago: timedelta, rows: int, *, of: datetime = OLD + DAY) -> Removal:
    return Removal(of, NOW - ago, rows)


@dataclass(frozen=True)
class Case:
    """*removed* rows of the window at *of*, beside what else is held and happened."""

    name: str
    stops: bool
    removed: int
    held: Mapping[datetime, int]
    earlier: tuple[Removal, ...] = ()
    of: datetime = OLD
    late: Mapping[datetime, tuple[timedelta, int]] | None = None
    accept: bool = False


MANY = {OLD: 30_000, OLD + DAY: 30_000}  # a tenth are 6,000 rows
FEW = {OLD: 4_000, OLD + DAY: 4_000}  # more than a tenth may go: 1,000 rows
CASES = [
    Case("nothing removed", False, 0, MANY),
    Case("a tenth of the project", False, 6_000, MANY),
    Case("more than a tenth", True, 6_001, MANY),
    Case("a thousand rows of few", False, 1_000, FEW),
    Case("more than a thousand of few", True, 1_001, FEW),
    Case("a tenth with what other runs removed today", True, 3_001, MANY, (before(23 * HOUR, 3_334),)),
    Case("that was removed more than 24 hours ago", False, 3_001, MANY, (before(25 * HOUR, 3_334),)),
    Case("little by little", True, 10, FEW, tuple(before(n * HOUR, 100) for n in range(1, 11))),
    Case("half of an old date", False, 200, {OLD: 400, OLD + DAY: 9_000}),
    Case("more than half of an old date", True, 201, {OLD: 400, OLD + DAY: 9_000}),
    Case("more than half of today", False, 300, {TODAY: 400, OLD: 9_000}, of=TODAY),
    Case("of yesterday, which ended 12 hours ago", False, 300, {TODAY - DAY: 400, OLD: 9_000}, of=TODAY - DAY),
    Case("most of a small old date", False, 99, {OLD: 99, OLD + DAY: 9_000}),
    Case("all of a date of a hundred", True, 100, {OLD: 100, OLD + DAY: 9_000}),
    Case("half of a date, counted as it was", True, 101, {OLD: 300, OLD + DAY: 9_000}, (before(HOUR, 100, of=OLD),)),
    Case(
        "half of a date counts late rows neither way", True, 201, {OLD: 700, OLD + DAY: 9_000}, late={OLD: (HOUR, 300)}
    ),
    Case("rows that came late days ago are the date's", False, 201, {OLD: 700, OLD + DAY: 9_000}, late={OLD: (3 * DAY, 300)}),
    Case("all rows of a project", True, 50, {OLD: 50}),
    Case("all but one", False, 49, {OLD: 50}),
    Case("whatever it is, accepted", False, 60_000, MANY, accept=True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_stops_a_removal(case):
    """24 hours, a tenth or a thousand rows, half of an old date, all of a project; what is accepted is not stopped."""
    one = guard(case.held, removed=case.earlier, late=case.late, accept=case.accept)

    assert one.stops(case.of, case.removed, now=NOW) is case.stops


def test_removals_of_a_run_add_up():
    """Each landing of the run counts for the next, and what it left is what the project holds."""
    one = guard({OLD + number * DAY: 400 for number in range(5)})
    stopped = []
    for number in range(5):
        start = OLD + number * DAY
        stopped.append(one.stops(start, 199, now=NOW + number * HOUR))
        if not stopped[-1]:
            left = replace(entry(start, 201), read_at=NOW + number * HOUR)
            one.landed(left, 199)

    assert stopped == [False] * 5
    assert one.stops(OLD + DAY, 6, now=NOW + 5 * HOUR)
    assert not one.stops(OLD + 5 * DAY, 5, now=NOW + 5 * HOUR)


def test_a_run_foresees_what_would_be_stopped_in_its_midst():
    """Of three windows the second would be stopped: the run is told before it removes anything, and nothing is counted."""
    one = guard({OLD + number * DAY: 1_000 for number in range(3)})
    doomed = {OLD: 400, OLD + DAY: 400, OLD + 2 * DAY: 400}

    assert one.foresees(doomed, now=NOW)
    assert not one.foresees({OLD: 400, OLD + DAY: 400}, now=NOW)
    assert not one.stops(OLD, 400, now=NOW)


def test_a_run_foresees_that_nothing_would_be_left():
    """Each date alone may go, as none is large: the last of them would be all that the project has."""
    one = guard({OLD + number * DAY: 60 for number in range(5)})
    doomed = {OLD + number * DAY: 60 for number in range(5)}

    assert one.foresees(doomed, now=NOW)
    assert not one.foresees(dict(list(doomed.items())[:4]), now=NOW)


# --- through the pipeline


def run(simulator, sink: Sink, directory, *, accept_deletions: bool = False):
    since, until = OLD, OLD + 8 * DAY
    return sync(
        simulator.url,
        simulator.key,
        sink,
        directory,
        since=since,
        until=until,
        accept_deletions=accept_deletions,
    )[0]


@pytest.mark.parametrize("kind", ["memory", "duckdb", "lake"])
def test_what_other_runs_removed_today_counts(kind, tmp_path):
    """Six hundred rows an hour: the second run stops, and goes on when the source says something new a day later."""
    clock, sink = NOW, place(kind, tmp_path)
    dataset = Dataset(steady(OLD, OLD + 8 * DAY, every=8 * DAY / 4_000))
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        run(simulator, sink, tmp_path)
        outcomes = []
        for doomed, wait in ((3, HOUR), (3, 25 * HOUR), (1, HOUR)):
            dataset.delete([event.uuid for number, event in enumerate(dataset.events) if number % 20 < doomed])
            outcomes.append(run(simulator, sink, tmp_path))
            clock += wait

    assert [bool(outcome.held) for outcome in outcomes] == [False, True, False]
    assert landed(sink, OLD, NOW) == truth(dataset.events, OLD, NOW)


def test_accepted_removals_are_not_counted(tmp_path):
    """What was wanted leaves the day's share to what was not."""
    sink = place("duckdb", tmp_path)
    dataset = Dataset(steady(OLD, OLD + 8 * DAY, every=8 * DAY / 4_000))
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        run(simulator, sink, tmp_path)
        dataset.delete([event.uuid for number, event in enumerate(dataset.events) if number % 5 < 2])
        accepted = run(simulator, sink, tmp_path, accept_deletions=True)
        dataset.delete([event.uuid for number, event in enumerate(dataset.events) if number % 10 < 3])
        after = run(simulator, sink, tmp_path)

    assert sink.ledger(1, "events").removals[-1].rows < 300
    assert (accepted.complete, after.complete) == (True, True)
    assert landed(sink, OLD, NOW) == truth(dataset.events, OLD, NOW)


def test_events_that_another_window_of_their_date_holds_are_no_removal(tmp_path):
    """The source moves three quarters of an old date into its first hours: nothing is lost, so nothing stops it."""
    dataset = Dataset(steady(OLD, OLD + DAY, every=DAY / 600))
    sink = place("memory", tmp_path)
    hourly = replace(UNLIMITED, query_allowed=False)
    with serve(dataset, profile=hourly, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=OLD, until=OLD + DAY)
    for event in [one for one in dataset.events if one.timestamp >= OLD + 6 * HOUR]:
        dataset.move(event.uuid, OLD + (event.timestamp - OLD) / 4)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, port=int(simulator.url.rpartition(":")[2])) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=OLD, until=OLD + DAY)

    assert (outcome.held, outcome.complete) == ([], True)
    assert sink.ledger(1, "events").removals == ()
    assert landed(sink, OLD, OLD + DAY) == truth(dataset.events, OLD, OLD + DAY)


def test_small_windows_of_one_run_count_together(tmp_path):
    """Twenty hours lose all of their rows, a hundred each, and nobody counts: at most a thousand go, and the run says so."""
    start, sink = TODAY - DAY, place("memory", tmp_path)
    end, clock = start + 20 * HOUR, start + 21 * HOUR
    dataset = Dataset(steady(start, end, every=HOUR / 100))
    with serve(dataset, profile=replace(UNLIMITED, query_allowed=False), now=lambda: clock) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=end)
        dataset.delete({event.uuid for event in dataset.events})
        dataset.add(steady(end, end + HOUR, every=MINUTE))
        clock += DAY
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=None, until=None)

    assert 1_000 <= len(landed(sink, start, end)) < 2_000
    assert outcome.held
    assert not outcome.complete


def test_outage_without_queries_removes_nothing_and_ends_by_itself(tmp_path):
    """The list alone shows an empty project: stopped and told by every run, tried again at the ages, right when it is back."""
    start, sink = NOW - 6 * HOUR, place("duckdb", tmp_path)
    dataset, clock = Dataset(steady(start, start + HOUR, every=HOUR / 1_200)), NOW + HOUR / 2
    everything = list(dataset.events)
    with serve(dataset, profile=replace(UNLIMITED, query_allowed=False), now=lambda: clock) as simulator:

        def again(since: datetime | None = None) -> Outcome:
            return sync(simulator.url, simulator.key, sink, tmp_path, since=since, until=None)[0]

        again(start)
        dataset.delete({event.uuid for event in everything})
        outages = []
        for _ in range(3):
            clock += HOUR
            outages.append(again())
            assert landed(sink, start, clock) == truth(everything, start, clock)
        dataset.add(everything)
        clock += 24 * HOUR
        after = again()

    assert all(outage.held and not outage.complete for outage in outages)
    assert (after.held, after.complete) == ([], True)
    assert landed(sink, start, clock) == truth(dataset.events, start, clock)
