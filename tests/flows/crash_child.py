"""A sync in a process of its own that tells the simulator of every commit, so that it can be killed right there.

Arguments: address and key of the simulator, a directory for the state, the destination's address, since, until, and
`backfill` for one. S3 by the usual AWS variables.
"""

from __future__ import annotations

import re
import sys


class NoPandas:
    """A test's dependency brings pandas along, and pyarrow would load it: users do not have it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, NoPandas)

# ruff: noqa: E402
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import httpx

from flows.landing.session import Held
from flows.runs.destinations import destination_of
from flows.settings.load import load
from sinks.destination import Destination
from sinks.entries import Entry, Landing
from tests.flows.harness import sync


def telling(sink: Destination, url: str) -> Destination:
    """The sink, which reports each landing to the simulator's hook after it is committed."""
    land = sink.land

    def tell(landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        landed = land(landings, mark=mark)
        # VmHWM and not ru_maxrss: the latter is inherited from the parent across fork and exec.
        peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
        httpx.post(f"{url}/_simulator/hook", json={"name": f"commit {peak_kb}"}, timeout=60)
        return landed

    sink.land = tell
    return sink


if __name__ == "__main__":
    url, key, directory, address, since, until, *rest = sys.argv[1:]
    home = Path(directory)
    sink = destination_of(load({"destination.address": address}, directory=home).settings)
    start, end = (datetime.fromisoformat(at) for at in (since, until))
    # Two small pages at a time, so that there is something left to be killed in.
    with sink.held():
        few = Held(joined=2**19)
        sync(url, key, telling(sink, url), home, since=start, until=end, marks="backfill" not in rest, held=few)
