"""Workers and flows that are killed, cancelled, doubled: the next run finishes from the ledger, and no run stays running."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from flows.orchestration.automations import HEARTBEAT, WITHIN
from flows.orchestration.local import Stack
from sinks.duckdb_file.sink import DuckDBSink
from sinks.lake.sink import LakeSink
from sinks.objects.local import LocalObjects
from sinks.sink import Sink
from tests.flows.harness import UNLIMITED, landed, truth

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

DEADLINE_S = 300
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 21, tzinfo=UTC)
RANGE = {"since": START.isoformat(), "until": END.isoformat()}
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Run:
    """A run that was asked for, of a real server."""

    stack: Stack
    id: str

    def state(self) -> dict[str, str]:
        found = self.stack.ask(f"flow_runs/{self.id}")
        return {"type": found["state"]["type"], "message": found["state"]["message"] or ""}

    def ended(self, *, seconds: float = DEADLINE_S) -> dict[str, str]:
        self.stack.wait(lambda: self.state()["type"] in FINAL, f"run {self.id} ends", seconds=seconds)
        return self.state()

    def running(self) -> None:
        self.stack.wait(lambda: self.state()["type"] == "RUNNING", f"run {self.id} runs", seconds=DEADLINE_S)

    @property
    def processes(self) -> list[int]:
        """The processes that run the flow."""
        found = [pid for pid, run_id in self.stack.ours().items() if run_id == self.id]
        assert found
        return found

    def kill(self) -> None:
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def worker(self) -> str:
        """The worker that started the flow."""
        parents = {psutil.Process(pid).ppid() for pid in self.processes}
        return next(name for name, process in self.stack.processes.items() if process.pid in parents)


def launch(stack: Stack, name: str, parameters: dict[str, object], **environment: str) -> Run:
    """Ask for a run of a deployment, with an environment of its own."""
    deployment = stack.ask(f"deployments/name/{name}/{name}")
    variables = {"env": deployment["job_variables"]["env"] | environment}
    made = stack.ask(
        f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters, "job_variables": variables}
    )
    return Run(stack, made["id"])


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(events=20_000, start=START, end=END, seed=7)


@pytest.fixture(scope="module")
def stack(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prefect and a worker; the source takes a second for an answer, so that a run lasts some twenty."""
    slow = Faults([Fault("slow-first-byte", rate=1.0, seconds=1.0)])
    with serve(dataset, profile=UNLIMITED, faults=slow) as simulator:
        settings = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "POSTHOG_PROJECT_ID": "1",
            "HEDGEROW_DESTINATION": "file:/nowhere",
        }
        with Stack(tmp_path_factory.mktemp("prefect"), settings, workers=2, limit=6) as running:
            yield running


@pytest.fixture
def workers(stack: Stack) -> Iterator[Stack]:
    """The stack with all its workers alive again afterwards."""
    yield stack
    for name in ("worker-1", "worker-2"):
        if stack.processes[name].poll() is not None:
            stack.start(name)


def opened(path: Path) -> LakeSink:
    """A lake as it is now."""
    return LakeSink(LocalObjects(path, "lake"))


@pytest.fixture
def lake(tmp_path: Path) -> LakeSink:
    return opened(tmp_path / "lake")


def whole(path: Path, dataset: Dataset) -> bool:
    """Whether a lake holds the source's rows, each once."""
    return landed(opened(path), START, END) == truth(dataset.events, START, END)


def part(lake_path: Path, stack: Stack, name: str = "1 of 1", **environment: str) -> Run:
    """A backfill of the whole range, of the deployment that lets several run at once."""
    parameters = RANGE | {"project_id": 1, "name": name, "share": 1.0}
    return launch(stack, "backfill-events-part", parameters, HEDGEROW_DESTINATION=f"file:{lake_path}", **environment)


def some_windows(sink: Sink, run: Run) -> int:
    """Wait until a few windows are committed; how many."""
    return run.stack.wait(lambda: max(0, len(sink.ledger(1, "events").entries) - 2), "windows are landed") + 2


def test_three_deployments_share_one_file(stack, dataset, tmp_path):
    """Sync, verification and backfill at once on one DuckDB file wait for each other where they land, and all complete."""
    database = tmp_path / "posthog.duckdb"
    here = {"HEDGEROW_DESTINATION": f"duckdb:{database}"}
    middle = (START + timedelta(days=10)).isoformat()
    first = launch(stack, "sync-events", {"since": middle, "until": END.isoformat()}, **here)
    assert first.ended()["type"] == "COMPLETED", first.state()

    together = [
        launch(stack, "sync-events", {}, **here),
        launch(stack, "verify-events", {}, **here),
        launch(stack, "backfill-events", {"since": START.isoformat(), "until": middle}, **here),
    ]
    assert [run.ended()["type"] for run in together] == ["COMPLETED"] * 3, [run.state() for run in together]
    assert landed(DuckDBSink(database), START, END) == truth(dataset.events, START, END)


def test_cancel_ends_soon_and_keeps_what_is_landed(stack, dataset, lake, tmp_path):
    """As the UI cancels: within a minute, with every committed window, an entry in the history, and a next run that ends it.

    The progress artifact says where it stopped.
    """
    run = part(tmp_path / "lake", stack)
    before = some_windows(lake, run)
    began = time.monotonic()
    stack.ask(f"flow_runs/{run.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    state = run.ended(seconds=60)
    print(f"cancelled after {time.monotonic() - began:.1f} s")

    assert state["type"] == "CANCELLED"
    held = lake.ledger(1, "events").entries
    assert before <= len(held) < 20
    left = stack.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run.id]}}})
    shown = re.match(r"Project 1: stopped at (\d+) of 20 windows", left[0]["description"])
    assert (len(left), left[0]["type"]) == (1, "progress")
    assert 1 <= int(shown[1]) <= len(held)
    assert left[0]["data"] == 5.0 * int(shown[1])
    assert lake.runs(1, limit=1)[0].outcome == "interrupted"
    again = part(tmp_path / "lake", stack)
    assert again.ended()["type"] == "COMPLETED", again.state()
    assert whole(tmp_path / "lake", dataset)
    kept = lake.ledger(1, "events").entries
    assert all(kept[start].read_at == entry.read_at for start, entry in held.items())


def test_killed_flow_is_crashed_by_its_worker(stack, dataset, lake, tmp_path):
    """The worker sees its flow die; the next run goes on from what is landed."""
    run = part(tmp_path / "lake", stack)
    some_windows(lake, run)
    began = time.monotonic()
    run.kill()
    state = run.ended(seconds=60)
    print(f"crashed after {time.monotonic() - began:.1f} s: {state['message']}")

    assert state["type"] == "CRASHED"
    held = lake.ledger(1, "events").entries
    again = part(tmp_path / "lake", stack)
    assert again.ended()["type"] == "COMPLETED", again.state()
    assert whole(tmp_path / "lake", dataset)
    kept = lake.ledger(1, "events").entries
    assert all(kept[start].read_at == entry.read_at for start, entry in held.items())


def test_orphan_and_its_successor_leave_one_truth(workers, dataset, lake, tmp_path):
    """The worker dies and its flow lives on for a while (until its next line of log finds no reader): a second run of the
    same range loses and doubles nothing."""
    run = part(tmp_path / "lake", workers)
    some_windows(lake, run)
    name = run.worker
    workers.processes[name].kill()
    workers.processes[name].wait()
    assert run.processes
    workers.start(name)
    second = part(tmp_path / "lake", workers)
    assert second.ended()["type"] in ("COMPLETED", "FAILED"), second.state()
    print(f"the orphan {run.ended()}, its successor {second.state()}")

    third = part(tmp_path / "lake", workers)
    assert third.ended()["type"] == "COMPLETED", third.state()
    assert whole(tmp_path / "lake", dataset)


def test_zombie_is_marked_and_its_place_comes_free(workers, dataset, lake, tmp_path):
    """Flow and worker die together: the shipped automation says so after three heartbeats, and a run that lives is left
    alone; the run that waited for the place then finishes what the dead one began."""
    slower = Faults([Fault("slow-first-byte", rate=1.0, seconds=7.0)])
    with serve(dataset, profile=UNLIMITED, faults=slower) as source:
        alive = part(tmp_path / "other", workers, POSTHOG_HOST=source.url)
        alive.running()
        other = workers.processes[alive.worker]
        other.send_signal(signal.SIGSTOP)  # it takes no more runs meanwhile
        zombie = launch(workers, "backfill-events", RANGE, HEDGEROW_DESTINATION=f"file:{tmp_path / 'lake'}")
        some_windows(lake, zombie)
        workers.processes[zombie.worker].kill()
        zombie.kill()
        began = time.monotonic()
        other.send_signal(signal.SIGCONT)
        waiting = launch(workers, "backfill-events", RANGE, HEDGEROW_DESTINATION=f"file:{tmp_path / 'lake'}")
        assert zombie.state()["type"] == "RUNNING"
        state = zombie.ended()
        marked_s = time.monotonic() - began
        print(f"marked after {marked_s:.0f} s: {state['message']}")
        assert alive.state()["type"] == "RUNNING"
        assert waiting.ended()["type"] == "COMPLETED", waiting.state()
        print(f"the next one completed after {time.monotonic() - began:.0f} s")
        assert whole(tmp_path / "lake", dataset)

        assert state["type"] == "CRASHED"
        assert WITHIN.total_seconds() - HEARTBEAT.total_seconds() <= marked_s <= 2 * WITHIN.total_seconds()
        assert alive.ended()["type"] == "COMPLETED", alive.state()
    assert whole(tmp_path / "other", dataset)


def test_run_outlives_a_restart_of_the_server(stack, dataset, tmp_path):
    """A server that is killed and comes back does not end a run, though that renews its place while it works."""
    slower = Faults([Fault("slow-first-byte", rate=1.0, seconds=13.0)])
    with serve(dataset, profile=UNLIMITED, faults=slower) as source:
        here = {"HEDGEROW_DESTINATION": f"file:{tmp_path / 'lake'}", "POSTHOG_HOST": source.url}
        run = launch(stack, "backfill-events", RANGE, **here)
        run.running()
        stack.wait(lambda: opened(tmp_path / "lake").ledger(1, "events").entries, "a window is landed")
        stack.processes["server"].kill()
        stack.processes["server"].wait()
        stack.start("server")
        stack.wait(stack.answers, "the server is back")
        state = run.ended(seconds=2 * DEADLINE_S)
        lasted = float(stack.ask(f"flow_runs/{run.id}")["total_run_time"])

    print(f"the run lasted {lasted:.0f} s")
    assert state["type"] == "COMPLETED", state
    assert lasted > 250  # so that a lease of 300 s was renewed
    assert whole(tmp_path / "lake", dataset)


def test_silent_run_is_buried_where_the_automations_missed_it(workers, dataset, tmp_path):
    """Without them: what has shown no sign of life is marked by the next run that looks; what lives is left alone."""
    listed = workers.ask("automations/filter", {})
    for one in listed:
        workers.prefect("automation", "pause", "--id", one["id"])
    look = "from datetime import timedelta; from uuid import uuid4; from flows.orchestration.automations import mark_crashed; "
    look += "print([str(found) for found in mark_crashed(uuid4(), after=timedelta(seconds=45))])"
    slower = Faults([Fault("slow-first-byte", rate=1.0, seconds=7.0)])
    try:
        with serve(dataset, profile=UNLIMITED, faults=slower) as source:
            alive = part(tmp_path / "alive", workers, POSTHOG_HOST=source.url)
            alive.running()
            workers.processes[alive.worker].send_signal(signal.SIGSTOP)
            dead = part(tmp_path / "dead", workers)
            some_windows(opened(tmp_path / "dead"), dead)
            workers.processes[dead.worker].kill()
            dead.kill()
            workers.processes[alive.worker].send_signal(signal.SIGCONT)
            found: list[str] = []

            def buried() -> bool:
                found.append(workers.command(sys.executable, "-c", look))
                return dead.id in found[-1]

            workers.wait(buried, "the dead run is found", seconds=120)
            assert dead.state()["type"] == "CRASHED"
            assert not any(alive.id in one for one in found)
            assert alive.ended()["type"] == "COMPLETED", alive.state()
    finally:
        for one in listed:
            workers.prefect("automation", "resume", "--id", one["id"])
