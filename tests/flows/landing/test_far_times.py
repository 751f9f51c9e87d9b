"""Events before 1970 and behind 2149, where no bound can be sent: landed, or named as not covered, never lost in silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from extractors import request
from extractors.filters import EventFilter, Narrowing
from extractors.http.decode import RAW_ROWS, REJECTS, Page
from extractors.reading import ancient
from extractors.reading.events import EventsReader
from extractors.request import LAST_BOUND
from extractors.simulator.data.dataset import MICROSECOND, Dataset, Event
from extractors.simulator.profiles import OLD_2023, SELF_HOSTED, SERVER_2023_12
from extractors.simulator.server import serve
from extractors.window import DAY, EPOCH, Range
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth, unhindered

NOW = datetime(2026, 3, 10, tzinfo=UTC)
NINETEEN_SIXTY, LAST_SECOND = datetime(1960, 1, 1, tzinfo=UTC), EPOCH - timedelta(seconds=1)
NO_QUERY = replace(UNLIMITED, query_allowed=False)


def event(number: int, at: datetime) -> Event:
    return Event(f"00000000-0000-4000-8000-{number:012x}", "e", "d", at, "{}")


MODERN = [event(100 + n, NOW - n * DAY) for n in range(1, 4)]
SHOWING = [
    pytest.param(OLD_2023, id="1.43"),
    pytest.param(SERVER_2023_12, id="2023-12"),
    pytest.param(replace(OLD_2023, query_allowed=False), id="1.43, no query"),
    pytest.param(SELF_HOSTED, id="self-hosted"),
    pytest.param(UNLIMITED, id="cloud"),
]


@pytest.mark.parametrize("profile", SHOWING)
def test_events_on_both_sides_of_1970_are_landed(profile, tmp_path):
    """The last second of 1969 and the first moment of 1970; a second sync finds nothing new."""
    start, end = datetime(1969, 12, 20, tzinfo=UTC), datetime(1970, 1, 10, tzinfo=UTC)
    dataset = Dataset([event(1, LAST_SECOND), event(2, EPOCH), event(3, EPOCH + MICROSECOND), *MODERN])
    sink = MemorySink()
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=end, marks=False)
        again, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=end, marks=False)

    assert landed(sink, start, end) == truth(dataset.events, start, end)
    assert (outcome.complete, outcome.unreachable, again.rows) == (True, [], 0)
    assert requests["list"] < 20


@pytest.mark.parametrize("profile", [SHOWING[0], SHOWING[3]])
def test_events_of_the_sixties_are_landed_where_the_server_shows_them(profile, tmp_path):
    """It shows everything without a lower bound; what lies outside the range asked is cut here."""
    start, end = datetime(1965, 5, 1, tzinfo=UTC), datetime(1965, 5, 4, tzinfo=UTC)
    old = [event(n, start + timedelta(hours=n)) for n in range(-3, 80)]
    sink = MemorySink()
    dataset = Dataset([*old[3:], *MODERN, event(999, start - DAY), event(998, end + DAY)])
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=end, marks=False)

    assert landed(sink, start, end) == truth(dataset.events, start, end)
    assert landed(sink, NINETEEN_SIXTY, NOW) == landed(sink, start, end)
    assert outcome.complete


def test_more_events_before_1970_than_a_page_are_read_in_slices(tmp_path):
    """Without a bound there is no going on from the last row."""
    profile = replace(SELF_HOSTED, page_cap=100)
    start, end = datetime(1969, 12, 29, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC)
    events = [
        replace(event(n, start + timedelta(minutes=5 * n)), uuid=f"{n * 7919 % 65536:04x}0000-0000-4000-8000-{n:012x}")
        for n in range(900)
    ]
    dataset, sink = Dataset([*events, *MODERN]), MemorySink()
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=end, marks=False)

    assert landed(sink, start, end) == truth(dataset.events, start, end)
    assert outcome.complete


@pytest.mark.parametrize("sliceable", [True, False])
def test_slice_before_1970_that_is_not_served_leaves_all_of_it_unknown(sliceable):
    """Part of that time is nothing that could be called covered."""
    rows = pa.table(
        [
            [f"{n}0000000-0000-4000-8000-000000000000" for n in range(4)],
            *[["e"] * 4, ["d"] * 4],
            [LAST_SECOND + timedelta(microseconds=n - 9) for n in range(4)],
            *[["{}"] * 4, [""] * 4],
        ],
        schema=RAW_ROWS,
    )
    first = Page(rows, REJECTS.empty_table(), more=True, cursor=None)

    def ask(_: Range, narrowing: Narrowing | None) -> Page | None:
        return first if narrowing is None else None

    found = ancient.shown(ask, count=lambda rng: 4, sliceable=lambda: sliceable, passing=lambda rows: rows)

    assert found == ancient.UNKNOWN


HIDDEN = [
    pytest.param(NO_QUERY, [event(1, LAST_SECOND)], id="nobody counts"),
    pytest.param(UNLIMITED, [event(1, datetime(1965, 5, 1, tzinfo=UTC))], id="counted, and not shown"),
]


@pytest.mark.parametrize(("profile", "old"), HIDDEN)
def test_time_that_a_server_cannot_be_asked_for_is_named_and_not_covered(profile, old, tmp_path):
    """A server that puts a lower bound itself hides what is older; the rest of the range is landed."""
    start, end = datetime(1969, 12, 20, tzinfo=UTC), datetime(1970, 1, 10, tzinfo=UTC)
    dataset, sink = Dataset([*old, event(2, EPOCH), *MODERN]), MemorySink()
    with serve(dataset, profile=profile, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=end, marks=False)

    assert landed(sink, start, end) == truth(dataset.events, EPOCH, end)
    assert (outcome.complete, outcome.unreachable) == (False, [Range(start, EPOCH)])
    assert min(sink.ledger(1, "events").entries) == EPOCH


@pytest.mark.parametrize(("far", "reached"), [([], 2150), ([event(9, datetime(2149, 9, 1, tzinfo=UTC))], 2149)])
def test_time_behind_2149_is_reachable_where_nothing_is_counted_there(far, reached, tmp_path):
    """No bound can be sent that would show it."""
    with (
        serve(Dataset([*MODERN, *far]), profile=OLD_2023, now=lambda: NOW) as simulator,
        unhindered(simulator.url, simulator.key, tmp_path) as client,
    ):
        reader = EventsReader(client, 1, events=EventFilter())
        found = reader.reachable(Range(NOW, datetime(2150, 1, 1, tzinfo=UTC)))

    assert found is not None
    assert found.end.year == reached


RANGES = [
    Range(NINETEEN_SIXTY, NOW),
    Range(NINETEEN_SIXTY, NINETEEN_SIXTY + DAY),
    Range(EPOCH - MICROSECOND, EPOCH),
    Range(EPOCH, EPOCH + MICROSECOND),
    Range(NOW, datetime(2150, 1, 1, tzinfo=UTC)),
    request.ALL_TIME,
]


@pytest.mark.parametrize("rng", RANGES, ids=str)
def test_no_bound_is_sent_that_the_engine_cannot_hold(rng):
    """`after` from the last microsecond of 1969 on, `before` up to 2149-06-06."""
    params = dict(request.events_page(1, rng, limit=1, events=EventFilter()).params)

    after = datetime.fromisoformat(params["after"]) if "after" in params else EPOCH
    assert after >= EPOCH - MICROSECOND
    assert after <= datetime.fromisoformat(params["before"]) <= LAST_BOUND
