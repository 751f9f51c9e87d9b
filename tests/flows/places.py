"""Destinations as another process or a careless hand meets them, for the tests of what happens beside a landing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from extractors.simulator.data.dataset import Event
from sinks.duckdb_file.sink import DuckDBSink
from sinks.lake.sink import LakeSink
from sinks.memory import MemorySink
from sinks.sink import Sink
from tests import stores


def place(kind: str, directory: Path) -> MemorySink | DuckDBSink | LakeSink:
    """A destination of *kind* (memory, duckdb, lake) below *directory*; a second call opens it as another process would."""
    match kind:
        case "memory":
            return MemorySink()
        case "duckdb":
            return DuckDBSink(directory / "a.duckdb")
    return stores.local_lake(directory / "lake")


def reopened(sink: Sink) -> Sink:
    """The same destination, as another process has it."""
    match sink:
        case DuckDBSink():
            return DuckDBSink(sink.path)
        case LakeSink():
            assert sink.home is not None
            return stores.local_lake(sink.home)
    return sink


def lose_a_row(sink: Sink) -> None:
    """Damage by hand: the first row of the first window that has any is gone, the ledger stays."""
    match sink:
        case DuckDBSink():
            with duckdb.connect(str(sink.path)) as db:
                db.execute("DELETE FROM events WHERE uuid = (SELECT arg_min(uuid, (timestamp, uuid)) FROM events)")
        case LakeSink():
            assert sink.home is not None
            files = sorted(sink.home.glob("events/**/*.parquet"))
            file = next(one for one in files if pq.read_metadata(one).num_rows)
            pq.write_table(pq.ParquetFile(file).read().slice(1), file)
        case MemorySink():
            key = min(key for key, rows in sink._rows.items() if rows.num_rows)
            sink._rows[key] = sink._rows[key].slice(1)


def meanwhile(monkeypatch: pytest.MonkeyPatch, sink: Sink, step: str, act: Callable[[], object]) -> None:
    """*act* happens once, just before *sink* takes *step* for the first time."""
    done: list[bool] = []
    take = getattr(sink, step)

    def taken(*asked: object, **named: object) -> object:
        if not done:
            done.append(True)
            act()
        return take(*asked, **named)

    monkeypatch.setattr(sink, step, taken)


def steady(start: datetime, end: datetime, *, every: timedelta, name: str = "step") -> list[Event]:
    """An event every so often from *start* on."""
    count = -(-(end - start) // every)
    first = int(start.timestamp()) % 10**10
    return [
        Event(f"cccccccc-{number:04x}-4000-8000-{first:012d}", name, f"user-{number % 7}", start + number * every, "{}")
        for number in range(count)
    ]


def late(count: int, at: datetime, created_at: datetime | None = None) -> list[Event]:
    """Events a second apart from *at* on, that the source took in at *created_at*."""
    return [
        Event(f"aaaaaaaa-0000-4000-8000-{n:012x}", "late", f"user-{n}", at + timedelta(seconds=n), "{}", "", created_at)
        for n in range(count)
    ]
