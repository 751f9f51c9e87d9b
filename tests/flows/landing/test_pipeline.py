"""The promise: the destination equals the source's truth, row by row, over real HTTP into a real DuckDB file."""

from __future__ import annotations

import random
import tempfile
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from extractors import errors
from extractors.filters import EventFilter
from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import KINDS, Fault, Faults
from extractors.simulator.server import serve
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.second_server.rows import Row
from tests.second_server.server import second_server

START = datetime(2026, 2, 27, tzinfo=UTC)
END = datetime(2026, 3, 3, tzinfo=UTC)
NOW = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(events=12_000, start=START, end=END, seed=5, tie_sizes=(1_000, 1_700, 2_600, 999))


def test_simulator_source_lands_every_event_once(dataset, tmp_path):
    """Ties larger than a page, odd properties and page edges: each event once; a second run asks one page and one query."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        again, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert outcome.complete
    assert (again.rows, again.windows, requests) == (0, 0, {"list": 1, "query": 1})


def test_second_server_source_lands_every_event_once(dataset, tmp_path):
    """The same against a server written from the facts by another hand."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain) for e in dataset.events]
    with second_server(rows, now=lambda: NOW) as server:
        sync(server.url, server.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["429", "500", "502html", "503", "504", "cut"])
def test_second_server_fault_loses_nothing(kind, dataset, tmp_path):
    """First transport faults of the second server: retried, halved or waited for; the table is whole."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain) for e in dataset.events]
    with second_server(rows, now=lambda: NOW, faults=dict.fromkeys((2, 5, 6, 11), kind)) as server:
        sync(server.url, server.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)


@pytest.mark.parametrize("kind", KINDS)
def test_simulator_fault_loses_nothing(kind, dataset, tmp_path):
    """Every transport fault, once by itself and twice in a row, costs requests and no event."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    faults = Faults([Fault(kind, at=(2, 6, 7, 15)), Fault(kind, endpoint="query", at=(1,))])
    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)


@pytest.mark.parametrize("kind", ["500", "502", "504", "cut"])
def test_lasting_fault_fails_by_name_and_keeps_what_is_landed(kind, dataset, tmp_path):
    """A server that never recovers ends the run with an error; windows landed before stay right, and the next run goes on."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    lasting = Faults([Fault(kind, at=tuple(range(12, 10_000)))])
    with (
        serve(dataset, profile=UNLIMITED, faults=lasting, now=lambda: NOW) as simulator,
        pytest.raises(errors.SourceUnavailable),
    ):
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
    kept = [entry for _, entry in sorted(sink.ledger(1, "events").entries.items())]
    assert landed(sink, START, END) == [
        row for one in kept for row in truth(dataset.events, one.covered_start, one.covered_end)
    ]
    assert kept

    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, port=int(simulator.url.rsplit(":", 1)[1])) as recovered:
        sync(recovered.url, recovered.key, sink, tmp_path, since=START, until=END)
    assert landed(sink, START, END) == truth(dataset.events, START, END)


@pytest.mark.parametrize(
    ("query", "hogql"), [(False, True), (True, False), (False, False)], ids=["no query", "no filter", "neither"]
)
def test_server_without_hogql_lands_every_event_or_says_which_microsecond(query, hogql, tmp_path):
    """Without /query or without HogQL filters ties larger than a page come whole, or the microsecond is named."""
    sink = MemorySink()
    dataset = generate(events=500, start=START, end=END, tie_sizes=(1_400,))
    profile = replace(UNLIMITED, query_allowed=query, hogql_filter_allowed=hogql)
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert bool(outcome.unproven) == (not query and not hogql)


@pytest.mark.parametrize("kind", ["504", "512", "513", "500", "cut", "reset"])
def test_passing_fault_in_less_than_a_second_is_no_end(kind, tmp_path):
    """A range too short to be halved, such as the last part of a run, is asked again."""
    since, until = START, START + timedelta(milliseconds=700)
    dataset = Dataset([Event(str(uuid.UUID(int=1)), "e", "d", START + timedelta(milliseconds=300), "{}")])
    sink = MemorySink()
    with serve(dataset, profile=UNLIMITED, faults=Faults([Fault(kind, at=(2, 3))]), now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=since, until=until)

    assert landed(sink, since, until) == truth(dataset.events, since, until)


def test_dense_events_cost_few_requests(tmp_path):
    """20,000 events without large ties: list requests ≤ 1.1 × ceil(rows/1000) + 5."""
    dataset = generate(events=20_000, start=START, end=END, seed=9)
    sink = MemorySink()
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

        assert simulator.count("list") <= 1.1 * 20 + 5


def test_three_almost_empty_years_cost_thirty_requests(tmp_path):
    """Empty years cost a handful of requests."""
    start = datetime(2023, 1, 1, tzinfo=UTC)
    dataset = generate(events=9, start=start, end=datetime(2026, 1, 1, tzinfo=UTC))
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=datetime(2026, 1, 1, tzinfo=UTC))

        assert len(simulator.requests) <= 30
    assert landed(sink, start, NOW) == truth(dataset.events, start, NOW)


def test_ranges_that_cut_windows_end_as_one(dataset, tmp_path):
    """A range that cuts a window lands its part; a later one that touches it replaces the hull; nothing is doubled."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    cut = START + timedelta(hours=30, microseconds=17)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=cut, until=cut + timedelta(hours=5))
        assert landed(sink, START, END) == truth(dataset.events, cut, cut + timedelta(hours=5))
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=cut)
        sync(simulator.url, simulator.key, sink, tmp_path, since=cut - timedelta(hours=1), until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)


def test_unsettled_windows_are_fed_by_tails_and_read_once_settled(tmp_path):
    """Syncs every few minutes read only the tail; late events of the settle time are caught; settled windows are whole."""
    dataset = generate(events=3_000, start=NOW - timedelta(hours=30), end=NOW + timedelta(hours=30), seed=3)
    visible, clock = Dataset(), NOW - timedelta(hours=1)
    rng = random.Random(4)
    sink = DuckDBSink(tmp_path / "a.duckdb")
    since = NOW - timedelta(hours=30)
    with serve(visible, profile=UNLIMITED, now=lambda: clock) as simulator:
        pending = [(event.timestamp + timedelta(seconds=rng.choice((1, 5, 400))), event) for event in dataset.events]
        for _ in range(8):
            clock += timedelta(minutes=25)
            visible.add(event for shown_at, event in pending if shown_at <= clock)
            pending = [(shown_at, event) for shown_at, event in pending if shown_at > clock]
            _, requests = sync(
                simulator.url,
                simulator.key,
                sink,
                tmp_path,
                since=None if sink.ledger(1, "events").mark else since,
                until=None,
            )
            assert landed(sink, since, clock) == truth(visible.events, since, clock)
        assert requests["list"] <= 4  # the clock, the tail, and the time-zone check of its first and last row
        clock = NOW + timedelta(hours=60)
        visible.add(event for _, event in pending)
        sync(simulator.url, simulator.key, sink, tmp_path, since=None, until=None)

    assert landed(sink, since, clock) == truth(dataset.events, since, clock)
    states = {
        entry.state for entry in sink.ledger(1, "events").entries.values() if entry.end < clock - timedelta(hours=1)
    }
    assert states == {State.VERIFIED}


@pytest.mark.parametrize("hogql", [True, False], ids=["asked", "dropped after reading"])
@pytest.mark.parametrize(
    "names",
    [
        EventFilter(include=("purchase",)),
        EventFilter(include=("purchase", "$pageview")),
        EventFilter(exclude=("$autocapture",)),
    ],
    ids=["one", "several", "exclude"],
)
def test_filter_lands_only_its_events(names, hogql, dataset, tmp_path):
    """`include` and `exclude` hold whether or not the server understands the filter."""
    sink = MemorySink()
    profile = replace(UNLIMITED, hogql_filter_allowed=hogql)
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END, events=names)

    passing = [
        e for e in dataset.events if (not names.include or e.event in names.include) and e.event not in names.exclude
    ]
    assert landed(sink, START, END) == truth(passing, START, END)


def test_rebuild_lands_everything_again_under_the_new_filter(dataset, tmp_path):
    """After --rebuild the rows are those of the new filter."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        sync(
            simulator.url,
            simulator.key,
            sink,
            tmp_path,
            since=START,
            until=END,
            events=EventFilter(("purchase",)),
            rebuild=True,
        )

    assert landed(sink, START, END) == truth([e for e in dataset.events if e.event == "purchase"], START, END)


def test_what_earlier_runs_left_is_landed_by_a_plain_sync(dataset, tmp_path):
    """Windows that a rebuild made stale, and open ones that have settled, lie before the mark: the next sync lands them too."""
    sink, pages = MemorySink(), EventFilter(("$pageview",))
    clock = START + timedelta(hours=30)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None)
        clock = NOW
        sync(simulator.url, simulator.key, sink, tmp_path, since=None, until=None, events=pages, rebuild=True)

    assert landed(sink, START, NOW) == truth([e for e in dataset.events if e.event == "$pageview"], START, NOW)
    assert {entry.state for entry in sink.ledger(1, "events").entries.values() if entry.end < NOW} == {State.VERIFIED}


moments = st.one_of(
    st.sampled_from([datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)]),
    st.integers(0, 3 * 86_400 * 10**6 - 1).map(
        lambda us: datetime(2024, 2, 28, tzinfo=UTC) + timedelta(microseconds=us)
    ),
    st.integers(0, 200).map(lambda s: datetime(2024, 2, 29, 12, tzinfo=UTC) + timedelta(seconds=s)),
)


# No shrinking: each example serves and syncs for real, and a red one should be told in seconds.
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(
    groups=st.lists(st.tuples(moments, st.integers(1, 9)), max_size=40),
    cap=st.integers(2, 7),
    edges=st.tuples(moments, moments).filter(lambda pair: pair[0] != pair[1]),
    seed=st.integers(0, 1000),
)
def test_any_dataset_any_page_any_range_is_landed_exactly(groups, cap, edges, seed):
    """Ties larger than a page, microsecond edges, midnight, leap day, ranges that cut windows: truth, row by row."""
    rng = random.Random(seed)
    events = [
        Event(str(uuid.UUID(int=rng.getrandbits(128))), f"e{i % 3}", f"d{i % 2}", at, f'{{"i":{i}}}')
        for at, size in groups
        for i in range(size)
    ]
    since, until = min(edges), max(edges)
    sink = MemorySink()
    with (
        tempfile.TemporaryDirectory() as directory,
        serve(Dataset(events), profile=replace(UNLIMITED, page_cap=cap), now=lambda: NOW) as simulator,
    ):
        outcome, _ = sync(simulator.url, simulator.key, sink, Path(directory), since=since, until=until)

    assert landed(sink, START - timedelta(days=9999), NOW) == truth(events, since, until)
    assert outcome.complete
