"""A data set of the second server's own, what happens to one while it is served, and what must be landed of it.

Knows rows; knows neither servers nor destinations. Every value follows from the random generator that is given.
"""

import json
import random
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from .rows import Row

MICROSECOND = timedelta(microseconds=1)
NO_CAMPAIGN = '"gclid":null,"utm_medium":null,"_kx":null'
FRAME = '{"platform":"python","function":"run","lineno":14,"in_app":true,"pre_context":["a = 1"],"post_context":[]}'
CHAIN = (
    'a.btn.primary:attr__class="btn primary"attr_id="buy"href="/checkout"nth-child="2"text="Buy \\"now\\"; ok"'
    ';body:nth-child="2"nth-of-type="1"'
)
DEEP = '{"a":' * 40 + "[]" + "}" * 40
SHAPES = [
    (
        "$pageview",
        f'{{"$current_url":"https://shop.example/p?utm_source=news",{NO_CAMPAIGN},"$time":1772359200.123}}',
        "",
    ),
    ("$autocapture", '{"$event_type":"click","$el_text":"Buy \\"now\\"; ok"}', CHAIN),
    ("$identify", '{"$anon_distinct_id":"0199-anon","$set":{"plan":"pro"},"$set_once":{}}', ""),
    (
        "$exception",
        f'{{"$exception_list":[{{"type":"KeyError","value":"\'k\'","stacktrace":{{"frames":[{FRAME}]}}}}]}}',
        "",
    ),
    (
        "$ai_generation",
        '{"$ai_input":null,"$ai_output_choices":[{"role":"a","content":[{"text":"Hi"}]}],"$ai_usage":{}}',
        "",
    ),
    ("$feature_flag_called", '{"$feature/beta":true,"$feature_flag_payload":"{\\"a\\":1}"}', ""),
    ("$feature_flag_called", '{"$feature/beta":"test","$feature_flag_payload":{"a":1}}', ""),
    ("survey sent", '{"$survey_response":["9",9,null],"$survey_completed":true}', ""),
    ("Käufe – Übersicht 🛒", '{"smile":"😀","nul":"a\\u0000b","lone":"\\u00e9","right to left":"\u202eabc"}', ""),
    ('it\'s "quoted" \\ here', '{"":0,"a.b":{"c d":[]},"q\\"uote":"\\\\"}', ""),
    ("名前", '{"big":12345678901234567890123,"small":1E-7,"minus":-0.0,"many":0.1000000000000000000001}', ""),
    (" ", "{}", ""),
    ("e" * 200, DEEP, ""),
    ("spaced", '{ "dup" : 1 ,\t"dup":2 , "date":"2026-03-01T00:00:00Z" }', ""),
    ("long", f'{{"text":"{"x" * 3_000}"}}', ""),
]
"""Names, properties and elements as SDKs send them, and as nobody should."""
PEOPLE = [
    "ann",
    "bob@example.com",
    "Ünï çödé",
    "a\tb",
    "0",
    "null",
    "'; --",
    "d" * 400,
    "01990000-0000-7000-8000-000000000001",
]
DELAYS = [
    *(timedelta(0), timedelta(microseconds=1), timedelta(seconds=3), timedelta(minutes=40), timedelta(days=2)),
    timedelta(hours=-2),  # a device whose clock is ahead
]


def made(rng: random.Random, start: datetime, end: datetime, *, count: int, ties: tuple[int, ...] = ()) -> list[Row]:
    """*count* rows between *start* and *end*, and so many in one microsecond each: inside, on an hour's edge, before midnight.

    Some uuids are shared by two names, by two people and by two days.
    """
    span = (end - start) // MICROSECOND
    rows = [one(rng, start + rng.randrange(span) * MICROSECOND) for _ in range(count)]
    for number, size in enumerate(ties):
        day = start + timedelta(days=number % ((end - start).days or 1))
        at = day + (timedelta(hours=7, microseconds=5), timedelta(hours=9), timedelta(days=1) - MICROSECOND)[number % 3]
        rows += [one(rng, at) for _ in range(size)]
    shared = rng.sample(rows[:count], min(3, count))
    rows += [replace(row, event="of the same uuid") for row in shared]
    rows += [replace(row, distinct_id="of the same uuid") for row in shared]
    rows += [replace(row, timestamp=other, created_at=other) for row in shared if (other := _day_on(row)) < end]
    return rows


def _day_on(row: Row) -> datetime:
    return row.timestamp + timedelta(days=1)


def one(rng: random.Random, at: datetime) -> Row:
    """A row at *at*, of whatever shape; a random uuid or one that begins with the time, as SDKs make them."""
    event, properties, chain = rng.choice(SHAPES)
    bits = rng.getrandbits(128)
    if rng.random() < 0.5:
        bits = int(at.timestamp() * 1000) << 80 | bits % 2**80
    name = str(uuid.UUID(int=bits, version=4))
    return Row(name, event, rng.choice(PEOPLE), at, properties, chain, at + rng.choice(DELAYS))


def changed(row: Row, at: datetime, **more: Any) -> Row:
    """*row* as it is inserted again at *at*."""
    return replace(row, created_at=at, **{"properties": '{"changed":true}'} | more)


def created(row: Row) -> datetime:
    return row.created_at or row.timestamp


def merged(rows: Iterable[Row]) -> list[Row]:
    """What is left when copies have merged: of rows with one date, name, person and uuid the one that was created last."""
    kept: dict[object, Row] = {}
    for row in sorted(rows, key=created):
        kept[row.timestamp.date(), row.event, row.distinct_id, row.uuid] = row
    return list(kept.values())


def rewritten(rows: Iterable[Row]) -> list[Row]:
    """*rows* with properties in the words in which an older server shows them."""
    return [
        replace(row, properties=json.dumps(json.loads(row.properties), ensure_ascii=False, separators=(",", ":")))
        for row in rows
    ]


def truth(rows: Iterable[Row], start: datetime, end: datetime) -> list[tuple[object, ...]]:
    """What must be landed of [start, end), row by row: of each event one row, of copies the later by time, then by creation.

    uuid, event, distinct_id, timestamp, properties, elements_chain; in the order of time, uuid, event and person.
    """
    kept: dict[object, Row] = {}
    for row in sorted(rows, key=lambda row: (row.timestamp, created(row))):
        kept[row.timestamp.date(), row.event, row.distinct_id, row.uuid] = row
    inside = [row for row in kept.values() if start <= row.timestamp < end]
    return [
        (row.uuid, row.event, row.distinct_id, row.timestamp, row.properties, row.elements_chain)
        for row in sorted(inside, key=lambda row: (row.timestamp, row.uuid, row.event, row.distinct_id))
    ]
