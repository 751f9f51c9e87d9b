"""Events that the source cannot serve: everything else is landed, they are named, and they cost minutes, not hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import MICROSECOND, Dataset, Event, generate
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import serve
from flows.landing.outcome import Outcome
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth, verify

START, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
NOW = datetime(2026, 3, 10, tzinfo=UTC)
NO_QUERY = replace(UNLIMITED, query_allowed=False)


def poisoned(number: int, at: datetime) -> Event:
    """An event whose properties are no object: no page with it is served."""
    return Event(f"ffffffff-0000-4000-8000-{number:012x}", "bad", "b", at, '["no","object"]')


def spread(count: int) -> list[Event]:
    """Events that are not served, over the day, at odd microseconds."""
    return [poisoned(n, START + (END - START) * (2 * n + 1) / (2 * count) + 7 * n * MICROSECOND) for n in range(count)]


def healthy(dataset: Dataset) -> list[Event]:
    return [event for event in dataset.events if event.event != "bad"]


def moments(outcome: Outcome) -> list[datetime]:
    return sorted(at for found in outcome.unserved.values() for at in found)


def with_bad(events: int, bad: Sequence[Event], *, tie_sizes: Sequence[int] = ()) -> Dataset:
    dataset = generate(events=events, start=START, end=END, tie_sizes=tie_sizes)
    dataset.add(bad)
    return dataset


PROFILES = [
    pytest.param(UNLIMITED, id="cloud"),
    pytest.param(NO_QUERY, id="no query"),
    pytest.param(OLD_2023, id="2023"),
    pytest.param(replace(NO_QUERY, hogql_filter_allowed=False), id="no HogQL at all"),
]


@pytest.mark.parametrize("profile", PROFILES)
def test_rows_that_cannot_be_served_are_named_and_all_else_lands(profile, tmp_path):
    """Each is found to the microsecond by some sixty requests at most, and nothing beside it is missing."""
    bad, sink = spread(3), MemorySink()
    dataset = with_bad(1_500, bad)
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(healthy(dataset), START, END)
    assert moments(outcome) == [event.timestamp for event in bad]
    assert (outcome.complete, outcome.disputed) == (False, [])
    assert requests["list"] < 20 + 3 * 65


@pytest.mark.long
@pytest.mark.parametrize("profile", PROFILES[:3])
def test_five_rows_in_a_day_of_a_hundred_thousand_cost_minutes(profile, tmp_path):
    """Forty to sixty requests a row on top of the day's hundred; at 240 a minute that is two minutes at most."""
    bad, sink = spread(5), MemorySink()
    dataset = with_bad(100_000, bad)
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(healthy(dataset), START, END)
    assert moments(outcome) == [event.timestamp for event in bad]
    assert requests["list"] < 110 + 5 * 60


def test_later_runs_tell_it_and_pay_for_it_at_its_ages_only(tmp_path):
    """Until it is gone: a sync reads the window again after an hour, and again after six, and never in between."""
    bad, sink = spread(1), MemorySink()
    dataset, now = with_bad(300, bad), [NOW]
    with serve(dataset, profile=UNLIMITED, now=lambda: now[0]) as simulator:

        def run():
            return sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None, clock=lambda: now[0])

        _, first = run()
        found = []
        for hours in (0.5, 1.1, 1.5, 6.1, 7):
            now[0] = NOW + timedelta(hours=hours)
            outcome, requests = run()
            found.append(
                (len(outcome.unread), outcome.disputed, outcome.complete, requests["list"] > first["list"] / 2)
            )

    assert found == [(1, [], False, again) for again in (False, True, False, True, False)]


@pytest.mark.parametrize("profile", [UNLIMITED, NO_QUERY], ids=["with a count", "without"])
def test_row_that_can_be_served_again_is_landed_at_the_next_age(profile, tmp_path):
    """Then nothing is unread any more."""
    bad, sink, now = spread(1), MemorySink(), [NOW]
    dataset = with_bad(300, bad)
    with serve(dataset, profile=profile, now=lambda: now[0]) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None, clock=lambda: now[0])
        dataset.delete([bad[0].uuid])
        dataset.add([replace(bad[0], properties="{}")])
        now[0] = NOW + timedelta(hours=1, minutes=5)
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None, clock=lambda: now[0])

    assert landed(sink, START, END) == truth(dataset.events, START, END)
    assert (outcome.unread, outcome.complete) == ([], True)


def test_late_event_beside_a_row_that_cannot_be_served_is_found(tmp_path):
    """The count differs by more than what is not served: the window is read again, and that stays all that is wrong."""
    bad, sink, now = spread(1), MemorySink(), [NOW]
    dataset = with_bad(300, bad)
    late = replace(
        healthy(dataset)[0], uuid="ffffffff-0000-4000-8000-00000000aaaa", timestamp=START + timedelta(hours=1)
    )
    with serve(dataset, profile=UNLIMITED, now=lambda: now[0]) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None, clock=lambda: now[0])
        dataset.add([late])
        now[0] = NOW + timedelta(minutes=5)
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=None, clock=lambda: now[0])

    assert landed(sink, START, END) == truth(healthy(dataset), START, END)
    assert (len(outcome.unread), outcome.disputed) == (1, [])


@pytest.mark.parametrize("fellows", [3, 1_400], ids=["a few", "more than a page"])
@pytest.mark.parametrize("profile", [UNLIMITED, NO_QUERY], ids=["with a count", "without"])
def test_all_others_of_its_microsecond_are_read(profile, fellows, tmp_path):
    """Slices of the uuid's text leave out the one that cannot be served, and no other."""
    dataset, sink = generate(events=200, start=START, end=END, tie_sizes=(fellows,)), MemorySink()
    at = next(event.timestamp for event in dataset.events if event.event == "bulk import")
    dataset.add([replace(poisoned(7, at), uuid="7fffffff-1234-4000-8000-00000000aaaa")])
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)

    assert landed(sink, START, END) == truth(healthy(dataset), START, END)
    assert (moments(outcome), outcome.unproven, outcome.disputed) == ([at], {}, [])
    assert requests["list"] < 130


def test_verify_names_the_window_and_ends_with_a_difference(tmp_path):
    """What is not served is missing, and nothing has changed: verify says so too, and a repair reads it again."""
    bad, sink = spread(1), MemorySink()
    dataset = with_bad(300, bad)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=START, until=END)
        found = verify(simulator.url, simulator.key, sink, tmp_path)
        late = replace(healthy(dataset)[0], uuid="ffffffff-0000-4000-8000-00000000aaaa")
        dataset.add([late])
        changed = verify(simulator.url, simulator.key, sink, tmp_path)
        dataset.delete([bad[0].uuid])
        mended = verify(simulator.url, simulator.key, sink, tmp_path, repair=True)

    assert (len(found.left), found.good) == (1, False)
    assert [(one.unread, one.changed) for one in found.differences] == [(True, False)]
    assert [(one.unread, one.changed) for one in changed.differences] == [(False, True)]
    assert (mended.left, mended.good) == ([], True)
