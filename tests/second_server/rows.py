"""Events of one project in SQLite: rows in, finished JSON bodies out.

Knows the shape of a list row, order and property filters. Knows nothing of HTTP, limits, windows or HogQL.
Sources: posthog-api.md §1.4, §1.5, §1.7; posthog-observed.md "Rows".
"""

import json
import random
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIE_PRIME = 2_147_483_647  # a prime above any row number: n * salt % prime never collides, so every salt is a new order

VALUE_COLUMNS = {"uuid", "event", "distinct_id", "elements_chain"}

# The keys a property filter may have; any other fails schema validation (§1.4).
FILTER_KEYS = {"key", "value", "operator", "type", "label"}
LEGACY_KEYS = {"property_type", "property_type_format"}

DECODER = json.JSONDecoder()
MEMBER = re.compile(r'\s*[{,]\s*(?=")')
COLON = re.compile(r"\s*:\s*")
ELEMENT = re.compile(r'((?:[^;"]|"(?:[^"\\]|\\.)*")+)')
HEAD_AND_ATTRIBUTES = re.compile(r'(.*?)(?::(?=[\w-]+=")(.*))?', re.DOTALL)
ATTRIBUTE = re.compile(r'([^="]+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Row:
    """One stored event. *timestamp* aware UTC; *properties* JSON object text, shown verbatim, digit for digit.

    Properties that are a JSON list instead, or NUL in *distinct_id*, are what ingestion should never make: no list that
    touches such a row can be answered.
    *created_at* None means: created at *timestamp*.
    """

    uuid: str
    event: str
    distinct_id: str
    timestamp: datetime
    properties: str
    elements_chain: str = ""
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        if str(uuid.UUID(self.uuid)) != self.uuid:
            raise ValueError(f"row uuid: expected canonical lower case, found {self.uuid!r}")
        for at in (self.timestamp, self.created_at or self.timestamp):
            if at.utcoffset() != timedelta(0):
                raise ValueError(f"row time: expected aware UTC, found {at!r}")
        if self.properties[:1] + self.properties[-1:] not in ("{}", "[]"):
            raise ValueError(f"row properties: expected a JSON object or list, found {self.properties[:40]!r}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL WHERE with its parameters."""

    sql: str
    params: tuple[Any, ...] = ()


def micros(at: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (at - EPOCH) // timedelta(microseconds=1)


def isoformat(us: int) -> str:
    """ISO text of *us* in UTC; no fraction when it is zero (§1.7)."""
    return (EPOCH + timedelta(microseconds=us)).isoformat()


def index_day(us: int) -> int:
    """The day by which the engine's index finds *us*: 16 bits, of whole seconds cut towards 1970 (seen: list_after_1969…)."""
    whole = abs(us) // 1_000_000
    return (whole if us >= 0 else -whole) // 86_400 & 0xFFFF


def elements(chain: str) -> list[dict[str, Any]]:
    """Elements of *chain*, innermost first. Values keep their backslashes (seen: list_autocapture_seeded.json)."""
    found = []
    for order, part in enumerate(ELEMENT.findall(chain)):
        match = HEAD_AND_ATTRIBUTES.fullmatch(part)
        assert match is not None
        tag, *classes = match[1].split(".")
        attributes = dict(ATTRIBUTE.findall(match[2] or ""))
        nth_child, nth_of_type = attributes.get("nth-child"), attributes.get("nth-of-type")
        found.append(
            {
                "event": None,
                "text": attributes.get("text"),
                "tag_name": tag,
                "attr_class": classes or None,
                "href": attributes.get("href"),
                "attr_id": attributes.get("attr_id"),
                "nth_child": int(nth_child) if nth_child else None,
                "nth_of_type": int(nth_of_type) if nth_of_type else None,
                "attributes": {name: value for name, value in attributes.items() if name.startswith("attr__")},
                "order": order,
            }
        )
    return found


def body(row: Row, properties: str) -> tuple[bytes, bytes]:
    """*row* as the list shows it, keys in the order of §1.7: what stands before its person and what behind."""
    before = (
        f'{{"id":{_json(row.uuid)},"distinct_id":{_json(row.distinct_id)},"properties":{properties},'
        f'"event":{_json(row.event)},"timestamp":"{row.timestamp.isoformat()}","person":'
    )
    behind = (
        f',"elements":{_json(elements(row.elements_chain)) if row.elements_chain else "[]"},'
        f'"elements_chain":{_json(row.elements_chain)}}}'
    )
    return before.encode(), behind.encode()


def filters(found: Any, matching: Callable[[str], list[int]]) -> Condition:
    """The WHERE of a decoded `properties` value: a list (all must hold) or a group with `values`, nested as given.

    *matching* answers a HogQL expression with row numbers. Raises ValueError for what the schema refuses.
    """
    if isinstance(found, list) or not found:
        found = {"type": "AND", "values": found or []}
    if "values" in found:
        parts = [filters(value, matching) for value in found["values"]]
        if found.get("type") not in ("AND", "OR"):
            raise ValueError(f"filter group: expected AND or OR, found {found.get('type')!r}")
        if not parts:
            return Condition("1")
        joined = f" {found['type']} ".join(part.sql for part in parts)
        return Condition(f"({joined})", tuple(param for part in parts for param in part.params))
    unknown = found.keys() - FILTER_KEYS - LEGACY_KEYS
    if unknown:
        raise ValueError(f"filter keys: found {sorted(unknown)}")
    if found.get("type") == "hogql":
        return Condition("n IN (SELECT value FROM json_each(?))", (json.dumps(matching(found["key"])),))
    if found.get("type", "event") != "event":
        raise ValueError(f"filter type: expected event or hogql, found {found['type']!r}")
    property_matches("{}", json.dumps(found))  # an unknown operator must fail even when no row is looked at
    return Condition("property_matches(properties, ?)", (json.dumps(found),))


def property_matches(properties: str, wanted: str) -> bool:
    """Whether the property filter *wanted* (JSON) holds; values compare as text, as PostHog stores them."""
    condition = json.loads(wanted, parse_int=str, parse_float=str)
    decoded = json.loads(properties, parse_int=str, parse_float=str)
    found = decoded.get(condition["key"]) if isinstance(decoded, dict) else None
    operator = condition.get("operator") or "exact"
    value = condition.get("value")
    values = [_text(one) for one in (value if isinstance(value, list) else [value])]
    text = None if found is None else _text(found)
    positive, negated = {
        "exact": ("exact", False),
        "is_not": ("exact", True),
        "icontains": ("icontains", False),
        "not_icontains": ("icontains", True),
        "regex": ("regex", False),
        "not_regex": ("regex", True),
        "is_set": ("is_set", False),
        "is_not_set": ("is_set", True),
        "gt": ("gt", False),
        "lt": ("lt", False),
    }[operator]
    if text is None:
        return negated
    match positive:
        case "exact":
            holds = text in values
        case "icontains":
            holds = values[0].lower() in text.lower()
        case "regex":
            holds = re.search(values[0], text) is not None
        case "gt":
            holds = float(text) > float(values[0])
        case "lt":
            holds = float(text) < float(values[0])
        case _:
            holds = True
    return holds != negated


class Store:
    """The events table. One connection behind a lock.

    *persons*: by distinct id, as the list shows them. *older*: whom a listed row belongs to is asked of Postgres, which
    refuses NUL; properties are shown as Python writes them (seen: list_number_beyond_double.json of 1.43).
    """

    def __init__(self, rows: Iterable[Row], *, persons: Mapping[str, Any], older: bool) -> None:
        self._lock = threading.Lock()
        self._older = older
        self._persons = {distinct_id: _json(person).encode() for distinct_id, person in persons.items()}
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.create_function("property_matches", 2, property_matches, deterministic=True)
        self._db.create_function("index_day", 1, index_day, deterministic=True)
        self._db.execute(
            "CREATE TABLE events (n INTEGER PRIMARY KEY, us INTEGER, uuid TEXT, event TEXT, distinct_id TEXT,"
            " properties TEXT, elements_chain TEXT, created_us INTEGER, before BLOB, behind BLOB)"
        )
        self._db.execute("CREATE INDEX by_time ON events (us)")
        self._db.execute("CREATE INDEX by_uuid ON events (uuid)")
        self.hold(rows)

    def hold(self, rows: Iterable[Row]) -> None:
        """Have *rows* and no others from now on."""
        with self._lock:
            self._db.execute("DELETE FROM events")
            records = map(self._record, enumerate(rows, start=1))
            self._db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?)", records)

    def page(
        self, conditions: list[Condition], *, descending: bool, limit: int, offset: int, with_persons: bool
    ) -> list[tuple[int, bytes]]:
        """(microseconds, JSON body) of up to *limit* rows by time; equal times come in a new order each call.

        Raises ValueError for a row that cannot be served; the last of *limit* is not shown, so only its person counts.
        """
        where = " AND ".join(part.sql for part in conditions)
        sql = (
            f"SELECT us, distinct_id, properties, before, behind FROM events WHERE {where}"
            f" ORDER BY us {'DESC' if descending else 'ASC'}, n * ? % {TIE_PRIME} LIMIT ? OFFSET ?"
        )
        params = [param for part in conditions for param in part.params]
        with self._lock:
            found = self._db.execute(sql, (*params, random.randrange(1, TIE_PRIME), limit, offset)).fetchall()
        self._serve([(distinct_id, properties) for _, distinct_id, properties, _, _ in found[: limit - 1]])
        self._serve([(distinct_id, "{}") for _, distinct_id, _, _, _ in found[limit - 1 :]])
        return [
            (us, self._shown(distinct_id, before, behind, with_persons)) for us, distinct_id, _, before, behind in found
        ]

    def _shown(self, distinct_id: str, before: bytes, behind: bytes, with_person: bool) -> bytes:
        return before + (self._persons.get(distinct_id, b"null") if with_person else b"null") + behind

    def _serve(self, rows: list[tuple[str, str]]) -> None:
        for distinct_id, properties in rows:
            if not properties.startswith("{"):
                raise ValueError("properties: expected an object")
            if self._older and "\0" in distinct_id:
                raise ValueError("a string literal cannot contain NUL (0x00) characters")

    def one(self, event_uuid: str, *, with_person: bool) -> bytes | None:
        """JSON body of the first row with *event_uuid*."""
        with self._lock:
            found = self._db.execute(
                "SELECT distinct_id, properties, before, behind FROM events WHERE uuid = ? LIMIT 1", (event_uuid,)
            ).fetchone()
        if found is None:
            return None
        distinct_id, properties, before, behind = found
        self._serve([(distinct_id, properties)])
        return self._shown(distinct_id, before, behind, with_person)

    def values(self, conditions: list[Condition], key: str, *, column: bool) -> list[str]:
        """Distinct texts of a property, or of a *column*, in the rows that meet *conditions*; null is none (§2.2).

        Lists are taken apart; numbers, booleans and objects come as JSON text (posthog-observed.md "Values").
        """
        if column and key not in VALUE_COLUMNS:
            raise ValueError(f"column: expected of {sorted(VALUE_COLUMNS)}, found {key!r}")
        where = " AND ".join(part.sql for part in conditions)
        params = [param for part in conditions for param in part.params]
        with self._lock:
            rows = self._db.execute(f"SELECT {key if column else 'properties'} FROM events WHERE {where}", params)
            found = [text if column else property_value(text, key) for (text,) in rows]
        items = [item for value in found for item in (value if isinstance(value, list) else [value])]
        return list(dict.fromkeys(_text(item) for item in items if item is not None))

    def json_lines(self) -> Iterator[str]:
        """Every row as one JSON object a line, names as in the table but without what the list shows."""
        with self._lock:
            table = self._db.execute(
                "SELECT n, us, uuid, event, distinct_id, properties, elements_chain, created_us FROM events"
            )
            names = [column[0] for column in table.description]
            for record in table:
                yield json.dumps(dict(zip(names, record, strict=True))) + "\n"

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._db.close()

    def _record(self, numbered: tuple[int, Row]) -> tuple[Any, ...]:
        n, row = numbered
        us = micros(row.timestamp)
        created_us = us if row.created_at is None else micros(row.created_at)
        shown = _json(json.loads(row.properties)) if self._older else row.properties
        ids = (row.uuid, row.event, row.distinct_id)
        return (n, us, *ids, row.properties, row.elements_chain, created_us, *body(row, shown))


def property_value(properties: str, key: str) -> Any:
    """The value of *key*, an object as the text that is stored (seen: values_nested.json); what is no object has none."""
    at = 0
    while properties.startswith("{") and (member := MEMBER.match(properties, at)):
        name, at = DECODER.raw_decode(properties, member.end())
        start = COLON.match(properties, at).end()
        value, at = DECODER.raw_decode(properties, start)
        if name == key:
            return properties[start:at] if isinstance(value, dict) else value
    return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)
