"""Opening a DuckDB file: bounds for writing, its lock, Ctrl-C, and DuckDB's errors in our terms.

DuckDB 2.0 locks the whole file for one writing process (facts/stack.md §3), so the file is open only while it is used, or
held for uses that follow one another (keeping); a busy file is tried again until the lock timeout.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import duckdb

from sinks import durable, errors
from sinks.duckdb_file.keeping import place_of, wanted
from sinks.sink import STORAGE_VERSION

MEMORY_LIMIT = "128MB"
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # the reading thread needs the other processor
    "preserve_insertion_order": False,
}
OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
SCHEMAS = ("hedgerow", "information_schema")  # that our SQL names; a database of such a name would be taken for them
ALIAS = "hedgerow_file"
PLENTY = "80%"  # of the machine's memory, DuckDB's own default
MORE = ("256MB", "512MB", PLENTY)  # a table takes some 30 KB for each column, whatever is in it, and more where it may
LOCK_POLL_S = 0.1
HEADER_BYTES = 3 * 4096  # DuckDB's main header and its two database headers, before the blocks


class DuckDBFile:
    """One file. *lock_timeout_s*: how long to wait for another process; *on_wait* hears the holder once for each wait, and
    None when it is over; *storage_version*: of a file that is made, the DuckDB that can read it; a file that is there keeps
    its own."""

    def __init__(
        self,
        path: Path,
        *,
        lock_timeout_s: float,
        on_wait: Callable[[str | None], None],
        storage_version: str = STORAGE_VERSION,
        memory_limit: str = MEMORY_LIMIT,
    ) -> None:
        self.path = path.absolute()
        self._wal = self.path.with_name(self.path.name + ".wal")
        self.lock_timeout_s = lock_timeout_s
        self._on_wait = on_wait
        self._made_as: dict[str, str | bool | int | float | list[str]] = {
            "storage_compatibility_version": storage_version
        }
        self.memory_limit = memory_limit
        self._place = place_of(self.path)

    def held(self) -> AbstractContextManager[None]:
        """Within the block the file stays open between uses that follow one another, as keeping says."""
        return self._place.held()

    @contextmanager
    def open(self, *, read_only: bool = False, large: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, for one use; *large*: a reading that needs DuckDB's own memory and threads, not the bounds of landing."""
        bounds = None if large else self.memory_limit
        with self._place.turn, _interruptible():
            db, whole = self._kept(bounds), False
            writable = db is not None or not read_only
            new = db is None and not read_only and self._make()
            if db is None:
                db = self._connect(read_only=read_only)
            with nullcontext() if read_only else _undisturbed():
                try:
                    try:
                        if new:
                            with errors.writing(self.path):
                                durable.sync(self.path.resolve().parent)
                        yield db
                        whole = True
                    finally:
                        self._place.give_back(db, bounds, keep=whole and writable)
                except duckdb.Error as exc:
                    raise _translated(exc, self.path) from exc

    def _kept(self, bounds: object) -> duckdb.DuckDBPyConnection | None:
        try:
            return self._place.take(bounds)
        except duckdb.Error as exc:
            raise _translated(exc, self.path) from exc

    def changed(self, change: Callable[[duckdb.DuckDBPyConnection], object]) -> None:
        """Make *change* in a transaction; where it takes more memory than the bound, once more with more, up to PLENTY."""
        bound = self.memory_limit
        for limit in dict.fromkeys((bound, *MORE)):
            self.memory_limit = limit
            try:
                with self.open() as db, transaction(db):
                    change(db)
                return
            except errors.MemoryExhausted:
                if limit == PLENTY:
                    raise
            finally:
                self.memory_limit = bound

    def _make(self) -> bool:
        """Make an empty database where none is, unless another process was first; whether none was there.

        DuckDB looks whether the file is there, makes it, locks it and writes its headers, without a look in between: of
        two processes the later would empty what the first has committed. What cannot be made here, or not be linked,
        DuckDB makes, or says why not.
        """
        with suppress(OSError):
            where = self.path.resolve()  # behind a link, too
            if where.exists():
                return False
            made, lock = (where.with_name(f".{where.name}.{word}") for word in ("new", "lock"))
            with durable.locked(lock):
                try:
                    made.unlink(missing_ok=True)  # what a killed process left
                    duckdb.connect(str(made), config=OFFLINE | self._made_as).close()
                    with made.open("rb") as file:
                        os.fsync(file.fileno())
                    with suppress(FileExistsError):
                        os.link(made, where)
                except duckdb.Error as exc:
                    raise _translated(exc, self.path) from exc
                finally:
                    made.unlink(missing_ok=True)
                    lock.unlink()
        return True

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        deadline = time.monotonic() + self.lock_timeout_s
        with ExitStack() as told:
            waiting = False
            while True:
                # Readers keep DuckDB's own memory and thread settings: the bounds are those of landing.
                bounds = {"temp_directory": f"{self.path}.tmp", "memory_limit": self.memory_limit}
                config = OFFLINE if read_only else CONFIG | OFFLINE | bounds | self._made_as
                try:
                    db = _connected(self.path, read_only=read_only, config=config)
                    break
                except duckdb.Error as exc:
                    error = _translated(exc, self.path)
                    if isinstance(error, errors.MemoryExhausted) and self.memory_limit != PLENTY:
                        self.memory_limit = PLENTY  # a write-ahead log of large rows is replayed when opening
                        continue
                    if not isinstance(error, errors.DestinationBusy) or time.monotonic() > deadline:
                        raise error from exc
                if not waiting:
                    waiting = True
                    told.enter_context(wanted(self.path))
                    told.callback(self._on_wait, None)
                    self._on_wait(str(error))
                time.sleep(LOCK_POLL_S)
        # With rows and windows in the thousands DuckDB takes one side for small, and compares each row with each window.
        db.execute("SET asof_loop_join_threshold = 0")
        db.execute("SET TimeZone = 'UTC'")
        return db

    @contextmanager
    def open_whole(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Like open, after a look whether the file is as long as its header says. Raises DestinationUnusable."""
        waiting = self._wal.exists()
        with self.open() as db:
            self._check_length(db, waiting=waiting)
            yield db

    def _check_length(self, db: duckdb.DuckDBPyConnection, *, waiting: bool) -> None:
        """A file cut short opens well and even answers, as long as nobody needs what is gone.

        Free blocks may be missing at the end of a sound file, so where any is missing the last one in use is looked for.
        *waiting*: a write-ahead log was there, whose blocks are not in the file yet.
        """
        sizes = one(
            db, "SELECT block_size, total_blocks FROM pragma_database_size() WHERE database_name = current_database()"
        )
        found, (block, total) = self.path.stat().st_size, sizes or (0, 0)
        if waiting or found >= HEADER_BYTES + block * total:
            return
        expected = HEADER_BYTES + block * (1 + _last_block(db))
        if found < expected:
            raise _cut_short(self.path, f"{found:,} bytes, expected at least {expected:,}")


def _last_block(db: duckdb.DuckDBPyConnection) -> int:
    """The number of the last block of the file that is in use."""
    names = db.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() AND NOT temporary"
    ).fetchall()
    tables = [".".join('"' + part.replace('"', '""') + '"' for part in name).replace("'", "''") for name in names]
    blocks = "SELECT max(greatest(block_id, list_max(additional_block_ids))) FROM pragma_storage_info('{}')"
    found = ["SELECT max(block_id) FROM pragma_metadata_info()", *(blocks.format(table) for table in tables)]
    return max(
        (int(row[0]) for query in found if (row := one(db, query)) is not None and row[0] is not None), default=-1
    )


def _connected(
    path: Path, *, read_only: bool, config: dict[str, str | bool | int | float | list[str]]
) -> duckdb.DuckDBPyConnection:
    """The file opened, under a name that is no schema's.

    DuckDB names a database after its file, up to the first dot: in hedgerow.duckdb, `hedgerow.windows` would be ambiguous.
    """
    if path.name.lstrip(".").partition(".")[0].lower() not in SCHEMAS:
        return duckdb.connect(str(path), read_only=read_only, config=config)
    db = duckdb.connect(":memory:", config=config)
    try:
        at = "'" + str(path).replace("'", "''") + "'"
        db.execute(f"ATTACH {at} AS {ALIAS} ({'READ_ONLY' if read_only else 'READ_WRITE'})")
        db.execute(f"USE {ALIAS}")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the writing under way is committed: inside DuckDB and Arrow it comes out as any error."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread() or not ours:
        yield
        return
    came: list[int] = []
    for each in ours:
        signal.signal(each, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for each, handler in ours.items():
            signal.signal(each, handler)
    for number in came[:1]:
        ours[signal.Signals(number)](number, None)


@contextmanager
def _interruptible() -> Iterator[None]:
    """DuckDB says Ctrl-C during a statement as RuntimeError."""
    try:
        yield
    except RuntimeError as exc:
        if "interrupted" in str(exc):
            raise KeyboardInterrupt from exc
        raise


def one(db: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
    """The first row of *sql*, read to the end: a result left open bars other work on the connection."""
    rows = db.execute(sql, values).fetchall()
    return rows[0] if rows else None


@contextmanager
def transaction(db: duckdb.DuckDBPyConnection) -> Iterator[None]:
    db.execute("BEGIN")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _translated(exc: duckdb.Error, path: Path) -> errors.SinkError:
    """DuckDB's error in our terms: who holds the file, or why it cannot be used."""
    text = " ".join(str(exc).split())
    if "Could not set lock" in text or "Conflicting lock" in text:
        holder = re.search(r"held in (.*?)(?: by user|\. |$)", text)
        return errors.DestinationBusy(
            f"{path.name} is open in another process" + (f": {holder[1]}" if holder else ""),
            hint="close the other connection (DuckDB locks the whole file), or allow a longer [duckdb] lock_timeout",
        )
    if isinstance(exc, duckdb.OutOfMemoryException) or "failed to pin block" in text:
        return errors.MemoryExhausted(
            f"not enough memory to write {path.name}: {text[:200]}", hint="free memory, or land where there is more"
        )
    if "Could not read enough bytes" in text:
        return _cut_short(path, f"{path.stat().st_size:,} bytes, and DuckDB looks for more")
    if "not a valid DuckDB database file" in text or "sqlite_scanner" in text:
        return errors.DestinationUnusable(
            f"{path.name} is not a DuckDB file but {_kind_of(path)}", hint="choose another path; nothing was changed"
        )
    if "database file with version number" in text:
        return errors.DestinationUnusable(
            f"{path.name} was written by another DuckDB than this one can read ({duckdb.__version__}): {text[:200]}",
            hint="a newer hedgerow may read it; a file of DuckDB 0.9 or older: export it there; nothing was changed",
        )
    return errors.DestinationUnusable(
        f"cannot use {path.name}: {text[:300]}", hint="check path, permissions and disk; nothing half-written stays"
    )


def _cut_short(path: Path, why: str) -> errors.DestinationUnusable:
    return errors.DestinationUnusable(
        f"{path.name} is cut short: {why}",
        hint="bring it back from a backup, or move it away and sync again; nothing of it was changed",
    )


def _kind_of(path: Path) -> str:
    """What the first bytes say of a file."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        start = b"?"
    known = {b"SQLite format 3\0": "an SQLite database", b"PAR1": "a Parquet file", b"PK\3\4": "a ZIP or XLSX file"}
    kind = next((kind for magic, kind in known.items() if start.startswith(magic)), "something else")
    return kind if start else "an empty file"
