"""Rows as CSV, as the list writes them (seen: csv_*.json). Knows nothing of HTTP."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any


def written(bodies: list[bytes]) -> str:
    """One line for each JSON row, under the columns of all of them in the order of the alphabet; no rows, no text."""
    rows = [dict(_cells(json.loads(body), ())) for body in bodies]
    columns = sorted({column for row in rows for column in row})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cells(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Column and cell of everything in *value*; an empty object or list has none."""
    match value:
        case dict():
            for name, one in value.items():
                yield from _cells(one, (*path, name))
        case list():
            for at, one in enumerate(value):
                yield from _cells(one, (*path, str(at)))
        case _:
            yield ".".join(path), value
