"""Copies of one event that differ: which of them the source created last, told from what it stores of the event.

Pure. The events list shows no created_at, and shows properties otherwise than they are stored, so a copy is recognized by
what its texts mean, and only where that is beyond doubt (docs/proof.md).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from transforms.schema import TIMESTAMP

IDENTITY = ["uuid", "event", "distinct_id", "timestamp"]
LATER = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in IDENTITY[:-1]),
        pa.field("timestamp", TIMESTAMP, nullable=False),
        pa.field("_h", pa.uint64(), nullable=False),
    ]
)
"""Identity and hash of a copy that the source created last of its event; of several created at once all."""

_MOST_DIGITS = 4_000  # Python reads no longer ones as a number, and a double holds none of them


@dataclass(frozen=True, slots=True)
class _Copy:
    """One content of an event. *hash*: of what a list showed; *created*: of what is stored, µs since 1970."""

    properties: str
    chain: str
    hash: int = 0
    created: int = 0


def twice(rows: pa.Table) -> pa.Table:
    """Those of *rows* whose uuid occurs more than once."""
    uuids = pl.DataFrame(pl.from_arrow(rows.select(["uuid"]))).with_row_index("_row")
    if uuids["uuid"].n_unique() == uuids.height:
        return rows.slice(0, 0)
    return rows.take(uuids.filter(pl.col("uuid").is_duplicated())["_row"].cast(pl.Int64).to_arrow())


def differing(rows: pa.Table) -> pa.Table:
    """Those of *rows* whose event, at the same time, occurs with another content too. *rows*: at least IDENTITY and _h."""
    keys = pl.DataFrame(pl.from_arrow(rows.select([*IDENTITY, "_h"]))).with_row_index("_row")
    found = keys.filter(pl.col("_h").n_unique().over(IDENTITY) > 1)
    return rows.take(found["_row"].cast(pl.Int64).to_arrow())


def later(shown: pa.Table, stored: pa.Table) -> pa.Table:
    """Of every event in *shown* the copy that was created last, in the schema LATER; none where that is not beyond doubt.

    *shown*: IDENTITY, properties, elements_chain and _h, as differing() gives them. *stored*: IDENTITY, properties,
    elements_chain as stored, and created in µs.
    """
    ours, theirs = _by_event(shown), _by_event(stored)
    found = []
    for event, copies in ours.items():
        hashes = _latest(copies, theirs.get(event, []))
        found += [dict(zip(IDENTITY, event, strict=True)) | {"_h": one} for one in sorted(hashes)]
    return pa.Table.from_pylist(found, LATER)


def _by_event(rows: pa.Table) -> dict[tuple[object, ...], list[_Copy]]:
    found: dict[tuple[object, ...], list[_Copy]] = defaultdict(list)
    for row in rows.to_pylist():
        copy = _Copy(row["properties"], row["elements_chain"], row.get("_h", 0), row.get("created", 0))
        found[tuple(row[name] for name in IDENTITY)].append(copy)
    return found


def _latest(shown: Sequence[_Copy], stored: Sequence[_Copy]) -> set[int]:
    """Hashes of the copies *shown* that were created last; empty where that is not beyond doubt."""
    shown = list({copy.hash: copy for copy in shown}.values())
    ordered = sorted(stored, key=lambda copy: copy.created)
    stored = list({(copy.properties, copy.chain): copy for copy in ordered}.values())
    pairs = _recognized(shown, stored)
    last = max((copy.created for copy in stored), default=0)
    latest = [copy for copy in stored if copy.created == last]
    known = {pairs[copy].hash for copy in latest if copy in pairs}
    # Another content of the same moment may be one that was not recognized: no copy is the later then.
    return known if len(known) == len(latest) else set()


def _recognized(shown: Sequence[_Copy], stored: Sequence[_Copy]) -> dict[_Copy, _Copy]:
    """Which copy *shown* is which one *stored*: equal as no two on either side are, at last by elimination."""
    names = {name for copy in shown for name in _names(copy.properties)}
    ways: list[Callable[[_Copy], Hashable]] = [
        lambda copy: (_meaning(copy.properties), copy.chain),
        lambda copy: _meaning(copy.properties, names=names, rounded=True),
    ]
    pairs: dict[_Copy, _Copy] = {}
    for way in ways:
        ours = _singly(way, shown)
        theirs = _singly(way, stored)
        for key in ours.keys() & theirs.keys():
            if theirs[key] not in pairs and ours[key] not in pairs.values():
                pairs[theirs[key]] = ours[key]
    rest = [copy for copy in stored if copy not in pairs]
    left = [copy for copy in shown if copy not in pairs.values()]
    if len(rest) == len(left) == 1:
        pairs[rest[0]] = left[0]
    return pairs


def _singly(way: Callable[[_Copy], Hashable], copies: Iterable[_Copy]) -> dict[Hashable, _Copy]:
    """Copies by *way*, without those that share it with another."""
    found: dict[Hashable, list[_Copy]] = defaultdict(list)
    for copy in copies:
        found[way(copy)].append(copy)
    return {key: held[0] for key, held in found.items() if len(held) == 1}


def _names(text: str) -> Collection[str]:
    read = _read(text)
    return read.keys() if isinstance(read, dict) else ()


def _meaning(text: str, *, names: Collection[str] | None = None, rounded: bool = False) -> Hashable:
    """What the JSON *text* says, equal for a text as stored and as a list shows it.

    *names*: the only ones of the outermost object that count, as a list may leave out what a key may not see. *rounded*:
    numbers count as doubles.
    """
    read = _read(text)
    if not isinstance(read, dict):
        return text
    # Quotes at the ends of outermost texts are lost on the way into a list.
    outer = {name: value.strip('"') if isinstance(value, str) else value for name, value in read.items()}
    if names is not None:
        outer = {name: value for name, value in outer.items() if name in names}
    return _frozen(outer, rounded=rounded)


def _read(text: str) -> object:
    try:
        return json.loads(text or "{}", parse_int=_number, parse_float=_number, parse_constant=lambda word: None)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> int | float | None:
    """A number; None for one beyond every double, which a list shows as null or as a bare word."""
    if text.lstrip("-").isdigit() and len(text) < _MOST_DIGITS:
        return int(text)
    read = float(text)
    return read if math.isfinite(read) else None


def _frozen(value: object, *, rounded: bool) -> Hashable:
    """*value* so that it can be compared: by kind, numbers by their value, names in any order."""
    match value:
        case dict():
            kept = ((name, one) for name, one in value.items() if not _note(name, value))
            return "object", frozenset((name, _frozen(one, rounded=rounded)) for name, one in kept)
        case list():
            return "list", tuple(_frozen(one, rounded=rounded) for one in value)
        case bool() | None:
            return "word", value
        case int() | float():
            return "number", _double(value) if rounded else value
    return "text", value


def _double(value: int | float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _note(name: str, beside: dict[str, object]) -> bool:
    """Whether a list put *name* beside a null, to say what no JSON number can: `f::inf` beside `f`."""
    base, mark, kind = name.rpartition("::")
    return bool(mark) and kind in ("inf", "-inf", "nan") and base in beside and beside[base] is None
