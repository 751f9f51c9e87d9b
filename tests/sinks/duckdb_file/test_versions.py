"""Which DuckDB can read what is made here: the version of new files, and the programs of older versions themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import duckdb
import pytest

from flows.landing import copy as copying
from flows.runs.destinations import destination_of, lake_of
from flows.settings.model import DuckDBSettings, Settings
from sinks.duckdb_file.sink import DuckDBSink
from sinks.sink import STORAGE_VERSION
from tests import stores
from tests.sinks.formats import make

VERSIONS = get_args(DuckDBSettings.model_fields["storage_version"].annotation)
OLDER = ("1.2.2", "1.4.4")
BUILD = Path(__file__).parents[3] / "build"
OLD_FILE = make.HERE / "format3.duckdb"  # made by DuckDB 2.0 as that does unasked


def version_of(file: Path) -> str:
    """The version that DuckDB says of a file."""
    with duckdb.connect(str(file), read_only=True) as db:
        (row,) = db.sql("SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal").fetchall()
    return str(row[0])


def settings(address: str, version: str | None = None) -> Settings:
    given = {} if version is None else {"duckdb": {"storage_version": version}}
    return Settings.model_validate({"destination": {"address": address}} | given)


def begun(address: str, version: str | None = None) -> Path:
    """The file of a new destination."""
    sink = destination_of(settings(address, version))
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    return Path(address.removeprefix("duckdb:"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_file_has_the_version_of_the_settings(version, tmp_path):
    """Each value is one that DuckDB knows, and each makes files of its own kind."""
    expected = "v2.0.0+" if version == "latest" else f"{version}+"

    assert version_of(begun(f"duckdb:{tmp_path / 'a.duckdb'}", version)) == expected


@pytest.mark.parametrize("unlinked", [False, True], ids=["linked", "made by DuckDB itself"])
def test_a_new_file_is_for_duckdb_1_2_unless_said_otherwise(unlinked, tmp_path, monkeypatch):
    """What nobody sets is the least version that holds our columns, also where no file can be linked."""
    if unlinked:
        monkeypatch.setattr("os.link", lambda *names: (_ for _ in ()).throw(PermissionError()))

    assert version_of(begun(f"duckdb:{tmp_path / 'a.duckdb'}")) == f"{STORAGE_VERSION}+" == "v1.2.0+"


def test_views_are_for_the_same_duckdb(tmp_path):
    """What attach writes is other people's to open."""
    lake = lake_of(settings(f"file:{tmp_path / 'lake'}"))
    lake.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    lake.attach(tmp_path / "views.duckdb")
    lake.attach(tmp_path / "newer.duckdb", storage_version="v1.4.0")

    assert [version_of(tmp_path / name) for name in ("views.duckdb", "newer.duckdb")] == ["v1.2.0+", "v1.4.0+"]


@pytest.mark.parametrize("version", [None, "latest"])
def test_a_file_that_is_there_keeps_its_version(version, tmp_path):
    """It is neither raised nor lowered, and goes on as it is."""
    for file in (Path(shutil.copy(OLD_FILE, tmp_path)), begun(f"duckdb:{tmp_path / 'new.duckdb'}")):
        before = version_of(file)
        sink = destination_of(settings(f"duckdb:{file}", version))
        host = make.HOST if file.name == OLD_FILE.name else "https://a"
        sink.prepare(1, "events", host=host, event_filter=sink.origin(1, "events")[1], rebuild=False)
        sink.land([make.landing(5, 3)])

        assert version_of(file) == before
    assert version_of(tmp_path / OLD_FILE.name) == "v2.0.0+"


def test_copy_is_the_way_from_a_newer_file(tmp_path):
    """A file that only DuckDB 2 reads is copied into a new one for DuckDB 1.2, its rows and their proof the same."""
    old = DuckDBSink(Path(shutil.copy(OLD_FILE, tmp_path)))
    new = DuckDBSink(tmp_path / "new.duckdb")
    copying.copy(1, old, new)
    old_told, new_told = make.described(old), make.described(new)
    rejects = "SELECT * FROM hedgerow.quarantine ORDER BY ALL"
    with old.query(rejects) as one, new.query(rejects) as other:
        assert one.fetchall() == other.fetchall() != []

    assert (version_of(old.path), version_of(new.path)) == ("v2.0.0+", "v1.2.0+")
    assert new_told["rows"] == old_told["rows"]
    assert [entry["tally"] for entry in new_told["entries"]] == [entry["tally"] for entry in old_told["entries"]]


# --- the older programs themselves

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import duckdb
told = {"version": duckdb.__version__}
for file in sys.argv[2:]:
    with duckdb.connect(file, read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        (catalog,) = db.execute("SELECT current_database()").fetchone()
        tables = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = ? ORDER BY 1, 2"
        for schema, table in db.execute(tables, [catalog]).fetchall():
            rows = db.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{catalog}"."{schema}"."{table}"').fetchall()
            told[f"{file}: {schema}.{table}"] = sorted(map(str, rows))
print(json.dumps(told))
"""


@pytest.fixture(scope="module", params=OLDER)
def older(request) -> Path:
    """A directory of its own with an older DuckDB, from the package index that pip is configured for."""
    where = BUILD / f"duckdb-{request.param}"
    if not (where / "duckdb").is_dir():
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        command = [sys.executable, *install, "--target", f"{where}.new", f"duckdb=={request.param}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            pytest.fail(f"pip cannot install duckdb {request.param}:\n{done.stderr[-2_000:]}", pytrace=False)
        Path(f"{where}.new").rename(where)
    return where


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Path]:
    """Everything of ours that is a DuckDB database, written by the DuckDB that hedgerow has."""
    home = tmp_path_factory.mktemp("made")
    file = begun(f"duckdb:{home / 'posthog.duckdb'}")
    sink = DuckDBSink(file)
    sink.land([make.landing(0, 3_600), make.landing(1, 0), make.landing(2, 3, rejects=2)], mark=make.DAY)
    rows = make.pa.table({"project_id": [1], "raw": ['{"a": [1, 1.10]}'], "none": [None], "at": [make.DAY]})
    views = {"export_5": "SELECT * FROM export_1_5"}
    sink.replace("export_1_5", rows, version="", json=["raw"], views=views)
    with duckdb.connect(str(file)) as db:  # more than one row group, and texts that are worth a compression
        db.execute("INSERT INTO events SELECT e.* FROM events e, range(40)")
    old = DuckDBSink(Path(shutil.copy(OLD_FILE, home)))
    for name in ("copied.duckdb", "hedgerow.duckdb"):
        copying.copy(1, old, DuckDBSink(home / name))
    lake = stores.local_lake(home / "lake")
    copying.copy(1, old, lake)
    lake.attach(home / "views-before-a-journal.duckdb")
    lake.note([make.Note(entry, make.READ_AT, make.Damage()) for entry in lake.ledger(1, "events").entries.values()])
    lake.attach(home / "views.duckdb")
    left = home / "left.duckdb"
    shutil.copy(file, left)
    kill = (
        f"db = duckdb.connect({str(left)!r}); db.sql('INSERT INTO events SELECT * FROM events LIMIT 99'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", f"import duckdb, os; {kill}"], check=True, timeout=60)
    assert left.with_name("left.duckdb.wal").exists()
    names = ("posthog", "copied", "hedgerow", "views-before-a-journal", "views", "left")
    return [home / f"{name}.duckdb" for name in names]


def asked(where: Path, files: list[Path]) -> dict[str, object]:
    """What the DuckDB of *where* reads in *files*, as a program of its own."""
    command = [sys.executable, "-c", ASK, str(where), *map(str, files)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(BUILD)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.long
def test_older_duckdb_reads_every_table_and_view(older, made):
    """DuckDB 1.2 and 1.4 open the file, one that was killed, a copy, a file hedgerow.duckdb and views, and read the same."""
    expected, found = asked(Path("nowhere"), made), asked(older, made)
    versions = expected.pop("version"), found.pop("version")

    assert versions == (duckdb.__version__, older.name.removeprefix("duckdb-"))
    assert len(expected) > 40
    assert found == expected
