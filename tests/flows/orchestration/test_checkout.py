"""The pull step of the deployments: a worker without a checkout fails its runs with the reason."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import StateType
from prefect.utilities.importtools import import_object

from flows.orchestration import checkout
from flows.settings.parse import SettingsError

ROOT = Path(__file__).parents[3]
RUN = uuid.uuid4()
NONE = [
    pytest.param(None, "is not set", id="unset"),
    pytest.param("", "is not set", id="empty"),
    pytest.param("  ", "is not set", id="blank"),
    pytest.param("checkout", "absolute path", id="relative"),
    pytest.param("~/hedgerow", "absolute path", id="a home that nobody expands"),
    pytest.param("/nowhere", "no checkout of hedgerow is there", id="nothing there"),
    pytest.param("/tmp", "no checkout of hedgerow is there", id="something else"),
    pytest.param("/etc/hostname/flows", "no checkout of hedgerow is there", id="below a file"),
]


class Client:
    """What a pull step says to Prefect's server; *away*: it does not answer."""

    def __init__(self, *, away: bool = False) -> None:
        self.heard: list[tuple[object, StateType, str]] = []
        self.away = away

    @contextmanager
    def __call__(self, *, sync_client: bool):
        yield self

    def set_flow_run_state(self, flow_run_id, state):
        if self.away:
            raise OSError("connection refused")
        self.heard.append((flow_run_id, state.type, state.message))


@pytest.mark.parametrize("away", [False, True], ids=["server", "server away"])
@pytest.mark.parametrize(("home", "said"), NONE)
def test_a_worker_without_a_checkout_fails_its_runs_with_the_reason(home, said, away, monkeypatch):
    """Failed, with what is wrong and what to set: a step that only raises would end as Crashed, with a status code."""
    client = Client(away=away)
    monkeypatch.setattr(checkout, "get_client", client)
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(RUN))
    monkeypatch.delenv("HEDGEROW_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HEDGEROW_HOME", home)

    with pytest.raises(SettingsError, match=said):
        checkout.enter()

    assert [(run, kind) for run, kind, _ in client.heard] == ([] if away else [(RUN, StateType.FAILED)])
    assert all(said in message and "→ set HEDGEROW_HOME" in message for *_, message in client.heard)


def test_a_run_starts_in_the_checkout_of_its_worker(tmp_path, monkeypatch):
    """The step gives the directory as Prefect's own do, and Prefect's server is not asked."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    client = Client()
    monkeypatch.setattr(checkout, "get_client", client)
    monkeypatch.setenv("HEDGEROW_HOME", str(tmp_path))
    monkeypatch.chdir("/")

    assert checkout.enter() == {"directory": str(tmp_path)}
    assert Path.cwd() == tmp_path
    assert client.heard == []


def test_deployments_begin_with_the_step():
    """What prefect.yaml names is there."""
    steps = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["pull"]

    assert [import_object(name) for step in steps for name in step] == [checkout.enter]
