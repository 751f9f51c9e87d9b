"""Landed windows against the source: what arrives late, goes away or changes is found, landed and told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from extractors.http.client import Client
from extractors.reading.questions import Answers, Part
from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.landing.outcome import Outcome
from flows.landing.proof import Prover
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.memory import MemorySink
from sinks.sink import Sink
from tests.flows import harness
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.planned import AtRequest

NOW = datetime(2026, 3, 31, tzinfo=UTC)
START, END = NOW - timedelta(days=20), NOW - timedelta(days=10)
SILENT = replace(UNLIMITED, query_allowed=False)


@pytest.fixture(params=["memory", "duckdb"])
def sink(request, tmp_path) -> Sink:
    return MemorySink() if request.param == "memory" else DuckDBSink(tmp_path / "a.duckdb")


@pytest.fixture
def dataset() -> Dataset:
    return generate(events=4_000, start=START, end=END, seed=5)


def load(
    simulator: Simulator, sink: Sink, directory: Path, *, accept_deletions: bool = False
) -> tuple[Outcome, dict[str, int]]:
    return sync(
        simulator.url, simulator.key, sink, directory, since=START, until=END, accept_deletions=accept_deletions
    )


def states(sink: Sink) -> dict[State, int]:
    found: dict[State, int] = {}
    for entry in sink.ledger(1, "events").entries.values():
        found[entry.shown] = found.get(entry.shown, 0) + 1
    return found


def generations(sink: Sink) -> dict[datetime, int]:
    return {start: entry.generation for start, entry in sink.ledger(1, "events").entries.items()}


def late(count: int, at: datetime, created_at: datetime | None = None) -> list[Event]:
    return [
        Event(f"aaaaaaaa-0000-4000-8000-{n:012x}", "late", f"user-{n}", at + timedelta(seconds=n), "{}", "", created_at)
        for n in range(count)
    ]


def test_landed_windows_are_verified(sink, dataset, tmp_path):
    """Every settled window is compared with the source in the run that lands it, in a handful of queries."""
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        outcome, requests = load(simulator, sink, tmp_path)

    assert states(sink) == {State.VERIFIED: 10}
    assert outcome.verified == 10
    assert requests["query"] <= 4


def test_quiet_source_costs_one_query(sink, dataset, tmp_path):
    """A later run compares the whole look-back again by one query, and reads nothing."""
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        before = generations(sink)
        outcome, requests = load(simulator, sink, tmp_path)

    assert requests == {"list": 1, "query": 1}
    assert (outcome.windows, outcome.verified, outcome.changes) == (0, 10, {})
    assert generations(sink) == before


def test_late_deleted_and_changed_events_are_found_and_told(sink, dataset, tmp_path):
    """One later sync lands what changed in the look-back, reads only windows that differ, and counts each kind."""
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        before = generations(sink)
        day = START + timedelta(days=3)
        dataset.add(late(7, day + timedelta(hours=5), NOW))
        gone = [event for event in dataset.events if event.timestamp.date() == (START + timedelta(days=5)).date()][:3]
        dataset.delete({event.uuid for event in gone})
        other = next(event for event in dataset.events if event.timestamp.date() == (START + timedelta(days=7)).date())
        dataset.add([replace(other, properties='{"new":1}', created_at=NOW)])
        dataset.merge()
        outcome, _ = load(simulator, sink, tmp_path)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert {at for at, generation in generations(sink).items() if generation != before[at]} == set(outcome.changes)
    assert len(outcome.changes) == 3
    totals = [(change.late, change.deleted, change.changed) for _, change in sorted(outcome.changes.items())]
    assert [sum(column) for column in zip(*totals, strict=True)] == [7, 3, 1]
    assert outcome.changes[day].lateness > timedelta(days=10)
    assert states(sink) == {State.VERIFIED: 10}


def test_change_in_place_without_new_created_at_is_not_claimed(sink, dataset, tmp_path):
    """Where the source does not renew created_at nothing moves: the change stays unfound (docs/ledger.md says so)."""
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        other = dataset.events[100]
        created_at = other.timestamp + timedelta(seconds=2)
        dataset.add([replace(other, properties='{"new":1}', created_at=created_at)])
        dataset.merge()
        outcome, _ = load(simulator, sink, tmp_path)

    assert outcome.changes == {}


def test_window_without_an_answer_is_left_to_the_next_run(dataset, tmp_path, monkeypatch):
    """What the source does not answer for once counts among what was not reached."""
    sink, answers = MemorySink(), Prover._answers

    def all_but_one(prover: Prover, parts: Iterable[Part]) -> Answers | None:
        found = answers(prover, parts)
        if found is None or not found.seen:
            return found
        start = min(found.seen)
        return replace(
            found, seen={at: seen for at, seen in found.seen.items() if at != start}, unanswered=frozenset({start})
        )

    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        monkeypatch.setattr(Prover, "_answers", all_but_one)
        outcome, _ = load(simulator, sink, tmp_path)

    assert outcome.unasked == 1


def test_window_is_read_as_of_the_answer_before_its_first_page(tmp_path):
    """An event that is created while that page is on its way is none that the window's reading can have missed."""
    clock, asked = [NOW], []

    def passes(seen: RequestSeen) -> None:
        clock[0] += timedelta(seconds=10)
        if seen.endpoint == "list" and "after" in seen.params:
            asked.append((datetime.fromisoformat(seen.params["after"]), clock[0]))

    dataset, sink = generate(events=900, start=START, end=START + timedelta(days=6), seed=8), MemorySink()
    profile = replace(UNLIMITED, page_cap=100)
    with serve(dataset, profile=profile, now=lambda: clock[0], on_request=passes) as simulator:
        load(simulator, sink, tmp_path)
    entries = sink.ledger(1, "events").entries
    late = []
    for start in sorted(entries)[1:6]:
        first = max(number for number, (after, _) in enumerate(asked) if after < start)
        if entries[start].read_at > asked[first - 1][1]:
            late.append(start)

    assert len(asked) > 9
    assert late == []


def test_change_while_reading_is_read_again(dataset, tmp_path):
    """Inserted anew between the query before and the query after: the window is read once more."""
    sink = MemorySink()
    other = dataset.events[50]

    def change() -> None:
        dataset.add([replace(other, properties='{"new":1}', created_at=NOW)])
        dataset.merge()

    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, on_request=AtRequest(4, change)) as simulator:
        load(simulator, sink, tmp_path)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert states(sink) == {State.VERIFIED: 10}


def test_window_that_stays_different_is_disputed_and_left(sink, dataset, tmp_path):
    """A query that counts what the list does not show: two readings, then exit 3 without further reading."""
    hidden = late(2, START + timedelta(days=1))
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, on_request=hides(dataset, hidden)) as simulator:
        first, _ = load(simulator, sink, tmp_path)
        before = generations(sink)
        second, requests = load(simulator, sink, tmp_path)

    assert first.disputed == second.disputed == [START + timedelta(days=1)]
    assert not second.complete
    assert states(sink) == {State.VERIFIED: 9, State.DISPUTED: 1}
    assert generations(sink) == before
    assert requests["list"] == 1


def test_source_that_keeps_moving_is_no_dispute(sink, dataset, tmp_path):
    """An event comes late before every answer: the window is left to the next run, which finds all of them."""
    day, number = START + timedelta(days=1), [0]

    def trickle(seen: RequestSeen) -> None:
        number[0] += 1
        uuid = f"dddddddd-0000-4000-8000-{number[0]:012x}"
        dataset.add([replace(dataset.events[0], uuid=uuid, timestamp=day + timedelta(seconds=number[0]))])

    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, on_request=trickle) as simulator:
        first, _ = load(simulator, sink, tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, port=int(simulator.url.rpartition(":")[2])) as simulator:
        second, _ = load(simulator, sink, tmp_path)

    assert (first.moving, first.disputed) == ({day}, [])
    assert (second.moving, second.disputed) == (set(), [])
    assert states(sink) == {State.VERIFIED: 10}
    assert landed(sink, START, END) == truth(dataset.events, START, END)


def hides(dataset: Dataset, events: list[Event]) -> Callable[[RequestSeen], None]:
    """A source whose list never shows *events* and whose queries always count them."""
    uuids = {event.uuid for event in events}

    def before(seen: RequestSeen) -> None:
        shown = any(event.uuid in uuids for event in dataset.events)
        if seen.endpoint == "query" and not shown:
            dataset.add(events)
        elif seen.endpoint != "query" and shown:
            dataset.delete(uuids)

    return before


def test_dispute_ends_when_the_source_says_something_new(sink, dataset, tmp_path):
    """The list shows the rows at last: read again and verified."""
    hidden = late(2, START + timedelta(days=1))
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, on_request=hides(dataset, hidden)) as simulator:
        load(simulator, sink, tmp_path)
    dataset.delete(event.uuid for event in hidden)
    dataset.add(late(3, START + timedelta(days=1)))
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, port=int(simulator.url.rsplit(":", 1)[1])) as simulator:
        outcome, _ = load(simulator, sink, tmp_path)

    assert outcome.complete
    assert landed(sink, START, END) == truth(dataset.events, START, END)


def test_mass_deletion_is_held_until_accepted(sink, dataset, tmp_path):
    """More than a tenth and more than 1,000 rows gone: nothing is removed before the user says so."""
    doomed = random.Random(1).sample(dataset.events, 2_000)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        before = landed(sink, START, END)
        dataset.delete({event.uuid for event in doomed})
        first, _ = load(simulator, sink, tmp_path)
        kept = landed(sink, START, END)
        second, requests = load(simulator, sink, tmp_path)
        third, _ = load(simulator, sink, tmp_path, accept_deletions=True)

    assert (kept, len(first.held), len(second.held)) == (before, 10, 10)
    assert not first.complete
    assert not second.complete
    assert requests["list"] == 1
    assert third.complete
    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert states(sink) == {State.VERIFIED: 10}


def test_outage_that_shows_nothing_removes_nothing(sink, dataset, tmp_path):
    """A restricted key sees an empty project: rows stay, and when they are shown again all is verified as before."""
    everything = list(dataset.events)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        before = landed(sink, START, END)
        dataset.delete({event.uuid for event in everything})
        outage, _ = load(simulator, sink, tmp_path)
        during = landed(sink, START, END)
        dataset.add(everything)
        after, _ = load(simulator, sink, tmp_path)

    assert during == before
    assert len(outage.held) == 10
    assert after.complete
    assert landed(sink, START, END) == before
    assert states(sink) == {State.VERIFIED: 10}


def test_outage_when_an_open_window_settles(sink, tmp_path):
    """It was read last before its end: its rows stay, and when they are shown again it is read to its end."""
    clock = NOW - timedelta(hours=1)
    dataset = Dataset(late(2_000, NOW - timedelta(hours=3)))

    def run(simulator: Simulator) -> Outcome:
        since = None if sink.ledger(1, "events").mark else NOW - timedelta(days=2)  # as a scheduled sync goes on
        return sync(simulator.url, simulator.key, sink, tmp_path, since=since, until=None, clock=lambda: clock)[0]

    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        run(simulator)
        last = [replace(one, event="last") for one in late(3, NOW - timedelta(minutes=5))]
        everything = [*dataset.events, *last]
        dataset.delete({event.uuid for event in everything})
        clock = NOW + timedelta(hours=2)
        outages = [run(simulator) for _ in range(2)]
        during = len(landed(sink, NOW - timedelta(days=2), NOW))
        dataset.add(everything)
        after = run(simulator)

    assert all(outage.held for outage in outages)
    assert during == 2_000
    assert (after.held, after.disputed) == ([], [])
    assert landed(sink, NOW - timedelta(days=2), NOW) == truth(dataset.events, NOW - timedelta(days=2), NOW)


def test_window_that_the_query_does_not_mention_is_read_from_the_list(sink, dataset, tmp_path):
    """A query that counts nothing is no proof of absence: the list shows all rows, and they stay."""
    day = START + timedelta(days=4)
    gone = [event for event in dataset.events if event.timestamp.date() == day.date()]

    def forget(seen: RequestSeen) -> None:
        shown = len(dataset.events) == 4_000
        if seen.endpoint == "query" and shown:
            dataset.delete({event.uuid for event in gone})
        elif seen.endpoint != "query" and not shown:
            dataset.add(gone)

    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        before = landed(sink, START, END)
    port = int(simulator.url.rsplit(":", 1)[1])
    gone = [event for event in dataset.events if event.uuid in {event.uuid for event in gone}]
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, on_request=forget, port=port) as simulator:
        outcome, _ = load(simulator, sink, tmp_path)

    assert landed(sink, START, END) == before
    assert day in outcome.disputed


def test_few_deletions_need_no_leave(sink, dataset, tmp_path):
    """Under the bounds of the guard rows go as the source says."""
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
        dataset.delete({event.uuid for event in random.Random(2).sample(dataset.events, 900)})
        outcome, _ = load(simulator, sink, tmp_path)

    assert outcome.complete
    assert landed(sink, START, END) == truth(dataset.events, START, END)


def test_source_without_queries_is_read_again_at_its_ages(sink, tmp_path):
    """Without /query windows are read again at 1, 6, 24 and 72 hours, and what came late is landed and told."""
    start = NOW - timedelta(hours=12)
    dataset = generate(events=600, start=start, end=NOW, seed=5)
    clock = NOW
    with serve(dataset, profile=SILENT, now=lambda: clock) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=None, clock=lambda: clock)
        dataset.add(late(3, NOW - timedelta(hours=3)))
        clock = NOW + timedelta(hours=4)
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=None, until=None, clock=lambda: clock)

    assert sum(change.late for change in outcome.changes.values()) == 3
    assert landed(sink, start, NOW) == truth(dataset.events, start, NOW)
    assert State.VERIFIED not in states(sink)


def test_backfill_proves_what_a_killed_run_left(sink, dataset, tmp_path):
    """Windows that were landed and not compared are compared by the next run over their range."""
    with serve(dataset, profile=SILENT, now=lambda: NOW) as simulator:
        load(simulator, sink, tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, port=int(simulator.url.rpartition(":")[2])) as simulator:
        outcome, _ = sync(
            simulator.url, simulator.key, sink, tmp_path, since=START, until=START + timedelta(days=4), marks=False
        )

    assert (outcome.windows, outcome.verified) == (0, 96)
    assert set(states(sink)) == {State.VERIFIED, State.LANDED}


def test_change_beside_a_row_in_quarantine_is_found(tmp_path):
    """The window's digest cannot be whole, but what the source said before is: a late row is read, and nothing is in dispute."""
    dataset = generate(events=300, start=START, end=END, seed=5)
    victim = next(event for event in dataset.events[150:] if [e.uuid for e in dataset.events].count(event.uuid) == 1)
    faults = Faults([Fault("deep", rate=1.0, uuid=victim.uuid)])
    sink = MemorySink()
    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: NOW) as simulator:
        first, _ = load(simulator, sink, tmp_path)
        quiet, _ = load(simulator, sink, tmp_path)
        dataset.add(late(3, victim.timestamp.replace(hour=0, minute=0)))
        second, _ = load(simulator, sink, tmp_path)

    day = victim.timestamp.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (first.quarantined, first.disputed, quiet.windows, second.disputed) == (1, [], 0, [])
    assert sum(change.late for change in second.changes.values()) == 3
    assert sink.ledger(1, "events").entries[day].state is State.LANDED
    assert landed(sink, START, END) == truth([e for e in dataset.events if e.uuid != victim.uuid], START, END)


def test_windows_of_an_hours_long_run_are_verified(tmp_path, monkeypatch):
    """Both clocks go on while a backfill reads: what it lands hours after it began is compared as everything else."""
    monkeypatch.setattr("flows.landing.ahead.JOINED_S", 0.0)  # a page at a time
    dataset = generate(events=4_000, start=START, end=END, seed=5)
    clock, sink = NOW, MemorySink()

    def later(seen: RequestSeen) -> None:
        nonlocal clock
        clock += timedelta(minutes=30) if seen.endpoint == "list" and seen.number > 2 else timedelta(0)

    passed = partial(Client, monotonic=lambda: (clock - NOW).total_seconds() + 1_000.0)
    monkeypatch.setattr(harness, "Client", passed)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock, on_request=later) as simulator:
        outcome, _ = load(simulator, sink, tmp_path)

    assert clock > NOW + timedelta(hours=1)
    assert max(entry.read_at for entry in sink.ledger(1, "events").entries.values()) > NOW + timedelta(minutes=30)
    assert outcome.verified == 10
    assert states(sink) == {State.VERIFIED: 10}
