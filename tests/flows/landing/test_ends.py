"""How a run ends: a full disk in the middle of it is told in words, and an error leaves nobody behind in the client."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from extractors.errors import SourceError, StateUnwritable, Stopped
from extractors.filters import EventFilter
from extractors.http.pacing import Limit, Pacing
from extractors.request import Bucket, events_page
from extractors.window import Range
from flows.landing import pipeline
from flows.landing.ahead import Joining, ahead
from flows.landing.outcome import Log
from flows.landing.session import STREAM, Listener, Order, Session
from flows.landing.spool import Spool
from sinks.entries import Entry, Landing
from sinks.errors import DestinationUnusable, GenerationConflict
from sinks.memory import MemorySink
from tests.extractors.pages import Pages, budget_of, reader_of, spread

START, END, NOW = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
EACH: Joining[Any, Any] = Joining(lambda held: held[0], lambda item: 1, 1)  # each by itself
ROWS = pa.table({"n": pa.array(range(20_000), pa.int64())})

# A real kernel refuses: no file may grow beyond the limit, as with a quota.
FULL = """
import resource, signal, sys
from pathlib import Path
import pyarrow as pa
from extractors.http.pacing import Limit, Pacing
from extractors.request import Bucket
from flows.landing.spool import Spool

directory, work = Path(sys.argv[1]), sys.argv[2]
table = pa.table({"n": pa.array(range(20_000), pa.int64())})
pace = Pacing(directory, host="h", key="k", limits=dict.fromkeys(Bucket, Limit(10_000, 10_000)))
with pace.turn(Bucket.LIST, 1):
    pass
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
if work == "state":
    for _ in range(50):
        with pace.turn(Bucket.LIST, 1):
            pass
bounds = {"append": 1000, "take": 10**6}
with Spool(directory, table.schema, max_memory_bytes=bounds[work]) as spool:
    spool.append(table.slice(0, 100) if work == "take" else table)
    if work == "take":
        spool._spill()
        spool.take()
"""


def full_disk(directory: Path, work: str) -> str:
    """The last line that a process with no room left for *work* writes."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(directory), work], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("work", ["append", "take"])
def test_full_disk_under_the_spool_is_told_as_one(work, tmp_path):
    """While rows are spilled and while the rest of them is written: the destination's error, naming the directory."""
    told = full_disk(tmp_path, work)

    assert told.startswith(f"sinks.errors.DestinationUnusable: cannot keep rows in {tmp_path}: File too large")


def test_full_disk_under_the_limits_file_is_told_as_one(tmp_path):
    """In the middle of a run, when the times of requests cannot be written down any more: no request goes out."""
    told = full_disk(tmp_path, "state")

    assert told.startswith(
        f"extractors.errors.StateUnwritable: cannot write the state directory {tmp_path}: File too large"
    )


NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO]


def refusing(number: int):
    def refused(*args: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


def spooled(directory: Path) -> pa.Table:
    """More rows than the memory's share, through the disk."""
    with Spool(directory, ROWS.schema, max_memory_bytes=1000) as spool:
        spool.append(ROWS)
        return spool.take()


def test_rows_wait_beside_the_destination_and_nowhere_else(tmp_path, monkeypatch):
    """The system's place for temporary files, which may be memory or full, gets none of them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    assert spooled(tmp_path).equals(ROWS)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize(
    "step", ["tempfile.TemporaryFile", "pyarrow.ipc.new_file", "mmap.mmap", "pyarrow.ipc.open_file"]
)
def test_every_step_of_the_spool_speaks_of_the_destination(step, number, tmp_path, monkeypatch):
    """Creating, writing and mapping; the remedy names the directory, and leaving the spool hides nothing."""
    monkeypatch.setattr(step, refusing(number))

    with pytest.raises(DestinationUnusable, match=os.strerror(number)) as raised:
        spooled(tmp_path)

    assert str(tmp_path) in str(raised.value)
    assert "free space" in raised.value.hint


def test_where_to_keep_rows_can_be_chosen_is_said(tmp_path, monkeypatch):
    """TMPDIR is named where it decides, and not where the destination does."""
    monkeypatch.setattr("tempfile.TemporaryFile", refusing(errno.ENOSPC))
    hints = []
    for directory in (tmp_path / "beside", Path("/tmp")):
        monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
        with pytest.raises(DestinationUnusable) as raised:
            spooled(directory)
        hints.append("TMPDIR" in raised.value.hint)

    assert hints == [False, True]


STEPS = ["os.open", "fcntl.flock", "pathlib.Path.replace"]


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=lambda number: errno.errorcode[number]
)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("bucket", [Bucket.LIST, Bucket.QUERY], ids=["with slots", "without"])
def test_every_step_of_the_limits_file_names_its_directory(bucket, step, number, tmp_path, monkeypatch):
    """The source is not asked without its request being written down, and the remedy is the variable to set."""
    pace = Pacing(tmp_path, host="h", key="k", limits=dict.fromkeys(Bucket, Limit(9, 9)))
    monkeypatch.setattr(step, refusing(number))

    with pytest.raises(StateUnwritable, match=os.strerror(number)) as raised, pace.turn(bucket, 1):
        raise AssertionError("not reached")

    assert isinstance(raised.value, SourceError)
    assert not raised.value.transient
    assert str(tmp_path) in str(raised.value)
    assert "HEDGEROW_STATE_DIR" in raised.value.hint


def test_error_of_the_work_itself_is_not_taken_for_the_state(tmp_path):
    """An OSError of what is done with the turn stays what it is."""
    pace = Pacing(tmp_path, host="h", key="k", limits=dict.fromkeys(Bucket, Limit(9, 9)))

    with pytest.raises(FileNotFoundError), pace.turn(Bucket.LIST, 1):
        (tmp_path / "missing").read_text()


HELD = 5  # the four answers before it are enough for the first windows to land


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


class Crossed(MemorySink):
    """Another run lands the first window between its reading and its landing, once, while *asking* is awaited."""

    def __init__(self, asking: Callable[[], object]) -> None:
        super().__init__()
        self.conflicts = 0
        self._asking = asking

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        if not self.conflicts:
            self.conflicts += 1
            self._asking()
            raise GenerationConflict("the first", expected=0, found=1)
        return super().land(landings, mark=mark)


def test_second_attempt_after_a_conflict_is_alone_in_the_client(tmp_path, monkeypatch):
    """The reading thread of the first attempt is gone before the second asks, also when it waits for an answer.

    The answer to one request is held until the conflict is there, and a while longer.
    """
    monkeypatch.setattr("flows.landing.ahead.JOINED_S", 0.0)  # a page at a time, so that the reader is still at work
    pages = Pages(spread(1_000, START, END), cap=50)
    asked, answered = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        if number == HELD:
            asked.set()
            assert answered.wait(20)

    def conflict_comes() -> None:
        assert asked.wait(20)
        threading.Timer(0.3, answered.set).start()

    pages.before_answer = hold
    sink, reader = Crossed(conflict_comes), reader_of(pages, tmp_path)
    sink.prepare(1, STREAM, host="h", event_filter="", rebuild=False)
    threads: list[list[threading.Thread]] = []
    order = Order(1, START, END, timedelta(minutes=10), marks=True)
    listener = Listener(committed=lambda committed: threads.append(readers()))
    pipeline.run(Session(order, sink, tmp_path, lambda: NOW, listener), reader, Log())

    assert sink.conflicts == 1
    assert pages.most_in_flight == 1
    assert sink.rows(1, START, END).num_rows == 1_000
    assert max(map(len, threads)) == 1
    assert readers() == []


def test_wait_of_an_hour_ends_with_the_run(tmp_path):
    """An error here ends the other thread's wait within a second; then the same client can be used again."""
    reader = reader_of(Pages(spread(10, START, END)), tmp_path, budget=(budget := budget_of(tmp_path)))
    waiting = threading.Event()
    budget._on_wait = lambda wait: waiting.set()
    budget.block(Bucket.LIST, 3600)
    begun = time.monotonic()
    watchdog = threading.Timer(5, budget._stopped.set)
    watchdog.start()

    def fail_while_it_waits() -> None:
        whole = reader.sweep(Range(START, END), window_end=lambda at: END)
        with ahead(whole, EACH, interrupted=reader.interrupted):
            assert waiting.wait(10)
            raise GenerationConflict("a", expected=0, found=1)

    with pytest.raises(GenerationConflict):
        fail_while_it_waits()

    watchdog.cancel()
    assert time.monotonic() - begun < 1
    assert readers() == []
    assert budget.waited_s < 1
    with budget.turn(Bucket.QUERY, 1):
        pass


def test_wait_for_a_slot_and_after_a_500_end_too(tmp_path):
    """Every sleep, however it came about."""
    reader = reader_of(Pages([]), tmp_path, budget=(budget := budget_of(tmp_path)))
    client = reader._client

    def slot() -> None:
        with budget.turn(Bucket.LIST, 1):
            pass

    def again() -> None:
        client.wait(3600, SourceError("a bare 500"))
        client.send(events_page(1, Range(START, END), limit=1, events=EventFilter()))

    with budget_of(tmp_path).turn(Bucket.LIST, 1, alone=True), ThreadPoolExecutor() as pool:
        for work in (slot, again):
            ended = pool.submit(work)
            time.sleep(0.1)
            with reader.interrupted():
                assert ended in wait([ended], timeout=5).done
            assert isinstance(ended.exception(), Stopped)


def test_iteration_to_the_end_leaves_no_thread(tmp_path):
    """Nor does leaving it without an error."""
    reader = reader_of(Pages(spread(500, START, END), cap=50), tmp_path)
    whole = reader.sweep(Range(START, END), window_end=lambda at: END)
    with ahead(whole, EACH, interrupted=reader.interrupted) as passages:
        rows = sum(passage.rows.num_rows for passage in passages)
    assert (rows, readers()) == (500, [])

    whole = reader.sweep(Range(START, END), window_end=lambda at: END)
    with ahead(whole, EACH, interrupted=reader.interrupted) as passages:
        next(passages)
    assert readers() == []


def test_spool_weighs_what_is_on_disk_as_well(tmp_path):
    """A date of large events is cut finer by the bytes of all that was read, wherever they wait."""
    table = pa.table({"a": ["x" * 100] * 50})
    with Spool(tmp_path, table.schema, max_memory_bytes=table.nbytes * 2) as spool:
        for _ in range(7):
            spool.append(table)
        weighed = spool.num_bytes, spool.num_rows
        spool.take()

        assert weighed == (7 * table.nbytes, 350)
        assert (spool.num_bytes, spool.num_rows) == (0, 0)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_interrupted_run_waits_for_nobody(end, tmp_path):
    """Ctrl-C must not wait for an answer that does not come."""
    answered = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        answered.wait(30)

    def interrupted_after_one() -> None:
        with ahead(items(), EACH, interrupted=nullcontext) as read:
            next(read)
            raise end

    with pytest.raises(end):
        interrupted_after_one()

    assert len(readers()) == 1
    answered.set()
    readers()[0].join(timeout=5)
