"""Copies of one event that differ and that PostHog has not merged: the later is kept, whatever order the source shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.profiles import OLD_2023, SERVER_2023_12, Profile
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.landing import copy
from flows.landing.outcome import Outcome
from flows.landing.verification import Verification
from flows.report import status
from flows.report.status import Kind
from sinks.entries import Entry, State
from sinks.memory import MemorySink
from sinks.sink import Sink
from tests.flows.harness import UNLIMITED, landed, sync, tuples, verify
from tests.flows.places import place
from tests.second_server.rows import Row
from tests.second_server.server import second_server

START, DAYS = datetime(2026, 3, 1, tzinfo=UTC), 3
END = START + timedelta(days=DAYS)
NOW = END + timedelta(hours=2)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
SILENT = replace(UNLIMITED, query_allowed=False)


def made(count: int, *, seed: int = 21) -> list[Event]:
    """Events with a uuid and a created_at each."""
    events = generate(events=count, start=START, end=END, seed=seed).events
    times = Counter(event.uuid for event in events)
    return [replace(one, created_at=one.timestamp + 2 * SECOND) for one in events if times[one.uuid] == 1]


def later(event: Event, number: int, *, by: timedelta = HOUR) -> Event:
    """The same event as it was inserted later, with other properties."""
    assert event.created_at is not None
    return replace(event, properties=f'{{"copy":{number}}}', created_at=event.created_at + by)


def copied(count: int, *, every: int) -> Dataset:
    """Events of which some are there twice and differ; every other later copy was inserted first, as in another part."""
    events = made(count)
    again = [later(event, number) for number, event in enumerate(events[::every])]
    return Dataset([*again[::2], *events, *again[1::2]])


class World:
    """A source with copies, and syncs into one destination by the clock of the test."""

    def __init__(self, dataset: Dataset, sink: Sink, directory: Path, *, profile: Profile = UNLIMITED) -> None:
        self.dataset, self.sink, self.directory, self.profile = dataset, sink, directory, profile
        self.now, self.port = NOW, 0
        self.requests: dict[str, int] = {}
        self.seen: list[RequestSeen] = []
        self.hook: Callable[[RequestSeen], None] = self.seen.append

    def served(self) -> AbstractContextManager[Simulator]:
        return serve(self.dataset, profile=self.profile, now=lambda: self.now, port=self.port, on_request=self.hook)

    def sync(self, *, rebuild: bool = False) -> Outcome:
        since = None if self.sink.ledger(1, "events").mark else START
        with self.served() as source:
            self.port = int(source.url.rpartition(":")[2])
            outcome, self.requests = sync(
                source.url, source.key, self.sink, self.directory, since=since, until=None, rebuild=rebuild
            )
        return outcome

    def verify(self, *, repair: bool = False) -> Verification:
        with self.served() as source:
            return verify(source.url, source.key, self.sink, self.directory, repair=repair)

    @property
    def right(self) -> bool:
        """The destination holds what the source will show once it has merged."""
        return landed(self.sink, START, self.now) == tuples(self.dataset.truth())

    @property
    def unmerged(self) -> list[Entry]:
        entries = sorted(self.sink.ledger(1, "events").entries.items())
        return [entry for _, entry in entries if entry.facts.unmerged is not None]

    def coverage(self) -> set[Kind]:
        told = status.summary(1, "events", self.sink.ledger(1, "events"), now=self.now)
        return {segment.kind for segment in told.segments}


@pytest.mark.parametrize("kind", ["memory", "duckdb", "lake"])
def test_of_different_copies_the_later_is_landed(kind, tmp_path):
    """By created_at, which only the query tells: all of them, at no more than a question for each page, and in a rebuild too."""
    world = World(copied(600, every=6), place(kind, tmp_path), tmp_path)
    outcome = world.sync()
    first = world.right
    pages = world.requests["list"]
    rebuilt = world.sync(rebuild=True)

    assert (first, world.right) == (True, True)
    assert (outcome.complete, outcome.undecided, rebuilt.undecided) == (True, {}, {})
    assert outcome.verified == sum(
        entry.state is State.VERIFIED for entry in world.sink.ledger(1, "events").entries.values()
    )
    assert len(world.unmerged) == DAYS == len(outcome.unmerged)
    assert world.requests["query"] <= 4 + pages


def test_on_a_real_engine_the_later_is_landed(tmp_path):
    """The question as ClickHouse answers it, in a project whose zone is not UTC."""
    dataset = copied(200, every=4)
    rows = [
        Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain, e.created_at)
        for e in dataset.events
    ]
    sink = MemorySink()
    with second_server(rows, now=lambda: NOW) as source:
        outcome, _ = sync(source.url, source.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == tuples(dataset.truth())
    assert not outcome.undecided


@pytest.mark.parametrize("profile", [SERVER_2023_12, OLD_2023], ids=["null and a note", "a bare word"])
def test_later_copy_is_known_by_what_its_text_means(profile, tmp_path):
    """Servers of 2023 show a number beyond double in other words than they store it."""
    events = made(60)
    texts = ['{"f":1e400,"n":%d}', '{"n":%d,"f":-1e400}', '{"a":[1e999],"n":%d}']
    older = [replace(one, properties=texts[n % 3] % n) for n, one in enumerate(events, 1)]
    newer = [replace(later(one, n), properties=texts[n % 3] % -n) for n, one in enumerate(older, 1)]
    world = World(Dataset([*newer[::2], *older, *newer[1::2]]), MemorySink(), tmp_path, profile=profile)
    outcome = world.sync()

    numbers = [json.loads(str(row[4]))["n"] for row in landed(world.sink, START, NOW)]
    assert sorted(numbers) == [-n for n in range(len(newer), 0, -1)]
    assert not outcome.undecided


@pytest.mark.parametrize("differ", ["properties", "elements_chain"])
def test_copies_on_two_pages_are_compared(differ, tmp_path):
    """A page may end between two copies of one moment, whatever of their content it is that differs."""
    dataset = copied(200, every=1)
    if differ == "elements_chain":
        dataset = Dataset([replace(one, properties="{}", elements_chain=one.properties) for one in dataset.events])
    world = World(dataset, MemorySink(), tmp_path, profile=replace(UNLIMITED, page_cap=7))
    outcome = world.sync()

    assert world.right
    assert not outcome.undecided


def test_copy_that_comes_after_its_event_was_landed_is_found(tmp_path):
    """An insert of the same identity moves created_at: the next sync reads the window again and keeps the later."""
    events = made(300)
    world = World(Dataset(events), MemorySink(), tmp_path)
    world.sync()
    world.dataset.add([later(event, number, by=30 * DAY) for number, event in enumerate(events[::30])])
    world.now += timedelta(minutes=20)
    outcome = world.sync()

    assert world.right
    assert sum(change.changed for change in outcome.changes.values()) == 10


def test_copies_in_an_open_window_are_decided_in_its_tail_too(tmp_path):
    """Today's copies, in the part that is read once and in the part that comes later; what settles stays right."""
    events = made(400)
    world = World(Dataset([]), MemorySink(), tmp_path)
    told = []
    for hours in (30, 31, 33, 50):
        world.now = START + hours * HOUR
        come = [event for event in events if event.timestamp < world.now][len(world.dataset) // 2 :]
        again = [later(event, number, by=SECOND) for number, event in enumerate(come)]
        world.dataset.add([*again[::2], *come, *again[1::2]])
        outcome = world.sync()
        told.append((world.right, outcome.undecided, world.verify().left))

    assert told == [(True, {}, [])] * 4


def test_copies_of_an_open_window_are_read_again_at_their_ages(tmp_path):
    """The tails that land meanwhile are no reading of the part that the copies are in."""
    events = [event for event in made(300) if event.timestamp < START + 6 * HOUR]
    world = World(Dataset([*events, later(events[0], 1)]), MemorySink(), tmp_path)
    world.now = START + 7 * HOUR
    world.sync()
    world.dataset.merge()
    told = []
    for _ in range(5):
        world.now += timedelta(minutes=20)
        world.sync()
        told.append(len(world.unmerged))

    assert told == [1, 1, 0, 0, 0]


def test_copies_created_at_once_fall_to_the_fixed_rule(tmp_path):
    """Every reading keeps the same one, and the run says that the source does not tell."""
    events = made(60)
    again = [later(event, number, by=0 * HOUR) for number, event in enumerate(events)]
    sinks = [MemorySink(), MemorySink()]
    outcomes = []
    for order, sink in zip(([*events, *again], [*again, *events]), sinks, strict=True):
        outcomes.append(World(Dataset(order), sink, tmp_path).sync())

    assert landed(sinks[0], START, NOW) == landed(sinks[1], START, NOW)
    assert [sum(outcome.undecided.values()) for outcome in outcomes] == [len(events)] * 2
    assert not any(outcome.complete for outcome in outcomes)


@pytest.mark.parametrize(
    "profile", [pytest.param(UNLIMITED, id="query"), pytest.param(SILENT, id="no query", marks=pytest.mark.long)]
)
def test_what_the_source_merged_is_right_at_the_next_age(profile, tmp_path):
    """Windows months old when landed, too: 1, 6, 24 and 72 hours after the copies were found, then daily."""
    world = World(copied(300, every=5), MemorySink(), tmp_path, profile=profile)
    world.now = NOW + 100 * DAY
    world.sync()
    found, told = world.now, []
    for hours in (0.5, 1, 5, 6.1, 23, 24.2, 72.5, 95, 97):
        world.now = found + hours * HOUR
        if hours == 95:
            world.dataset.merge()
        before = {entry.start: entry.generation for entry in world.unmerged}
        world.sync()
        after = {start: world.sink.ledger(1, "events").entries[start].generation for start in before}
        told.append((hours, after != before))

    assert [hours for hours, again in told if again] == [1, 6.1, 24.2, 72.5, 97]
    assert (world.right, world.unmerged) == (True, [])


@pytest.mark.parametrize("profile", [UNLIMITED, SILENT], ids=["query", "no query"])
def test_repair_reads_windows_with_copies_at_once(profile, tmp_path):
    """Merged: equal to the source and nothing more to say. Until then verify calls no difference what is none."""
    world = World(copied(300, every=5), MemorySink(), tmp_path, profile=profile)
    world.sync()
    told = world.verify()
    world.dataset.merge()
    mended = world.verify(repair=True)

    assert (told.unmerged > 0, told.differences, mended.unmerged, world.unmerged) == (True, [], 0, [])
    assert world.right


def test_status_marks_what_verify_calls_different(tmp_path):
    """Copies are no difference to either; damage is to both, in an open window too."""
    world = World(copied(300, every=5), place("duckdb", tmp_path), tmp_path)
    world.now = START + 60 * HOUR
    world.dataset.delete([event.uuid for event in world.dataset.events if event.timestamp >= world.now])
    world.sync()
    good = world.verify(), world.coverage()
    with duckdb.connect(str(tmp_path / "a.duckdb")) as db:
        db.execute("DELETE FROM events WHERE timestamp = (SELECT max(timestamp) FROM events)")
    bad = world.verify(), world.coverage()

    assert (good[0].left, Kind.DIFFERS in good[1]) == ([], False)
    assert ([start.date() for start in bad[0].left], Kind.DIFFERS in bad[1]) == ([world.now.date()], True)


def test_copied_windows_hold_the_copy_that_was_kept(tmp_path):
    """`copy` hands on what is landed, and since when the source holds copies."""
    world = World(copied(300, every=5), place("duckdb", tmp_path), tmp_path)
    world.sync()
    there = place("lake", tmp_path)
    copy.copy(1, world.sink, there)

    assert landed(there, START, NOW) == landed(world.sink, START, NOW)
    entries = there.ledger(1, "events").entries
    assert [entries[one.start].facts.unmerged for one in world.unmerged] == [
        one.facts.unmerged for one in world.unmerged
    ]


def test_what_is_inserted_while_a_window_is_read_again_is_not_missed(tmp_path):
    """Between the list and the proof of a re-reading: created_at moves, so it is read once more."""
    world = World(copied(300, every=5), MemorySink(), tmp_path)
    world.sync()
    world.now += 2 * HOUR
    newest = [later(made(300)[1], 99, by=40 * DAY)]
    before = len(world.seen)

    def insert(seen: RequestSeen) -> None:
        world.seen.append(seen)
        read = any(one.params.get("after", "").startswith("2026-02-28T23:59:59.999999") for one in world.seen[before:])
        if newest and read and seen.endpoint == "query":
            world.dataset.add([newest.pop()])

    world.hook = insert
    world.sync()

    assert (newest, world.right) == ([], True)
