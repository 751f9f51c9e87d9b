"""`make soak`: half an hour of syncs against a source that goes on filling, late events and passing faults included."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from flows.runs import loads
from flows.settings.load import load
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, truth

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("HEDGEROW_SOAK_SECONDS", "1800"))
TICK_S = 2.0
MIB = 2**20


def fill(dataset: Dataset, stopped: threading.Event) -> None:
    """Events of the moment every tick, some of them up to three days late, until *stopped*."""
    rng, number = random.Random(5), 0
    while not stopped.wait(TICK_S):
        now, made = datetime.now(UTC), []
        for _ in range(40):
            number += 1
            age = timedelta(days=3 * rng.random()) if rng.random() < 0.05 else timedelta(seconds=TICK_S * rng.random())
            made.append(
                Event(f"cccccccc-0000-4000-8000-{number:012x}", "live", f"user-{number % 99}", now - age, "{}", "", now)
            )
        dataset.add(made)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_memory_and_open_files_stay_flat(tmp_path):
    """A process that syncs all the time holds no more at the end than early on, and ends with the source's rows."""
    now = datetime.now(UTC)
    dataset = generate(events=30_000, start=now - timedelta(days=29), end=now, seed=3)
    faults = Faults([Fault(kind, rate=0.01, endpoint="any") for kind in ("502", "504", "cut", "reset")])
    stopped, ahead = threading.Event(), [timedelta(0)]
    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: datetime.now(UTC) + ahead[0]) as simulator:
        filling = threading.Thread(target=fill, args=(dataset, stopped), daemon=True)
        filling.start()
        arguments = [simulator.url, simulator.key, str(tmp_path), str(SECONDS)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.flows.soak_child", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        stopped.set()
        filling.join()
        assert done.returncode == 0, done.stderr[-2000:]
        held = [json.loads(line) for line in done.stdout.splitlines()]
        ahead[0] = timedelta(days=1, hours=1)  # by then every window has settled, and was read in full
        last_sync(simulator.url, simulator.key, tmp_path)

    early, late = held[len(held) // 4 : len(held) // 2], held[3 * len(held) // 4 :]
    middle = {name: [statistics.median(one[name] for one in part) for part in (early, late)] for name in held[0]}
    print(f"{len(held)} syncs, {sum(one['rows'] for one in held):,} rows, {sum(one['late'] for one in held):,} late")
    print({name: values for name, values in middle.items() if name in ("rss", "files", "threads")})
    assert middle["rss"][1] <= middle["rss"][0] * 1.1 + 16 * MIB
    assert middle["files"][1] <= middle["files"][0]
    assert middle["threads"][1] <= middle["threads"][0]
    start, end = now - timedelta(days=30), datetime.now(UTC) + timedelta(days=1)
    assert landed(DuckDBSink(tmp_path / "a.duckdb"), start, end) == truth(dataset.events, start, end)


def last_sync(url: str, key: str, directory: Path) -> None:
    flags: dict[str, object] = {
        "source.host": url,
        "source.key": key,
        "source.project_id": 1,
        # As an hour later: half an hour without pause has used the look-back's share of queries, which it would wait for.
        "source.state_dir": directory / "later",
        "source.requests_per_minute": 10**6,
        "source.requests_per_hour": 10**6,
        "destination.address": f"duckdb:{directory / 'a.duckdb'}",
    }
    report = loads.load_events(load(flags, directory=directory).settings, 1, command="sync")
    assert report.problems == ()
    assert not [note for note in report.notes if "left to the next run" in note]
