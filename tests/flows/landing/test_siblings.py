"""Awkward courses of events: each ends with the destination as the source is, or with runs that say why it is not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extractors.filters import EventFilter
from extractors.reading.events import EventsReader
from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.profiles import Profile
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.landing import audit, copy
from flows.landing.outcome import Log, Outcome
from flows.landing.session import STREAM, Order, Session
from flows.landing.verification import Verification
from sinks.destination import Destination
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Entry, State
from sinks.errors import FilterChanged
from tests import stores
from tests.flows.harness import SETTLE, UNLIMITED, landed, sync, truth, unhindered
from tests.flows.landing.test_proof import hides

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
ALWAYS = (START - 1_000 * DAY, START + 1_000 * DAY)
SILENT = replace(UNLIMITED, query_allowed=False)


@dataclass(slots=True)
class World:
    """A source that changes between runs, and destinations by name; every run has a sink and a server of its own.

    *now*: the server's clock; *skew*: how far the local one is ahead of it. *live*: the server, while a run is at work.
    """

    directory: Path
    kind: str
    dataset: Dataset
    now: datetime
    skew: timedelta = timedelta(0)
    profile: Profile = UNLIMITED
    faults: Faults = field(default_factory=lambda: Faults(()))
    on_request: Callable[[RequestSeen], None] = lambda seen: None
    port: int = 0
    live: Simulator | None = None

    def at(self, moment: datetime, events: Sequence[Event]) -> None:
        """Let it be *moment*: both clocks are right, and the source shows what has happened of *events*."""
        self.now, self.skew = moment, timedelta(0)
        self.dataset = Dataset([event for event in events if event.timestamp < moment])

    def sink(self, name: str = "a") -> Destination:
        if self.kind == "duckdb":
            return DuckDBSink(self.directory / f"{name}.duckdb")
        return stores.local_lake(self.directory / name)

    def clock(self) -> datetime:
        return self.now + self.skew

    def sync(
        self,
        into: str | Any = "a",
        since: datetime | None = None,
        until: datetime | None = None,
        **more: Any,
    ) -> Outcome:
        sink = self.sink(into) if isinstance(into, str) else into
        with self._served() as server:
            outcome, _ = sync(
                server.url, server.key, sink, self.directory, since=since, until=until, clock=self.clock, **more
            )
        return outcome

    def verify(
        self,
        into: str | Any = "a",
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        repair: bool = False,
    ) -> Verification:
        sink = self.sink(into) if isinstance(into, str) else into
        with self._served() as server, unhindered(server.url, server.key, self.directory) as client:
            sink.prepare(1, STREAM, host=server.url, event_filter="", rebuild=False)
            session = Session(Order(1, since, until, SETTLE, marks=False), sink, self.directory, self.clock)
            reader = EventsReader(client, 1, events=EventFilter())
            return audit.run(session, reader, Log(), repair=repair, detail=False)

    def rebuild(self, name: str = "a") -> None:
        """Make every landed window stale, and land none of them yet."""
        host = f"http://127.0.0.1:{self.port}"
        self.sink(name).prepare(1, STREAM, host=host, event_filter="", rebuild=True)

    def damage(self, start: datetime, end: datetime, name: str = "a") -> int:
        """Remove by hand what is landed of [start, end); how many rows went."""
        sink, before = self.sink(name), len(self.held(name))
        if isinstance(sink, DuckDBSink):
            with duckdb.connect(str(sink.path)) as db:
                db.execute(f"DELETE FROM events WHERE \"timestamp\" >= '{start}' AND \"timestamp\" < '{end}'")
        else:
            for path in (self.directory / name / "events").rglob("*.parquet"):
                rows = pq.ParquetFile(path).read()
                kept = rows.filter(pa.array(not start <= at < end for at in rows["timestamp"].to_pylist()))
                if kept.num_rows < rows.num_rows:
                    pq.write_table(kept, path, compression="zstd")
        return before - len(self.held(name))

    def ledger(self, name: str = "a") -> dict[datetime, Entry]:
        return dict(self.sink(name).ledger(1, STREAM).entries)

    def states(self, name: str = "a") -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in self.ledger(name).values():
            found[entry.shown] = found.get(entry.shown, 0) + 1
        return found

    def held(self, name: str = "a") -> list[tuple[object, ...]]:
        return landed(self.sink(name), *ALWAYS)

    def truth(self, start: datetime = ALWAYS[0]) -> list[tuple[object, ...]]:
        return truth(self.dataset.events, start, ALWAYS[1])

    def is_true(self, name: str = "a", *, start: datetime = ALWAYS[0]) -> bool:
        return self.held(name) == self.truth(start)

    @contextmanager
    def _served(self) -> Iterator[Simulator]:
        if self.live is not None:
            yield self.live
            return
        with serve(
            self.dataset,
            profile=self.profile,
            faults=self.faults,
            now=lambda: self.now,
            on_request=self.on_request,
            port=self.port,
        ) as server:
            self.port, self.live = int(server.url.rpartition(":")[2]), server
            try:
                yield server
            finally:
                self.live = None


class Before:
    """A destination at which something *happens* once, before the first *call* of that name."""

    def __init__(self, sink: Destination, call: str, happens: Callable[[], object]) -> None:
        self._sink, self._call, self._waiting = sink, call, [happens]

    def __getattr__(self, name: str) -> Any:
        if name == self._call and self._waiting:
            self._waiting.pop()()
        return getattr(self._sink, name)


@pytest.fixture(params=["duckdb", "lake"])
def kind(request) -> str:
    return request.param


def late(count: int, at: datetime, tag: str = "a") -> list[Event]:
    return [
        Event(f"aaaaaaaa-0000-4000-8{ord(tag):03x}-{n:012x}", "late", f"user-{n}", at + timedelta(seconds=n), "{}")
        for n in range(count)
    ]


def spread(count: int, start: datetime, end: datetime) -> Dataset:
    return generate(events=count, start=start, end=end, seed=3)


# --- copies


def test_a_copy_that_covers_other_hours_leaves_the_rows_that_are_there(kind, tmp_path):
    """Two files know different, overlapping parts of one date: no landed row goes, the copy says what it left out, and a
    range asked again is whole."""
    world = World(tmp_path, kind, spread(144, START, START + DAY), START + 20 * DAY)
    world.sync("team", START, START + 14 * HOUR, marks=False)
    before = world.held("team")
    world.now += HOUR
    world.sync("colleague", START + 10 * HOUR, START + DAY, marks=False)
    done = copy.copy(1, world.sink("colleague"), world.sink("team"))

    assert (world.held("team"), done.windows, done.narrower) == (before, 0, [START])
    assert done.problems
    world.sync("team", START, START + DAY, marks=False)
    assert world.is_true("team")


def test_a_copy_into_windows_that_wait_for_a_rebuild_keeps_their_rows(kind, tmp_path):
    """A rebuild is announced, then a narrower reading of a date is copied in: every row stays until it is landed again."""
    world = World(tmp_path, kind, spread(144, START, START + DAY), START + 20 * DAY)
    world.sync("team", START, START + DAY, marks=False)
    world.now += HOUR
    world.sync("colleague", START + 10 * HOUR, START + 12 * HOUR, marks=False)
    world.rebuild("team")
    done = copy.copy(1, world.sink("colleague"), world.sink("team"))

    assert world.is_true("team")
    assert world.states("team") == {"stale": 1}
    assert done.problems


@pytest.mark.parametrize("lost", [0, 10, 19], ids=["first", "middle", "last"])
def test_a_window_that_a_copy_left_out_is_landed_by_the_next_sync(lost, tmp_path):
    """A damaged date is not copied, wherever it lies; the target's first sync asks the source for it."""
    world = World(tmp_path, "duckdb", spread(100, START, START + 20 * DAY), START + 20 * DAY + HOUR)
    world.sync("colleague", START)
    gone = world.damage(START + lost * DAY, START + (lost + 1) * DAY, "colleague")
    done = copy.copy(1, world.sink("colleague"), world.sink("team"))
    copied = len(world.held("team"))
    outcome = world.sync("team")

    assert (done.damaged, copied) == ([START + lost * DAY], 100 - gone)
    assert gone
    assert outcome.complete
    assert world.is_true("team")


def test_a_sync_goes_on_from_a_copy_that_was_interrupted(kind, tmp_path, monkeypatch):
    """Ended after some windows: the next sync lands all that is missing, and the copy has nothing more to do."""
    monkeypatch.setattr(copy, "BATCH_ROWS", 30)
    world = World(tmp_path, kind, spread(100, START, START + 10 * DAY), START + 10 * DAY + HOUR)
    world.sync("colleague", START)

    def interrupted(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy.copy(1, world.sink("colleague"), world.sink("team"), on_progress=interrupted)
    part = len(world.held("team"))
    world.now += HOUR
    outcome = world.sync("team")

    assert 0 < part < 100
    assert outcome.complete
    assert world.is_true("team")
    assert copy.copy(1, world.sink("colleague"), world.sink("team")).windows == 0


def test_copied_windows_before_a_gap_do_not_move_where_the_sync_goes_on(tmp_path):
    """A colleague's last two hours are copied: the sync still asks from where this file ends, three days before."""
    full = spread(200, START, START + 4 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START)
    world.at(START + 30 * HOUR, full)
    world.sync("team", START)
    world.at(START + 4 * DAY, full)
    world.sync("colleague", START + 4 * DAY - 2 * HOUR)
    copy.copy(1, world.sink("colleague"), world.sink("team"))
    outcome = world.sync("team")

    assert outcome.complete
    assert world.is_true("team")


def test_a_dispute_goes_along_with_a_copy(kind, tmp_path):
    """What the source of a copy disputes is disputed in the target, which says so at every sync."""
    world = World(tmp_path, kind, spread(60, START, START + 2 * DAY), START + 2 * DAY + HOUR)
    world.on_request = hides(world.dataset, late(2, START + HOUR))
    world.sync("team", START)
    done = copy.copy(1, world.sink("team"), world.sink("backup"))
    world.profile, world.on_request = SILENT, lambda seen: None
    outcome = world.sync("backup")

    assert done.problems
    assert world.ledger("backup")[START].shown is State.DISPUTED
    assert not outcome.complete


# --- damage


def test_damage_before_the_tail_of_today_is_told_until_all_of_it_is_read(kind, tmp_path):
    """Rows of this morning are gone: syncs that read only the last minutes go on saying so; when the day has settled it is
    read whole."""
    full = spread(120, START, START + 2 * DAY).events
    world = World(tmp_path, kind, Dataset(), START)
    world.at(START + 12 * HOUR, full)
    world.sync("a", START)
    gone = world.damage(START, START + 6 * HOUR)
    found = world.verify()
    world.at(START + 12.5 * HOUR, full)
    tail = world.sync()
    incomplete = len(world.truth()) - len(world.held())
    world.at(START + 25 * HOUR, full)
    settled = world.sync()

    assert (len(found.differences), incomplete) == (1, gone)
    assert gone
    assert not tail.complete
    assert settled.complete
    assert world.is_true()


def test_damage_found_while_the_tail_of_today_is_read_is_not_forgotten(kind, tmp_path):
    """verify finds lost rows between the reading of the last minutes and their landing: that landing does not hide them."""
    full = spread(120, START, START + 2 * DAY).events
    world = World(tmp_path, kind, Dataset(), START)
    world.at(START + 12 * HOUR, full)
    world.sync("a", START)
    world.damage(START, START + 6 * HOUR)
    world.at(START + 12.5 * HOUR, full)
    world.sync(Before(world.sink(), "land", world.verify))

    assert not world.sync().complete
    assert not world.verify(repair=True).left
    assert world.is_true()


def test_a_reading_that_lands_whole_ends_the_damage_found_meanwhile(kind, tmp_path):
    """verify finds lost rows while the window is being read again for a late event: once landed it is whole and says so."""
    world = World(tmp_path, kind, spread(60, START, START + DAY), START + 3 * DAY)
    world.sync("a", START, START + DAY)
    world.dataset.add(late(3, START + HOUR))
    world.damage(START + 5 * HOUR, START + 9 * HOUR)
    outcome = world.sync(Before(world.sink(), "land", world.verify))

    assert outcome.complete
    assert world.is_true()
    assert not world.verify().differences


def test_a_verify_that_looks_elsewhere_forgets_no_damage(kind, tmp_path):
    """Damage of one date stays told after verify, verify --repair, sync and backfill of another."""
    world = World(tmp_path, kind, spread(60, START, START + 2 * DAY), START + 3 * DAY)
    world.sync("a", START, START + 2 * DAY)
    world.damage(START, START + 12 * HOUR)
    world.verify()
    world.verify(since=START + DAY, until=START + 2 * DAY)
    world.verify(since=START + DAY, until=START + 2 * DAY, repair=True)
    outcomes = [world.sync("a", START + DAY, START + 2 * DAY, marks=marks) for marks in (True, False)]

    assert world.ledger()[START].shown is State.DISPUTED
    assert not outcomes[0].complete
    assert not world.verify(repair=True).left
    assert world.is_true()


def test_a_source_that_reads_as_before_does_not_end_damage(tmp_path):
    """Without queries windows are read again at their ages; that nothing is new at the source says nothing of lost rows."""
    world = World(tmp_path, "duckdb", spread(60, START, START + 6 * HOUR), START + 6.5 * HOUR, profile=SILENT)
    world.sync("a", START)
    gone = world.damage(START + 2 * HOUR, START + 3 * HOUR)
    world.verify()
    complete = []
    for hours in (8, 13, 31, 80):
        world.now = START + hours * HOUR
        complete.append(world.sync().complete)
    world.profile = UNLIMITED
    complete.append(world.sync().complete)

    assert gone
    assert complete == [False] * 5
    assert world.verify(repair=True).left == []
    assert world.is_true()


def test_what_was_repaired_meanwhile_is_not_called_damaged_afterwards(kind, tmp_path):
    """Between finding lost rows and writing it down another run mends them: the note is of the old landing and void."""
    world = World(tmp_path, kind, spread(60, START, START + DAY), START + 3 * DAY)
    world.sync("a", START, START + DAY)
    world.damage(START, START + 6 * HOUR)
    world.verify(Before(world.sink(), "note", lambda: world.verify(repair=True)))

    assert world.is_true()
    assert world.states() == {"verified": 1}
    assert world.sync().complete


# --- runs that meet


def test_a_rebuild_announced_while_windows_are_compared_is_not_undone(kind, tmp_path):
    """The comparison of the older rows does not make a stale window verified; the next sync lands it again."""
    world = World(tmp_path, kind, spread(60, START, START + 6 * HOUR), START + DAY, profile=SILENT)
    world.sync("a", START, START + 6 * HOUR, marks=False)
    world.profile = UNLIMITED
    world.sync(Before(world.sink(), "note", world.rebuild), START, START + 6 * HOUR, marks=False)

    assert set(world.states()) == {"stale"}
    world.dataset.add(late(1, START + HOUR))
    assert world.sync("a", START, START + 6 * HOUR, marks=False).windows == 6
    assert world.is_true()


def test_a_reading_under_the_old_filter_does_not_land_after_a_rebuild_under_a_new_one(kind, tmp_path):
    """The filter is changed and all landed again between reading and landing: the older run is stopped, and no row that
    the filter excludes comes back."""
    world = World(tmp_path, kind, spread(60, START, START + DAY), START + 3 * DAY)
    world.sync("a", START, START + DAY)
    world.dataset.add(late(3, START + HOUR))
    only = EventFilter(include=("late",))
    other = lambda: world.sync("a", START, START + DAY, events=only, rebuild=True)  # noqa: E731
    with pytest.raises(FilterChanged):
        world.sync(Before(world.sink(), "land", other))

    assert world.held() == truth([event for event in world.dataset.events if event.event == "late"], START, START + DAY)


def test_windows_held_meanwhile_are_not_called_verified(tmp_path):
    """The answers agreed, then the source lost half and another run held its windows: they stay held until accepted."""
    world = World(tmp_path, "duckdb", spread(2_400, START, START + 6 * HOUR), START + DAY, profile=SILENT)
    world.sync("a", START, START + 6 * HOUR)
    world.profile = UNLIMITED

    def lose() -> None:
        world.dataset.delete([event.uuid for event in world.dataset.events[::2]])
        world.sync()

    outcome = world.sync(Before(world.sink(), "note", lose))

    assert len(world.held()) == 2_400
    assert world.states()["held"] == 6
    assert not outcome.complete
    assert not world.sync().complete


def test_a_repair_that_meets_a_sync_of_the_same_window_ends_whole(kind, tmp_path):
    """Both read the window; the slower one's landing does not put back what the other mended."""
    world = World(tmp_path, kind, spread(60, START, START + DAY), START + 3 * DAY)
    world.sync("a", START, START + DAY)
    world.damage(START + 5 * HOUR, START + 9 * HOUR)
    world.dataset.add(late(3, START + HOUR))
    found = world.verify(Before(world.sink(), "land", world.sync), repair=True)

    assert found.good
    assert world.is_true()


def test_a_copy_that_meets_a_sync_of_the_target_takes_nothing_back(kind, tmp_path):
    """The target lands the window anew before the older copy arrives: the copy is left out, and the target's own stays."""
    world = World(tmp_path, kind, spread(60, START, START + DAY), START + 3 * DAY)
    world.sync("team", START, START + DAY, marks=False)
    copy.copy(1, world.sink("team"), world.sink("backup"))
    world.now += HOUR
    world.dataset.add(late(3, START + HOUR))
    world.sync("team", START, START + DAY)
    world.dataset.add(late(3, START + 2 * HOUR, tag="b"))
    target = Before(world.sink("backup"), "land", lambda: world.sync("backup", START, START + DAY))
    done = copy.copy(1, world.sink("team"), target)

    assert world.is_true("backup")
    assert (done.windows, done.kept, done.problems) == (0, 1, {})


# --- an outage in steps


@pytest.mark.parametrize("way", ["sync", *(pytest.param(way, marks=pytest.mark.long) for way in ("repair", "rebuild"))])
def test_an_outage_in_small_steps_does_not_empty_a_warehouse(way, tmp_path):
    """The source shows an eighth less every quarter of an hour, each time fewer than the guard's thousand rows: more than
    that never goes within the day, whichever command meets it, and every run after it says so."""
    world = World(tmp_path, "duckdb", spread(4_000, START, START + 10 * DAY), START + 10 * DAY + HOUR)
    world.sync("a", START)
    rng, ends = random.Random(1), []
    for _ in range(4):
        world.now += timedelta(minutes=15)
        world.dataset.delete([event.uuid for event in world.dataset.events if rng.random() < 1 / 8])
        if way == "repair":
            ends.append(world.verify(repair=True).good)
        else:
            ends.append(world.sync(rebuild=way == "rebuild").complete)

    assert len(world.held()) >= 3_000
    assert len(world.dataset) < 2_600
    assert ends[-1] is False


def test_whole_dates_that_vanish_stay(kind, tmp_path):
    """Two of ten dates show nothing any more, fewer rows than the guard's thousand: they are held and not emptied."""
    world = World(tmp_path, kind, spread(1_000, START, START + 10 * DAY), START + 12 * DAY)
    world.sync("a", START, START + 10 * DAY)
    world.dataset.delete([event.uuid for event in world.dataset.events if event.timestamp < START + 2 * DAY])
    outcome = world.sync()

    assert len(world.held()) == 1_000
    assert outcome.held == [START, START + DAY]


# --- clocks


@pytest.mark.parametrize("back", [DAY, pytest.param(400 * DAY, marks=pytest.mark.long)], ids=["a day", "a year"])
def test_a_date_header_that_lies_behind_loses_nothing(back, tmp_path):
    """One answer is dated in the past: the next sync goes on from what is landed."""
    full = spread(60, START, START + 4 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START)
    world.at(START + 34 * HOUR, full)
    world.sync("a", START)
    world.at(START + 36 * HOUR, full)
    world.now -= back
    world.skew = back
    world.sync()
    world.at(START + 60 * HOUR, full)

    assert world.sync().complete
    assert world.is_true()


@pytest.mark.parametrize("skew", [5 * DAY, -5 * DAY], ids=["ahead", "behind"])
def test_the_clock_of_this_machine_decides_nothing(skew, tmp_path):
    """Days off to either side: late events are found at the ages that the source's clock says, without queries."""
    full = spread(60, START, START + 2 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START, profile=SILENT)
    world.at(START + 25 * HOUR, full)
    world.skew = skew
    world.sync("a", START + 18 * HOUR)
    world.at(START + 32 * HOUR, [*full, *late(3, START + 20 * HOUR)])
    world.skew = skew
    outcome = world.sync()

    assert sum(change.late for change in outcome.changes.values()) == 3
    assert world.is_true(start=START + 18 * HOUR)


def test_a_date_header_a_day_ahead_costs_nothing_where_the_source_answers_queries(tmp_path):
    """Windows of hours to come were landed as if over: each is compared later, and read."""
    full = spread(120, START, START + 3 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START)
    world.at(START + 10 * HOUR, full)
    world.sync("a", START)
    world.at(START + 10.5 * HOUR, full)
    world.now += DAY
    world.sync()
    for hours in (11, 20, 36):
        world.at(START + hours * HOUR, full)
        assert world.sync().complete
        assert world.is_true()


@pytest.mark.parametrize("hours", [80, pytest.param(120, marks=pytest.mark.long)])
def test_a_server_clock_that_was_ahead_is_over_before_the_next_sync(hours, tmp_path):
    """One run by a clock that was ahead, no queries, and nobody syncs until that time has passed: what it called over is
    read again, because this machine's clock did not say so."""
    full = spread(200, START, START + 8 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START, profile=SILENT)
    world.at(START + 10 * HOUR, full)
    world.sync("a", START)
    world.now, world.skew = START + (10 + hours) * HOUR, -hours * HOUR
    world.sync()
    for later in (1, 20):
        world.at(START + (10 + hours + later) * HOUR, full)
        outcome = world.sync()

    assert outcome.complete
    assert world.is_true()


@pytest.mark.parametrize("kind", ["duckdb", "lake"])
def test_a_backup_heals_a_window_that_is_known_to_be_damaged(kind, tmp_path):
    """The same reading is copied over it, which a copy of what is sound would leave alone."""
    full = spread(60, START, START + 2 * DAY).events
    world = World(tmp_path, kind, Dataset(), START)
    world.at(START + 3 * DAY, full)
    world.sync("a", START, START + 2 * DAY)
    copy.copy(1, world.sink("a"), world.sink("backup"))
    world.damage(START, START + 6 * HOUR)
    assert not world.verify("a").good
    done = copy.copy(1, world.sink("backup"), world.sink("a"))

    assert (done.windows, done.problems) == (1, {})
    assert world.verify("a").good


def test_repair_reads_what_could_not_be_typed_once_more(tmp_path):
    """A row that was damaged on its way, once: the source shows it, so that a repair lands it."""
    full = spread(60, START, START + 2 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START, faults=Faults([Fault("deep", at=(3,))]))
    world.at(START + 3 * DAY, full)
    first = world.sync("a", START, START + 2 * DAY)
    world.faults = Faults(())
    found = world.verify("a", repair=True)

    assert (first.quarantined, first.complete) == (1, False)
    assert found.good
    assert world.is_true()


@pytest.mark.parametrize("wrong", [-5 * DAY, 5 * DAY], ids=["behind", "ahead"])
def test_one_wrong_date_does_not_make_verify_good(wrong, tmp_path):
    """The first answer has the time of another day: what differs is compared and named as by the right clock."""
    full = spread(60, START, START + 3 * DAY).events
    world = World(tmp_path, "duckdb", Dataset(), START)
    world.at(START + 4 * DAY, full)
    world.sync("a", START, START + 3 * DAY)
    world.dataset.delete({full[5].uuid})
    right, answers = world.now, [0]

    def mistake(seen: RequestSeen) -> None:
        answers[0] += 1
        world.now = right + (wrong if answers[0] == 1 else timedelta(0))

    world.on_request = mistake
    found = world.verify("a")

    assert (found.compared, len(found.differences)) == (3, 1)
