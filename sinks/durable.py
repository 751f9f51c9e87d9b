"""Files and directories that a power cut does not take back: bytes are synced before a name, the directory after it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def sync(directory: Path) -> None:
    """Make the names in *directory* durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make(directory: Path) -> None:
    """Make *directory* and those above it that are missing, each of them durably."""
    if directory.is_dir():
        return
    make(directory.parent)
    directory.mkdir(exist_ok=True)
    with suppress(PermissionError):  # one may write into a directory that one may not open
        sync(directory.parent)


@contextmanager
def arriving(path: Path) -> Iterator[BinaryIO]:
    """An empty file that takes the place of *path*, durably, when the block ends well, and is gone otherwise.

    It is the owner's alone. Another process that makes the same file is waited for; what a killed one left is taken over.
    """
    aside = path.with_name(f".{path.name}.new")
    with _locked(aside) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync(path.parent)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Its last holder may have renamed or removed it while it was waited for.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                    yield file
                    return
