"""Every kind of server, and rows that no type fits: landed, quarantined or refused, never dropped in silence."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from extractors import errors
from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import ROW_KINDS, Fault, Faults
from extractors.simulator.profiles import (
    CLOUD,
    OLD_2021,
    OLD_2023,
    SELF_HOSTED,
    SERVER_2023_12,
    TIMEZONE_FAULT,
    Profile,
)
from extractors.simulator.server import serve
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.memory import MemorySink
from tests.flows.harness import landed, sync, truth
from tests.planned import AtRequest
from tests.second_server.events import rewritten
from tests.second_server.rows import Row
from tests.second_server.server import second_server

START, END, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
FREE = replace(CLOUD, per_minute=None, per_hour=None, query_per_minute=None, query_per_hour=None)
WITHOUT_QUERY = [
    pytest.param(replace(FREE, query_allowed=False, query_refused_with=status), id=f"query answers {status}")
    for status in (403, 404, 500)
]
SERVERS = [
    pytest.param(FREE, id="cloud"),
    pytest.param(replace(FREE, project_timezone="Asia/Kathmandu"), id="cloud in another zone"),
    pytest.param(SELF_HOSTED, id="self-hosted"),
    pytest.param(OLD_2023, id="1.43 of 2023"),
    pytest.param(replace(SERVER_2023_12, project_timezone="Europe/Berlin"), id="December 2023"),
    pytest.param(replace(OLD_2023, query_allowed=False, query_refused_with=404), id="1.43 without query"),
    pytest.param(replace(FREE, prefixes=("projects",)), id="projects only"),
    pytest.param(replace(FREE, prefixes=("environments",)), id="environments only"),
    *WITHOUT_QUERY,
]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(events=6_000, start=START, end=END, seed=15, tie_sizes=(1_000, 1_300))


@pytest.mark.parametrize("profile", SERVERS)
def test_every_server_lands_every_event_once(profile: Profile, dataset, tmp_path):
    """Page caps, prefixes, zones and refusals of /query are learned; the table is the source's."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert outcome.complete
    states = {entry.shown for entry in sink.ledger(1, "events").entries.values()}
    assert states == {State.VERIFIED if profile.query_allowed else State.LANDED}


@pytest.mark.parametrize("year", [2026, 2023])
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 30))])
def test_both_servers_come_to_the_same_ledger(seed, year, tmp_path):
    """Two servers by two hands, the same events: the same rows, windows, digests and verified states."""
    sizes = [random.Random(seed).choice((999, 1_000, 1_001, 2_100)) for _ in range(seed % 3)]
    made = generate(events=1_500 * (seed % 4), start=START, end=END, seed=seed, tie_sizes=sizes)
    rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain) for e in made.events]
    if year == 2023:  # when both would show the same text: the second writes numbers anew, as those servers did
        rows = rewritten(rows)
        texts = zip(made.events, rows, strict=True)
        made = Dataset([replace(event, properties=row.properties) for event, row in texts])
    first, second = MemorySink(), MemorySink()
    with serve(made, profile=FREE if year == 2026 else OLD_2023, now=lambda: NOW) as server:
        sync(server.url, server.key, first, tmp_path, since=START, until=END)
    with second_server(rows, now=lambda: NOW, older=year == 2023) as other:
        sync(other.url, other.key, second, tmp_path, since=START, until=END)

    def told(sink: MemorySink) -> list[tuple[object, ...]]:
        entries = sorted(sink.ledger(1, "events").entries.values(), key=lambda entry: entry.start)
        return [(entry.start, entry.end, entry.state, entry.tally) for entry in entries]

    assert landed(first, START, END) == landed(second, START, END) == truth(made.events, START, END)
    assert told(first) == told(second)
    assert {entry.state for entry in second.ledger(1, "events").entries.values()} == {State.VERIFIED}


@pytest.mark.parametrize(
    ("profile", "error", "words"),
    [
        pytest.param(OLD_2021, errors.UnusableAnswer, "numbers its events", id="1.30: no uuids"),
        pytest.param(TIMEZONE_FAULT, errors.UnusableAnswer, "outside the range|local times", id="wrong zone labels"),
        pytest.param(
            replace(TIMEZONE_FAULT, page_cap=500), errors.TimeZoneFault, "local times as UTC", id="small pages"
        ),
    ],
)
def test_server_that_cannot_be_trusted_is_refused(profile, error, words, dataset, tmp_path):
    """The error names the fault, and nothing is landed from it."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator, pytest.raises(error, match=words):
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == []


@pytest.mark.parametrize("kind", [kind for kind in ROW_KINDS if kind not in ("stray-row", "nan")])
@pytest.mark.parametrize("place", ["first", "middle", "in a tie", "last"])
def test_row_that_cannot_be_typed_is_quarantined(kind, place, dataset, tmp_path):
    """It goes to hedgerow.quarantine with reason and text, once, is counted, and every other row is landed."""
    shared = Counter(event.uuid for event in dataset.events)
    alone = [event for event in dataset.events if shared[event.uuid] == 1]
    tied = next(event for event in alone if event.event == "bulk import")
    victim = {"first": alone[0], "middle": alone[1_500], "in a tie": tied, "last": alone[-1]}[place]
    sink = DuckDBSink(tmp_path / "a.duckdb")
    faults = Faults([Fault(kind, rate=1.0, uuid=victim.uuid)])
    with serve(dataset, profile=FREE, faults=faults, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        again, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    others = [event for event in dataset.events if event.uuid != victim.uuid]
    assert landed(sink, START, END) == truth(others, START, END)
    assert (outcome.quarantined, outcome.complete) == (1, False)
    with duckdb.connect(str(sink.path), read_only=True) as db:
        kept = db.execute("SELECT reason, text, window_start FROM hedgerow.quarantine").fetchall()
    assert [bool(reason) and victim.uuid in text for reason, text, _ in kept] == [True]
    assert again.windows == 0


def test_number_that_json_has_no_word_for_lands_to_the_letter(dataset, tmp_path):
    """Nothing goes to quarantine, every window is compared with the source and verified, DuckDB reads the number."""
    victim = dataset.events[1_500]
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(
        dataset, profile=FREE, faults=Faults([Fault("nan", rate=1.0, uuid=victim.uuid)]), now=lambda: NOW
    ) as old:
        outcome, _ = sync(old.url, old.key, sink, tmp_path, since=START, until=END)

    with duckdb.connect(str(sink.path), read_only=True) as db:
        words = db.execute(
            "SELECT properties->>'/$damaged', properties::VARCHAR FROM events WHERE uuid = ?", [victim.uuid]
        )
        rows = [row for row in words.fetchall() if row[0]]
        states = db.execute("SELECT DISTINCT state FROM hedgerow.windows").fetchall()
    assert (outcome.quarantined, outcome.complete, states) == (0, True, [("verified",)])
    assert rows == [("NaN", victim.properties.replace("{", '{"$damaged":NaN,', 1))]


def test_quarantined_row_is_landed_by_a_rebuild_once_it_can_be_read(dataset, tmp_path):
    """When the server is mended, --rebuild empties the quarantine."""
    victim = dataset.events[1_500].uuid
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(dataset, profile=FREE, faults=Faults([Fault("deep", rate=1.0, uuid=victim)]), now=lambda: NOW) as broken:
        sync(broken.url, broken.key, sink, tmp_path, since=START, until=END)
    with serve(dataset, profile=FREE, now=lambda: NOW, port=int(broken.url.rsplit(":", 1)[1])) as mended:
        outcome, _ = sync(mended.url, mended.key, sink, tmp_path, since=START, until=END, rebuild=True)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert outcome.complete
    with duckdb.connect(str(sink.path), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM hedgerow.quarantine").fetchone() == (0,)


def test_row_outside_the_range_asked_ends_the_run(dataset, tmp_path):
    """A server that ignores a bound cannot be trusted with the rest: exit 11, and its page is not landed."""
    sink = MemorySink()
    faults = Faults([Fault("stray-row", at=(7,))])
    with (
        serve(dataset, profile=FREE, faults=faults, now=lambda: NOW) as simulator,
        pytest.raises(errors.UnusableAnswer, match="outside the range asked"),
    ):
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    kept = [entry for _, entry in sorted(sink.ledger(1, "events").entries.items())]
    assert landed(sink, START, END) == [
        row for one in kept for row in truth(dataset.events, one.covered_start, one.covered_end)
    ]
    assert kept


def test_unmerged_copies_become_one_row(tmp_path):
    """Equal copies: one row and nothing to say. Different ones: one row, and the window says so."""
    dataset = generate(events=3_000, start=START, end=END, seed=16)
    equal, different = dataset.events[100], dataset.events[2_000]
    dataset.copy([equal.uuid], times=2)
    dataset.copy([different.uuid], properties='{"copy":1}')
    sink = MemorySink()
    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    rows = landed(sink, START, END)
    assert len(rows) == 3_000
    assert [row[:4] for row in rows] == [row[:4] for row in truth(merged(dataset), START, END)]
    window = sink.ledger(1, "events").entries[outcome.unmerged[0]]
    assert (window.shown, window.start <= different.timestamp < window.end) == (State.UNMERGED, True)


def merged(dataset: Dataset) -> list[Event]:
    return list({event.identity: event for event in dataset.events}.values())


def test_rows_that_appear_between_two_pages_are_landed_where_the_reading_comes_by(tmp_path):
    """Late rows ahead of the cursor are read, at the page edge too; none makes another row vanish or double."""
    dataset = generate(events=4_000, start=START, end=END, seed=17)
    late = generate(events=40, start=START + timedelta(hours=60), end=END, seed=18).events
    edge = [
        replace(late[0], uuid=f"00000000-0000-4000-8000-{n:012x}", timestamp=dataset.events[1_999].timestamp)
        for n in range(3)
    ]

    sink, appear = MemorySink(), AtRequest(3, lambda: dataset.add([*late, *edge]))
    with serve(dataset, profile=FREE, now=lambda: NOW, on_request=appear) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(dataset.events, START, END)


@pytest.mark.long
def test_a_gibibyte_of_large_events_is_landed(tmp_path):
    """1,000 events of 1 MiB each: bodies over the bound are asked for in smaller pages; memory stays bounded."""
    filler = "x" * (2**20 - 200)
    events = [
        Event(
            f"00000000-0000-4000-8000-{n:012x}",
            "large",
            "d",
            START + timedelta(minutes=n),
            f'{{"n":{n},"x":"{filler}"}}',
        )
        for n in range(1_000)
    ]
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with serve(Dataset(events), profile=FREE, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    with sink.query("SELECT count(*), count(DISTINCT uuid), min(strlen(properties)) FROM events") as result:
        assert result.fetchall() == [(1_000, 1_000, len(events[0].properties))]
    assert outcome.complete
