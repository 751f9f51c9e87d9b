"""Two runs at once over one destination: both end well, whoever is first with which window, and no event is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from extractors.simulator.data.dataset import generate
from extractors.simulator.server import RequestSeen, serve
from flows.landing import crossing
from flows.landing.crossing import Crossings
from sinks.entries import Entry, Landing
from sinks.errors import GenerationConflict
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import place
from tests.program import surroundings

START, END, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
DEADLINE_S = 90
SILENT = replace(UNLIMITED, query_allowed=False, page_cap=500)


class InStep:
    """Holds list requests back until both processes have one under way: so often, and until one of them has ended."""

    def __init__(self, often: int = 24) -> None:
        self._often = often
        self._gate = threading.Condition()
        self._waiting = 0
        self._round = 0
        self.apart = False

    def __call__(self, seen: RequestSeen) -> None:
        if seen.endpoint != "list":
            return
        with self._gate:
            if self.apart:
                return
            self._waiting += 1
            if self._waiting == 2:
                self._waiting = 0
                self._round += 1
                self.apart = self._round == self._often
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


@pytest.mark.parametrize("kind", ["duckdb", pytest.param("lake", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "profile",
    [pytest.param(SILENT, id="not counted"), pytest.param(UNLIMITED, id="counted", marks=pytest.mark.long)],
)
def test_two_syncs_at_once_both_end_well(kind, profile, tmp_path):
    """Two processes begin the same first sync and ask page for page at the same time: exit 0 both, and the source's rows."""
    dataset = generate(events=5_000, start=START, end=END, seed=31)
    address = f"duckdb:{tmp_path / 'a.duckdb'}" if kind == "duckdb" else f"file:{tmp_path / 'lake'}"
    in_step = InStep()
    with serve(dataset, profile=profile, now=lambda: NOW, on_request=in_step) as simulator:
        environment = surroundings(
            tmp_path,
            POSTHOG_HOST=simulator.url,
            POSTHOG_PROJECT_ID="1",
            POSTHOG_PERSONAL_API_KEY=simulator.key,
            HEDGEROW_DESTINATION=address,
            HEDGEROW_STATE_DIR=str(tmp_path / "state"),
        )
        command = [
            sys.executable,
            "-m",
            "flows.cli.app",
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
    assert sum(rows) == len(dataset)
    assert landed(place(kind, tmp_path), START, END) == truth(dataset.events, START, END)


COURSES = [
    pytest.param([(1, 0), (2, 0), (3, 0)], [0.0, 0.5, 1.0], id="the other run comes on: longer and longer pauses"),
    pytest.param([(n, 0) for n in range(12)], [0, 0.5, 1, 2, 4, 8, 15, 30, 30, 30, 30, 30], id="it goes on for hours"),
    pytest.param([(1, 0), (2, 1), (3, 2)], [0.0, 0.0, 0.0], id="this run comes on: at once"),
    pytest.param([(7, 3)] * 5, [0.0, 0.5, 1.0, 2.0, None], id="nobody comes on: the fifth time is the last"),
    pytest.param([*[(7, 3)] * 4, *[(8, 3)] * 5], [0, 0.5, 1, 2, 4, 8, 15, 30, None], id="somebody did: counted anew"),
]


@pytest.mark.parametrize(("course", "pauses"), COURSES)
def test_run_that_is_second_goes_on_as_long_as_anybody_comes_on(course, pauses):
    """Progress of either run does not count against the other."""
    crossings = Crossings()

    assert [crossings.pause_s(landed=landed, own=own) for landed, own in course] == pauses


class AlwaysSecond(MemorySink):
    """Another run lands the first window of every plan just before this one does, *ahead* times."""

    ahead = 8

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        if self.ahead:
            self.ahead -= 1
            super().land(landings[:1])
        return super().land(landings, mark=mark)


def test_run_that_is_always_second_ends_well(tmp_path, monkeypatch):
    """Eight times another run is first: in the end every row is there once."""
    dataset, sink = generate(events=3_000, start=START, end=END, seed=32), AlwaysSecond()
    monkeypatch.setattr(crossing, "PAUSES_S", (0.0,))
    with serve(dataset, profile=SILENT, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert (sink.ahead, outcome.complete) == (0, True)
    assert landed(sink, START, END) == truth(dataset.events, START, END)


def test_destination_that_calls_everything_another_runs_ends_the_run(tmp_path, monkeypatch):
    """Nothing is landed by anybody: the fifth plan is the last."""
    plans = []

    class Refusing(MemorySink):
        def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
            plans.append(mark)
            raise GenerationConflict("the first", expected=0, found=1)

    monkeypatch.setattr(crossing, "PAUSES_S", (0.0,))
    dataset = generate(events=100, start=START, end=END, seed=33)
    with serve(dataset, profile=SILENT, now=lambda: NOW) as simulator, pytest.raises(GenerationConflict):
        sync(simulator.url, simulator.key, Refusing(), tmp_path, since=START, until=END)

    assert len(plans) == crossing.STANDSTILLS


def _first(runs: list[subprocess.Popen[str]]) -> None:
    """Wait until one of them has ended."""
    ended = threading.Event()
    for run in runs:
        threading.Thread(target=lambda run=run: (run.wait(), ended.set()), daemon=True).start()
    ended.wait(DEADLINE_S)
