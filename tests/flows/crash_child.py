"""A sync in a process of its own that tells the simulator of every commit, so that it can be killed right there."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import httpx

from sinks.base import Entry, Landing
from sinks.duckdb_file import DuckDBSink
from tests.flows.harness import sync


class TellingSink(DuckDBSink):
    """Reports each landing to the simulator's hook after it is committed."""

    url = ""

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        landed = super().land(landings, mark=mark)
        # VmHWM and not ru_maxrss: the latter is inherited from the parent across fork and exec.
        peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
        httpx.post(f"{self.url}/_simulator/hook", json={"name": f"commit {peak_kb}"})
        return landed


if __name__ == "__main__":
    url, key, directory, since, until = sys.argv[1:]
    sink = TellingSink(Path(directory) / "a.duckdb")
    sink.url = url
    sync(url, key, sink, Path(directory), since=datetime.fromisoformat(since), until=datetime.fromisoformat(until))
