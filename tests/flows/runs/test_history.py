"""The history of runs: how each is said to have ended, and what is taken from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.assets.held import held
from flows.runs.catalog import BY_NAME
from flows.runs.history import INTERRUPTED, record
from sinks.sink import Run

AT = datetime(2026, 3, 1, tzinfo=UTC)
DONE = {"project_id": 1, "stream": "exports", "requests": 3}


@dataclass(frozen=True)
class Done:
    """A run's report, as far as its history reads it."""

    problems: list[str]
    run_id: str = "r"
    project_id: int = 1
    stream: str = "exports"
    requests: int = 3


@dataclass
class Kept:
    """A destination that keeps runs, and has no table."""

    runs: list[Run] = field(default_factory=list)

    def record(self, *runs: Run) -> None:
        self.runs.extend(runs)

    def table(self, name: str) -> None:
        """None is there."""

    def tables(self) -> tuple[str, ...]:
        return ()


ENDS = [
    pytest.param("", [], "done", "", id="done"),
    pytest.param("", ["cut"], "incomplete", "cut", id="with a problem"),
    pytest.param("E: x", [], "failed", "E: x", id="failed"),
    pytest.param("E: x", ["cut"], "failed", "E: x; cut", id="failed after a problem"),
    pytest.param(INTERRUPTED, [], "interrupted", "interrupted", id="interrupted"),
    pytest.param(INTERRUPTED, ["cut"], "interrupted", "interrupted; cut", id="interrupted after a problem"),
]


@pytest.mark.parametrize(("error", "problems", "outcome", "told"), ENDS)
def test_history_says_how_a_run_ended(error, problems, outcome, told):
    """What ended it is graver than what it found before, and neither hides the other's words."""
    sink: Any = Kept()
    record(sink, Done(problems), command="sync", started_at=AT, finished_at=AT + timedelta(1), error=error, rows=2)

    (run,) = sink.runs
    assert (run.outcome, run.error) == (outcome, told)
    assert (run.started_at, run.finished_at, run.rows, run.requests) == (AT, AT + timedelta(1), 2, 3)


READ = [
    pytest.param([("sync", "done")], 0, id="a sync"),
    pytest.param([("sync", "incomplete")], 0, id="one with a problem"),
    pytest.param([("sync", "done"), ("sync", "done")], 0, id="the latest"),
    pytest.param([("verify", "done"), ("sync", "failed"), ("sync", "interrupted"), ("sync", "done")], 3, id="no other"),
    pytest.param([("verify", "done"), ("sync", "failed")], None, id="never"),
]


@pytest.mark.parametrize("name", ["exports", "evaluations"])
@pytest.mark.parametrize(("runs", "place"), READ)
def test_stream_was_read_when_a_sync_last_came_to_its_end(runs, place, name, monkeypatch):
    """A verification reads nothing of it anew, and a sync that failed did not see all. Newest first."""
    ended = [
        Run(str(number), command, 1, name, AT, AT - timedelta(hours=number), outcome, 0, 0, 0, 0.0)
        for number, (command, outcome) in enumerate(runs)
    ]
    sink: Any = Kept()

    assert held(sink, 1, BY_NAME[name], ended).read_at == (None if place is None else ended[place].finished_at)
