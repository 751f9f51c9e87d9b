"""Exports and evaluations landed as tables, in every kind of destination, over real HTTP."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from extractors.errors import AccessDenied
from extractors.http.client import Client
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import XLSX, ExportStore, workbook
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import Simulator, serve
from flows.assets import contents, streams
from flows.assets.synced import Synced
from flows.runs import loads
from flows.runs.destinations import destination_of
from flows.settings.load import load
from flows.settings.model import Settings, Snapshot
from flows.settings.parse import SettingsError
from tests import stores
from tests.flows.harness import IMPATIENT, UNLIMITED

NOW = datetime.now(UTC).replace(microsecond=0)
STREAMS = ("exports", "evaluations")
FREE = replace(UNLIMITED, rest_per_minute=None, rest_per_hour=None)
SHEET = workbook(4)
CSV = b"day,count,label\r\n2026-01-01,7,007\r\n2026-01-02,8,x\r\n"


@dataclass(slots=True)
class Place:
    """A destination under test, and what it holds."""

    address: str
    directory: Path
    simulator: Simulator
    project_id: int = 1

    def settings(self, *snapshots: Snapshot) -> Settings:
        flags: dict[str, object] = {
            "source.host": self.simulator.url,
            "source.key": self.simulator.key,
            "source.project_id": self.project_id,
            "source.state_dir": self.directory / "state",
            "destination.address": self.address,
        }
        made = load(flags, directory=self.directory).settings
        return made.model_copy(update={"exports": made.exports.model_copy(update={"snapshot": snapshots})})

    def sync(self, stream: str = "exports", *snapshots: Snapshot, named: bool = True) -> Synced:
        return streams.sync(self.settings(*snapshots), self.project_id, stream, named=named)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with destination_of(self.settings()).query(sql) as result:
            return result.fetchall()

    def content(self, path: str) -> bytes:
        if self.address.startswith("s3://"):
            return destination_of(self.settings()).objects.get(path)[0]
        home = Path(self.address.partition(":")[2])
        return ((home.parent if self.address.startswith("duckdb:") else home) / path).read_bytes()


@pytest.fixture
def store() -> ExportStore:
    made = ExportStore()
    for number, (kind, content) in enumerate([("text/csv", CSV), (XLSX, SHEET), ("image/png", b"\x89PNG" * 99)]):
        made.add(kind, NOW - timedelta(hours=number + 1), content=Blob.of(content))
    return made


@pytest.fixture
def judges() -> EvaluationStore:
    made = EvaluationStore()
    for name in ("Helpful", "Short", "Kind"):
        made.add(name, NOW - timedelta(days=1))
    return made


@pytest.fixture
def simulator(store: ExportStore, judges: EvaluationStore) -> Iterator[Simulator]:
    with serve(Dataset([]), profile=FREE, exports=store, evaluations=judges) as running:
        yield running


@pytest.fixture(params=["duckdb", "file", pytest.param("moto", marks=pytest.mark.long)])
def place(request, simulator, tmp_path, monkeypatch) -> Place:
    if request.param != "moto":
        return Place(f"{request.param}:{tmp_path / 'here'}", tmp_path, simulator)
    address = request.getfixturevalue("moto")
    for name, value in stores.environment(address).items():
        monkeypatch.setenv(name, value)
    return Place(f"s3://{stores.new_bucket(address)}/p", tmp_path, simulator)


def test_contents_are_kept_byte_for_byte_and_as_tables(place, store):
    """Metadata, sha256, sizes and rows; CSV and XLSX as typed tables with a view; a picture as its bytes."""
    done = place.sync()
    found = place.rows(
        "SELECT id, content_path, content_sha256, content_bytes, content_rows, possibly_cut FROM exports ORDER BY id"
    )
    wanted = [CSV, SHEET, b"\x89PNG" * 99]

    assert (done.new, done.contents, done.bytes, done.problems) == (3, 3, sum(map(len, wanted)), [])
    assert [place.content(row[1]) for row in found] == wanted
    assert [row[2] for row in found] == [hashlib.sha256(content).hexdigest() for content in wanted]
    assert [row[3:] for row in found] == [
        (len(CSV), 2, False),
        (len(wanted[1]), 4, False),
        (len(wanted[2]), None, False),
    ]
    assert place.rows("SELECT count, label FROM export_1_1 ORDER BY day") == [(7, "007"), (8, "x")]
    assert place.rows("SELECT sum(number) FROM export_2") == [(10,)]


def test_kept_contents_are_read_in_pieces(place, monkeypatch):
    """What was landed of each, by its sha256 and size; nothing where there is none."""
    monkeypatch.setattr(contents, "PIECE_BYTES", 50)
    place.sync()
    sink = destination_of(place.settings())
    rows = sink.table("exports").rows.to_pylist()
    found = [contents.read(sink, row["content_path"]) for row in rows]

    assert found == [contents.landed(row) for row in rows]
    assert [contents.size(sink, row["content_path"]) for row in rows] == [one.bytes for one in found]
    assert (contents.read(sink, "exports/none"), contents.size(sink, "exports/none")) == (None, None)
    assert [contents.below(row["content_path"]).partition("-")[0] for row in rows] == ["1/1", "1/2", "1/3"]


@pytest.mark.parametrize("stream", ["exports", "events"])
def test_files_are_the_owners_alone_whoever_starts_the_run(stream, place):
    """No command line has set the umask, as under Prefect: database, objects, contents and state are 0600 all the same."""
    before = os.umask(0o022)
    try:
        if stream == "events":
            loads.load_events(place.settings(), 1, command="sync")
        else:
            place.sync()
    finally:
        os.umask(before)
    made = [path for path in place.directory.rglob("*") if path.is_file()]

    on_disk = 1 if stream == "events" or not place.address.startswith("s3:") else 0  # contents go into the store
    assert len(made) >= 2 + on_disk
    assert {str(path): stat.S_IMODE(path.stat().st_mode) for path in made} == dict.fromkeys(map(str, made), 0o600)


def test_a_second_sync_fetches_nothing(place, store):
    """One list request; what is new comes, what has changed is changed, and what expired at PostHog stays."""
    place.sync()
    asked = len(store.storage.requests)
    second = place.sync()
    store.remove(1)
    store.add("application/json", NOW, content=Blob.of(b'[{"a":1},{"a":2}]'))
    third = place.sync()

    assert (second.new, second.changed, second.contents, second.requests) == (0, 0, 0, 1)
    assert (third.new, third.contents) == (1, 1)
    assert len(store.storage.requests) == asked + 1
    assert place.rows("SELECT id FROM exports ORDER BY id") == [(1,), (2,), (3,), (4,)]
    assert place.rows("SELECT sum(a) FROM export_4") == [(3,)]


def test_nothing_at_posthog_is_an_empty_table(tmp_path):
    """Queries find the tables, which say that there is nothing."""
    with serve(Dataset([]), profile=FREE, exports=ExportStore(), evaluations=EvaluationStore()) as simulator:
        for kind in ("duckdb", "file"):
            place = Place(f"{kind}:{tmp_path / kind}", tmp_path, simulator)
            for stream in ("exports", "evaluations"):
                place.sync(stream)
                assert place.rows(f"FROM {stream}") == []


def test_the_key_never_reaches_the_store(place, store):
    """The redirect is followed without it."""
    place.sync()

    assert store.storage.requests
    assert {(one.authorization, one.cookie) for one in store.storage.requests} == {("", "")}


def test_an_export_becomes_ready(place, store):
    """Without content at first, it is landed as it is; its content comes with the sync that finds it."""
    late = store.add("text/csv", NOW, content=None)
    first = place.sync()
    late.content = Blob.of(CSV)
    second = place.sync()

    assert (first.new, first.contents) == (4, 3)
    assert (second.new, second.changed, second.contents) == (0, 1, 1)
    assert place.rows("SELECT has_content, content_rows FROM exports WHERE id = 4") == [(True, 2)]


def test_what_cannot_be_fetched_is_named_and_comes_later(place, store, monkeypatch):
    """A store that answers 500 for one content: the others are landed, the run is incomplete, the next one has it."""
    monkeypatch.setattr("flows.runs.wiring.Client", partial(Client, patience=IMPATIENT))
    store.storage.statuses = [500] * 8
    first = place.sync()
    store.storage.statuses = []
    second = place.sync()

    assert first.contents == 2
    assert any("did not come" in problem for problem in first.problems)
    assert (second.contents, second.problems) == (1, [])


def test_a_content_at_a_limit_is_named(place, store):
    """Exactly 10,000 rows, which older servers cut at: it may be incomplete."""
    store.add("text/csv", NOW, content=Blob.of(b"n\r\n" + b"".join(b"%d\r\n" % n for n in range(10_000))))
    done = place.sync()

    assert any("10,000 rows" in problem for problem in done.problems)
    assert place.rows("SELECT possibly_cut, content_rows FROM exports WHERE id = 4") == [(True, 10_000)]
    assert place.rows("SELECT max(n) FROM export_4") == [(9_999,)]


def test_hostile_names_stay_below_the_destination(place, store):
    """File names are PostHog's to choose: none leaves its directory, whatever it says."""
    for name in ("../../evil.csv", "/etc/passwd", "a\x00b\n.csv", "ü" * 1000, "'; DROP TABLE events;--"):
        store.add("text/csv", NOW, content=Blob.of(CSV), filename=name)
    done = place.sync()
    paths = [row[0] for row in place.rows("SELECT content_path FROM exports")]

    assert done.contents == 8
    assert all(place.content(path) for path in paths)
    assert not any(".." in path or "\n" in path or path.startswith("/") for path in paths)
    assert {len(path.split("/")) for path in paths} == {3 if place.address.startswith("duckdb:") else 4}


def test_snapshots_grow(place, store):
    """Each sync makes the export and adds it to the table; a column that changes its type becomes text."""
    wanted = Snapshot(name="weekly", insight=7)
    store.made["text/csv"] = Blob.of(CSV)
    first = place.sync("exports", wanted)
    store.made["text/csv"] = Blob.of(b"day,count,extra\r\n2026-01-03,many,1\r\n")
    second = place.sync("exports", wanted)
    rows = place.rows("SELECT _export_id, day, count, label, extra FROM weekly ORDER BY _snapshot_at, day")

    assert (first.snapshots, second.snapshots) == (1, 1)
    assert [(row[0], str(row[1]), *row[2:]) for row in rows] == [
        (4, "2026-01-01", "7", "007", None),
        (4, "2026-01-02", "8", "x", None),
        (5, "2026-01-03", "many", None, 1),
    ]


def test_a_snapshot_that_fails_is_named(place, store):
    """PostHog's reason, or that what came is no table; everything else is landed."""
    store.fails = "Query has hit the max execution time"
    done = place.sync("exports", Snapshot(name="weekly", insight=7))
    store.fails, store.made = None, {"application/json": Blob.of(b'{"no": "rows"}')}
    other = place.sync("exports", Snapshot(name="weekly", insight=7, format="json"))

    assert any("weekly" in problem and "max execution time" in problem for problem in done.problems)
    assert done.contents == 3
    assert ["weekly" in problem and "holds no table" in problem for problem in other.problems] == [True]


def test_evaluations_keep_their_history(place, judges):
    """A change closes the old row, a deletion is a row, a return another; unknown keys are in raw; nothing new, no row."""
    first = place.sync("evaluations")
    again = place.sync("evaluations")
    judges.rows[0] |= {"name": "More helpful", "brand_new_key": {"a": [1]}}
    judges.rows[1]["deleted"] = True
    changed = place.sync("evaluations")
    judges.rows[1]["deleted"] = False
    back = place.sync("evaluations")
    history = place.rows(
        "SELECT name, deleted, valid_to IS NULL, raw->>'$.brand_new_key.a[0]' FROM evaluations ORDER BY valid_from, name"
    )

    assert [(one.new, one.changed, one.deleted) for one in (first, again, changed, back)] == [
        (3, 0, 0),
        (0, 0, 0),
        (0, 1, 1),
        (0, 1, 0),
    ]
    assert history == [
        ("Helpful", False, False, None),
        ("Kind", False, True, None),
        ("Short", False, False, None),
        ("More helpful", False, True, "1"),
        ("Short", True, False, None),
        ("Short", False, True, None),
    ]


def test_two_projects_of_one_destination_do_not_touch_each_other(place, judges, store):
    """The same ids in both: each keeps its assets, contents and tables, and what one has deleted the other still has."""
    theirs, others = ExportStore(), EvaluationStore()
    for one in store.assets:
        theirs.add("text/csv", NOW, content=Blob.of(b"count\r\n1\r\n2\r\n"), filename=one.filename)
    for row in judges.rows:
        others.add(f"other {row['name']}", NOW)["id"] = row["id"]

    def held(project_id: int) -> list[object]:
        assets_of, judges_of = (
            place.rows(f"SELECT * FROM {name} WHERE project_id = {project_id} ORDER BY ALL") for name in STREAMS
        )
        contents = [place.content(row[11]) for row in assets_of]
        return [assets_of, judges_of, contents, place.rows(f"SELECT * FROM export_{project_id}_1 ORDER BY ALL")]

    def sync(of: Place) -> list[tuple[int, ...]]:
        return [(one.new, one.changed, one.deleted, one.contents) for one in map(of.sync, STREAMS)]

    sync(place)
    before = held(1)
    with serve({2: Dataset([])}, profile=FREE, exports=theirs, evaluations=others) as second:
        other = replace(place, simulator=second, project_id=2)
        assert sync(other) == [(3, 0, 0, 3), (3, 0, 0, 0)]
        assert list(map(len, held(2))) == [3, 3, 3, 2]
        del others.rows[1:]
        theirs.remove(1)
        assert sync(other) == [(0, 0, 0, 0), (0, 0, 2, 0)]

    assert sync(place) == [(0, 0, 0, 0), (0, 0, 0, 0)]
    assert held(1) == before
    assert place.rows("SELECT * FROM export_1 ORDER BY ALL") == before[3]


def test_results_join_to_their_evaluation(judges, tmp_path):
    """The view puts `$ai_evaluation` events beside the current row of their evaluation."""
    name = judges.rows[0]["id"]
    properties = f'{{"$ai_evaluation_id":"{name}","$ai_evaluation_result":true,"$ai_evaluation_reasoning":"because"}}'
    event = Event("00000000-0000-4000-8000-000000000001", "$ai_evaluation", "d", NOW - timedelta(days=1), properties)
    for kind in ("duckdb", "file"):
        with serve(Dataset([event]), profile=UNLIMITED, evaluations=judges) as simulator:
            place = Place(f"{kind}:{tmp_path / kind}", tmp_path, simulator)
            loads.load_events(place.settings(), 1, command="sync")
            place.sync("evaluations")

        assert place.rows("SELECT name, result, reasoning FROM evaluation_results") == [("Helpful", "true", "because")]


def test_a_key_without_the_scope(store, tmp_path):
    """No error where exports were not asked for; exit 10 where they were. Nothing is written."""
    with serve(Dataset([]), profile=FREE, exports=store, scopes=frozenset({"query:read"})) as simulator:
        place = Place(f"file:{tmp_path / 'here'}", tmp_path, simulator)
        skipped = place.sync(named=False)
        with pytest.raises(AccessDenied):
            place.sync()

    assert "export:read" in skipped.skipped
    assert not (tmp_path / "here" / "exports").exists()


def test_a_server_without_exports(tmp_path):
    """PostHog of 2023 has no list of exports and no evaluations: said, and no error unless they were asked for."""
    with serve(Dataset([]), profile=replace(OLD_2023, rest_per_minute=None, rest_per_hour=None)) as simulator:
        place = Place(f"duckdb:{tmp_path / 'here'}", tmp_path, simulator)
        skipped = [place.sync(stream, named=False).skipped for stream in ("exports", "evaluations")]

    assert all("too old" in said for said in skipped)


@pytest.mark.parametrize("name", ["weekly", "Weekly"])
def test_other_tables_are_not_replaced(name, simulator, tmp_path):
    """A table of the user's with the name of a snapshot, in whatever case: refused, and left."""
    import duckdb

    place = Place(f"duckdb:{tmp_path / 'here'}", tmp_path, simulator)
    place.sync()
    with duckdb.connect(str(tmp_path / "here")) as db:
        db.execute(f"CREATE TABLE {name} AS SELECT 1 AS mine")
    with pytest.raises(Exception, match="weekly that is not hedgerow's"):
        place.sync("exports", Snapshot(name="weekly", insight=7))

    assert place.rows("FROM weekly") == [(1,)]


@pytest.mark.parametrize(
    "text",
    [
        'name = "events"\ninsight = 1',
        'name = "export_1"\ninsight = 1',
        'name = "Weekly"\ninsight = 1',
        'name = "weekly"',
        'name = "weekly"\ncontext = "[1]"',
        'name = "weekly"\ninsight = 1\nformat = "png"',
        'name = "weekly"\ninsight = 1\ncolour = 1',
        'name = "weekly"\ninsight = 1\n[[exports.snapshot]]\nname = "weekly"\ninsight = 2',
    ],
)
def test_snapshots_that_cannot_be(text, tmp_path):
    """Named before anything is asked."""
    (tmp_path / "hedgerow.toml").write_text(f"[[exports.snapshot]]\n{text}\n")
    with pytest.raises(SettingsError):
        load(directory=tmp_path)


def test_a_killed_sync_goes_on(place, store):
    """kill -9 while contents come: no broken content under its name, nothing fetched twice that was committed."""
    store.storage.piece_wait_s = 0.3
    for number in range(6):
        store.add("text/csv", NOW - timedelta(minutes=number), content=Blob.of(CSV))
    code = (
        "import sys\nfrom pathlib import Path\nfrom flows.assets import streams\nfrom flows.settings.load import load\n"
        "flags = dict(one.split('=', 1) for one in sys.argv[1:])\n"
        "streams.sync(load(flags, directory=Path('.')).settings, 1, 'exports', named=True)"
    )
    flags = {
        "source.host": place.simulator.url,
        "source.key": place.simulator.key,
        "source.project_id": "1",
        "source.state_dir": str(place.directory / "state"),
        "destination.address": place.address,
    }
    root = Path(__file__).parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *(f"{name}={value}" for name, value in flags.items())],
        cwd=root,
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 60
    while len(store.storage.requests) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    before = len(store.storage.requests)
    assert 4 <= before < 9
    store.storage.piece_wait_s = 0.0
    done = place.sync()
    paths = [row[0] for row in place.rows("SELECT content_path FROM exports WHERE export_format = 'text/csv'")]

    assert 0 < done.contents < 9
    assert len(store.storage.requests) - before == done.contents
    assert [place.content(path) for path in paths] == [CSV] * 7
