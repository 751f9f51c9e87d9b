"""Contents of exports become typed tables in which every value is what it was."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms import tables

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


def shown(value: object, text: str) -> bool:
    """Whether a typed value says no less than its text did."""
    if value is None:
        return text == ""
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, float):
        return float(text) == value and len(text.split("e")[0].replace(".", "").strip("-0")) <= 15
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


TYPED = {
    "integer": (["1", "-20", ""], pa.int64(), [1, -20, None]),
    "leading zero": (["1", "007"], pa.string(), ["1", "007"]),
    "long integer": (["123456789012345678901234567890"], pa.string(), ["123456789012345678901234567890"]),
    "number": (["1.5", "2", "1e3"], pa.float64(), [1.5, 2.0, 1000.0]),
    "too many digits": (["0.1234567890123456789"], pa.string(), ["0.1234567890123456789"]),
    "too large": (["1e99", "1"], pa.float64(), [1e99, 1.0]),
    "one odd value": (["1", "2", "n/a"], pa.string(), ["1", "2", "n/a"]),
    "boolean": (["true", "false"], pa.bool_(), [True, False]),
    "boolean of Python": (["True", "False"], pa.bool_(), [True, False]),
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
    both = tables.joined(tables.joined(*tables_of[:2]), tables_of[2])

    assert both.to_pydict() == {"Count": [0, 1, 2], "b": ["x"] * 3}


def test_tables_of_different_days_join():
    """New columns come in, missing ones are null, and where types differ both are text."""
    old = tables.from_csv(b"a,b,t\n1,x,2026-01-01T00:00:00Z\n")
    new = tables.from_csv(b"a,c,t\n1.5,true,later\n")
    both = tables.joined(tables.joined(None, old), new)

    assert both.to_pylist() == [
        {"a": "1", "b": "x", "t": "2026-01-01T00:00:00.000000Z", "c": None},
        {"a": "1.5", "b": None, "t": "later", "c": True},
    ]
