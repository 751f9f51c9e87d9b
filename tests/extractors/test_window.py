"""Ranges are half-open and UTC; the windows of a date tile it, whatever the step."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.window import DAY, MICROSECOND, STEPS, Range, Window, dates, iso, midnight, window_at, windows_of

LEAP_DAY = date(2024, 2, 29)
START = midnight(LEAP_DAY)
HOUR = timedelta(hours=1)

steps = st.sampled_from(STEPS)
moments = st.integers(-(10**15), 10**15).map(lambda micros: START + micros * MICROSECOND)
checked = settings(derandomize=True, max_examples=100, deadline=None)


def at(hours: float) -> datetime:
    return START + hours * HOUR


INVALID = [
    pytest.param(Range, at(1), at(1), "empty", id="empty range"),
    pytest.param(Range, at(2), at(1), "empty", id="backward range"),
    pytest.param(Range, at(0).replace(tzinfo=None), at(1).replace(tzinfo=None), "UTC", id="naive"),
    pytest.param(Range, at(0), at(1).astimezone(timezone(HOUR)), "UTC", id="end in another zone"),
    pytest.param(Range, at(0).astimezone(timezone(HOUR)), at(1), "UTC", id="start in another zone"),
    pytest.param(Window, at(23), at(24) + MICROSECOND, "midnight", id="window past midnight"),
    pytest.param(Window, at(1), at(1), "empty", id="empty window"),
]


@pytest.mark.parametrize(("kind", "start", "end", "told"), INVALID)
def test_range_that_makes_no_sense_cannot_be_built(kind, start, end, told):
    """A range is UTC and holds at least a microsecond; a window stays inside its date."""
    with pytest.raises(ValueError, match=told):
        kind(start, end)


def test_window_may_end_at_midnight():
    """The end is exclusive, so midnight belongs to the next date."""
    assert Window(at(0), at(24)).duration == DAY


PAIRS = [
    pytest.param((0, 2), (2, 3), False, None, (0, 3), id="touching"),
    pytest.param((0, 2), (1, 3), False, (1, 2), (0, 3), id="crossing"),
    pytest.param((0, 4), (1, 2), True, (1, 2), (0, 4), id="inside"),
    pytest.param((0, 4), (0, 4), True, (0, 4), (0, 4), id="equal"),
    pytest.param((0, 1), (3, 4), False, None, (0, 4), id="apart"),
]


@pytest.mark.parametrize(("one", "other", "covers", "overlap", "hull"), PAIRS)
def test_ranges_compare_half_open(one, other, covers, overlap, hull):
    """Touching ranges share nothing; the hull spans a gap."""
    first, second = Range(*map(at, one)), Range(*map(at, other))

    assert first.covers(second) is covers
    assert first.overlap(second) == second.overlap(first) == (overlap and Range(*map(at, overlap)))
    assert first.hull(second) == second.hull(first) == Range(*map(at, hull))


@checked
@given(st.dates(date(1971, 1, 1), date(2100, 1, 1)), steps)
def test_windows_of_a_date_tile_it(day, step):
    """No gap, no overlap, all of the step's length, from midnight to midnight."""
    windows = list(windows_of(day, step))

    assert [window.start for window in windows] == [midnight(day) + n * step for n in range(DAY // step)]
    assert [window.end for window in windows[:-1]] == [window.start for window in windows[1:]]
    assert windows[-1].end == midnight(day) + DAY


@checked
@given(moments, steps)
def test_window_at_is_the_grid_window_that_holds_the_moment(moment, step):
    """The same grid, asked from the other side."""
    window = window_at(moment, step)

    assert window.start <= moment < window.end
    assert window in list(windows_of(moment.date(), step))


BOUNDARIES = [
    pytest.param(at(0), at(0), id="midnight opens its date"),
    pytest.param(at(24) - MICROSECOND, at(18), id="last microsecond of the date"),
    pytest.param(at(6), at(6), id="a boundary opens the later window"),
    pytest.param(at(6) - MICROSECOND, at(0), id="a microsecond before a boundary"),
]


@pytest.mark.parametrize(("moment", "start"), BOUNDARIES)
def test_window_at_a_boundary_is_the_later_window(moment, start):
    """A moment on a boundary lies in exactly one window."""
    assert window_at(moment, 6 * HOUR) == Window(start, start + 6 * HOUR)


RANGES = [
    pytest.param(at(0), at(24), [29], id="one whole date"),
    pytest.param(at(0), at(24) + MICROSECOND, [29, 1], id="a microsecond more"),
    pytest.param(at(-1), at(1), [28, 29], id="across midnight"),
    pytest.param(at(5), at(6), [29], id="inside a date"),
    pytest.param(at(-24), at(48), [28, 29, 1], id="leap day between"),
]


@pytest.mark.parametrize(("start", "end", "days"), RANGES)
def test_dates_are_those_the_range_touches(start, end, days):
    """A range that ends at midnight does not touch the date that begins there."""
    assert [day.day for day in dates(Range(start, end))] == days


INSTANTS = [
    pytest.param(at(1), "2024-02-29T01:00:00Z", id="whole second"),
    pytest.param(at(1) + MICROSECOND, "2024-02-29T01:00:00.000001Z", id="microsecond"),
    pytest.param(at(1).astimezone(timezone(-HOUR)), "2024-02-29T01:00:00Z", id="another zone"),
]


@pytest.mark.parametrize(("moment", "text"), INSTANTS)
def test_iso_is_utc(moment, text):
    """People read UTC, with a fraction only where there is one."""
    assert iso(moment) == text
