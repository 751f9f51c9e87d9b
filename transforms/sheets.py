"""Workbooks: the cells of the first sheet, as texts.

The library reads a sheet whole, and gives room to every cell between its outermost ones. What that takes is reckoned before,
from the bytes as they really unpack: a small file may say anything of them.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa

from transforms.blocks import Blocks, Empty, NotTabular, Writer, check_row, check_size

LARGEST_BYTES = 144 * 2**20
"""What the cells and texts of a workbook may take, as reckoned here: about a million cells."""
_CELL_BYTES = 128  # of a cell, or of a shared text, while the library reads them; its signs are there twice
_UNPACKED_BYTES = 2**30  # what is neither cell nor text takes time only
_PIECE_BYTES = 2**20
_TAG = re.compile(rb"<[^>]*>")
_PLACED = re.compile(rb"<(?:[\w.-]+:)?(row|c|si)((?:\s+[^\s=>/]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*/?>")
_AT = re.compile(rb"\sr\s*=\s*[\"']([A-Za-z]*)([0-9]{1,9})[\"']")
_ERRORS = {"Div0": "#DIV/0!", "NA": "#N/A", "Name": "#NAME?", "Null": "#NULL!", "Num": "#NUM!", "Value": "#VALUE!"}


def read(content: bytes | Path, directory: Path | None) -> Blocks:
    """As tables.read_xlsx. Memory: LARGEST_BYTES and the file."""
    import fastexcel  # late: only contents of this kind need it

    try:
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
            _check_unpacked(file)
        cells = _cells(fastexcel.read_excel(content))
    except (fastexcel.FastExcelError, zipfile.BadZipFile, zlib.error, struct.error, ValueError) as exc:
        raise NotTabular(f"this is no workbook: {str(exc).splitlines()[0]}") from exc
    if not cells or not len(cells[0]):
        raise Empty("the sheet is empty")
    header = [column[0] or "" for column in cells]
    body = [_days(column.slice(1).replace("", None).rechunk().to_arrow().cast(pa.string())) for column in cells]
    made = Writer(directory)
    made.add(body, len(body[0]))
    return made.finish(header)


def _check_unpacked(file: BinaryIO) -> None:
    """Raises NotTabular for a workbook that would take too much memory, or too long."""
    too_large = NotTabular("the workbook is too large, unpacked, to be a table")
    unpacked = taken = 0
    for member in zipfile.ZipFile(file).infolist():
        measure = _Measure()
        for piece in _pieces(file, member):
            unpacked += len(piece)
            measure.take(piece)
            if unpacked > _UNPACKED_BYTES or taken + measure.needed > LARGEST_BYTES:
                raise too_large
        measure.take(b"", last=True)
        taken += measure.needed
        if taken > LARGEST_BYTES:
            raise too_large


def _pieces(file: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """What a member really unpacks to: the length that is written beside it is anybody's word."""
    file.seek(member.header_offset + 26)
    file.seek(sum(struct.unpack("<HH", file.read(4))), io.SEEK_CUR)
    left = member.compress_size
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotTabular("this is no workbook: it is packed in an unknown way")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.compress_type == zipfile.ZIP_DEFLATED else None
    while left and (packed := file.read(min(left, _PIECE_BYTES))):
        left -= len(packed)
        while packed:
            yield inflate.decompress(packed, _PIECE_BYTES) if inflate else packed
            packed = inflate.unconsumed_tail if inflate else b""


class _Measure:
    """What a member takes, as far as it is read: room for its cells, by the outermost ones, and for its texts."""

    def __init__(self) -> None:
        self._waiting = b""
        self._texts = self._shared = self._row = self._column = 0
        self._first, self._last = (10**9, 10**9), (0, 0)

    @property
    def needed(self) -> int:
        """Bytes of memory."""
        rows, columns = (max(0, last + 1 - first) for first, last in zip(self._first, self._last, strict=True))
        return _CELL_BYTES * (rows * columns + self._shared) + 2 * self._texts

    def take(self, piece: bytes, *, last: bool = False) -> None:
        text = self._waiting + piece
        end = len(text) if last else max(0, text.rfind(b"<"))
        self._waiting = text[end:]
        check_row(len(self._waiting), self._row + 1)
        self._texts += len(_TAG.sub(b"", text[:end]))
        for found in _PLACED.finditer(text, 0, end):
            kind, at = found[1], _AT.search(found[2])
            if kind == b"si":
                self._shared += 1
            elif kind == b"row":
                self._row, self._column = int(at[2]) if at else self._row + 1, 0
            else:
                self._row = int(at[2]) if at else self._row
                self._column = _number(at[1]) if at else self._column + 1
                place = self._row, self._column
                self._first = min(self._first[0], place[0]), min(self._first[1], place[1])
                self._last = max(self._last[0], place[0]), max(self._last[1], place[1])


def _number(letters: bytes) -> int:
    """The column that *letters* name: A is 1."""
    number = 0
    for letter in letters.upper()[:7]:
        number = 26 * number + letter - 64
    return number


def _cells(book: Any) -> list[pl.Series]:
    """The first sheet's columns as texts. A number's are its double's shortest digits: the library's own end at the ninth."""
    sheet = book.load_sheet(0, header_row=None, dtypes="string")
    batch, errors = sheet.to_arrow_with_errors()
    del sheet  # which holds all cells, as the next does
    numbers = book.load_sheet(0, header_row=None, dtypes="float").to_polars().get_columns()
    check_size(batch.num_rows, batch.num_columns)
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
