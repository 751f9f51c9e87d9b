"""Words for people: durations, counts, sizes, times, filters; and what no terminal may be sent."""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime, timedelta

LAYOUT = "\n\t\u200c\u200d"  # lines, and what joins letters and emoji


def spoken(span: timedelta) -> str:
    """A duration for people: seconds, or its two largest units."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds) // 60
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2])


def counted(number: int, what: str) -> str:
    """A number and what is counted, for people: 1 window, 2,000 windows."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def visible(text: str) -> str:
    """*text* for a terminal: what would move its cursor, change its colours or its direction is spelled out, as \\x1b."""
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in ("Cc", "Cf") and sign not in LAYOUT
        else sign
        for sign in text
    )


def in_words(text: str) -> str:
    """*text* with every identity of a filter that stands in it said in words."""
    from extractors.filters import EventFilter  # and with it Arrow, which --help does without

    start = text.find('{"include": [')
    if start < 0:
        return text
    found, end = json.JSONDecoder().raw_decode(text, start)
    return f"{text[:start]}{EventFilter(tuple(found['include']), tuple(found['exclude']))}{in_words(text[end:])}"


def step_spoken(seconds: int) -> str:
    return (
        f"{seconds // 86400} d"
        if seconds >= 86400
        else f"{seconds // 3600} h"
        if seconds >= 3600
        else f"{seconds // 60} min"
    )


def sized(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def day(at: datetime | None) -> str:
    if at is None:
        return "–"
    text = at.isoformat(timespec="minutes").replace("+00:00", "Z")
    return text.removesuffix("T00:00Z")


def percent(share: float) -> str:
    """A share in percent, never rounded up to everything or down to nothing."""
    return "100 %" if share == 1 else f"{min(max(share * 100, 0.1), 99.9):.1f} %"
