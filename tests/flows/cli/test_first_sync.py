"""A first sync lands the last days, and says what it leaves at the source, and which command brings it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.server import Simulator, serve
from tests.flows.harness import UNLIMITED

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def events(*ages: timedelta) -> Dataset:
    """An event of each age."""
    dataset = generate(events=len(ages), start=NOW - DAY, end=NOW, seed=7)
    made = [replace(event, timestamp=NOW - age) for event, age in zip(dataset.events, ages, strict=True)]
    return Dataset(made)


OLD, RECENT, COMING = events(90 * DAY, 60 * DAY, DAY), events(2 * DAY, DAY), events(DAY, -5 * DAY)
BEFORE = "not landed: 2 events before, from 2025-12-20T12:00:00Z on: hedgerow backfill --since earliest"
AFTER = "not landed: 1 event stamped later than now, up to 2026-03-25T12:00:00Z: a sync lands them when that has come"
OLDER = "not landed: older events, from 2025-12-20T12:00:00Z on: hedgerow backfill --since earliest"
WITHOUT_QUERIES = replace(UNLIMITED, query_allowed=False)

CASES = [
    pytest.param(OLD, UNLIMITED, (), BEFORE, id="older ones"),
    pytest.param(COMING, UNLIMITED, (), AFTER, id="stamped in the future"),
    pytest.param(OLD, WITHOUT_QUERIES, (), OLDER, id="older ones, which the source does not count"),
    pytest.param(RECENT, UNLIMITED, (), "", id="nothing is left"),
    pytest.param(RECENT, WITHOUT_QUERIES, (), "", id="nothing is left, and nothing is counted"),
    pytest.param(OLD, UNLIMITED, ("--since", "7d"), "", id="the user named a start"),
    pytest.param(RECENT, UNLIMITED, ("--until", "2026-03-19"), "", id="the user named an end"),
]


@pytest.mark.parametrize(("dataset", "profile", "more", "said"), CASES)
def test_a_first_sync_says_what_it_leaves(dataset, profile, more, said, hedgerow):
    """Count and first time, or that there are older ones; exit 0 all the same, and the second sync says it no more."""
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        first, second = (notes(hedgerow, simulator, "sync", "events", *more) for _ in range(2))

    assert [note for note in first if "not landed" in note] == ([said] if said else [])
    assert [note for note in second if "not landed" in note] == []


@pytest.fixture
def older() -> Iterator[Simulator]:
    with serve(OLD, profile=UNLIMITED, now=lambda: NOW) as running:
        yield running


def test_the_command_that_is_named_brings_the_rest(older, hedgerow):
    """After it all is landed, and verify knows of nothing outside."""
    notes(hedgerow, older, "sync", "events")
    notes(hedgerow, older, "backfill", "--since", "earliest")
    done = hedgerow(older, "verify", "--json")
    (told,) = json.loads(done.stdout)["projects"]

    assert (done.returncode, told["outside"]) == (0, [])


def test_a_sync_after_a_backfill_counts_what_neither_landed(older, hedgerow):
    """What a backfill has landed is not left out."""
    notes(hedgerow, older, "backfill", "--since", "earliest", "--until", "2026-01-25")
    said = notes(hedgerow, older, "sync", "events")

    assert [note for note in said if "not landed" in note] == []


def notes(hedgerow, simulator: Simulator, *arguments: str) -> list[str]:
    """What a run of events says beside its result."""
    done = hedgerow(simulator, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["problems"] == []
    return list(run["notes"])
