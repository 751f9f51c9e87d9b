"""What the events list answers, without HTTP: parameters in, rows and `next` out (facts/posthog-api.md §0, §1).

Pure but for the shuffle of ties and the remembered probing window.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from extractors.simulator.data.dataset import EPOCH, MICROSECOND, Dataset, Event
from extractors.simulator.data.dates import day_number, moment
from extractors.simulator.data.properties import Group, Matching, parsed, passing
from extractors.simulator.errors import BadInput, BareFault
from extractors.simulator.profiles import Profile

PROBED_S = (60, 300, 900, 3600, 21_600, 86_400)
Passing = Callable[[Sequence[Event]], Sequence[Event]]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one answer and what `next` changes: (parameter, value), or None.

    Also what was asked: the bounds in µs, exclusive, the order, and how many rows `offset` skips. *fetched*: the rows
    and the one behind them that tells of more.
    """

    rows: tuple[Event, ...]
    fetched: tuple[Event, ...]
    cursor: tuple[str, str] | None
    after: int | None
    before: int
    descending: bool
    offset: int


@dataclass(slots=True)
class Listing:
    """Answers list requests over one dataset. *matching(expression, events)*: which of them a HogQL filter passes."""

    dataset: Dataset
    profile: Profile
    matching: Matching
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    remembered: dict[tuple[bool, bool, bool], int] = field(default_factory=dict)

    def answer(self, params: Mapping[str, str], now: datetime) -> Found:
        """Raises BadInput and BareFault as the server would."""
        descending, limit = _descending(params), self._limit(params)
        offset = self._offset(params)
        before = self._before(params, now)
        after = self._after(params, before, now)
        if (
            after is not None
            and self.profile.max_range_days is not None
            and before - after > timedelta(days=self.profile.max_range_days)
        ):
            raise BareFault("range is too long")
        fetched = limit if self.profile.offset_inside_page else limit + offset
        rows, more = self._page(params, after, before, fetched, descending=descending)
        # The row past the limit, which only tells of more, is not cut off before the offset (1.30).
        shown = rows[offset : offset + limit] if self.profile.offset_inside_page else rows[offset:fetched]
        last = rows[:fetched][-1:] if self.profile.offset_inside_page else shown[-1:]
        # `["-timestamp","x"]` sorts ascending but moves `before` (§1.4).
        moves_before = descending or params.get("orderBy", "").replace(" ", "").startswith('["-timestamp"')
        cursor = ("before" if moves_before else "after", last[0].timestamp.isoformat()) if more and last else None
        lower = None if after is None else _micros(after)
        return Found(shown, rows[offset:], cursor, lower, _micros(before), descending, offset)

    def _limit(self, params: Mapping[str, str]) -> int:
        text = params.get("limit") or str(self.profile.default_limit)
        try:
            limit = int(text)
        except ValueError as exc:
            raise BareFault("limit is no number") from exc
        if limit > 0:
            return min(limit, self.profile.page_cap)
        rule = self.profile.zero_limit if limit == 0 else self.profile.negative_limit
        if rule == "fault":
            raise BareFault("limit is not positive")
        return 0 if rule == "empty" else self.profile.default_limit

    def _offset(self, params: Mapping[str, str]) -> int:
        text = params.get("offset", "")
        offset = max(0, int(text)) if re.fullmatch(r"-?\d+", text) else 0
        if self.profile.max_offset is not None and offset > self.profile.max_offset:
            raise BadInput(f"Offset is deprecated. Max supported offset value is {self.profile.max_offset}")
        return offset

    def _before(self, params: Mapping[str, str], now: datetime) -> datetime:
        latest = now + timedelta(seconds=5)
        if not params.get("before"):
            return latest
        before = moment(params["before"], now, self.profile)
        return min(before, latest) if self.profile.before_capped else before

    def _after(self, params: Mapping[str, str], before: datetime, now: datetime) -> datetime | None:
        if params.get("after"):
            return moment(params["after"], now, self.profile)
        hours = self.profile.lower_bound_hours
        return None if hours is None else before - timedelta(hours=hours)

    def _conditions(self, params: Mapping[str, str]) -> Passing:
        tests: list[Callable[[Event], bool]] = []
        if params.get("event"):
            tests.append(lambda event, name=params["event"]: event.event == name)  # type: ignore[misc]
        if "distinct_id" in params:
            tests.append(lambda event, name=params["distinct_id"]: event.distinct_id == name)  # type: ignore[misc]
        if params.get("person_id"):
            ids = self._distinct_ids(params["person_id"])
            tests.append(lambda event: event.distinct_id in ids)
        condition = parsed(params.get("properties", ""), self.profile)

        def kept(events: Sequence[Event]) -> Sequence[Event]:
            if tests:
                events = [event for event in events if all(test(event) for test in tests)]
            if condition == Group("AND", ()):
                return events
            return [events[position] for position in passing(condition, events, self.matching)]

        return kept

    def _distinct_ids(self, person_id: str) -> frozenset[str]:
        """Whom a person is known as; one that is not there has none (§1.4), and what is no id at all is a fault."""
        try:
            wanted = "" if person_id.isdecimal() else str(uuid.UUID(person_id))
        except ValueError as exc:
            raise BareFault("person_id is no uuid") from exc
        return frozenset(name for name, person in self.dataset.persons.items() if person.id == wanted)

    def _page(
        self, params: Mapping[str, str], after: datetime | None, before: datetime, limit: int, *, descending: bool
    ) -> tuple[tuple[Event, ...], bool]:
        """Up to *limit* rows and one more that tells of more, and whether it was there."""
        kept = self._conditions(params)
        if descending and self.profile.probing:
            return self._probe(params, after, before, limit, kept)
        rows, more = self._rows(after, before, limit, kept, descending=descending)
        if self.profile.lower_bound_retried and not params.get("after") and len(rows) < limit:
            return self._rows(None, before, limit, kept, descending=descending)
        return rows, more

    def _rows(
        self,
        after: datetime | None,
        before: datetime,
        limit: int,
        kept: Passing,
        *,
        descending: bool,
    ) -> tuple[tuple[Event, ...], bool]:
        """At most *limit* rows and one more in order of time, ties in any order, and whether that one was there."""
        low, high = None if after is None else _micros(after), _micros(before)
        found = kept(self._indexed(self.dataset.between(low, high), low, high))
        ordered = found[::-1] if descending else found
        taken: list[Event] = []
        for _, ties in groupby(ordered, key=lambda event: event.micros):
            group = list(ties)
            self.rng.shuffle(group)
            taken += group
            if len(taken) > limit:
                break
        return tuple(taken[: limit + 1]), len(taken) > limit

    def _indexed(self, events: Sequence[Event], after: int | None, before: int) -> Sequence[Event]:
        """The *events* that the engine finds by its index of days: all, unless a bound's day number starts over."""
        if not self.profile.days_overflow:
            return events
        first = 0 if after is None else day_number(after)
        last = day_number(before)
        return [event for event in events if first <= day_number(event.micros) <= last]

    def _probe(
        self,
        params: Mapping[str, str],
        after: datetime | None,
        before: datetime,
        limit: int,
        kept: Passing,
    ) -> tuple[tuple[Event, ...], bool]:
        """Newest first: the first window back from *before* with half a page is the answer, its own "more" included (§1.5)."""
        key = (bool(params.get("event")), "distinct_id" in params, limit < self.profile.page_cap)
        known = self.remembered.get(key)
        both = bool(params.get("after")) and bool(params.get("before"))
        for seconds in ([known] if known else []) + [one for one in PROBED_S if one != known]:
            start = before - timedelta(seconds=seconds)
            if after is not None and start <= after and (both or params.get("after")):
                continue
            rows, more = self._rows(start, before, limit, kept, descending=True)
            if len(rows) >= max(limit // 2, 1):
                self.remembered[key] = seconds
                return rows, more
        return self._rows(after, before, limit, kept, descending=True)


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
