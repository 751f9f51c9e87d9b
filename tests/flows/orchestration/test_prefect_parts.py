"""A backfill cut into parts: on several workers, on a pool with one place, on a Dask cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from flows.orchestration.local import Stack, free_port
from tests.flows.harness import UNLIMITED
from tests.flows.orchestration.test_prefect_crash import END, RANGE, START, Run, launch, opened, whole

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(events=60_000, start=START, end=END, seed=7)


@pytest.fixture(scope="module")
def stack(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers with one place each; the source has no limits, and takes a second for an answer."""
    slow = Faults([Fault("slow-first-byte", rate=1.0, seconds=1.0)])
    with serve(dataset, profile=UNLIMITED, faults=slow) as simulator:
        settings = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "POSTHOG_PROJECT_ID": "1",
        }
        with Stack(tmp_path_factory.mktemp("prefect"), settings, workers=2, limit=1) as running:
            yield running


def backfill(stack: Stack, lake: Path, **parameters: object) -> Run:
    # A budget of its own: what an earlier run has asked is not this one's.
    state = str(lake.with_name(f"{lake.name}-state"))
    return launch(
        stack, "backfill-events", RANGE | parameters, HEDGEROW_DESTINATION=f"file:{lake}", HEDGEROW_STATE_DIR=state
    )


def seconds(run: Run) -> float:
    found = run.stack.ask(f"flow_runs/{run.id}")
    return float(found["total_run_time"])


def rows(lake: Path) -> list[tuple[object, ...]]:
    held = opened(lake).rows(1, START - timedelta(days=1), END + timedelta(days=1))
    return sorted(zip(*(held[name].to_pylist() for name in held.column_names if name != "_loaded_at"), strict=True))


def test_two_workers_land_what_one_does_and_sooner(stack, dataset, tmp_path):
    """The same rows, window by window; with a slow source that bears it, in less time."""
    one = backfill(stack, tmp_path / "one")
    assert one.ended()["type"] == "COMPLETED", one.state()
    two = backfill(stack, tmp_path / "two", workers=2)
    assert two.ended()["type"] == "COMPLETED", two.state()
    parts = stack.runs("backfill-events-part")
    print(f"one worker {seconds(one):.1f} s, two {seconds(two):.1f} s: {seconds(one) / seconds(two):.2f} times as fast")

    assert whole(tmp_path / "two", dataset)
    assert rows(tmp_path / "two") == rows(tmp_path / "one")
    digests = [
        {start: entry.tally for start, entry in opened(tmp_path / name).ledger(1, "events").entries.items()}
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]
    assert [part["state_type"] for part in parts] == ["COMPLETED"]
    assert seconds(one) / seconds(two) > 1.3


def test_a_pool_with_one_place_is_slow_and_not_stuck(stack, dataset, tmp_path):
    """The run that holds the only place takes back the part that nobody took up."""
    worker = stack.processes["worker-2"]
    worker.terminate()
    worker.wait()
    try:
        run = backfill(stack, tmp_path / "lake", workers=2)
        assert run.ended()["type"] == "COMPLETED", run.state()
    finally:
        stack.start("worker-2")

    assert whole(tmp_path / "lake", dataset)
    assert stack.runs("backfill-events-part")[-1]["state_type"] == "CANCELLED"


def test_cancelling_cancels_the_parts(stack, tmp_path):
    """Nothing goes on in the name of a backfill that was ended."""
    run = backfill(stack, tmp_path / "lake", workers=2)

    def working() -> dict[str, object] | None:
        return next((part for part in stack.runs("backfill-events-part") if part["state_type"] == "RUNNING"), None)

    part = Run(stack, str(stack.wait(working, "a part runs")["id"]))
    stack.ask(f"flow_runs/{run.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    assert run.ended(seconds=60)["type"] == "CANCELLED"
    assert part.ended(seconds=60)["type"] == "CANCELLED"


def test_a_failed_part_is_named(stack, tmp_path):
    """The backfill is as incomplete as its parts are."""
    run = backfill(stack, tmp_path / "lake", workers=2)

    def working() -> dict[str, object] | None:
        return next((part for part in stack.runs("backfill-events-part") if part["state_type"] == "RUNNING"), None)

    part = Run(stack, str(stack.wait(working, "a part runs")["id"]))
    part.kill()
    state = run.ended()

    assert state["type"] == "FAILED"
    assert "part 2 of 2" in state["message"]
    assert "crashed" in state["message"]


def test_dask_lands_the_same(stack, dataset, tmp_path):
    """The parts as tasks on a cluster of two Dask workers."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    environment = stack.environment | {"HEDGEROW_DESTINATION": f"file:{tmp_path / 'lake'}"}
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
    with ExitStack() as processes:
        for command in (
            ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            ["worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
        ):
            process = processes.enter_context(subprocess.Popen([*dask, *command], **quiet))
            processes.callback(process.kill)
        run = backfill(stack, tmp_path / "lake", workers=2, dask=address)
        assert run.ended()["type"] == "COMPLETED", run.state()

    print(f"on Dask {seconds(run):.1f} s")
    assert whole(tmp_path / "lake", dataset)
