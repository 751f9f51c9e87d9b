"""Seeded events in the shapes that real SDKs send (facts/event-shapes.md), and the truth a destination must equal."""

from __future__ import annotations

import json
import random
import threading
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Event:
    """One event as the source shows it; *properties* is the text of a JSON object, kept to the letter.

    A row that no ingestion makes and a server cannot serve can be had: *properties* that are no object, or a NUL in
    *distinct_id* (rows.unservable).
    """

    uuid: str
    event: str
    distinct_id: str
    timestamp: datetime
    properties: str
    elements_chain: str = ""
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.timestamp.utcoffset() != timedelta(0):
            raise ValueError(f"timestamp must be UTC: {self.timestamp!r}")
        if not self.properties:
            raise ValueError("properties must be JSON text, such as {}")

    @property
    def micros(self) -> int:
        """Microseconds since 1970."""
        return (self.timestamp - EPOCH) // MICROSECOND

    @property
    def values(self) -> Mapping[str, Any]:
        """The properties by name; what is no object has none."""
        found = json.loads(self.properties)
        return found if isinstance(found, dict) else {}

    @property
    def identity(self) -> tuple[str, str, str, date]:
        """Rows equal in this are copies of one event, of which the source keeps the latest, sooner or later (§6)."""
        return self.uuid, self.event, self.distinct_id, self.timestamp.date()


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a distinct id belongs to; *properties* is the text of a JSON object, *distinct_id* the person's first.

    *uuid*: the person's own, else one made from the distinct id.
    """

    distinct_id: str
    properties: str = "{}"
    is_identified: bool = True
    uuid: str = ""

    @property
    def id(self) -> str:
        """The person's uuid, which the list takes as `person_id` and never shows; queries know it as `poe.id`."""
        return self.uuid or str(uuid.uuid5(uuid.NAMESPACE_URL, self.distinct_id))


class Dataset:
    """Events of one project; may change while it is served, and several threads may read it meanwhile.

    *events* holds what the source shows, sorted by time, unmerged copies included. *persons*: by distinct id.
    """

    def __init__(self, events: Iterable[Event] = (), persons: Mapping[str, Person] | None = None) -> None:
        self._lock = threading.Lock()
        self.persons: Mapping[str, Person] = dict(persons or {})
        self.version = 0
        self._set(events)

    def _set(self, inserted: Iterable[Event]) -> None:
        # In order of insertion, which decides between copies that `created_at` does not.
        self._inserted = tuple(inserted)
        self.events: tuple[Event, ...] = tuple(sorted(self._inserted, key=lambda event: event.micros))
        self.micros = [event.micros for event in self.events]
        self.version += 1

    def __len__(self) -> int:
        return len(self.events)

    def add(self, events: Iterable[Event]) -> None:
        """Show *events* from now on, whatever their time: late rows, and copies of what is there."""
        with self._lock:
            self._set([*self._inserted, *events])

    def delete(self, uuids: Iterable[str]) -> None:
        """Remove every event of these *uuids*, copies included."""
        doomed = frozenset(uuids)
        with self._lock:
            self._set(event for event in self._inserted if event.uuid not in doomed)

    def copy(
        self,
        uuids: Iterable[str],
        *,
        properties: str | None = None,
        created_at: datetime | None = None,
        times: int = 1,
    ) -> None:
        """Insert the events of these *uuids* again *times* times, unmerged; *properties* makes the copies differ.

        *created_at* says which of them stays when the source merges: the latest. Without it the last inserted does.
        """
        wanted = frozenset(uuids)
        with self._lock:
            again = [event for event in _merged(self._inserted) if event.uuid in wanted]
            if properties is not None:
                again = [replace(event, properties=properties) for event in again]
            if created_at is not None:
                again = [replace(event, created_at=created_at) for event in again]
            self._set([*self._inserted, *(again * times)])

    def move(self, uuid: str, to: datetime) -> None:
        """Let the events of *uuid* happen at *to*, as a later insert of the same day does.

        Raises ValueError for another UTC day: that is a second event and not a move (add it and delete the first).
        """
        with self._lock:
            moved = [event for event in self._inserted if event.uuid == uuid]
            if not moved or any(event.timestamp.date() != to.date() for event in moved):
                raise ValueError(f"cannot move {uuid} to {to}: expected an event of that UTC day")
            self._set(replace(event, timestamp=to) if event.uuid == uuid else event for event in self._inserted)

    def merge(self) -> None:
        """Remove all copies but the latest of each event, as the source does at a time of its choice."""
        with self._lock:
            self._set(_merged(self._inserted))

    def between(self, after: int | None, before: int | None) -> tuple[Event, ...]:
        """Events with after < µs < before, ascending; None is open."""
        with self._lock:
            events, micros = self.events, self.micros
        low = 0 if after is None else bisect_right(micros, after)
        high = len(events) if before is None else bisect_left(micros, before)
        return events[low:high]

    def truth(self) -> pa.Table:
        """What a destination must hold, sorted by timestamp, uuid, event, distinct_id; copies are one row."""
        names = ("uuid", "event", "distinct_id", "timestamp", "properties", "elements_chain")
        types = [pa.string()] * 3 + [pa.timestamp("us", "UTC")] + [pa.string()] * 2
        ordered = sorted(
            _merged(self._inserted), key=lambda event: (event.micros, event.uuid, event.event, event.distinct_id)
        )
        columns = [pa.array([getattr(e, name) for e in ordered], kind) for name, kind in zip(names, types, strict=True)]
        return pa.table(columns, names=list(names))


def _merged(inserted: Iterable[Event]) -> list[Event]:
    """The latest created of each identity, or the last inserted where that is not told, in order of first insertion."""
    kept: dict[tuple[str, str, str, date], Event] = {}
    for event in inserted:
        other = kept.get(event.identity)
        later = other is None or not other.created_at or not event.created_at or other.created_at <= event.created_at
        if later:
            kept[event.identity] = event
    return list(kept.values())


CHAIN = (
    'a.btn.primary:attr__class="btn primary"attr_id="buy"href="/checkout"text="Buy \\"now\\"; ok";body:nth-child="2"'
)
WEB = {
    "$os": "Mac OS X",
    "$browser": "Chrome",
    "$browser_version": 139,
    "$device_type": "Desktop",
    "$host": "shop.example",
    "$raw_user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/139.0",
    "$screen_height": 1080,
    "$screen_width": 1920,
    "$lib": "web",
    "$lib_version": "1.449.2",
    "$timezone": "Europe/Berlin",
    "$referrer": "$direct",
    "$is_identified": False,
    "gclid": None,
    "utm_medium": None,
    "$active_feature_flags": ["beta", "new checkout"],
}
SERVER = {"$lib": "posthog-python", "$lib_version": "7.91.1", "$geoip_disable": True, "$is_server": True}
ODD = (
    '{"big":123456789012345678901234567890,"minus_zero":-0.0,"exponent":1E5,"nul":"a\\u0000b"}',
    '{"a":1,"a":2,"b.c":{"":[]},"key with space":"ü ✓ 漢字"}',
    "{}",
    '{"z":1,"a":{"b":{"c":{"d":{"e":{"f":[[[[1]]]]}}}}},"long":0.1000000000000000055511151231257827}',
    '{"=cmd()":"\'; DROP TABLE events;--","path":"../../x"}',
)


def _shapes() -> list[tuple[str, str, str]]:
    """(event, start of the properties' text, chain): what varies is put behind the start."""
    frames = [{"filename": "main.py", "function": "run", "lineno": line, "in_app": True} for line in (14, 27)]
    shapes: list[tuple[str, dict[str, object], str]] = [
        (
            "$pageview",
            WEB | {"$pathname": "/p", "title": "Shop", "$current_url": "https://shop.example/p?utm_source=news"},
            "",
        ),
        ("$pageleave", WEB | {"$pathname": "/p", "$prev_pageview_duration": 12.5}, ""),
        ("$autocapture", WEB | {"$event_type": "click", "$el_text": 'Buy "now"; ok'}, CHAIN),
        ("$identify", WEB | {"$anon_distinct_id": "anon", "$set": {"email": "ann@example.com"}, "$set_once": {}}, ""),
        ("$groupidentify", SERVER | {"$group_type": "company", "$group_key": "acme", "$group_set": {"seats": 12}}, ""),
        (
            "$exception",
            SERVER | {"$exception_list": [{"type": "KeyError", "value": "'k'", "stacktrace": {"frames": frames}}]},
            "",
        ),
        ("$ai_generation", SERVER | {"$ai_model": "gpt-4o-mini", "$ai_input": [{"role": "user", "content": "Hi"}]}, ""),
        (
            "$feature_flag_called",
            WEB | {"$feature_flag": "beta", "$feature_flag_response": True, "$feature/beta": "test"},
            "",
        ),
        ("survey sent", WEB | {"$survey_id": "s1", "$survey_response_q1": "9", "$survey_completed": True}, ""),
        ("purchase", SERVER | {"price": 14.5, "currency": "EUR", "items": ["a", "b"]}, ""),
    ]
    return [(name, json.dumps(properties, ensure_ascii=False)[:-1], chain) for name, properties, chain in shapes]


def generate(*, events: int, start: datetime, end: datetime, seed: int = 1, tie_sizes: Sequence[int] = ()) -> Dataset:
    """*events* events spread over [start, end), and groups of *tie_sizes* events that share one microsecond each.

    Some timestamps are whole seconds, uuids are random or time-ordered, every 150th uuid occurs on two events (§6), and
    every 40th event has odd properties (30-digit integers, duplicate keys, NUL escapes). Of each three distinct ids two
    belong to a known person.
    """
    rng = random.Random(seed)
    shapes = _shapes()
    span = (end - start) // MICROSECOND
    at = sorted(rng.randrange(span) for _ in range(events))
    made = []
    last_uuid = ""
    for number, offset in enumerate(at):
        if number % 20 == 0:
            offset -= offset % 1_000_000
        moment = start + timedelta(microseconds=offset)
        name, head, chain = shapes[rng.randrange(len(shapes))]
        text = (
            ODD[number // 40 % len(ODD)]
            if number % 40 == 0
            else f'{head}, "$insert_id": "{rng.getrandbits(64):016x}", "n": {number}}}'
        )
        reused = last_uuid if number % 150 == 1 else ""
        last_uuid = reused or _uuid(rng, moment)
        made.append(
            Event(
                last_uuid,
                f"{name} again" if reused else name,
                f"user-{rng.randrange(events // 20 + 1)}",
                moment,
                text,
                chain,
            )
        )
    for number, size in enumerate(tie_sizes):
        made += _tied(rng, number, size, start + timedelta(microseconds=span * (number + 1) // (len(tie_sizes) + 1)))
    return Dataset(made, _persons(events // 20 + 1))


def _tied(rng: random.Random, number: int, size: int, moment: datetime) -> list[Event]:
    """*size* events of one moment. Every other group has time-ordered uuids, which share their first half: slices by first
    digits do not divide them."""
    uuids = (_uuid7(moment, i) if number % 2 else _uuid(rng, moment) for i in range(size))
    return [Event(uuid, "bulk import", f"user-{i % 9}", moment, f'{{"i":{i}}}') for i, uuid in enumerate(uuids)]


def _persons(count: int) -> dict[str, Person]:
    return {
        f"user-{number}": Person(f"user-{number}", f'{{"email":"user-{number}@example.com"}}')
        for number in range(count)
        if number % 3
    }


def _uuid(rng: random.Random, moment: datetime) -> str:
    return (
        str(uuid.UUID(int=rng.getrandbits(128), version=4))
        if rng.random() < 0.5
        else _uuid7(moment, rng.getrandbits(62))
    )


def _uuid7(moment: datetime, low: int) -> str:
    millis = (moment - EPOCH) // timedelta(milliseconds=1)
    return str(uuid.UUID(int=(millis << 80) | (7 << 76) | (2 << 62) | low))
