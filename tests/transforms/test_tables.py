"""Contents of exports become typed tables in which every value is what it was."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import sys
import time
import zipfile
from datetime import UTC, date, datetime
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workbooks import cell, error, flag, text, workbook
from transforms import arrays, blocks, columns, sheets, tables, texts

CELLS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["007", "-0", "1.10", "1e5", "1e400", "true", "True", "2026-01-31", "2026-02-30", "", " 1", "+1"]),
    st.sampled_from(
        ["2026-01-31T10:00:00Z", "2026-01-31 10:00:00.123456+00:00", "2026-01-31T25:00:00Z", "NaN", "null"]
    ),
    st.text(max_size=6),
)


def written(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def digits(number: str) -> str:
    """What of a number tells it, but for sign and size; a zero behind the last one only as in 1.0."""
    plain = re.sub(r"\.0$", "", re.sub(r"[eE].*$", "", number).lstrip("-"))
    return plain.replace(".", "").lstrip("0") if "." in plain else plain.strip("0")


def shown(value: object, text: str) -> bool:
    """Whether a typed value says no less than its text did."""
    if value is None:
        return text == ""
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, float):
        return float(text) == value and digits(text) == digits(repr(value))
    if isinstance(value, datetime):
        return datetime.fromisoformat(text) == value
    return str(value) == text


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=8))
def test_nothing_of_a_csv_is_lost_by_its_types(rows):
    """Every cell can be read back from its typed value."""
    # A carriage return alone or a NUL is no text that a CSV reader gives back.
    rows = [[cell.replace("\0", "").replace("\r", "") for cell in row] for row in rows]
    made = tables.from_csv(written([["a", "b"], *rows]))
    read = [[made[name][number].as_py() for name in ("a", "b")] for number in range(made.num_rows)]

    assert len(read) == len(rows)
    assert all(
        shown(value, text) for row, line in zip(read, rows, strict=True) for value, text in zip(row, line, strict=True)
    )
    assert all(
        len(set(values)) == len(set(given))
        for values, given in zip(*(map(tuple, zip(*of, strict=True)) for of in (read, rows)), strict=True)
    )


TYPED = {
    "integer": (["1", "-20", ""], pa.int64(), [1, -20, None]),
    "leading zero": (["1", "007"], pa.string(), ["1", "007"]),
    "long integer": (["123456789012345678901234567890"], pa.string(), ["123456789012345678901234567890"]),
    "number": (["1.5", "2", "1e3"], pa.float64(), [1.5, 2.0, 1000.0]),
    "all digits of a double": (["0.1234567890123456", "1.5"], pa.float64(), [0.1234567890123456, 1.5]),
    "a zero too many": (["1.9", "1.10", "1.1"], pa.string(), ["1.9", "1.10", "1.1"]),
    "a zero before the exponent": (["1.50e3"], pa.string(), ["1.50e3"]),
    "Python's floats": (["1.0", "2.5", "1e-05", "1e+16"], pa.float64(), [1.0, 2.5, 1e-05, 1e16]),
    "one number written twice": (["1", "1.0"], pa.string(), ["1", "1.0"]),
    "one number with exponents": (["1e5", "100000.0"], pa.string(), ["1e5", "100000.0"]),
    "a sign": (["+1", "2"], pa.string(), ["+1", "2"]),
    "nothing below zero": (["-0", "1.5"], pa.string(), ["-0", "1.5"]),
    "no double": (["9007199254740993", "1.5"], pa.string(), ["9007199254740993", "1.5"]),
    "digits that a double shows and has not": (
        ["12345678901234567000", "1.5"],
        pa.string(),
        ["12345678901234567000", "1.5"],
    ),
    "beyond 64 bits": (["9223372036854775808"], pa.string(), ["9223372036854775808"]),
    "64 bits": (["9223372036854775807", "-9223372036854775808"], pa.int64(), [2**63 - 1, -(2**63)]),
    "too small": (["1e-400"], pa.string(), ["1e-400"]),
    "other digits": (["١٢"], pa.string(), ["١٢"]),
    "no year": (["0000-01-01"], pa.string(), ["0000-01-01"]),
    "a leap second": (["2016-12-31T23:59:60Z"], pa.string(), ["2016-12-31T23:59:60Z"]),
    "one instant written twice": (
        ["2026-01-31T10:00:00Z", "2026-01-31 10:00:00+00:00"],
        pa.string(),
        ["2026-01-31T10:00:00Z", "2026-01-31 10:00:00+00:00"],
    ),
    "too many digits": (["0.1234567890123456789"], pa.string(), ["0.1234567890123456789"]),
    "too large": (["1e99", "1"], pa.float64(), [1e99, 1.0]),
    "one odd value": (["1", "2", "n/a"], pa.string(), ["1", "2", "n/a"]),
    "boolean": (["true", "false"], pa.bool_(), [True, False]),
    "boolean of Python": (["True", "False"], pa.bool_(), [True, False]),
    "boolean in two spellings": (["true", "True", "false"], pa.string(), ["true", "True", "false"]),
    "boolean, half of it Python's": (["True", "false"], pa.string(), ["True", "false"]),
    "boolean in capitals": (["true", "FALSE"], pa.string(), ["true", "FALSE"]),
    "date": (["2026-01-31", ""], pa.date32(), [date(2026, 1, 31), None]),
    "no date": (["2026-02-30"], pa.string(), ["2026-02-30"]),
    "instant": (["2026-01-31T10:00:00Z"], pa.timestamp("us", "UTC"), [datetime(2026, 1, 31, 10, tzinfo=UTC)]),
    "nanoseconds": (["2026-01-31T10:00:00.123456789Z"], pa.string(), ["2026-01-31T10:00:00.123456789Z"]),
    "time without zone": (["2026-01-31T10:00:00"], pa.string(), ["2026-01-31T10:00:00"]),
    "nothing": (["", ""], pa.string(), [None, None]),
}


@pytest.mark.parametrize("name", TYPED)
def test_types_of_columns(name):
    """The narrowest type that keeps all values, over the whole file."""
    cells, kind, values = TYPED[name]
    made = tables.from_csv(written([["a", "other"], *([cell, "x"] for cell in cells)]))

    assert made.schema.field("a").type == kind
    assert made["a"].to_pylist() == values


def test_late_values_decide_too():
    """The type is that of all rows, not of the first thousand."""
    made = tables.from_csv(written([["a"], *([str(n)] for n in range(5_000)), ["x"]]))

    assert made.schema.field("a").type == pa.string()
    assert made.num_rows == 5_001


def test_ragged_and_odd_headers():
    """Names are made distinct and complete; a row longer than the header keeps its cells."""
    made = tables.from_csv(b"a,A,,a\r\n1,2,3,4,5\r\n6\r\n")

    assert made.to_pylist() == [
        {"a": 1, "A_2": 2, "column_3": 3, "a_3": 4, "column_5": 5},
        {"a": 6, "A_2": None, "column_3": None, "a_3": None, "column_5": None},
    ]


def test_quotes_newlines_and_large_cells():
    """As CSV writes them; a cell of a megabyte is a cell."""
    large = "x" * 2**20
    made = tables.from_csv(written([["a", "b"], ['say "hi",\nthere', large]]))

    assert made.to_pylist() == [{"a": 'say "hi",\nthere', "b": large}]


def test_json_keeps_digits_and_text():
    """Numbers are typed as in CSV, text stays text, what is nested or mixed is its JSON."""
    rows = [
        {"n": 1, "big": 123456789012345678901234567890, "s": "12", "d": {"x": 1.10}, "m": 1, "b": True},
        {"n": None, "s": None, "m": "one", "later": [1, "a"]},
    ]
    text = json.dumps(rows).replace("1.1}", "1.10}")
    made = tables.from_json(text.encode())

    assert made.to_pylist() == [
        {
            "n": 1,
            "big": "123456789012345678901234567890",
            "s": "12",
            "d": '{"x": 1.10}',
            "m": "1",
            "b": True,
            "later": None,
        },
        {"n": None, "big": None, "s": None, "d": None, "m": '"one"', "b": None, "later": '[1, "a"]'},
    ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"[]", b"[1]", b"[" * 2000, b"PK\x03\x04"])
def test_what_is_no_table_is_said(content):
    """Each kind refuses what it is not; a picture is no table."""
    with pytest.raises(blocks.NotTabular):
        tables.from_json(content)
    with pytest.raises(blocks.NotTabular):
        tables.from_xlsx(content)


def test_a_column_is_the_same_in_any_case():
    """DuckDB ignores case: a header that changes it adds no column, however often it does."""
    tables_of = [tables.from_csv(f"{name},b\n{n},x\n".encode()) for n, name in enumerate(("Count", "count", "COUNT"))]
    both = columns.joined(columns.joined(*tables_of[:2]), tables_of[2])

    assert both.to_pydict() == {"Count": [0, 1, 2], "b": ["x"] * 3}


def test_names_fold_as_in_duckdb():
    """A to Z alone: `É` and `é` are two columns there, and the sign of Kelvin is no k."""
    made = tables.from_csv("É,é,\u212a,k,K\n1,2,3,4,5\n".encode())

    assert made.column_names == ["É", "é", "\u212a", "k", "K_2"]
    with duckdb.connect() as db:
        assert db.register("made", made).execute("CREATE TABLE t AS FROM made").table("t").columns == made.column_names


def test_tables_of_different_days_join():
    """New columns come in, missing ones are null, and where types differ both are text."""
    old = tables.from_csv(b"a,b,t\n1,x,2026-01-01T00:00:00Z\n")
    new = tables.from_csv(b"a,c,t\n2,true,later\n")
    both = columns.joined(columns.joined(None, old), new)

    assert both.to_pylist() == [
        {"a": 1, "b": "x", "t": "2026-01-01T00:00:00.000000Z", "c": None},
        {"a": 2, "b": None, "t": "later", "c": True},
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Half,at,day,flag,whole\n0.5,2026-01-01T00:00:00Z,2026-01-01,True,7\n", {"half", "at", "flag"}),
        (b"half,at,day,flag,whole\n,,,,\n", set()),
        (b"half,at,day,flag,whole\nx,x,x,x,x\n", set()),
    ],
)
def test_types_that_do_not_tell_how_their_values_were_written(content, expected):
    """Doubles, instants and booleans; a whole number and a day have one text, and what has no value has nothing to tell."""
    table = tables.from_csv(content)

    assert {name for name in ("half", "at", "day", "flag", "whole") if columns.unwritten(table, [name])} == expected


TOGETHER = {
    "a word": (["1.5", "x"], {"a"}),
    "an instant beside a day": (["2026-01-01T00:00:00Z", "2026-01-01"], {"a"}),
    "an instant of another zone": (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00+01:00"], {"a"}),
    "a double beside whole numbers": (["1.5", "7"], set()),
    "a whole number that is no double": (["1.5", "7", "9007199254740993"], {"a"}),
    "a zero in front": (["7", "007"], {"a"}),
    "a day without a value": (["1.5", ""], set()),
    "never a value": (["", ""], set()),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_columns_that_are_text_together(name):
    """As joined makes them, whichever table comes first; a name is one in any case."""
    days, expected = TOGETHER[name]
    made = [tables.from_csv(f"{'aA'[place % 2]},b\n{text},1\n".encode()) for place, text in enumerate(days)]

    for order in (made, made[::-1]):
        assert columns.texts_of(order) == expected
        joined = columns.joined(*order)
        assert (joined.num_columns, joined.num_rows) == (2, len(days))
        assert expected <= {columns.folded(field.name) for field in joined.schema if field.type == pa.string()}


def test_a_table_with_a_name_in_two_cases_loses_neither():
    """An earlier version made such tables of a lake."""
    old = pa.table({"a": [1], "A": ["x"]})

    assert columns.joined(old, pa.table({"A": [2]})).to_pydict() == {"a": [1, 2], "A": ["x", None]}


def test_columns_that_are_left_as_text():
    """Those asked for, in every kind of content: the others have their types."""

    def leave(names: list[str]) -> list[bool]:
        return [name == "half" for name in names]

    for made in (
        tables.from_csv(b"half,flag\n0.5,true\n2.5,false\n", leave),
        tables.from_json(b'[{"half":0.5,"flag":true},{"half":2.5,"flag":false}]', leave),
        tables.from_xlsx(
            workbook([[text("half"), text("flag")], [cell("0.5"), text("true")], [cell("2.5"), text("false")]]), leave
        ),
    ):
        assert made.to_pydict() == {"half": ["0.5", "2.5"], "flag": [True, False]}
    made = tables.from_json(b'[{"flag":true,"half":0.50,"t":"x"}]', lambda names: [True] * len(names))
    assert made.to_pydict() == {"flag": ["true"], "half": ["0.50"], "t": ["x"]}


def test_a_name_that_an_object_has_twice():
    """Nothing is lost without a word: a row's is another column, as in a header; inside a value the object is as it was."""
    made = tables.from_json(b'[{"n":1,"n":2,"n_2":3},{"n":4,"v":{"k":1.10,"k":2}}]')

    assert made.to_pydict() == {"n": [1, 4], "n_2": [2, None], "n_2_2": [3, None], "v": [None, '{"k": 1.10, "k": 2}']}


def test_an_object_with_a_name_twice_is_compared_whole():
    """A change of either value is one, and so is a value that becomes a list of both; another spelling is none."""
    one = texts.exactly('{"a": 1, "a": 2}')

    assert one == texts.exactly('{"a":1,"a":2.0}')
    assert [one == texts.exactly(other) for other in ('{"a":3,"a":2}', '{"a":2}', '{"a":[1,2]}')] == [False] * 3


DAYS = {
    "an empty day": (["1", None, "2"], pa.int64(), [1, 2]),
    "empty at first": ([None, "", "2"], pa.int64(), [None, 2]),
    "without a value": (["2026-01-01", "", "2026-01-02"], pa.date32(), [date(2026, 1, 1), None, date(2026, 1, 2)]),
    "halves at last": (["1", "2", "2.5"], pa.float64(), [1.0, 2.0, 2.5]),
    "halves at first": (["1.5", "2"], pa.float64(), [1.5, 2.0]),
    "no double beside halves": (["9007199254740993", "2.5"], pa.string(), ["9007199254740993", "2.5"]),
    "a word": (["1", "many", "2"], pa.string(), ["1", "many", "2"]),
    "a flag": (["true", "1"], pa.string(), ["true", "1"]),
    "never a value": ([None, "", None], pa.string(), [None]),
}


@pytest.mark.parametrize("name", DAYS)
def test_a_day_without_values_decides_no_type(name):
    """A column has the type of its values, whichever days have none. None: a day without rows."""
    days, kind, values = DAYS[name]
    table = None
    for day in days:
        table = columns.joined(table, tables.from_csv(written([["a", "b"], *([] if day is None else [[day, "x"]])])))

    assert table is not None
    assert table.schema.field("a").type == kind
    assert table["a"].to_pylist() == values


def test_a_growing_table_of_the_destination_has_the_types_of_its_values():
    """As DuckDB gives them back: an instant stays one, a column of texts without a value has no type yet."""
    taken = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("made", pa.table({"t": taken, "n": pa.array([None], pa.string())}))
        old = db.execute("CREATE TABLE t AS FROM made").table("t").to_arrow_table()
    both = columns.joined(old, pa.table({"t": taken, "n": [7]}))

    assert [field.type for field in both.schema] == [pa.timestamp("us", "UTC"), pa.int64()]


def test_blocks_are_one_table(monkeypatch):
    """Rows that get longer and shorter, over many blocks: every cell is in its place."""
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 4)
    rows = [["a"], ["1", "x"], ["2"], ["3", "", "y"], *([str(n)] for n in range(4, 20))]
    made = tables.from_csv(written(rows))

    assert made["a"].to_pylist() == list(range(1, 20))
    assert made["column_2"].to_pylist() == ["x"] + [None] * 18
    assert made["column_3"].to_pylist() == [None, None, "y"] + [None] * 16


def test_blocks_of_json_are_one_table(monkeypatch):
    """Names that come later, texts that become mixtures, whole numbers that become halves: over many blocks."""
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 4)
    rows = [{"a": 1, "t": "x"}, {"a": 2, "t": "y"}, {"a": 2.5, "t": "z", "m": "x"}, {"t": None, "m": 7}, {"b": True}]
    made = tables.read_json(json.dumps(rows).encode())

    assert sum(1 for _ in made()) > 2
    assert (
        made.table().to_pydict()
        == made.table().to_pydict()
        == {
            "a": [1.0, 2.0, 2.5, None, None],
            "t": ["x", "y", "z", None, None],
            "m": [None, None, '"x"', "7", None],
            "b": [None] * 4 + [True],
        }
    )


APART = {
    "words of two cases": ["true", "True"],
    "one number written twice": ["1", "1.0"],
    "a word": ["1", "x"],
    "a year that is none": ["2026-01-01", "0000-01-01"],
}


@pytest.mark.parametrize("name", APART)
def test_values_that_lie_far_apart_decide_together(name, monkeypatch):
    """What stands in the first block and what stands in the last are text, if they are no one type."""
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 4)
    monkeypatch.setattr(columns, "_COMPARED", 3)
    first, last = APART[name]
    made = tables.from_csv(written([["a", "b"], *[[first, str(n)] for n in range(9)], [last, "9.5"]]))

    assert made["a"].to_pylist() == [first] * 9 + [last]
    assert made["b"].to_pylist() == [*map(float, range(9)), 9.5]


LONG = {
    "a line": (tables.read_csv, b"a,b\n1,2\n" + b"x" * 101),
    "a cell of many lines": (tables.read_csv, b'a,b\n1,2\n"' + b"x\n" * 60),
    "an object": (tables.read_json, b'[{"a":1},{"a":[' + b"1," * 60 + b"1]}]"),
    "an object without an end": (tables.read_json, b'[{"a":1},{"a":[' + b"1," * 9999),
}


@pytest.mark.parametrize("name", LONG)
def test_a_row_has_its_bound(name, monkeypatch):
    """A row is in memory whole: one that is too long is said with its number, and not read."""
    monkeypatch.setattr(blocks, "LARGEST_ROW", 100)
    reader, content = LONG[name]
    with pytest.raises(blocks.NotTabular, match=r"row [23] has more than 100 signs") as caught:
        reader(content)

    assert caught.value.broken


def test_names_of_objects_have_their_bound(monkeypatch):
    """They are in memory to the end, however many rows they come with."""
    monkeypatch.setattr(blocks, "LARGEST_ROW", 100)
    with pytest.raises(blocks.NotTabular, match="more than 100 signs"):
        tables.read_json(json.dumps([{f"{n:060}": 1} for n in range(3)]).encode())


@pytest.mark.parametrize("size", [1, 2, 7])
def test_json_is_read_in_pieces(size, monkeypatch):
    """Wherever a piece ends: inside a number, a name, an escape, between two elements."""
    monkeypatch.setattr(arrays, "PIECE_SIGNS", size)
    text = rb' [ {"a": 12.50, "b\u00e9": "\ud83d\ude00"} ,{"a":-7} , {"a":1e3}] '

    assert [row for row, _ in arrays.elements(io.BytesIO(text))] == [
        {"a": "12.50", "b\u00e9": "\U0001f600"},
        {"a": "-7"},
        {"a": "1e3"},
    ]
    assert [row for row, _ in arrays.elements(io.BytesIO(b"[123, 4567]"))] == ["123", "4567"]


def test_a_long_element_takes_no_square_of_its_time(monkeypatch):
    """It is tried each time that twice as much of it is there, not with every piece."""

    class Counted(json.JSONDecoder):
        tried = 0

        def raw_decode(self, s: str, idx: int = 0) -> tuple[object, int]:
            Counted.tried += 1
            return super().raw_decode(s, idx)

    monkeypatch.setattr(arrays, "PIECE_SIGNS", 16)
    monkeypatch.setattr(arrays, "_DECODER", Counted())
    list(arrays.elements(io.BytesIO(json.dumps(["x" * 100_000]).encode())))

    assert Counted.tried < 20


def test_an_object_that_is_no_array_is_no_fault(monkeypatch):
    """However long it is; one that is no JSON is one, where it is short enough to be read."""
    monkeypatch.setattr(blocks, "LARGEST_ROW", 100)
    for content, broken in ((b'{"a":1}', False), (b'{"a":' + b"1" * 200 + b"}", False), (b'{"a":1', True)):
        with pytest.raises(blocks.NotTabular) as caught:
            tables.read_json(content)

        assert caught.value.broken == broken


def lying(packed: bytes, name: str) -> bytes:
    """The workbook, whose member says that it unpacks to ten bytes."""
    size = zipfile.ZipFile(io.BytesIO(packed)).getinfo(name).file_size
    assert packed.count(struct.pack("<I", size)) == 2
    return packed.replace(struct.pack("<I", size), struct.pack("<I", 10))


SHEET = "xl/worksheets/sheet1.xml"
HEAVY = {
    "many cells": workbook([[cell("1")] * 40] * 40),
    "many cells that are said to be few": lying(workbook([[cell("1")] * 40] * 40), SHEET),
    "two cells far apart": workbook([], sheet='<row r="1"><c r="A1"/></row><row r="40"><c t="n" r="AN40"/></row>'),
    "a far cell behind a sign": workbook([], sheet='<row><c r="A1"/></row><row><c x=">" r=\'AN40\'><v>1</v></c></row>'),
    "long texts": workbook([[text("x" * 99_000)]]),
    "texts that are shared": workbook([], sheet="<si><t/></si>" * 1600),
    "a text without an end": workbook([], sheet="<row><c><v>" + "1" * 9_000),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_workbook_has_its_bound(name, monkeypatch):
    """What it would take is reckoned from what it really unpacks to, before the library reads it."""
    monkeypatch.setattr(sheets, "LARGEST_BYTES", 190_000)
    monkeypatch.setattr(sheets, "_PIECE_BYTES", 1_000)
    monkeypatch.setattr(blocks, "LARGEST_ROW", 5_000 if "end" in name else 10**6)
    monkeypatch.setitem(sys.modules, "fastexcel", SimpleNamespace(FastExcelError=ZeroDivisionError))
    with pytest.raises(blocks.NotTabular, match=r"too large, unpacked|more than 5,000 signs"):
        tables.read_xlsx(HEAVY[name])


@pytest.mark.parametrize("piece", [b"<row><c/></row>", b"<x/>"])
def test_a_bomb_is_given_up(piece, monkeypatch):
    """A member that unpacks to ever more is not unpacked to its end, whatever it unpacks to."""
    unpacked = iter([piece * 1_000] * 100)
    monkeypatch.setattr(sheets, "LARGEST_BYTES", 10 * 2**20)
    monkeypatch.setattr(sheets, "_UNPACKED_BYTES", 100_000)
    monkeypatch.setattr(sheets, "_pieces", lambda *of: unpacked)
    with pytest.raises(blocks.NotTabular, match="too large, unpacked"):
        tables.read_xlsx(workbook([[cell("1")]]))

    assert len(list(unpacked)) > 70


def test_a_workbook_within_its_bound_is_read(monkeypatch):
    """One that takes nearly as much as it may is a table."""
    monkeypatch.setattr(sheets, "LARGEST_BYTES", 190_000)

    assert tables.from_xlsx(workbook([[cell("1")] * 36] * 40)).num_rows == 39


BROKEN = {
    "a quote never closed": (tables.from_csv, b'a,b\n1,x\n2,"y\n3,z\n', "quote of row 3"),
    "a quote at the very end": (tables.from_csv, b'a,b\n1,"', "quote of row 2"),
    "Latin-1": (tables.from_csv, "a\né\n".encode("latin-1"), "no CSV"),
    "UTF-16": (tables.from_csv, "a\n1\n".encode("utf-16"), "no CSV"),
    "half a pair in UTF-8": (tables.from_csv, b"a\n\xed\xa0\xbd\n", "no CSV"),
    "deep JSON": (tables.from_json, b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "no JSON"),
    "cut JSON": (tables.from_json, b'[{"a":1},', "no JSON"),
    "no workbook": (tables.from_xlsx, b"PK\x03\x04", "no workbook"),
    "too wide": (tables.from_csv, b"," * 100_000 + b"\n", "10,000 columns"),
    "JSON too wide": (
        tables.from_json,
        json.dumps([{f"c{number}": 1 for number in range(10_001)}]).encode(),
        "10,000 columns",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(name):
    """A content that says that it is a table and cannot be one: why, in words, whatever is wrong with it."""
    reader, content, said = BROKEN[name]
    with pytest.raises(blocks.NotTabular, match=said) as caught:
        reader(content)

    assert caught.value.broken


@pytest.mark.parametrize(
    ("reader", "content"),
    [(tables.from_csv, b""), (tables.from_csv, b"\n"), (tables.from_json, b"[]"), (tables.from_xlsx, workbook([]))],
)
def test_nothing_is_empty(reader, content):
    """No header and no row: nothing is wrong with it."""
    with pytest.raises(blocks.Empty):
        reader(content)


def test_too_many_cells_are_said(monkeypatch):
    """A few long rows make every row long."""
    monkeypatch.setattr(blocks, "LARGEST_CELLS", 50)
    with pytest.raises(blocks.NotTabular, match="more than 50 cells"):
        tables.from_csv(b"a\n" + b"1\n" * 9 + b",,,,,\n")


def test_nul_is_a_sign_like_others():
    """A destination holds it."""
    assert tables.from_csv(b"a,b\nx\0y,1\n").to_pylist() == [{"a": "x\0y", "b": 1}]


def test_half_a_surrogate_pair_stays_as_its_escape():
    """In a text, a name, and inside JSON: what no file can hold is its six characters; whole pairs are what they are."""
    made = tables.from_json(rb'[{"t":"cut \ud83d","\ude00":{"d":"\ud83d"},"w":"\ud83d\ude00","s":"\\ud83d"}]')

    assert made.to_pylist() == [{"t": r"cut \ud83d", r"\ude00": r'{"d": "\\ud83d"}', "w": "\U0001f600", "s": r"\ud83d"}]


def test_a_sheet_is_what_its_cells_are():
    """Days are days, numbers have all their digits, texts stay as they are, errors are said in their cell."""
    day, instant = cell("46053", style=1), cell("46053.5", style=2)
    made = tables.from_xlsx(
        workbook(
            [
                [text(name) for name in ("day", "time", "n", "version", "ratio", "mixed", "flag", "whole")],
                [
                    day,
                    instant,
                    cell("0.1234567890123456"),
                    text("1.10"),
                    error("#DIV/0!"),
                    text("x"),
                    flag(1),
                    cell("5"),
                ],
                [day, instant, cell("1e-12"), text("1.9"), cell("3"), cell("0.1234567890123456"), flag(0), cell("7")],
            ]
        )
    )

    assert made.to_pydict() == {
        "day": [date(2026, 1, 31)] * 2,
        "time": ["2026-01-31 12:00:00"] * 2,
        "n": [0.1234567890123456, 1e-12],
        "version": ["1.10", "1.9"],
        "ratio": ["#DIV/0!", "3"],
        "mixed": ["x", "0.1234567890123456"],
        "flag": [True, False],
        "whole": [5, 7],
    }


def test_many_rows_of_json_take_no_square_of_their_time():
    """200,000 rows are read in a second or two; with a list made anew for each value it would be half a minute."""
    rows = [{"a": n, "b": "x"} for n in range(200_000)]
    begun = time.process_time()
    made = tables.from_json(json.dumps(rows).encode())

    assert made.num_rows == 200_000
    assert time.process_time() - begun < 6
