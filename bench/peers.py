"""Other programs that do the same, each in an environment of its own, made by pip at first use.

What they landed is counted by its uuids; their figures stand beside hedgerow's whatever it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.data import Kind
from bench.process import Cost, environment, measured
from bench.source import KEY
from bench.truth import Landed, compared
from bench.whole import Contestant, Task, edges, instant

AIRBYTE = "airbyte-source-posthog"
REQUIREMENTS = {"dlt": "dlt[duckdb,parquet]", AIRBYTE: AIRBYTE}
INSTALL_S = 600
QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1"}
CATALOG = {
    "streams": [
        {
            "stream": {
                "name": "events",
                "json_schema": {},
                "supported_sync_modes": ["full_refresh", "incremental"],
                "source_defined_cursor": True,
                "default_cursor_field": ["timestamp"],
            },
            "sync_mode": "incremental",
            "destination_sync_mode": "append",
        }
    ]
}


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed peer: *binaries* is the directory of its programs."""

    name: str
    version: str
    binaries: Path


@cache
def installed(name: str) -> Peer | str:
    """The peer *name*, or why it cannot be had: a machine without a network measures without it."""
    home = _home(name)
    binaries = home / "bin"
    ask = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    try:
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(binaries / "pip"), "install", "-q", "--disable-pip-version-check", REQUIREMENTS[name]],
        ):
            if not (home / "ready").exists():
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        (home / "ready").touch()
        version = subprocess.run(
            [str(binaries / "python"), "-c", ask, name], check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()
    except subprocess.CalledProcessError as exc:
        return f"{name} cannot be installed: {exc.stderr.strip()[-300:]}"
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{name} cannot be installed: {exc}"
    return Peer(name, version, binaries)


def _home(name: str) -> Path:
    return Kind(0).directory.parent / f"venv-{name}"


def _peer(name: str) -> Peer:
    found = installed(name)
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def _dlt(task: Task) -> Cost:
    program = str(Path(__file__).with_name("peer_dlt.py"))
    start, end = (instant(micros) for micros in edges(task.case.kind))
    command = [str(_peer("dlt").binaries / "python"), program, task.url, start, end, str(task.case.page)]
    return measured(command, env=environment(**QUIET, DLT_DATA_DIR=str(task.home / "dlt")), cwd=task.home)


def _dlt_landed(task: Task, cost: Cost) -> Landed:
    del cost
    table = "(SELECT id AS uuid FROM it.posthog.events)"
    return compared(task.case.kind.truth, table, attach=task.home / "it.duckdb", row="uuid")


def _airbyte(task: Task) -> Cost:
    start = instant(task.case.kind.start_us).replace("+00:00", "Z")
    config = {"api_key": KEY, "start_date": start, "base_url": task.url, "events_time_step": 1}
    for name, content in (("config.json", config), ("catalog.json", CATALOG)):
        (task.home / name).write_text(json.dumps(content), encoding="utf-8")
    command = [str(_peer(AIRBYTE).binaries / "source-posthog"), "read", "--config", "config.json"]
    command += ["--catalog", "catalog.json"]
    return measured(command, env=environment(**QUIET), cwd=task.home, output=task.home / "out.jsonl")


def _airbyte_landed(task: Task, cost: Cost) -> Landed:
    del cost
    plain = task.home / "uuids.csv"
    with (task.home / "out.jsonl").open(encoding="utf-8") as lines, plain.open("w", encoding="utf-8") as uuids:
        uuids.write("uuid\n")
        for line in lines:
            if line.startswith('{"type":"RECORD"'):
                uuids.write(json.loads(line)["record"]["data"]["id"] + "\n")
    return compared(task.case.kind.truth, f"read_csv('{plain}', header = true, all_varchar = true)", row="uuid")


DLT = Contestant("dlt → DuckDB", _dlt, _dlt_landed, available=lambda: _why_not("dlt"))
AIRBYTE_JSONL = Contestant("Airbyte → JSONL", _airbyte, _airbyte_landed, available=lambda: _why_not(AIRBYTE))


def _why_not(name: str) -> str:
    found = installed(name)
    return found if isinstance(found, str) else ""


def versions() -> dict[str, str]:
    """Of the peers that have been installed."""
    here = [installed(name) for name in REQUIREMENTS if (_home(name) / "ready").exists()]
    return {peer.name: peer.version for peer in here if isinstance(peer, Peer)}
