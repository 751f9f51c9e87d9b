"""Rows that no type fits, by window: each is counted in one window and kept there once, whatever is read again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import place, steady

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
NOW = FIRST + 20 * DAY
DEEP = '{"a":' * 1_000 + "1" + "}" * 1_000  # more levels than are read
HOURLY = replace(UNLIMITED, query_allowed=False)  # nobody counts, so windows are an hour long
PLACES = [
    pytest.param("deep", 120, 12, 2, id="at a window's start"),
    pytest.param("deep", 90, 12, 1, id="in a window's midst"),
    pytest.param("deep", 0, 12, 0, id="the first row"),
    pytest.param("deep", 330, 12, 5, id="the last row"),
    pytest.param("naive", 120, 12, 1, id="without a time: with the row before it"),
    pytest.param("naive", 0, 12, 0, id="the first, without a time: with the row behind it"),
    pytest.param("naive", 0, 1, 0, id="no row has a time: in the first window"),
]


@pytest.mark.parametrize(("kind", "minute", "rows", "hour"), PLACES)
def test_row_is_in_quarantine_of_one_window(kind, minute, rows, hour, tmp_path):
    """That of its time, which begins it and does not end it; what a window counts of the source is what it holds."""
    dataset, sink = Dataset(steady(FIRST, FIRST + rows * 30 * MINUTE, every=30 * MINUTE)), MemorySink()
    (victim,) = (event for event in dataset.events if event.timestamp == FIRST + minute * MINUTE)
    faults = Faults([Fault(kind, rate=1.0, uuid=victim.uuid)])
    with serve(dataset, profile=HOURLY, faults=faults, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + 6 * HOUR)

    entries = [entry for _, entry in sorted(sink.ledger(1, "events").entries.items())]
    assert outcome.quarantined == 1
    assert [entry.tally.quarantined_rows for entry in entries] == [int(number == hour) for number in range(6)]
    assert [sink.rejects(entry).num_rows for entry in entries] == [int(number == hour) for number in range(6)]
    if kind == "deep":
        assert [entry.tally.source_rows for entry in entries] == [2] * 6


@pytest.mark.parametrize("kind", ["deep", "naive"])
def test_row_before_a_page_of_one_moment_is_in_quarantine(kind, tmp_path):
    """What could be typed of a full page shares one microsecond, which alone is asked again: the other row is not lost."""
    before, *many = steady(FIRST + HOUR, FIRST + HOUR + 60 * MINUTE, every=MINUTE)
    dataset = Dataset([before, *(replace(row, timestamp=FIRST + HOUR + MINUTE) for row in many)])
    faults = Faults([Fault(kind, rate=1.0, uuid=before.uuid)])
    with serve(dataset, profile=replace(HOURLY, page_cap=20), faults=faults, now=lambda: NOW) as simulator:
        outcome, _ = sync(
            simulator.url, simulator.key, MemorySink(), tmp_path, since=FIRST + HOUR, until=FIRST + 3 * HOUR
        )

    assert (outcome.quarantined, outcome.rows) == (1, 59)


@pytest.mark.parametrize(
    ("kind", "profile"), [("memory", HOURLY), ("lake", UNLIMITED)], ids=["hours", "a day, in a lake"]
)
def test_quarantine_of_an_open_window_is_kept_once(kind, profile, tmp_path):
    """A row of its settled part, one at the edge of its tail, and one that comes: each once by every sync, until it is whole."""
    rows = steady(FIRST, FIRST + 4 * HOUR, every=10 * MINUTE)
    at = [FIRST + minutes * MINUTE for minutes in (20, 30, 40, 150)]
    dataset = Dataset([replace(row, properties=DEEP) if row.timestamp in at else row for row in rows])
    others, sink, told = [row for row in rows if row.timestamp not in at], place(kind, tmp_path), []
    clock = FIRST + 40 * MINUTE
    with serve(dataset, profile=profile, now=lambda: clock) as simulator:
        for wait in (10 * MINUTE, 2 * DAY, DAY):
            sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=None)
            entries = sink.ledger(1, "events").entries.values()
            told.append(sorted(moment for entry in entries for moment in sink.rejects(entry)["at"].to_pylist()))
            assert sum(entry.tally.quarantined_rows for entry in entries) == len(told[-1])
            assert sum(entry.tally.source_rows for entry in entries) == sum(row.timestamp < clock for row in rows)
            assert landed(sink, FIRST, clock) == truth(others, FIRST, clock)
            clock += wait

    assert told == [at[:2], at[:3], at]
