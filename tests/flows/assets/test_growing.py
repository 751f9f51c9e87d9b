"""A column of a growing table that becomes text holds what stood in the contents, whichever run brings the text."""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from flows.assets import copying, ordering, verifying
from flows.assets.growing import Written
from flows.runs.catalog import BY_NAME
from flows.runs.destinations import destination_of
from sinks.destination import Table
from tests.flows.assets.test_assets import FREE, NOW, Place
from tests.flows.assets.test_exports_odd import WEEKLY, days, rebuilt
from transforms import columns, exports

COLUMNS = "number, exponent, moment, day, flag, _export_id_2, whole"
HEADER = COLUMNS.replace("_2", "").replace(" ", "")
NUMBERS = f"""{HEADER}
3,1e5,2026-01-01T00:00:00Z,2026-01-01,True,1e2,7
0.5,100000.5,2026-01-02 00:00:00+00:00,2026-01-02,False,2.5,8
""".encode()
WORDS = f"{HEADER}\nmany,much,later,soon,maybe,none,2.5\n".encode()
"""By which each column of NUMBERS becomes text, but for the last, which stays a number."""


@pytest.fixture(scope="module", params=["duckdb", "file"])
def filled(request, tmp_path_factory) -> Iterator[tuple[Place, Table]]:
    """A destination with a day of numbers, of words, and of numbers again; and its growing table after the first."""
    home, store = tmp_path_factory.mktemp(request.param), ExportStore()
    with serve(Dataset([]), profile=FREE, exports=store) as simulator:
        place = Place(f"{request.param}:{home / 'here'}", home, simulator)
        assert days(place, store, [NUMBERS]) == []
        first = destination_of(place.settings()).table("weekly")
        assert days(place, store, [WORDS, NUMBERS]) == []
        assert first is not None
        yield place, first


@pytest.fixture
def place(filled, tmp_path) -> Place:
    shutil.copytree(filled[0].directory, tmp_path, dirs_exist_ok=True)
    return replace(
        filled[0], address=filled[0].address.replace(str(filled[0].directory), str(tmp_path)), directory=tmp_path
    )


def written(*contents: bytes) -> list[tuple[Any, ...]]:
    """What stands in contents."""
    lines = [line.split(",") for content in contents for line in content.decode().splitlines()[1:]]
    return sorted((*line[:-1], float(line[-1])) for line in lines)


ALL = written(NUMBERS, WORDS, NUMBERS)


def held(place: Place) -> list[tuple[Any, ...]]:
    return sorted(place.rows(f"SELECT {COLUMNS} FROM weekly"))


def kept(place: Place, number: int) -> Path:
    """The kept content of the export of a day."""
    home = Path(place.address.partition(":")[2])
    order = f"SELECT content_path FROM exports ORDER BY id LIMIT 1 OFFSET {number - 1}"
    return (home.parent if place.address.startswith("duckdb:") else home) / place.rows(order)[0][0]


def back_to_numbers(place: Place, first: Table) -> None:
    """The growing table is as after the first day again."""
    sink = destination_of(place.settings())
    now = sink.table("weekly")
    assert now is not None
    sink.replace("weekly", first.rows, version=now.version)


def test_a_column_that_becomes_text_holds_what_was_written(filled):
    """Of the runs before, and of those that come after it; the columns beside it keep their types."""
    assert held(filled[0]) == ALL


@pytest.mark.parametrize("filled", ["file"], indirect=True)
def test_what_cannot_be_read_again_is_named_and_stays(filled, place):
    """A content that is gone or damaged costs no row: its values stay as they are shown, until it is back."""
    back_to_numbers(place, filled[1])
    kept(place, 1).unlink()
    kept(place, 3).write_bytes(NUMBERS.replace(b"100000.5", b"99.5"))
    done = rebuilt(place)
    said = [one for one in done.problems if one.startswith("in the snapshot weekly")]
    first = ("3.0", "100000.0", "2026-01-01T00:00:00.000000Z", "2026-01-01", "true", "100.0", 7.0)

    assert ["missing" in one for one in said] == [True]
    assert first in held(place)
    assert set(written(WORDS)) < set(held(place))

    for number in (1, 3):
        kept(place, number).write_bytes(NUMBERS)
    assert rebuilt(place).problems == []
    assert held(place) == ALL


@pytest.mark.parametrize("filled", ["file"], indirect=True)
def test_rows_that_a_repair_makes_anew_are_as_they_were_written(filled, place):
    """Beside others that have their types still."""
    back_to_numbers(place, filled[1])
    done = verifying.verify(place.settings(WEEKLY), 1, BY_NAME["exports"], repair=True)

    assert [one.left for one in done.differences] == ["", ""]
    assert held(place) == ALL


@pytest.mark.parametrize("filled", ["file"], indirect=True)
def test_a_copy_that_gets_text_has_it_as_it_was_written(filled, place):
    """What the target had as numbers, and what it gets as such; and then it is what the source has."""
    other = replace(place, address=f"file:{place.directory / 'there'}")
    source, target = destination_of(place.settings()), destination_of(other.settings())
    text = source.table("weekly")
    assert text is not None
    back_to_numbers(place, filled[1])
    first = copying.copy(1, source, target)
    now = source.table("weekly")
    assert now is not None
    source.replace("weekly", text.rows, version=now.version)
    problems = [*first.problems, *copying.copy(1, source, target).problems, *copying.copy(1, target, source).problems]

    assert problems == []
    assert held(other) == held(place) == ALL


@pytest.mark.parametrize("filled", ["file"], indirect=True)
def test_a_run_that_ends_before_its_content_is_kept_is_gone_on_with(filled, place, monkeypatch):
    """Its rows are in: the next run keeps the content, and has them once, as they were written."""

    def died(*of: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(destination_of(place.settings())), "store_content", died)
        with pytest.raises(KeyboardInterrupt):
            place.sync("exports", WEEKLY)

    assert place.sync("exports").problems == []
    assert held(place) == sorted([*ALL, *written(NUMBERS)])


# --- what is read again, and what is not


class Shelf:
    """Contents by their exports: a destination that nothing is asked of."""

    def __init__(self, directory: Path, **contents: str) -> None:
        self.fresh = {}
        for name, text in contents.items():
            (directory / name).write_text(text)
            self.fresh[1, int(name[1:])] = exports.blocks_of("text/csv", directory / name)

    def made(self, number: int, **columns: pa.Array) -> pa.Table:
        return exports.snapshot(pa.table(columns), at=NOW, project_id=1, asset_id=number)

    def written(self, *tables: pa.Table, foreign: Container[tuple[int, int]] = ()) -> tuple[dict[str, Any], list[str]]:
        written = Written(None, 1, self.fresh, foreign)  # type: ignore[arg-type]
        rows = columns.joined(*written(tables)).drop_columns([*exports.SNAPSHOT]).to_pydict()
        return rows, written.problems("weekly")


def test_a_content_that_makes_other_rows_is_named_and_replaces_none(tmp_path):
    """Nobody knows which of them a value was of; a content that is another's tells nothing either."""
    shelf = Shelf(tmp_path, e7="a\n1.0\n")
    tables = shelf.made(7, a=[1.0, 2.5]), shelf.made(8, a=["x"])
    rows, problems = shelf.written(*tables)
    assert (rows, ["another number of rows" in said for said in problems]) == ({"a": ["1.0", "2.5", "x"]}, [True])

    rows, problems = Shelf(tmp_path).written(*tables, foreign={(1, 7)})
    assert (rows, ["another one" in said for said in problems]) == ({"a": ["1.0", "2.5", "x"]}, [True])


def test_a_run_without_a_value_that_becomes_text_is_not_read_again(tmp_path):
    """Nor where its type has one text for each value; a table of before projects were told apart is the project's."""
    shelf = Shelf(tmp_path, e7="a\n1e5\n")
    old = columns.joined(shelf.made(7, a=[1e5]), shelf.made(6, a=pa.array([None], pa.float64())))
    rows, problems = shelf.written(old.drop_columns(["_project_id"]), shelf.made(8, a=["x"]), shelf.made(9, a=[5]))

    assert (rows, problems) == ({"a": ["1e5", None, "x", "5"]}, [])


def test_what_was_typed_by_other_rules_is_text_in_every_run(tmp_path):
    """A content that is read again may have a column that is text by the rules of today: then it is in the runs beside it."""
    shelf = Shelf(tmp_path, e7="a,b\n1.10,true\n", e8="a,b\n2e5,\n", e9="a,b\n0.5,x\n")
    old = [shelf.made(7, a=[1.1], b=[True]), shelf.made(8, a=[2e5], b=pa.array([None], pa.bool_()))]
    rows, problems = shelf.written(*old, shelf.made(9, a=[0.5], b=["x"]))

    assert (rows, problems) == ({"a": ["1.10", "2e5", "0.5"], "b": ["true", None, "x"]}, [])


ODD = ["1", "1.0", "1e5", "2.5", "007", "-0", "true", "True", "2026-01-01", "2026-01-01T00:00:00Z", "x", ""]
ODD += ["2026-01-01 00:00:00+00:00", "2026-01-01T01:00:00+01:00", "9007199254740993", "1.10", "1e400"]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.lists(st.sampled_from(ODD), min_size=1, max_size=3), min_size=1, max_size=5))
def test_whatever_days_hold_a_column_of_text_is_what_they_hold(days):
    """Day by day, in any order: a column is typed, or each of its texts stands in it as it was written."""
    with TemporaryDirectory() as directory:
        contents = {f"e{n}": "a,b\n" + "".join(f"{one},y\n" for one in day) for n, day in enumerate(days)}
        shelf, table = Shelf(Path(directory), **contents), None
        for n in range(len(days)):
            rows = exports.snapshot(shelf.fresh[1, n].table(), at=NOW, project_id=1, asset_id=n)
            table = exports.grown(table, rows, Written(None, 1, shelf.fresh))  # type: ignore[arg-type]

    assert table.num_rows == sum(map(len, days))
    if table.schema.field("a").type == pa.string():
        assert table["a"].to_pylist() == [one or None for day in days for one in day]


def test_a_snapshot_s_mark_is_found_whatever_stands_beside_it():
    """Numbers of thousands of digits, too: else its contents would become tables of their own."""
    assert ordering.snapshot_in(f'{{"n": {"7" * 5000}, "hedgerow": "weekly:{"0" * 32}"}}') == "weekly"
