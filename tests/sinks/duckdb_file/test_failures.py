"""What can be wrong with a DuckDB file: a clear error, nothing damaged, and the next run goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from extractors.simulator.data.dataset import generate
from extractors.simulator.server import Simulator, serve
from sinks.duckdb_file.connection import DuckDBFile, transaction
from sinks.duckdb_file.sink import DuckDBSink
from sinks.errors import DestinationUnusable
from tests import program
from tests.flows.harness import UNLIMITED, landed, truth
from tests.program import HEDGEROW, surroundings

START, END, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
SYNC = (HEDGEROW, "sync", "--since", "2026-03-01", "--until", "2026-03-04")
DATASET = generate(events=9_000, start=START, end=END, seed=6)
FILE = "posthog.duckdb"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serve(DATASET, profile=UNLIMITED, now=lambda: NOW) as running:
        yield running


def run(
    simulator: Simulator, home: Path, command: Sequence[str] = SYNC, before: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = surroundings(
        home,
        POSTHOG_HOST=simulator.url,
        POSTHOG_PROJECT_ID="1",
        POSTHOG_PERSONAL_API_KEY=simulator.key,
        HEDGEROW_STATE_DIR=str(home / "state"),
    )
    if command[0] == HEDGEROW and before is None:
        return program.told(program.run(command[1:], home, environment))
    return subprocess.run(
        command, cwd=home, env=environment, preexec_fn=before, capture_output=True, text=True, timeout=120, check=False
    )


def unprivileged(command: Sequence[str]) -> Sequence[str]:
    """*command* under the permission bits, which root would not notice."""
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv ignores permission bits")
    return (setpriv, "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all", *command)


def assert_refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 12, done.stderr
    assert words.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def assert_whole(simulator: Simulator, home: Path) -> None:
    """The next run ends well and the table is the source's."""
    done = run(simulator, home)
    assert done.returncode == 0, done.stderr
    assert landed(DuckDBSink(home / FILE), START, END) == truth(DATASET.events, START, END)


def test_full_disk_ends_clearly_and_the_next_run_goes_on(simulator, tmp_path):
    """No more can be written after 700 kB: exit 12; with room again the table is whole."""
    limit = 700_000
    done = run(simulator, tmp_path, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))

    assert_refused(done, FILE)
    assert_whole(simulator, tmp_path)


def test_read_only_file_is_refused(simulator, tmp_path):
    """A file without write permission: exit 12, and it is as it was."""
    assert_whole(simulator, tmp_path)
    file = tmp_path / FILE
    before = file.read_bytes()
    file.chmod(0o444)
    done = run(simulator, tmp_path, unprivileged(SYNC))

    assert_refused(done, "permission")
    assert file.read_bytes() == before


def test_read_only_directory_is_refused(simulator, tmp_path):
    """A directory in which no file can be made: exit 12 and nothing in it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = run(simulator, tmp_path, unprivileged((*SYNC, "--destination", "duckdb:closed/a.duckdb")))

    assert_refused(done, "permission")
    assert not list(closed.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a letter to somebody, not a database\n" * 500, id="text"),
        pytest.param(b"SQLite format 3\x00" + bytes(8_000), id="another database"),
        pytest.param(bytes(20_000), id="zeros"),
    ],
)
def test_file_that_is_no_duckdb_database_is_refused_and_left(content, simulator, tmp_path):
    """Somebody else's file: exit 12, and not a byte of it is changed."""
    (tmp_path / FILE).write_bytes(content)
    done = run(simulator, tmp_path)

    assert_refused(done, FILE)
    assert (tmp_path / FILE).read_bytes() == content


def test_database_of_somebody_else_keeps_its_tables(simulator, tmp_path):
    """A DuckDB file with other tables is used beside them, none is touched."""
    with duckdb.connect(str(tmp_path / FILE)) as db:
        db.execute("CREATE TABLE mine AS SELECT 42 AS answer")

    assert_whole(simulator, tmp_path)
    with duckdb.connect(str(tmp_path / FILE), read_only=True) as db:
        assert db.execute("FROM mine").fetchall() == [(42,)]


def test_table_events_of_somebody_else_is_refused(simulator, tmp_path):
    """A table `events` that is not hedgerow's: exit 12 of sync and of check, and not a byte of the file is changed."""
    with duckdb.connect(str(tmp_path / FILE)) as db:
        db.execute("CREATE TABLE events AS SELECT 42 AS answer")
    before = (tmp_path / FILE).read_bytes()
    assert_refused(run(simulator, tmp_path), "a table or view events that is not hedgerow's")
    checked = run(simulator, tmp_path, (HEDGEROW, "check"))

    assert checked.returncode == 12
    assert "events that is not hedgerow's" in checked.stdout
    assert (tmp_path / FILE).read_bytes() == before


def test_newer_ledger_is_refused(simulator, tmp_path):
    """Written by a newer hedgerow: exit 12 and advice to upgrade."""
    assert_whole(simulator, tmp_path)
    with duckdb.connect(str(tmp_path / FILE)) as db:
        db.execute("UPDATE hedgerow.meta SET value = '99' WHERE key = 'format'")

    assert_refused(run(simulator, tmp_path), "upgrade hedgerow")


@pytest.mark.parametrize("lost", [0.5, 0.1], ids=["half", "a tenth"])
def test_truncated_file_is_refused(lost, simulator, tmp_path):
    """A file that lost its end, which DuckDB may open without a word: exit 12, not a byte is changed."""
    assert_whole(simulator, tmp_path)
    file = tmp_path / FILE
    size = file.stat().st_size
    rest = file.read_bytes()[: size - int(size * lost)]
    file.write_bytes(rest)
    done = run(simulator, tmp_path)

    assert_refused(done, "is cut short")
    assert file.read_bytes() == rest


def test_wal_left_by_a_kill_is_replayed(simulator, tmp_path):
    """Killed after a commit that was not checkpointed yet: what was committed is there, and the run goes on."""
    code = (
        "import duckdb, os, signal; db = duckdb.connect('posthog.duckdb');"
        "db.execute('PRAGMA disable_checkpoint_on_shutdown'); db.execute('CREATE TABLE mine AS SELECT 42 AS answer');"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    run(simulator, tmp_path, (sys.executable, "-c", code))
    assert (tmp_path / f"{FILE}.wal").exists()

    assert_whole(simulator, tmp_path)
    with duckdb.connect(str(tmp_path / FILE), read_only=True) as db:
        assert db.execute("FROM mine").fetchall() == [(42,)]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_waits_for_what_is_being_written(number, times, tmp_path):
    """It is committed first; then whoever listens hears of it, once, and as before."""
    file = DuckDBFile(tmp_path / "a.duckdb", lock_timeout_s=1, on_wait=print)
    heard: list[int] = []
    done: list[str] = []
    before = signal.signal(number, lambda *given: heard.append(len(done)))
    try:
        with file.open() as db, transaction(db):
            for _ in range(times):
                os.kill(os.getpid(), number)
            db.execute("CREATE TABLE a AS SELECT 42 AS b")
            done.append("written")
        with file.open(read_only=True) as db:
            os.kill(os.getpid(), number)
            rows = db.sql("FROM a").fetchall()
    finally:
        signal.signal(number, before)

    assert (heard, rows) == ([1, 1], [(42,)])


def test_created_files_are_the_users_alone(simulator, tmp_path):
    """Database, state and spool are created with 0600, directories with 0700."""
    assert_whole(simulator, tmp_path)

    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if not (tmp_path / path).is_dir()} == {0o600}, modes
    assert {mode for path, mode in modes.items() if (tmp_path / path).is_dir()} <= {0o700}, modes


def test_database_that_another_process_made_first_is_not_emptied(tmp_path, monkeypatch):
    """Two begin with the same new file: what the first has committed stays, whenever the second comes to make it."""
    path, connect = tmp_path / "a.duckdb", duckdb.connect
    first = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('CREATE TABLE mine AS SELECT 1 AS one')"

    def late(file: str, **more: object) -> duckdb.DuckDBPyConnection:
        if not path.exists():
            subprocess.run([sys.executable, "-c", first, str(path)], check=True)
        return connect(file, **more)

    monkeypatch.setattr(duckdb, "connect", late)
    with DuckDBFile(path, lock_timeout_s=30, on_wait=print).open() as db:
        assert db.execute("FROM mine").fetchall() == [(1,)]

    assert [file.name for file in tmp_path.iterdir()] == ["a.duckdb"]


def test_file_system_without_hard_links_is_used(tmp_path, monkeypatch):
    """There DuckDB makes the file itself."""
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    with DuckDBFile(tmp_path / "a.duckdb", lock_timeout_s=30, on_wait=print).open() as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS one")

    assert [file.name for file in tmp_path.iterdir()] == ["a.duckdb"]


def test_disk_that_cannot_keep_the_name_is_told(tmp_path, monkeypatch):
    """Before anything is landed, as the destination's error; the file is let go of."""
    file = DuckDBFile(tmp_path / "a.duckdb", lock_timeout_s=1, on_wait=print)
    with monkeypatch.context() as broken:
        broken.setattr("sinks.durable.sync", refuse(errno.EIO))
        with pytest.raises(DestinationUnusable, match="Input/output error"), file.open():
            raise AssertionError("not reached")

    subprocess.run([sys.executable, "-c", f"import duckdb; duckdb.connect({str(file.path)!r})"], check=True)


def refuse(number: int) -> Callable[..., None]:
    def refused(*given: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize(("blocks", "sound"), [(1, False), (0, True)])
def test_cut_is_seen_however_many_blocks_are_free(blocks, sound, tmp_path):
    """A file may be shorter than it once was, and still lack what is in use."""
    path = tmp_path / FILE
    DuckDBSink(path).prepare(1, "events", host="h", event_filter="", rebuild=False)
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE TABLE early AS SELECT md5(i::VARCHAR) AS a FROM range(100000) t(i)")
        db.execute("CHECKPOINT")
        db.execute("CREATE TABLE late AS SELECT md5(i::VARCHAR) AS a FROM range(100000) t(i)")
        db.execute("CHECKPOINT")
        db.execute("DROP TABLE early")
    rest = path.read_bytes()[: path.stat().st_size - blocks * 2**18]
    path.write_bytes(rest)

    with nullcontext() if sound else pytest.raises(DestinationUnusable, match="cut short"):
        DuckDBSink(path).check(1, "events", host="h", event_filter="")
    assert path.read_bytes() == rest
