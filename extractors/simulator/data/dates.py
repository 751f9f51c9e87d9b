"""How a server reads `after` and `before`: ISO, relative, or silently now (facts/posthog-api.md §1.3)."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from extractors.simulator.errors import BareFault
from extractors.simulator.profiles import Profile

DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
# Searched for, not matched as a whole: the first unit letter anywhere counts, so the `s` of `last 7d` wins over the `d`.
RELATIVE = re.compile(r"-?(\d+)?([hdwmMsqy])(Start|End)?")
FIXED = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "q": timedelta(weeks=13),
    "M": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
MONTHS = {"m": 1, "y": 12}
MICROS = 1_000_000
DAY_NUMBERS = 65_536


def moment(text: str, now: datetime, profile: Profile) -> datetime:
    """The instant, in UTC, that the server takes *text* for. Raises BareFault where *profile* only knows ISO."""
    zone = ZoneInfo(profile.project_timezone)
    try:
        at = datetime.fromisoformat(DATE.sub(_padded, text))
    except ValueError as exc:
        if profile.dates == "iso":
            raise BareFault(f"no date: {text}") from exc
        return _relative(text, now.astimezone(zone)).astimezone(UTC)
    if profile.bounds_zone == "dropped":
        return at.replace(tzinfo=UTC)
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def day_number(micros: int) -> int:
    """The number of a day in the engine's index: 16 bits, so days before 1970 and from 2149-06-07 on start over.

    The fraction of a second is cut off first, so the last second of 1969 belongs to 1970.
    """
    seconds = micros // MICROS if micros >= 0 else -(-micros // MICROS)
    return seconds // 86_400 % DAY_NUMBERS


def _padded(date: re.Match[str]) -> str:
    """`2021-1-1` is a date, too."""
    return f"{date[1]}-{date[2]:0>2}-{date[3]:0>2}"


def _relative(text: str, now: datetime) -> datetime:
    """*now* (in the project's zone) moved back by the first unit in *text*; unchanged where there is none."""
    found = RELATIVE.search(text)
    if found is None:
        return now
    number, unit, position = int(found[1] or 0), found[2], found[3]
    try:
        at = _months_back(now, number * MONTHS[unit]) if unit in MONTHS else now - number * FIXED[unit]
    except (OverflowError, ValueError) as exc:
        raise BareFault(f"date out of range: {text}") from exc
    return _edge(at, unit, position) if position else at


def _months_back(at: datetime, months: int) -> datetime:
    """The same wall clock *months* earlier; a day that the month lacks becomes its last."""
    index = at.year * 12 + at.month - 1 - months
    year, month = index // 12, index % 12 + 1
    return at.replace(year=year, month=month, day=min(at.day, calendar.monthrange(year, month)[1]))


def _edge(at: datetime, unit: str, position: str) -> datetime:
    """Start or end of the hour or day; first or last day of the month or year at the same time of day; else *at*."""
    start = position == "Start"
    if unit == "h":
        return at.replace(minute=0 if start else 59, second=0 if start else 59, microsecond=0 if start else 999_999)
    if unit == "d":
        return _edge(at.replace(hour=0 if start else 23), "h", position)
    if unit == "y":
        return at.replace(month=1, day=1) if start else at.replace(month=12, day=31)
    if unit == "m":
        return at.replace(day=1 if start else calendar.monthrange(at.year, at.month)[1])
    return at
