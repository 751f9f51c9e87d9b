"""The time-zone check: what is proven is a span of time, so that a switch to summer time is seen on either side of it.

The server has the fault: rows show the project's wall clock labelled as UTC, cursors and bounds are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from extractors import errors
from extractors.reading.zone import HourCount, Spans
from extractors.simulator.data.dataset import Event
from extractors.window import DAY, MICROSECOND, Range
from tests.extractors.pages import Pages, at_times, reader_of, spread

HOUR = timedelta(hours=1)
SPRING = datetime(2026, 3, 29, 1, tzinfo=UTC)  # London puts its clocks forward
AUTUMN = datetime(2026, 10, 25, 1, tzinfo=UTC)  # and back


def events_at(*spans: Sequence[Event]) -> list[Event]:
    """The events of all *spans*, each with its own uuid."""
    return at_times(*(event.timestamp for span in spans for event in span))


def sweep(reader, start: datetime, end: datetime, hours=None) -> int:
    """How many rows a sweep brings."""
    found = reader.sweep(Range(start, end), window_end=lambda at: end, hours=hours)
    return sum(passage.rows.num_rows for passage in found)


def exact(pages: Pages) -> int:
    """Requests that ask for one microsecond, as only the check does."""
    return sum(
        datetime.fromisoformat(asked["before"]) - datetime.fromisoformat(asked["after"]) == 2 * MICROSECOND
        for asked in pages.asked
    )


def hours_of(events: Sequence[Event]) -> dict[datetime, HourCount]:
    """What /query says of each hour."""
    hours: dict[datetime, list[str]] = {}
    for event in events:
        hours.setdefault(event.timestamp.replace(minute=0, second=0, microsecond=0), []).append(event.uuid)
    return {hour: HourCount(len(found), min(found)) for hour, found in hours.items()}


LONDON, AZORES = "Europe/London", "Atlantic/Azores"
AROUND = [
    pytest.param(
        LONDON,
        events_at(spread(1_000, SPRING - 5 * DAY, SPRING - HOUR), spread(40, SPRING + HOUR, SPRING + 10 * HOUR)),
        id="forward, a page before and a few after",
    ),
    pytest.param(
        LONDON,
        events_at(spread(1_000, SPRING - 5 * DAY, SPRING - HOUR), spread(1, SPRING + HOUR, SPRING + 10 * HOUR)),
        id="forward, a page before and one after",
    ),
    pytest.param(
        LONDON,
        events_at(spread(500, SPRING - 5 * DAY, SPRING - HOUR), spread(400, SPRING + HOUR, SPRING + DAY)),
        id="forward, in the last page",
    ),
    pytest.param(
        LONDON,
        events_at(spread(2, SPRING - 3 * HOUR, SPRING - HOUR), spread(1, SPRING + HOUR, SPRING + DAY)),
        id="forward, three events",
    ),
    pytest.param(
        LONDON,
        events_at(spread(800, AUTUMN - 5 * DAY, AUTUMN - 2 * HOUR), spread(800, AUTUMN + 2 * HOUR, AUTUMN + 5 * DAY)),
        id="back, inside a full page",
    ),
    pytest.param(
        LONDON,
        events_at(spread(300, AUTUMN - 5 * DAY, AUTUMN - 2 * HOUR), spread(1_500, AUTUMN + 2 * HOUR, AUTUMN + 5 * DAY)),
        id="back, early in a full page",
    ),
    pytest.param(
        LONDON,
        events_at(spread(1, AUTUMN - 5 * DAY, AUTUMN), spread(1_500, AUTUMN + 2 * HOUR, AUTUMN + 5 * DAY)),
        id="back, one event before",
    ),
    pytest.param(
        LONDON,
        events_at(spread(300, AUTUMN - 5 * DAY, AUTUMN - 2 * HOUR), spread(300, AUTUMN + 2 * HOUR, AUTUMN + 5 * DAY)),
        id="back, in the last page",
    ),
    pytest.param(LONDON, spread(1_500, SPRING - 60 * DAY, AUTUMN + 60 * DAY), id="a summer inside one full page"),
    pytest.param(LONDON, spread(700, SPRING - 60 * DAY, AUTUMN + 60 * DAY), id="a summer inside the last page"),
    pytest.param(
        AZORES,
        events_at(spread(1_000, AUTUMN - 5 * DAY, AUTUMN - 2 * HOUR), spread(2, AUTUMN + 2 * HOUR, AUTUMN + DAY)),
        id="UTC in summer, two events in winter",
    ),
]


@pytest.mark.parametrize(("zone", "events"), AROUND)
def test_switch_of_a_zone_that_is_utc_for_half_a_year_is_seen(zone, events, tmp_path):
    """Without /query: whatever page the switch falls into, the fault is named."""
    start, end = events[0].timestamp - DAY, events[-1].timestamp + DAY
    pages = Pages(events, zone=zone)

    with pytest.raises(errors.UnusableAnswer, match=r"local times as UTC|do not ascend"):
        sweep(reader_of(pages, tmp_path), start, end)

    assert sweep(reader_of(Pages(events), tmp_path), start, end) == len(events)


def test_page_that_brings_the_switch_is_not_given_on(tmp_path):
    """The rows before it are; the page of 40 events an hour late is not."""
    events = events_at(spread(1_000, SPRING - 5 * DAY, SPRING - HOUR), spread(40, SPRING + HOUR, SPRING + 10 * HOUR))
    reader = reader_of(Pages(events, zone=LONDON), tmp_path)
    passages = reader.sweep(Range(SPRING - 6 * DAY, SPRING + DAY), window_end=lambda at: SPRING + DAY)

    assert next(passages).rows.num_rows == 1_000
    with pytest.raises(errors.TimeZoneFault):
        next(passages)


def test_full_pages_cost_one_request_more(tmp_path):
    """Cursors prove the rest: the first row once, and the last row of the last page."""
    events = spread(5_500, SPRING - 30 * DAY, SPRING + 30 * DAY)
    pages = Pages(events)
    sweep(reader_of(pages, tmp_path), SPRING - 30 * DAY, SPRING + 30 * DAY)

    assert exact(pages) == 2


def test_proven_time_is_shared_by_sweeps(tmp_path):
    """The look-back asks nothing for rows between two that an earlier sweep proved."""
    events = spread(800, SPRING, SPRING + 8 * DAY)
    pages = Pages(events)
    reader = reader_of(pages, tmp_path)
    sweep(reader, SPRING, SPRING + 8 * DAY)
    before = exact(pages)
    sweep(reader, SPRING + DAY, SPRING + 2 * DAY)

    assert (before, exact(pages)) == (2, 2)


def test_counts_by_query_prove_the_first_row_of_a_full_page(tmp_path):
    """No request more where the hours agree; where they do not, the row is asked for."""
    events = spread(2_300, SPRING, SPRING + 2 * DAY)
    counted = hours_of(events)
    asked = []
    for known in (counted, {hour: HourCount(count.rows + 1, count.least_uuid) for hour, count in counted.items()}):
        pages = Pages(events)
        sweep(reader_of(pages, tmp_path), SPRING, SPRING + 2 * DAY, hours=known)
        asked.append(exact(pages))

    assert asked == [0, 2]


def test_one_hour_that_differs_proves_no_page(tmp_path):
    """A page over the switch: its hours of winter are as /query counts them, those of summer are not."""
    events = events_at(spread(300, SPRING - 5 * DAY, SPRING - HOUR), spread(40, SPRING + HOUR, SPRING + 10 * HOUR))

    with pytest.raises(errors.TimeZoneFault):
        sweep(reader_of(Pages(events, zone=LONDON), tmp_path), SPRING - 6 * DAY, SPRING + DAY, hours=hours_of(events))


def test_row_that_was_deleted_meanwhile_is_no_fault(tmp_path):
    """Two others are tried beside one that is not there any more."""
    events = spread(800, SPRING, SPRING + 8 * DAY)
    pages = Pages(events)
    reader = reader_of(pages, tmp_path)
    passages = reader.sweep(Range(SPRING, SPRING + 8 * DAY), window_end=lambda at: SPRING + 8 * DAY)
    gone = {events[0].uuid, events[1].uuid, events[-1].uuid}
    pages.before_answer = lambda number: number == 2 and pages.delete(gone)

    assert sum(passage.rows.num_rows for passage in passages) == 800
    assert exact(pages) == 5


def test_row_among_more_ties_than_a_page_is_no_fault(tmp_path):
    """Which of them a page shows is chance: any row at that time proves the time."""
    events = at_times(*[SPRING] * 400, *[SPRING + HOUR] * 10)
    pages = Pages(events, cap=20)
    reader = reader_of(pages, tmp_path)

    passages = list(reader.sweep(Range(SPRING, SPRING + DAY), window_end=lambda at: SPRING + DAY))

    assert passages[0].passed == SPRING + MICROSECOND
    assert passages[-1].rows.num_rows == 10


JOINED = [
    pytest.param([(0, 1)], [(0, 1)], id="one"),
    pytest.param([(0, 1), (29, 30)], [(0, 30)], id="as far apart as may be"),
    pytest.param([(0, 1), (30, 31)], [(0, 1), (30, 31)], id="farther"),
    pytest.param([(40, 41), (0, 1), (20, 21)], [(0, 41)], id="one between joins both"),
    pytest.param([(0, 50), (10, 11)], [(0, 50)], id="inside"),
]


@pytest.mark.parametrize(("added", "held"), JOINED)
def test_spans_join_where_no_two_switches_fit_between(added, held):
    """28 days, bounds included: rows between two right ones are right."""
    spans = Spans()
    for first, last in added:
        spans.add(SPRING + first * DAY, SPRING + last * DAY)

    for first, last in held:
        assert spans.end_at(SPRING + first * DAY) == SPRING + last * DAY
        assert spans.end_at(SPRING + last * DAY) == SPRING + last * DAY
        assert spans.end_at(SPRING + first * DAY - MICROSECOND) is None
        assert spans.end_at(SPRING + last * DAY + MICROSECOND) is None


@pytest.mark.parametrize(("minutes", "asks"), [(30, 0), (31, 2)])
def test_short_range_is_not_asked_about(minutes, asks, tmp_path):
    """A row of another zone's time lies outside half an hour, which the reader refuses: an idle sync pays nothing."""
    start = datetime(2026, 3, 31, 12, tzinfo=UTC)
    pages = Pages(events_at(spread(5, start, start + timedelta(minutes=25))))

    assert sweep(reader_of(pages, tmp_path), start, start + timedelta(minutes=minutes)) == 5
    assert exact(pages) == asks
