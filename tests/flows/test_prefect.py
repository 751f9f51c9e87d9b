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
from tests.flows.test_status_browser import CHROMIUM, FLAGS

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


@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_S)
def test_ui_shows_what_a_run_left(stack, tmp_path):
    """A real browser at Prefect's UI: the table, the coverage, the progress of a backfill, and a form for the parameters."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM.exists(), "make test-long installs it"
    before = {run["id"] for run in stack.runs("backfill-events")}
    span = ("-p", f"since={START.isoformat()}", "-p", f"until={END.isoformat()}")
    stack.prefect("deployment", "run", "backfill-events/backfill-events", *span)

    def ended() -> dict[str, object] | None:
        made = [run for run in stack.runs("backfill-events") if run["id"] not in before]
        return next((run for run in made if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")), None)

    run = stack.wait(ended, "the backfill ends", seconds=DEADLINE_S)
    assert run["state_type"] == "COMPLETED", run["state"]
    deployment = stack.ask("deployments/name/backfill-events/backfill-events")
    pages = {
        "artifacts": (
            "/artifacts",
            ["sync-events", "backfill-events", "project-1-events", "backfill-project-1-part-1"],
        ),
        "coverage": ("/artifacts/key/project-1-events", ["Project 1: 3,000 events", "verified 100 %", "█" * 60]),
        "table": ("/artifacts/key/sync-events", ["windows", "rows", "late", "requests", "waited (s)", "3000"]),
        "progress": ("/artifacts/key/backfill-project-1-part-1", ["100%"]),
        "run": (f"/runs/flow-run/{run['id']}", [str(run["name"]), "Completed"]),
        "form": (
            f"/deployments/deployment/{deployment['id']}/run",
            ["since", "until", "projects", "workers", "accept_deletions", "many at once"],
        ),
    }
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        shown = browser.new_page(viewport={"width": 1280, "height": 1400})
        for name, (path, words) in pages.items():
            shown.goto(f"{stack.ui}{path}")
            for word in words:
                shown.get_by_text(word, exact=False).first.wait_for(timeout=60_000)
            shown.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        browser.close()
