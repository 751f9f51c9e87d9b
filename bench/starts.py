"""What hedgerow costs before it moves a row: help, a sync with nothing to do, and verify, over long and short ledgers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb

from bench.data import END, Kind
from bench.figures import Line
from bench.process import Cost, environment, measured
from bench.source import KEY, Source, serving
from bench.whole import TOML, day

KIND = Kind(50_000)  # three windows
# Copies of a landed window without rows, of past times, as a backfill of them would leave them, only in no time.
LENGTHEN = """
INSERT INTO hedgerow.windows SELECT w.* REPLACE (
  t AS window_start, t + d AS window_end, t AS covered_start, t + d AS covered_end, t + d AS agreed_until,
  0 AS source_rows, '0:0:0:0:0' AS source_digest, 0 AS landed_rows, '0' AS landed_digest,
  '0:0:0:0:0/0:0' AS probed, '0:0:0:0:0/0:0' AS agreed)
FROM (FROM hedgerow.windows WHERE state = 'verified' LIMIT 1) w, (SELECT to_seconds($step) AS d),
  (SELECT unnest(range($start - to_seconds($step) * $count, $start, to_seconds($step))) AS t)
"""
STEPS = """
INSERT INTO hedgerow.steps BY NAME SELECT DISTINCT ON (date) project_id, stream, window_start::DATE AS date,
  epoch(window_end - window_start)::INTEGER AS step_s, false AS unchecked FROM hedgerow.windows
WHERE window_start < $start
"""


def starts(*, rounds: int) -> Iterator[Line]:
    """Each command, by medians of *rounds*."""
    with TemporaryDirectory(prefix="bench-") as directory, serving(KIND) as source:
        few = Path(directory) / "few"
        few.mkdir()
        (few / "hedgerow.toml").write_text(TOML, encoding="utf-8")
        span = ["--since", day(KIND.start_us), "--until", day(KIND.end_us)]
        _done(hedgerow(source, few, "backfill", "-q", *span))
        many = _longer(few, 10_000, step_s=86_400)
        most = _longer(few, 100_008, step_s=3_600)
        yield _line("--help", "without a ledger", [hedgerow(source, few, "--help") for _ in range(rounds)])
        both = [(hedgerow(source, few, "verify"), hedgerow(source, many, "verify")) for _ in range(rounds)]
        yield _line("verify", "3 windows, 50,000 rows", [one for one, _ in both])
        yield _line("verify", "10,000 windows, the same rows", [other for _, other in both])
        sync = ["sync", "events", "-q", "--until", day(KIND.end_us)]
        for home, windows in ((few, "30"), (many, "10,000"), (most, "100,000")):
            _done(hedgerow(source, home, *sync))
            found = [hedgerow(source, home, *sync) for _ in range(rounds)]
            yield _line("sync, nothing to do", f"{windows} windows", found)


def hedgerow(source: Source, home: Path, *arguments: str) -> Cost:
    """One command over the file of *home*."""
    env = environment(
        POSTHOG_HOST=source.url,
        POSTHOG_PERSONAL_API_KEY=KEY,
        POSTHOG_PROJECT_ID="1",
        HEDGEROW_DESTINATION="duckdb:it.duckdb",
        HEDGEROW_STATE_DIR=str(home / "state"),
    )
    return measured([str(Path(sys.executable).with_name("hedgerow")), *arguments], env=env, cwd=home)


def _longer(few: Path, count: int, *, step_s: int) -> Path:
    """A copy of *few* with windows of *step_s* seconds before its own, so that there are *count* and three."""
    home = few.with_name(f"many-{count}")
    shutil.copytree(few, home)
    start = END.timestamp() - (KIND.end_us - KIND.start_us) / 1e6
    with duckdb.connect(home / "it.duckdb") as db:
        db.execute("SET TimeZone = 'UTC'")
        row = db.execute("SELECT to_timestamp(?)", [start]).fetchone()
        assert row is not None
        db.execute(LENGTHEN, {"start": row[0], "step": step_s, "count": count})
        db.execute(STEPS, {"start": row[0]})
    return home


def _done(cost: Cost) -> None:
    if cost.status:
        raise RuntimeError(f"exit {cost.status}: {cost.said}")


def _line(command: str, case: str, costs: Sequence[Cost]) -> Line:
    fault = next((f"exit {cost.status}: {cost.said.strip()[-300:]}" for cost in costs if cost.status), "")
    return Line(
        "starts",
        case,
        f"hedgerow {command}",
        len(costs),
        median(cost.wall_s for cost in costs),
        median(cost.cpu_s for cost in costs),
        median(cost.peak_mb for cost in costs),
        load=float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0]),
        fault=fault,
    )
