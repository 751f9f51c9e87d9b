"""A real Prefect server, worker and schedule: what the flows do there."""

from __future__ import annotations

import re
import shutil
import stat
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import duckdb
import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.server import serve
from flows.orchestration.artifacts import Alert
from flows.orchestration.local import ROOT, NotReady, Stack
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, truth
from tests.flows.orchestration.test_prefect_crash import launch
from tests.flows.report.test_status_browser import CHROMIUM, FLAGS

DEADLINE_S = 300
KEY = "phx_of-the-block"
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
    """Server, deployments and a worker; sync-events is due every 20 s. The key lies in a Secret block and nowhere else."""
    with serve(dataset, profile=UNLIMITED, key=KEY) as simulator:
        settings = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PROJECT_ID": "1",
            "HEDGEROW_DESTINATION": f"duckdb:{database}",
        }
        with Stack(tmp_path_factory.mktemp("prefect"), settings, workers=0, every_s=20) as running:
            save = f"from prefect.blocks.system import Secret; Secret(value='{KEY}').save('posthog-personal-api-key')"
            running.command(sys.executable, "-c", save)
            running.start("worker-1")
            yield running


@pytest.mark.timeout(2 * DEADLINE_S)
def test_scheduled_run_completes(stack, dataset, database):
    """A run that the schedule made, and nobody else, lands the source's events and leaves what people look at.

    Its files are the owner's alone, without a command line that sees to it.
    """

    def done() -> dict[str, object] | None:
        made = [run for run in stack.runs("sync-events") if run["auto_scheduled"]]
        assert [run["state"] for run in made if run["state_type"] == "FAILED"] == []
        return next((run for run in made if run["state_type"] == "COMPLETED"), None)

    run = stack.wait(done, "a scheduled run completes", seconds=DEADLINE_S, process="worker-1")
    left = stack.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    steps = stack.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})

    assert landed(DuckDBSink(database), START, END) == truth(dataset.events, START, END)
    made = [database, *(path for path in (stack.home / "state").rglob("*") if path.is_file())]
    assert len(made) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert run["name"] == "project 1 · up to now"
    assert re.fullmatch(r"3,000 events landed in [\d,]+ windows, [\d,]+ windows verified", run["state"]["message"])
    assert {one["key"]: one["type"] for one in left} == {"sync-events": "table", "project-1-events": "markdown"}
    assert {one["state_type"] for one in steps} == {"COMPLETED"}
    assert sorted(one["name"].rpartition(" · ")[2] for one in steps)[-1] == "look-back"
    said = str([stack.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}}), run, left, steps])
    said += (stack.home / "worker-1.log").read_text(encoding="utf-8")
    assert re.search(rf"landed project=1 windows=\d+ since=\S+ until=\S+ rows=\d+ run={run['id']}", said)
    assert KEY not in said


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

    def left() -> dict[str, str] | None:
        found = {one["key"]: one for one in stack.ask("artifacts/latest/filter", {})}
        synced = {run["id"] for run in stack.runs("sync-events")}
        # A backfill leaves the project's page too, which shows three days of thirty until a sync has ended.
        if "sync-events" not in found or found["project-1-events"]["flow_run_id"] not in synced:
            return None
        return {key: one["latest_id"] for key, one in found.items()}

    ids = stack.wait(left, "a scheduled sync leaves its table and the project's page", seconds=DEADLINE_S)
    pages = {
        "artifacts": (
            "/artifacts",
            ["sync-events", "backfill-events", "project-1-events", "backfill-project-1-part-1"],
        ),
        "coverage": (
            f"/artifacts/artifact/{ids['project-1-events']}",
            ["Project 1: 3,000 events", "verified", "█" * 50],
        ),
        "table": (
            f"/artifacts/artifact/{ids['sync-events']}",
            ["windows", "rows", "late", "requests", "waited (s)"],
        ),
        "progress": (f"/artifacts/artifact/{ids['backfill-project-1-part-1']}", ["100%"]),
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
            try:
                for word in words:
                    shown.get_by_text(word, exact=False).first.wait_for(timeout=60_000)
            finally:
                shown.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        browser.close()


class Heard(BaseHTTPRequestHandler):
    """A webhook that keeps what it is told."""

    told: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_S)
def test_automations_are_made_once_and_tell_of_differences(stack):
    """Made twice they are the same three; what cannot be is said; an event's words arrive through the block."""
    webhook = HTTPServer(("127.0.0.1", 0), Heard)
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{webhook.server_port}/"
    block = "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
    block += f"Block(name='team', url='{address}', json_data={{'text': '{{{{body}}}}', 'title': '{{{{subject}}}}'}}, "
    block += "allow_private_urls=True).save('team')"
    try:
        stack.command(sys.executable, "-c", block)
        said = [
            stack.command(sys.executable, "-m", "flows.orchestration.automations", "--notify", "custom-webhook/team")
            for _ in (1, 2)
        ]
        with pytest.raises(NotReady, match="there is no block slack-webhook/none"):
            stack.command(sys.executable, "-m", "flows.orchestration.automations", "--notify", "slack-webhook/none")
        with pytest.raises(NotReady, match="does not notify"):
            stack.command(
                sys.executable, "-m", "flows.orchestration.automations", "--notify", "secret/posthog-personal-api-key"
            )
        alert = Alert("hedgerow.difference", 1, "events", ("the window at noon differs",), START, END)
        event = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": alert.event,
            "resource": {"prefect.resource.id": "hedgerow.project.1", "prefect.resource.name": "project 1"},
            "payload": alert.payload("4711"),
            "id": str(uuid.uuid4()),
        }

        def heard() -> list[str]:
            # The server takes a moment to know an automation that is new.
            stack.ask("events", [event | {"id": str(uuid.uuid4()), "occurred": datetime.now(UTC).isoformat()}])
            return [text for text in Heard.told if "the window at noon differs" in text]

        text = stack.wait(heard, "the notification arrives", seconds=DEADLINE_S)[0]
    finally:
        webhook.shutdown()

    assert said[0].count("brought up to date") == 2  # the stack made those
    assert said[0].count("made: ") == 1
    assert said[1].count("brought up to date") == 3
    assert len(stack.ask("automations/filter", {})) == 3
    for word in ("hedgerow.difference", "project 1", "events", "4711"):
        assert word in text


@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_S)
def test_difference_fails_the_run_and_is_an_event(stack, database, dataset, tmp_path):
    """Damage by hand: verify-events ends as Incomplete, in words and without a traceback, and says so to automations."""
    damaged = tmp_path / "damaged.duckdb"
    here = {"HEDGEROW_DESTINATION": f"duckdb:{damaged}"}
    span = {"since": START.isoformat(), "until": END.isoformat()}
    assert launch(stack, "backfill-events", span, **here).ended()["type"] == "COMPLETED"
    with duckdb.connect(str(damaged)) as db:
        db.execute("DELETE FROM events WHERE uuid = (SELECT min(uuid) FROM events)")
    run = launch(stack, "verify-events", {}, **here)
    state = run.ended()
    logs = stack.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run.id]}}})

    def told() -> list[dict[str, object]]:
        found = stack.ask("events/filter", {"filter": {"event": {"name": ["hedgerow.difference"]}}})
        return [one for one in found["events"] if one["payload"].get("flow_run") == run.id]

    event = stack.wait(told, "the event arrives", seconds=60)[0]

    assert stack.ask(f"flow_runs/{run.id}")["state"]["name"] == "Incomplete"
    assert "not as landed: 1 window" in state["message"]
    assert not [one["message"] for one in logs if "Traceback" in one["message"]]
    assert event["resource"]["prefect.resource.id"] == "hedgerow.project.1"
    assert any("not as landed" in problem for problem in event["payload"]["problems"])


@pytest.mark.long
@pytest.mark.timeout(2 * DEADLINE_S)
def test_worker_with_its_checkout_elsewhere_runs_the_deployments(stack, tmp_path):
    """The pull step takes the worker's HEDGEROW_HOME, not that of whoever deployed; without it the run says what to set."""
    elsewhere = tmp_path / "checkout"
    for room in ("flows", "extractors", "transforms", "sinks"):
        shutil.copytree(ROOT / room, elsewhere / room, ignore=shutil.ignore_patterns("__pycache__"))
    here = {"HEDGEROW_DESTINATION": "duckdb:here.duckdb"}
    stack.processes["worker-1"].terminate()
    stack.processes["worker-1"].wait()
    try:
        stack.start("worker-2", {"HEDGEROW_HOME": str(elsewhere)})
        assert launch(stack, "sync-evaluations", {}, **here).ended()["type"] == "COMPLETED"
        assert (elsewhere / "here.duckdb").exists()

        stack.processes["worker-2"].terminate()
        stack.processes["worker-2"].wait()
        stack.start("worker-2", {"HEDGEROW_HOME": ""})
        lost = launch(stack, "sync-evaluations", {}, **here)
        state = lost.ended()
    finally:
        stack.processes["worker-2"].terminate()
        stack.start("worker-1")
    assert state["type"] == "FAILED"
    assert state["message"].startswith("HEDGEROW_HOME is not set on this worker → set HEDGEROW_HOME")
