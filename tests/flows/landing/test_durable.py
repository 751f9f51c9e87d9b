"""What promises to be durable is: on a disk that forgets what was not synced, in every place that makes such a promise."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from extractors import files
from extractors.errors import AnswerLost
from extractors.http.client import Client
from extractors.http.decode import REJECTS
from extractors.http.pacing import Limit, Pacing
from extractors.lists import contents, exports
from extractors.lists.exports import NewExport
from extractors.request import Bucket
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from flows.assets import ordering
from flows.report.files import write_page, write_parquet
from sinks import durable
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Agreement, Note
from sinks.objects.base import SCRATCH, Changed
from sinks.objects.local import LocalObjects
from sinks.sink import Run
from tests import stores
from tests.disk import Disk, watched
from tests.extractors.lists.test_lookups import UNLIMITED, client_of
from tests.sinks.test_conformance import DAY, landing

NOW = datetime(2026, 3, 20, tzinfo=UTC)


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Disk:
    return watched(tmp_path, monkeypatch)


def arrived(root: Path, content: bytes) -> Path:
    with files.arriving(root / "a.csv") as file:
        file.write(content)
    return root / "a.csv"


def downloaded(root: Path, content: bytes) -> Path:
    store = ExportStore()
    asset = store.add("text/csv", NOW, content=Blob.of(content))
    with serve(Dataset(), now=lambda: NOW, exports=store, profile=UNLIMITED) as simulator:
        client = client_of(simulator, root)
        contents.download(client, 1, exports.asset(client, 1, asset.id), root / "a.csv")
    return root / "a.csv"


def page(root: Path, content: bytes) -> Path:
    write_page(content.decode(), root / "a.html")
    return root / "a.html"


def table(root: Path, content: bytes) -> Path:
    write_parquet(pa.table({"a": [content.decode()]}), root / "a.parquet")
    return root / "a.parquet"


def put(root: Path, content: bytes) -> Path:
    LocalObjects(root / "lake", "file:lake").put("a/b/x.json", content)
    return root / "lake/a/b/x.json"


def put_from_disk(root: Path, content: bytes) -> Path:
    (root / "window").write_bytes(content)
    LocalObjects(root / "lake", "file:lake").put("a/b/x.json", root / "window")
    return root / "lake/a/b/x.json"


def created(root: Path, content: bytes) -> Path:
    LocalObjects(root / "lake", "file:lake").put(f"a/{content.decode()}/x.json", content, create=True)
    return root / f"lake/a/{content.decode()}/x.json"


def replaced(root: Path, content: bytes) -> Path:
    store = LocalObjects(root / "lake", "file:lake")
    found = store.head("x.json")
    store.put("x.json", content, match=found.etag if found else None)
    return root / "lake/x.json"


def kept_beside(root: Path, content: bytes) -> Path:
    (root / f"{len(content)}.csv").write_bytes(content)
    return root / DuckDBSink(root / "a.duckdb").store_content("1/7-a.csv", root / f"{len(content)}.csv")


def kept_in_a_lake(root: Path, content: bytes) -> Path:
    (root / "content").write_bytes(content)
    return root / "lake" / stores.local_lake(root / "lake").store_content("1/7-a.csv", root / "content")


Place = Callable[[Path, bytes], Path]
PLACES: list[Place] = [
    arrived,
    downloaded,
    page,
    table,
    put,
    put_from_disk,
    created,
    replaced,
    kept_beside,
    kept_in_a_lake,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_file_under_its_name_outlasts_a_power_cut(place, disk):
    """Bytes are synced before the name is given, directories after: at every moment the old file is left, or the new."""
    for content in (b"old", b"the new one"):
        before, moments = disk.left(), []
        disk.before = lambda call, path, moments=moments: moments.append(disk.left())
        written = place(disk.root, content)
        name, found = str(written.relative_to(disk.root)), written.read_bytes()

        assert disk.left().get(name) == found
        assert {moment.get(name) for moment in moments} <= {before.get(name), found}
        assert name not in disk.hasty


LOCKS = [
    pytest.param(arrived, "a.csv", ".a.csv.part", id="download"),
    pytest.param(replaced, "lake/x.json", f"lake/{SCRATCH}/lock", id="object"),
    pytest.param(kept_beside, "a.duckdb.exports/1/7-a.csv", "a.duckdb.exports/1/.7-a.csv.new", id="content"),
]


@pytest.mark.parametrize(("place", "name", "lock"), LOCKS)
def test_lock_is_held_while_a_name_is_replaced(place, name, lock, disk):
    """Nobody else is at work on the file meanwhile."""
    place(disk.root, b"1")

    assert lock in disk.held[name]


@pytest.mark.parametrize("place", [arrived, replaced, kept_beside], ids=lambda place: place.__name__)
def test_another_writer_that_had_the_lock_first_is_seen(place, disk):
    """What it left is looked at under the lock: neither its bytes nor its name are mistaken for one's own."""
    place(disk.root, b"1")
    waiting = [True]

    def faster(call: str, path: Path) -> None:
        if call == "flock" and waiting:
            waiting.clear()
            place(disk.root, b"the other's")

    disk.before = faster
    try:
        written = place(disk.root, b"2").read_bytes()
    except Changed:
        written = (disk.root / "lake/x.json").read_bytes()

    assert not waiting
    assert written == (b"the other's" if place is replaced else b"2")


def test_budget_is_read_and_written_under_one_lock(disk):
    """A request that a neighbour noted while the lock was waited for is not forgotten."""
    limits = dict.fromkeys(Bucket, Limit(9, 9))
    here, neighbour = (Pacing(disk.root, host="h", key="k", limits=limits) for _ in range(2))

    def ask_first(call: str, path: Path) -> None:
        if path.suffix == ".lock":
            disk.before = lambda call, path: None
            with neighbour.turn(Bucket.QUERY, 1):
                pass

    disk.before = ask_first
    with here.turn(Bucket.QUERY, 1):
        pass

    assert here.used(Bucket.QUERY) == (2, 2)
    assert [{Path(path).suffix for path in locked} for locked in disk.held.values()] == [{".lock"}]


def test_lake_on_disk_outlasts_a_power_cut(disk):
    """Windows, quarantine, notes, tables, contents and history: all that a reader sees after a call is left, to the byte."""
    lake = stores.local_lake(disk.root / "lake")
    lake.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    reject = pa.table([[DAY], ["no time"], ["{}"]], schema=REJECTS)
    (entry,) = lake.land([replace(landing("a"), rejects=reject)], mark=DAY + timedelta(hours=1))
    lake.note([Note(entry, DAY, Agreement("1:1", DAY))])
    lake.replace("exports", pa.table({"id": [7]}), version="")
    kept_in_a_lake(disk.root, b"1")
    lake.record(Run("r", "sync", 1, "events", DAY, DAY, "done", 1, 1, 1, 0.0, ""))
    seen = {
        str(file.relative_to(disk.root)): file.read_bytes() for file in disk.root.glob("lake/**/*") if file.is_file()
    }
    del seen[f"lake/{SCRATCH}/lock"]

    assert len(seen) >= 8
    assert {name: disk.left().get(name) for name in seen} == seen
    assert disk.hasty == []


def test_name_of_a_new_database_outlasts_a_power_cut(disk):
    """DuckDB syncs what is in its file; that there is one is for us to sync."""
    DuckDBSink(disk.root / "a.duckdb").prepare(1, "events", host="https://a", event_filter="", rebuild=False)

    assert "a.duckdb" in disk.left()


def test_order_is_noted_durably_before_it_is_sent(disk, monkeypatch):
    """A power cut while the order is under way leaves the mark by which it is found again."""
    seen: list[dict[str, bytes | None]] = []
    marks: list[str] = []

    def sent(client: Client, project_id: int, order: NewExport, *, mark: str, answer_s: float) -> None:
        marks.append(mark)
        seen.append(disk.left())
        raise AnswerLost("x")

    monkeypatch.setattr(exports, "create", sent)
    monkeypatch.setattr(exports, "found_again", lambda *asked, **more: None)
    desk = ordering.OrderNotes(disk.root, "https://a", 1, NOW)
    with pytest.raises(AnswerLost):
        ordering.make(None, NewExport("text/csv", insight=7), desk, answer_s=1, pause=print, on_note=print)

    (noted,) = seen[0].values()
    assert marks[0].encode() in (noted or b"")


def test_order_that_goes_out_again_bears_its_first_mark(tmp_path, monkeypatch):
    """The list may show the first one late: it is found by the mark all the same, until the order counts as a new wish."""
    marks: list[str] = []

    def sent(client: Client, project_id: int, order: NewExport, *, mark: str, answer_s: float) -> None:
        marks.append(mark)
        raise AnswerLost("x")

    monkeypatch.setattr(exports, "create", sent)
    for look in ("marked", "found_again"):
        monkeypatch.setattr(exports, look, lambda *asked, **more: None)
    for hours in (0, 23, 40, 88):  # each time it is noted anew
        desk = ordering.OrderNotes(tmp_path, "https://a", 1, NOW + timedelta(hours=hours))
        with pytest.raises(AnswerLost):
            ordering.make(None, NewExport("text/csv", insight=7), desk, answer_s=1, pause=print, on_note=print)

    assert marks[0] == marks[1] == marks[2] != marks[3]


@pytest.mark.parametrize(
    "other", [{"host": "https://b"}, {"project_id": 2}, {"snapshot": "weekly"}], ids=lambda other: f"{other}"
)
def test_order_of_another_place_is_noted_by_itself(other, tmp_path):
    """One state directory serves every host and project: an order of one is not taken up by another."""
    order = NewExport("text/csv", insight=7)
    desk = ordering.OrderNotes(tmp_path, "https://a", 1, NOW)

    assert replace(desk, **other).note_of(order) != desk.note_of(order)


@pytest.mark.parametrize("shown_at", [1, 3, 4, None])
def test_order_whose_answer_was_lost_is_looked_for_before_it_is_called_lost(shown_at, tmp_path, monkeypatch):
    """The list may show it only after a while: then it is the export, and its note is struck out; else the note stays."""
    looks: list[str] = []
    made = SimpleNamespace(id=7)

    def marked(client: Client, project_id: int, mark: str) -> object:
        looks.append(mark)
        return made if len(looks) == shown_at else None

    def sent(*given: object, **more: object) -> None:
        raise AnswerLost("x")

    monkeypatch.setattr(exports, "create", sent)
    monkeypatch.setattr(exports, "marked", marked)
    desk, waits = ordering.OrderNotes(tmp_path, "https://a", 1, NOW), []
    order = NewExport("text/csv", insight=7)
    with nullcontext() if shown_at else pytest.raises(AnswerLost, match="does not show it"):
        assert ordering.make(None, order, desk, answer_s=1, pause=waits.append, on_note=print) is made

    assert (len(looks), len(set(looks))) == (shown_at or len(exports.SEARCH_WAITS_S), 1)
    assert waits == list(exports.SEARCH_WAITS_S[: len(looks)])
    assert desk.note_of(order).exists() == (shown_at is None)


@pytest.mark.parametrize("arriving", [durable.arriving, files.arriving], ids=["of a destination", "of a download"])
@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
def test_file_that_does_not_arrive_leaves_nothing(arriving, error, tmp_path):
    """Whatever ends the writing is raised as it is, once; no name stays, and a file of that name is what it was."""
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with arriving(tmp_path / "a") as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


@pytest.mark.parametrize("arriving", [durable.arriving, files.arriving], ids=["of a destination", "of a download"])
def test_name_aside_that_somebody_removes_is_told(arriving, tmp_path):
    """A cleaner at work in the same directory: an error that names it, and no second try inside the block."""

    def clean_up() -> None:
        with arriving(tmp_path / "a"):
            for path in tmp_path.iterdir():
                path.unlink()

    with pytest.raises(FileNotFoundError):
        clean_up()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)], ids=["unable", "failing"])
@pytest.mark.parametrize("sync", [durable.sync, files.sync_directory], ids=["of a destination", "of a download"])
def test_file_system_that_syncs_no_directories_is_used(sync, number, passes, tmp_path, monkeypatch):
    """Some mounts refuse it: names are left to them. A disk that fails is told."""

    def refused(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    with nullcontext() if passes else pytest.raises(OSError, match="Input/output"):
        sync(tmp_path)
