"""One connection for uses of a DuckDB file that follow one another, and room between them for whoever else wants it.

DuckDB locks a file for one process, and opening and closing it costs as much as landing some thousand rows. So within
held() it stays open for IDLE_S after each use. A hedgerow that waits for the file leaves a sign, which is looked at after
each use; for everybody else the file is closed for ROOM_S after every OPEN_S.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

IDLE_S = 0.3
OPEN_S = 25.0
ROOM_S = 1.0
POLL_S = 0.02


class Place:
    """One file of this process: whose turn it is, and the connection that is kept between uses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.turn = threading.RLock()  # two connections of one process share DuckDB's lock
        self._holders = 0
        self._kept: tuple[duckdb.DuckDBPyConnection, object] | None = None
        self._idle_at = self._since = self._room_until = 0.0
        self._closed_at: float | None = None
        self._timer: threading.Timer | None = None
        self._failure: duckdb.Error | None = None

    @property
    def is_held(self) -> bool:
        return self._holders > 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block the file stays open for a while after each use."""
        with self.turn:
            self._holders += 1
        try:
            yield
        finally:
            with self.turn:
                self._holders -= 1
                if not self._holders:
                    self._close()

    def take(self, bounds: object) -> duckdb.DuckDBPyConnection | None:
        """The connection that was kept, if it was opened with *bounds*; else none is open, and whoever waited had room.

        Raises what DuckDB said when the last one was closed behind its user's back.
        """
        kept, self._kept = self._kept, None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if kept is not None and kept[1] == bounds:
            return kept[0]
        if kept is not None:
            kept[0].close()
            self._closed_at = time.monotonic()
        while (now := time.monotonic()) < self._room_until and (not self._leaves_at_once or is_wanted(self._path)):
            time.sleep(min(POLL_S, self._room_until - now))
        self._room_until = 0.0
        if self._closed_at is None or time.monotonic() - self._closed_at >= ROOM_S:
            self._since = time.monotonic()
        return None

    def give_back(self, db: duckdb.DuckDBPyConnection, bounds: object, *, keep: bool) -> None:
        """Keep *db* for the next use, or close it: where nobody holds the file, or somebody else is to have it."""
        now = time.monotonic()
        wanted, long = is_wanted(self._path), now - self._since >= OPEN_S
        if keep and self.is_held and self._kept is None and not wanted and not long:
            self._kept, self._idle_at = (db, bounds), now + IDLE_S
            self._watch(IDLE_S)
            return
        db.close()
        self._closed_at = time.monotonic()
        if self.is_held and (wanted or long):
            self._leaves_at_once, self._room_until = not long, self._closed_at + ROOM_S

    _leaves_at_once = False
    """Whether the room that is made ends as soon as nobody shows that he waits."""

    def _watch(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._idle)
            self._timer.daemon = True
            self._timer.start()

    def _idle(self) -> None:
        with self.turn:
            self._timer = None
            left = self._idle_at - time.monotonic()
            if self._kept is not None and left > 0:
                self._watch(left)
                return
            try:
                self._close()
            except duckdb.Error as exc:
                self._failure = exc

    def _close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[0].close()
            self._closed_at = time.monotonic()


_places: dict[Path, Place] = {}


def place_of(path: Path) -> Place:
    """The one place of the file at *path*, which is absolute."""
    return _places.setdefault(path, Place(path))


def _sign(path: Path) -> Path:
    return path.with_name(f".{path.name}.wanted")


@contextmanager
def wanted(path: Path) -> Iterator[None]:
    """Within the block every hedgerow that holds the file at *path* sees that somebody waits for it.

    The sign is a file beside it, locked as long as somebody waits. Where none can be made, the file is closed now and then
    all the same.
    """
    try:
        handle = os.open(_sign(path), os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError:
        yield
        return
    with os.fdopen(handle, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
            is_wanted(path)  # the last one takes the sign away


def is_wanted(path: Path) -> bool:
    """Whether somebody waits for the file at *path*; a sign that nobody holds any more is taken away."""
    sign = _sign(path)
    try:
        handle = os.open(sign, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        with suppress(OSError):
            sign.unlink()
    return False
