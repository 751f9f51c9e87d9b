"""What commands write, as a user has it: files that are not to be lost, JSON that a parser takes, terminals that stay calm."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from extractors.simulator.data.dataset import generate
from extractors.simulator.server import Simulator, serve
from flows.cli import demo
from flows.report import terminal
from flows.settings.parse import SettingsError
from sinks.memory import MemorySink
from tests import stores
from tests.flows.cli.test_cli import END, START, environment
from tests.flows.harness import UNLIMITED, sync
from tests.program import HEDGEROW, run, surroundings

DEMO = "21,500 of 21,500"


def hedgerow(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return run(arguments, home, surroundings(home, **more))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a database that only `hedgerow sql` reads."""
    with duckdb.connect(str(tmp_path / "posthog.duckdb")) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS one")
    return tmp_path


OUTPUTS = [
    pytest.param("sql", "SELECT 1", "--parquet", "posthog.duckdb", id="parquet"),
    pytest.param("sql", "SELECT 1", "--parquet", "./sub/../posthog.duckdb", id="by another path"),
    pytest.param("sql", "SELECT 1", "--parquet", "link.duckdb", id="by a link"),
    pytest.param("sql", "SELECT 1", "--parquet", "posthog.duckdb.wal", id="its log"),
    pytest.param("status", "--html", "posthog.duckdb", id="page"),
]


@pytest.mark.parametrize("arguments", [case.values for case in OUTPUTS], ids=[case.id for case in OUTPUTS])
def test_output_never_replaces_the_destination(arguments, home):
    """An output that is the destination's file, or its log, is exit 2 and nothing is written."""
    (home / "sub").mkdir()
    (home / "link.duckdb").symlink_to("posthog.duckdb")
    before = (home / "posthog.duckdb").read_bytes()
    done = hedgerow(home, *arguments)

    assert (done.returncode, b"is the destination itself" in done.stderr) == (2, True), done.stderr
    assert (home / "posthog.duckdb").read_bytes() == before
    assert {file.name for file in home.iterdir()} == {"posthog.duckdb", "sub", "link.duckdb"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param("SELECT nothing", b"nothing", id="failing query"),
        pytest.param("SELECT 1 AS a, INTERVAL 1 DAY AS span", b"no type for span (", id="type that Parquet has not"),
    ],
)
def test_parquet_that_cannot_be_written_leaves_the_old_file(query, words, home):
    """Exit 2 in at most two lines, and what was there before is there still, alone."""
    (home / "a.parquet").write_text("old")
    done = hedgerow(home, "sql", query, "--parquet", "a.parquet")

    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert (home / "a.parquet").read_text() == "old"
    assert {file.name for file in home.iterdir()} == {"posthog.duckdb", "a.parquet"}


def test_parquet_is_written_without_a_warning(home):
    """Nothing but what was written is said."""
    done = hedgerow(home, "sql", "SELECT 1 AS a, 2 AS a", "--parquet", "a.parquet")

    assert (done.returncode, done.stderr.decode()) == (0, "1 row written to a.parquet\n")
    assert duckdb.sql(f"SELECT a, a_2 FROM '{home / 'a.parquet'}'").fetchall() == [(1, 2)]


def test_demo_leaves_a_file_of_the_user(tmp_path):
    """A database that no demo made is refused by name and stays as it is."""
    with duckdb.connect(str(tmp_path / "mine.duckdb")) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS one")

    with pytest.raises(SettingsError, match=r"mine.duckdb is there, and hedgerow demo did not make it"):
        demo._make_way(tmp_path / "mine.duckdb")

    with duckdb.connect(str(tmp_path / "mine.duckdb")) as db:
        assert db.execute("FROM mine").fetchall() == [(1,)]


def test_demo_sees_one_letter_that_differs(tmp_path):
    """Its comparison is of every column: equal what was landed, unequal a source that has changed since."""
    dataset, sink = generate(events=20, start=demo.START, end=demo.END), MemorySink()
    with serve(dataset, profile=UNLIMITED, now=lambda: demo.END + timedelta(days=1)) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=demo.START, until=demo.END)
    assert demo.equal(dataset, sink)

    changed = dataset.events[7]
    dataset.delete([changed.uuid])
    dataset.add([replace(changed, distinct_id=f"{changed.distinct_id}.")])
    assert not demo.equal(dataset, sink)


@pytest.mark.long
def test_demo_replaces_only_what_a_demo_made(tmp_path):
    """A text, a database, and events of another place stay as they are (exit 2); an older demo's file is replaced."""
    made = tmp_path / "demo.duckdb"
    assert hedgerow(tmp_path, "demo", "-q").returncode == 0
    (tmp_path / "notes.txt").write_text("notes")
    with duckdb.connect(str(tmp_path / "mine.duckdb")) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS one")
    for name, statement in (
        ("cloud.duckdb", "UPDATE hedgerow.meta SET value = 'https://us.posthog.com' WHERE key = 'host:1'"),
        ("longer.duckdb", "UPDATE hedgerow.windows SET window_end = '2026-02-01' WHERE window_start = '2026-01-07'"),
    ):
        shutil.copy(made, tmp_path / name)
        with duckdb.connect(str(tmp_path / name)) as db:
            db.execute(statement)
    others = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file() and file != made}
    refused = [hedgerow(tmp_path, "demo", "-q", "--output", file.name) for file in others]
    again = hedgerow(tmp_path, "demo", "-q")

    assert len(others) == 4
    assert [done.returncode for done in refused] == [2] * 4
    assert all(b"hedgerow demo --output FILE" in done.stderr for done in refused)
    assert {file: file.read_bytes() for file in others} == others
    assert (again.returncode, DEMO in again.stdout.decode()) == (0, True)


def test_demo_needs_none_of_the_users_settings(tmp_path):
    """Neither variables nor a hedgerow.toml that are no good keep the demo from ending well."""
    (tmp_path / "hedgerow.toml").write_text("[sauce]\n")
    done = hedgerow(tmp_path, "demo", "-q", POSTHOG_HOST="us.posthog.com", HEDGEROW_DESTINATON="duckdb:a.duckdb")

    assert (done.returncode, DEMO in done.stdout.decode()) == (0, True), done.stderr


@pytest.mark.parametrize("destination", ["duckdb:posthog.duckdb", "file:lake"])
def test_time_without_a_zone_gets_none(destination, home):
    """A TIMESTAMP is as DuckDB has it wherever the machine stands; a TIMESTAMPTZ is in UTC, and so are dates and texts."""
    query = "SELECT TIMESTAMP '2026-01-01 12:00:00' AS a, TIMESTAMPTZ '2026-01-01 02:00:00+00' AS b, b::VARCHAR AS c"
    stores.local_lake(home / "lake").prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    done = hedgerow(home, "sql", query, "--json", TZ="America/New_York", HEDGEROW_DESTINATION=destination)

    assert json.loads(done.stdout) == [
        {"a": "2026-01-01T12:00:00", "b": "2026-01-01T02:00:00Z", "c": "2026-01-01 02:00:00+00"}
    ]


NESTED = [
    pytest.param("[1.5, 'nan'::DOUBLE, 'inf'::DOUBLE]", [1.5, None, None], id="no numbers in a list"),
    pytest.param("{'a': '-inf'::DOUBLE}", {"a": None}, id="no number in a struct"),
    pytest.param("['ab'::BLOB]", ["6162"], id="bytes in a list"),
    pytest.param("map {DATE '2024-01-01': 1}", {"2024-01-01": 1}, id="dates as keys"),
    pytest.param("map {1: TIMESTAMP '2024-01-01'}", {"1": "2024-01-01T00:00:00"}, id="numbers as keys"),
    pytest.param("map {'ab'::BLOB: true}", {"6162": True}, id="bytes as keys"),
]


@pytest.mark.parametrize(("value", "expected"), NESTED)
def test_json_is_json_in_every_depth(value, expected, home):
    """What JSON cannot say is null or text, inside lists, structs and maps too."""

    def refused(text: str) -> None:
        raise ValueError(text)

    done = hedgerow(home, "sql", f"SELECT {value} AS v", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout, parse_constant=refused) == [{"v": expected}]


READERS = [
    pytest.param(("sql", "FROM range(300000)", "--csv"), 1, id="csv"),
    pytest.param(("sql", "FROM range(100000)", "--json"), 1, id="json"),
    pytest.param(("sql", "FROM range(3000)"), 1, id="table"),
    pytest.param(("sql", "SELECT 1", "--csv"), 0, id="small, and nobody reads"),
    pytest.param(("settings",), 0, id="small table, and nobody reads"),
    pytest.param(("--help",), 0, id="help, and nobody reads"),
]


@pytest.mark.parametrize(("arguments", "lines"), READERS)
def test_reader_that_has_gone_is_no_error(arguments, lines, home):
    """`| head -1`: exit 0, and not a word."""
    with subprocess.Popen(
        [HEDGEROW, *arguments],
        cwd=home,
        env=surroundings(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_any_text_is_printed_whatever_the_encoding(encoding, home):
    """A terminal that claims to know few letters gets UTF-8, and no command ends for it."""
    done = [
        hedgerow(home, "sql", "SELECT 'naïve 日本 🦔' AS v", *form, PYTHONIOENCODING=encoding)
        for form in ((), ("--csv",), ("--json",))
    ]

    assert [(one.returncode, "naïve 日本 🦔" in one.stdout.decode()) for one in done] == [(0, True)] * 3


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202etxt\r"
SPELLED = "\\x1b]0;owned\\x07\\x9b31m\\u202etxt\\r"


def test_terminal_gets_no_commands_out_of_data(home, capsys):
    """Control characters of event names are spelled out in tables, results, notes and errors; emoji and codes stay."""
    table = hedgerow(home, "sql", f"SELECT '{HOSTILE}' AS \"a{HOSTILE}\", ':heart: 👩‍💻' AS b")
    error = hedgerow(home, "sql", f'SELECT * FROM "{HOSTILE}"')
    terminal.say(HOSTILE)
    terminal.note(HOSTILE)
    said = capsys.readouterr()

    assert table.stdout.decode().count(SPELLED) == 2
    assert ":heart: 👩‍💻" in table.stdout.decode()
    assert (error.returncode, SPELLED in error.stderr.decode()) == (2, True)
    assert (said.out, said.err) == (SPELLED + "\n", SPELLED + "\n")
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(table.stdout.decode() + error.stderr.decode())


def test_csv_header_is_no_formula(home):
    """The name of a column is made as harmless for a spreadsheet as its cells."""
    done = hedgerow(home, "sql", "SELECT '=1+1' AS \"=cmd()\"", "--csv")

    assert list(csv.reader(io.StringIO(done.stdout.decode()))) == [["'=cmd()"], ["'=1+1"]]


def test_table_in_a_file_is_whole(home):
    """Where no terminal limits the width, no cell is cut or folded."""
    columns = ", ".join(f"repeat('{letter}', 60) AS {letter}" for letter in "abcde")
    done = hedgerow(home, "sql", f"SELECT {columns}")

    assert "…" not in done.stdout.decode()
    assert [line.split() for line in done.stdout.decode().splitlines() if "aaa" in line] == [
        ["│", *(part for letter in "abcde" for part in (letter * 60, "│"))]
    ]


def test_list_in_a_file_is_whole(capsys):
    """The same holds for lists of exports, evaluations and settings."""
    terminal.show_table(["a", "b"], [["a" * 90, "b" * 90]])

    (line,) = (line for line in capsys.readouterr().out.splitlines() if "aaa" in line)
    assert ("a" * 90 in line, "b" * 90 in line) == (True, True)


@pytest.mark.parametrize("arguments", [(), ("events",)], ids=["hedgerow", "group"])
def test_command_alone_prints_its_help(arguments, home):
    """The help as --help has it, on stdout, and exit 2."""
    alone, asked = hedgerow(home, *arguments), hedgerow(home, *arguments, "--help")

    assert (alone.returncode, alone.stderr) == (2, b"")
    assert alone.stdout.strip() == asked.stdout.strip()


@pytest.mark.parametrize("command", ["plan", "status", "settings", "sql"])
def test_quiet_is_explained_where_the_output_is_the_result(command, home):
    """-q hides no result, and the help says so."""
    asked = " ".join(hedgerow(home, command, "--help", COLUMNS="120").stdout.decode().split())

    assert "No notes; the output is the result and is printed all the same." in asked


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serve(generate(events=50, start=START, end=END, seed=1), profile=UNLIMITED) as running:
        yield running


@pytest.mark.parametrize("command", ["check", "plan"])
def test_files_are_the_users_alone_whatever_runs_first(command, simulator, tmp_path):
    """Locks and state files are 0600 also where no sync has run before."""
    old = os.umask(0o022)
    try:
        done = run([command], tmp_path, environment(simulator, tmp_path))
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").rglob("*") if file.is_file()}

    assert (done.returncode, modes) == (0, {0o600}), done.stderr
