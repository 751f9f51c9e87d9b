"""Files that are somebody else's: refused by landing and by check, called what they are, and not a byte is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sinks import errors
from sinks.duckdb_file import connection
from sinks.duckdb_file.sink import DuckDBSink
from tests.sinks.test_conformance import landing, names


def of_duckdb(*statements: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with duckdb.connect(str(path)) as db:
            for statement in statements:
                db.execute(statement)

    return make


def of_sqlite(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE events (a)")
    db.commit()
    db.close()


def of_parquet(path: Path) -> None:
    duckdb.sql("SELECT 42 AS answer").write_parquet(str(path))


@pytest.mark.parametrize("select", ["SELECT 42 AS a", "SELECT * FROM export_2_7"], ids=["user's", "other project's"])
def test_view_that_is_not_of_the_table_outlives_it(select, tmp_path):
    """A table of an export goes with its own view; one of that name over anything else stays."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "exports", host="https://a", event_filter="", rebuild=False)
    rows = pa.table({"a": [1]})
    sink.replace("export_2_7", rows, version="", json=(), views={})
    sink.replace("export_1_7", rows, version="", json=(), views={"export_7": "SELECT * FROM export_1_7"})
    of_duckdb(f"CREATE OR REPLACE VIEW export_7 AS {select}")(sink.path)
    sink.drop("export_1_7", views=["export_7", "export_8"])

    with duckdb.connect(str(sink.path)) as db:
        assert len(db.sql("FROM export_7").fetchall()) == 1
    assert sink.tables() == ("export_2_7",)


def test_view_of_a_table_goes_with_it(tmp_path):
    """And its name is free again."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "exports", host="https://a", event_filter="", rebuild=False)
    sink.replace("t", pa.table({"a": [1]}), version="", json=(), views={"v": "SELECT * FROM t"})
    sink.drop("t", views=["v"])

    with duckdb.connect(str(sink.path)) as db:
        assert db.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal AND view_name = 'v'").fetchall() == []


FOREIGN = {
    "its table": (of_duckdb("CREATE TABLE events AS SELECT 42 AS a"), "a table or view events that is not hedgerow's"),
    "its table in capitals": (of_duckdb('CREATE TABLE "EVENTS" (a INT)'), "a table or view EVENTS that is not"),
    "its view": (of_duckdb("CREATE VIEW events AS SELECT 42 AS a"), "a table or view events that is not hedgerow's"),
    "its columns as ours": (
        of_duckdb("CREATE TABLE events (project_id BIGINT, uuid UUID, event TEXT)"),
        "a table or view events that is not hedgerow's",
    ),
    "its schema": (
        of_duckdb("CREATE SCHEMA hedgerow", "CREATE TABLE hedgerow.runs (a INT)"),
        r"a table or view hedgerow\.runs that is not hedgerow's",
    ),
    "SQLite": (of_sqlite, "not a DuckDB file but an SQLite database"),
    "Parquet": (of_parquet, "not a DuckDB file but a Parquet file"),
    "text": (lambda path: path.write_text("a letter\n" * 2_000), "not a DuckDB file but something else"),
    "nothing": (lambda path: path.write_bytes(b""), "not a DuckDB file but an empty file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("step", ["prepare", "check"])
@pytest.mark.parametrize("name", ["posthog.duckdb", "hedgerow.duckdb"])
def test_what_is_not_ours_is_named_and_left(name, step, kind, tmp_path):
    """Somebody's table where ours would be, somebody's file: not a byte of it is changed, nothing is left beside it."""
    make, said = FOREIGN[kind]
    path = tmp_path / name
    make(tmp_path / "made")
    (tmp_path / "made").rename(path)
    before = path.read_bytes()
    sink = DuckDBSink(path)
    arguments = {"host": "https://a", "event_filter": ""} | ({"rebuild": False} if step == "prepare" else {})
    with pytest.raises(errors.DestinationUnusable, match=said):
        getattr(sink, step)(1, "events", **arguments)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stream", ["exports", "evaluations", "annotations"])
def test_a_table_called_as_a_stream_is_left(stream, tmp_path):
    """No bookkeeping is begun in a file that has somebody's table of that name."""
    path = tmp_path / "a.duckdb"
    of_duckdb(f"CREATE TABLE {stream} AS SELECT 42 AS answer")(path)
    before = path.read_bytes()
    with pytest.raises(errors.DestinationUnusable, match=f"{stream} that is not hedgerow's"):
        DuckDBSink(path).prepare(1, stream, host="https://a", event_filter="", rebuild=False)

    assert path.read_bytes() == before


CHANGED = {
    "another table": (("DROP TABLE events", "CREATE TABLE events AS SELECT 42 AS a"), "no column project_id"),
    "a column gone": (("ALTER TABLE events DROP COLUMN elements_chain",), "no column elements_chain"),
    "gone": (("DROP TABLE events",), "its table events is gone"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_table_of_events_that_was_replaced_is_named(change, tmp_path):
    """Beside our own bookkeeping, too: what landing would meet is said before it, in words."""
    statements, said = CHANGED[change]
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    of_duckdb(*statements)(sink.path)
    with pytest.raises(errors.DestinationUnusable, match=said):
        sink.check(1, "events", host="https://a", event_filter="")


def test_columns_and_tables_of_the_user_are_no_hindrance(tmp_path):
    """Tables beside ours, a schema of another name and a column more are the user's."""
    of_duckdb("CREATE TABLE mine (a INT)", "CREATE SCHEMA other", "CREATE TABLE other.events (a INT)")(
        tmp_path / "a.duckdb"
    )
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([landing("a")])
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)

    assert names(sink) == ["a"]


@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_view_of_a_later_version_takes_nobody_s_place(kind, tmp_path):
    """A version makes a view with a table that an earlier one made without: what the user has of that name stays."""
    sink, rows, view = DuckDBSink(tmp_path / "a.duckdb"), pa.table({"a": [1]}), {"lists_current": "FROM lists"}
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.replace("lists", rows, version="")
    of_duckdb(f"CREATE {kind} lists_current AS SELECT 1 AS mine")(sink.path)
    with pytest.raises(errors.DestinationUnusable, match="lists_current that is not hedgerow's"):
        sink.replace("lists", rows, version=sink.table("lists").version, views=view)
    of_duckdb(f"DROP {kind} lists_current")(sink.path)
    for _ in range(2):
        sink.replace("lists", rows, version=sink.table("lists").version, views=view)

    with sink.query("FROM lists_current") as result:
        assert result.fetchall() == [(1,)]


def test_a_file_of_a_duckdb_that_cannot_be_read_here_is_called_that():
    """Not the path or the disk is at fault."""
    said = "IO Error: Trying to read a database file with version number 70, but we can only read versions between 64 and 68"
    error = connection._translated(duckdb.IOException(said), Path("a.duckdb"))

    assert str(error).startswith(
        f"a.duckdb was written by another DuckDB than this one can read ({duckdb.__version__})"
    )
    assert "nothing was changed" in error.hint
