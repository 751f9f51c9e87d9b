"""Clients that other people wrote, run as programs against the simulator, which ships for users' own CI.

What they land and lose is what they do at PostHog: its paging loses events for whoever trusts it, status 0. Each has a
virtualenv of its own, made here with pinned versions from the package index that pip is configured for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.profiles import CLOUD
from extractors.simulator.server import Simulator, serve
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.cli.test_asking import hedgerow
from tests.flows.harness import landed, truth

pytestmark = [pytest.mark.long, pytest.mark.timeout(1_800)]

HERE = Path(__file__).parent
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
START = END - timedelta(days=3)
LONG = "123456789012345678901234567890"  # an integer that JSON has and 64 bits have not
PAGE = CLOUD.page_cap
TIE = 2_500
AS_IT_IS = generate(events=9_500, start=START, end=END, seed=7, tie_sizes=(TIE,))
WITHOUT_LONG = Dataset(replace(event, properties=event.properties.replace(LONG, "1")) for event in AS_IT_IS.events)
IDS = {event.uuid for event in AS_IT_IS.events}
TIED = {event.uuid for event in AS_IT_IS.events if event.event == "bulk import"}


@contextmanager
def programs(lock: str, directory: Path) -> Iterator[Path]:
    """The bin directory of a virtualenv that has what *lock* names; it is taken away afterwards."""
    where = directory / lock
    venv.create(where, with_pip=True)
    install = ["-m", "pip", "install", "-q", "--no-deps", "-r", str(HERE / f"{lock}.lock")]
    made = subprocess.run(
        [str(where / "bin/python"), *install], capture_output=True, text=True, timeout=1_200, check=False
    )
    if made.returncode:
        pytest.fail(
            f"pip cannot install {lock}.lock for Python {sys.version.split()[0]} from the package index that it is "
            f"configured for, so the client was not run:\n{made.stderr[-2_000:]}",
            pytrace=False,
        )
    try:
        yield where / "bin"
    finally:
        shutil.rmtree(where)


def ran(command: Sequence[str | Path], home: Path) -> subprocess.CompletedProcess[str]:
    """A client's run to its end. It is told nothing of this machine, and tells nobody of its use."""
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "true", "AIRBYTE_OFFLINE_MODE": "1"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **quiet}
    return subprocess.run(
        list(map(str, command)), cwd=home, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """PostHog Cloud with limits and all, and every property that PostHog may hold."""
    with serve(AS_IT_IS, profile=CLOUD) as running:
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[Simulator]:
    """The same events without integers that are too long for dlt."""
    with serve(WITHOUT_LONG, profile=CLOUD) as running:
        yield running


def test_hedgerow_lands_every_row(simulator, tmp_path):
    """From the same server in the same state: exit 0, and every row of every column as the source has it."""
    done = hedgerow(simulator, tmp_path, "sync", "--since", START.isoformat(), "--until", END.isoformat(), "--json")

    run = json.loads(done.stdout)["runs"][0]
    rows = landed(DuckDBSink(tmp_path / "posthog.duckdb"), START, END)
    assert done.returncode == 0, done.stderr
    assert rows == truth(AS_IT_IS.events, START, END)
    assert {row[0] for row in rows} == IDS
    assert run["rows"] == len(AS_IT_IS.events)


@pytest.fixture(scope="module")
def connector(tmp_path_factory) -> Iterator[Path]:
    """`source-posthog`, PostHog's connector of Airbyte, as a command."""
    with programs("airbyte", tmp_path_factory.mktemp("airbyte")) as directory:
        yield directory / "source-posthog"


def connection(simulator: Simulator, home: Path, key: str = "") -> Path:
    """The connector's settings, with slices of a day."""
    file = home / "config.json"
    asked = {"base_url": simulator.url, "start_date": f"{START:%Y-%m-%dT%H:%M:%SZ}", "events_time_step": 1}
    file.write_text(json.dumps(asked | {"api_key": key or simulator.key}))
    return file


def catalog(home: Path) -> Path:
    """The events, incrementally."""
    stream = {
        "name": "events",
        "json_schema": {},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": True,
        "default_cursor_field": ["timestamp"],
    }
    file = home / "catalog.json"
    asked = {"stream": stream, "sync_mode": "incremental", "destination_sync_mode": "append"}
    file.write_text(json.dumps({"streams": [asked]}))
    return file


def told(output: str, kind: str) -> list[dict[str, Any]]:
    """The messages of one kind that a connector wrote."""
    messages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [message for message in messages if message["type"] == kind]


@pytest.mark.parametrize(("key", "expected"), [("", "SUCCEEDED"), ("phx_wrong", "FAILED")])
def test_airbyte_s_check_tells_a_right_key_from_a_wrong_one(key, expected, connector, simulator, tmp_path):
    """Its first question is for the projects."""
    done = ran([connector, "check", "--config", connection(simulator, tmp_path, key)], tmp_path)

    (status,) = told(done.stdout, "CONNECTION_STATUS")
    assert status["connectionStatus"]["status"] == expected, done.stdout[-2_000:]


def test_airbyte_loses_what_lies_behind_a_page_for_good(connector, simulator, tmp_path):
    """One page of each day, exit 0; its mark then lies behind what it lost, so that the next run brings none of it."""
    asked = [connector, "read", "--config", connection(simulator, tmp_path), "--catalog", catalog(tmp_path)]
    first = ran(asked, tmp_path)
    state = told(first.stdout, "STATE")[-1]["state"]
    (tmp_path / "state.json").write_text(json.dumps([state]))
    second = ran([*asked, "--state", tmp_path / "state.json"], tmp_path)

    assert (first.returncode, second.returncode) == (0, 0), first.stdout[-2_000:]
    rows = [message["record"]["data"] for message in told(first.stdout, "RECORD")]
    got = {row["id"] for row in rows}
    again = {message["record"]["data"]["id"] for message in told(second.stdout, "RECORD")}
    days = Counter((datetime.fromisoformat(row["timestamp"]) - START).days for row in rows)
    assert (sorted(days), max(days.values()) <= PAGE) == ([0, 1, 2], True)
    assert got < IDS
    assert len(got) < len(IDS) // 3
    assert again <= got


@pytest.fixture(scope="module")
def dlt(tmp_path_factory) -> Iterator[Path]:
    """A Python that has dlt."""
    with programs("dlt", tmp_path_factory.mktemp("dlt")) as directory:
        yield directory / "python"


def followed(python: Path, simulator: Simulator, home: Path, *more: str) -> tuple[int, str, set[str]]:
    """What dlt's `rest_api` ends with, says and lands (uuids), following `next` into a DuckDB file."""
    asked = {"host": simulator.url, "key": simulator.key, "since": START.isoformat(), "until": END.isoformat()}
    asked["file"] = str(home / "events.duckdb")
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    done = ran([python, HERE / "follow.py", *words, *more], home)
    with duckdb.connect(asked["file"]) as db:
        there = db.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'events'").fetchone()
        rows = db.execute("SELECT id FROM posthog.events").fetchall() if there and there[0] else []
    return done.returncode, done.stdout + done.stderr, {str(row[0]) for row in rows}


def test_dlt_in_default_order_loses_whole_days(dlt, plain, tmp_path):
    """As users write it: newest first, 100 a page. It ends where a window that the server tries is half full; exit 0."""
    status, said, got = followed(dlt, plain, tmp_path)

    lost = IDS - got
    assert status == 0, said[-2_000:]
    assert set() < got < IDS
    assert len(lost - TIED) > PAGE
    assert {event.uuid for event in WITHOUT_LONG.events if event.timestamp < START + timedelta(hours=12)} <= lost


def test_dlt_s_best_form_loses_what_shares_a_moment(dlt, plain, tmp_path):
    """Oldest first, a thousand a page: all but ties at the edges of pages, most of a large one; exit 0."""
    status, said, got = followed(dlt, plain, tmp_path, "--order", '["timestamp"]')

    times = Counter(event.timestamp for event in WITHOUT_LONG.events)
    lost = IDS - got
    assert status == 0, said[-2_000:]
    assert got < IDS
    assert len(lost & TIED) >= TIE - PAGE
    assert lost <= {event.uuid for event in WITHOUT_LONG.events if times[event.timestamp] > 1}


def test_dlt_lands_nothing_beside_a_long_integer(dlt, simulator, tmp_path):
    """One integer beyond 64 bits ends the run, and none of the events is there."""
    status, said, got = followed(dlt, simulator, tmp_path, "--order", '["timestamp"]')

    assert (status, got) == (1, set())
    assert "64-bit" in said
