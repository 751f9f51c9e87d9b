"""The limits over real HTTP and in real time; hours of them run in virtual time (tests/extractors/http/test_pacing_at_scale)."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import generate
from extractors.simulator.server import serve
from flows.runs import loads, wiring
from flows.settings.load import load
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, truth

START, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
PER_MINUTE, EVENTS = 60, 150_000


@pytest.mark.long
def test_backfill_under_a_limit_is_never_refused_and_wastes_little(tmp_path):
    """Sixty pages a minute: no answer is a 429, the wait is told, and the minutes that were full used 97 %."""
    end = START + timedelta(days=3)
    dataset = generate(events=EVENTS, start=START, end=end, seed=9)
    waits: list[str] = []
    asked_at: list[float] = []
    flags: dict[str, object] = {
        "source.project_id": 1,
        "source.requests_per_minute": PER_MINUTE,
        "source.requests_per_hour": 10**6,
        "source.state_dir": tmp_path / "state",
        "destination.address": f"duckdb:{tmp_path / 'a.duckdb'}",
    }
    with serve(
        dataset,
        profile=replace(UNLIMITED, per_minute=PER_MINUTE),
        now=lambda: NOW,
        on_request=lambda seen: asked_at.append(time.monotonic()) if seen.endpoint == "list" else None,
    ) as simulator:
        settings = load(
            flags | {"source.host": simulator.url, "source.key": simulator.key}, directory=tmp_path
        ).settings
        report = loads.load_events(
            settings,
            1,
            command="backfill",
            since=START.isoformat(),
            until=end.isoformat(),
            listener=wiring.Listener(wait=lambda wait: waits.append(wait.reason)),
        )

    minutes = math.floor((asked_at[-1] - asked_at[0]) / 60)
    used = sum(at < asked_at[0] + 60 * minutes for at in asked_at) / (minutes * PER_MINUTE)
    print(f"{len(asked_at)} pages in {asked_at[-1] - asked_at[0]:.0f} s, {used:.1%} of {minutes} minutes used")
    assert report.rows == EVENTS
    assert simulator.statuses["list", 429] == 0
    assert any("60 requests a minute" in reason for reason in waits)
    assert minutes >= 2
    assert used >= 0.97
    assert landed(DuckDBSink(tmp_path / "a.duckdb"), START, end) == truth(dataset.events, START, end)
