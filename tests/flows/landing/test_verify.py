"""`hedgerow verify`: every difference between source, ledger and destination is named, and mended with --repair."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.server import Simulator, serve
from flows.landing.verification import Verification
from flows.runs import findings, loads, wiring
from flows.runs.run import Report
from flows.runs.verify import verify_events
from flows.settings.load import load
from flows.settings.model import EventsSettings
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.errors import DestinationUnusable
from tests.flows.harness import UNLIMITED, landed, truth

NOW = datetime(2026, 3, 10, 14, 30, tzinfo=UTC)
DAYS = 60
START = (NOW - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0)
END = START + timedelta(days=DAYS - 1)


@pytest.fixture(scope="module")
def shown() -> Dataset:
    return generate(events=12_000, start=START, end=END, seed=11)


@pytest.fixture(scope="module")
def events(shown: Dataset) -> Sequence[Event]:
    return shown.events


@pytest.fixture(scope="module")
def simulator(shown: Dataset) -> Iterator[Simulator]:
    """One server for all tests, as a destination remembers its address; what it shows is `dataset`."""
    with serve(shown, profile=UNLIMITED, now=lambda: NOW) as running:
        yield running


@pytest.fixture
def dataset(shown: Dataset, events: Sequence[Event]) -> Dataset:
    """What the source shows, as it was landed."""
    shown.delete({event.uuid for event in shown.events})
    shown.add(events)
    return shown


@pytest.fixture(scope="module")
def landed_once(simulator: Simulator, events: Sequence[Event], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that landed everything, of which each test has a copy."""
    directory = tmp_path_factory.mktemp("landed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "now", lambda: NOW)
        Place(simulator, directory).backfill()
    return directory


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local time, which is the source's: no test depends on the day on which it runs."""
    monkeypatch.setattr(wiring, "now", lambda: NOW)


class Place:
    """A destination and the settings of its runs."""

    def __init__(self, simulator: Simulator, directory: Path) -> None:
        flags: dict[str, object] = {
            "source.host": simulator.url,
            "source.key": simulator.key,
            "source.project_id": 1,
            "source.requests_per_minute": 10**6,
            "source.requests_per_hour": 10**6,
            "source.state_dir": directory / "state",
            "destination.address": f"duckdb:{directory / 'a.duckdb'}",
        }
        self.settings = load(flags, directory=directory).settings
        self.sink = DuckDBSink(directory / "a.duckdb")

    def backfill(self, *, since: datetime = START) -> Report:
        return loads.load_events(self.settings, 1, command="backfill", since=since.isoformat(), until=END.isoformat())

    def sync(self, *, rebuild: bool = False) -> Report:
        return loads.load_events(self.settings, 1, command="sync", rebuild=rebuild)

    def filter(self, *names: str) -> None:
        self.settings = self.settings.model_copy(update={"events": EventsSettings(include=names)})

    def verify(
        self,
        *,
        repair: bool = False,
        detail: bool = False,
        accept_deletions: bool = False,
        since: str | None = None,
        until: str | None = None,
    ) -> Verification:
        found, _ = verify_events(
            self.settings,
            1,
            since=since,
            until=until,
            repair=repair,
            detail=detail,
            accept_deletions=accept_deletions,
        )
        return found

    def generations(self) -> dict[datetime, int]:
        return {start: entry.generation for start, entry in self.sink.ledger(1, "events").entries.items()}

    def damage(self, sql: str) -> None:
        with duckdb.connect(str(self.sink.path)) as db:
            db.execute(sql)


@pytest.fixture
def place(simulator: Simulator, dataset: Dataset, landed_once: Path, tmp_path: Path) -> Place:
    shutil.copytree(landed_once, tmp_path, dirs_exist_ok=True)
    return Place(simulator, tmp_path)


def days_of(events: list[Event]) -> set[date]:
    return {event.timestamp.date() for event in events}


def disturb(dataset: Dataset, rng: random.Random) -> tuple[set[date], set[date]]:
    """2,000 late events, 500 deletions and 500 changes in place over 60 days; the days of all, and within the look-back."""
    span = END - START
    late = [
        Event(f"bbbbbbbb-0000-4000-8000-{n:012x}", "late", f"user-{n % 9}", START + rng.random() * span, "{}", "", NOW)
        for n in range(2_000)
    ]
    unique = [event for event in dataset.events if not event.event.endswith(" again")]
    twice = {event.uuid for event in dataset.events if event.event.endswith(" again")}
    chosen = rng.sample([event for event in unique if event.uuid not in twice], 1_000)
    gone, changed = chosen[:500], chosen[500:]
    dataset.add(late)
    dataset.delete({event.uuid for event in gone})
    dataset.add([replace(event, properties='{"changed":true}', created_at=NOW) for event in changed])
    dataset.merge()
    days = days_of([*late, *gone, *changed])
    return days, {day for day in days if day >= (NOW - timedelta(days=30)).date()}


def test_what_the_source_changed_is_right_after_a_sync_and_a_repair(dataset, place):
    """The sync mends the look-back, verify --repair the rest; only windows that differ are read again."""
    days, recent = disturb(dataset, random.Random(3))
    before = place.generations()
    report = place.sync()
    after_sync = place.generations()
    read_again = {at.date() for at, generation in before.items() if after_sync[at] != generation}
    assert {day for day in recent if day > min(recent)} <= read_again <= recent | {min(recent)}
    assert report.late + report.deleted + report.changed > 1_200
    assert not report.problems

    found = place.verify(repair=True)

    assert {difference.start.date() for difference in found.differences} == days - read_again
    assert found.good
    assert landed(place.sink, START, END) == truth(dataset.events, START, END)
    totals = [change.changes for change in place.sink.changes(1, "events")]
    assert (sum(t.late for t in totals), sum(t.deleted for t in totals), sum(t.changed for t in totals)) == (
        2000,
        500,
        500,
    )
    after = place.generations()
    assert {at.date() for at, generation in before.items() if after[at] != generation} == days
    assert {entry.state for entry in place.sink.ledger(1, "events").entries.values() if entry.end < END} == {
        State.VERIFIED
    }


def test_untouched_range_is_verified_by_a_few_requests_and_no_reading(place, simulator):
    """Nothing differs, nothing is read again."""
    before = place.generations()
    found, report = verify_events(place.settings, 1)

    assert (found.good, found.differences, found.compared) == (True, [], DAYS - 1)
    assert report.requests <= 4
    assert place.generations() == before


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM events WHERE distinct_id = 'user-3'",
        "INSERT INTO events SELECT * FROM events WHERE distinct_id = 'user-3'",
        "UPDATE events SET properties = '{}' WHERE distinct_id = 'user-3'",
        pytest.param("UPDATE events SET elements_chain = 'x' WHERE distinct_id = 'user-3'", marks=pytest.mark.long),
        pytest.param("UPDATE events SET event = upper(event) WHERE distinct_id = 'user-3'", marks=pytest.mark.long),
    ],
    ids=["deleted", "doubled", "changed", "changed chain", "renamed"],
)
def test_damage_by_hand_is_named_and_repaired(sql, dataset, place):
    """The destination is not what was landed: said without repair, right again with it; other windows stay as they are."""
    hurt = days_of([event for event in dataset.events if event.distinct_id == "user-3"])
    before = place.generations()
    place.damage(sql)
    named = place.verify()
    untouched = place.generations()
    mended = place.verify(repair=True)

    assert {difference.start.date() for difference in named.differences} == hurt
    assert all(difference.damaged and not difference.changed for difference in named.differences)
    assert not named.good
    assert untouched == before
    assert mended.good
    assert landed(place.sink, START, END) == truth(dataset.events, START, END)
    assert {at.date() for at, generation in place.generations().items() if generation != before[at]} == hurt
    assert place.sink.changes(1, "events") == []


def test_detail_names_the_events(dataset, place):
    """Uuids that are missing, extra and different, against what the source shows now."""
    day = START + timedelta(days=20)
    missing, changed = [event for event in dataset.events if event.timestamp >= day][:2]
    place.damage(f"DELETE FROM events WHERE uuid = '{missing.uuid}'")
    place.damage(f"UPDATE events SET properties = '{{}}' WHERE uuid = '{changed.uuid}'")
    extra = "00000000-0000-4000-8000-00000000ffff"
    place.damage(
        f"INSERT INTO events SELECT * REPLACE ('{extra}'::UUID AS uuid) FROM events WHERE uuid = '{changed.uuid}'"
    )
    (difference,) = place.verify(detail=True).differences

    assert (difference.missing, difference.extra, difference.differing) == ((missing.uuid,), (extra,), (changed.uuid,))


def test_rows_outside_every_window_are_counted(place, dataset):
    """A row by hand where nothing is landed is named and left alone."""
    place.damage(
        'INSERT INTO events SELECT * REPLACE ("timestamp" - INTERVAL 1 YEAR AS "timestamp") FROM events LIMIT 3'
    )
    found = place.verify(repair=True)

    assert (found.stray_rows, found.good) == (3, False)


def test_what_the_source_holds_outside_is_counted(place, dataset):
    """Clients with clocks in 1990 and in the far future: outside the promise, but told."""
    early, ahead = datetime(1990, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
    dataset.add([replace(dataset.events[0], timestamp=early), replace(dataset.events[1], timestamp=ahead)])
    found = place.verify()

    assert [(part.where, part.rows, part.first) for part in found.outside] == [
        ("before", 1, early),
        ("after", 1, ahead),
    ]
    assert found.good


def test_only_the_range_asked_is_compared(place):
    """--since and --until bound what is compared and mended."""
    place.damage("DELETE FROM events")
    found = place.verify(since=START.isoformat(), until=(START + timedelta(days=2)).isoformat(), repair=True)

    assert [difference.start for difference in found.differences] == [START, START + timedelta(days=1)]
    assert found.good
    assert not place.verify().good


def test_mass_deletion_is_not_repaired_unasked(dataset, place):
    """The guard of the sync holds for the repair, too."""
    dataset.delete({event.uuid for event in dataset.events[:6_000]})
    held = place.verify(repair=True)
    rows = len(landed(place.sink, START, END))
    accepted = place.verify(repair=True, accept_deletions=True)

    assert (held.good, rows) == (False, 12_000)
    assert accepted.good
    assert landed(place.sink, START, END) == truth(dataset.events, START, END)


@pytest.mark.parametrize("everything", [True, False], ids=["everything", "the damaged date"])
def test_damage_and_an_outage_do_not_empty_a_warehouse(everything, dataset, place):
    """What the source does not show any more is damaged in the destination, too: repair removes nothing unasked."""
    place.damage("DELETE FROM events WHERE distinct_id = 'user-3'")
    rows = len(landed(place.sink, START, END))
    hurt = next(event for event in dataset.events if event.distinct_id == "user-3").timestamp.date()
    dataset.delete({event.uuid for event in dataset.events if everything or event.timestamp.date() == hurt})
    held = place.verify(repair=True)

    assert not held.good
    assert len(landed(place.sink, START, END)) >= rows
    assert any(entry.facts.held for entry in place.sink.ledger(1, "events").entries.values())


def test_a_rebuild_during_an_outage_does_not_empty_a_warehouse(dataset, place):
    """The rows stay until replaced: windows that show nothing wait, stale, and every run says so."""
    everything = list(dataset.events)
    dataset.delete({event.uuid for event in everything})
    for _ in range(2):
        report = place.sync(rebuild=True)
        assert any("does not show the rows" in problem for problem in report.problems)
        assert len(landed(place.sink, START, END)) == 12_000
    dataset.add(everything)
    place.sync()

    assert landed(place.sink, START, END) == truth(dataset.events, START, END)


def test_a_rebuild_under_a_narrower_filter_removes_what_it_excludes(dataset, place):
    """Rows that do not belong to the stream any more are no loss."""
    place.filter("$pageview")
    report = place.sync(rebuild=True)
    kept = [event for event in dataset.events if event.event == "$pageview"]

    assert not report.problems
    assert report.requests < 22, "no window is read twice for it"
    assert landed(place.sink, START, END) == truth(kept, START, END)


def test_damage_is_remembered_until_it_is_repaired(place):
    """Found once, status and every sync say so; the repair ends it."""
    place.damage("DELETE FROM events WHERE distinct_id = 'user-3'")
    place.verify()
    states = {entry.shown for entry in place.sink.ledger(1, "events").entries.values()}
    again = place.sync()
    (run, *_) = place.sink.runs(1, limit=9)[1:]
    mended = place.verify(repair=True)

    assert State.DISPUTED in states
    assert any("does not hold" in problem for problem in again.problems)
    assert (run.command, run.outcome) == ("verify", "incomplete")
    assert mended.good
    assert not place.sync().problems


def test_windows_that_wait_to_be_landed_again_are_no_success(dataset, place):
    """Stale windows, as an interrupted rebuild leaves them: named, and landed with --repair."""
    place.sink.prepare(1, "events", host=place.settings.source.host, event_filter="", rebuild=True)
    waiting = place.verify()
    mended = place.verify(repair=True)

    assert (waiting.stale, waiting.good) == (DAYS - 1, False)
    assert (mended.stale, mended.good) == (0, True)
    assert landed(place.sink, START, END) == truth(dataset.events, START, END)


def test_a_gap_between_landed_windows_is_named(dataset, place):
    """Rows and ledger line of a day are gone: the source has what no window covers, and backfill lands it."""
    day = START + timedelta(days=9)
    inside = [event for event in dataset.events if day <= event.timestamp < day + timedelta(days=1)]
    place.damage(f"DELETE FROM events WHERE \"timestamp\" >= '{day}' AND \"timestamp\" < '{day + timedelta(days=1)}'")
    place.damage(f"DELETE FROM hedgerow.windows WHERE window_start = '{day}'")
    found = place.verify()
    place.backfill()

    assert (found.missing, found.good) == (len(inside), False)
    assert "hedgerow backfill --since" in str(findings.of_verification(found))
    assert place.verify().good
    assert landed(place.sink, START, END) == truth(dataset.events, START, END)


def test_rows_that_the_ledger_does_not_know_are_not_doubled(place):
    """The ledger line of a day is gone, its rows are not: landing beside them is refused."""
    place.damage(f"DELETE FROM hedgerow.windows WHERE window_start = '{START + timedelta(days=9)}'")
    rows = len(landed(place.sink, START, END))
    with pytest.raises(DestinationUnusable, match="does not know"):
        place.backfill()

    assert len(landed(place.sink, START, END)) == rows


def test_verify_of_nothing_is_no_success(place, simulator, tmp_path):
    """A range without windows, and a destination that is not there, which is not made either."""
    assert not place.verify(since="2019-01-01", until="2019-02-01").good
    (tmp_path / "other").mkdir()
    with pytest.raises(DestinationUnusable, match="nothing of project 1"):
        Place(simulator, tmp_path / "other").verify()
    assert not (tmp_path / "other" / "a.duckdb").exists()


def test_a_window_that_another_run_lands_meanwhile_is_no_damage(dataset, place, monkeypatch):
    """Between reading the ledger and counting the rows: the other run has compared it."""
    counted = DuckDBSink.audit

    def audit(sink: DuckDBSink, *asked: object) -> object:
        if not dataset.delete({dataset.events[-1].uuid}):
            place.sync()
        return counted(sink, *asked)

    monkeypatch.setattr(DuckDBSink, "audit", audit)

    assert place.verify().differences == []


def test_rows_of_a_range_are_not_called_outside_it(place):
    """--since and --until bound what is compared, not what is known to be landed."""
    assert place.verify(since=(START + timedelta(days=9)).isoformat()).outside == []


def test_detail_names_a_doubled_row(dataset, place):
    """Its uuid is extra, although the source has it once."""
    doubled = dataset.events[100].uuid
    place.damage(f"INSERT INTO events SELECT * FROM events WHERE uuid = '{doubled}' LIMIT 1")
    (difference,) = place.verify(detail=True).differences

    assert (difference.missing, difference.extra, difference.differing) == ((), (doubled,), ())


def test_source_without_queries_cannot_be_compared(dataset, tmp_path):
    """Damage is still found; that the source was not compared is no success."""
    with serve(dataset, profile=replace(UNLIMITED, query_allowed=False), now=lambda: NOW) as simulator:
        place = Place(simulator, tmp_path)
        since = END - timedelta(days=2)
        place.backfill(since=since)
        found = place.verify()
        place.damage("DELETE FROM events WHERE event = '$pageview'")
        damaged = place.verify(repair=True)

    assert (found.unknown > 0, found.good, found.differences) == (True, False, [])
    assert len(damaged.differences) > 0
    assert damaged.left == []
    assert landed(place.sink, START, END) == truth(dataset.events, since, END)


@pytest.mark.long
def test_year_of_ten_thousand_windows_is_verified_by_a_few_dozen_requests(tmp_path):
    """Hourly windows, landed while the source refused queries: all compared, none read again, damage and lateness named."""
    start, hours = START - timedelta(days=370), 10_080
    end = start + timedelta(hours=hours)
    dataset = generate(events=60_000, start=start, end=end, seed=17)
    with serve(dataset, profile=replace(UNLIMITED, query_allowed=False), now=lambda: NOW) as simulator:
        place = Place(simulator, tmp_path)
        loads.load_events(place.settings, 1, command="backfill", since=start.isoformat(), until=end.isoformat())
    before = place.generations()
    port = int(simulator.url.rsplit(":", 1)[1])
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW, port=port) as simulator:
        clean, report = verify_events(place.settings, 1)
        asked = dict(simulator.statuses)
        dataset.add([replace(dataset.events[9], uuid="bbbbbbbb-0000-4000-8000-00000000ffff")])
        differing, _ = verify_events(place.settings, 1)

    print(f"{report.requests} requests, {report.seconds:.1f} s for {clean.windows:,} windows: {asked}")
    assert (len(before), clean.compared, clean.good) == (hours, hours, True)
    assert report.requests <= 24
    assert place.generations() == before
    assert [difference.start for difference in differing.differences] == [
        dataset.events[9].timestamp.replace(minute=0, second=0, microsecond=0)
    ]
