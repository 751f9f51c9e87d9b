"""How `after` and `before` are read (facts/posthog-api.md §1.3)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from extractors.simulator.data.dates import moment
from extractors.simulator.errors import BareFault
from extractors.simulator.profiles import CLOUD, OLD_2021, OLD_2023

# 08:30 in New York, the project's zone.
NOW = datetime(2026, 7, 31, 12, 30, tzinfo=UTC)

MOMENTS = [
    pytest.param("-3h", "2026-07-31T09:30", id="hours"),
    pytest.param("3h", "2026-07-31T09:30", id="the sign does not matter"),
    pytest.param("-5M", "2026-07-31T12:25", id="minutes"),
    pytest.param("-90s", "2026-07-31T12:28:30", id="seconds"),
    pytest.param("-2w", "2026-07-17T12:30", id="weeks"),
    pytest.param("-1m", "2026-06-30T12:30", id="a month, to its last day"),
    pytest.param("-17m", "2025-02-28T13:30", id="months into another year and winter time"),
    pytest.param("-1q", "2026-05-01T12:30", id="a quarter is thirteen weeks"),
    pytest.param("-1y", "2025-07-31T12:30", id="years"),
    pytest.param("-1hStart", "2026-07-31T11:00", id="start of the hour"),
    pytest.param("hEnd", "2026-07-31T12:59:59.999999", id="end of this hour"),
    pytest.param("dStart", "2026-07-31T04:00", id="start of the project's day"),
    pytest.param("-1dEnd", "2026-07-31T03:59:59.999999", id="end of the project's yesterday"),
    pytest.param("mStart", "2026-07-01T12:30", id="first of the month at the same time"),
    pytest.param("-1mEnd", "2026-06-30T12:30", id="last of the month before"),
    pytest.param("yStart", "2026-01-01T13:30", id="first of the year"),
    pytest.param("-1yEnd", "2025-12-31T13:30", id="last of the year before"),
    pytest.param("-1wStart", "2026-07-24T12:30", id="a week has no start"),
    pytest.param("about 2h ago", "2026-07-31T10:30", id="a unit within other words"),
    pytest.param("last 7d", "2026-07-31T12:30", id="the first unit letter is the s of last"),
    pytest.param("2026-07-31T10:00:00 00:00 3h", "2026-07-31T09:30", id="a broken ISO text with a unit"),
    pytest.param("garbage", "2026-07-31T12:30", id="no unit letter is now"),
    pytest.param("1762528896", "2026-07-31T12:30", id="a number is now"),
    pytest.param("yesterday", "2026-07-31T12:30", id="a unit without a number is now"),
]


@pytest.mark.parametrize(("text", "expected"), MOMENTS)
def test_text_that_is_no_date_is_relative_or_now(text, expected):
    """The first unit letter anywhere counts, with the number before it and the edge behind it; else it is now."""
    assert moment(text, NOW, CLOUD) == datetime.fromisoformat(f"{expected}+00:00")


ZONES = [
    pytest.param(CLOUD, "2026-07-31T06:00:00+05:00", "2026-07-31T01:00", id="cloud converts an offset"),
    pytest.param(CLOUD, "2026-07-31T06:00:00", "2026-07-31T10:00", id="cloud reads none in the project's zone"),
    pytest.param(OLD_2023, "2026-07-31T06:00:00+05:00", "2026-07-31T06:00", id="1.43 drops an offset"),
    pytest.param(OLD_2023, "2026-07-31", "2026-07-31T00:00", id="1.43 reads a date in UTC"),
    pytest.param(OLD_2021, "2026-07-31T06:00:00+05:00", "2026-07-31T01:00", id="1.30 converts an offset"),
]


@pytest.mark.parametrize(("profile", "text", "expected"), ZONES)
def test_zone_of_a_bound_is_converted_or_dropped(profile, text, expected):
    """Each server reads an offset in its own way."""
    assert moment(text, NOW, profile) == datetime.fromisoformat(f"{expected}+00:00")


@pytest.mark.parametrize("text", ["-30d", "garbage"])
def test_server_that_only_knows_dates_fails_on_anything_else(text):
    """1.30 answers 500 to what is no ISO date."""
    with pytest.raises(BareFault):
        moment(text, NOW, OLD_2021)


def test_relative_date_before_the_first_year_is_a_fault():
    """A number that leads out of the calendar fails as an exception does."""
    with pytest.raises(BareFault):
        moment("-99999y", NOW, CLOUD)
