"""Two runs of anything at once, as processes: both end with 0, and all is landed once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.assets.lists import ListStore
from extractors.simulator.assets.lists import stores as lists
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from tests.flows.assets.test_assets import CSV, FREE, NOW
from tests.flows.places import steady
from tests.program import surroundings

pytestmark = pytest.mark.long  # each command is a process
DEADLINE_S = 240
HOUR = timedelta(hours=1)
EVENTS = steady(NOW - 100 * HOUR, NOW - HOUR, every=HOUR)
LISTS = ("sync", "exports", "evaluations", "annotations")
PAIRS = [
    pytest.param(LISTS, LISTS, ("duckdb",), id="everything beside events, in a file"),
    pytest.param(LISTS, LISTS, ("file",), id="everything beside events, in a lake"),
    pytest.param(("sync",), ("backfill", "--since", "7d"), ("duckdb", "file"), id="backfill"),
    pytest.param(("sync",), ("verify", "--repair"), ("duckdb", "file"), id="repair"),
    pytest.param(("sync",), ("copy",), ("duckdb", "file"), id="copy"),
]


@dataclass(frozen=True, slots=True)
class Home:
    """Where processes run, with the settings of one destination."""

    directory: Path
    environment: dict[str, str]

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        if command == ("copy",):
            command = (*command, "--from", self.environment["HEDGEROW_DESTINATION"], "--to", "duckdb:copied.duckdb")
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli.app", *command, "--quiet"],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def made(exports: int) -> tuple[ExportStore, EvaluationStore, dict[str, ListStore]]:
    """Assets of a project; an order of an export takes a while."""
    store, judges, listed = ExportStore(blocks_s=1.0), EvaluationStore(), lists()
    for number in range(exports):
        store.add("text/csv", NOW - timedelta(minutes=number + 1), content=Blob.of(CSV))
    for number in range(3):
        judges.add(f"judge {number}", NOW - timedelta(days=1))
        listed["annotations"].add(NOW - timedelta(days=1), content=f"note {number}")
    return store, judges, listed


@pytest.mark.parametrize(("one", "other", "kinds"), PAIRS)
def test_two_runs_at_once_both_end_with_0(one, other, kinds, tmp_path):
    """Whoever is first with which table, order or window."""
    for kind in kinds:
        directory = tmp_path / kind
        directory.mkdir()
        (directory / "hedgerow.toml").write_text('[[exports.snapshot]]\nname = "weekly"\ninsight = 7\n')
        store, judges, listed = made(12)
        with serve(Dataset(EVENTS), profile=FREE, exports=store, evaluations=judges, lists=listed) as source:
            home = Home(
                directory,
                surroundings(
                    directory,
                    POSTHOG_HOST=source.url,
                    POSTHOG_PROJECT_ID="1",
                    POSTHOG_PERSONAL_API_KEY=source.key,
                    HEDGEROW_DESTINATION=f"{kind}:{directory / 'here'}",
                    HEDGEROW_STATE_DIR=str(directory / "state"),
                ),
            )
            if other[0] in ("verify", "copy"):
                home.start(("sync", "events", "--since", "7d", "--until", "2d")).communicate(timeout=DEADLINE_S)
            runs = [home.start(one), home.start(other)]
            said = [run.communicate(timeout=DEADLINE_S) for run in runs]
            assert [run.returncode for run in runs] == [0, 0], said
            counted = home.start(("sql", COUNTS if one == LISTS else EVENTS_THERE, "--csv")).communicate(
                timeout=DEADLINE_S
            )
        assert counted[0].splitlines()[1:] == (["12,2,14,3,3"] if one == LISTS else [f"{len(EVENTS)},{len(EVENTS)}"])


COUNTS = """SELECT (SELECT count(*) FROM exports WHERE id <= 12 AND content_rows = 2),
(SELECT count(DISTINCT _export_id) FROM weekly), (SELECT count(*) FROM exports),
(SELECT count(*) FROM evaluations), (SELECT count(*) FROM annotations)"""
EVENTS_THERE = "SELECT count(*), count(DISTINCT uuid) FROM events"
