"""The rows of a query: for people a table or records, for programs CSV, JSON and JSON Lines, written as they come."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from flows.report.documents import begin, json_value
from flows.report.files import distinct
from flows.report.words import visible

BATCH = 2_000  # rows in memory at once
SHOWN = 40  # rows of a table on a terminal, unless the user names another number
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL", "BIGNUM")

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a result: names, each once, and whether each holds numbers, or JSON."""

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    json: tuple[bool, ...]

    @classmethod
    def of(cls, description: Iterable[Sequence[Any]]) -> Columns:
        """Those that DuckDB describes: name and type of each (the DB-API's `description`)."""
        described = [(str(name), str(kind)) for name, kind, *_ in description]
        return cls(
            tuple(distinct([name for name, _ in described])),
            tuple(kind.removeprefix("U").startswith(_NUMBERS) and not kind.endswith("]") for _, kind in described),
            tuple(kind == "JSON" for _, kind in described),
        )


def batches(fetchmany: Callable[[int], Sequence[Row]]) -> Iterator[Row]:
    """The rows of a result, a batch in memory at a time."""
    while found := fetchmany(BATCH):
        yield from found


def write_json(columns: Columns, rows: Iterable[Row]) -> None:
    """One JSON array of objects on stdout, a line for each row. JSON columns are nested, their text as it is stored."""
    out, before = sys.stdout, "[\n"
    for row in rows:
        begin()
        out.write(before + _object(columns, row))
        before = ",\n"
    begin()
    out.write("[]\n" if before == "[\n" else "\n]\n")


def write_json_lines(columns: Columns, rows: Iterable[Row]) -> None:
    """A JSON object a line on stdout."""
    for row in rows:
        sys.stdout.write(_object(columns, row) + "\n")


def show(columns: Columns, rows: Iterator[Row], *, limit: int | None) -> int | None:
    """A table for people, numbers on the right; on a terminal that is too narrow for it, records. Where there are more rows
    than *limit*, so many are shown and the number of all is returned, else None.

    *limit* None: SHOWN on a terminal, all elsewhere.
    """
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    limit = SHOWN if limit is None and console.is_terminal else limit
    shown = list(rows if limit is None else islice(rows, limit))
    more = sum(1 for _ in rows)
    names = [_cell(name) for name in columns.names]
    cells = [["" if value is None else _cell(str(value)) for value in row] for row in shown]
    widths = [max(map(_width, chain([name], column))) for name, *column in zip(names, *cells, strict=True)]
    fits = not console.is_terminal or sum(widths) + 3 * len(widths) + 1 <= console.width
    lines = _boxed(names, cells, widths, columns.numeric) if fits else _records(names, cells)
    for line in lines:
        sys.stdout.write(line + "\n")
    return len(shown) + more if more else None


def _object(columns: Columns, row: Row) -> str:
    parts = (
        f"{json.dumps(name, ensure_ascii=False)}: {_nested(value) if nested else _plain(value)}"
        for name, nested, value in zip(columns.names, columns.json, row, strict=True)
    )
    return "{" + ", ".join(parts) + "}"


def _plain(value: object) -> str:
    return json.dumps(json_value(value), ensure_ascii=False, allow_nan=False)


def _nested(value: object) -> str:
    """The JSON text *value* on one line, every digit as it is; a JSON string where it is none."""
    if not isinstance(value, str):
        return _plain(value)
    try:
        json.loads(value, parse_constant=_refused)
    except (ValueError, RecursionError):
        return _plain(value)
    return value.replace("\n", " ").replace("\r", " ")  # between tokens: a string has none


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _cell(text: str) -> str:
    """A value on one line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _boxed(
    names: Sequence[str], cells: Iterable[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool]
) -> Iterator[str]:
    def line(texts: Sequence[str], right: Sequence[bool]) -> str:
        padded = (
            " " * (width - _width(text)) + text if at_right else text + " " * (width - _width(text))
            for text, width, at_right in zip(texts, widths, right, strict=True)
        )
        return f"│ {' │ '.join(padded)} │"

    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + right

    yield rule("┌", "┬", "┐")
    yield line(names, numeric)
    yield rule("├", "┼", "┤")
    for row in cells:
        yield line(row, numeric)
    yield rule("└", "┴", "┘")


def _records(names: Sequence[str], cells: Iterable[Sequence[str]]) -> Iterator[str]:
    """Each row as lines of name and value; the terminal folds what is long."""
    longest = max(map(_width, names))
    for number, row in enumerate(cells, 1):
        yield f"── row {number} ──"
        for name, value in zip(names, row, strict=True):
            yield f"{name}{' ' * (longest - _width(name))}  {value}"
