"""One process that syncs again and again, as a scheduler's worker does, and says after each run what it holds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from flows.runs import loads
from flows.settings.load import load

if __name__ == "__main__":
    url, key, directory, seconds = sys.argv[1:]
    flags: dict[str, object] = {
        "source.host": url,
        "source.key": key,
        "source.project_id": 1,
        "source.requests_per_minute": 10**6,
        "source.requests_per_hour": 10**6,
        "source.state_dir": f"{directory}/state",
        "destination.address": f"duckdb:{directory}/a.duckdb",
    }
    settings, me = load(flags, directory=Path(directory)).settings, psutil.Process()
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        report = loads.load_events(settings, 1, command="sync")
        memory = me.memory_info().rss
        held = {
            "rows": report.rows,
            "late": report.late,
            "rss": memory,
            "files": me.num_fds(),
            "threads": me.num_threads(),
        }
        print(json.dumps(held), flush=True)
