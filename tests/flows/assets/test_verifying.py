"""`verify` and `status` of every stream: what is kept is what was landed, or it is named, and mended where it can be."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from extractors.errors import LimitsExhausted
from extractors.simulator.assets.blobs import Blob
from flows import verify as verify_flow
from flows.assets import copying, rebuild, tables, verified, verifying
from flows.assets.synced import Synced
from flows.orchestration import artifacts
from flows.report import status
from flows.runs.catalog import BY_NAME
from sinks.errors import TableUnreadable
from tests.flows.assets import every
from tests.flows.assets.test_copying import A_ENDED, A_LATER, OTHER, A, row, table
from transforms import exports as export_rows
from transforms import history


@dataclass(slots=True)
class Landed:
    """A destination with something of every stream, and the server that it came from."""

    kind: str
    home: Path
    world: every.World

    @property
    def address(self) -> str:
        return f"duckdb:{self.home / 'a.duckdb'}" if self.kind == "duckdb" else f"file:{self.home / 'lake'}"

    def verify(self, *, repair: bool = False, since: str | None = None) -> verified.Verified:
        return verified.verify(self.world.settings(self.address), 1, repair=repair, since=since)

    def check(self, name: str = "exports", *, repair: bool = False) -> verifying.Checked:
        """One stream alone."""
        return verifying.verify(self.world.settings(self.address), 1, BY_NAME[name], repair=repair)

    def told(self) -> dict[str, object]:
        """What is held beside events and runs."""
        return every.told_beside(every.opened(self.address, self.home))

    def content(self, number: int) -> Path:
        place = "a.duckdb.exports" if self.kind == "duckdb" else "lake/exports/contents"
        return next((self.home / place / "1").glob(f"{number}-*"))

    def cut(self, name: str, where: str) -> None:
        """Rows of a table are gone by hand."""
        if self.kind == "duckdb":
            with duckdb.connect(str(self.home / "a.duckdb")) as db:
                db.execute(f"DELETE FROM {name} WHERE {where}")
            return
        (file,) = (self.home / "lake").glob(f"**/{name}.parquet")
        held = pq.read_table(file)
        with duckdb.connect() as db:
            rest = db.sql(f"FROM held WHERE NOT ({where})").to_arrow_table().cast(held.schema)
        pq.write_table(rest.replace_schema_metadata(held.schema.metadata), file)

    def drop(self, name: str) -> None:
        if self.kind == "duckdb":
            with duckdb.connect(str(self.home / "a.duckdb")) as db:
                db.execute(f"DROP TABLE {name}")
                db.execute("DELETE FROM hedgerow.meta WHERE key = ?", [f"table:{name}"])
            return
        next((self.home / "lake").glob(f"**/{name}.parquet")).unlink()


@pytest.fixture(scope="module", params=["duckdb", "lake"])
def filled(request, tmp_path_factory) -> Iterator[Landed]:
    home = tmp_path_factory.mktemp(request.param)
    with every.world(home) as made:
        landed = Landed(request.param, home, made)
        made.sync(landed.address)
        made.change()
        made.sync(landed.address)
        yield landed


@pytest.fixture
def landed(filled, tmp_path) -> Landed:
    shutil.copytree(filled.home, tmp_path, dirs_exist_ok=True)
    return Landed(filled.kind, tmp_path, filled.world)


def test_what_is_sound_is_good_and_asks_nothing_more(landed):
    """Every stream is looked at; PostHog is asked about events alone."""
    before = len(landed.world.simulator.requests)
    found = landed.verify()
    asked = {seen.endpoint for seen in landed.world.simulator.requests[before:]}

    assert [(one.stream, one.differences, one.requests) for one in found.others] == [
        (name, [], 0) for name in ("exports", "evaluations", "annotations")
    ]
    assert [(one.rows, one.contents, one.tables) for one in found.others] == [(7, 7, 6), (5, 0, 0), (2, 0, 0)]
    assert asked <= {"list", "query"}


def garbled(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"!")


DAMAGES = {
    "other bytes": (lambda it: garbled(it.content(1)), "the content of export 1", "it is damaged"),
    "longer": (lambda it: it.content(3).write_bytes(every.PICTURE + b"!"), "the content of export 3", "it is damaged"),
    "content gone": (lambda it: it.content(3).unlink(), "the content of export 3", "it is missing"),
    "rows of a table": (lambda it: it.cut("export_1_1", "count = 7"), "export_1_1 holds 1 of 2 rows", "of its content"),
    "a table": (lambda it: it.drop("export_1_2"), "the table export_1_2 is missing", "of its content"),
    "rows of a snapshot": (lambda it: it.cut("weekly", "_export_id = 5"), "weekly holds 0 of 2 rows", "of its content"),
    "a row of a snapshot": (
        lambda it: it.cut("weekly", "_export_id = 5 AND \"properties.note\" = 'plain'"),
        "weekly holds 1 of 2 rows",
        "of its content",
    ),
    "a snapshot": (lambda it: it.drop("weekly"), "weekly holds 0 of 2 rows", "of its content"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_mended(damage, landed):
    """What is wrong and what to do about it; a repair brings everything back as it was, and the next verify is content."""
    wanted = landed.told()
    act, what, why = DAMAGES[damage]
    act(landed)
    found = landed.check()
    again = landed.check()
    mended = landed.check(repair=True)

    assert (found.good, again.differences) == (False, found.differences)
    assert what in found.problems[0]
    assert why in found.problems[0]
    assert (mended.good, len(mended.differences)) == (True, len(found.differences))
    assert landed.check().differences == []
    assert landed.told() == wanted


def test_rows_of_a_snapshot_that_name_no_project_stay(landed):
    """Those of before projects were told apart are no difference, and no repair of others takes them away."""
    sink = every.opened(landed.address, landed.home)
    held = sink.table("weekly")
    exports = sorted(set(held.rows["_export_id"].to_pylist()))
    parts = [held.rows.filter(pc.equal(held.rows["_export_id"], one)) for one in exports]
    assert len(parts) > 1
    old = parts[0].set_column(2, "_project_id", pa.nulls(parts[0].num_rows, pa.int64()))
    gone = old.set_column(1, "_export_id", pa.array([99] * old.num_rows, pa.int64()))  # not known any more
    sink.replace("weekly", pa.concat_tables([gone, old, *parts[1:]]), version=held.version)
    assert landed.check().differences == []

    landed.cut("weekly", f"_export_id = {exports[-1]}")
    assert [one.left for one in landed.check(repair=True).differences] == [""]
    found = sink.table("weekly").rows
    assert sorted(found["_export_id"].to_pylist()) == sorted([99] * old.num_rows + held.rows["_export_id"].to_pylist())
    assert found["_project_id"].null_count == 2 * old.num_rows


def test_table_that_cannot_be_made_again_is_said(landed):
    """A table that lost rows, of a content that makes none by today's rules, stays as it is, and no repair says otherwise."""
    sink = every.opened(landed.address, landed.home)
    broken = b'day,count,label\n2026-01-01,7,"x\n'
    landed.content(1).write_bytes(broken)
    held = sink.table("exports")
    row = export_rows.known(held.rows, 1)[1] | {
        "content_sha256": hashlib.sha256(broken).hexdigest(),
        "content_bytes": len(broken),
    }
    sink.replace("exports", export_rows.updated(held.rows, [row]), version=held.version, json=export_rows.JSON)
    landed.cut("export_1_1", "count = 7")
    found, mended = landed.check(), landed.check(repair=True)

    assert (found.good, mended.good) == (False, False)
    assert found.problems == mended.problems
    assert "its content makes no table" in mended.problems[0]
    assert sink.table("export_1_1").rows.num_rows == 1


def test_only_tables_are_counted(landed):
    """A content that makes no table is none, whatever its format says."""
    before = landed.check().tables
    sink = every.opened(landed.address, landed.home)
    broken = b'a\n"x\n'
    address = sink.store_content("1/77-broken.csv", made_file(landed.home, broken))
    held = sink.table("exports")
    row = export_rows.known(held.rows, 1)[1] | {"id": 77, "content_path": address, "content_bytes": len(broken)}
    row |= {"content_sha256": hashlib.sha256(broken).hexdigest()}
    sink.replace("exports", export_rows.updated(held.rows, [row]), version=held.version, json=export_rows.JSON)
    found = landed.check()

    assert (found.tables, found.differences) == (before, [])


def made_file(home: Path, data: bytes) -> Path:
    (home / "made").write_bytes(data)
    return home / "made"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda store: store.remove(3), "PostHog does not have it any more", id="expired"),
        pytest.param(
            lambda store: setattr(store.assets[2], "content", Blob.of(b"\x89PNG")),
            "PostHog has another content of it now",
            id="another",
        ),
    ],
)
def test_content_that_cannot_be_had_again_is_said(change, why, landed):
    """The repair says of which contents PostHog has no more, mends the others, and is not done."""
    store = landed.world.exports
    before = [*store.assets], store.assets[2].content
    landed.content(3).unlink()
    landed.content(1).unlink()
    change(store)
    try:
        found = landed.check(repair=True)
    finally:
        store.assets, store.assets[2].content = before

    assert [(one.what, one.left) for one in found.differences] == [
        ("the content of export 1", ""),
        ("the content of export 3", found.differences[1].left),
    ]
    assert why in found.differences[1].left


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
def test_limits_that_are_used_up_end_a_repair(landed, monkeypatch):
    """They are no word about a content: the run fails, as any other that may not wait longer, and says so in its history."""

    def refused(*given: object) -> None:
        raise LimitsExhausted("used up")

    monkeypatch.setattr(verifying.exports, "asset", refused)
    landed.content(3).unlink()
    with pytest.raises(LimitsExhausted):
        landed.check(repair=True)

    assert every.opened(landed.address, landed.home).runs(1, limit=1)[0].outcome == "failed"


def test_history_that_cannot_be_is_named(landed):
    """Two current rows, or none: no repair makes one of them up."""
    landed.cut("evaluations", "valid_to IS NULL AND name = 'another'")
    (fault,) = landed.check("evaluations", repair=True).problems

    assert "has no current row" in fault
    assert "backup" in fault


def test_history_whose_table_is_gone_is_named():
    """It held every change: no table is not a history without rows."""
    done = verifying.Checked(1, "evaluations")
    empty, stream = SimpleNamespace(table=lambda name: None), BY_NAME["evaluations"]
    verifying.BESIDE[stream.mechanism](verifying.Check(empty, stream, done, frozenset(), None))

    assert [one.left for one in done.differences] == ["it is gone: hedgerow sync evaluations"]


def test_range_is_one_of_events(landed):
    """What lies beside them has no time that a range could name."""
    landed.content(3).unlink()

    assert landed.verify(since=every.START.isoformat()).others == ()


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
def test_table_that_cannot_be_read_is_said_to_whoever_asks(landed, hedgerow):
    """By `sql` as much as by verify, and by no query that does not ask for it."""
    (landed.home / "lake/exports/tables/export_1_1.parquet").write_bytes(b"PAR1 no more")
    given = {"HEDGEROW_DESTINATION": landed.address}
    other = hedgerow(landed.world.simulator, "sql", "SELECT count(*) FROM export_2", **given)
    ended = [hedgerow(landed.world.simulator, "sql", f"FROM {name}", **given) for name in ("export_1_1", "export_1")]
    attached = hedgerow(landed.world.simulator, "attach", **given)
    document = hedgerow(landed.world.simulator, "attach", "--json", **given)

    assert other.returncode == 0
    said = "exports/tables/export_1_1.parquet cannot be read"
    assert [(one.returncode, said in one.stderr) for one in ended] == [(12, True)] * 2
    assert (attached.returncode, said in attached.stderr, "export_2" in attached.stdout) == (3, True, True)
    assert [said in problem for problem in json.loads(document.stdout)["problems"]] == [True]


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
@pytest.mark.parametrize("name", ["tables/export_1_1", "snapshots/weekly"])
def test_table_that_cannot_be_read_is_made_again_of_kept_contents(name, landed):
    """Named once, whatever hangs on it; a repair replaces it, and a second finds nothing."""
    wanted = landed.told()
    (landed.home / f"lake/exports/{name}.parquet").write_bytes(b"PAR1 no more")
    found = landed.check()
    mended = landed.check(repair=True)

    assert len(found.problems) == 1
    assert f"exports/{name}.parquet cannot be read: hedgerow verify --repair" in found.problems[0]
    assert mended.good
    assert landed.check().differences == []
    assert landed.told() == wanted


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
@pytest.mark.parametrize("name", ["exports/assets", "evaluations/evaluations"])
def test_table_of_a_stream_that_cannot_be_read_is_named_beside_the_others(name, landed):
    """No content has its rows: verify says so as a difference, and goes on with the next stream; so does copy."""
    (landed.home / f"lake/{name}.parquet").write_bytes(b"PAR1 no more")
    streams = ("exports", "evaluations", "annotations")
    found = [landed.check(one, repair=True).problems for one in streams]
    here, there = (every.opened(f"file:{landed.home / place}", landed.home) for place in ("lake", "backup"))
    copied = [one.problems for one in copying.copy(1, here, there).others]

    expected = [[True] if name.startswith(one) else [] for one in streams]
    for problems in (found, copied):
        assert [[f"{name}.parquet cannot be read" in problem for problem in some] for some in problems] == expected
    with pytest.raises(TableUnreadable):
        tables.replaced(here, name.partition("/")[0], lambda old: pa.table({"a": [1]}))


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
def test_tables_that_cannot_be_read_keep_nothing_else_from_being_copied(landed):
    """Each is named; what a copy's target cannot read of an export comes again."""
    here, there = (every.opened(f"file:{landed.home / place}", landed.home) for place in ("lake", "backup"))
    assert copying.copy(1, here, there).problems == []
    wanted = every.told(here)
    (landed.home / "backup/exports/tables/export_1_1.parquet").write_bytes(b"PAR1 no more")
    assert copying.copy(1, here, there).problems == []
    assert every.told(there) == wanted

    names = ("tables/export_1_1", "snapshots/weekly")
    for name in names:
        (landed.home / f"lake/exports/{name}.parquet").write_bytes(b"PAR1 no more")
    problems = copying.copy(1, here, there).problems
    assert [problem.partition(":")[0] for problem in problems] == [
        f"table {name.partition('/')[2]} not copied" for name in names
    ]
    assert every.told(there) == wanted


def test_snapshot_that_cannot_be_read_keeps_no_export_from_being_kept():
    """It is said, and the run goes on."""
    done = Synced(1, "exports")
    with tables.named(done, "snapshot weekly has not grown"):
        raise TableUnreadable("it cannot be read", hint="", version="")

    assert done.problems == ["snapshot weekly has not grown: it cannot be read"]


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
def test_rebuild_replaces_what_cannot_be_read(landed):
    """Tables of exports, snapshots of the settings and those that are in them no more."""
    wanted, sink = landed.told(), every.opened(landed.address, landed.home)
    for growing in (("weekly",), ()):
        for name in ("tables/export_1_1", "snapshots/weekly"):
            (landed.home / f"lake/exports/{name}.parquet").write_bytes(b"PAR1 no more")
        done = Synced(1, "exports")
        rebuild.rebuild(sink, done, growing)

        assert done.problems == []
        assert landed.told() == wanted


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
def test_strays_in_a_lake_are_named_by_every_command(landed, hedgerow):
    """Whatever stream it is about: exit 12, and PostHog was asked nothing."""
    stray = landed.home / "lake/events/stray.parquet"
    stray.write_bytes(b"PAR1")
    before = len(landed.world.simulator.requests)
    commands = (("sync", "exports"), ("sync", "annotations"), ("verify",), ("sql", "SELECT 1"), ("status",))
    ended = [hedgerow(landed.world.simulator, *one, HEDGEROW_DESTINATION=landed.address) for one in commands]

    assert [one.returncode for one in ended] == [12] * len(commands)
    assert all("events/stray.parquet" in one.stderr for one in ended)
    assert len(landed.world.simulator.requests) == before


def test_verify_says_every_stream(landed, hedgerow):
    """In words and in `--json`, which grows by a list; damage is exit 3, and so it stays in the history of runs."""
    given = {"HEDGEROW_DESTINATION": landed.address}
    sound = hedgerow(landed.world.simulator, "verify", "--json", **given)
    landed.content(3).unlink()
    damaged = hedgerow(landed.world.simulator, "verify", **given)
    document = hedgerow(landed.world.simulator, "verify", "--json", **given)

    (project,) = json.loads(sound.stdout)["projects"]
    (other,) = json.loads(document.stdout)["projects"]
    assert [one["stream"] for one in project["streams"]] == ["exports", "evaluations", "annotations"]
    assert [one["good"] for one in other["streams"]] == [False, True, True]
    assert other["good"] is False
    assert any("the content of export 3" in problem for problem in other["problems"])
    assert damaged.returncode == document.returncode == 3
    assert "the content of export 3: it is missing" in damaged.stderr
    assert "evaluations: 5 rows" in damaged.stdout
    runs = every.opened(landed.address, landed.home).runs(1, limit=20)
    assert {run.outcome for run in runs if run.command == "verify" and run.stream == "exports"} == {
        "done",
        "incomplete",
    }


def test_project_without_events_is_verified(tmp_path, hedgerow):
    """Exports alone are landed: they are looked at, and nothing is missed."""
    with every.world(tmp_path) as made:
        made.sync(f"duckdb:{tmp_path / 'posthog.duckdb'}", only="exports")
        ended = hedgerow(made.simulator, "verify", "--json")
        told = hedgerow(made.simulator, "status")

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["projects"][0]["problems"] == []
    assert "nothing landed yet" not in told.stdout
    assert "project 1 · exports" in told.stdout
    assert "project 1 · events" not in told.stdout


def test_scheduled_verification_looks_at_every_stream(landed, monkeypatch):
    """What is not whole beside events ends the flow as incomplete, in a line of its table and an event of its own."""
    landed.content(3).unlink()
    monkeypatch.chdir(landed.home)
    for name, value in {
        "POSTHOG_PERSONAL_API_KEY": landed.world.simulator.key,
        "POSTHOG_PROJECT_ID": "1",
        "POSTHOG_HOST": landed.world.simulator.url,
        "HEDGEROW_DESTINATION": landed.address,
        "HEDGEROW_STATE_DIR": str(landed.home / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    state = verify_flow.verify_events.fn()
    found = landed.check()

    assert state.name == "Incomplete"
    assert "project 1: the content of export 3: it is missing" in state.message
    assert artifacts.row(found) | {"seconds": 0} == {
        "project": 1,
        "stream": "exports",
        "rows": 7,
        "contents": 7,
        "tables": 6,
        "requests": 0,
        "seconds": 0,
        "problems": 1,
    }
    before = every.opened(landed.address, landed.home).runs(1, limit=9)
    (alert,) = artifacts.alerts(found, before=before)
    assert (alert.stream, alert.problems) == ("exports", tuple(found.problems))


# --- attach


@pytest.mark.parametrize("filled", ["lake"], indirect=True)
def test_attached_file_has_what_sql_has(landed):
    """The same names, with the same rows: tables, views, snapshots, and the bookkeeping but for what a footer does not say."""
    lake = every.opened(landed.address, landed.home)
    lake.attach(landed.home / "views.duckdb")
    listed = "SELECT table_schema || '.' || table_name FROM information_schema.tables ORDER BY 1"
    with lake.query(listed) as result:
        wanted = [name for (name,) in result.fetchall()]
    with duckdb.connect(str(landed.home / "views.duckdb"), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        names = [name for (name,) in db.sql(listed).fetchall()]
        for name in names:
            columns = ", ".join(f'"{column[0]}"' for column in db.sql(f"DESCRIBE FROM {name}").fetchall())
            with lake.query(f"SELECT {columns} FROM {name}") as result:
                rows = result.fetchall()
            assert sorted(map(str, db.sql(f"SELECT {columns} FROM {name}").fetchall())) == sorted(map(str, rows)), name
            assert rows or name == "main.evaluation_results", name

    assert names == wanted
    assert {"main.weekly", "main.export_6", "hedgerow.quarantine", "hedgerow.changes", "hedgerow.runs"} < set(names)


# --- status


def test_status_shows_every_stream(landed, hedgerow):
    """What is held of each, when it was last read, and its last run; the page has them too."""
    given = {"HEDGEROW_DESTINATION": landed.address}
    told = hedgerow(landed.world.simulator, "status", **given)
    document = hedgerow(landed.world.simulator, "status", "--json", "--html", "page.html", **given)
    streams = {one["stream"]: one for one in json.loads(document.stdout)["streams"]}

    assert list(streams) == ["events", "exports", "evaluations", "annotations"]
    assert {name: (one["rows"], bool(one["held"]), one["gaps"]) for name, one in streams.items()} == {
        "events": (12, False, []),
        "exports": (7, True, []),
        "evaluations": (5, True, []),
        "annotations": (2, True, []),
    }
    assert [run["stream"] for run in streams["evaluations"]["runs"]] == ["evaluations"] * 2
    held = streams["evaluations"]["held"]
    assert (held["current"], held["deleted"], held["missing"]) == (2, 1, 0)
    assert (streams["exports"]["held"]["contents"], streams["exports"]["held"]["tables"]) == (7, 5)
    for name in streams:
        assert f"project 1 · {name}" in told.stdout
        assert f"<h2>Project 1 · {name}</h2>" in Path("page.html").read_text(encoding="utf-8")
    assert "5 of 3 evaluations" in told.stdout
    assert "7 of 1.9 kB" in told.stdout


def test_what_is_missing_is_shown(landed):
    """A content that did not come, and objects that the source does not show any more."""
    name = "exports" if landed.kind == "duckdb" else "assets"
    if landed.kind == "duckdb":
        with duckdb.connect(str(landed.home / "a.duckdb")) as db:
            db.execute("UPDATE exports SET content_sha256 = NULL, content_bytes = NULL WHERE id = 1")
            db.execute("UPDATE annotations SET missing_since = now() WHERE valid_to IS NULL")
    else:
        change(landed.home / f"lake/exports/{name}.parquet", "content_sha256 = NULL, content_bytes = NULL WHERE id = 1")
        change(landed.home / "lake/annotations/annotations.parquet", "missing_since = now() WHERE valid_to IS NULL")
    found = {one.stream: one.held for one in status.summaries(landed.world.settings(landed.address))}

    assert (found["exports"].missing, found["annotations"].missing, found["evaluations"].missing) == (1, 1, 0)


def change(file: Path, what: str) -> None:
    """An UPDATE of a Parquet file."""
    held = pq.read_table(file)
    with duckdb.connect() as db:
        db.execute("CREATE TABLE it AS FROM held")
        db.execute(f"UPDATE it SET {what}")
        rows = db.sql("FROM it").to_arrow_table().cast(held.schema)
    pq.write_table(rows.replace_schema_metadata(held.schema.metadata), file)


def test_nothing_landed_is_said_where_nothing_is(tmp_path, hedgerow):
    """And only there: of a project without anything."""
    with every.world(tmp_path) as made:
        assert "nothing landed yet" in hedgerow(made.simulator, "status").stdout


# --- histories against themselves


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([A], {}, id="one row"),
        pytest.param([A_LATER, A_ENDED], {}, id="in any order"),
        pytest.param([A_ENDED], {"a": "no current row"}, id="none is current"),
        pytest.param([A, A_LATER], {"a": "2 current rows"}, id="two are current"),
        pytest.param([row("a", 0, 1), A_LATER], {"a": "do not follow"}, id="a gap"),
        pytest.param([row("a", 0, 3), A_LATER], {"a": "do not follow"}, id="an overlap"),
        pytest.param([row("a", 2, 2), A_LATER], {"a": "do not follow"}, id="a row of no time"),
        pytest.param([A, row("b", 0, 1)], {"b": "no current row"}, id="of one of two"),
        pytest.param([A, OTHER, row("x", 0, 1, project_id=3)], {}, id="of another project"),
    ],
)
def test_history_is_one_chain_for_each_object(rows, expected):
    """One current row, and each begins where the one before it ended."""
    found = history.broken(table(*rows), 1)

    assert list(found) == list(expected)
    assert all(said in found[name] for name, said in expected.items())
