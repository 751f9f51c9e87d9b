"""Exports that are odd in any way land beside the others, a snapshot is one table, and tables are made anew from what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

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
from transforms import tables

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

    def failing(content: Path) -> None:
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
    for raised, expected in ((PanicException, tables.NotTabular), (KeyboardInterrupt, KeyboardInterrupt)):

        def failing(content: Path, raised: type[BaseException] = raised) -> None:
            raised_here = raised("index out of bounds")
            raise raised_here

        monkeypatch.setattr(exports, "READERS", {"text/csv": failing})
        with pytest.raises(expected):
            exports.table_of("text/csv", content)


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
