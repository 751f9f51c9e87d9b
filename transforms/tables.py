"""Contents of exports as typed tables: CSV, the first sheet of a workbook, JSON that is an array of objects.

What a content is made of is read here, as text; what type a column of texts has is told by transforms/columns.py. Whatever
goes wrong in a content is NotTabular: it is one content's fault, and no run's.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

import polars as pl
import pyarrow as pa

from transforms import columns, texts
from transforms.errors import TransformError
from transforms.texts import Written

LARGEST_BYTES = 256 * 2**20
"""Larger contents are kept as files only."""
WIDEST = 10_000
"""Columns; DuckDB needs minutes and gigabytes for wider tables."""
LARGEST_CELLS = 50_000_000
_UNPACKED_BYTES = 4 * LARGEST_BYTES
_BLOCK_CELLS = 2**15  # that are Python's texts at a time: some 10 MB
_ERRORS = {"Div0": "#DIV/0!", "NA": "#N/A", "Name": "#NAME?", "Null": "#NULL!", "Num": "#NUM!", "Value": "#VALUE!"}


class NotTabular(TransformError):
    """The content is no table: no CSV with a header, no sheet, no array of objects. *broken*: it says that it is one."""

    def __init__(self, reason: str, *, broken: bool = True) -> None:
        super().__init__(reason)
        self.broken = broken


class Empty(NotTabular):
    """There is nothing in it, not even a header."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, broken=False)


Leave = Callable[[Sequence[str]], Sequence[bool]]
"""The names of a content's columns → which of them stay the texts that are written there."""


def all_typed(names: Sequence[str]) -> Sequence[bool]:
    """No column stays text that may have a type."""
    return [False] * len(names)


def from_csv(content: bytes | Path, leave: Leave = all_typed) -> pa.Table:
    """A CSV with a header. Rows may be longer than it: what is beyond becomes further columns. *leave*: those that stay text.

    Memory: the texts as Arrow has them, once, and a block of rows. Raises NotTabular, also where a quote is never closed:
    all that follows it would be one cell.
    """
    csv.field_size_limit(LARGEST_BYTES)
    try:
        with _opened(content) as file:
            rows = _rows(file)
            header = next(rows, None)
            if header is None:
                raise Empty("the file is empty")
            # A line that is empty is no row, but for a single column, where it is an empty value.
            return _typed(header, (row for row in rows if row or len(header) == 1), leave)
    except (UnicodeDecodeError, csv.Error) as exc:
        raise NotTabular(f"this is no CSV: {exc}") from exc


def from_xlsx(content: bytes | Path, leave: Leave = all_typed) -> pa.Table:
    """The first sheet of a workbook, whose first row is the header. Cells with an error are its text, `#DIV/0!`.

    Raises NotTabular.
    """
    import fastexcel  # late: only contents of this kind need it

    data = content.read_bytes() if isinstance(content, Path) else content
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(one.file_size for one in archive.infolist()) > _UNPACKED_BYTES:
                raise NotTabular("the workbook is too large, unpacked, to be a table")
        cells = _cells(fastexcel.read_excel(data))
    except (fastexcel.FastExcelError, zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
        raise NotTabular(f"this is no workbook: {str(exc).splitlines()[0]}") from exc
    if not cells or not len(cells[0]):
        raise Empty("the sheet is empty")
    header = [column[0] or "" for column in cells]
    body = [column.slice(1).replace("", None).rechunk().to_arrow().cast(pa.string()) for column in cells]
    return _table(header, [pa.chunked_array([_days(column)]) for column in body], leave)


def from_json(content: bytes | Path, leave: Leave = all_typed) -> pa.Table:
    """An array of objects; columns in order of first appearance. Text stays text, also where it looks like a number.

    Raises NotTabular.
    """
    data = content.read_bytes() if isinstance(content, Path) else content
    try:
        found = json.loads(
            texts.decoded(data),
            parse_float=Written,
            parse_int=Written,
            parse_constant=Written,
            object_pairs_hook=texts.object_of,
        )
    except (ValueError, RecursionError) as exc:
        raise NotTabular(f"this is no JSON: {exc}") from exc
    if found == []:
        raise Empty("the array is empty")
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise NotTabular("the JSON is no array of objects", broken=False)
    values: dict[str | tuple[str, int], list[object]] = {}
    for number, row in enumerate(found):
        for name, value in row.items() if type(row) is dict else _numbered(row):
            if name not in values:
                values[name] = [None] * number
            values[name].append(value)
        _check_size(number + 1, len(values))
        for column in values.values():
            if len(column) == number:
                column.append(None)
    header = [name if isinstance(name, str) else name[0] for name in values]
    return _table(header, list(values.values()), leave, _json_column)


def _numbered(row: Mapping[str, Any]) -> Iterator[tuple[str | tuple[str, int], Any]]:
    """Names and values of an object in which a name stands again: then it is another, as in a CSV's header."""
    seen: dict[str, int] = {}
    for name, value in row.items():
        seen[name] = number = seen.get(name, 0) + 1
        yield name if number == 1 else (name, number), value


@contextmanager
def _opened(content: bytes | Path) -> Iterator[TextIO]:
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        yield io.TextIOWrapper(file, "utf-8-sig", newline="")


def _rows(file: TextIO) -> Iterator[list[str]]:
    """The rows of a CSV. Raises NotTabular for one that wants more when there is no more."""
    ended: list[bool] = []

    def lines() -> Iterator[str]:
        yield from file
        ended.append(True)

    for number, row in enumerate(csv.reader(lines()), 1):
        if ended:
            raise NotTabular(f"this is no whole CSV: a quote of row {number:,} is never closed")
        yield row


def _typed(header: Sequence[str], rows: Iterable[list[str]], leave: Leave) -> pa.Table:
    """A table of *rows*, which are as long as they like: in blocks, so that few are Python's texts at a time."""
    parts: list[list[pa.Array]] = []
    done = 0

    def finish(block: list[list[str]]) -> None:
        made = [pa.array([cell or None for cell in column], pa.string()) for column in zip_longest(*block)]
        parts.extend([pa.nulls(done, pa.string())] for _ in range(len(parts), len(made)))
        for place, column in enumerate(parts):
            column.append(made[place] if place < len(made) else pa.nulls(len(block), pa.string()))

    block: list[list[str]] = []
    width = len(header)
    for row in rows:
        block.append(row)
        width = max(width, len(row))
        _check_size(done + len(block), width)
        if len(block) * width >= _BLOCK_CELLS:
            finish(block)
            done, block = done + len(block), []
    finish(block)
    done += len(block)
    made = [pa.chunked_array(column, pa.string()) for column in parts]
    made += [pa.chunked_array([pa.nulls(done, pa.string())]) for _ in range(len(made), width)]
    return _table(header, made, leave)


def _check_size(rows: int, width: int) -> None:
    if width > WIDEST:
        raise NotTabular(f"it has more than {WIDEST:,} columns")
    if rows * width > LARGEST_CELLS:
        raise NotTabular(f"it has more than {LARGEST_CELLS:,} cells")


def _column(texts: pa.ChunkedArray, left: bool) -> pa.ChunkedArray:
    return texts if left else columns.typed(texts)


def _table(
    header: Sequence[str],
    cells: list[Any],
    leave: Leave,
    column_of: Callable[[Any, bool], pa.ChunkedArray] = _column,
) -> pa.Table:
    """The columns by their names; made of *cells* one after the other, so that one is there twice. *cells* is emptied."""
    if not cells:
        raise Empty("there is no column")
    _check_size(len(cells[0]), len(cells))
    given = columns.names([texts.writable(name) for name in header], len(cells))
    return pa.table([column_of(cells.pop(0), left) for left in leave(given)], names=given)


def _json_column(values: Sequence[Any], left: bool) -> pa.ChunkedArray:
    """Numbers get types as CSV's do, booleans theirs; objects, arrays and mixtures are their JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {Written}:
        read = [None if value is None else str(value) for value in values]
        return _column(pa.chunked_array([pa.array(read, pa.string())]), left)
    if kinds == {bool} and not left:
        return pa.chunked_array([pa.array(values, pa.bool_())])
    if not kinds <= {str}:
        values = [None if value is None else texts.dumps(value) for value in values]
    return pa.chunked_array([pa.array(values, pa.string())])


def _cells(book: Any) -> list[pl.Series]:
    """The first sheet's columns as texts. A number's are its double's shortest digits: the library's own end at the ninth."""
    sheet = book.load_sheet(0, header_row=None, dtypes="string")
    batch, errors = sheet.to_arrow_with_errors()
    numbers = book.load_sheet(0, header_row=None, dtypes="float").to_polars().get_columns()
    _check_size(batch.num_rows, batch.num_columns)
    wrong: dict[int, dict[int, str]] = {}
    for one in errors.errors if errors else ():
        row, column = one.offset_position
        said = re.search(r"Error\((\w+)\)", one.detail)
        if said:
            wrong.setdefault(column, {})[row] = _ERRORS.get(said[1], f"#{said[1].upper()}!")
    found = []
    for place, column in enumerate(batch.columns):
        cells = _with_digits(pl.Series("", column, dtype=pl.String), numbers[place])
        found.append(cells.scatter(list(wrong[place]), list(wrong[place].values())) if place in wrong else cells)
    return found


def _with_digits(cells: pl.Series, numbers: pl.Series) -> pl.Series:
    """*cells* with all digits where they are a number's, cut after the ninth behind the point."""
    numbers = numbers.cast(pl.Float64)
    shortest = numbers.cast(pl.String).str.replace(r"\.0$", "")
    places = ((cells != shortest) & numbers.is_finite()).fill_null(False).arg_true()
    cut = [(at, shortest[at]) for at in places if cells[at] == f"{numbers[at]:.9f}".rstrip("0").rstrip(".")]
    return cells.scatter([at for at, _ in cut], [text for _, text in cut]) if cut else cells


def _days(cells: pa.Array) -> pa.Array:
    """*cells* as days, where all of them are the midnights as which the library writes the days of a sheet."""
    series = pl.Series("", cells, dtype=pl.String)
    known = series.drop_nulls()
    midnights = not known.is_empty() and known.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} 00:00:00$").all()
    return series.str.slice(0, 10).to_arrow().cast(pa.string()) if midnights else cells
