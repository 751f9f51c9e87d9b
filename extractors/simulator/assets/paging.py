"""Lists with limit and offset over rows that move while somebody pages (facts/posthog-api.md §3.4, §4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from extractors.simulator import responses
from extractors.simulator.errors import BadField

PAGE = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plain endpoint needs of a request; *address* is the one asked, without its query."""

    params: Mapping[str, str]
    body: bytes
    now: datetime
    address: str


def page(rows: Sequence[Mapping[str, object]], asked: Asked, *, page: int = PAGE, miscounted: int = 0) -> Response:
    """`count`, `next`, `previous` and the rows from `offset` on; what is no number counts as missing. *page*: rows
    without a `limit`; *miscounted*: what is added to the count."""
    limit = _number(asked.params.get("limit"), page) or page
    offset = _number(asked.params.get("offset"), 0)
    more, before = offset + limit < len(rows), offset > 0
    return responses.json_answer(
        {
            "count": len(rows) + miscounted,
            "next": _moved(asked, limit, offset + limit) if more else None,
            "previous": _moved(asked, limit, max(0, offset - limit)) if before else None,
            "results": rows[offset : offset + limit],
        }
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default


def _moved(asked: Asked, limit: int, offset: int) -> str:
    return f"{asked.address}?{urlencode(dict(asked.params) | {'limit': limit, 'offset': offset})}"


def given(body: bytes) -> dict[str, Any]:
    """The object that a request brings. Raises BadField."""
    try:
        found = json.loads(body or b"{}")
    except ValueError as exc:
        raise BadField(None, "parse_error", "JSON parse error") from exc
    if not isinstance(found, dict):
        raise BadField(None, "invalid", "Invalid data. Expected a dictionary.")
    return found


def stamp(at: datetime) -> str:
    """A time as plain endpoints show it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
