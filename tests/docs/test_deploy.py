"""The files of deploy/ and prefect.yaml: linted, without secrets, and true to the tree. No container engine runs here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.flows import Flow, load_flow_from_entrypoint

from flows.runs.catalog import STREAMS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
SCHEDULED = (*(stream.deployment for stream in STREAMS if stream.by_default), "verify-events")
BY_HAND = tuple(stream.deployment for stream in STREAMS if not stream.by_default)


def tool(name: str, *arguments: str) -> None:
    command = [str(Path(sys.executable).parent / name), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_is_linted():
    """hadolint finds nothing."""
    tool("hadolint", "deploy/Dockerfile")


def test_compose_file_is_one():
    """It keeps to the compose specification's schema."""
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


def test_dockerfile_copies_what_is_there_and_runs_as_nobody_special():
    """Every source exists and passes .dockerignore; every room is copied; the user is a number, not 0."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = [source for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for source in line.split()[:-1]]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert {"flows", "extractors", "transforms", "sinks", "prefect.yaml", "requirements-run.lock"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists() or f"!{source}" not in kept] == []
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001"]
    assert "--require-hashes" in text


def test_services_wait_for_what_they_need():
    """A pinned image or our own; each service says how it is healthy or waits for one that does; no port is open to the world."""
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", service["image"]), name
        assert "healthcheck" in service or "depends_on" in service, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


@pytest.mark.parametrize("file", [*UNITS, DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", ROOT / "prefect.yaml"])
def test_no_secret_stands_in_a_file(file):
    """Secrets come from files that are not ours, by name only."""
    text = "\n".join(line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))

    assert re.findall(r"ph[cx]_\w+|(?:PASSWORD|SECRET\w*|API_KEY|TOKEN)\s*[:=]\s*\S+|://\w+:\w+@", text) == []


def test_units_are_verified(tmp_path):
    """systemd-analyze has nothing to say, once the commands exist."""
    if subprocess.run(["which", "systemd-analyze"], capture_output=True, check=False).returncode:
        pytest.skip("no systemd-analyze on this machine")
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/srv/hedgerow/.venv/bin/prefect", "/bin/true")
        (tmp_path / unit.name).write_text(
            text.replace("/srv/hedgerow/.venv/bin/hedgerow", "/bin/true"), encoding="utf-8"
        )
    files = [str(tmp_path / unit.name.replace("@", "@1")) for unit in UNITS]
    for template in tmp_path.glob("*@.service"):
        template.rename(template.with_name(template.name.replace("@", "@1")))
    done = subprocess.run(
        ["systemd-analyze", "verify", *files], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_units_give_up_every_right_they_do_not_need(unit):
    """Not root, a read-only system, a state directory of their own, secrets from /etc/hedgerow."""
    lines = unit.read_text(encoding="utf-8").splitlines()

    assert {"User=hedgerow", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"} <= set(
        lines
    )
    assert "StateDirectory=hedgerow" in lines
    assert any(line.startswith("EnvironmentFile=/etc/hedgerow/") for line in lines)


def test_deployments_are_those_of_the_contract():
    """A sync of every stream, scheduled where it is landed unasked; names, tags and pool; a sync cancels a new run while the
    old one works, a backfill queues."""
    by_name = {one["name"]: one for one in DEPLOYMENTS}

    assert set(by_name) == {*SCHEDULED, *BY_HAND, "backfill-events", "backfill-events-part"}
    for name, one in by_name.items():
        assert isinstance(flow := load_flow_from_entrypoint(str(ROOT / one["entrypoint"])), Flow)
        assert flow.name == name
        assert "hedgerow" in one["tags"]
        assert one["work_pool"]["name"] == "hedgerow"
        assert int(one["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) == 30
    assert {by_name[name]["concurrency_limit"]["collision_strategy"] for name in (*SCHEDULED, *BY_HAND)} == {
        "CANCEL_NEW"
    }
    assert by_name["backfill-events"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert [name for name, one in by_name.items() if "schedules" in one] == [*SCHEDULED]
