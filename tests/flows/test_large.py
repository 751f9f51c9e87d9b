"""Requests are the scarce thing: what 100,000 events cost, on both servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.server import serve
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.second_server.rows import Row
from tests.second_server.server import second_server

START, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
Served = Iterator[tuple[str, str, Callable[[], int]]]


@contextmanager
def first(dataset: Dataset) -> Served:
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as server:
        yield server.url, server.key, lambda: server.count("list")


@contextmanager
def second(dataset: Dataset) -> Served:
    rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain) for e in dataset.events]
    with second_server(rows, now=lambda: NOW) as server:
        yield server.url, server.key, lambda: server.list_requests


@pytest.mark.long
@pytest.mark.parametrize("days", [2, 30], ids=["dense", "spread over 30 days"])
@pytest.mark.parametrize("server", [first, second], ids=["simulator", "second server"])
def test_100000_events_cost_few_list_requests(server, days, tmp_path):
    """List requests ≤ 1.1 × ceil(rows/1000) + 5, and every row is there."""
    end = datetime(2026, 3, days + 1 if days < 30 else 31, tzinfo=UTC)
    dataset = generate(events=100_000, start=START, end=end, seed=31)
    sink = DuckDBSink(tmp_path / "a.duckdb")
    with server(dataset) as (url, key, requests):
        sync(url, key, sink, tmp_path, since=START, until=end)
        asked = requests()

    print(f"{asked} list requests for 100,000 events")
    assert asked <= 1.1 * 100 + 5
    assert landed(sink, START, end) == truth(dataset.events, START, end)
