"""Events that the source moves within their date end up landed once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.server import RequestSeen, serve
from sinks.entries import State
from sinks.sink import Sink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import place
from tests.planned import AtRequest

START = datetime(2026, 3, 3, tzinfo=UTC)
END = START + timedelta(days=1)
# Without counts by query a date is cut into hours, so that a move crosses windows.
HOURLY = replace(UNLIMITED, query_allowed=False)


def move(dataset: Dataset, event: Event, to: datetime) -> Event:
    """The same event at another time."""
    dataset.delete([event.uuid])
    moved = replace(event, timestamp=to)
    dataset.add([moved])
    return moved


in_both = pytest.mark.parametrize("sink", ["duckdb", "lake"], indirect=True)
in_lake_too = pytest.mark.parametrize("sink", ["memory", "lake"], indirect=True)


@pytest.fixture
def sink(request, tmp_path) -> Sink:
    return place(request.param, tmp_path)


@in_both
def test_event_moved_while_reading_is_landed_once(sink, tmp_path):
    """Read in one window, moved to a later one and read again there: both windows are landed again together."""
    dataset = generate(events=6_000, start=START, end=END, seed=8)
    early = dataset.events[40]
    hook = AtRequest(6, lambda: move(dataset, early, START + timedelta(hours=23)))
    with serve(dataset, profile=HOURLY, now=lambda: END + timedelta(days=3), on_request=hook) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        again, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert early not in dataset.events
    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert outcome.complete
    assert (again.windows, requests["list"]) == (0, 1)


@in_both
def test_event_moved_into_the_tail_of_an_open_window_is_landed_once(sink, tmp_path):
    """The part of today that is not read again and the tail hold the event: the window is read whole."""
    dataset = generate(events=2_000, start=START, end=START + timedelta(hours=12), seed=8)
    clock = START + timedelta(hours=12)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None)
        move(dataset, dataset.events[5], clock + timedelta(minutes=3))
        clock += timedelta(minutes=15)
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=None, until=None)

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert outcome.complete


@in_lake_too
def test_copies_in_two_windows_become_one_row(sink, tmp_path):
    """Copies that PostHog has not merged, hours apart: the later one stays, the other is counted, and the run says so."""
    dataset = generate(events=3_000, start=START, end=END, seed=8)
    later = dataset.events[2_000]
    copy = replace(later, timestamp=START + timedelta(hours=2, microseconds=7), properties='{"copy":1}')
    dataset.add([copy])
    with serve(dataset, profile=HOURLY, now=lambda: END + timedelta(days=3)) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        again, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth([event for event in dataset.events if event is not copy], START, END)
    entry = sink.ledger(1, "events").entries[START + timedelta(hours=2)]
    assert (entry.shown, entry.tally.copies) == (State.UNMERGED, 1)
    assert outcome.unmerged == [entry.start]
    assert again.windows == 0


@in_lake_too
def test_event_that_never_stops_moving_is_named(sink, tmp_path):
    """What shows up elsewhere in every reading is named, and the next run looks again."""
    dataset = generate(events=3_000, start=START, end=END, seed=8)
    copy = replace(dataset.events[2_000], timestamp=START + timedelta(hours=2))
    dataset.add([copy])
    restless = True

    def hook(seen: RequestSeen) -> None:
        nonlocal copy
        if restless and seen.endpoint == "list":
            rest = [event for event in dataset.events if event is not copy]
            dataset.delete(event.uuid for event in dataset.events)
            copy = replace(copy, timestamp=START + timedelta(hours=2, seconds=seen.number))
            dataset.add([*rest, copy])

    with serve(dataset, profile=HOURLY, now=lambda: END + timedelta(days=3), on_request=hook) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        restless = False
        after, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert outcome.doubled == [START.date()]
    assert not outcome.complete
    assert not after.doubled
    assert landed(sink, START, END) == truth([event for event in dataset.events if event is not copy], START, END)
