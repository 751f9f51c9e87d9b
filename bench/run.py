"""`make bench`: each stage and the whole, as rates and as ratios to a yardstick of the same run.

Machines are noisy, so a rate says little by itself: compare the ratios. Best of several repetitions; fixed seeds.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import httpx
import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from extractors.http import decode
from extractors.http.decode import REJECTS
from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.data.rows import row
from extractors.simulator.profiles import CLOUD
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Entry, Landing, State, Tally
from transforms import events as rows_of

START, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
WINDOW_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Figure:
    """*rows* in *seconds*; *yardstick_s*: what *yardstick* took for the same rows."""

    name: str
    rows: int
    seconds: float
    yardstick: str = ""
    yardstick_s: float | None = None
    note: str = ""


def best(work: Callable[[], object], *, times: int = 5) -> float:
    """Least seconds of *times* runs."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def dataset(events: int) -> Dataset:
    return generate(events=events, start=START, end=START + timedelta(days=6), seed=11)


def page_body(made: Dataset) -> bytes:
    return b'{"next":null,"results":[%s]}' % b",".join(row(event, None, CLOUD) for event in made.events[:1000])


def raw_rows(made: Dataset, count: int) -> pa.Table:
    pages = [made.events[at : at + 1000] for at in range(0, count, 1000)]
    bodies = (b'{"next":null,"results":[%s]}' % b",".join(row(event, None, CLOUD) for event in page) for page in pages)
    return pa.concat_tables([decode.page(body).rows for body in bodies])


def bench_decode(made: Dataset) -> Figure:
    """One page of 1,000 rows into Arrow, against the standard library's parse of the same bytes."""
    body = page_body(made)
    return Figure(
        "decode a page",
        1000,
        best(lambda: decode.page(body), times=30),
        "json.loads",
        best(lambda: json.loads(body), times=30),
        f"msgspec.json.decode {best(lambda: msgspec.json.decode(body), times=30) * 1000:.1f} ms",
    )


def bench_transform(made: Dataset) -> Figure:
    """Typing, hashing and staging a page, against decoding it."""
    body = page_body(made)
    rows = decode.page(body).rows
    return Figure(
        "stage a page",
        1000,
        best(lambda: rows_of.from_page(rows, project_id=1, loaded_at=NOW), times=30),
        "decode a page",
        best(lambda: decode.page(body), times=30),
    )


def bench_land(made: Dataset) -> Figure:
    """Copies, digests and one transaction for a window of 50,000 rows, against a bare CREATE TABLE AS of the same rows."""
    count = min(WINDOW_ROWS, len(made))
    staged = rows_of.from_page(raw_rows(made, count), project_id=1, loaded_at=NOW)
    settled = rows_of.settled(staged)

    def land() -> None:
        with tempfile.TemporaryDirectory() as directory:
            sink = DuckDBSink(Path(directory) / "a.duckdb")
            sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
            again = rows_of.settled(staged)
            tally = Tally(
                again.source.count,
                str(again.source),
                again.landed_rows,
                str(again.landed_digest),
                copies=again.copies,
            )
            edges = (START, START + timedelta(days=1))
            entry = Entry(1, "events", *edges, *edges, State.LANDED, NOW, tally)
            sink.land([Landing(entry, again.rows, REJECTS.empty_table(), START, timedelta(days=1))])

    def bare() -> None:
        with tempfile.TemporaryDirectory() as directory, duckdb.connect(f"{directory}/b.duckdb") as db:
            db.register("landing", settled.rows)
            db.execute("CREATE TABLE events AS FROM landing")

    return Figure("land a window", count, best(land, times=3), "CREATE TABLE AS", best(bare, times=3))


def bench_sync(made: Dataset) -> Figure:
    """A whole sync from the simulator, each in a process of its own, against fetching the same pages and dropping them."""
    events = str(len(made))
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", events], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        fetched = child("--fetch", url, events)
        synced = child("--sync", url, events)
        server.kill()
    note = (
        f"{synced['list']} list requests for {len(made) / 1000:.0f} full pages, peak {synced['peak_mb']} MB, "
        f"{synced['cpu_s']:.1f} s CPU; second sync {synced['again_s']:.2f} s, {synced['again_requests']} request"
    )
    return Figure("sync", len(made), synced["seconds"], "fetch and drop", fetched["seconds"], note)


def child(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def serve_until_killed(events: int) -> None:
    from extractors.simulator.server import serve
    from tests.flows.harness import UNLIMITED

    with serve(dataset(events), profile=UNLIMITED, now=lambda: NOW) as simulator:
        print(simulator.url, flush=True)
        sys.stdin.read()


def fetch(url: str, events: int) -> dict[str, float]:
    """Ascending pages by the last row's time; rows at the edges are lost, which a yardstick may."""
    del events
    after, began = START.isoformat(), time.perf_counter()
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer phx_simulator"}) as client:
        while True:
            params = {"orderBy": '["timestamp"]', "after": after, "before": NOW.isoformat(), "limit": "1000"}
            body = client.get("/api/projects/1/events/", params=params).content
            times = re.findall(rb'"timestamp": ?"([^"]+)"', body)
            if len(times) < 1000:
                return {"seconds": time.perf_counter() - began}
            after = times[-1].decode()


def sync_once(url: str, events: int) -> dict[str, float]:
    from tests.flows.harness import landed, sync

    end = START + timedelta(days=6)
    with tempfile.TemporaryDirectory() as directory:
        sink = DuckDBSink(Path(directory) / "a.duckdb")
        began, cpu = time.perf_counter(), time.process_time()
        _, requests = sync(url, "phx_simulator", sink, Path(directory), since=START, until=end)
        figures = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "list": requests["list"]}
        # VmHWM and not ru_maxrss, which a child inherits from its parent.
        peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        figures["peak_mb"] = int(peak[1]) // 1024 if peak else 0
        began = time.perf_counter()
        _, again = sync(url, "phx_simulator", sink, Path(directory), since=START, until=end)
        figures |= {"again_s": time.perf_counter() - began, "again_requests": sum(again.values())}
        assert len(landed(sink, START, end)) == events, "the benchmark lost events"
    return figures


BENCHES = {"decode": bench_decode, "stage": bench_transform, "land": bench_land, "sync": bench_sync}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--only", choices=BENCHES)
    parser.add_argument("--json", type=Path)
    for inner in ("--serve", "--fetch", "--sync"):
        parser.add_argument(inner, nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve_until_killed(int(given.serve[0]))
    elif given.fetch or given.sync:
        url, events = given.fetch or given.sync
        print(json.dumps((fetch if given.fetch else sync_once)(url, int(events))))
    else:
        made = dataset(given.events)
        show([bench(made) for name, bench in BENCHES.items() if given.only in (None, name)], given.json)


def show(figures: list[Figure], file: Path | None) -> None:
    table = Table("stage", "rows", "seconds", "rows/s", "yardstick", "× yardstick", "note")
    for figure in figures:
        ratio = f"{figure.seconds / figure.yardstick_s:.2f}" if figure.yardstick_s else ""
        rate = f"{figure.rows / figure.seconds:,.0f}"
        table.add_row(
            figure.name, f"{figure.rows:,}", f"{figure.seconds:.4f}", rate, figure.yardstick, ratio, figure.note
        )
    Console(width=160).print(table)
    if file:
        file.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
