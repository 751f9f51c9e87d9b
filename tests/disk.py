"""A disk that forgets what was not synced: what a power cut would leave of a directory, worked out from the real calls.

Bytes are as durable as the last fsync of their file, names as the last fsync of their directory. The calls are the
kernel's own, watched on their way; so is whoever holds a lock while a name changes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LOOK = fcntl.LOCK_SH | fcntl.LOCK_NB  # how locks are looked for; nobody else asks like this


@dataclass(slots=True)
class Disk:
    """*root*, which itself lasts, with what lies in it at first.

    *hasty*: files that were given a name before their bytes were synced. *held*: for each name that was given, the files
    locked meanwhile. *before*: called with each call (fsync, flock, replace, rename, link) and its path before it is made.
    """

    root: Path
    hasty: list[str] = field(default_factory=list)
    held: dict[str, set[str]] = field(default_factory=dict)
    before: Callable[[str, Path], object] = lambda call, path: None
    _bytes: dict[int, bytes] = field(default_factory=dict)
    _names: dict[int, dict[str, tuple[int, bool]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for directory, _, names in os.walk(self.root):
            self.synced(Path(directory))
            for name in names:
                self.synced(Path(directory, name))

    def synced(self, path: Path) -> None:
        """*path* was synced just now."""
        if path.is_dir():
            self._names[path.stat().st_ino] = {
                one.name: (one.inode(), one.is_dir(follow_symlinks=False)) for one in os.scandir(path)
            }
        else:
            self._bytes[path.stat().st_ino] = path.read_bytes()

    def named(self, source: Path, target: Path) -> None:
        """*source* is about to get the name *target*."""
        name = self._below(target)
        if self._bytes.get(source.stat().st_ino) != source.read_bytes():
            self.hasty.append(name)
        self.held[name] = {self._below(path) for path in self.root.rglob("*") if path.is_file() and _locked(path)}

    def left(self) -> dict[str, bytes | None]:
        """What a power cut at this moment leaves: path below the root → bytes, None where they were never synced."""
        found: dict[str, bytes | None] = {}

        def walk(inode: int, path: Path) -> None:
            for name, (child, directory) in self._names.get(inode, {}).items():
                if directory:
                    walk(child, path / name)
                else:
                    found[str(path / name)] = self._bytes.get(child)

        walk(self.root.stat().st_ino, Path())
        return found

    def _below(self, path: Path) -> str:
        path = path.absolute()
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, LOOK)
        except BlockingIOError:
            return True
        return False


def watched(root: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """*root* as such a disk, from now on."""
    disk = Disk(root.absolute())
    fsync, lock = os.fsync, fcntl.flock

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        disk.before("fsync", path)
        fsync(descriptor)
        disk.synced(path)

    def locked(file: int, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if operation != LOOK:
            disk.before("flock", Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        lock(file, operation)

    def naming(call: str) -> None:
        real = getattr(os, call)

        def named(source: str | Path, target: str | Path, **more: object) -> None:
            disk.before(call, Path(target))
            disk.named(Path(source), Path(target))
            real(source, target, **more)

        monkeypatch.setattr(os, call, named)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(fcntl, "flock", locked)
    for call in ("replace", "rename", "link"):
        naming(call)
    return disk
