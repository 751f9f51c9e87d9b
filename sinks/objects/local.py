"""A directory as a store of objects."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from obstore.store import LocalStore

from sinks import durable
from sinks.objects.base import SCRATCH, Exists, Objects

LEFT_S = 86_400


class LocalObjects(Objects):
    """A directory. Files are written aside, synced and renamed into place; a lock makes conditions hold on one machine."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(LocalStore(), name)
        self.root = root.absolute()
        self._opened = False

    def _there(self) -> bool:
        if not self._opened and self.root.is_dir():
            self._store, self._opened = LocalStore(prefix=self.root), True
        return self._opened

    def put(self, path: str, data: bytes | Path, *, create: bool = False, match: str | None = None) -> str:
        with self._writing(path), self._aside(data) as (written, lock):
            target = self.root / path
            durable.make(target.parent)
            # Its version, before others can see it: linked or renamed it is the same file.
            found = self.head(f"{SCRATCH}/{written.name}")
            if create:
                try:
                    os.link(written, target)
                except FileExistsError as exc:
                    raise Exists(path) from exc
            else:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._compare(path, create=False, match=match)
                written.replace(target)
            durable.sync(target.parent)
        return found.etag if found else ""

    @contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        """The file system's errors in our terms. Where something is made, what is not there is a place, and no object."""
        with self._translated(path):
            try:
                yield
            except FileNotFoundError as exc:
                raise self._unusable(
                    f"nothing can be made in {self.root} ({exc.strerror})", "name another directory"
                ) from None

    @contextmanager
    def _aside(self, data: bytes | Path) -> Iterator[tuple[Path, int]]:
        """*data* in a file of the same file system that no glob sees, and the lock file, open."""
        written = self._scratch() / uuid.uuid4().hex
        lock = os.open(self._scratch() / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            with written.open("xb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield written, lock
        finally:
            written.unlink(missing_ok=True)
            os.close(lock)

    def _scratch(self) -> Path:
        scratch = self.root / SCRATCH
        durable.make(scratch)
        return scratch

    def check(self) -> None:
        """A directory honours both conditions, so only writing is tried. What kills left aside long ago is removed.
        Nothing is made."""
        self.conditional = True
        scratch = self.root / SCRATCH
        with self._writing(""):
            with tempfile.TemporaryFile(dir=next(one for one in (scratch, *scratch.parents) if one.is_dir())):
                pass
            for left in scratch.iterdir() if scratch.is_dir() else ():
                with suppress(FileNotFoundError):  # another process has just finished with it
                    if left.name != "lock" and time.time() - left.stat().st_mtime > LEFT_S:
                        left.unlink()
