"""What Prefect costs a run: the same backfill by the command line and as a flow, at the same time, from a slow source.

    python bench/overhead.py --minutes 10

Process start is left out on both sides: seconds are the run's own. The two run beside each other so that the machine's
noise is the same for both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from extractors.simulator.data.dataset import generate  # noqa: E402
from extractors.simulator.faults import Fault, Faults  # noqa: E402
from extractors.simulator.profiles import CLOUD  # noqa: E402
from extractors.simulator.server import serve  # noqa: E402
from flows.orchestration.local import Stack  # noqa: E402

PROFILE = replace(CLOUD, per_minute=None, per_hour=None, query_per_minute=None, query_per_hour=None)
START = datetime(2025, 1, 1, tzinfo=UTC)
SLOW = Faults([Fault("slow-first-byte", rate=1.0, seconds=1.0)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    minutes = parser.parse_args().minutes
    pages = int(minutes * 60)  # an answer takes a second
    end = START + timedelta(days=max(2, pages // 10))
    dataset = generate(events=pages * 1000, start=START, end=end, seed=3)
    span = [START.date().isoformat(), end.date().isoformat()]
    with tempfile.TemporaryDirectory() as home, serve(dataset, profile=PROFILE, faults=SLOW) as simulator:
        settings = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "POSTHOG_PROJECT_ID": "1",
        }
        (Path(home) / "hedgerow.toml").write_text(
            "[source]\nrequests_per_minute = 100000\nrequests_per_hour = 1000000\n"
        )
        with Stack(Path(home) / "prefect", settings, workers=0) as stack:
            flow = [sys.executable, "-m", "flows.backfill", *span]
            plain = [str(Path(sys.executable).with_name("hedgerow")), "backfill", "--json", "-q"]
            plain += ["--since", span[0], "--until", span[1]]
            started = {
                name: subprocess.Popen(
                    command,
                    cwd=home,
                    env=stack.environment
                    | {
                        "HEDGEROW_DESTINATION": f"duckdb:{home}/{name}.duckdb",
                        "HEDGEROW_STATE_DIR": f"{home}/{name}",
                        "PYTHONPATH": str(ROOT),
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                for name, command in (("flow", flow), ("plain", plain))
            }
            said = {name: process.communicate()[0] for name, process in started.items()}
            run = stack.runs()[-1]
            tasks = stack.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert run["state_type"] == "COMPLETED", run["state"]
    alone = json.loads(said["plain"])["runs"][0]
    inside = float(str(run["total_run_time"]))
    print(f"{len(dataset):,} events, {alone['requests']:,} requests, {len(tasks)} tasks")  # type: ignore[arg-type]
    print(f"command line {alone['seconds']:.1f} s, flow {inside:.1f} s: {inside / alone['seconds'] - 1:+.1%}")


if __name__ == "__main__":
    main()
