"""Exports that are odd in any way land beside the others, a snapshot is one table, and tables are made anew from what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from extractors.simulator.assets import exports as simulated
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import XLSX, ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import Simulator, serve
from flows.assets import streams
from flows.runs.destinations import destination_of
from flows.settings.model import Snapshot
from sinks.errors import MemoryExhausted
from tests.flows.assets.test_assets import CSV, FREE, NOW, Place
from tests.workbooks import workbook
from transforms import blocks
from transforms import history as histories

WEEKLY = Snapshot(name="weekly", insight=7)


@pytest.fixture
def store() -> ExportStore:
    return ExportStore()


@pytest.fixture
def judges() -> EvaluationStore:
    made = EvaluationStore()
    for name in ("Cut", "Whole"):
        made.add(name, NOW)
    return made


@pytest.fixture
def simulator(store: ExportStore, judges: EvaluationStore) -> Iterator[Simulator]:
    with serve(Dataset([]), profile=FREE, exports=store, evaluations=judges) as running:
        yield running


@pytest.fixture(params=["duckdb", "file"])
def place(request, simulator, tmp_path) -> Place:
    return Place(f"{request.param}:{tmp_path / 'here'}", tmp_path, simulator)


ODD = {
    "a quote never closed": ("text/csv", b'a,b\n1,"x\n2,y\n', "never closed"),
    "Latin-1": ("text/csv", "a\né\n".encode("latin-1"), "no CSV"),
    "UTF-16": ("text/csv", "a\n1\n".encode("utf-16"), "no CSV"),
    "too wide": ("text/csv", b"," * 100_000, "10,000 columns"),
    "too deep": ("application/json", b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "no JSON"),
    "a broken sheet": (XLSX, workbook([], sheet="<row><c><v>1"), "no workbook"),
    "no workbook": (XLSX, b"PK\x03\x04", "no workbook"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_export_keeps_no_other_from_landing(name, place, store):
    """It is named and its bytes are kept; those before and behind it land, and the next run has nothing to do."""
    kind, content, said = ODD[name]
    store.add("text/csv", NOW, content=Blob.of(CSV))
    store.add(kind, NOW, content=Blob.of(content))
    store.add("text/csv", NOW, content=Blob.of(CSV))
    done, again = place.sync(), place.sync()

    assert [said in problem and "export 2" in problem for problem in done.problems] == [True]
    assert (done.new, done.contents, again.new, again.contents, again.problems) == (3, 3, 0, 0, [])
    assert place.content(place.rows("SELECT content_path FROM exports WHERE id = 2")[0][0]) == content
    assert place.rows("SELECT sum(count) FROM export_3") == [(15,)]


@pytest.mark.parametrize("exc", [MemoryError("no room"), RuntimeError("never thought of")])
def test_whatever_fails_in_a_content_is_its_own_fault(exc, place, store, monkeypatch):
    """A reader that fails in a way that nobody has thought of: named, kept, and the run goes on."""

    def failing(*given: Path) -> None:
        raise exc

    monkeypatch.setattr("transforms.exports.READERS", {"text/csv": failing})
    for _ in range(2):
        store.add("text/csv", NOW, content=Blob.of(CSV))
    done = place.sync()

    assert [str(exc) in problem for problem in done.problems] == [True, True]
    assert place.rows("SELECT count(content_sha256) FROM exports") == [(2,)]


def test_a_panic_in_a_library_is_a_content_s_fault(tmp_path, monkeypatch):
    """What libraries in Rust raise is no Exception; an interrupted run is no content's fault."""
    from transforms import exports

    class PanicException(BaseException):
        pass

    content = tmp_path / "a.csv"
    content.write_bytes(CSV)
    for raised, expected in ((PanicException, blocks.NotTabular), (KeyboardInterrupt, KeyboardInterrupt)):

        def failing(*given: Path, raised: type[BaseException] = raised) -> None:
            raised_here = raised("index out of bounds")
            raise raised_here

        monkeypatch.setattr(exports, "READERS", {"text/csv": failing})
        with pytest.raises(expected):
            exports.blocks_of("text/csv", content)


@pytest.mark.parametrize("width", [4_000])
def test_a_wide_export_is_a_table(width, place, store):
    """Thousands of columns, whose Parquet footer is longer than what is read at once, and which are much memory to DuckDB."""
    header = ",".join(f"column_{number}" for number in range(width))
    store.add("text/csv", NOW, content=Blob.of(f"{header}\n{','.join('7' * width)}\n".encode()))
    done = place.sync()

    assert done.problems == []
    assert place.rows(f"SELECT column_0 + column_{width - 1} FROM export_1") == [(14,)]


def test_a_table_for_which_there_is_no_memory_is_named(place, store, monkeypatch):
    """The content is kept, the others land; a snapshot that cannot grow is named, too."""
    for _ in range(2):
        store.add("text/csv", NOW, content=Blob.of(CSV))
    store.made["text/csv"] = Blob.of(CSV)
    sink = destination_of(place.settings())
    replace = type(sink).replace

    def failing(self, name, rows, **more):
        if name in ("export_1_2", "weekly"):
            raise MemoryExhausted("not enough memory", hint="free memory")
        replace(self, name, rows, **more)

    monkeypatch.setattr(type(sink), "replace", failing)
    done = place.sync("exports", WEEKLY)

    assert [next(word for word in ("export 2", "weekly") if word in said) for said in done.problems] == [
        "export 2",
        "weekly",
    ]
    assert (done.contents, done.snapshots) == (3, 0)
    assert place.rows("SELECT sum(count) FROM export_1") == [(15,)]


def test_half_a_surrogate_pair_in_a_name(place, store):
    """An asset's name that PostHog has cut inside a sign: it stands as the escape, and what lies behind it lands."""
    store.add("text/csv", NOW, content=Blob.of(CSV))
    store.add("text/csv", NOW, content=Blob.of(CSV), filename="weekly \ud83d", export_context={"a": ["\ude00"]})
    done, again = place.sync(), place.sync()

    assert (done.contents, done.problems, again.changed) == (2, [], 0)
    assert place.rows("SELECT filename, export_context->>'$.a[0]' FROM exports WHERE id = 2") == [
        (r"weekly \ud83d", r"\ude00")
    ]


def test_an_asset_that_cannot_be_read_is_named(place, store):
    """One whose id is no number, or of more than 64 bits: the others land."""
    store.add("text/csv", NOW, content=Blob.of(CSV))
    store.add("text/csv", NOW - timedelta(hours=1), content=Blob.of(CSV)).id = "seven"  # type: ignore[assignment]
    store.add("text/csv", NOW - timedelta(hours=2), content=Blob.of(CSV)).id = 2**63
    store.add("text/csv", NOW - timedelta(hours=3), content=Blob.of(CSV), insight=2**63)
    done = place.sync()

    assert sorted(said.split()[1] for said in done.problems) == [str(2**63), "seven"]
    assert place.rows("SELECT id, insight FROM exports ORDER BY id") == [(1, None), (4, None)]


# --- snapshots


def days(place: Place, store: ExportStore, contents: list[bytes], *, kind: str = "csv") -> list[str]:
    """A sync for each of *contents*, which the snapshot's export has that day; what was wrong."""
    problems = []
    for content in contents:
        store.made[simulated.XLSX if kind == "xlsx" else f"{'text' if kind == 'csv' else 'application'}/{kind}"] = (
            Blob.of(content)
        )
        problems += place.sync("exports", replace(WEEKLY, kind)).problems
    return problems


def replace(snapshot: Snapshot, kind: str) -> Snapshot:
    return Snapshot(name=snapshot.name, insight=snapshot.insight, format=kind)


def test_a_snapshot_is_one_table_with_one_set_of_columns(place, store):
    """Headers in another case, days without rows, columns that go and come: one column each, and no table of a day's own."""
    found = [b"Event,Total\na,1\n", b"event,total\na,2\n", b"", b"event,total\n", b"event\na\n", b"event,total\na,2\n"]
    problems = days(place, store, [*found, b"event,total\na,2\n"])

    assert problems == []
    assert place.rows("SELECT sum(Total), count(*), count(DISTINCT _export_id) FROM weekly") == [(7, 5, 5)]
    names = [row[0] for row in place.rows("DESCRIBE weekly")]
    assert names == ["_snapshot_at", "_export_id", "_project_id", "Event", "Total"]
    shown = {row[0] for row in place.rows("SELECT table_name FROM information_schema.tables")}
    assert {name for name in shown if name.startswith("export")} == {"exports"}


def test_a_snapshot_in_json_may_be_of_an_empty_day(place, store):
    """An empty array is a day without rows, at first too; numbers stay numbers whatever the day before had."""
    problems = days(place, store, [b"[]", b'[{"n":1}]', b'[{"n":null}]', b'[{"n":2.5}]'], kind="json")

    assert problems == []
    assert place.rows("SELECT sum(n), count(*) FROM weekly") == [(3.5, 3)]


# --- made anew


def damaged(place: Place) -> None:
    """Tables as an earlier version left them: rounded, with columns of two cases, and one of a snapshot's export alone."""
    import pyarrow as pa

    sink = destination_of(place.settings())
    version = sink.table("export_1_1")
    assert version is not None
    sink.replace(
        "export_1_1", pa.table({"v": [1.1, 1.1]}), version=version.version, views={"export_1": "FROM export_1_1"}
    )
    held = sink.table("weekly")
    assert held is not None
    twice = held.rows.append_column("TOTAL_2", pa.nulls(held.rows.num_rows, pa.int64()))
    sink.replace("weekly", twice, version=held.version)
    sink.replace("export_1_2", pa.table({"v": [1]}), version="", views={"export_2": "FROM export_1_2"})


def rebuilt(place: Place, *snapshots: Snapshot) -> Any:
    return streams.sync(place.settings(*snapshots), 1, "exports", named=True, rebuild=True)


@pytest.mark.parametrize("known", [True, False])
def test_tables_are_made_anew_from_what_is_kept(known, place, store):
    """Without asking PostHog, which has let all of it expire; a snapshot too, when it has left the settings."""
    store.add("text/csv", NOW, content=Blob.of(b"v\n1.10\n1.1\n"))
    days(place, store, [b"event,total\na,1\n", b"event,total\nb,2.5\n"])
    damaged(place)
    asked = len(store.storage.requests)
    for number in (1, 2, 3):
        store.remove(number)
    store.fails = "no more of these"
    done = rebuilt(place, *([WEEKLY] if known else []))

    assert (done.rebuilt, len(store.storage.requests)) == (2, asked)
    assert place.rows("SELECT v FROM export_1 ORDER BY v") == [("1.1",), ("1.10",)]
    assert place.rows("SELECT total FROM weekly ORDER BY _export_id") == [(1.0,), (2.5,)]
    assert [row[0] for row in place.rows("DESCRIBE weekly")][3:] == ["event", "total"]
    shown = {row[0] for row in place.rows("SELECT table_name FROM information_schema.tables")}
    assert not shown & {"export_2", "export_1_2"}


def test_a_content_that_is_damaged_makes_no_table(place, store):
    """It is named, and what was made of it before stays; so do a snapshot's rows whose content is gone."""
    store.add("text/csv", NOW, content=Blob.of(CSV))
    days(place, store, [b"event,total\na,1\n", b"event,total\nb,2\n"])
    home = Path(place.address.partition(":")[2])
    for row in place.rows("SELECT id, content_path FROM exports ORDER BY id")[:2]:
        path = (home.parent if place.address.startswith("duckdb:") else home) / row[1]
        path.write_bytes(b"count\n99\n") if row[0] == 1 else path.unlink()
    store.fails = "no more of these"
    done = rebuilt(place, WEEKLY)

    assert [("export 1 " in said, "export 2 " in said) for said in done.problems[:2]] == [(True, False), (False, True)]
    assert place.rows("SELECT sum(count) FROM export_1") == [(15,)]
    assert place.rows("SELECT sum(total), count(*) FROM weekly") == [(3, 2)]


def test_a_mark_names_no_table_of_ours(place, store):
    """Whatever an export's context says: only tables that grow by snapshots are made anew by it."""
    for name in ("exports", "evaluations", "export_1_1"):
        mark = {"hedgerow": f"{name}:{'0' * 32}"}
        store.add("text/csv", NOW, content=Blob.of(CSV), export_context=mark)
    place.sync("evaluations")
    place.sync()
    before = place.rows("SELECT * FROM exports ORDER BY id"), place.rows("SELECT * FROM evaluations ORDER BY id")
    done = rebuilt(place)

    assert (done.problems, done.rebuilt) == ([], 0)
    assert (
        place.rows("SELECT * FROM exports ORDER BY id"),
        place.rows("SELECT * FROM evaluations ORDER BY id"),
    ) == before


# --- lists


def test_numbers_of_a_context_keep_their_digits(place, store, monkeypatch):
    """As events' do: a zero at the end, thirty digits, what no double holds; and both values of a name that stands twice."""
    text = (
        '{"a":1.10,"b":123456789012345678901234567890,"c":1e400,"d":0.1234567890123456789,"e":1E5,"f":{"f":2.5,"f":7}}'
    )
    store.add("text/csv", NOW, content=Blob.of(CSV), export_context="CONTEXT")
    answer = json.dumps
    monkeypatch.setattr(
        "extractors.simulator.responses.json.dumps", lambda *of, **how: answer(*of, **how).replace('"CONTEXT"', text)
    )
    done, again = place.sync(), place.sync()
    written = place.rows("SELECT export_context::VARCHAR FROM exports")[0][0]

    assert (done.new, again.changed) == (1, 0)
    assert written.replace(" ", "") == text


def test_an_evaluation_keeps_its_digits_and_halves(place, judges, monkeypatch):
    """A cut prompt and odd numbers are one row, once: a second sync finds nothing new, another spelling is no change."""
    judges.rows[0]["evaluation_config"] = {"prompt": "cut \ud83d", "n": "NUMBER"}
    answer, number = json.dumps, ["1.10"]
    monkeypatch.setattr(
        "extractors.simulator.responses.json.dumps",
        lambda *of, **how: answer(*of, **how).replace('"NUMBER"', number[0]),
    )
    first, second = place.sync("evaluations"), place.sync("evaluations")
    number[0] = "1.1"
    third = place.sync("evaluations")
    number[0] = "1e400"
    fourth = place.sync("evaluations")
    found = place.rows("SELECT evaluation_config::VARCHAR FROM evaluations WHERE name = 'Cut' ORDER BY valid_from")

    assert [(one.new, one.changed, one.problems) for one in (first, second, third, fourth)] == [
        (2, 0, []),
        (0, 0, []),
        (0, 0, []),
        (0, 1, []),
    ]
    assert [row[0] for row in found] == [rf'{{"prompt": "cut \\ud83d", "n": {n}}}' for n in ("1.10", "1e400")]


def test_an_evaluation_that_is_nested_deeply_lands(place, judges, monkeypatch):
    """Deeper than Python reads: its JSON is kept to the letter, the others land, and it is no change the next time."""
    deep = "[" * 100_000 + "]" * 100_000
    judges.rows[0]["conditions"] = "DEEP"
    answer = json.dumps
    monkeypatch.setattr(
        "extractors.simulator.responses.json.dumps", lambda *of, **how: answer(*of, **how).replace('"DEEP"', deep)
    )
    first, second = place.sync("evaluations"), place.sync("evaluations")

    assert [(one.new, one.changed, one.problems) for one in (first, second)] == [(2, 0, []), (0, 0, [])]
    assert place.rows("SELECT length(conditions::VARCHAR) FROM evaluations WHERE name = 'Cut'") == [(200_000,)]


def test_a_row_that_cannot_be_written_is_named(place, judges, monkeypatch):
    """The others land; its history stays as it is, and it is not taken for deleted."""
    place.sync("evaluations")
    judges.rows[1]["name"] = "Changed"
    made = histories._row

    def failing(row, **more):
        if row["id"] == judges.rows[0]["id"]:
            raise RecursionError
        return made(row, **more)

    monkeypatch.setattr(histories, "_row", failing)
    done = place.sync("evaluations")

    assert [judges.rows[0]["id"] in said for said in done.problems] == [True]
    assert (done.changed, done.deleted) == (1, 0)
    assert place.rows("SELECT name FROM evaluations WHERE valid_to IS NULL ORDER BY name") == [("Changed",), ("Cut",)]


# --- commands


def test_the_command_makes_tables_anew(store, simulator, tmp_path, hedgerow):
    """`sync exports --rebuild` says how many; of a list with history there is nothing to read again."""
    store.add("text/csv", NOW, content=Blob.of(CSV))
    to = {"HEDGEROW_DESTINATION": f"duckdb:{tmp_path / 'here'}"}
    assert hedgerow(simulator, "sync", "exports", **to).returncode == 0
    anew, refused, ranged = (
        hedgerow(simulator, "sync", *more, **to)
        for more in (("exports", "--rebuild"), ("evaluations", "--rebuild"), ("exports", "--rebuild", "--since", "7d"))
    )

    assert (anew.returncode, refused.returncode, ranged.returncode) == (0, 2, 2)
    assert "1 table made anew" in anew.stdout + anew.stderr
    assert "--rebuild says nothing of evaluations" in refused.stderr


def test_look_ups_print_what_no_terminal_can(store, simulator, hedgerow):
    """Half a pair is its escape in every list, as in the tables."""
    store.add("text/csv", NOW, content=Blob.of(CSV), filename="weekly \ud83d")
    shown, told = hedgerow(simulator, "exports", "list"), hedgerow(simulator, "exports", "list", "--json")

    assert (shown.returncode, told.returncode) == (0, 0)
    assert r"weekly \ud83d" in shown.stdout
    assert json.loads(told.stdout)["exports"][0]["filename"] == r"weekly \ud83d"
