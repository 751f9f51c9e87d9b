"""Answers as CSV: each row flattened, the header sorted over the page's keys (facts/posthog-api.md §1.8)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def csv_text(rows: Iterable[bytes]) -> bytes:
    """The CSV of rows given as JSON; no rows make an empty body, without a header."""
    flat = [dict(_flattened(json.loads(row))) for row in rows]
    if not flat:
        return b""
    names = sorted({name for row in flat for name in row})
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([row.get(name, "") for name in names] for row in flat)
    return out.getvalue().encode()


def _flattened(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """(path, value) of every leaf; empty objects and lists give no column, null an empty cell."""
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else ((str(at), one) for at, one in enumerate(value))
        for name, one in items:
            yield from _flattened(one, f"{path}.{name}" if path else name)
        return
    yield path, "" if value is None else value
