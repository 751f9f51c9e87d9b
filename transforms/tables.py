"""Contents of exports as typed tables: a type only where every value survives it to the letter, else text.

`0012` stays text, a number with more digits than a double holds stays text, and a column with one odd value stays text:
nothing of a content is lost by giving it types. Facts: facts/posthog-api.md §3.6 (what PostHog writes into its files).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from transforms.errors import TransformError

LARGEST_BYTES = 256 * 2**20
"""Larger contents are kept as files only."""

_INTEGER = r"^-?(0|[1-9]\d{0,17})$"
_NUMBER = r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,2})?$"
_DATE = r"^\d{4}-\d\d-\d\d$"
_INSTANT = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)$"
_DOUBLE_DIGITS = 15


class NotTabular(TransformError):
    """The content is no table: no CSV with a header, no sheet, no array of objects."""


def from_csv(content: bytes) -> pa.Table:
    """A CSV with a header. Rows may be longer than it: what is beyond becomes further columns. Raises NotTabular."""
    csv.field_size_limit(LARGEST_BYTES)
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise NotTabular(f"this is no CSV: {exc}") from exc
    if not rows:
        raise NotTabular("the file is empty")
    header, *body = rows
    # A line that is empty is no row, but for a single column, where it is an empty value.
    lines = [row for row in body if row or len(header) == 1]
    return _typed(names(header, max(map(len, lines), default=0)), lines)


def from_xlsx(content: bytes) -> pa.Table:
    """The first sheet of a workbook, whose first row is the header. Raises NotTabular."""
    import fastexcel  # late: only contents of this kind need it

    try:
        sheet = fastexcel.read_excel(content).load_sheet(0, header_row=None, dtypes="string")
        frame = sheet.to_polars()
    except (fastexcel.FastExcelError, ValueError) as exc:
        raise NotTabular(f"this is no workbook: {str(exc).splitlines()[0]}") from exc
    if frame.is_empty():
        raise NotTabular("the sheet is empty")
    header, *lines = ([cell if cell is not None else "" for cell in row] for row in frame.rows())
    return _typed(names(header, len(header)), lines)


def from_json(content: bytes) -> pa.Table:
    """An array of objects; columns in order of first appearance. Text stays text, also where it looks like a number.

    Raises NotTabular.
    """
    try:
        found = json.loads(content, parse_float=_Text, parse_int=_Text, parse_constant=_Text)
    except (ValueError, RecursionError) as exc:
        raise NotTabular(f"this is no JSON: {exc}") from exc
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise NotTabular("the JSON is no array of objects")
    columns: dict[str, list[object]] = {}
    for number, row in enumerate(found):
        for name, value in row.items():
            column = columns.setdefault(name, [None] * number)
            column.append(value)
        for column in columns.values():
            if len(column) == number:
                column.append(None)
    series = [
        _json_series(name, values) for name, values in zip(names(list(columns), 0), columns.values(), strict=True)
    ]
    return _arrow(pl.DataFrame(series))


def joined(old: pa.Table | None, new: pa.Table) -> pa.Table:
    """*new* below *old*: the columns of both; where their types differ, as text. A name is the same in any case."""
    if old is None:
        return new
    known = {name.lower(): name for name in old.column_names}
    new = new.rename_columns([known.get(name.lower(), name) for name in new.column_names])
    order = [*old.column_names, *(name for name in new.column_names if name not in old.column_names)]
    parts = []
    for table, other in ((old, new), (new, old)):
        columns = []
        for name in order:
            here = table.schema.field(name).type if name in table.column_names else None
            there = other.schema.field(name).type if name in other.column_names else None
            kind = here or there
            if here is not None and there is not None and here != there:
                kind = pa.string()
            columns.append(_as(table[name], kind) if name in table.column_names else pa.nulls(table.num_rows, kind))
        parts.append(pa.table(columns, names=order))
    return pa.concat_tables(parts)


def names(header: Sequence[str], width: int) -> list[str]:
    """Names for so many columns at least: empty ones by their place, repeated ones numbered (DuckDB ignores case)."""
    taken: set[str] = set()
    found = []
    for place in range(max(len(header), width)):
        name = (header[place] if place < len(header) else "").replace("\0", "").strip() or f"column_{place + 1}"
        number, base = 2, name
        while name.lower() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.lower())
        found.append(name)
    return found


class _Text(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _arrow(frame: pl.DataFrame) -> pa.Table:
    """Text as plain strings, so that tables of different days join."""
    table = frame.to_arrow()
    fields = [
        pa.field(field.name, pa.string() if not _keeps_its_type(field.type) else field.type) for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _keeps_its_type(kind: pa.DataType) -> bool:
    return not (pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _typed(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> pa.Table:
    width = len(columns)
    padded = [[*row, *[""] * (width - len(row))] for row in lines]
    cells = list(zip(*padded, strict=True)) if padded else [()] * width
    series = [
        typed(pl.Series(name, [cell or None for cell in values], dtype=pl.String))
        for name, values in zip(columns, cells, strict=True)
    ]
    return _arrow(pl.DataFrame(series))


def typed(texts: pl.Series) -> pl.Series:
    """The column in the narrowest type that keeps every value to the letter; text where there is none."""
    known = texts.drop_nulls()
    if known.is_empty():
        return texts
    if known.is_in(["true", "false"]).all() or known.is_in(["True", "False"]).all():
        return texts.str.to_lowercase() == "true"
    if known.str.contains(_INTEGER).all() and not known.is_in(["-0"]).any():
        return texts.cast(pl.Int64)
    digits = known.str.replace(r"[eE].*$", "").str.replace_all(r"[^0-9]", "").str.strip_chars_start("0").str.len_chars()
    if known.str.contains(_NUMBER).all() and bool((digits <= _DOUBLE_DIGITS).all()):
        numbers = texts.cast(pl.Float64, strict=False)
        if numbers.null_count() == texts.null_count() and bool(numbers.drop_nulls().is_finite().all()):
            return numbers
    if known.str.contains(_DATE).all():
        days = texts.str.to_date("%Y-%m-%d", strict=False)
        if days.null_count() == texts.null_count():
            return days
    if known.str.contains(_INSTANT).all():
        plain = texts.str.replace(r"(Z|\+00:00)$", "").str.replace(" ", "T")
        moments = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        if moments.null_count() == texts.null_count():
            return moments.dt.replace_time_zone("UTC")
    return texts


def _json_series(name: str, values: Sequence[Any]) -> pl.Series:
    """Numbers and booleans get types as CSV's do; objects, arrays and mixtures are their JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {_Text}:
        return typed(pl.Series(name, values, dtype=pl.String))
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds <= {str}:
        return pl.Series(name, values, dtype=pl.String)
    return pl.Series(name, [None if value is None else _dumped(value) for value in values], dtype=pl.String)


def _dumped(value: Any) -> str:
    """JSON with its numbers as they were written."""
    if isinstance(value, _Text):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_dumped(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_dumped, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    series = pl.Series(pl.from_arrow(column))
    if series.dtype == pl.Datetime("us", "UTC"):
        series = series.dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
    elif series.dtype == pl.Boolean:
        series = series.replace_strict({True: "true", False: "false"}, return_dtype=pl.String)
    return pa.chunked_array([series.cast(pl.String).to_arrow()]).cast(kind)
