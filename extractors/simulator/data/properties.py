"""`properties` of a list request: filters and groups of filters, ANDed or ORed (facts/posthog-api.md §1.4, §1.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from extractors.simulator.data.dataset import Event
from extractors.simulator.errors import BadInput, BareFault
from extractors.simulator.profiles import Profile

LEGACY_KEYS = {"property_type", "property_type_format"}
KNOWN_KEYS = {"key", "value", "operator", "type", "label"}


@dataclass(frozen=True, slots=True)
class HogQL:
    """A boolean HogQL expression."""

    expression: str


@dataclass(frozen=True, slots=True)
class Property:
    """A test of one event property."""

    test: Callable[[Event], bool]


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions that must all hold (AND) or of which one must (OR); an empty group lets everything pass."""

    kind: Literal["AND", "OR"]
    conditions: tuple[Condition, ...]


Condition = HogQL | Property | Group
Matching = Callable[[str, Sequence[Event]], frozenset[int]]
"""Positions of the events that pass a HogQL expression."""


def parsed(text: str, profile: Profile) -> Condition:
    """The condition that *text* states: a list (all must hold), a group, or one filter; nothing if it is empty.

    Raises BadInput for what is no JSON and BareFault for what the server's schema refuses.
    """
    if not text:
        return Group("AND", ())
    try:
        given = json.loads(text)
    except ValueError as exc:
        raise BadInput("Properties are unparsable!") from exc
    return _group("AND", given, profile) if isinstance(given, list) else _condition(given, profile)


def passing(condition: Condition, events: Sequence[Event], matching: Matching) -> list[int]:
    """Ascending positions of the *events* that pass."""
    if isinstance(condition, HogQL):
        return sorted(matching(condition.expression, events))
    if isinstance(condition, Property):
        return [position for position, event in enumerate(events) if condition.test(event)]
    everything = list(range(len(events)))
    if condition.kind == "OR" and condition.conditions:
        return sorted({one for part in condition.conditions for one in passing(part, events, matching)})
    for part in condition.conditions:
        kept = passing(part, [events[position] for position in everything], matching)
        everything = [everything[position] for position in kept]
    return everything


def _condition(entry: object, profile: Profile) -> Condition:
    if not isinstance(entry, dict):
        raise BareFault("a filter is an object")
    kind = str(entry.get("type", "event"))
    if kind.upper() in ("AND", "OR"):
        return _group("OR" if kind.upper() == "OR" else "AND", entry.get("values"), profile)
    unknown = set(entry) - LEGACY_KEYS - KNOWN_KEYS
    if unknown:
        raise BareFault(f"unknown keys: {', '.join(sorted(unknown))}")
    if kind != "hogql":
        return Property(_property_test(entry))
    if not profile.hogql_filter_allowed:
        raise BareFault("no HogQL here")
    return HogQL(str(entry.get("key")))


def _group(kind: Literal["AND", "OR"], entries: object, profile: Profile) -> Group:
    if not isinstance(entries, list):
        raise BareFault("a group has a list of values")
    return Group(kind, tuple(_condition(entry, profile) for entry in entries))


def _property_test(entry: Mapping[str, Any]) -> Callable[[Event], bool]:
    """A test of one event property by *entry*'s operator. Raises BareFault for one that is not simulated."""
    key, wanted, operator = str(entry.get("key")), entry.get("value"), str(entry.get("operator") or "exact")
    values = [_text(one) for one in wanted] if isinstance(wanted, list) else [_text(wanted)]
    if operator in ("is_set", "is_not_set"):
        return lambda event: (_found(event, key) is not None) == (operator == "is_set")
    if operator in NEGATED:
        compare, negated = COMPARED[NEGATED[operator]], True
    elif operator in COMPARED:
        compare, negated = COMPARED[operator], False
    else:
        raise BareFault(f"operator {operator} is not simulated")

    def test(event: Event) -> bool:
        found = _found(event, key)
        if found is None:
            return negated
        return compare(_text(found), values) != negated

    return test


def _found(event: Event, key: str) -> object:
    return event.values.get(key)


def _text(value: object) -> str:
    """The text that ClickHouse compares: JSON for everything but texts."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _numbers(compare: Callable[[float, float], bool]) -> Callable[[str, list[str]], bool]:
    def test(text: str, values: list[str]) -> bool:
        try:
            return compare(float(text), float(values[0]))
        except (ValueError, IndexError):
            return False

    return test


COMPARED: Mapping[str, Callable[[str, list[str]], bool]] = {
    "exact": lambda text, values: text in values,
    "icontains": lambda text, values: any(value.lower() in text.lower() for value in values),
    "regex": lambda text, values: any(re.search(value, text) for value in values),
    "gt": _numbers(lambda found, bound: found > bound),
    "gte": _numbers(lambda found, bound: found >= bound),
    "lt": _numbers(lambda found, bound: found < bound),
    "lte": _numbers(lambda found, bound: found <= bound),
}
NEGATED = {"is_not": "exact", "not_icontains": "icontains", "not_regex": "regex"}
