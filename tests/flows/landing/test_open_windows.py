"""Windows that have not settled: what changes hours ago today is right after the next sync, and a stop holds up no tail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.reading.questions import Seen
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.landing import audit
from flows.landing.outcome import Outcome
from flows.landing.verification import Verification
from sinks.entries import State
from sinks.sink import Sink
from tests.flows.harness import UNLIMITED, landed, sync, truth, verify
from tests.flows.places import late, lose_a_row, place, reopened, steady
from tests.sinks.test_conformance import landing

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
TODAY = datetime(2026, 3, 2, tzinfo=UTC)
YESTERDAY = TODAY - DAY
SILENT = replace(UNLIMITED, query_allowed=False)


@pytest.fixture(params=["memory", "duckdb", "lake"])
def sink(request, tmp_path) -> Sink:
    return place(request.param, tmp_path)


class Today:
    """Syncs of a project whose clock the test moves; it takes in an event every minute of the day that is not over."""

    def __init__(self, sink: Sink, directory: Path) -> None:
        self.sink, self.directory, self.clock = sink, directory, TODAY + 12 * HOUR
        self.dataset = Dataset(steady(YESTERDAY, self.clock, every=10 * MINUTE))
        self.port = 0
        self.requests: dict[str, int] = {}

    def serve(
        self, *, counted: bool = True, on_request: Callable[[RequestSeen], None] = lambda seen: None
    ) -> AbstractContextManager[Simulator]:
        """A source that answers queries, or none."""
        profile = UNLIMITED if counted else SILENT
        return serve(self.dataset, profile=profile, now=lambda: self.clock, port=self.port, on_request=on_request)

    def sync(self, simulator: Simulator, *, accept_deletions: bool = False) -> Outcome:
        self.port = int(simulator.url.rpartition(":")[2])
        since = None if self.sink.ledger(1, "events").mark else YESTERDAY
        outcome, self.requests = sync(
            simulator.url,
            simulator.key,
            self.sink,
            self.directory,
            since=since,
            until=None,
            accept_deletions=accept_deletions,
        )
        return outcome

    def verify(self, simulator: Simulator, *, repair: bool = False) -> Verification:
        return verify(simulator.url, simulator.key, reopened(self.sink), self.directory, repair=repair)

    def later(self, by: timedelta = 15 * MINUTE) -> None:
        """Time goes on, and an event a minute comes."""
        self.dataset.add(steady(self.clock, self.clock + by, every=MINUTE))
        self.clock += by

    def right(self) -> bool:
        return landed(self.sink, YESTERDAY, self.clock) == truth(self.dataset.events, YESTERDAY, self.clock)


def disturb(today: Today) -> None:
    """Hours ago today: three events come late, one goes, one is inserted anew with other properties."""
    morning = [event for event in today.dataset.events if event.timestamp >= TODAY]
    today.dataset.add(late(3, TODAY + 3 * HOUR + 7 * MINUTE, today.clock))
    today.dataset.delete([morning[4].uuid])
    today.dataset.add([replace(morning[20], properties='{"new":1}', created_at=today.clock)])
    today.dataset.merge()


def test_what_changes_hours_ago_today_is_right_after_the_next_sync(sink, tmp_path):
    """Late, deleted and changed events of a window that is open are landed and told, which an idle sync pays nothing for."""
    today = Today(sink, tmp_path)
    with today.serve() as simulator:
        today.sync(simulator)
        today.later()
        today.sync(simulator)
        idle = today.requests
        today.later()
        disturb(today)
        outcome = today.sync(simulator)
        assert today.right()
        today.later()
        quiet = today.sync(simulator)

    changes = outcome.changes[TODAY]
    assert (changes.late, changes.deleted, changes.changed) == (3, 1, 1)
    assert (quiet.changes, today.right(), today.requests) == ({}, True, idle)
    assert idle["query"] == 1
    assert (outcome.complete, quiet.complete) == (True, True)


@pytest.mark.parametrize("kind", ["late", "deleted", "changed"])
def test_each_kind_of_change_today_is_found(kind, tmp_path):
    """By the digest or, where the identities stay, by the time of insertion alone."""
    today = Today(place("memory", tmp_path), tmp_path)
    with today.serve() as simulator:
        for _ in range(2):
            today.sync(simulator)
            today.later()
        morning = [event for event in today.dataset.events if event.timestamp >= TODAY]
        match kind:
            case "late":
                today.dataset.add(late(1, TODAY + 3 * HOUR, today.clock))
            case "deleted":
                today.dataset.delete([morning[4].uuid])
            case "changed":
                today.dataset.add([replace(morning[4], properties='{"new":1}', created_at=today.clock)])
                today.dataset.merge()
        outcome = today.sync(simulator)

    assert getattr(outcome.changes[TODAY], kind) == 1
    assert today.right()


@pytest.mark.parametrize("kind", ["late", "changed"])
def test_change_in_the_last_half_hour_is_found(kind, tmp_path):
    """It falls into the part that the last sync read for the first time, and that no sync has compared before."""
    today = Today(place("memory", tmp_path), tmp_path)
    with today.serve() as simulator:
        today.sync(simulator)
        for number in range(3):
            today.later(30 * MINUTE)
            today.sync(simulator)
            assert today.right()
            at, created_at = today.clock - 25 * MINUTE, today.clock + MINUTE
            if kind == "late":
                (event,) = late(1, at, created_at)
                today.dataset.add([replace(event, uuid=f"{event.uuid[:-1]}{number}")])
            else:
                event = next(one for one in today.dataset.events if one.timestamp >= at)
                today.dataset.add([replace(event, properties='{"new":1}', created_at=created_at)])
                today.dataset.merge()
        today.later()
        today.sync(simulator)

    assert today.right()


def test_change_between_a_tail_and_its_comparison_is_found(tmp_path):
    """An event of the tail is inserted anew after it was read and before the source is asked: it is read once more."""
    today = Today(place("memory", tmp_path), tmp_path)
    changes: list[datetime] = []

    def change(seen: RequestSeen) -> None:
        if seen.endpoint == "query" and changes:
            at = changes.pop()
            event = next(one for one in today.dataset.events if one.timestamp >= at)
            new = replace(event, properties='{"new":1}', created_at=today.clock + timedelta(seconds=1))
            today.dataset.add([new])
            today.dataset.merge()

    with today.serve(on_request=change) as simulator:
        today.sync(simulator)
        today.later(30 * MINUTE)
        changes.append(today.clock - 25 * MINUTE)
        today.sync(simulator)
        for _ in range(2):
            today.later()
            today.sync(simulator)

    assert (changes, today.right()) == ([], True)


def test_without_queries_what_changes_today_is_right_within_the_hour(sink, tmp_path):
    """The open window is read from its start once an hour, and not more often."""
    today = Today(sink, tmp_path)
    with today.serve() as simulator:
        today.sync(simulator)
    with today.serve(counted=False) as simulator:
        today.later()
        today.sync(simulator)
        tail = today.requests["list"]
        disturb(today)
        pages, right = [], []
        for _ in range(9):
            today.later()
            today.sync(simulator)
            pages.append(today.requests["list"])
            right.append(today.right())

    assert right[4:] == [True] * 5
    assert 2 <= sum(asked > tail for asked in pages) <= 3


def crowd(today: Today) -> set[str]:
    """Two thousand events of this morning, and the uuids of most."""
    morning = steady(TODAY, TODAY + 10 * HOUR, every=timedelta(seconds=18), name="crowd")
    today.dataset.add(morning)
    return {event.uuid for event in morning[:1500]}


def test_open_window_whose_deletion_was_stopped_goes_on(sink, tmp_path):
    """Its tail lands with every sync, also after the window has settled; the stop is told by each until it is accepted."""
    today = Today(sink, tmp_path)
    doomed = crowd(today)
    with today.serve() as simulator:
        today.sync(simulator)
        today.later()
        gone = [event for event in today.dataset.events if event.uuid in doomed]
        today.dataset.delete(doomed)

        def held() -> bool:
            outcome = today.sync(simulator)
            kept = sorted([*today.dataset.events, *gone], key=lambda event: event.timestamp)
            assert landed(sink, YESTERDAY, today.clock) == truth(kept, YESTERDAY, today.clock)
            assert not outcome.complete
            return outcome.held == [TODAY]

        for _ in range(3):
            assert held()
            today.later()
        today.later(12 * HOUR)  # the window settles
        for _ in range(2):
            assert held()
            today.later()
        accepted = today.sync(simulator, accept_deletions=True)
        after = today.sync(simulator)

    assert (accepted.held, accepted.complete, after.complete) == ([], True, True)
    assert today.right()
    assert sink.ledger(1, "events").entries[TODAY].state is State.VERIFIED


def test_open_window_that_was_damaged_goes_on(tmp_path):
    """Its tail lands with every sync and every run tells the damage, until the repair ends it."""
    sink = place("duckdb", tmp_path)
    today = Today(sink, tmp_path)
    today.dataset.delete({event.uuid for event in today.dataset.events if event.timestamp < TODAY})
    with today.serve() as simulator:
        today.sync(simulator)
        lose_a_row(sink)
        found = today.verify(simulator)
        for _ in range(3):
            today.later()
            outcome = today.sync(simulator)
            assert (outcome.damaged, outcome.complete) == ([TODAY], False)
            rows = truth(today.dataset.events, YESTERDAY, today.clock)
            assert landed(sink, YESTERDAY, today.clock) == rows[1:]
        mended = today.verify(simulator, repair=True)
        after = today.sync(simulator)

    assert found.left == [TODAY]
    assert mended.left == []
    assert (after.damaged, after.complete, today.right()) == ([], True, True)


@pytest.mark.parametrize(("state", "differs"), [(State.OPEN, False), (State.LANDED, True)], ids=str)
def test_event_of_an_open_window_is_no_difference_for_being_newer_than_its_reading(state, differs):
    """Nothing was compared with it yet, so only sums can say that it differs; of a settled window a later creation does."""
    entry = landing("a", state=state).entry
    later = int((entry.read_at + timedelta(minutes=1)).timestamp()) * 10**6
    said = Seen(1, entry.tally.source_digest, f"1:{later}")

    assert audit._differs(entry, said, None) is differs
    assert audit._differs(entry, Seen(2, "2:0:0:0:0", f"1:{later}"), None)
