"""Several projects in one run: on the command line and in Prefect's flows one that fails leaves the others to be done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from prefect.client.schemas.objects import StateType

from extractors.errors import AccessDenied, LimitsExhausted
from extractors.simulator.data.dataset import generate
from extractors.simulator.server import Simulator, serve
from flows import backfill, evaluations, events, exports, verify
from flows.assets.synced import Synced
from flows.cli import options
from flows.orchestration import adapter
from flows.runs import projects
from sinks.duckdb_file.sink import DuckDBSink
from sinks.errors import DestinationBusy, DestinationUnusable, HostChanged
from tests.flows.harness import UNLIMITED, landed, truth

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
DATASET = generate(events=500, start=START, end=END, seed=3)

SHARED = [
    pytest.param(AccessDenied("403", about="project"), [1, 2, 3], id="access"),
    pytest.param(HostChanged("another host"), [1, 2, 3], id="another host"),
    pytest.param(DestinationUnusable("nothing landed"), [1, 2, 3], id="nothing landed"),
    pytest.param(LimitsExhausted("429"), [1, 2], id="limits"),
    pytest.param(DestinationBusy("held"), [1, 2], id="busy file"),
]


@pytest.mark.parametrize(("error", "tried"), SHARED)
def test_failure_of_one_project_ends_no_other_unless_they_share_it(error, tried):
    """Access, host or data are one project's; the key's limits and a held file are everyone's."""
    seen: list[int] = []

    def work(project_id: int) -> None:
        seen.append(project_id)
        if project_id == 2:
            raise error

    assert projects.each((1, 2, 3), work) == {2: error}
    assert seen == tried


def test_first_failure_is_the_command_s(capsys):
    """Its exit status and remedy, whatever the others ended with; where there are several projects, each has a line before."""
    failures = {7: HostChanged("another host"), 3: LimitsExhausted("429")}
    with pytest.raises(HostChanged):
        options.fail_first(failures, of=[7, 5, 3])
    lines = capsys.readouterr().err.splitlines()
    with pytest.raises(LimitsExhausted):
        options.fail_first({3: failures[3]}, of=[3])
    options.fail_first({}, of=[7, 5, 3])

    assert lines == ["project 7: another host", "project 3: 429"]
    assert capsys.readouterr().err == ""


def test_error_names_every_failure_and_every_problem():
    """One sentence of it all; without a failure it is what the command line says by exit 3, and what was done if all is well."""
    incomplete = Synced(3, "exports", problems=["cut"])
    failures: dict[int, Exception] = {1: AccessDenied("403", about="key"), 2: HostChanged("another host")}

    every = adapter.concluded(failures, [incomplete])
    problem = adapter.concluded({}, [incomplete])

    assert (every.name, every.message) == ("Failed", "project 1: 403; project 2: another host; project 3: cut")
    assert (problem.name, problem.message) == ("Incomplete", "project 3: cut")
    well = adapter.concluded({}, [Synced(3, "exports", new=2)])
    assert (well.name, well.message) == ("Completed", "2 new exports, 0 changed")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serve(DATASET, profile=UNLIMITED, now=lambda: END + timedelta(days=1)) as running:
        yield running


@pytest.fixture
def database(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDBSink:
    """Where flows land, of projects 2, which the key may not read, and 1. Outside of Prefect's runs its server stays out."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "POSTHOG_HOST": simulator.url,
        "POSTHOG_PROJECT_ID": "2,1",
        "POSTHOG_PERSONAL_API_KEY": simulator.key,
        "HEDGEROW_STATE_DIR": str(tmp_path / "state"),
        "HEDGEROW_DESTINATION": f"duckdb:{tmp_path / 'a.duckdb'}",
    }.items():
        monkeypatch.setenv(name, value)
    return DuckDBSink(tmp_path / "a.duckdb")


FLOWS: list[tuple[str, Callable[[], object]]] = [
    ("sync", lambda: events.sync_events.fn(START.isoformat(), END.isoformat())),
    ("backfill", lambda: backfill.backfill_events.fn(START.isoformat(), END.isoformat())),
]


@pytest.mark.parametrize("flow", [flow for _, flow in FLOWS], ids=[name for name, _ in FLOWS])
def test_flow_lands_the_other_projects(flow, database):
    """The first project fails: the flow fails by its name, and the second is landed."""
    state = flow()

    assert (state.type, state.name) == (StateType.FAILED, "Failed")
    assert re.search(r"^project 2: [^;]*$", state.message)
    assert landed(database, START, END) == truth(DATASET.events, START, END)


def test_verify_flow_compares_the_other_projects(database):
    """The first project has nothing landed and the second lost a row: both are named."""
    backfill.backfill_events.fn(START.isoformat(), END.isoformat())
    with duckdb.connect(str(database.path)) as db:
        db.execute("DELETE FROM events WHERE uuid = (SELECT min(uuid) FROM events)")

    state = verify.verify_events.fn()

    assert re.search(r"^project 2: nothing of project 2.*; project 1: not as landed: 1 window", state.message)


@pytest.mark.parametrize("flow", [exports.sync_exports, evaluations.sync_evaluations], ids=["exports", "evaluations"])
def test_asset_flow_lands_the_other_projects(flow, database):
    """The first project fails by name, and the second is asked."""
    state = flow.fn()

    assert re.search(r"^project 2: [^;]*$", state.message)
    assert database.origin(1, flow.name.removeprefix("sync-")) is not None
