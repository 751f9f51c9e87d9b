"""Contents of exports become typed tables in which every value is what it was."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from datetime import UTC, date, datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workbooks import cell, error, flag, text, workbook
from transforms import columns, tables

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
    with pytest.raises(tables.NotTabular):
        tables.from_json(content)
    with pytest.raises(tables.NotTabular):
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
    monkeypatch.setattr(tables, "_BLOCK_CELLS", 4)
    rows = [["a"], ["1", "x"], ["2"], ["3", "", "y"], *([str(n)] for n in range(4, 20))]
    made = tables.from_csv(written(rows))

    assert made["a"].to_pylist() == list(range(1, 20))
    assert made["column_2"].to_pylist() == ["x"] + [None] * 18
    assert made["column_3"].to_pylist() == [None, None, "y"] + [None] * 16


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
    with pytest.raises(tables.NotTabular, match=said) as caught:
        reader(content)

    assert caught.value.broken


@pytest.mark.parametrize(
    ("reader", "content"),
    [(tables.from_csv, b""), (tables.from_csv, b"\n"), (tables.from_json, b"[]"), (tables.from_xlsx, workbook([]))],
)
def test_nothing_is_empty(reader, content):
    """No header and no row: nothing is wrong with it."""
    with pytest.raises(tables.Empty):
        reader(content)


def test_too_many_cells_are_said(monkeypatch):
    """A few long rows make every row long."""
    monkeypatch.setattr(tables, "LARGEST_CELLS", 50)
    with pytest.raises(tables.NotTabular, match="more than 50 cells"):
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


PEAK = """
import sys
from pathlib import Path
from transforms import tables
made = tables.from_csv(Path(sys.argv[1]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss would be a parent's, too
print(made.num_rows, peak.split()[1])
"""


@pytest.mark.long
def test_the_memory_of_a_large_csv(tmp_path):
    """45 MB of 300,000 rows are a table within 300 MB of the process, libraries included."""
    with (tmp_path / "large.csv").open("w") as file:
        file.write("uuid,event,at,who,n,ratio,address,plan,label,flag\n")
        for n in range(300_000):
            file.write(
                f"{n:032x},$pageview,2026-01-{n % 28 + 1:02d}T10:{n % 60:02d}:00Z,user-{n:012},{n},{n / 1000},"
                f"https://example.com/{n:020}/a,free,l{n % 7:03d},{'true' if n % 2 else 'false'}\n"
            )
    told = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "large.csv")], capture_output=True, text=True, check=True
    )
    rows, kilobytes = map(int, told.stdout.split())

    assert (tmp_path / "large.csv").stat().st_size > 40_000_000
    assert rows == 300_000
    assert kilobytes < 300 * 1024
