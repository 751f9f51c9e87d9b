"""`make soak`: a schedule on a server with PostgreSQL, and every minute one process of ours is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from flows.orchestration.local import NotReady, Stack, free_port
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, truth
from tests.flows.test_soak import fill

SECONDS = float(os.environ.get("HEDGEROW_SOAK_SECONDS", "900"))
KILL_EVERY_S, SCHEDULE_S = 60, 120
UNFINISHED = {"RUNNING", "PENDING", "CANCELLING"}


@contextmanager
def postgres() -> Iterator[str]:
    """A new cluster of Debian's PostgreSQL on loopback; the address of its database, as Prefect takes it."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    home, port = Path(tempfile.mkdtemp(prefix="hedgerow-postgres-")), free_port()
    shutil.chown(home, "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []

    def run(*command: str) -> None:
        subprocess.run([*as_postgres, *command], check=True, capture_output=True, cwd="/")

    data = str(home / "data")
    run(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "prefect")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        run(str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def supervise(stack: Stack, stopped: threading.Event) -> None:
    """Start again what has died, as systemd would."""
    while not stopped.wait(1):
        for name, process in list(stack.processes.items()):
            if process.poll() is not None:
                stack.start(name)


def flow_processes(stack: Stack) -> list[int]:
    """Processes of ours that run a flow."""
    return [pid for pid, run_id in stack.ours().items() if run_id]


def kill_one(stack: Stack, rng: random.Random, until: float) -> str:
    """Kill -9 a process of ours at random; what it was. A flow is waited for, since it runs for seconds only."""
    kind = rng.choice(["server", "worker-1", "flow", "flow", "worker-1 and flow"])
    while "flow" in kind:
        running = flow_processes(stack)
        if running:
            time.sleep(15 * rng.random())
            break
        if time.monotonic() > until:
            kind = rng.choice(["server", "worker-1"])
        time.sleep(0.1)
    if "worker-1" in kind:
        stack.processes["worker-1"].kill()
    for pid in flow_processes(stack) if "flow" in kind else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if kind == "server":
        stack.processes["server"].kill()
    return kind


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 1800)
def test_a_schedule_survives_a_kill_every_minute(tmp_path):
    """In the end one more run makes the destination the source, and no run is still said to be running."""
    now = datetime.now(UTC)
    dataset = generate(events=10_000, start=now - timedelta(days=29), end=now, seed=3)
    database, rng = tmp_path / "posthog.duckdb", random.Random(11)
    slow = Faults([Fault("slow-first-byte", rate=1.0, seconds=2.0), Fault("502", rate=0.02, endpoint="any")])
    ahead, stopped, filled = [timedelta(0)], threading.Event(), threading.Event()
    killed: Counter[str] = Counter()
    with (
        postgres() as address,
        serve(dataset, profile=UNLIMITED, faults=slow, now=lambda: datetime.now(UTC) + ahead[0]) as simulator,
    ):
        settings = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "POSTHOG_PROJECT_ID": "1",
            "HEDGEROW_DESTINATION": f"duckdb:{database}",
        }
        with Stack(tmp_path / "prefect", settings, database=address, every_s=SCHEDULE_S) as stack:
            threads = [
                threading.Thread(target=fill, args=(dataset, filled), daemon=True),
                threading.Thread(target=supervise, args=(stack, stopped), daemon=True),
            ]
            for thread in threads:
                thread.start()
            end = time.monotonic() + SECONDS
            while (began := time.monotonic()) < end:
                killed[kill_one(stack, rng, began + KILL_EVERY_S)] += 1
                time.sleep(max(0.0, began + KILL_EVERY_S - time.monotonic()))
            filled.set()
            threads[0].join()
            ahead[0] = timedelta(days=1, hours=1)  # by then every window has settled
            began = time.monotonic()
            stack.wait(stack.answers, "the server answers again")

            unfinished: list[tuple[object, ...]] = []

            def all_ended() -> bool:
                unfinished[:] = [
                    (run["id"], run["state_name"], run["state"]["timestamp"])
                    for run in stack.runs()
                    if run["state_type"] in UNFINISHED
                ]
                return not unfinished

            with suppress(NotReady):
                stack.wait(all_ended, "no run stays unfinished", seconds=900)
            assert unfinished == [], f"killed {killed}"
            quiet_s = time.monotonic() - began
            before = {run["id"] for run in stack.runs("sync-events")}
            stack.prefect("deployment", "run", "sync-events/sync-events")

            def one_more() -> dict[str, object] | None:
                new = [run for run in stack.runs("sync-events") if run["id"] not in before]
                return next((run for run in new if run["state_type"] == "COMPLETED"), None)

            stack.wait(one_more, "one more run completes", seconds=600)
            states = Counter(str(run["state_name"]) for run in stack.runs())
            stopped.set()
            threads[1].join()

    print(f"killed {dict(killed)}; runs {dict(states)}; all ended {quiet_s:.0f} s after the last kill")
    print(f"{len(dataset):,} events, {sum(1 for event in dataset.events if event.event == 'live'):,} of them live")
    start, end_at = now - timedelta(days=30), datetime.now(UTC) + timedelta(days=1)
    assert landed(DuckDBSink(database), start, end_at) == truth(dataset.events, start, end_at)
    assert states["Crashed"] > 0
