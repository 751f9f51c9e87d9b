"""A copy of the product and its tests, to be broken: what a break's tests say of it, and of the copy unbroken."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("flows", "extractors", "transforms", "sinks", "tests", "pyproject.toml", "prefect.yaml")
PASSED, FAILED = 0, 1  # pytest's exit statuses; usage and collection errors have others


@dataclass(slots=True)
class Copy:
    """The copy in *directory*; *sound* are the tests already seen green in it, unbroken."""

    directory: Path
    sound: set[str] = field(default_factory=set)

    @classmethod
    def into(cls, directory: Path) -> Copy:
        """Copy the product and its tests into *directory*, which is empty."""
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__", "mutants"))
            else:
                shutil.copy(source, directory / name)
        return cls(directory)

    @contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """*file* reads *text* inside the block."""
        path = self.directory / file
        whole = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(whole, encoding="utf-8")

    def verdict(self, file: str, text: str, tests: str) -> str:
        """What *tests* (pytest arguments) say of the copy with *file* reading *text*: "" if a test failed by it.

        By it: the test that failed is run once more without the change, and must pass. Else the reason is returned:
        all stayed green, nothing could be collected, a test never ended, or the test is red anyway.
        """
        with self.changed(file, text):
            done = self._run(shlex.split(tests))
        if done.returncode != FAILED or "Timeout" in done.stdout:
            return f"no test failed (pytest's status {done.returncode}):\n{done.stdout[-3000:]}"
        red = self._failed()
        if not set(red) <= self.sound:
            done = self._run(red)
            if done.returncode != PASSED:
                return f"{', '.join(red)} fails without the break as well:\n{done.stdout[-3000:]}"
            self.sound |= set(red)
        return ""

    def _failed(self) -> list[str]:
        """Node ids of the tests that failed in the last run, as pytest's cache knows them."""
        known = json.loads((self.directory / ".cache/v/cache/lastfailed").read_text(encoding="utf-8"))
        return sorted(known)

    def _run(self, tests: list[str]) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(self.directory / ".cache", ignore_errors=True)
        environment = os.environ | {"PYTHONPATH": str(self.directory), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not long", "-o", "cache_dir=.cache"]
        return subprocess.run(
            [*command, "--timeout=120", *tests],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
