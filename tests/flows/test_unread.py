"""Events that the source cannot serve: everything else is landed, they are named, and they cost minutes, not hours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors import errors
from extractors.simulator.dataset import MICROSECOND, Dataset, Event, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.profiles import OLD_2023, SELF_HOSTED
from extractors.simulator.server import serve
from flows import pipeline
from sinks.ledger import State
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth, verify

START, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
NOW = datetime(2026, 3, 10, tzinfo=UTC)
NO_QUERY = replace(UNLIMITED, query_allowed=False)


def poisoned(number: int, at: datetime) -> Event:
    """An event whose properties are no object: no page with it is served."""
    return Event(f"ffffffff-0000-4000-8000-{number:012x}", "bad", "b", at, '["no","object"]')


def spread(count: int) -> list[Event]:
    """Events that are not served, over the day, at odd microseconds."""
    return [poisoned(n, START + (END - START) * (2 * n + 1) / (2 * count) + 7 * n * MICROSECOND) for n in range(count)]


def healthy(dataset: Dataset) -> list[Event]:
    return [event for event in dataset.events if event.event != "bad"]


def moments(outcome: pipeline.Outcome) -> list[datetime]:
    return sorted(at for found in outcome.unserved.values() for at in found)


def with_bad(events: int, bad: Sequence[Event], *, tie_sizes: Sequence[int] = ()) -> Dataset:
    dataset = generate(events=events, start=START, end=END, tie_sizes=tie_sizes)
    dataset.add(bad)
    return dataset


@pytest.mark.parametrize("profile", [UNLIMITED, NO_QUERY, replace(OLD_2023, query_allowed=False)], ids=["cloud", "no query", "2023"])
def test_rows_that_cannot_be_served_are_named_and_all_else_lands(profile, tmp_path):
    """Each is found to the microsecond by some sixty requests at most, and nothing beside it is missing."""
    bad, sink = spread(3), MemorySink()
    dataset = with_bad(1_500, bad)
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(healthy(dataset), START, END)
    assert moments(outcome) == [event.timestamp for event in bad]
    assert not outcome.complete
    assert requests["list"] < 20 + 3 * 60
