"""Pure decoding of bodies: bytes → values, or a typed error. No I/O, no clock. Does not know which request is asked next.

`properties` is never parsed into Python objects: msgspec keeps the received bytes, so a 30-digit integer, `-0.0`, key
order and duplicate keys stay what they were (docs/decisions/0006).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from urllib.parse import parse_qs, urlsplit

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from extractors import errors
from extractors.http import scan
from extractors.window import EPOCH

RAW_ROWS = pa.schema(
    [
        pa.field("uuid", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("properties", pa.string(), nullable=False),
        pa.field("elements_chain", pa.string(), nullable=False),
    ]
)
"""Rows of a page as the list shows them; `properties` is the object's text as received."""

REJECTS = pa.schema(
    [
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""Rows that cannot be typed, with the reason and the text as received.

`at` is the row's own time or, where that cannot be read, the time of the row beside it in the page, which is sorted; it
is null only where no row of the page has a time.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """One decoded page. *more*: the answer had a `next`; *cursor*: the time inside that `next`, if it has one."""

    rows: pa.Table
    rejects: pa.Table
    more: bool
    cursor: datetime | None

    @property
    def received(self) -> int:
        """Rows the server sent, readable or not."""
        return int(self.rows.num_rows + self.rejects.num_rows)


class _Row(msgspec.Struct, gc=False):
    id: str
    event: str
    distinct_id: str
    timestamp: str
    properties: msgspec.Raw
    elements_chain: str | None = None


class _List(msgspec.Struct):
    results: list[_Row]
    next: str | None = None


class _Query(msgspec.Struct):
    results: list[list[int | float | str | None]]
    hasMore: bool | None = None  # noqa: N815 (the server's spelling)
    is_cached: bool | None = None


_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_YEAR_1 = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
_YEAR_9999 = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

_list_decoder = msgspec.json.Decoder(_List)
_row_decoder = msgspec.json.Decoder(_Row)
_query_decoder = msgspec.json.Decoder(_Query)


def page(body: bytes) -> Page:
    """Decode one page of the events list.

    Raises BodyCut if the body is not the whole JSON document it should be (also for HTML with status 200). Rows that
    cannot be typed come back in `rejects`, none is dropped.
    """
    try:
        _strings([body]).validate(full=True)  # msgspec.Raw does not check UTF-8
        answer = _list_decoder.decode(body)
        rows = _table(answer.results)
    except (msgspec.MsgspecError, pa.ArrowInvalid, RecursionError):
        return _page_row_by_row(body)
    return Page(rows, REJECTS.empty_table(), more=bool(answer.next), cursor=_cursor(answer.next))


def _table(rows: Sequence[_Row]) -> pa.Table:
    """Columns of a page. Raises ArrowInvalid for a timestamp without zone, beyond microseconds or beyond year 9999."""
    properties = _strings([row.properties for row in rows])
    # An object's bytes start with a brace: anything else would land as JSON that is no object.
    if not pc.all(pc.starts_with(properties, "{"), min_count=0).as_py():
        raise msgspec.ValidationError("`properties` is not an object")
    uuids = pa.array([row.id for row in rows], pa.string())
    if not pc.all(pc.match_substring_regex(uuids, _UUID), min_count=0).as_py():
        raise msgspec.ValidationError("`id` is not a uuid in canonical form")
    times = pa.array([row.timestamp for row in rows], pa.string()).cast(pa.timestamp("us", "UTC"))
    extremes = pc.min_max(times.cast(pa.int64()))
    if rows and (extremes["min"].as_py() < _YEAR_1 or extremes["max"].as_py() > _YEAR_9999):
        raise msgspec.ValidationError("`timestamp` lies outside the years 1 to 9999")
    return pa.table(
        [
            uuids,
            pa.array([row.event for row in rows], pa.string()),
            pa.array([row.distinct_id for row in rows], pa.string()),
            times,
            properties,
            pa.array([row.elements_chain or "" for row in rows], pa.string()),
        ],
        schema=RAW_ROWS,
    )


def _strings(parts: Sequence[bytes | msgspec.Raw]) -> pa.StringArray:
    """An Arrow string column out of byte slices, which nobody has looked at, with one copy; with none of a single slice."""
    ends = pa.array(accumulate(map(len, parts), initial=0), pa.int32(), size=len(parts) + 1).buffers()[1]
    return pa.StringArray.from_buffers(len(parts), ends, pa.py_buffer(parts[0] if len(parts) == 1 else b"".join(parts)))


def _cursor(next_address: str | None) -> datetime | None:
    """The time in `next`'s `after`; the address itself is never followed."""
    if not next_address:
        return None
    try:
        after = parse_qs(urlsplit(next_address).query).get("after", [""])[-1]
        at = datetime.fromisoformat(after)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _page_row_by_row(body: bytes) -> Page:
    """The slow way for a page with at least one bad row: type every row by itself, keep what fails as text.

    Raises BodyCut if not even the rows' borders can be found.
    """
    text = body.decode("utf-8", "surrogateescape")
    try:
        document = scan.members(text)
        pieces = list(scan.elements(document["results"]))
        next_address = json.loads(document.get("next", "null"))
    except (ValueError, KeyError) as exc:
        raise errors.BodyCut(
            f"page is not the JSON of an events list: {len(body)} bytes, {type(exc).__name__}", whole=True
        ) from exc
    if pieces and all(map(_numbered, pieces)):
        raise errors.UnusableAnswer(
            "the server numbers its events instead of giving uuids, as PostHog 1.30 did",
            hint="its events cannot be told apart safely: upgrade PostHog",
        )
    good: list[pa.Table] = []
    rejects: list[tuple[datetime | None, str, str]] = []
    for piece in pieces:
        raw = piece.encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
            good.append(_table([_row(piece)]))
        except (msgspec.MsgspecError, UnicodeDecodeError, pa.ArrowInvalid, RecursionError) as exc:
            before = _last_time(good[-1]) if good else None
            rejects.append((_time_of(piece) or before, _reason(exc), raw.decode("utf-8", "backslashreplace")))
    rows = pa.concat_tables([RAW_ROWS.empty_table(), *good]).combine_chunks()
    first = rows["timestamp"][0].as_py() if good else None
    at, reasons, texts = zip(*rejects, strict=True) if rejects else ((), (), ())
    return Page(
        rows,
        pa.table([[moment or first for moment in at], list(reasons), list(texts)], schema=REJECTS),
        more=bool(next_address),
        cursor=_cursor(next_address if isinstance(next_address, str) else None),
    )


def _row(piece: str) -> _Row:
    """A row; `properties` to the letter also where they have numbers that JSON has no word for (docs/decisions/0006)."""
    plain = scan.without_words(piece)
    row = _row_decoder.decode(plain.encode())
    if plain != piece:
        row.properties = msgspec.Raw(scan.members(piece)["properties"].encode())
    return row


def _numbered(piece: str) -> bool:
    """Whether the row's id is a number."""
    try:
        return scan.members(piece).get("id", "").isdigit()
    except scan.Broken:
        return False


def _last_time(rows: pa.Table) -> datetime:
    at: datetime = rows["timestamp"][-1].as_py()
    return at


def _time_of(piece: str) -> datetime | None:
    """The row's own time, if that much can be read."""
    try:
        at = datetime.fromisoformat(str(json.loads(scan.members(piece)["timestamp"])))
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, KeyError, OverflowError):
        return None


def _reason(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    return str(exc)[:200]


def query_rows(body: bytes) -> tuple[tuple[int | float | str | None, ...], ...]:
    """Result rows of POST /query. Raises UnusableAnswer for a cached or cut-off answer (design.md, Probe)."""
    try:
        answer = _query_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise errors.BodyCut(f"answer of /query is not the JSON expected: {len(body)} bytes") from exc
    if answer.is_cached:
        raise errors.UnusableAnswer("answer of /query came from a cache although a fresh one was asked")
    if answer.hasMore:
        raise errors.UnusableAnswer("answer of /query is cut off (hasMore)")
    return tuple(tuple(row) for row in answer.results)
