"""A file that a run holds stays open between its uses, others get in all the same, and small windows share a commit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sinks import errors
from sinks.duckdb_file import connection, keeping
from sinks.duckdb_file import sink as sink_module
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Landing
from tests.sinks.test_conformance import DAY, HOUR, landing

PLAIN = """
import duckdb, sys, time
while True:
    try:
        duckdb.connect(sys.argv[1]).close()
        break
    except duckdb.IOException:
        time.sleep(0.02)
"""
OURS = """
import sys
from pathlib import Path
from typing import Any
from sinks.duckdb_file.sink import DuckDBSink
DuckDBSink(Path(sys.argv[1]), lock_timeout_s=60).save(1, "events", 7)
"""


@pytest.fixture
def sink(tmp_path) -> DuckDBSink:
    made = DuckDBSink(tmp_path / "a.duckdb", lock_timeout_s=60)
    made.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    return made


@pytest.fixture
def opened(monkeypatch) -> list[bool]:
    """One for every time that a file is opened: whether for reading only."""
    times: list[bool] = []
    really = connection._connected

    def counted(path: Path, *, read_only: bool, config: Any) -> duckdb.DuckDBPyConnection:
        times.append(read_only)
        return really(path, read_only=read_only, config=config)

    monkeypatch.setattr(connection, "_connected", counted)
    return times


@contextmanager
def other(program: str, sink: DuckDBSink) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that wants the file."""
    with subprocess.Popen([sys.executable, "-c", program, str(sink.path)], stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def gets_in(process: subprocess.Popen[bytes], *, within_s: float = 10) -> bool:
    """Whether the other process has had the file."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode == 0


def used_until(done: Callable[[], bool], sink: DuckDBSink, *, within_s: float) -> float:
    """Use the file without a pause until *done*; how many seconds that took."""
    begun = time.monotonic()
    while not done():
        sink.save(1, "events", 1)
        assert time.monotonic() - begun < within_s, "nobody else gets in"
    return time.monotonic() - begun


def test_uses_that_follow_one_another_share_a_connection(sink, opened):
    """Reading and writing; without a run that holds the file each use opens and closes."""
    with sink.held():
        sink.land([landing("a")])
        sink.ledger(1, "events")
        sink.save(1, "events", 3)
    assert opened == [False]

    sink.save(1, "events", 4)
    sink.ledger(1, "events")
    assert opened == [False, False, True]
    assert sorted(path.name for path in sink.path.parent.iterdir()) == ["a.duckdb"]


def test_file_is_free_once_nobody_holds_it(sink):
    """At once, however the block ends; DuckDB refuses a reader beside a writer."""
    with suppress(ZeroDivisionError), sink.held():
        sink.save(1, "events", 1)
        sink.save(1, "events", 1 // 0)

    duckdb.connect(str(sink.path), read_only=True).close()


def test_idle_file_is_closed(sink):
    """While the source is waited for, whoever wants the file has it."""
    with sink.held():
        sink.save(1, "events", 1)
        with other(PLAIN, sink) as process:
            assert gets_in(process)


def test_hedgerow_that_waits_gets_in_between_uses(sink):
    """It leaves a sign, which the holder sees; nothing is left of it afterwards."""
    with sink.held(), other(OURS, sink) as process:
        assert used_until(lambda: process.poll() is not None, sink, within_s=keeping.OPEN_S) < keeping.OPEN_S
        assert process.returncode == 0
    assert sorted(path.name for path in sink.path.parent.iterdir()) == ["a.duckdb"]


def test_other_programs_get_in_now_and_then(sink, monkeypatch):
    """A plain connection that is tried again and again, during uses without a pause."""
    monkeypatch.setattr(keeping, "OPEN_S", 1.0)
    with sink.held(), other(PLAIN, sink) as process:
        used_until(lambda: process.poll() is not None, sink, within_s=10)
        assert process.returncode == 0


@pytest.mark.long
@pytest.mark.timeout(120)
def test_everybody_gets_in_within_a_minute(sink):
    """A run without a pause, another hedgerow, and then a plain connection that is tried again and again."""
    with sink.held():
        for program in (OURS, PLAIN):
            with other(program, sink) as process:
                used_until(lambda process=process: process.poll() is not None, sink, within_s=60)
                assert process.returncode == 0


def test_sign_of_a_killed_process_is_no_wish(sink, opened):
    """A lock that died with its holder keeps nobody from going on."""
    keeping._sign(sink.path).touch()
    with sink.held():
        sink.save(1, "events", 1)
        sink.save(1, "events", 2)

    assert opened == [False]
    assert not keeping._sign(sink.path).exists()


def test_use_that_failed_leaves_no_connection(sink, opened):
    """DuckDB may be of no use after an error."""
    with sink.held():
        with pytest.raises(errors.DestinationUnusable), sink._file.open() as db:
            db.execute("SELECT * FROM nothing")
        sink.save(1, "events", 1)

    assert opened == [False, False]


# --- small windows share a commit


def hour(number: int, *names: str) -> Landing:
    """A landing of a window of that date."""
    made, by = landing(*names, first=60 * number), timedelta(hours=number)
    at = {name: getattr(made.entry, name) + by for name in ("start", "end", "covered_start", "covered_end")}
    return replace(made, entry=replace(made.entry, **at), replace_start=DAY + by)


@pytest.fixture
def commits(monkeypatch) -> list[int]:
    """One for every transaction."""
    begun: list[int] = []
    really = sink_module.transaction
    monkeypatch.setattr(sink_module, "transaction", lambda db: (begun.append(1), really(db))[1])
    return begun


def starts(hours: list[int]) -> list[object]:
    return [DAY + number * HOUR for number in hours]


@pytest.mark.parametrize(("most", "expected"), [(50_000, 1), (4, 2), (1, 3)])
def test_small_windows_share_a_commit(most, expected, sink, commits, monkeypatch):
    """Up to so many rows together, one window at least."""
    monkeypatch.setattr("sinks.sink.SHARED_ROWS", most)
    landed = sink.land([hour(0, "a", "b"), hour(1, "c", "d"), hour(2, "e")])

    assert len(commits) == expected
    assert [entry.start for entry in landed] == starts([0, 1, 2])
    assert sorted(sink.ledger(1, "events").entries) == starts([0, 1, 2])
    assert sink.rows(1, DAY, DAY + 3 * HOUR).num_rows == 5


def test_refused_window_is_left_out_of_its_commit(sink):
    """Another run was faster with one of three: the two others are landed, nothing of it is, and the error says so."""
    sink.land([hour(1, "theirs")])
    with pytest.raises(errors.GenerationConflict) as raised:
        sink.land([hour(0, "a"), hour(1, "ours"), hour(2, "b")], mark=DAY + 3 * HOUR)

    assert [entry.start for entry in raised.value.landed] == starts([0, 2])
    assert sink.rows(1, DAY, DAY + 3 * HOUR)["event"].to_pylist() == ["a", "theirs", "b"]
    assert sink.ledger(1, "events").marks == ()


def test_date_cut_otherwise_is_refused_before_anything_is_written(sink):
    """The refusal comes from the date's step: no row of the window stays in the commit of the others."""
    with pytest.raises(errors.GenerationConflict, match="step"):
        sink.land([hour(0, "a"), replace(hour(1, "b"), step=timedelta(minutes=15))])

    assert sink.rows(1, DAY, DAY + 3 * HOUR)["event"].to_pylist() == ["a"]


def test_failure_of_a_shared_commit_is_of_one_window(sink):
    """Rows that the ledger does not know stop their window; those before it are landed, those after it are not."""
    with duckdb.connect(str(sink.path)) as db:
        db.execute(
            "INSERT INTO events (project_id, uuid, event, distinct_id, properties, elements_chain, timestamp, _loaded_at) "
            "VALUES (1, uuid(), 'e', 'd', '{}', '', TIMESTAMPTZ '2026-01-31 01:30:00+00', now())"
        )
    with pytest.raises(errors.DestinationUnusable, match="does not know") as raised:
        sink.land([hour(0, "a"), hour(1, "b"), hour(2, "c")], mark=DAY + 3 * HOUR)

    assert [entry.start for entry in raised.value.landed] == starts([0])
    assert sorted(sink.ledger(1, "events").entries) == starts([0])


def test_killed_commit_of_several_windows_leaves_none(sink, tmp_path):
    """All or nothing, rows and ledger, also where the process dies between the windows of one commit."""
    program = (
        "import os, signal, sys; from pathlib import Path; from sinks.duckdb_file import sink as module; "
        "from tests.sinks.duckdb_file.test_keeping import hour; really, done = module.land_window, []\n"
        "def land(db, landing):\n"
        "    done.append(1)\n"
        "    if len(done) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return really(db, landing)\n"
        "module.land_window = land\n"
        "module.DuckDBSink(Path(sys.argv[1])).land([hour(0, 'a'), hour(1, 'b'), hour(2, 'c')])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(sink.path)], check=False, cwd=Path.cwd())

    assert done.returncode == -9
    assert sink.ledger(1, "events").entries == {}
    assert sink.rows(1, DAY, DAY + 3 * HOUR).num_rows == 0
