"""`hedgerow plan`: what it says beforehand is what the sync then does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.http.pacing import Limit, finished_in_s
from extractors.reading.events import Sample
from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.profiles import Profile
from extractors.simulator.server import Simulator, serve
from extractors.window import Range, Window
from flows.landing.plan import Sweep, Target
from flows.report import documents, results
from flows.runs import estimate, loads
from flows.runs.estimate import Estimate
from flows.runs.wiring import Listener
from flows.settings.load import load
from flows.settings.model import Settings
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.errors import FilterChanged
from tests.flows.harness import UNLIMITED

START, NOW = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def made(events: int, days: int, ties: tuple[int, ...] = (), *, seed: int = 4) -> Dataset:
    return generate(events=events, start=START, end=START + days * DAY, seed=seed, tie_sizes=ties)


def settings(simulator: Simulator, directory: Path, **more: object) -> Settings:
    flags: dict[str, object] = {
        "source.host": simulator.url,
        "source.key": simulator.key,
        "source.project_id": 1,
        "source.requests_per_minute": 10**6,
        "source.requests_per_hour": 10**6,
        "source.state_dir": directory / "state",
        "destination.address": f"duckdb:{directory / 'a.duckdb'}",
    }
    return load(flags | {name.replace("__", "."): value for name, value in more.items()}, directory=directory).settings


def planned(of: Settings, since: datetime, until: datetime) -> Estimate:
    return estimate.of_project(of, 1, since=since.isoformat(), until=until.isoformat(), listener=Listener())


CASES = [
    pytest.param((20_000, 3), START, START + 3 * DAY, id="dense"),
    pytest.param((5_000, 120), START, START + 120 * DAY, id="spread over 120 days"),
    pytest.param((300, 2), START - 700 * DAY, START + 300 * DAY, id="empty years"),
    pytest.param((9_000, 4), START + 7 * HOUR / 3, START + 3 * DAY + HOUR / 7, id="a range that cuts windows"),
    pytest.param((6_000, 4, (1_000, 2_400)), START, START + 4 * DAY, id="ties larger than a page"),
    pytest.param((0, 1), START, START + 30 * DAY, id="nothing"),
]


@pytest.mark.parametrize(("size", "since", "until"), CASES)
def test_plan_says_what_the_sync_then_does(size, since, until, tmp_path):
    """Rows and windows exactly, pages within a tenth and five, and it lands and makes nothing itself."""
    dataset = made(*size)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        of = settings(simulator, tmp_path)
        said = planned(of, since, until)
        cost = sum(simulator.statuses.values())
        untouched = not (tmp_path / "a.duckdb").exists()
        before = simulator.count("list")
        done = loads.load_events(of, 1, command="backfill", since=since.isoformat(), until=until.isoformat())
        asked = simulator.count("list") - before
        again = planned(of, since, until)

    assert (said.rows, said.rows_counted, sum(said.windows.values())) == (done.rows, True, done.windows)
    assert abs(asked - said.list_requests) <= 0.1 * asked + 5
    assert cost <= 8
    assert (said.download_bytes or 0) > 0 or not len(dataset)
    assert untouched
    assert (again.windows, again.rows, again.landed_windows) == ({}, 0, done.windows)


def test_landed_windows_are_not_counted_again(tmp_path):
    """Half of the range is there: the plan is for the other half."""
    dataset, middle, end = made(8_000, 10), START + 5 * DAY, START + 10 * DAY
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        of = settings(simulator, tmp_path)
        loads.load_events(of, 1, command="backfill", since=START.isoformat(), until=middle.isoformat())
        said = planned(of, START, end)

    assert said.rows == sum(event.timestamp >= middle for event in dataset.events)
    assert (sum(said.windows.values()), said.landed_windows) == (5, 5)


@pytest.mark.parametrize("first", [9, -2], ids=["range that holds some", "range that holds none"])
def test_windows_that_wait_to_be_landed_again_are_part_of_the_plan(first, tmp_path):
    """After a rebuild that was cut short a sync lands what is left wherever it is: the plan says so."""
    dataset, end = made(8_000, 10), START + 10 * DAY
    since, until = START + first * DAY, START + (first + 1) * DAY
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        of = settings(simulator, tmp_path)
        loads.load_events(of, 1, command="backfill", since=START.isoformat(), until=end.isoformat())
        DuckDBSink(tmp_path / "a.duckdb").prepare(1, "events", host=of.source.host, event_filter="", rebuild=True)
        said = planned(of, since, until)
        done = loads.load_events(of, 1, command="sync", since=since.isoformat(), until=until.isoformat())

    assert (said.rows, sum(said.windows.values()), said.landed_windows) == (len(dataset), done.windows, 0)
    assert done.rows == len(dataset)


def test_plan_refuses_what_the_sync_refuses(tmp_path):
    """Under another filter than the landed one there is nothing to plan: exit 2, as for the sync."""
    with serve(made(300, 2), profile=UNLIMITED, now=lambda: NOW) as simulator:
        loads.load_events(settings(simulator, tmp_path), 1, command="backfill", since=START.isoformat())
        changed = settings(simulator, tmp_path, events__include=("$pageview",))
        with pytest.raises(FilterChanged):
            planned(changed, START, START + DAY)
        with pytest.raises(FilterChanged):
            loads.load_events(changed, 1, command="backfill", since=START.isoformat())


def test_filter_is_part_of_the_plan(tmp_path):
    """Only the events of the stream are counted."""
    dataset = made(3_000, 3)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        said = planned(settings(simulator, tmp_path, events__include=("$pageview",)), START, START + 3 * DAY)

    assert said.rows == sum(event.event == "$pageview" for event in dataset.events)


REFUSING: list[tuple[Profile, int, int | None]] = [
    (replace(UNLIMITED, query_allowed=False), 700, 700),
    (replace(UNLIMITED, query_allowed=False), 5_000, None),
]


@pytest.mark.parametrize(("profile", "events", "rows"), REFUSING, ids=["one page", "many pages"])
def test_source_without_queries_leaves_rows_unknown_unless_a_page_holds_them(profile, events, rows, tmp_path):
    """What nobody counted is not made up: dates are a window each, as far as they prove to be empty; and no query is promised."""
    with serve(made(events, 3), profile=profile, now=lambda: NOW) as simulator:
        said = planned(settings(simulator, tmp_path), START, START + 3 * DAY)

    assert (said.rows, said.list_requests is None, said.seconds is None) == (rows, rows is None, rows is None)
    assert (said.windows, said.if_empty) == ({86400: 3}, 3)
    assert (said.query_requests, said.queries_refused) == (0, True)
    assert json.dumps(results.planned(said), default=documents.plain)


@pytest.mark.parametrize(("sweeps", "rows"), [(1, (7, True)), (2, (None, False))])
def test_a_page_counts_no_more_than_its_own_sweep(sweeps, rows):
    """Where queries are refused, what the first sweep holds is not all, if there are others."""
    asked = [sweep(1)] * sweeps
    work = estimate._Work([target for one in asked for target in one.targets], asked, None, [])

    assert estimate._rows(work, Sample(rows=7, wire_bytes=700, packed_bytes=300, whole=True)) == rows


def sweep(days: int, step: timedelta = DAY) -> Sweep:
    windows = [Window(START + n * step, START + (n + 1) * step) for n in range(days * DAY // step)]
    return Sweep(
        tuple(Target(w, Range(w.start, w.end), Range(w.start, w.end), State.LANDED, step, True, None) for w in windows)
    )


PAGES: list[tuple[str, int, Mapping[datetime, int], int]] = [
    ("nothing in a thousand days", 1000, {}, 11),
    ("one row a day", 64, {START + n * DAY: 1 for n in range(64)}, 7),
    ("exactly a page a day", 4, {START + n * DAY: 999 for n in range(4)}, 5),
    ("ten pages in an hour", 1, {START: 10_000}, 11),
]


@pytest.mark.parametrize(("days", "rows", "most"), [case[1:] for case in PAGES], ids=[case[0] for case in PAGES])
def test_pages_follow_the_reading_rule(days, rows, most):
    """Ranges double while they are empty and stay short where they are full."""
    least = max(1, sum(rows.values()) // 1000)

    assert least <= estimate.pages(sweep(days), rows) <= most


TIMES = [
    pytest.param([], 240, 0.0, 0.0, id="a minute's worth at once"),
    pytest.param([], 241, 0.0, 61.0, id="one more waits for the minute"),
    pytest.param([], 1201, 0.0, 3601.0, id="and for the hour"),
    pytest.param([30.0] * 240, 1, 0.0, 31.0, id="others have used the minute"),
    pytest.param([1800.0] * 1200, 1, 0.0, 1801.0, id="others have used the hour"),
    pytest.param([], 10, 2.0, 20.0, id="no limit reached"),
]


@pytest.mark.parametrize(("ages", "requests", "each_s", "seconds"), TIMES)
def test_time_under_the_limits(ages, requests, each_s, seconds):
    """As pacing will wait, margin included."""
    assert finished_in_s(ages, Limit(240, 1200), requests=requests, each_s=each_s) == pytest.approx(seconds, abs=0.5)
