"""`copy` of every stream: a backup that is equal, goes on where it ended, and never makes the target less."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from flows.assets import copying
from flows.report import beside
from sinks.destination import Destination
from sinks.errors import DestinationBusy
from sinks.lake import sink as lake
from sinks.sink import Run
from tests import stores
from tests.flows.assets import every
from tests.flows.places import meanwhile
from tests.program import surroundings
from transforms import backup, exports, history, shapes

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A directory with a DuckDB file, and its contents, that holds something of every stream."""
    return every.once(tmp_path_factory, "whole", lambda home: every.fill(f"duckdb:{home / 'a.duckdb'}", home))


@dataclass(slots=True)
class Two:
    """A DuckDB file with everything, and a lake without anything."""

    home: Path

    def at(self, address: str) -> Destination:
        scheme, _, name = address.partition(":")
        return every.opened(f"{scheme}:{self.home / name}", self.home)

    @property
    def here(self) -> Destination:
        return self.at("duckdb:a.duckdb")

    @property
    def there(self) -> Destination:
        return self.at("file:lake")

    def contents(self) -> list[Path]:
        return sorted(self.home.glob("a.duckdb.exports/1/*"))


@pytest.fixture(scope="module")
def copied_once(whole, tmp_path_factory) -> Two:
    """The same with its copy in the lake."""

    def make(home: Path) -> None:
        shutil.copytree(whole, home, dirs_exist_ok=True)
        done = Two(home)
        assert [one.problems for one in copied(done.here, done.there)] == [[], []]

    return Two(every.once(tmp_path_factory, "copied", make))


@pytest.fixture
def two(whole, tmp_path) -> Two:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return Two(tmp_path)


@pytest.fixture
def pair(copied_once, tmp_path) -> Two:
    """A file and its copy."""
    shutil.copytree(copied_once.home, tmp_path, dirs_exist_ok=True)
    return Two(tmp_path)


def copied(one: Destination, other: Destination) -> list[copying.Backup]:
    return [copying.copy(project_id, one, other) for project_id in one.projects()]


def test_copy_there_and_back_is_equal_in_everything(pair):
    """File → lake → file: events, quarantine, changes, ledger, origins, runs, exports with contents and tables, snapshots
    and histories of two projects. A second copy has nothing to do and changes nothing."""
    (pair.home / "back").mkdir()
    back = pair.at("duckdb:back/a.duckdb")
    done = copied(pair.there, back)
    wanted = every.told(pair.here)
    again = [*copied(pair.here, pair.there), *copied(pair.there, back)]

    assert [one.problems for one in (*done, *again)] == [[]] * 6
    assert every.told(pair.there) == wanted
    assert every.told(back) == wanted
    assert wanted["changes 1"]
    assert wanted["quarantine 1"]
    assert {"weekly", "export_1_1", "evaluations", "annotations", "content 1 3"} <= set(wanted)
    with back.query("SELECT count(*) FROM annotations_current, export_6, evaluation_results") as result:
        assert result.fetchall() == [(0,)]
    assert [(one.events.windows, one.runs, [(o.rows, o.contents) for o in one.others]) for one in again] == [
        (0, 0, [(0, 0)] * 3)
    ] * 4


@pytest.mark.long
def test_copy_through_a_bucket_is_equal_in_everything(two, moto, monkeypatch):
    """File → S3 → file, in every table and content. A second copy writes nothing into the bucket."""
    for name, value in stores.environment(moto).items():
        monkeypatch.setenv(name, value)
    bucket = stores.new_bucket(moto)
    (two.home / "back").mkdir()
    back, there = two.at("duckdb:back/a.duckdb"), every.opened(f"s3://{bucket}/post hog", two.home)
    done = [*copied(two.here, there), *copied(there, back)]
    written = sorted((one.path, one.etag) for one in there.objects.list())
    again = copied(two.here, every.opened(f"s3://{bucket}/post hog", two.home))

    assert [one.problems for one in (*done, *again)] == [[]] * 6
    assert sorted((one.path, one.etag) for one in there.objects.list()) == written
    assert every.told(there) == every.told(back) == every.told(two.here)


def test_file_without_events_is_copied(whole, tmp_path, main):
    """Exports alone: the command line says what was copied, in words and as JSON, and ends with 0."""
    with every.world(tmp_path) as made:
        made.sync(f"duckdb:{tmp_path / 'b.duckdb'}", only="exports")
    given = ["copy", "--from", "duckdb:b.duckdb", "--to", "file:lake"]
    first = main(given, tmp_path, surroundings(tmp_path))
    second = main([*given, "--json"], tmp_path, surroundings(tmp_path))

    assert (first.returncode, second.returncode) == (0, 0)
    assert "exports: 5 rows copied, 5 contents" in first.stdout
    (found,) = json.loads(second.stdout)["copies"]
    assert (found["windows"], found["problems"], found["streams"][0]["stream"]) == (0, [], "exports")


@pytest.mark.parametrize("damage", ["other bytes", "gone", "longer"])
def test_content_that_is_not_the_one_landed_is_left_out(damage, two, main):
    """Named, exit 3; its row goes along without it, and a copy of the mended one brings it. Nothing else is left out."""
    path = two.contents()[0]
    before = path.read_bytes()
    match damage:
        case "gone":
            path.unlink()
        case "other bytes":
            path.write_bytes(before[:-1] + b"!")
        case "longer":
            path.write_bytes(before + b"!")
    given = ["copy", "--from", "duckdb:a.duckdb", "--to", "file:lake", "--project", "1"]
    ended = main(given, two.home, surroundings(two.home))
    left = {row["id"] for row in assets(two.there) if row["content_sha256"] is None}
    path.write_bytes(before)
    mended = copying.copy(1, two.here, two.there)

    assert ended.returncode == 3
    assert "the content of export 1 not copied" in ended.stderr
    assert left == {1}
    assert mended.problems == []
    assert all((two.home / "lake" / row["content_path"]).is_file() for row in assets(two.there))


def assets(sink: Destination) -> list[exports.Row]:
    held = sink.table("exports")
    assert held is not None
    return [row for row in held.rows.to_pylist() if row["project_id"] == 1]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [Path.unlink, cut_short], ids=["gone", "cut short"])
def test_content_that_the_target_lost_comes_again(damage, pair):
    """A backup is whole again after the next copy: also where a row says that the content is there."""
    damage(next(pair.home.glob("lake/exports/contents/1/3-*")))
    done = copying.copy(1, pair.here, pair.there)

    assert [one.contents for one in done.others] == [1, 0, 0]
    assert every.told(pair.there) == every.told(pair.here)


def test_content_that_the_target_has_is_not_replaced_by_another(pair):
    """Of one export, two contents: the target's stays, and the difference is named."""
    with duckdb.connect(str(pair.home / "a.duckdb")) as db:
        db.execute("UPDATE exports SET content_sha256 = 'ab', content_bytes = 2 WHERE id = 1")
        db.execute("UPDATE export_1_1 SET label = 'of another'")
    before = every.told(pair.there)
    done = copying.copy(1, pair.here, pair.there)

    assert ["has another" in problem for problem in done.problems] == [True]
    assert every.told(pair.there) == before


def test_copy_that_ends_in_between_goes_on(two, monkeypatch):
    """No row names a content that is not there, and the next copy brings the rest."""
    there, stored = two.there, []
    take = there.store_content

    def full(path: str, file: Path) -> str:
        if len(stored) == 3:
            raise DestinationBusy("full")
        stored.append(path)
        return take(path, file)

    monkeypatch.setattr(there, "store_content", full)
    with pytest.raises(DestinationBusy):
        copying.copy(1, two.here, there)
    named = [row["content_path"] for row in assets(two.there) if row["content_path"]]

    assert len(named) == 3
    assert all((two.home / "lake" / path).is_file() for path in named)
    assert copying.copy(1, two.here, two.there).problems == []
    assert all((two.home / "lake" / row["content_path"]).is_file() for row in assets(two.there))


@pytest.mark.parametrize("table", ["exports", "evaluations"])
def test_copy_beside_another_run_loses_nothing(table, two, monkeypatch):
    """What another run puts into the target's table meanwhile is there afterwards, and so is what was copied."""
    there = two.there

    def other() -> None:
        held = two.here.table(table)
        assert held is not None
        theirs = backup.of_project(held.rows, 1).slice(0, 1)
        two.there.replace(table, theirs.set_column(0, "project_id", pa.array([7], pa.int64())), version="")

    meanwhile(monkeypatch, there, "replace", other)
    done = copying.copy(1, two.here, there)
    rows = two.there.table(table)

    assert done.problems == []
    assert rows is not None
    assert set(rows.rows["project_id"].to_pylist()) == {1, 7}


def test_table_that_lost_rows_is_not_copied(two):
    """A table that does not hold what its export says is damage, and is not handed on."""
    with duckdb.connect(str(two.home / "a.duckdb")) as db:
        db.execute("DELETE FROM export_1_1 WHERE count = 7")
    done = copying.copy(1, two.here, two.there)

    assert ["table export_1_1 not copied" in problem for problem in done.problems] == [True]
    assert two.there.table("export_1_1") is None


def test_runs_that_a_lake_does_not_keep_are_left_and_said(two, monkeypatch, capsys):
    """The newest of each stream go along; a second copy writes none, and says the same."""
    monkeypatch.setattr(lake, "RUNS_KEPT", 1)
    first, second = copying.copy(1, two.here, two.there), copying.copy(1, two.here, two.there)
    beside.copied([first], json_output=False, quiet=False)

    assert [(one.runs, one.runs_left) for one in (first, second)] == [(4, 4), (0, 4)]
    assert {run.stream for run in two.there.runs(1, limit=9)} == {"events", "exports", "evaluations", "annotations"}
    assert "4 older runs left" in capsys.readouterr().err


def a_run(number: int, stream: str = "events") -> Run:
    return Run(f"{stream} {number}", "sync", 1, stream, AT + number * HOUR, AT + number * HOUR, "done", 1, 2, 3, 0.0)


@pytest.mark.parametrize(
    ("theirs", "ours", "keep", "expected"),
    [
        pytest.param(range(20_000), [], None, (range(20_000), 0), id="all"),
        pytest.param(range(20_000), range(10_000, 30_000), None, (range(10_000), 0), id="what it lacks, however old"),
        pytest.param(range(5), [], 3, ([2, 3, 4], 2), id="the newest"),
        pytest.param(range(5), [2, 3, 4], 3, ([], 2), id="again"),
        pytest.param(range(5), [1, 8, 9], 3, ([4], 3), id="beside newer ones of its own"),
    ],
)
def test_runs_are_copied_as_far_as_they_are_kept(theirs, ours, keep, expected):
    """Of each stream by itself, in the order of time."""
    other = a_run(0, "exports")
    given = [*map(a_run, reversed(theirs)), other]
    found, left = copying.runs_to_copy(given, [*map(a_run, ours)], keep=keep)

    assert [run for run in found if run is not other] == [a_run(number) for number in expected[0]]
    assert (other in found, left) == (True, expected[1])


# --- what a target becomes


def row(name: str, at: int, until: int | None = None, **more: object) -> dict[str, object]:
    """A row of a history, valid from hour *at* to hour *until*."""
    ends = None if until is None else AT + until * HOUR
    blank: dict[str, object] = dict.fromkeys(history.schema(shapes.EVALUATIONS).names)
    known = {"project_id": 1, "id": name, "deleted": False, "raw": "{}", "valid_from": AT + at * HOUR, "valid_to": ends}
    return blank | known | more


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=history.schema(shapes.EVALUATIONS))


A, A_ENDED, A_LATER = row("a", 0), row("a", 0, 2), row("a", 2)
OTHER = row("x", 0, project_id=2)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param(None, [A], [A], id="nothing there"),
        pytest.param([OTHER], [A], [OTHER, A], id="another project"),
        pytest.param([A], [A], None, id="equal"),
        pytest.param([A, OTHER], [A_ENDED, A_LATER], [OTHER, A_ENDED, A_LATER], id="the target is the beginning"),
        pytest.param([A_ENDED, A_LATER], [A], None, id="the target is newer"),
        pytest.param([A], [row("a", 0, missing_since=AT)], [row("a", 0, missing_since=AT)], id="missing since"),
        pytest.param([], [], None, id="empty"),
    ],
)
def test_history_is_never_made_older(ours, theirs, expected):
    """The longer of two histories that begin alike stands, whichever side has it."""
    found = backup.history(None if ours is None else table(*ours), table(*theirs, row("y", 0, project_id=3)), 1)

    assert (None if found is None else found.to_pylist()) == (
        None if expected is None else table(*expected).to_pylist()
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param([row("a", 1)], [A], id="another time"),
        pytest.param([row("a", 0, raw="1")], [A], id="another content"),
        pytest.param([row("a", 0, 3)], [A_ENDED, A_LATER], id="ended at another time"),
        pytest.param([A, row("b", 1)], [A_ENDED, A_LATER], id="each has what the other has not"),
    ],
)
def test_histories_of_two_lives_are_not_joined(ours, theirs):
    """Each has a row that the other has not: neither may replace the other."""
    with pytest.raises(backup.OtherHistory):
        backup.history(table(*ours), table(*theirs), 1)


def test_history_of_an_older_table_goes_on():
    """One that lacks a column gets it; where the copy is the older one, nothing of it is missing in the target's."""
    old, new = table(A).drop_columns("missing_since"), table(A_ENDED, A_LATER)
    found = backup.history(pa.concat_tables([old, table(OTHER).drop_columns("missing_since")]), new, 1)

    assert found is not None
    assert found.to_pylist() == table(OTHER, A_ENDED, A_LATER).to_pylist()
    assert backup.history(new, old, 1) is None


def test_other_history_of_the_target_stays_and_is_named(pair):
    """Two destinations that were synced at other times: nothing is lost at either, and the copy is incomplete."""
    with duckdb.connect(str(pair.home / "a.duckdb")) as db:
        db.execute("UPDATE evaluations SET valid_from = valid_from - INTERVAL 1 HOUR")
    before = every.told(pair.there)
    done = copying.copy(1, pair.here, pair.there)

    assert ["evaluations not copied" in problem for problem in done.problems] == [True]
    assert every.told(pair.there) == before


def grown(*parts: tuple[int, int, list[int]]) -> pa.Table:
    """A growing table: (project, export, totals)."""
    made = [
        exports.snapshot(pa.table({"total": totals}), at=AT, project_id=project, asset_id=export)
        for project, export, totals in parts
    ]
    return pa.concat_tables(made)


def test_snapshot_gets_what_it_lacks():
    """By export and project, each once; another project's are left to its own copy; other rows of one export are named."""
    whole_one = grown((1, 1, [1, 2]), (1, 2, [3]), (2, 3, [9]))
    cases = [
        (None, [1, 2, 3], []),
        (grown((1, 2, [3]), (2, 8, [7])), [3, 7, 1, 2], []),
        (grown((1, 1, [1, 2]), (1, 2, [3]), (1, 4, [5])), None, []),
        (grown((1, 1, [1])), [1, 3], [1]),
    ]
    for ours, expected, other in cases:
        found, differing = backup.snapshot(ours, whole_one, 1)
        assert (found["total"].to_pylist() if found else None, differing) == (expected, other)


def without_projects(table: pa.Table) -> pa.Table:
    """As it grew before projects were told apart, and then went on."""
    return table.drop_columns(["_project_id"])


def test_snapshot_of_before_projects_is_copied_too():
    """Rows that name no project are in no other copy; an export whose rows name it since is the same export."""
    old, new = without_projects(grown((1, 1, [1, 2]))), grown((1, 2, [3]))
    mixed = pa.concat_tables([old, new], promote_options="default")
    cases = [
        (None, old, [1, 2], []),
        (None, mixed, [1, 2, 3], []),
        (new, mixed, [3, 1, 2], []),
        (mixed, grown((1, 1, [1, 2]), (1, 2, [3])), None, []),
        (old, mixed, [1, 2, 3], []),
        (without_projects(grown((1, 1, [1]))), old, None, [1]),
    ]
    for ours, theirs, expected, other in cases:
        found, differing = backup.snapshot(ours, theirs, 1)
        assert (found["total"].to_pylist() if found else None, differing) == (expected, other)


def test_other_values_of_a_snapshot_are_named():
    """As many rows are not the same rows: one side was made anew. Another type of the same values is no difference."""

    def of(values: list[object]) -> pa.Table:
        return exports.snapshot(pa.table({"v": values}), at=AT, project_id=1, asset_id=7)

    for theirs, other in ((["1.10", "1.1"], [7]), ([1.1, 1.1], []), (["1.1", "1.1"], [])):
        assert backup.snapshot(of([1.1, 1.1]), of(theirs), 1) == (None, other)


def test_the_later_reading_of_an_export_stands_with_its_content():
    """Whichever side read it later; a content that one side has is never forgotten."""
    blank = dict.fromkeys(exports.EXPORTS.names) | {"project_id": 1, "id": 1, "has_content": True}
    old = blank | {"filename": "old", "content_sha256": "ab", "content_path": "here", "_loaded_at": AT}
    new = blank | {"filename": "new", "_loaded_at": AT + HOUR}

    for held, read in ((old, new), (new, old)):
        found = backup.asset(held, read)
        assert (found["filename"], found["content_sha256"], found["content_path"]) == ("new", "ab", "here")
    assert backup.asset(None, new) == new


def test_tables_are_compared_whatever_the_order_of_their_rows():
    """A DuckDB file keeps none; another value, column or type is another table."""
    one = pa.table({"a": [1, 2], "b": ["x", None]})

    assert backup.same(one, one.take([1, 0]))
    for other in (one.slice(1), one.rename_columns(["a", "c"]), pa.table({"a": [1, 2], "b": ["x", "y"]})):
        assert not backup.same(one, other)


def test_contents_of_two_sizes_are_told_apart_without_being_read(pair, monkeypatch):
    """A second copy asks the target how long each content is, and reads none of them."""
    monkeypatch.setattr(copying.contents, "read", None)

    assert copying.copy(1, pair.here, pair.there).problems == []
