"""A real Prefect server, worker and schedule: what the flows do there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.dataset import Dataset, generate
from extractors.simulator.server import serve
from flows.local import Stack
from sinks.duckdb_file import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, truth

DEADLINE_S = 300
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START, END = NOW - timedelta(days=3), NOW - timedelta(hours=1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(events=3_000, start=START, end=END, seed=7)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("destination") / "posthog.duckdb"


@pytest.fixture(scope="module")
def stack(dataset: Dataset, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Server, deployments and a worker; sync-events is due every 20 s."""
    with serve(dataset, profile=UNLIMITED) as simulator:
        settings = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "POSTHOG_PROJECT_ID": "1",
            "HEDGEROW_DESTINATION": f"duckdb:{database}",
        }
        with Stack(tmp_path_factory.mktemp("prefect"), settings, every_s=20) as running:
            yield running


@pytest.mark.timeout(2 * DEADLINE_S)
def test_scheduled_run_completes(stack, dataset, database):
    """A run that the schedule made, and nobody else, lands the source's events and leaves what people look at."""

    def done() -> dict[str, object] | None:
        made = [run for run in stack.runs("sync-events") if run["auto_scheduled"]]
        assert [run["state"] for run in made if run["state_type"] == "FAILED"] == []
        return next((run for run in made if run["state_type"] == "COMPLETED"), None)

    run = stack.wait(done, "a scheduled run completes", seconds=DEADLINE_S, process="worker-1")
    left = stack.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    steps = stack.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})

    assert landed(DuckDBSink(database), START, END) == truth(dataset.events, START, END)
    assert run["name"] == "project 1 · up to now"
    assert {one["key"]: one["type"] for one in left} == {"sync-events": "table", "project-1-events": "markdown"}
    assert {one["state_type"] for one in steps} == {"COMPLETED"}
    assert sorted(one["name"].rpartition(" · ")[2] for one in steps)[-1] == "look-back"
