"""Files whose names are names of a database too: DuckDB calls a database as its file, and ours has a schema hedgerow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from sinks import errors
from sinks.duckdb_file.sink import DuckDBSink
from tests import stores
from tests.sinks.test_conformance import landing, names

NAMES = (
    *("hedgerow.duckdb", "Hedgerow.DB", "hedgerow", "hedgerow.old.duckdb", ".hedgerow.duckdb"),
    *("main.duckdb", "events.duckdb", "temp.duckdb", "system.duckdb", "windows.duckdb", "memory.duckdb"),
    *("information_schema.duckdb", "pg_catalog.duckdb"),
    *("a.b.duckdb", "it's.duckdb", 'a "b".duckdb', "a b.duckdb", "select.duckdb", "hedgerow_file.duckdb"),
)


def begun(path: Path, *, lock_timeout_s: float = 60.0) -> DuckDBSink:
    sink = DuckDBSink(path, lock_timeout_s=lock_timeout_s)
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    return sink


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_landed_in_and_asked(name, tmp_path):
    """Landing, the ledger, a table with a view, a run's line, SQL as it is written for every other file."""
    sink = begun(tmp_path / name)
    (entry,) = sink.land([landing("a", "b")])
    rows = sink.rows(1, entry.start, entry.end)
    sink.replace("export_1_5", rows, version="", json=["properties"], views={"export_5": "SELECT * FROM export_1_5"})
    query = "SELECT w.state, count(*) FROM hedgerow.windows w, export_5 JOIN events USING (uuid) GROUP BY ALL"
    with DuckDBSink(tmp_path / name).query(query) as result:
        found = result.fetchall()

    assert found == [("landed", 2)]
    assert names(sink) == ["a", "b"]
    assert DuckDBSink(tmp_path / name).ledger(1, "events").entries == {entry.start: entry}
    with duckdb.connect(str(tmp_path / name), read_only=True) as db:
        assert db.sql("SELECT count(*) FROM export_5").fetchall() == [(2,)]


@pytest.mark.parametrize("name", NAMES)
def test_views_have_any_name(name, tmp_path):
    """What attach writes is the same file under every name, and replaced by the next."""
    lake = stores.local_lake(tmp_path / "lake")
    lake.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    lake.land([landing("a")])
    for _ in range(2):
        lake.attach(tmp_path / name)
    with duckdb.connect() as db:
        at = str(tmp_path / name).replace("'", "''")
        db.execute(f"ATTACH '{at}' AS mine (READ_ONLY)")
        found = db.sql("SELECT event, state FROM mine.events, mine.hedgerow.windows").fetchall()

    assert found == [("a", "landed")]


def test_the_whole_name_is_asked_for_in_a_duckdb_of_your_own(tmp_path):
    """docs/settings.md says how: in a file hedgerow.duckdb the short name is ambiguous for DuckDB itself."""
    sink = begun(tmp_path / "hedgerow.duckdb")
    sink.land([landing("a")])
    with duckdb.connect(str(sink.path), read_only=True) as db:
        with pytest.raises(duckdb.BinderException, match="Ambiguous"):
            db.sql("FROM hedgerow.windows")
        found = db.sql("SELECT landed_rows FROM hedgerow.hedgerow.windows").fetchall()

    assert found == [(1,)]


def test_a_file_of_the_schema_s_name_is_locked_and_named_as_any_other(tmp_path):
    """While another process has it, landing waits the lock timeout and then says who."""
    sink = begun(tmp_path / "hedgerow.duckdb", lock_timeout_s=0.3)
    code = f"import duckdb; db = duckdb.connect({str(sink.path)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(errors.DestinationBusy, match=str(holder.pid)):
            sink.land([landing("a")])
        holder.kill()

    assert sink.land([landing("a")])


def test_a_file_of_the_schema_s_name_is_refused_when_cut_short(tmp_path):
    """Its length is compared with its header, as of any other."""
    sink = begun(tmp_path / "hedgerow.duckdb")
    sink.land([landing(*"abcdefgh")])
    sink.path.write_bytes(sink.path.read_bytes()[:-1])
    with pytest.raises(errors.DestinationUnusable, match=r"hedgerow\.duckdb is cut short"):
        begun(sink.path)


def test_a_query_cannot_change_a_file_of_the_schema_s_name(tmp_path):
    """It is opened for reading only."""
    sink = begun(tmp_path / "hedgerow.duckdb")
    sink.land([landing("a")])
    for query in ("DELETE FROM events", "CREATE TABLE mine AS SELECT 1", "DROP SCHEMA hedgerow CASCADE"):
        with pytest.raises(errors.BadQuery), sink.query(query):
            pass

    assert names(sink) == ["a"]
