"""How a run ends: a full disk in the middle of it is told in words, and an error leaves nobody behind in the client."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from extractors.errors import SourceError, StateUnwritable
from extractors.pacing import Limit, Pacing
from extractors.queries import Bucket
from flows.spool import Spool
from sinks.errors import DestinationUnusable

ROWS = pa.table({"n": pa.array(range(20_000), pa.int64())})

# A real kernel refuses: no file may grow beyond the limit, as with a quota.
FULL = """
import resource, signal, sys
from pathlib import Path
import pyarrow as pa
from extractors.pacing import Limit, Pacing
from extractors.queries import Bucket
from flows.spool import Spool

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


STEPS = ["pathlib.Path.open", "os.chmod", "fcntl.flock", "pathlib.Path.write_text", "pathlib.Path.replace"]


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
