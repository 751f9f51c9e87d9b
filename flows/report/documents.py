"""Values as one JSON document."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta

from extractors.lists import exact


def plain(value: object) -> object:
    """*value* as JSON can say it. A time without a zone gets none: it may be of any."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


_begun = False


def begun() -> bool:
    """Whether this process has begun to write its document."""
    return _begun


def begin(written: bool = True) -> None:
    """Note that the document is written from here on, which must stay the only one; or, at a start, that none is yet."""
    global _begun
    _begun = written


def as_json(value: object) -> None:
    """Write *value* as the one document on stdout."""
    begin()
    sys.stdout.write(exact.dumps(value, simple=_simple, indent=2, ensure_ascii=False) + "\n")


def json_value(value: object) -> object:
    """*value* as JSON can say it, in every depth: what is no number is null, bytes are hexadecimal, keys are text."""
    simpler = _simple(value)
    if isinstance(simpler, Mapping):
        return {key: json_value(one) for key, one in simpler.items()}
    return [json_value(one) for one in simpler] if isinstance(simpler, list | tuple) else simpler


def _simple(value: object) -> object:
    """*value* as JSON can say it, and what is in it as it is. What PostHog wrote stays as it was written."""
    if isinstance(value, exact.Number | exact.Deep | exact.Repeated):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str | list | tuple):
        return value
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Mapping):
        return {_json_key(key): one for key, one in value.items()}
    simpler = plain(value)
    return simpler if isinstance(simpler, str) else _simple(simpler)


def _json_key(key: object) -> str:
    if isinstance(key, str):
        return key
    said = json_value(key)
    return said if isinstance(said, str) else json.dumps(said)
