"""Which runs of a Prefect server hedgerow starts, counts as its own, and ends; without a server."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType

from flows.orchestration import adapter, automations, parts
from flows.orchestration.automations import STARTING, TAG
from flows.orchestration.parts import Part

LONG_AGO = datetime.now(UTC) - 2 * STARTING


class Server:
    """A server with *runs*, of which those in *heard* give signs of life."""

    def __init__(self, *runs: Any) -> None:
        self.runs, self.heard, self.marked = runs, set[UUID](), list[UUID]()

    def read_flow_runs(self, *, flow_run_filter: FlowRunFilter) -> list[Any]:
        """As the server does: runs that have all of the tags and one of the states."""
        tags = flow_run_filter.tags.all_ if flow_run_filter.tags else []
        assert flow_run_filter.state is not None
        assert flow_run_filter.state.type is not None
        types = flow_run_filter.state.type.any_ or []
        return [run for run in self.runs if {*(tags or [])} <= {*run.tags} and run.state.type in types]

    def request(self, method: str, path: str, json: dict[str, Any]) -> Any:
        (resource,) = json["filter"]["resource"]["id"]
        events = [run for run in self.heard if resource == f"prefect.flow-run.{run}"]
        return SimpleNamespace(raise_for_status=lambda: None, json=lambda: {"events": events})

    def set_flow_run_state(self, run_id: UUID, state: Any) -> None:
        assert state.type is StateType.CRASHED
        self.marked.append(run_id)


def run(kind: StateType = StateType.RUNNING, *, tags: tuple[str, ...] = (TAG,), at: datetime = LONG_AGO) -> Any:
    return SimpleNamespace(id=uuid4(), tags=tags, state=SimpleNamespace(type=kind, timestamp=at))


def test_only_silent_runs_of_ours_are_marked_crashed(monkeypatch):
    """Not somebody else's on the same server, not the run that looks, not what lives, has just begun or has ended."""
    silent = [run(kind) for kind in (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)]
    own, alive, more = run(), run(), run(tags=("nightly", TAG))
    others = [
        run(tags=()),
        run(tags=("nightly",)),
        run(at=datetime.now(UTC) - STARTING / 2),
        run(StateType.COMPLETED),
        run(StateType.SCHEDULED),
    ]
    server = Server(*silent, own, alive, *others, more)
    server.heard.add(alive.id)

    @contextmanager
    def client(**named: object) -> Any:
        yield server

    monkeypatch.setattr(automations, "get_client", client)
    wanted = [one.id for one in (*silent, more)]

    assert automations.mark_crashed(own.id) == wanted
    assert server.marked == wanted


def test_part_is_started_once_by_each_backfill(monkeypatch):
    """Prefect gives the run that has the key already: the same for a call made again, another for each part and backfill."""
    keys: list[str] = []

    def deployed(*given: object, idempotency_key: str, **named: object) -> None:
        keys.append(idempotency_key)

    monkeypatch.setattr(parts, "run_deployment", deployed)
    monkeypatch.setattr(adapter, "job_variables", dict)
    january, february = (
        [Part(1, f"2026-0{month}-01", f"2026-0{month}-28", f"{number} of 2") for number in (1, 2)] for month in (1, 2)
    )
    for run_id, ordered in (("a", january), ("a", january), ("b", february)):
        monkeypatch.setattr(adapter, "run_id", lambda run_id=run_id: run_id)
        for part in ordered:
            parts._start(part)

    assert keys[:2] == keys[2:4]
    assert len({*keys}) == 4
