"""kill -9 at the n-th request or commit, then run again: the same table, and what was committed is not read again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import generate
from extractors.simulator.server import serve
from sinks.duckdb_file.sink import DuckDBSink
from sinks.sink import Sink
from tests import stores
from tests.flows.harness import UNLIMITED, landed, truth

START, END, NOW = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 7, 20))
ROOT = Path(__file__).parents[2]


class Killer:
    """Ends the child at the chosen request or commit."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.at: tuple[str, int] | None = None
        self.counts = {"request": 0, "commit": 0}
        self.peak_kb = 0

    def hear(self, what: str) -> None:
        self.counts[what] += 1
        if self.child is not None and self.at == (what, self.counts[what]):
            os.kill(self.child.pid, signal.SIGKILL)

    def hear_commit(self, name: str) -> None:
        self.peak_kb = max(self.peak_kb, int(name.split()[1]))
        self.hear("commit")

    def run(self, arguments: list[str], at: tuple[str, int] | None) -> int:
        """Start the child and wait for its end; its exit status."""
        self.at, self.counts = at, {"request": 0, "commit": 0}
        self.child = subprocess.Popen([sys.executable, "-m", "tests.flows.crash_child", *arguments], cwd=ROOT)
        return self.child.wait()


def kill_and_resume(
    events: int, kills: list[tuple[str, int]], directory: Path, *, address: str = "", sink: Sink | None = None
) -> tuple[int, int]:
    """Run with *kills*, then to the end; rows asked from the simulator and the peak memory of a child in MB.

    *address*, *sink*: the destination, as the child opens it and as it is read here; default: a DuckDB file.
    """
    dataset = generate(events=events, start=START, end=END, seed=11)
    killer = Killer()
    with serve(
        dataset,
        profile=UNLIMITED,
        now=lambda: NOW,
        on_request=lambda seen: killer.hear("request"),
        on_hook=killer.hear_commit,
    ) as simulator:
        address = address or f"duckdb:{directory / 'a.duckdb'}"
        arguments = [simulator.url, simulator.key, str(directory), address, START.isoformat(), END.isoformat()]
        for at in kills:
            assert killer.run(arguments, at) == -signal.SIGKILL
        assert killer.run(arguments, None) == 0
        asked = simulator.count("list")
    sink = sink or DuckDBSink(directory / "a.duckdb")
    for day in range((END - START).days):
        start, end = START + timedelta(days=day), START + timedelta(days=day + 1)
        assert landed(sink, start, end) == truth(dataset.events, start, end)
    assert len(landed(sink, START - timedelta(days=999), START)) == 0
    return asked * 1000, killer.peak_kb // 1024


def test_killed_sync_goes_on_where_it_stopped(tmp_path):
    """Killed at a request and at a commit, the next run ends with the source's rows."""
    kill_and_resume(15_000, [("request", 6), ("commit", 1), ("request", 4)], tmp_path)


def test_killed_sync_into_a_lake_goes_on_where_it_stopped(tmp_path):
    """The same with one Parquet file per window; no half file is ever among them."""
    kills = [("request", 6), ("commit", 1), ("request", 4)]
    lake = stores.local_lake(tmp_path / "lake")
    kill_and_resume(15_000, kills, tmp_path, address=f"file:{tmp_path / 'lake'}", sink=lake)

    assert {file.suffix for file in (tmp_path / "lake" / "events").rglob("*") if file.is_file()} == {".parquet"}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["duckdb", "local", "moto", "localbucket"])
def test_six_kills_on_300000_events(kind, request, tmp_path, monkeypatch):
    """Six kills: the same table, rows asked ≤ 1.5×, peak memory of the syncing process < 400 MB."""
    kills = [("request", 60), ("commit", 1), ("request", 80), ("commit", 2), ("request", 40), ("commit", 1)]
    address, sink = "", None
    if kind == "local":
        address, sink = f"file:{tmp_path / 'lake'}", stores.local_lake(tmp_path / "lake")
    elif kind != "duckdb":
        server = request.getfixturevalue(kind)
        bucket = stores.new_bucket(server)
        for name, value in stores.environment(server).items():
            monkeypatch.setenv(name, value)
        address, sink = f"s3://{bucket}/posthog", stores.s3_lake(server, bucket=bucket, prefix="posthog")
    asked, peak_mb = kill_and_resume(300_000, kills, tmp_path, address=address, sink=sink)
    print(f"rows asked {asked:,}, peak {peak_mb} MB")
    assert asked <= 450_000
    assert peak_mb < 400
