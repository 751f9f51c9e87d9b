"""A row of the events list as text, keys in the server's order (facts/posthog-api.md §1.7)."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

from extractors.simulator.dataset import Event, Person
from extractors.simulator.elements import elements_text
from extractors.simulator.profiles import Profile


def row(event: Event, person: Person | None, profile: Profile) -> bytes:
    """*event* as *profile*'s server shows it; `properties` go to the letter, *person* None is null."""
    parts = {
        "distinct_id": _text(event.distinct_id),
        "properties": event.properties,
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
