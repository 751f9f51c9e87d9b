"""Whole runs: a contestant as a process of its own, from its start to its end, and what it landed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import store
from bench.data import Kind
from bench.process import ROOT, Cost, environment, measured
from bench.source import KEY, Source
from bench.truth import Landed, compared

VOID = 0.15
"""A round counts only if the server used no more than this share of the limit's wall."""
TOML = """
[source]
requests_per_minute = 1000000
requests_per_hour = 10000000
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration, in which all contestants run. *page*: rows that the server offers; *latency_s*: of each answer."""

    kind: Kind
    page: int
    latency_s: float = 0.0

    def __str__(self) -> str:
        latency = f", {self.latency_s * 1000:.0f} ms" if self.latency_s else ""
        short = "" if self.kind.row_bytes == 1000 else f" of {self.kind.row_bytes} B"
        return f"{self.kind.rows:,} rows{short}, pages of {self.page:,}{latency}"


@dataclass(frozen=True, slots=True)
class Task:
    """What a contestant is told: the case, the server's address and a directory of its own."""

    case: Case
    url: str
    home: Path


@dataclass(frozen=True, slots=True)
class Contestant:
    """*run* does the work, measured; *landed* looks afterwards at what is there.

    *ours*: it must land every row, and the server must be fast enough for it. *available*: why it cannot run, or empty.
    """

    name: str
    run: Callable[[Task], Cost]
    landed: Callable[[Task, Cost], Landed]
    ours: bool = False
    available: Callable[[], str] = lambda: ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. *server_s*: CPU seconds of the server meanwhile; *load*: of the machine when it began."""

    contestant: str
    round: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    server_s: float
    requests: int
    load: float
    landed: Landed | None
    fault: str = ""


@dataclass(slots=True)
class Round:
    """One after the other, every contestant once. *void*: why it does not count."""

    samples: list[Sample] = field(default_factory=list)
    void: str = ""


def rounds(case: Case, source: Source, contestants: Sequence[Contestant], *, count: int) -> Iterator[Round]:
    """*count* rounds of *case*."""
    for number in range(count):
        found = Round()
        for contestant in (one for one in contestants if not one.available()):
            found.samples.append(_sample(contestant, case, source, number))
        limit = next((one for one in found.samples if one.contestant == LIMIT.name), None)
        counted = {LIMIT.name, *(one.name for one in contestants if one.ours)}
        busiest = max((one for one in found.samples if one.contestant in counted), key=lambda one: one.server_s)
        if limit and busiest.server_s > VOID * limit.wall_s:
            share = busiest.server_s / limit.wall_s
            found.void = f"the server used {share:.0%} of the limit's wall in {busiest.contestant}'s run"
        yield found


def _sample(contestant: Contestant, case: Case, source: Source, number: int) -> Sample:
    with TemporaryDirectory(prefix="bench-") as home:
        task = Task(case, source.url, Path(home))
        load = float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0])
        before = source.told(cap=case.page, latency_s=case.latency_s)
        cost = contestant.run(task)
        after = source.told()
        fault = "" if cost.status == 0 else f"exit {cost.status}: {cost.said.strip()[-400:]}"
        if unknown := after.unknown[len(before.unknown) :]:
            fault = f"{fault} asked what the server does not know: {unknown[0][:300]}".strip()
        landed = contestant.landed(task, cost) if cost.status == 0 else None
        if contestant.ours and landed is not None and not landed.whole:
            fault = f"{fault} {landed.missing} rows missing, {landed.extra} extra".strip()
        return Sample(
            contestant.name,
            number,
            cost.wall_s,
            cost.cpu_s,
            cost.peak_mb,
            after.cpu_s - before.cpu_s,
            after.requests - before.requests,
            load,
            landed,
            fault,
        )


def day(micros: int) -> str:
    """The UTC date of a midnight."""
    return datetime.fromtimestamp(micros / 1e6, UTC).date().isoformat()


def _limit(task: Task) -> Cost:
    bounds = map(instant, edges(task.case.kind))
    command = [sys.executable, "-m", "bench.limit", task.url, *bounds, str(task.case.page)]
    return measured(command, env=environment(), cwd=ROOT)


def instant(micros: int) -> str:
    """ISO 8601 of µs since 1970."""
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat()


def edges(kind: Kind) -> tuple[int, int]:
    """Exclusive bounds around all rows, µs since 1970."""
    return kind.start_us - 1_000_000, kind.end_us


def hedgerow(task: Task, destination: str, **env: str) -> Cost:
    """`hedgerow backfill` of everything, as installed but for the limits of requests."""
    (task.home / "hedgerow.toml").write_text(TOML, encoding="utf-8")
    kind = task.case.kind
    settings = environment(
        POSTHOG_HOST=task.url,
        POSTHOG_PERSONAL_API_KEY=KEY,
        POSTHOG_PROJECT_ID="1",
        HEDGEROW_DESTINATION=destination,
        HEDGEROW_STATE_DIR=str(task.home / "state"),
        **env,
    )
    command = [str(Path(sys.executable).with_name("hedgerow")), "backfill", "-q"]
    command += ["--since", day(kind.start_us), "--until", day(kind.end_us)]
    return measured(command, env=settings, cwd=task.home)


def _read(task: Task, cost: Cost) -> Landed:
    """By the limit, which keeps nothing: it loses what shares its time with a page's last row."""
    rows = int(cost.said)
    return Landed(rows, task.case.kind.rows - rows, 0)


def _in_file(task: Task, cost: Cost) -> Landed:
    del cost
    return compared(task.case.kind.truth, "it.events", attach=task.home / "it.duckdb")


def _in_lake(task: Task, cost: Cost) -> Landed:
    del cost
    return in_files(task, task.home / "lake")


def in_files(task: Task, lake: Path) -> Landed:
    """What the Parquet files below *lake* hold."""
    return compared(task.case.kind.truth, f"read_parquet('{lake}/events/**/*.parquet', hive_partitioning = true)")


def _to_s3(task: Task) -> Cost:
    with store.running() as address:
        cost = hedgerow(task, f"s3://{store.BUCKET}/lake", **store.KEYS, AWS_ENDPOINT_URL=address)
        store.downloaded(address, "lake/events", task.home)  # the server forgets all when it ends
    return cost


def _in_s3(task: Task, cost: Cost) -> Landed:
    del cost
    return in_files(task, task.home / "lake")


LIMIT = Contestant("limit", _limit, _read)
DUCKDB = Contestant("hedgerow → DuckDB", lambda task: hedgerow(task, "duckdb:it.duckdb"), _in_file, ours=True)
LAKE = Contestant("hedgerow → lake", lambda task: hedgerow(task, "file:lake"), _in_lake, ours=True)
S3 = Contestant("hedgerow → S3 lake", _to_s3, _in_s3, ours=True)
