"""Columns of text: their names, their types, and how those of two tables become one.

One rule for every kind of content: a column is typed only where each of its texts can be written back from its value, and
no two texts become one value. `1.10` stays text, because its double is written 1.1.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_NUMBER = r"^-?((0|[1-9][0-9]*)(\.0|\.[0-9]*[1-9])?|[1-9](\.0|\.[0-9]*[1-9])?[eE][+-]?[0-9]{1,3})$"
_MANTISSA = r"^-?[0-9]+(\.[0-9]*[1-9])?"
_WHOLE = r"^-?[0-9]+$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|\+00:00)$"
_COMPARED = 2**22  # values that are compared with each other at a time
_EXACT = 2**53  # whole numbers up to here are doubles
_WRITTEN_ONE_WAY = (pa.string(), pa.int64(), pa.date32())  # each of their values has one text
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(name: str) -> str:
    """What names have in common that are one to DuckDB: it folds A to Z, and no other letter."""
    return name.translate(_FOLD)


def names(header: Sequence[str], width: int) -> list[str]:
    """Names for so many columns at least: empty ones by their place, repeated ones numbered."""
    taken: set[str] = set()
    found = []
    for place in range(max(len(header), width)):
        name = (header[place] if place < len(header) else "").replace("\0", "").strip() or f"column_{place + 1}"
        number, base = 2, name
        while folded(name) in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(folded(name))
        found.append(name)
    return found


@dataclass(frozen=True, slots=True)
class Form:
    """What a column of texts becomes: its *type*, and its *values* of each block of texts."""

    type: pa.DataType
    values: Callable[[pa.Array], pa.Array]

    def written(self) -> Form:
        """What it becomes where it is to stay text: the texts as they stand in the content."""
        return self if self.type == pa.string() else TEXT


TEXT = Form(pa.string(), lambda texts: texts)
Texts = Callable[[], Iterator[pa.Array]]


class Typing:
    """Finds a column's type, block by block: the narrowest that keeps every value; text where there is none, and where
    there is no value. *kinds*: in the order in which they are tried."""

    def __init__(self, kinds: Sequence[Kind] | None = None) -> None:
        self._kinds = KINDS if kinds is None else kinds
        self._left: Sequence[Kind] | None = None  # None: there was no value yet
        self._manners: dict[Kind, set[str]] = {}

    @property
    def empty(self) -> bool:
        """Whether no block had a value."""
        return self._left is None

    def look(self, texts: pa.Array) -> None:
        """Take a block into account."""
        if self._left is None and texts.null_count < len(texts):
            first = texts.drop_null()[0].as_py()
            self._left = [kind for kind in self._kinds if re.search(kind.shape, first)]
        if self._left:  # most columns, and the largest, are not looked at any further
            part = pl.Series("", texts)
            self._left = [kind for kind in self._left if self._fits(kind, part)]

    def _fits(self, kind: Kind, part: pl.Series) -> bool:
        values = kind.values(part)
        if values is None or values.null_count() > part.null_count():
            return False
        self._manners.setdefault(kind, set()).update(kind.manners(part.drop_nulls()).unique())
        return True

    def form(self, texts: Texts, rows: int) -> Form:
        """What the column becomes; *texts* gives its blocks anew, of so many *rows* in all."""
        for kind in self._left or ():
            if len(self._manners[kind]) < 2 or not _ambiguous(kind, texts, 1 + rows // _COMPARED):
                return Form(kind.type, kind.cells)
        return TEXT


def _ambiguous(kind: Kind, texts: Texts, parts: int) -> bool:
    """Whether two texts become one value; looked at in so many *parts* of the values, which bounds the memory."""
    for part in range(parts):
        of_manner: dict[str, list[pl.Series]] = {}
        for block in texts():
            known = pl.Series("", block).drop_nulls()
            values, manners = kind.values(known), kind.manners(known)
            assert values is not None
            for manner in manners.unique():
                found = values.filter((manners == manner) & (values.hash() % parts == part))
                of_manner.setdefault(manner, []).append(found)
        each = [pl.concat(found) for found in of_manner.values()]
        if each and _distinct(pl.concat(each)) != sum(map(_distinct, each)):
            return True
    return False


def _distinct(values: pl.Series) -> int:
    """How many there are, nulls aside; by sorting, which needs a tenth of the memory of a table of hashes."""
    ordered = values.drop_nulls().sort()
    return len(ordered) and 1 + int((ordered != ordered.shift(1)).sum())


def joined(*tables: pa.Table | None) -> pa.Table:
    """*tables*, one below the other: the columns of all, in a type that holds all. A name is the same in any case.

    A value of another type becomes text as it is shown: what it was written as, only its content tells (texts_of).
    """
    there = [table for table in tables if table is not None]
    if len(there) == 1:
        return there[0]
    columns = {}
    for name, parts in _by_name(there).items():
        kind = _common([part for part in parts if part is not None])
        chunks: list[pa.Array] = []
        for part, table in zip(parts, there, strict=True):
            made = pa.nulls(table.num_rows, kind) if part is None or _untyped(part) else _as(part, kind)
            chunks += made.chunks if isinstance(made, pa.ChunkedArray) else [made]
        columns[name] = pa.chunked_array(chunks, kind)
    return pa.table(columns)


def texts_of(tables: Sequence[pa.Table]) -> frozenset[str]:
    """Folded names of the columns that are text in the table which *tables* make together."""
    found = {
        name: [part for part in parts if part is not None and not _untyped(part)]
        for name, parts in _by_name(tables).items()
    }
    return frozenset(folded(name) for name, parts in found.items() if parts and _common(parts) == pa.string())


def unwritten(table: pa.Table, names: Collection[str]) -> bool:
    """Whether one of the columns *names* (folded) has values of which the type does not tell how they were written."""
    return any(
        folded(name) in names and _kind(column.type) not in _WRITTEN_ONE_WAY and not _untyped(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
    )


def _by_name(tables: Sequence[pa.Table]) -> dict[str, list[pa.ChunkedArray | None]]:
    """The columns of all *tables*, each as it is in the first that has it, and what each of them has of it."""
    known: dict[str, str] = {}
    found: dict[str, list[pa.ChunkedArray | None]] = {}
    for place, table in enumerate(tables):
        for name, column in zip(table.column_names, table.columns, strict=True):
            one = known.setdefault(folded(name), name)
            if one in found and found[one][place] is not None:
                one = name  # a table of an earlier version may have a name in two cases
            found.setdefault(one, [None] * len(tables))[place] = column
    return found


def _untyped(column: pa.ChunkedArray) -> bool:
    """Whether it has no value, and so no type of its own yet: a day without rows decides nothing."""
    return bool(column.null_count == len(column))


def _common(parts: Sequence[pa.ChunkedArray]) -> pa.DataType:
    """A type that keeps the values of all *parts*: whole numbers are doubles beside doubles, else it is text."""
    kinds = {_kind(part.type) for part in parts if not _untyped(part)} or {_kind(parts[0].type)}
    if kinds == {pa.int64(), pa.float64()} and all(map(_exact, parts)):
        return pa.float64()
    return kinds.pop() if len(kinds) == 1 else pa.string()


def _exact(column: pa.ChunkedArray) -> bool:
    if column.type != pa.int64() or _untyped(column):
        return True
    ends = pc.min_max(column)
    return bool(ends["min"].as_py() >= -_EXACT and ends["max"].as_py() <= _EXACT)


def _kind(of: pa.DataType) -> pa.DataType:
    """The one of the types that columns of tables here have."""
    if pa.types.is_timestamp(of):
        return pa.timestamp("us", "UTC")
    return pa.string() if pa.types.is_large_string(of) or pa.types.is_string_view(of) or of == pa.null() else of


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(_kind(column.type))


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    column = _plain(column)
    if column.type == kind or kind != pa.string():
        return column.cast(kind)
    series = pl.Series("", column)
    if series.dtype == pl.Datetime("us", "UTC"):
        series = series.dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
    elif series.dtype == pl.Boolean:
        series = series.replace_strict({True: "true", False: "false"}, return_dtype=pl.String)
    return _plain(pa.chunked_array([series.cast(pl.String).to_arrow()]))


def _booleans(true: str, false: str) -> Callable[[pl.Series], pl.Series | None]:
    def values(texts: pl.Series) -> pl.Series | None:
        return texts == true if texts.drop_nulls().is_in([true, false]).all() else None

    return values


def _integers(texts: pl.Series) -> pl.Series | None:
    return texts.cast(pl.Int64, strict=False) if texts.str.contains(_INTEGER).all() else None


def _doubles(texts: pl.Series) -> pl.Series | None:
    """Texts with no other digits than the shortest that tell their double; whole numbers that are it to the last digit."""
    if not texts.str.contains(_NUMBER).all() or texts.is_in(["-0"]).any():
        return None
    made = texts.cast(pl.Float64, strict=False)
    whole = made.filter(texts.str.contains(_WHOLE))
    shortest = (_digits(texts) == _digits(made.cast(pl.String))).all()
    if shortest and made.is_finite().all() and (whole.abs() <= _EXACT).all():
        return made
    return None


def _digits(numbers: pl.Series) -> pl.Series:
    """What of them tells the number, but for sign and size."""
    return numbers.str.replace(r"[eE].*$", "").str.replace_all(r"[-.]", "").str.strip_chars("0")


def _dates(texts: pl.Series) -> pl.Series | None:
    if not texts.str.contains(_DATE).all():
        return None
    made = texts.str.to_date("%Y-%m-%d", strict=False)
    return made if (made.dt.year() > 0).all() else None


def _instants(texts: pl.Series) -> pl.Series | None:
    if not texts.str.contains(_INSTANT).all():
        return None
    plain = texts.str.replace(r"(Z|\+00:00)$", "").str.replace(" ", "T")
    made = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    # A leap second would be read as the next minute's first.
    same = (made.dt.to_string("%Y-%m-%dT%H:%M:%S") == plain.str.slice(0, 19)).all()
    if same and (made.dt.year() > 0).all():
        return made.dt.replace_time_zone("UTC")
    return None


@dataclass(frozen=True, slots=True)
class Kind:
    """A type that texts may have. *shape*: what each of them looks like; *values*: theirs, None where not all have one.
    *manners*: in how many ways they are written; two texts of one manner are never one value."""

    type: pa.DataType
    shape: str
    values: Callable[[pl.Series], pl.Series | None]
    manners: Callable[[pl.Series], pl.Series] = lambda texts: texts.str.slice(0, 0)

    def cells(self, texts: pa.Array) -> pa.Array:
        """The values of a block of *texts* that are known to have some."""
        values = self.values(pl.Series("", texts))
        assert values is not None
        return values.to_arrow().cast(self.type)


BOOLEAN = Kind(pa.bool_(), "^(true|false)$", _booleans("true", "false"))
KINDS = (
    BOOLEAN,
    Kind(pa.bool_(), "^(True|False)$", _booleans("True", "False")),
    Kind(pa.int64(), _INTEGER, _integers),
    Kind(
        pa.float64(),
        _NUMBER,
        _doubles,
        lambda texts: texts.str.replace(_MANTISSA, "").str.replace("[1-9][0-9]*$", ""),
    ),
    Kind(pa.date32(), _DATE, _dates),
    Kind(pa.timestamp("us", "UTC"), _INSTANT, _instants, lambda texts: texts.str.replace_all("[0-9]", "0")),
)
"""In the order in which they are tried."""
