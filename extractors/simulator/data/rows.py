"""A row of the events list as text, keys in the server's order (facts/posthog-api.md §1.7)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from extractors.simulator.data.dataset import Event, Person
from extractors.simulator.data.elements import elements_text
from extractors.simulator.profiles import Profile

HUGE = re.compile(r"[eE]\+?\d{3}|\d{309}")
"""What a number beyond double has in its text."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*')


def unservable(found: Sequence[Event], fetched: Sequence[Event], *, persons: bool) -> bool:
    """Whether a row makes the answer a bare 500: shown properties that are no object, or, where *persons* are looked

    up for every *fetched* row, a NUL in a distinct id, which Postgres refuses.
    """
    return any(event.properties.lstrip()[:1] != "{" for event in found) or (
        persons and any("\0" in event.distinct_id for event in fetched)
    )


def row(event: Event, person: Person | None, profile: Profile) -> bytes:
    """*event* as *profile*'s server shows it; `properties` go to the letter, *person* None is null."""
    parts = {
        "distinct_id": _text(event.distinct_id),
        "properties": _properties(event.properties, profile),
        "event": _text(event.event),
        "timestamp": f'"{shown_timestamp(event.timestamp, profile)}"',
        "person": _person(person),
        "elements": elements_text(event.elements_chain),
        "elements_chain": _text(event.elements_chain),
    }
    if profile.integer_rows:
        parts["id"] = str(integer_id(event.uuid))
        order = ("id", "distinct_id", "properties", "elements", "event", "timestamp", "person")
        return _object({name: parts[name] for name in order})
    return _object({"id": _text(event.uuid)} | parts)


def _properties(text: str, profile: Profile) -> str:
    """The text of properties, with numbers beyond double as *profile*'s server shows them."""
    if profile.beyond_double == "kept" or not HUGE.search(text):
        return text
    words = TOKEN.sub(lambda token: _word(token[0]), text)
    if profile.beyond_double == "word" or words == text:
        return words
    return json.dumps(_without_infinity(json.loads(text)), ensure_ascii=False, separators=(",", ":"))


def _word(token: str) -> str:
    infinite = token[0] != '"' and not token.lstrip("-").isdigit() and abs(float(token)) == float("inf")
    return token if not infinite else "-Infinity" if token[0] == "-" else "Infinity"


def _without_infinity(value: Any) -> Any:
    """Infinities as null; in an object a key `name::inf` tells of each (seen for positive ones)."""
    if isinstance(value, dict):
        told = {f"{name}::{one}": True for name, one in value.items() if one in (float("inf"), -float("inf"))}
        return {name: _without_infinity(one) for name, one in value.items()} | told
    if isinstance(value, list):
        return [_without_infinity(one) for one in value]
    return None if value in (float("inf"), -float("inf")) else value


def integer_id(uuid: str) -> int:
    """The number that stands for *uuid* where rows have numbers: its last twelve digits."""
    return int(uuid[-12:], 16)


def shown_timestamp(at: datetime, profile: Profile) -> str:
    """ISO text: six digits or no fraction at all; `Z` in rows with numbers; the wall clock with a wrong label by fault."""
    if profile.wrong_zone_labels:
        at = at.astimezone(ZoneInfo(profile.project_timezone)).replace(tzinfo=at.tzinfo)
    text = at.isoformat()
    return text.replace("+00:00", "Z") if profile.integer_rows else text


def _person(person: Person | None) -> str:
    if person is None:
        return "null"
    identified = "true" if person.is_identified else "false"
    return f'{{"is_identified":{identified},"distinct_ids":[{_text(person.distinct_id)}],"properties":{person.properties}}}'


def _object(parts: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}").encode()


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
