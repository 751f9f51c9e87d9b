"""The bench's server as seen from the bench: started, told what to do, ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from bench.data import Kind, kept
from bench.process import ROOT, environment

KEY = "phx_bench"


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of itself since it started."""

    cpu_s: float
    requests: int
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A running server."""

    url: str
    kind: Kind

    def told(self, *, cap: int | None = None, latency_s: float | None = None) -> Told:
        """Set *cap* and *latency_s*, if given, and hear what it cost so far."""
        wanted = {name: value for name, value in (("cap", cap), ("latency_s", latency_s)) if value is not None}
        found = httpx.post(f"{self.url}/_bench", json=wanted, timeout=30).json()
        return Told(found["cpu_s"], sum(found["asked"].values()), tuple(found["unknown"]))


@contextmanager
def serving(kind: Kind) -> Iterator[Source]:
    """A server of *kind*'s data, which are made first if they are not there."""
    kept(kind)
    command = [sys.executable, "-m", "bench.server", str(kind.rows), str(kind.row_bytes)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Source(process.stdout.readline().strip(), kind)
        finally:
            process.kill()
