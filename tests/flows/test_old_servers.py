"""An ugly history on servers as they were in 2023: all that real ones of that year did to it, one thing after the other."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.profiles import OLD_2023, SERVER_2023_12, Profile
from extractors.simulator.server import Simulator, serve
from extractors.window import midnight
from flows.landing.outcome import Outcome
from flows.landing.verification import Verification
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from tests.flows.harness import landed, sync, tuples, verify

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY, HOUR, SECOND, MICROSECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1), timedelta(microseconds=1)
RECENT = NOW - 20 * DAY
LONG_AGO = datetime(1960, 1, 1, tzinfo=UTC)
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
JULY = replace(OLD_2023, page_cap=500, project_timezone="Europe/Berlin")
DECEMBER = replace(SERVER_2023_12, page_cap=500, project_timezone="Europe/Berlin")
SERVERS = [
    pytest.param(JULY, SEPTEMBER, id="July 2023"),
    pytest.param(JULY, LONG_AGO, id="July 2023, 66 years", marks=pytest.mark.long),
    pytest.param(DECEMBER, LONG_AGO, id="December 2023, 66 years", marks=pytest.mark.long),
]
FAR = [
    datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2015, 6, 1, tzinfo=UTC),
    *[datetime(2026, 10, 25, 1, tzinfo=UTC)] * 3,  # summer time ends
    NOW + DAY,
    datetime(2100, 1, 1, tzinfo=UTC),
]
BAD_AT = RECENT + 3 * DAY + 5 * HOUR + 17 * MICROSECOND
SECONDS = 60.0  # for 66 almost empty years


class History:
    """One project, its destination, and the time that passes."""

    def __init__(self, directory: Path) -> None:
        made = generate(events=2_400, start=RECENT, end=NOW, seed=14, tie_sizes=(1_200,)).events
        self.dataset = Dataset([replace(one, created_at=one.timestamp + 2 * SECOND) for one in made])
        self.dataset.add(
            Event(f"bbbbbbbb-0000-4000-8000-{n:012x}", "far", "ann", at, f'{{"n":{n}}}', "", at + SECOND)
            for n, at in enumerate(FAR)
        )
        self.bad = Event("ffffffff-0000-4000-8000-00000000dead", "bad", "nul\0", BAD_AT, "{}", "", BAD_AT)
        self.dataset.add([self.bad])
        self.sink, self.directory, self.now = DuckDBSink(directory / "a.duckdb"), directory, NOW
        self.figures: list[str] = []

    def some(self, every: int, offset: int) -> list[Event]:
        """Settled page views, each uuid of one event only."""
        views = [one for one in self.dataset.truth().to_pylist() if one["event"] == "$pageview"]
        uuids = {one["uuid"] for one in views if RECENT < one["timestamp"] < NOW - 2 * DAY}
        kept = {one.uuid: one for one in self.dataset.events if one.uuid in uuids}
        return list(kept.values())[offset::every]

    def sync(self, source: Simulator, since: datetime | None = None) -> Outcome:
        began = time.monotonic()
        outcome, requests = sync(
            source.url, source.key, self.sink, self.directory, since=since, until=None, clock=lambda: self.now
        )
        self.figures.append(
            f"sync: {outcome.rows:,} rows, {requests}, {time.monotonic() - began:.1f} s, complete {outcome.complete}"
        )
        return outcome

    def verify(self, source: Simulator, *, repair: bool = False) -> Verification:
        began = time.monotonic()
        found = verify(source.url, source.key, self.sink, self.directory, repair=repair)
        what = "verify --repair" if repair else "verify"
        self.figures.append(f"{what}: {found.windows:,} windows, {time.monotonic() - began:.1f} s, good {found.good}")
        return found

    def wrong(self, since: datetime = LONG_AGO) -> int:
        """Rows that the destination lacks, or has beside what the source will show once it has merged."""
        due = [row for row in tuples(self.dataset.truth()) if since <= row[3] < self.now and row[1] != "bad"]
        held = landed(self.sink, since, self.now)
        assert len(held) == len(set(held))
        return len(set(due).symmetric_difference(held))

    def states(self) -> set[State]:
        return {entry.shown for entry in self.sink.ledger(1, "events").entries.values() if entry.end < NOW - HOUR}


@pytest.mark.parametrize(("profile", "since"), SERVERS)
def test_ugly_history_is_landed_proven_and_kept_right(profile: Profile, since: datetime, tmp_path):
    """First sync, all of the past, an event that cannot be served, copies; then what the source changes, is found and proven."""
    history = History(tmp_path)
    copied = history.some(9, 0)
    history.dataset.copy([one.uuid for one in history.some(9, 4)], times=2)  # alike
    for number, one in enumerate(copied):
        assert one.created_at is not None
        history.dataset.copy([one.uuid], properties=f'{{"copy":{number}}}', created_at=one.created_at + HOUR)

    with serve(history.dataset, profile=profile, now=lambda: history.now) as source:
        first = history.sync(source)
        all_of_it = history.sync(source, since)
        proof = history.verify(source)

        assert history.wrong(since) == 0
        assert [at for found in first.unserved.values() for at in found] == [BAD_AT]
        assert (all_of_it.complete, all_of_it.undecided, all_of_it.disputed) == (False, {}, [])
        assert history.states() == {State.VERIFIED, State.UNMERGED, State.DISPUTED}  # unread is shown as disputed
        assert [(one.start, one.source_rows - one.held_rows) for one in proof.differences] == [
            (midnight(BAD_AT.date()), 1)
        ]
        assert proof.unmerged > 0

        history.dataset.delete([history.bad.uuid])
        late = [replace(one, uuid=f"cccccccc{one.uuid[8:]}", event="late") for one in history.some(9, 2)]
        history.dataset.add(replace(one, created_at=NOW + HOUR) for one in late)
        history.dataset.delete([one.uuid for one in history.some(9, 6)])
        changed = history.some(9, 7)
        history.dataset.copy([one.uuid for one in changed], properties='{"changed":1}', created_at=NOW + HOUR)
        history.dataset.merge()
        for one in history.some(40, 1):
            moved = one.timestamp + 90 * MICROSECOND
            if moved.date() == one.timestamp.date():
                history.dataset.move(one.uuid, moved)
        history.now = NOW + 2 * HOUR
        history.sync(source)
        history.verify(source, repair=True)
        last = history.sync(source)
        proof = history.verify(source)

        assert history.wrong(since) == 0
        assert (last.complete, last.rows) == (True, 0)
        assert (proof.good, proof.unmerged) == (True, 0)
        assert history.states() == {State.VERIFIED}

    print("\n".join(["", *history.figures, f"in all: {source.statuses}"]))


@pytest.mark.long
def test_ugly_history_without_queries_is_landed_and_said_not_to_be_compared(tmp_path):
    """The years in day windows, within a minute; the rest of the promise is what the reading rule gives."""
    history = History(tmp_path)
    refusing = replace(OLD_2023, page_cap=500, query_allowed=False, query_refused_with=403)
    with serve(history.dataset, profile=refusing, now=lambda: history.now) as source:
        began = time.monotonic()
        outcome = history.sync(source, LONG_AGO)
        took = time.monotonic() - began

    assert history.wrong() == 0
    assert [at for found in outcome.unserved.values() for at in found] == [BAD_AT]
    assert took < SECONDS
    assert len(history.sink.ledger(1, "events").entries) < 30_000
    print("\n".join(["", *history.figures]))
