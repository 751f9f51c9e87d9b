"""What a run is asked for and what is set reaches the work and the budget, to the letter."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from extractors.http import pacing
from extractors.http.pacing import Limit, Pacing
from extractors.request import Bucket
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import Simulator, serve
from flows.runs import loads, verify, wiring
from flows.settings.load import load
from flows.settings.model import Settings
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED

START, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
SET = """
[source]
requests_per_minute = 7
requests_per_hour = 400
in_flight = 3
[events]
settle = "13m"
lookback = "5d"
reread_at = ["2h", "90m"]
"""


def settings_of(source: Simulator, directory: Path) -> Settings:
    (directory / "hedgerow.toml").write_text(SET)
    flags = {
        "source.host": source.url,
        "source.key": source.key,
        "source.project_id": "1",
        "source.state_dir": directory / "state",
        "destination.address": f"duckdb:{directory / 'a.duckdb'}",
    }
    return load(flags, directory=directory).settings


class Heard(Exception):
    """Raised in the place of the work, with what it was given."""


def heard(*given: object, **more: object) -> None:
    raise Heard(given, more)


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not"])
@pytest.mark.parametrize("work", ["sync", "backfill", "verify"])
def test_order_says_what_was_asked_and_what_is_set(work, accepted, tmp_path, monkeypatch):
    """Range, deletions, repair, marks, and the settings of events; the share of the limits for reading again."""
    for name in ("landing.pipeline.run", "landing.audit.run"):
        monkeypatch.setattr(f"flows.{name}", heard)
    span = {"since": START.isoformat(), "until": (START + DAY).isoformat(), "accept_deletions": accepted}
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW) as source:
        settings = settings_of(source, tmp_path)
        if work == "verify":
            sink = DuckDBSink(tmp_path / "a.duckdb")
            sink.prepare(1, "events", host=source.url, event_filter="", rebuild=False)
            act = partial(verify.verify_events, repair=accepted, detail=not accepted)
        else:
            act = partial(loads.load_events, command=work)
        with pytest.raises(Heard) as raised:
            act(settings, 1, **span)
    (session, *_), more = raised.value.args
    order = session.order

    assert (order.since, order.until, order.accept_deletions) == (START, START + DAY, accepted)
    assert (order.settle, order.marks) == (13 * MINUTE, work == "sync")
    if work == "verify":
        assert (more["repair"], more["detail"]) == (accepted, not accepted)
    else:
        assert (order.lookback, order.reread_at, order.reread_requests) == (
            5 * DAY,
            (timedelta(minutes=90), timedelta(hours=2)),
            100,
        )


@pytest.mark.parametrize(("queries", "asks"), [(79, True), (80, False)])
def test_look_back_takes_a_quarter_of_an_hour_s_queries(queries, asks, tmp_path, monkeypatch):
    """Whether they were sent in the last minute or an hour ago; other processes' count as well."""
    monkeypatch.setattr("flows.landing.pipeline.run", heard)
    monkeypatch.setattr(pacing, "QUERY", Limit(1_000, 320))
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW) as source:
        settings = settings_of(source, tmp_path)
        ago = [time.time() - 1_800.0]
        limits = {Bucket.QUERY: Limit(1_000, 320)}
        before = Pacing(settings.source.state_dir, host=source.url, key=source.key, limits=limits, clock=lambda: ago[0])
        for _ in range(queries):
            with before.turn(Bucket.QUERY, 1):
                pass
        with pytest.raises(Heard) as raised:
            loads.load_events(settings, 1, command="sync")

        (session, reader, _), _ = raised.value.args
        assert reader.queries_left(session.order.lookback_queries) == asks


@pytest.mark.parametrize("longest_s", [None, 0.0, 90.0], ids=["any", "none", "90 s"])
def test_budget_is_that_of_the_settings_and_waits_as_long_as_it_may(longest_s, tmp_path, monkeypatch):
    """No wait at all is another thing than any."""
    built: dict[str, object] = {}

    def noted(*given: object, **named: object) -> Pacing:
        built.update(named)
        return Pacing(*given, **named)

    monkeypatch.setattr(wiring, "Pacing", noted)
    longest = None if longest_s is None else timedelta(seconds=longest_s)
    with serve(Dataset(), profile=UNLIMITED) as source:
        settings = settings_of(source, tmp_path)
        with wiring.client_of(settings, listener=wiring.Listener(), max_wait=longest) as (_, budget):
            assert budget.max_wait_s == longest_s

    assert (built["limits"][Bucket.LIST], built["in_flight"]) == (Limit(7, 400), 3)
