"""Contents of exports as typed tables: CSV, the first sheet of a workbook, JSON that is an array of objects.

What a content is made of is read here, as text, in blocks; what type a column of texts has is told by
transforms/columns.py. Whatever goes wrong in a content is NotTabular: it is one content's fault, and no run's.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pyarrow as pa

from transforms import arrays, blocks, columns, sheets, texts
from transforms.blocks import Blocks, Empty, Leave, NotTabular, Writer, all_typed, check_row, check_size
from transforms.columns import Form
from transforms.texts import Written

LARGEST_BYTES = 256 * 2**20
"""Larger contents are kept as files only."""

Content = bytes | Path


def read_csv(content: Content, directory: Path | None = None) -> Blocks:
    """A CSV with a header. Rows may be longer than it: what is beyond becomes further columns. Waits in *directory*.

    Memory: a block of rows. Raises NotTabular, also where a quote is never closed: all that follows it would be one cell.
    """
    csv.field_size_limit(LARGEST_BYTES)
    try:
        with _opened(content) as file:
            rows = _rows(io.TextIOWrapper(file, "utf-8-sig", newline=""))
            header, _ = next(rows, (None, 0))
            if header is None:
                raise Empty("the file is empty")
            made = Writer(directory)
            width = len(header)
            block: list[list[str]] = []
            signs = 0
            for row, length in rows:
                if not row and len(header) > 1:
                    continue  # a line that is empty is no row, but for a single column, where it is an empty value
                block.append(row)
                signs, width = signs + length, max(width, len(row))
                check_size(made.rows + len(block), width)
                if len(block) * width >= blocks.BLOCK_CELLS or signs >= blocks.BLOCK_SIGNS:
                    _add_rows(made, block)
                    block, signs = [], 0
            _add_rows(made, block)
            return made.finish(header)
    except (UnicodeDecodeError, csv.Error) as exc:
        raise NotTabular(f"this is no CSV: {exc}") from exc


def read_xlsx(content: Content, directory: Path | None = None) -> Blocks:
    """The first sheet of a workbook, whose first row is the header. Cells with an error are its text, `#DIV/0!`. Raises
    NotTabular."""
    return sheets.read(content, directory)


def read_json(content: Content, directory: Path | None = None) -> Blocks:
    """An array of objects; columns in order of first appearance. Text stays text, also where it looks like a number.

    Memory: a block of rows. Raises NotTabular.
    """
    try:
        with _opened(content) as file:
            made = _Objects(directory)
            plain, read = True, False
            for row, signs in arrays.elements(file):
                read = True
                plain = plain and isinstance(row, dict)
                if plain and isinstance(row, dict):
                    made.take(row, signs)
    except (ValueError, RecursionError) as exc:
        raise NotTabular(f"this is no JSON: {exc}") from exc
    if not read:
        raise Empty("the array is empty")
    if not plain:
        raise NotTabular("the JSON is no array of objects", broken=False)
    return made.finish()


def from_csv(content: Content, leave: Leave = all_typed) -> pa.Table:
    """As read_csv, in memory. *leave*: which columns stay text."""
    return read_csv(content).table(leave)


def from_xlsx(content: Content, leave: Leave = all_typed) -> pa.Table:
    """As read_xlsx, in memory. *leave*: which columns stay text."""
    return read_xlsx(content).table(leave)


def from_json(content: Content, leave: Leave = all_typed) -> pa.Table:
    """As read_json, in memory. *leave*: which columns stay text."""
    return read_json(content).table(leave)


@contextmanager
def _opened(content: Content) -> Iterator[BinaryIO]:
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        yield file


def _rows(file: TextIO) -> Iterator[tuple[list[str], int]]:
    """The rows of a CSV, each with its length. Raises NotTabular for one that wants more when there is no more."""
    ended, signs, number = False, 0, 1

    def lines() -> Iterator[str]:
        nonlocal ended, signs
        while line := file.readline(blocks.LARGEST_ROW + 1):
            signs += len(line)
            check_row(signs, number)
            yield line
        ended = True

    for row in csv.reader(lines()):
        if ended:
            raise NotTabular(f"this is no whole CSV: a quote of row {number:,} is never closed")
        yield row, signs
        signs, number = 0, number + 1


def _add_rows(made: Writer, block: Sequence[list[str]]) -> None:
    if block:
        made.add([pa.array([cell or None for cell in cells], pa.string()) for cells in zip_longest(*block)], len(block))


_Name = str | tuple[str, int]
"""A name of an object; with a number where it stands again in the same one."""


class _Objects:
    """The objects of an array as a table's rows: each value waits as its JSON, until it is known what its column holds."""

    def __init__(self, directory: Path | None) -> None:
        self._made = Writer(directory, kinds=())
        self._kinds: dict[_Name, set[type]] = {}
        self._typings: dict[_Name, columns.Typing] = {}
        self._block: list[Mapping[Any, Any]] = []  # by _Name
        self._signs = self._names = 0

    def take(self, row: dict[str, Any], signs: int) -> None:
        """One row more, whose text is so long."""
        cells = row if type(row) is dict else dict(_numbered(row))
        for name in cells:
            if name not in self._kinds:
                self._kinds[name] = set()
                self._names += len(_plain(name))
        check_row(self._names, 1)  # names are in memory to the end
        self._block.append(cells)
        self._signs += signs
        check_size(self._made.rows + len(self._block), len(self._kinds))
        if len(self._block) * len(self._kinds) >= blocks.BLOCK_CELLS or self._signs >= blocks.BLOCK_SIGNS:
            self._add()

    def _add(self) -> None:
        made = []
        for name, kinds in self._kinds.items():
            values = [row.get(name) for row in self._block]
            kinds.update({type(value) for value in values if value is not None})
            cells = pa.array([None if value is None else _json(value) for value in values], pa.string())
            if kinds <= {Written}:
                self._typings.setdefault(name, columns.Typing()).look(cells)
            made.append(cells)
        self._made.add(made, len(self._block))
        self._block, self._signs = [], 0

    def finish(self) -> Blocks:
        if self._block:
            self._add()
        forms = {place: self._form(place, name) for place, name in enumerate(self._kinds)}
        return self._made.finish(list(map(_plain, self._kinds)), forms)

    def _form(self, place: int, name: _Name) -> Form:
        """Numbers get types as CSV's do, booleans theirs; objects, arrays and mixtures are their JSON text."""
        kinds = self._kinds[name]
        if kinds == {Written}:
            return self._typings[name].form(lambda: self._made.texts(place), self._made.rows)
        if kinds == {bool}:
            return Form(columns.BOOLEAN.type, columns.BOOLEAN.cells)
        return Form(pa.string(), _unquoted) if kinds == {str} else columns.TEXT


def _numbered(row: Mapping[str, Any]) -> Iterator[tuple[_Name, Any]]:
    """Names and values of an object in which a name stands again: then it is another, as in a CSV's header."""
    seen: dict[str, int] = {}
    for name, value in row.items():
        seen[name] = number = seen.get(name, 0) + 1
        yield name if number == 1 else (name, number), value


def _plain(name: _Name) -> str:
    return name if isinstance(name, str) else name[0]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if type(value) is str else texts.dumps(value)


def _unquoted(cells: pa.Array) -> pa.Array:
    """The texts whose JSON *cells* are."""
    return pa.array(json.loads(f"[{','.join(cell or 'null' for cell in cells.to_pylist())}]"), pa.string())


READERS: dict[str, Callable[[Content, Path | None], Blocks]] = {
    "text/csv": read_csv,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": read_xlsx,
    "application/json": read_json,
}
"""Formats whose contents may be tables."""
