"""Single stages, in this process: each as a rate, and as a ratio to a yardstick of the same bytes or rows."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

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
class Stage:
    """*rows* in *cpu_s* of this process; *yardstick_s*: what *yardstick* took for the same rows."""

    name: str
    rows: int
    cpu_s: float
    yardstick: str
    yardstick_s: float


def best(work: Callable[[], object], *, times: int = 5) -> float:
    """Least CPU seconds of *times* runs, all threads together."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def stages(rows: int = WINDOW_ROWS) -> Iterator[Stage]:
    """Every stage; landing takes *rows*."""
    made = generate(events=rows, start=START, end=START + timedelta(days=6), seed=11)
    body = page_body(made)
    yield Stage(
        "decode a page", 1000, best(lambda: decode.page(body), times=30), "json.loads", best(lambda: json.loads(body))
    )
    yield Stage(
        "decode and stage a page",
        1000,
        best(lambda: staged(body), times=30),
        "json.loads",
        best(lambda: json.loads(body)),
    )
    yield _landing(made)


def page_body(made: Dataset, rows: int = 1000) -> bytes:
    """The first *rows* as a page."""
    return b'{"next":null,"results":[%s]}' % b",".join(row(event, None, CLOUD) for event in made.events[:rows])


def staged(body: bytes) -> object:
    """A body with its types and hashes, as it goes to the sink."""
    return rows_of.from_page(decode.page(body).rows, project_id=1, loaded_at=NOW)


def _landing(made: Dataset) -> Stage:
    """Copies, digests and one transaction for one window, against a bare CREATE TABLE AS of the same rows."""
    pages = [made.events[at : at + 1000] for at in range(0, len(made), 1000)]
    bodies = (b'{"next":null,"results":[%s]}' % b",".join(row(event, None, CLOUD) for event in page) for page in pages)
    raw = pa.concat_tables([decode.page(body).rows for body in bodies])
    ready = rows_of.from_page(raw, project_id=1, loaded_at=NOW)
    settled = rows_of.settled(ready)

    def land() -> None:
        with tempfile.TemporaryDirectory() as directory:
            sink = DuckDBSink(Path(directory) / "a.duckdb")
            sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
            again = rows_of.settled(ready)
            counts = again.source.count, str(again.source), again.landed_rows, str(again.landed_digest)
            edges = (START, START + timedelta(days=1))
            entry = Entry(1, "events", *edges, *edges, State.LANDED, NOW, Tally(*counts, copies=again.copies))
            sink.land([Landing(entry, again.rows, REJECTS.empty_table(), START, timedelta(days=1))])

    def bare() -> None:
        with tempfile.TemporaryDirectory() as directory, duckdb.connect(f"{directory}/b.duckdb") as db:
            db.register("landing", settled.rows)
            db.execute("CREATE TABLE events AS FROM landing")

    return Stage("land a window", len(made), best(land, times=3), "CREATE TABLE AS", best(bare, times=3))
