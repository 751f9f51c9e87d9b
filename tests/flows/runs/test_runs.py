"""What a run is asked for and what is set reaches the work and the budget, to the letter."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from extractors.errors import LimitsExhausted
from extractors.http import pacing
from extractors.http.pacing import Limit, Pacing
from extractors.request import Bucket
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.server import Simulator, serve
from flows.runs import loads, run, verify, wiring
from flows.settings.load import load
from flows.settings.model import Settings
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Damage, Note
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


ENDED = [
    pytest.param(LimitsExhausted("used up"), "failed", "LimitsExhausted: used up", id="failed"),
    pytest.param(KeyboardInterrupt(), "interrupted", "interrupted", id="interrupted"),
]


@pytest.mark.parametrize(("ended", "outcome", "why"), ENDED)
def test_run_that_ends_early_tells_what_stands(ended, outcome, why, tmp_path):
    """A window that an earlier run found damaged, in its report and in the history, beside what ended it."""
    dataset = Dataset([Event("00000000-0000-4000-8000-000000000001", "a", "ann", START, "{}")])
    reports: list[run.Report] = []
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as source:
        settings, sink = settings_of(source, tmp_path), DuckDBSink(tmp_path / "a.duckdb")
        loads.load_events(settings, 1, command="sync", since=START.isoformat(), until=(START + DAY).isoformat())
        (entry,) = sink.ledger(1, "events").entries.values()
        sink.note([Note(entry, NOW, Damage())])
        given = {"command": "sync", "rebuild": False, "max_wait": None, "listener": wiring.Listener()}
        with pytest.raises(type(ended)), run.started(settings, 1, **given, on_report=reports.append):
            raise ended

    (told,) = reports[0].problems
    (last, _) = sink.runs(1, limit=9)
    assert "does not hold what was landed of 1 window" in told
    assert (last.outcome, last.error) == (outcome, f"{why}; {told}")


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
