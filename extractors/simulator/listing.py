"""What the events list answers, without HTTP: parameters in, rows and `next` out (facts/posthog-api.md §0, §1).

Pure but for the shuffle of ties and the remembered probing window.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from extractors.simulator.dataset import EPOCH, MICROSECOND, Dataset, Event
from extractors.simulator.profiles import Profile

PROBED_S = (60, 300, 900, 3600, 21_600, 86_400)
DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
UNITS = {"h": "hours", "d": "days", "w": "weeks", "M": "minutes", "s": "seconds"}


class BadInput(Exception):
    """400 validation_error / invalid_input with this detail."""


class BareFault(Exception):
    """A plain exception in the server: 500 without a reason (§1.9)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one answer and what `next` changes: (parameter, value), or None."""

    rows: tuple[Event, ...]
    cursor: tuple[str, str] | None


@dataclass(slots=True)
class Listing:
    """Answers list requests over one dataset. *matching(expression, events)*: which of them a HogQL filter passes."""

    dataset: Dataset
    profile: Profile
    matching: Callable[[str, Sequence[Event]], frozenset[int]]
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    remembered: dict[tuple[bool, bool, bool], int] = field(default_factory=dict)

    def answer(self, params: Mapping[str, str], now: datetime) -> Found:
        """Raises BadInput and BareFault as the server would."""
        descending, limit = _descending(params), self._limit(params)
        offset = self._offset(params)
        before = _moment(params["before"], now, self.profile) if params.get("before") else now + timedelta(seconds=5)
        after = self._after(params, before, now)
        if (
            after is not None
            and self.profile.max_range_days is not None
            and before - after > timedelta(days=self.profile.max_range_days)
        ):
            raise BareFault("range is too long")
        passes = self._conditions(params)
        asked = limit + offset
        if descending and self.profile.probing:
            rows, more = self._probe(params, after, before, asked, passes)
        else:
            rows, more = self._rows(after, before, asked, passes, descending=descending)
        rows = rows[offset:]
        if not more or not rows:
            return Found(rows, None)
        # `["-timestamp","x"]` sorts ascending but moves `before` (§1.4).
        moved = (
            "before"
            if params.get("orderBy", "").replace(" ", "").startswith('["-timestamp"') or descending
            else "after"
        )
        return Found(rows, (moved, rows[-1].timestamp.isoformat()))

    def _limit(self, params: Mapping[str, str]) -> int:
        text = params.get("limit") or str(self.profile.default_limit)
        try:
            limit = int(text)
        except ValueError as exc:
            raise BareFault("limit is no number") from exc
        return min(limit, self.profile.page_cap) if limit > 0 else self.profile.default_limit

    def _offset(self, params: Mapping[str, str]) -> int:
        text = params.get("offset", "")
        offset = max(0, int(text)) if re.fullmatch(r"-?\d+", text) else 0
        if self.profile.max_offset is not None and offset > self.profile.max_offset:
            raise BadInput(f"Offset is deprecated. Max supported offset value is {self.profile.max_offset}")
        return offset

    def _after(self, params: Mapping[str, str], before: datetime, now: datetime) -> datetime | None:
        if params.get("after"):
            return _moment(params["after"], now, self.profile)
        hours = self.profile.lower_bound_hours
        return None if hours is None else before - timedelta(hours=hours)

    def _conditions(self, params: Mapping[str, str]) -> Callable[[Sequence[Event]], Sequence[Event]]:
        tests: list[Callable[[Event], bool]] = []
        if params.get("event"):
            tests.append(lambda event, name=params["event"]: event.event == name)  # type: ignore[misc]
        if "distinct_id" in params:
            tests.append(lambda event, name=params["distinct_id"]: event.distinct_id == name)  # type: ignore[misc]
        expressions: list[str] = []
        for entry in _filters(params.get("properties", "")):
            if entry.get("type") == "hogql":
                if not self.profile.hogql_filter_allowed:
                    raise BareFault("no HogQL here")
                expressions.append(str(entry.get("key")))
            else:
                tests.append(_property_test(entry))

        def passing(events: Sequence[Event]) -> Sequence[Event]:
            for expression in expressions:
                keep = self.matching(expression, events)
                events = [event for number, event in enumerate(events) if number in keep]
            return [event for event in events if all(test(event) for test in tests)] if tests else events

        return passing

    def _rows(
        self,
        after: datetime | None,
        before: datetime,
        limit: int,
        passing: Callable[[Sequence[Event]], Sequence[Event]],
        *,
        descending: bool,
    ) -> tuple[tuple[Event, ...], bool]:
        """At most *limit* rows in order of time, ties in any order, and whether one more was there."""
        found = passing(self.dataset.between(None if after is None else _micros(after), _micros(before)))
        ordered = found[::-1] if descending else found
        taken: list[Event] = []
        for _, ties in groupby(ordered, key=lambda event: event.micros):
            group = list(ties)
            self.rng.shuffle(group)
            taken += group
            if len(taken) > limit:
                break
        return tuple(taken[:limit]), len(taken) > limit

    def _probe(
        self,
        params: Mapping[str, str],
        after: datetime | None,
        before: datetime,
        limit: int,
        passing: Callable[[Sequence[Event]], Sequence[Event]],
    ) -> tuple[tuple[Event, ...], bool]:
        """Newest first: the first window back from *before* with half a page is the answer, its own "more" included (§1.5)."""
        key = (bool(params.get("event")), "distinct_id" in params, limit < self.profile.page_cap)
        known = self.remembered.get(key)
        both = bool(params.get("after")) and bool(params.get("before"))
        for seconds in ([known] if known else []) + [one for one in PROBED_S if one != known]:
            start = before - timedelta(seconds=seconds)
            if after is not None and start <= after and (both or params.get("after")):
                continue
            rows, more = self._rows(start, before, limit, passing, descending=True)
            if len(rows) >= max(limit // 2, 1):
                self.remembered[key] = seconds
                return rows, more
        return self._rows(after, before, limit, passing, descending=True)


def _descending(params: Mapping[str, str]) -> bool:
    text = params.get("orderBy")
    if not text:
        return True
    try:
        order = json.loads(text)
    except ValueError as exc:
        raise BareFault("orderBy is not JSON") from exc
    return bool(order == ["-timestamp"])


def _micros(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _padded(date: re.Match[str]) -> str:
    """`2021-1-1` is a date, too."""
    return f"{date[1]}-{date[2]:0>2}-{date[3]:0>2}"


def _moment(text: str, now: datetime, profile: Profile) -> datetime:
    """ISO with zone as is, without in the project's zone, relative; anything else silently acts as now (§1.3)."""
    try:
        at = datetime.fromisoformat(DATE.sub(_padded, text))
        return (
            at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=ZoneInfo(profile.project_timezone)).astimezone(UTC)
        )
    except ValueError:
        relative = re.fullmatch(r"-?(\d+)([hdwMs])", text)
        return now - timedelta(**{UNITS[relative[2]]: int(relative[1])}) if relative else now


def _filters(text: str) -> list[dict[str, Any]]:
    """The filters of `properties`, groups flattened: groups of OR are not simulated."""
    if not text:
        return []
    try:
        given = json.loads(text)
    except ValueError as exc:
        raise BadInput("Properties are unparsable!") from exc
    flat: list[dict[str, Any]] = []
    todo = list(given) if isinstance(given, list) else [given]
    while todo:
        entry = todo.pop(0)
        if not isinstance(entry, dict) or (str(entry.get("type")) == "OR" and len(entry.get("values", [])) > 1):
            raise BareFault("filter is not simulated")
        if "values" in entry:
            todo += entry["values"]
        else:
            flat.append(entry)
    return flat


def _property_test(entry: Mapping[str, Any]) -> Callable[[Event], bool]:
    """Event property filters: exact, is_not, icontains, gt, lt, is_set."""
    key, wanted, operator = str(entry.get("key")), entry.get("value"), entry.get("operator") or "exact"
    values = [str(one) for one in wanted] if isinstance(wanted, list) else [str(wanted)]

    def test(event: Event) -> bool:
        found = json.loads(event.properties).get(key)
        if operator == "is_set":
            return found is not None
        if found is None:
            return operator == "is_not"
        text = str(found).lower() if isinstance(found, bool) else str(found)
        if operator in ("gt", "lt"):
            try:
                number, bound = float(text), float(values[0])
            except ValueError:
                return False
            return number > bound if operator == "gt" else number < bound
        if operator == "icontains":
            return values[0].lower() in text.lower()
        return (text in values) == (operator != "is_not")

    if operator not in ("exact", "is_not", "icontains", "gt", "lt", "is_set"):
        raise BareFault(f"operator {operator} is not simulated")
    return test
