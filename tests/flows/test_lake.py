"""The pipeline into lakes: the glob is the source's truth at the end, and each window one reading at every moment between."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import Simulator, serve
from flows.landing import copy
from flows.runs import findings, loads, run, verify
from flows.settings.load import load
from flows.settings.model import Settings
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.errors import DestinationUnusable
from sinks.lake import statements, views
from sinks.lake.sink import LakeSink
from sinks.lake.window_file import read_footer
from tests import stores
from tests.flows.harness import UNLIMITED, landed, sync, truth

ROOT = Path(__file__).parents[2]
S3 = ("moto", "localbucket")
NOW = datetime.now(UTC).replace(microsecond=0)
START = (NOW - timedelta(days=20)).replace(hour=0, minute=0, second=0)
END = START + timedelta(days=18)


@dataclass(slots=True)
class Place:
    """A lake, its address, and how another process reaches it."""

    address: str
    environment: dict[str, str]
    directory: Path

    def settings(self, simulator: Simulator) -> Settings:
        flags: dict[str, object] = {
            "source.host": simulator.url,
            "source.key": simulator.key,
            "source.project_id": 1,
            "source.requests_per_minute": 10**6,
            "source.requests_per_hour": 10**6,
            "source.state_dir": self.directory / "state",
            "destination.address": self.address,
        }
        return load(flags, directory=self.directory).settings

    def lake(self) -> LakeSink:
        if self.environment:
            bucket, _, prefix = self.address.removeprefix("s3://").partition("/")
            return stores.s3_lake(self.environment["AWS_ENDPOINT_URL"], bucket=bucket, prefix=prefix)
        return stores.local_lake(Path(self.address.removeprefix("file:")))


@pytest.fixture(params=["local", "moto", pytest.param("localbucket", marks=pytest.mark.long)])
def place(request, tmp_path, monkeypatch) -> Place:
    if request.param == "local":
        return Place(f"file:{tmp_path / 'lake'}", {}, tmp_path)
    server = request.getfixturevalue(request.param)
    environment = stores.environment(server)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Place(f"s3://{stores.new_bucket(server)}/posthog", environment, tmp_path)


@pytest.fixture
def dataset() -> Dataset:
    return generate(events=8_000, start=START, end=END, seed=5)


@pytest.fixture
def simulator(dataset: Dataset) -> Iterator[Simulator]:
    with serve(dataset, profile=UNLIMITED) as running:
        yield running


def backfill(settings: Settings) -> run.Report:
    return loads.load_events(settings, 1, command="backfill", since=START.isoformat(), until=END.isoformat())


def assert_glob_is_the_truth(place: Place, dataset: Dataset) -> None:
    """By a plain read of all files, without hedgerow's ledger: what any tool sees."""
    lake = place.lake()
    columns = ["uuid", "event", "distinct_id", "timestamp", "properties", "elements_chain"]
    with views.reading(lake.objects, ":memory:") as db:
        db.execute("SET TimeZone = 'UTC'")
        pattern = statements.glob_of(lake.objects)
        rows = db.sql(f"SELECT {', '.join(columns)} FROM read_parquet('{pattern}') ORDER BY timestamp, 1, 2, 3").pl()
    wanted = pl.DataFrame(truth(dataset.events, START, END), schema=rows.schema, orient="row")
    assert rows.sort("timestamp", "uuid", "event", "distinct_id").equals(wanted)


def test_a_lake_ends_as_the_source_is(place, dataset, simulator):
    """Landed, proven, not landed again; late events, deletions and damage found and mended, as in a DuckDB file."""
    settings = place.settings(simulator)
    first = backfill(settings)
    second = backfill(settings)
    assert (first.rows, second.rows, second.windows) == (8_000, 0, 0)
    assert {entry.state for entry in place.lake().ledger(1, "events").entries.values()} == {State.VERIFIED}

    late = [replace(event, uuid=f"bbbbbbbb-{event.uuid[9:]}") for event in dataset.events[:300:10]]
    dataset.add(late)
    dataset.delete({event.uuid for event in dataset.events[1000:1020]})
    report = loads.load_events(settings, 1, command="sync")
    assert (report.late, report.deleted > 0, report.problems) == (30, True, ())

    lake = place.lake()
    victim = next(one for one in lake.objects.list("events") if "T000000Z" in one.path and one.size > 10_000)
    lake.objects.delete(victim.path)
    named, _ = verify.verify_events(settings, 1)
    mended, _ = verify.verify_events(settings, 1, repair=True)
    assert ([one.held_rows for one in named.differences], named.good, mended.good) == ([0], False, True)
    window_end = NOW + timedelta(days=1)
    assert landed(place.lake(), START, window_end) == truth(dataset.events, START, window_end)


def test_faults_of_the_source_do_not_reach_the_lake(place, dataset):
    """With faults in every tenth answer, and a store that slows down, the glob is the truth."""
    faults = Faults([Fault(kind, rate=0.03, endpoint="any") for kind in ("502", "504", "cut", "reset")])
    with serve(dataset, profile=UNLIMITED, faults=faults) as simulator:
        backfill(place.settings(simulator))

    assert_glob_is_the_truth(place, dataset)


@pytest.mark.parametrize("place", ["local", *(pytest.param(s3, marks=pytest.mark.long) for s3 in S3)], indirect=True)
def test_several_processes_backfill_one_lake(place, dataset, simulator):
    """Four processes on parts of the range and two on the same part, one killed and run again: the truth, each row once.

    Meanwhile a reader polls: every file is at every moment one complete reading of its window.
    """
    quarter = (END - START) / 4
    parts = [(START + n * quarter, START + (n + 1) * quarter) for n in range(4)]
    parts.append(parts[2])
    polls, stop = [0], threading.Event()
    torn: list[str] = []
    reader = threading.Thread(target=poll, args=(place.lake(), stop, polls, torn))
    reader.start()
    children = [child(place, simulator, since, until) for since, until in parts]
    deadline = time.monotonic() + 60
    while not place.lake().exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    children[0].kill()
    for one in children:
        one.wait(timeout=120)
    codes = [one.returncode for one in children[1:]]
    last = [child(place, simulator, since, until) for since, until in parts]
    codes += [one.wait(timeout=120) for one in last]
    stop.set()
    reader.join()

    assert codes == [0] * 9
    assert polls[0] > 3
    assert torn == []
    assert_glob_is_the_truth(place, dataset)


@pytest.mark.long
def test_everything_at_once(place, dataset):
    """Two writers on the same windows, a fault in every tenth answer, events that come late all the time, and kill -9:
    the truth in the end, and at every moment between each file one complete reading."""
    rng, stop, polls = random.Random(9), threading.Event(), [0]
    torn: list[str] = []
    faults = Faults([Fault(kind, rate=0.025, endpoint="any") for kind in ("502", "504", "cut", "reset")])
    threads = [
        threading.Thread(target=poll, args=(place.lake(), stop, polls, torn)),
        threading.Thread(target=come_late, args=(dataset, stop)),
    ]
    kills = 0
    with serve(dataset, profile=UNLIMITED, faults=faults) as simulator:
        for thread in threads:
            thread.start()
        for _ in range(6):
            pair = [child(place, simulator, START, END, command="sync") for _ in range(2)]
            time.sleep(2 + 4 * rng.random())
            kills += pair[0].poll() is None
            pair[0].kill()
            for one in pair:
                one.wait(timeout=180)
        stop.set()
        for thread in threads:
            thread.join()
    with serve(dataset, profile=UNLIMITED, port=int(simulator.url.rpartition(":")[2])) as simulator:
        last = child(place, simulator, START, END, command="sync")
        assert last.wait(timeout=180) == 0

    print(f"{kills} kills, {polls[0]} polls, {len(dataset) - 8_000} late events")
    assert kills > 2
    assert polls[0] > 3
    assert torn == []
    assert_glob_is_the_truth(place, dataset)


def come_late(dataset: Dataset, stop: threading.Event) -> None:
    """Ten events at any time of the range, again and again."""
    rng, number = random.Random(4), 0
    while not stop.wait(0.5):
        moments = [START + rng.random() * (END - START) for _ in range(10)]
        number += 10
        dataset.add(
            [
                Event(f"cccccccc-0000-4000-8000-{number + n:012x}", "late", "d", at, "{}", "", NOW)
                for n, at in enumerate(moments)
            ]
        )


def child(
    place: Place, simulator: Simulator, since: datetime, until: datetime, *, command: str = "backfill"
) -> subprocess.Popen[bytes]:
    arguments = [simulator.url, simulator.key, str(place.directory), place.address]
    arguments += [since.isoformat(), until.isoformat(), command]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.flows.crash_child", *arguments],
        cwd=ROOT,
        env={**os.environ, **place.environment},
    )


def poll(lake: LakeSink, stop: threading.Event, polls: list[int], torn: list[str]) -> None:
    """Read every file again and again: what its footer says of it is what it holds, and no row is there twice."""
    while not stop.is_set():
        seen: Counter[tuple[str, ...]] = Counter()
        for found in list(lake.objects.list("events")):
            data, _ = lake.objects.get(found.path)
            footer, rows = read_footer(data)
            held = pl.read_parquet(data)
            if held.height != rows or rows != footer.entry.tally.landed_rows:
                torn.append(f"{found.path}: {rows} rows, {footer.entry.tally.landed_rows} landed")
            seen.update(zip(held["uuid"], held["event"], held["distinct_id"], map(str, held["timestamp"]), strict=True))
        torn.extend(f"{key} twice" for key, times in seen.items() if times > 1)
        polls[0] += 1


def test_the_look_of_an_open_window_while_it_fills(tmp_path):
    """Syncs every now and then while events come, some late: read-merge-replace keeps the file whole; then it settles."""
    clock = [NOW.replace(hour=6, minute=0, second=0)]
    dataset = Dataset([])
    rng = random.Random(1)
    place = Place(f"file:{tmp_path / 'lake'}", {}, tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock[0]) as simulator:
        for number in range(12):
            now = clock[0]
            moments = [now - timedelta(minutes=rng.random() * (600 if late < 2 else 4)) for late in range(20)]
            dataset.add(
                [
                    Event(f"aaaaaaaa-0000-4000-8000-{number:06x}{n:06x}", "live", "d", at, "{}", "", now)
                    for n, at in enumerate(moments)
                ]
            )
            since = NOW - timedelta(days=2)
            sync(simulator.url, simulator.key, place.lake(), tmp_path, since=since, until=None, clock=lambda: clock[0])
            clock[0] += timedelta(minutes=17)
        clock[0] += timedelta(days=2)
        sync(simulator.url, simulator.key, place.lake(), tmp_path, since=None, until=None, clock=lambda: clock[0])

    start, end = NOW - timedelta(days=3), NOW + timedelta(days=2)
    assert landed(place.lake(), start, end) == truth(dataset.events, start, end)


def test_copy_there_and_back(place, dataset, simulator, tmp_path):
    """DuckDB file → lake → DuckDB file without asking PostHog: rows and proof go along; a second copy has nothing to do."""
    first, last = DuckDBSink(tmp_path / "a.duckdb"), DuckDBSink(tmp_path / "b.duckdb")
    backfill(place.settings(simulator).model_copy(update={"destination": duckdb_settings(tmp_path / "a.duckdb")}))
    asked = len(simulator.requests)
    done = copy.copy(1, first, place.lake())
    again = copy.copy(1, first, place.lake())
    back = copy.copy(1, place.lake(), last)

    assert len(simulator.requests) == asked
    assert (done.rows, done.windows, done.problems) == (8_000, 18, {})
    assert (again.rows, again.windows, again.kept) == (0, 0, 18)
    assert (back.rows, back.problems) == (8_000, {})
    assert_glob_is_the_truth(place, dataset)
    wanted = first.ledger(1, "events")
    held = last.ledger(1, "events").entries
    assert {start: replace(entry, noted=0) for start, entry in wanted.entries.items()} == held
    assert last.rows(1, START, END).equals(first.rows(1, START, END))
    assert backfill(place.settings(simulator)).windows == 0


def duckdb_settings(path: Path):
    return load({"destination.address": f"duckdb:{path}"}, directory=path.parent).settings.destination


def test_copy_leaves_damage_behind(simulator, tmp_path):
    """A window that does not hold what was landed is named and not copied; the others are."""
    place = Place(f"file:{tmp_path / 'lake'}", {}, tmp_path)
    path = tmp_path / "a.duckdb"
    backfill(place.settings(simulator).model_copy(update={"destination": duckdb_settings(path)}))
    with duckdb.connect(str(path)) as db:
        db.execute(f"DELETE FROM events WHERE \"timestamp\" < '{START + timedelta(hours=30)}'")
    done = copy.copy(1, DuckDBSink(path), place.lake())

    assert (done.windows, done.damaged) == (16, [START, START + timedelta(days=1)])
    assert "not copied" in findings.of_copy(done)[0]


def test_copy_into_other_windows_is_refused(dataset, tmp_path):
    """A date is cut once: joining two ledgers that cut it otherwise would double rows."""
    place, path = Place(f"file:{tmp_path / 'lake'}", {}, tmp_path), tmp_path / "a.duckdb"
    with serve(dataset, profile=UNLIMITED) as simulator:
        backfill(place.settings(simulator))
    port = int(simulator.url.rpartition(":")[2])
    with serve(dataset, profile=replace(UNLIMITED, query_allowed=False), port=port) as simulator:
        backfill(place.settings(simulator).model_copy(update={"destination": duckdb_settings(path)}))
    with pytest.raises(DestinationUnusable, match="other windows"):
        copy.copy(1, DuckDBSink(path), place.lake())
