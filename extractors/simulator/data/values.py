"""GET events/values: suggestions for a property, never an inventory (facts/posthog-api.md §2.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from extractors.simulator.data.dataset import EPOCH, MICROSECOND, Dataset, Event
from extractors.simulator.errors import BadInput
from extractors.simulator.profiles import Profile

MOST = 10
DAYS = 7
COMMON = frozenset(("$pageview", "$pageleave", "$autocapture", "$identify", "$screen"))
COLUMNS = ("distinct_id", "event", "uuid", "elements_chain")


def suggestions(
    dataset: Dataset, params: Mapping[str, str], event_names: list[str], now: datetime, profile: Profile
) -> list[str]:
    """Distinct values, at most ten, of the last seven days by the project's days; all event names of your own for custom_event.

    Raises BadInput for what the server refuses. Servers that answer bare lists have no values for a missing key.
    """
    key = params.get("key", "")
    if not key:
        if profile.values_bare:
            return []
        raise BadInput("You must provide a key")
    if key == "custom_event":
        return _custom_events(dataset, sorted_by_name=not profile.values_bare)
    if not event_names and profile.values_event_required:
        raise BadInput("You must provide an event_name; use the query endpoint for more")
    part = params.get("value", "").lower()
    filters = {name.removeprefix("properties_"): _wanted(text) for name, text in params.items() if _is_filter(name)}
    found: dict[str, None] = {}
    for event in reversed(dataset.between(_since(now, profile), None)):
        if event_names and event.event not in event_names:
            continue
        if not all(wanted & set(_texts(event, name, column=False)) for name, wanted in filters.items()):
            continue
        for text in _texts(event, key, column=params.get("is_column") == "true"):
            if part in text.lower():
                found.setdefault(text)
        if len(found) >= MOST and not part:
            break
    return (sorted(found, key=len) if part else list(found))[:MOST]


def _is_filter(name: str) -> bool:
    return name.startswith("properties_")


def _wanted(text: str) -> set[str]:
    """The values that a `properties_<name>` lets pass: JSON, one value or a list of them, or plain text."""
    try:
        given = json.loads(text)
    except ValueError:
        given = text
    return {one if isinstance(one, str) else json.dumps(one) for one in (given if isinstance(given, list) else [given])}


def _since(now: datetime, profile: Profile) -> int:
    """The last microsecond before the day, in the project's zone, that lies seven days back."""
    today = now.astimezone(ZoneInfo(profile.project_timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today - timedelta(days=DAYS) - EPOCH) // MICROSECOND - 1


def _custom_events(dataset: Dataset, *, sorted_by_name: bool) -> list[str]:
    """Names of events, without a time limit: all but PostHog's own, sorted; or all but the five common, newest first."""
    names = dict.fromkeys(event.event for event in reversed(dataset.events))
    if sorted_by_name:
        return sorted(name for name in names if not name.startswith("$"))
    return [name for name in names if name not in COMMON]


def _texts(event: Event, key: str, *, column: bool) -> Iterator[str]:
    if column:
        if key in COLUMNS:
            yield str(getattr(event, key))
        return
    value = event.values.get(key)
    for one in value if isinstance(value, list) else [value]:
        if one is not None:
            yield one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
