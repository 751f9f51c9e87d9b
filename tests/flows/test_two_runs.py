"""Two runs at once over one destination: both end well, whoever is first with which window, and no event is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from extractors.simulator.dataset import generate
from extractors.simulator.server import RequestSeen, serve
from tests.flows.harness import UNLIMITED, landed, truth
from tests.flows.places import place

START, END, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
DEADLINE_S = 90
SILENT = replace(UNLIMITED, query_allowed=False)


class InStep:
    """Holds every list request back until both processes have one under way, or one of them has ended."""

    def __init__(self) -> None:
        self._gate = threading.Condition()
        self._waiting = 0
        self._round = 0
        self.apart = False

    def __call__(self, seen: RequestSeen) -> None:
        if seen.endpoint != "list":
            return
        with self._gate:
            self._waiting += 1
            if self._waiting == 2:
                self._waiting = 0
                self._round += 1
                self._gate.notify_all()
                return
            mine = self._round
            self._gate.wait_for(lambda: self._round != mine or self.apart, timeout=DEADLINE_S)
            if self._round == mine:
                self._waiting -= 1

    def part(self) -> None:
        with self._gate:
            self.apart = True
            self._gate.notify_all()


@pytest.mark.parametrize("profile", [UNLIMITED, SILENT], ids=["counted", "not counted"])
@pytest.mark.parametrize("kind", ["duckdb", "lake"])
def test_two_syncs_at_once_both_end_well(kind, profile, tmp_path):
    """Two processes begin the same first sync and ask page for page at the same time: exit 0 both, and the source's rows."""
    dataset = generate(events=12_000, start=START, end=END, seed=31)
    address = f"duckdb:{tmp_path / 'a.duckdb'}" if kind == "duckdb" else f"file:{tmp_path / 'lake'}"
    in_step = InStep()
    with serve(dataset, profile=profile, now=lambda: NOW, on_request=in_step) as simulator:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PROJECT_ID": "1",
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "HEDGEROW_DESTINATION": address,
            "HEDGEROW_STATE_DIR": str(tmp_path / "state"),
        }
        command = [
            sys.executable,
            "-m",
            "flows.cli",
            "sync",
            "events",
            "--since",
            "2026-03-01",
            "--until",
            "2026-03-11",
        ]
        runs = [
            subprocess.Popen(
                [*command, "--json"],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        ended = threading.Thread(target=lambda: (_first(runs), in_step.part()))
        ended.start()
        said = [run.communicate(timeout=DEADLINE_S) for run in runs]
        ended.join()

    assert [run.returncode for run in runs] == [0, 0], said
    rows = [json.loads(out)["runs"][0]["rows"] for out, _ in said]
    print(rows, [json.loads(out)["runs"][0]["requests"] for out, _ in said])
    assert sum(rows) == len(dataset)
    assert landed(place(kind, tmp_path), START, END) == truth(dataset.events, START, END)


def _first(runs: list[subprocess.Popen[str]]) -> None:
    """Wait until one of them has ended."""
    ended = threading.Event()
    for run in runs:
        threading.Thread(target=lambda run=run: (run.wait(), ended.set()), daemon=True).start()
    ended.wait(DEADLINE_S)
