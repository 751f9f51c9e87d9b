"""Files and directories that a power cut does not take back: bytes are synced before a name, the directory after it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNABLE = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)  # what file systems say that sync no directories


def sync(directory: Path) -> None:
    """Make the names in *directory* durable, where its file system can. Raises OSError.

    One may write into a directory that one may not open: its names are left to the system.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in UNABLE:
            raise
    finally:
        os.close(handle)


def make(directory: Path) -> None:
    """Make *directory* and those above it that are missing, each of them durably."""
    if directory.is_dir():
        return
    make(directory.parent)
    directory.mkdir(exist_ok=True)
    sync(directory.parent)


@contextmanager
def arriving(path: Path) -> Iterator[BinaryIO]:
    """An empty file that takes the place of *path*, durably, when the block ends well, and is gone otherwise.

    It is the owner's alone. Another process that makes the same file is waited for; what a killed one left is taken over.
    """
    aside = path.with_name(f".{path.name}.new")
    with locked(aside) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            if _is_at(file, aside):
                aside.unlink()
            raise
        sync(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file at *path*, made where it is missing, for nobody else inside the block; another process is waited for."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Its last holder may have renamed or removed it while it was waited for.
            if _is_at(file, path):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
