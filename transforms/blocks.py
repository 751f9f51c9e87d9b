"""Tables larger than memory: their texts wait in a file, block by block, and get their types when they are read.

What a table is read from is told by its reader (csv, sheets, arrays); what type its columns have by columns.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from transforms import columns, texts
from transforms.columns import Form, Typing
from transforms.errors import TransformError

WIDEST = 10_000
"""Columns; DuckDB needs minutes and gigabytes for wider tables."""
LARGEST_CELLS = 50_000_000
LARGEST_ROW = 4 * 2**20
"""Signs of one row. A row is in memory whole, as Python's objects, which may take twenty times of its text."""
BLOCK_CELLS = 2**16  # that are Python's texts at a time: some 10 MB
BLOCK_SIGNS = LARGEST_ROW


class NotTabular(TransformError):
    """The content is no table: no CSV with a header, no sheet, no array of objects. *broken*: it says that it is one."""

    def __init__(self, reason: str, *, broken: bool = True) -> None:
        super().__init__(reason)
        self.broken = broken


class Empty(NotTabular):
    """There is nothing in it, not even a header."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, broken=False)


def check_size(rows: int, width: int) -> None:
    """Raises NotTabular for what is too large to be a table."""
    if width > WIDEST:
        raise NotTabular(f"it has more than {WIDEST:,} columns")
    if rows * width > LARGEST_CELLS:
        raise NotTabular(f"it has more than {LARGEST_CELLS:,} cells")


def check_row(signs: int, number: int) -> None:
    """Raises NotTabular for row *number* of a content where it is too long to be read at once."""
    if signs > LARGEST_ROW:
        raise NotTabular(f"its row {number:,} has more than {LARGEST_ROW:,} signs")


Leave = Callable[[Sequence[str]], Sequence[bool]]
"""The names of a content's columns → which of them stay the texts that are written there."""


def all_typed(names: Sequence[str]) -> Sequence[bool]:
    """No column stays text that may have a type."""
    return [False] * len(names)


@dataclass(frozen=True, slots=True)
class Blocks:
    """A table that is read in blocks, from its start and as often as needed, by one reader at a time. *forms*: of its
    columns, by their names; *texts*: of all of them, as they wait."""

    forms: Mapping[str, Form]
    num_rows: int
    texts: Callable[[], Iterator[Sequence[pa.Array]]]

    def __call__(self, leave: Leave = all_typed) -> pa.RecordBatchReader:
        """Its blocks. *leave*: which columns stay text."""
        left = leave(list(self.forms))
        forms = [form.written() if stays else form for form, stays in zip(self.forms.values(), left, strict=True)]
        schema = pa.schema([(name, form.type) for name, form in zip(self.forms, forms, strict=True)])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, forms))

    def _batches(self, schema: pa.Schema, forms: Sequence[Form]) -> Iterator[pa.RecordBatch]:
        for block in self.texts():
            cells = [form.values(column).cast(form.type) for form, column in zip(forms, block, strict=True)]
            yield pa.RecordBatch.from_arrays(cells, schema=schema)

    def table(self, leave: Leave = all_typed) -> pa.Table:
        """All of it, in memory. *leave*: which columns stay text."""
        return self(leave).read_all()


NONE = Blocks({}, 0, lambda: iter(()))
"""A table without columns."""


class Writer:
    """Takes a table's columns block by block, which may get more, and puts them into a nameless file of *directory*."""

    def __init__(self, directory: Path | None = None, kinds: Sequence[columns.Kind] | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # lives as long as its Blocks
        self._kinds = kinds
        self._starts: list[int] = []
        self._width = 0
        self._out: pa.RecordBatchStreamWriter | None = None
        self.typings: list[Typing] = []
        self.rows = 0

    def add(self, block: Sequence[pa.Array], rows: int) -> None:
        """So many *rows*, which have no value in columns that *block* lacks."""
        check_size(self.rows + rows, max(len(block), len(self.typings)))
        self.typings += [Typing(self._kinds) for _ in range(len(block) - len(self.typings))]
        for typing, texts_of in zip(self.typings, block, strict=False):
            typing.look(texts_of)
        if self._out is None or len(block) > self._width:
            self._begin(min(max(len(block), 2 * self._width), WIDEST))
        assert self._out is not None
        whole = [*block, *(pa.nulls(rows, pa.string()) for _ in range(self._width - len(block)))]
        self._out.write_batch(pa.RecordBatch.from_arrays(whole, schema=_plain(self._width)))
        self.rows += rows

    def _begin(self, width: int) -> None:
        """A stream with more columns behind those that are written."""
        if self._out is not None:
            self._out.close()
        self._starts.append(self._file.tell())
        self._width = width
        self._out = pa.ipc.new_stream(self._file, _plain(width))

    def finish(self, header: Sequence[str], forms: dict[int, Form] | None = None, *, skip: int = 0) -> Blocks:
        """The table, whose columns get their types. *forms*: of columns whose type is known. *skip*: columns without a
        name and a value that stand before the first."""
        width = max(len(header), len(self.typings))
        check_size(self.rows, width)
        if width <= skip:
            raise Empty("there is no column")
        if self._out is None:
            self.add([], 0)
        assert self._out is not None
        self._out.close()
        given = columns.names([texts.writable(name) for name in header[skip:]], width - skip)
        typings = [*self.typings, *(Typing() for _ in range(width - len(self.typings)))]
        found = [
            (forms or {}).get(place) or typings[place].form(lambda place=place: self.texts(place), self.rows)  # type: ignore[misc]
            for place in range(skip, width)
        ]

        def waiting() -> Iterator[Sequence[pa.Array]]:
            for batch in self._batches():
                yield [_column(batch, place) for place in range(skip, width)]

        return Blocks(dict(zip(given, found, strict=True)), self.rows, waiting)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for start in self._starts:
            self._file.seek(start)
            yield from pa.ipc.open_stream(self._file)

    def texts(self, place: int) -> Iterator[pa.Array]:
        """The blocks of a column, once all are in."""
        for batch in self._batches():
            yield _column(batch, place)


def _column(batch: pa.RecordBatch, place: int) -> pa.Array:
    return batch.column(place) if place < batch.num_columns else pa.nulls(batch.num_rows, pa.string())


def _plain(width: int) -> pa.Schema:
    return pa.schema([(str(place), pa.string()) for place in range(width)])
