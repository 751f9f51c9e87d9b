"""`hedgerow events`: of which time and of which project it speaks."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.server import serve
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, sync

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)
FIRST = Event("00000000-0000-4000-8000-00000000f001", "first", "ann", START, "{}")
EARLIEST = [
    pytest.param([], (), [], id="without events"),
    pytest.param([FIRST], (), ["first"], id="the first one, too"),
    pytest.param([FIRST], ("--until", "2026-02-01"), [], id="until before the first"),
    pytest.param([FIRST], ("--until", "2026-03-01"), [], id="until the first"),
]


@pytest.mark.parametrize(("events", "until", "names"), EARLIEST)
def test_list_since_the_earliest_begins_with_the_first(events, until, names, hedgerow):
    """A start like any other: where nothing lies behind it the list is empty, and no mistake of the user's."""
    with serve(Dataset(events), profile=UNLIMITED) as running:
        done = hedgerow(running, "events", "list", "--since", "earliest", *until)

    assert (done.returncode, done.stderr) == (0, "")
    assert [row["event"] for row in json.loads(done.stdout)["results"]] == names


def test_list_without_since_has_the_24_hours_before_its_end(hedgerow):
    """As at PostHog, whatever the end is."""
    events = [
        replace(
            FIRST, uuid=f"00000000-0000-4000-8000-{hours:012}", event=f"{hours}", timestamp=END - timedelta(hours=hours)
        )
        for hours in (25, 23, 1)
    ]
    with serve(Dataset(events), profile=UNLIMITED) as running:
        done = hedgerow(running, "events", "list", "--until", END.isoformat())

    assert [row["event"] for row in json.loads(done.stdout)["results"]] == ["23", "1"]


def test_event_is_compared_with_its_own_project_alone(hedgerow, tmp_path):
    """Two projects may be sent the same event: what is landed of one is not landed of the other."""
    dataset = Dataset([FIRST])
    with serve({1: dataset, 2: dataset}, profile=UNLIMITED) as running:
        sync(running.url, running.key, DuckDBSink(tmp_path / "posthog.duckdb"), tmp_path, since=START, until=END)
        one, other = (hedgerow(running, "events", "get", FIRST.uuid, "--diff", "--project", name) for name in "12")

    assert (one.returncode, other.returncode) == (0, 3)
    assert "not landed: 0 rows" in other.stdout
