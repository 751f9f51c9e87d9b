"""Files that are whole or not there: made under another name, locked while they grow, renamed when they are durable."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class Busy(Exception):
    """Another process holds the file."""


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """*path*, made if it is missing, for the user alone and for this process alone. Raises Busy, and OSError.

    What a killed process left is taken over; the lock died with it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise Busy(f"another process is at work on {path.name}") from exc
            # Its last holder may have renamed or removed it between the opening and the lock.
            if _is_at(file, path):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def arriving(path: Path) -> Iterator[BinaryIO]:
    """An empty file that becomes *path* when the block ends well, and is gone otherwise. Raises Busy, and OSError."""
    part = path.with_name(f".{path.name}.part")
    with locked(part) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            if _is_at(file, part):
                part.unlink()
            raise
    sync_directory(path.parent)


UNABLE = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)  # what file systems say that sync no directories


def sync_directory(directory: Path) -> None:
    """Make the names in *directory* durable, where its file system can. Raises OSError.

    One may write into a directory that one may not open: its names are left to the system.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in UNABLE:
            raise
    finally:
        os.close(descriptor)
