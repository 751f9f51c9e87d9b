"""The range that a run is for, and the one that it says it landed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import Simulator, serve
from flows.runs import estimate, loads, wiring
from flows.runs.run import Report
from flows.settings.load import load
from flows.settings.model import EventsSettings, Settings
from tests.flows.harness import UNLIMITED
from tests.flows.places import steady

NOW = datetime(2026, 3, 10, 14, 30, tzinfo=UTC)
DAY = timedelta(days=1)
FIRST, LAST = datetime(2026, 1, 10, 12, tzinfo=UTC), datetime(2026, 3, 9, 12, tzinfo=UTC)  # an event a day


@pytest.fixture
def source() -> Iterator[Simulator]:
    with serve(Dataset(steady(FIRST, LAST + DAY, every=DAY)), profile=UNLIMITED, now=lambda: NOW) as running:
        yield running


@pytest.fixture
def settings(source: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(wiring, "now", lambda: NOW)
    flags = {
        "source.host": source.url,
        "source.key": source.key,
        "source.project_id": "1",
        "source.state_dir": tmp_path / "state",
        "destination.address": f"duckdb:{tmp_path / 'a.duckdb'}",
    }
    return load(flags, directory=tmp_path).settings


def sync(settings: Settings, command: str = "sync", **asked: object) -> Report:
    return loads.load_events(settings, 1, command=command, **asked)


def test_first_sync_up_to_a_time_lands_the_30_days_before_it(settings):
    """Not the 30 days before now, of which none is before it; the next sync goes on from there."""
    until = datetime(2026, 1, 25, tzinfo=UTC)
    first, second = sync(settings, until=until.isoformat()), sync(settings)

    assert (first.since, first.until, first.rows) == (until - 30 * DAY, until, 15)
    assert (second.since, second.until, second.rows) == (until - timedelta(minutes=10), NOW, 44)
    assert (first.notes, second.notes) == ((), ())


def test_a_sync_up_to_a_time_that_is_behind_says_so(settings):
    """Nothing is landed, and the run says from where it would go on and what fills what may be missing before; so does a plan."""
    sync(settings)
    behind = sync(settings, until="2026-02-20")
    planned = estimate.of_project(settings, 1, since=None, until="2026-02-20", listener=wiring.Listener())

    (said,) = behind.notes
    assert (behind.windows, behind.problems) == (0, ())
    assert said.startswith("nothing to land: a sync goes on from 2026-03-10T14:20:00Z")
    assert "hedgerow backfill --since T --until 2026-02-20T00:00:00Z" in said
    assert planned.idle is not None


def test_a_range_before_the_first_event_says_so(settings):
    """From the earliest event to a time before it."""
    (said,) = sync(settings, "backfill", since="earliest", until="2025-12-01").notes

    assert (
        said
        == "nothing to land: the first event is of 2026-01-10T12:00:00Z, and the range ends at 2025-12-01T00:00:00Z"
    )


def test_a_rebuild_says_the_range_that_it_landed(settings):
    """All that was landed before, not the minutes since the last run."""
    sync(settings, since="2026-01-01")
    filtered = settings.model_copy(update={"events": EventsSettings(include=("step",))})
    again = sync(filtered, rebuild=True)

    assert (again.since, again.until) == (datetime(2026, 1, 1, tzinfo=UTC), NOW)
    assert again.rows == 59
