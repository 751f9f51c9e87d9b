"""The second server's own events, which change while it runs, by its own account of what must be in the table."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from flows.landing.outcome import Outcome
from flows.landing.verification import Verification
from sinks.entries import State
from sinks.memory import MemorySink
from sinks.sink import Sink
from tests.flows.harness import landed, sync, verify
from tests.flows.places import place
from tests.second_server import Row, SecondServer, second_server
from tests.second_server.events import changed, made, merged, one, rewritten, truth

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0)
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
START, END = MIDNIGHT - 8 * DAY, MIDNIGHT - 3 * DAY
SMALL = 100  # rows of a page, whatever is asked for
EDGES = (SMALL - 1, SMALL, SMALL + 1, 2 * SMALL + 50)


class World:
    """A second server, the rows that it holds, a destination, and a clock of both."""

    def __init__(self, rows: list[Row], sink: Sink, directory: Path) -> None:
        self.rows = rows
        self.sink = sink
        self.directory = directory
        self.now = NOW
        self.creations = 0
        self.rng = random.Random(7)
        self.before: Callable[[str, int], object] = lambda endpoint, number: None
        self.server: SecondServer

    def creation(self) -> datetime:
        """When the next row is created: an hour ago, and later than every one before it."""
        self.creations += 1
        return self.now - HOUR + self.creations * MICROSECOND

    def become(self, rows: list[Row]) -> None:
        """The source holds *rows* from now on."""
        self.rows = rows
        self.server.hold(rows)

    def sync(self, *, since: datetime = START, until: datetime | None = END, accept: bool = False) -> Outcome:
        outcome, _ = sync(
            self.server.url,
            self.server.key,
            self.sink,
            self.directory,
            since=since,
            until=until,
            accept_deletions=accept,
            clock=lambda: self.now,
        )
        return outcome

    def verify(self, *, repair: bool = False) -> Verification:
        return verify(self.server.url, self.server.key, self.sink, self.directory, repair=repair)

    def landed(self, start: datetime = START, end: datetime = END) -> list[tuple[object, ...]]:
        return landed(self.sink, start, end)

    def states(self) -> set[State]:
        return {entry.shown for entry in self.sink.ledger(1, "events").entries.values()}


@contextmanager
def world(rows: list[Row], sink: Sink, directory: Path, **options: object) -> Iterator[World]:
    """A world until the block ends; *options*: of the second server."""
    it = World(rows, sink, directory)
    with second_server(
        rows,
        now=lambda: it.now,
        before_answer=lambda endpoint, number: it.before(endpoint, number) and None,
        **options,  # type: ignore[arg-type]
    ) as it.server:
        yield it


def some(seed: int = 1, *, count: int = 120, ties: tuple[int, ...] = ()) -> list[Row]:
    return made(random.Random(seed), START, END, count=count, ties=ties)


@pytest.mark.parametrize(
    ("kind", "older"), [pytest.param("duckdb", False, id="duckdb, today"), pytest.param("lake", True, id="lake, 2023")]
)
def test_events_of_its_own_are_landed_row_by_row(kind, older, tmp_path):
    """Names, people, numbers and nests that no SDK sends, ties at the edges of pages that are clamped without a word."""
    rows = some(ties=EDGES)
    with world(rows, place(kind, tmp_path), tmp_path, most_rows=SMALL, older=older) as it:
        outcome = it.sync()
        again = it.sync()

    assert it.landed() == truth(rewritten(rows) if older else rows, START, END)
    assert (outcome.complete, it.states(), again.windows) == (True, {State.VERIFIED}, 0)


@pytest.mark.parametrize("year", [2022, pytest.param(1970, marks=pytest.mark.long)])
def test_years_far_apart_are_landed_row_by_row(year, tmp_path):
    """An event here and there in many years, at the last microsecond of a day, and two in one of them."""
    rng = random.Random(3)
    years = [one(rng, datetime(at, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)) for at in (year, year + 2, year + 2, 2025)]
    rows, first = [*years, *some(count=40)], datetime(year, 1, 1, tzinfo=UTC)
    with world(rows, MemorySink(), tmp_path) as it:
        outcome = it.sync(since=first)

    assert it.landed(first, END) == truth(rows, first, END)
    assert outcome.complete


Change = Callable[[World], tuple[int, int, int]]


def late(it: World) -> tuple[int, int, int]:
    """Rows that come ten days after their time, some into ties."""
    come = [replace(one(it.rng, it.rows[n * 10].timestamp), created_at=it.creation()) for n in range(9)]
    it.become([*it.rows, *come])
    return 9, 0, 0


def vanished(it: World) -> tuple[int, int, int]:
    it.become(it.rows[7:])
    return 0, 7, 0


def in_place(it: World) -> tuple[int, int, int]:
    it.become([*it.rows[5:], *(changed(row, it.creation()) for row in it.rows[:5])])
    return 0, 0, 5


def moved_in_its_date(it: World) -> tuple[int, int, int]:
    row = it.rows[0]
    noon = row.timestamp.replace(hour=12, minute=0)
    it.become([*it.rows[1:], replace(row, timestamp=noon, created_at=it.creation())])
    return 0, 0, 1


def moved_to_another_date(it: World) -> tuple[int, int, int]:
    row = it.rows[0]
    day = START + DAY if row.timestamp.date() == START.date() else START
    it.become([*it.rows[1:], replace(row, timestamp=day + HOUR, created_at=it.creation())])
    return 1, 1, 0


def copied(it: World) -> tuple[int, int, int]:
    """Newer copies beside the rows that they will take the place of."""
    it.become([*(changed(row, it.creation()) for row in it.rows[:6]), *it.rows])
    return 0, 0, 6


def merged_since(it: World) -> tuple[int, int, int]:
    """The same, and the older ones are gone already."""
    copied(it)
    it.become(merged(it.rows))
    return 0, 0, 6


CHANGES = [late, vanished, in_place, moved_in_its_date, moved_to_another_date, copied, merged_since]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_happened_at_the_source_is_landed_by_the_next_sync(change, tmp_path):
    """Rows come late, vanish, change, move and merge: the table is the source's, and each kind is counted."""
    with world(some(), MemorySink(), tmp_path) as it:
        it.sync()
        expected = change(it)
        it.now += HOUR
        outcome = it.sync()
        quiet = it.sync()

    told = [(one.late, one.deleted, one.changed) for one in outcome.changes.values()]
    assert it.landed() == truth(it.rows, START, END)
    assert tuple(sum(column) for column in zip(*told, strict=True)) == expected
    assert (outcome.disputed, outcome.held, outcome.undecided, quiet.windows) == ([], [], {}, 0)


def test_copies_are_told_until_they_have_merged(tmp_path):
    """The later copy is landed though both are shown; the window is unmerged, and verified when one is left."""
    rows = some(count=120)
    older, newer = rows[:8], [changed(row, NOW - HOUR) for row in rows[:8]]
    with world([*newer[:4], *rows, *newer[4:]], MemorySink(), tmp_path) as it:
        first = it.sync()
        both, during = it.landed(), it.states()
        it.become(merged(it.rows))
        it.now += 2 * HOUR
        it.sync()

    assert it.landed() == both == truth([*rows[len(older) :], *newer], START, END)
    assert (bool(first.unmerged), State.UNMERGED in during, it.states()) == (True, True, {State.VERIFIED})


def test_look_back_ends_where_it_should_and_repair_goes_on(tmp_path):
    """Late rows of three weeks ago come by the next sync; those of seven weeks ago by `verify --repair`, which `verify` names."""
    long_ago = NOW - 60 * DAY
    rows = made(random.Random(4), long_ago, END, count=300)
    near, far = (
        [replace(one(random.Random(n), at + n * MICROSECOND), created_at=NOW) for n in range(5)]
        for at in (NOW - 20 * DAY, NOW - 50 * DAY)
    )
    with world(rows, MemorySink(), tmp_path) as it:
        it.sync(since=long_ago)
        it.become([*rows[4:], *near, *far])
        it.now += HOUR
        it.sync(since=NOW - 25 * DAY)
        synced = it.landed(NOW - 25 * DAY, END)
        found = it.verify()
        between = it.landed(long_ago, END)
        mended = it.verify(repair=True)

    assert synced == truth(it.rows, NOW - 25 * DAY, END)
    assert not set(truth(far, long_ago, END)) & set(between)
    assert (found.good, mended.good) == (False, True)
    assert it.landed(long_ago, END) == truth(it.rows, long_ago, END)


def test_mass_disappearance_is_held_until_it_is_accepted(tmp_path):
    """Most of an old date is gone, then everything: nothing leaves the table unasked; accepted, it is the source's."""
    rows = some(ties=(0, 220))
    tied = START + DAY + 9 * HOUR
    with world(rows, MemorySink(), tmp_path) as it:
        it.sync()
        before = it.landed()
        it.become([])
        nothing, during = it.sync(), it.landed()
        it.become([row for row in rows if row.timestamp != tied])
        most, still = it.sync(), it.landed()
        accepted = it.sync(accept=True)

    assert (during, still) == (before, before)
    assert (len(nothing.held), nothing.complete, most.held) == (5, False, [START + DAY])
    assert accepted.complete
    assert it.landed() == truth(it.rows, START, END)


def test_rows_that_only_the_query_counts_are_a_dispute(tmp_path):
    """Named, and read no more until the source says something else; then verified."""
    rows = some(count=80)
    ghosts = [one(random.Random(n), START + DAY + n * HOUR) for n in range(2)]
    with world(rows, MemorySink(), tmp_path) as it:
        it.before = lambda endpoint, number: it.server.hold(it.rows if endpoint == "events" else [*it.rows, *ghosts])
        first = it.sync()
        lists = it.server.list_requests
        second = it.sync()
        read = it.server.list_requests - lists
        it.before = lambda endpoint, number: None
        it.become([*rows, *ghosts[:1]])
        third = it.sync()

    assert (first.disputed, second.disputed, second.complete, read) == ([START + DAY], [START + DAY], False, 1)
    assert third.complete
    assert it.landed() == truth(it.rows, START, END)


def test_what_happens_between_two_pages_neither_loses_nor_doubles(tmp_path):
    """Rows come into the tie at the page's edge and ahead, one moves on, one vanishes, while the pages are read."""
    rows = sorted(some(count=250, ties=(SMALL + 30,)), key=lambda row: row.timestamp)
    happened: list[int] = []

    with world(rows, MemorySink(), tmp_path, most_rows=SMALL) as it:

        def meanwhile(endpoint: str, number: int) -> None:
            if (endpoint, bool(happened)) == ("events", False) and number >= 4:
                happened.append(number)
                ahead = [one(it.rng, it.rows[n].timestamp) for n in (SMALL, SMALL, 250, 300)]
                moved = replace(rows[3], timestamp=rows[3].timestamp.replace(hour=23, minute=59), created_at=NOW)
                it.become([*(row for row in rows if row not in (rows[3], rows[200])), moved, *ahead])

        it.before = meanwhile
        it.sync()
        during = it.landed()
        it.now += HOUR
        it.sync()

    stayed = [row for row in rows if row in it.rows]
    assert happened
    assert set(truth(stayed, START, END)) <= set(during)
    assert len({(*row[:3], row[3].date()) for row in during}) == len(during)  # type: ignore[attr-defined]
    assert it.landed() == truth(it.rows, START, END)
    assert it.states() == {State.VERIFIED}


def test_row_that_moves_on_while_it_is_read_is_landed_once(tmp_path):
    """Read in an early hour, and again in a late one of its date: where queries are refused the hours are windows."""
    day = made(random.Random(2), START, START + DAY, count=120)
    first = min(day, key=lambda row: row.timestamp)
    moved = replace(first, timestamp=START + DAY - MICROSECOND)
    with world(day, MemorySink(), tmp_path, query_allowed=False, most_rows=20) as it:
        it.before = lambda endpoint, number: (
            it.become([row for row in day if row != first] + [moved]) if (endpoint, number) == ("events", 5) else None
        )
        outcome = it.sync(until=START + DAY)

    assert it.rows[-1] == moved
    assert it.landed() == truth(it.rows, START, END)
    assert outcome.complete


def test_limits_are_waited_for_as_the_server_says(tmp_path):
    """Four requests a minute, and nearly a quarter of it passes with each: one is refused, waits its second, and comes again."""
    asked: dict[str, list[float]] = {"events": [], "query": []}
    rows = some(count=150)
    with world(rows, MemorySink(), tmp_path, per_minute=4, most_rows=20) as it:

        def passes(endpoint: str, number: int) -> None:
            it.now += timedelta(seconds=14.8)
            asked[endpoint].append(time.monotonic())

        it.before = passes
        outcome = it.sync()

    refused = it.server.statuses.count(429)
    assert refused
    assert sum(after - at >= 1 for times in asked.values() for at, after in pairwise(times)) >= refused
    assert outcome.complete
    assert it.landed() == truth(rows, START, END)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "seed"), [*(("memory", seed) for seed in range(8)), ("duckdb", 8), ("lake", 9)], ids=str
)
@pytest.mark.parametrize("older", [False, True], ids=["today", "2023"])
def test_histories_end_with_the_source_s_rows(seed, older, kind, tmp_path):
    """Five syncs between which whatever may happen happens, with small pages: each lands the source's rows."""
    rng = random.Random(seed)
    with world(some(seed, ties=EDGES), place(kind, tmp_path), tmp_path, older=older, most_rows=SMALL) as it:
        it.sync()
        for _ in range(5):
            for change in rng.sample(CHANGES, 3):
                rng.shuffle(it.rows)
                change(it)
            it.now += HOUR
            outcome = it.sync()

            assert it.landed() == truth(rewritten(it.rows) if older else it.rows, START, END)
            assert (outcome.disputed, outcome.held, outcome.undecided) == ([], [], {})
        assert it.verify().left == []
