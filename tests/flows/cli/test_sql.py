"""`hedgerow sql` as people and programs use it: a table that fits, rows as they come, JSON that is JSON."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from flows.report import rows, terminal
from tests.flows.cli.test_cli import HEDGEROW
from tests.program import Ended, surroundings

MOST = "SELECT range AS n, 'x' || range AS name FROM range(100)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a database that only `hedgerow sql` reads."""
    with duckdb.connect(str(tmp_path / "posthog.duckdb")) as db:
        db.execute("""CREATE TABLE mine AS SELECT '{"price": 1.10, "id": 123456789012345678901234567890}'::JSON AS j""")
    return tmp_path


@pytest.fixture
def sql(main, home) -> Callable[..., Ended]:
    """The command in this process, where no terminal is."""
    return lambda *arguments: main(["sql", *arguments], home, surroundings(home))


def on_terminal(home: Path, *arguments: str, columns: int = 100) -> tuple[list[str], str]:
    """What the command writes to a terminal so wide, as lines, and what it writes to stderr."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [HEDGEROW, "sql", *arguments],
        cwd=home,
        env=surroundings(home, COLUMNS=str(columns), TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                came = os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
            if not came:
                break
            said += came
        assert process.stderr
        notes = process.stderr.read()
    os.close(ours)
    return said.decode().replace("\r\n", "\n").splitlines(), notes


@pytest.mark.parametrize(
    ("more", "shown", "note"),
    [
        ((), 40, "of 100 rows; --limit N shows more, --csv and --jsonl give all"),
        (("--limit", "3"), 3, "of 100 rows"),
        (("--limit", "100"), 100, ""),
    ],
)
def test_a_terminal_gets_so_many_rows_and_the_count_of_all(more, shown, note, home):
    """40, or what --limit says; the count only where some are left out."""
    lines, notes = on_terminal(home, MOST, *more)

    assert len(lines) == shown + 4  # two lines above and below, and the names
    assert lines[3].split() == ["│", "0", "│", "x0", "│"]
    assert (note in notes) if note else not notes


def test_a_row_wider_than_the_terminal_is_a_record(home):
    """A line for each column, and no cell is cut."""
    lines, _ = on_terminal(home, f"SELECT 1 AS short, '{'w' * 90}' AS long, 2 AS two", columns=60)

    assert lines == ["── row 1 ──", "short  1", f"long   {'w' * 90}", "two    2"]


def test_a_pipe_gets_every_row(sql):
    """Where no terminal is, a table is whole, but for a limit that the user names."""
    whole, part = sql(MOST), sql(MOST, "--limit", "2")

    assert (len(whole.stdout.splitlines()), whole.stderr) == (104, "")
    assert (len(part.stdout.splitlines()), "of 100 rows" in part.stderr) == (6, True)


def test_numbers_stand_on_the_right(sql):
    """Of every kind of number; text, dates and lists stand on the left."""
    query = (
        "SELECT 1 AS a______, 2.5::DOUBLE AS b______, 1.10::DECIMAL(9, 2) AS c______, 7::UTINYINT AS d______, "
        "8::HUGEINT AS e______, 'x' AS f______, [1] AS g______"
    )
    line = sql(query).stdout.splitlines()[3]

    assert line == "│       1 │     2.5 │    1.10 │       7 │       8 │ x       │ [1]     │"


def test_json_columns_are_nested_to_the_digit(sql):
    """A JSON column is JSON in --json and --jsonl, its numbers as they are stored; text that looks like it stays text."""
    query = "SELECT j, j::VARCHAR AS t, NULL::JSON AS n FROM mine"
    array, line = sql(query, "--json"), sql(query, "--jsonl")
    nested = '"j": {"price": 1.10, "id": 123456789012345678901234567890}, "t": "{'

    assert nested in array.stdout
    assert nested in line.stdout
    (whole,) = json.loads(array.stdout)
    assert json.loads(line.stdout) == whole
    assert (whole["j"]["price"], type(whole["t"]), whole["n"]) == (1.1, str, None)


@pytest.mark.parametrize("text", ["NaN", '{"a": NaN}', "{", '"\x01"'])
def test_what_is_no_json_in_a_json_column_is_text(text, capsys):
    """Text that no JSON parser takes does not break the document."""
    columns = rows.Columns(("j",), (False,), (True,))
    rows.write_json(columns, [(text,)])

    assert json.loads(capsys.readouterr().out) == [{"j": text}]


def test_json_of_no_rows_and_of_lines(capsys):
    """No rows are an empty array and no line; JSON on several lines is on one in JSON Lines."""
    columns = rows.Columns(("j",), (False,), (True,))
    rows.write_json(columns, [])
    rows.write_json_lines(columns, [])
    assert json.loads(capsys.readouterr().out) == []

    rows.write_json_lines(columns, [('{\n"a":\r\n1}',)])
    assert capsys.readouterr().out.count("\n") == 1


def test_a_query_is_read_from_a_file_and_from_standard_input(sql, home, monkeypatch):
    """@FILE and -; a file's name alone says how it is run; a file that is none, too."""
    (home / "one.sql").write_text("SELECT 41 + 1 AS answer")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"SELECT 41 + 1 AS answer")))
    ends = [
        sql("@one.sql", "--csv"),
        sql("-", "--csv"),
        sql("one.sql"),
        sql("@two.sql"),
    ]

    assert [done.stdout.split() for done in ends[:2]] == [["answer", "42"]] * 2
    assert [done.returncode for done in ends] == [0, 0, 2, 2]
    assert "hedgerow sql @one.sql" in ends[2].stderr
    assert "cannot read two.sql" in ends[3].stderr


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])  # where Python hands on such bytes, and where it refuses them
@pytest.mark.parametrize(("query", "where"), [(b"-", "standard input"), (b"SELECT '\xff'", "the query")])
def test_a_query_that_is_no_text_is_refused(query, where, locale, home):
    """Bytes that are no UTF-8, on standard input and on the command line: a mistake of whoever asks (exit 2)."""
    done = subprocess.run(
        [HEDGEROW, "sql", query],
        cwd=home,
        env=surroundings(home, LC_ALL=locale),
        input=b"SELECT '\xff'",
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (2, f"hedgerow: cannot read {where}: not UTF-8")


@pytest.mark.parametrize("form", ["--csv", "--json", "--jsonl", "--parquet=a.parquet"])
def test_a_limit_of_what_programs_read_is_refused(form, sql):
    """No row is left out of a form that programs read: --limit is the table's, exit 2."""
    done = sql(MOST, "--limit", "2", form)

    assert (done.returncode, "x0" in done.stdout) == (2, False)
    assert "put LIMIT into the query" in done.stderr


def test_every_query_is_shown(sql, home):
    """As in DuckDB's own shell; what gives no rows is done, and shown only where nothing else is."""
    shown = sql("SELECT 1 AS one; SET threads = 1; CREATE TEMP TABLE x AS SELECT 2 AS two; FROM x")
    alone, broken = sql("CREATE TEMP TABLE x AS SELECT 2"), sql("SELECT 1 AS one; SELECT nothing")

    assert re.findall(r"\w+", shown.stdout) == ["one", "1", "two", "2"]
    assert re.findall(r"\w+", alone.stdout) == ["Count", "1"]
    assert (broken.returncode, "one" in broken.stdout, "nothing" in broken.stderr) == (2, True, True)


@pytest.mark.parametrize("form", ["--csv", "--json", "--jsonl", "--parquet=a.parquet"])
def test_programs_get_the_result_of_one_query(form, sql, home):
    """What goes before it is done; of two queries none is, exit 2."""
    one = sql("SET threads = 1; CREATE TEMP TABLE x AS SELECT 2 AS two; FROM x", form)
    two = sql("CREATE TEMP TABLE x AS SELECT 2 AS two; FROM x; FROM x", form)

    assert (one.returncode, two.returncode, "two" in two.stdout) == (0, 2, False), one.stderr
    assert two.stderr.startswith("hedgerow: 2 queries at once")
    assert "2" in one.stdout or duckdb.sql(f"FROM '{home / 'a.parquet'}'").fetchall() == [(2,)]


def test_csv_ends_its_lines_as_other_programs_do(sql):
    """With a line feed alone, and what is within a cell is left as it is."""
    assert sql("SELECT 1 AS a, 'x\r\ny' AS b", "--csv").stdout == 'a,b\n1,"x\r\ny"\n'


def test_lists_look_as_results_do(capsys):
    """One look: the tables of the demo, of sql and of the lists."""
    values = [(1, "x"), (20, None)]
    rows.show(rows.Columns(("n", "name"), (True, False), (False, False)), iter(values), limit=None)
    result = capsys.readouterr().out
    terminal.show_table(("n", "name"), values)

    assert capsys.readouterr().out == result


def test_lists_have_their_ids_whole(monkeypatch, capsys):
    """However narrow the terminal: they are copied into the next command. What is beside them is folded."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    uuid = "00000000-0000-4000-8000-000000000004"
    terminal.show_table(("id", "name"), [(uuid, "x" * 40)])
    said = capsys.readouterr().out

    assert uuid in said
    assert (said.count("x"), "x" * 40 in said) == (40, False)


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_rows_are_written_as_they_come(form, home):
    """Eight times as many rows take no more memory: 50 MB of them in less than 25 MB more."""
    query = "SELECT range AS n, repeat('x', 1000) AS text FROM range({})"
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", PEAK, HEDGEROW, "sql", query.format(count), form],
                cwd=home,
                env=surroundings(home),
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            ).stdout
        )
        for count in (6_000, 48_000)
    ]

    assert peaks[1] - peaks[0] < 25, peaks
