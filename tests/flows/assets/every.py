"""A destination that holds something of every stream: events with changes and quarantine, exports with contents, tables and
a snapshot, histories with changes, two projects and their runs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from extractors.simulator.assets import lists
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import XLSX, ExportStore, workbook
from extractors.simulator.assets.lists import ListStore
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.server import Simulator, serve
from flows.assets import streams
from flows.runs import loads
from flows.runs.catalog import STREAMS
from flows.runs.destinations import destination_of
from flows.settings.load import load
from flows.settings.model import Settings, Snapshot
from sinks.destination import Destination
from sinks.entries import Entry
from tests.flows.assets.test_assets import CSV, FREE
from tests.flows.places import late, steady

NOW = datetime(2026, 3, 20, tzinfo=UTC)
START = NOW - timedelta(hours=6)
PICTURE = b"\x89PNG" * 99
WEEKLY = Snapshot(name="weekly", insight=7)
PROJECTS = (1, 2)
DEEP = '{"a":' * 1_000 + "1" + "}" * 1_000  # more levels than are read


@dataclass(slots=True)
class World:
    """A server that tests may change, and settings for it."""

    simulator: Simulator
    exports: ExportStore
    judges: EvaluationStore
    notes: ListStore
    datasets: dict[int, Dataset]
    directory: Path
    clock: datetime = NOW

    def settings(self, address: str, project_id: int = 1) -> Settings:
        flags: dict[str, object] = {
            "source.host": self.simulator.url,
            "source.key": self.simulator.key,
            "source.project_id": project_id,
            "source.state_dir": self.directory / "state",
            "destination.address": address,
        }
        made = load(flags, directory=self.directory).settings
        return made.model_copy(update={"exports": made.exports.model_copy(update={"snapshot": (WEEKLY,)})})

    def sync(self, address: str, project_id: int = 1, *, only: str | None = None) -> None:
        """Land every stream, or *only* one."""
        settings = self.settings(address, project_id)
        for stream in STREAMS:
            if only not in (None, stream.name):
                continue
            if stream.ranged:
                since, until = START.isoformat(), NOW.isoformat()
                loads.load_events(settings, project_id, command="sync", since=since, until=until)
            else:
                streams.sync(settings, project_id, stream.name, named=True)

    def change(self) -> None:
        """An hour later something of every stream is another."""
        self.clock += timedelta(hours=1)
        for dataset in self.datasets.values():
            dataset.add(late(3, START + timedelta(minutes=90), NOW + timedelta(minutes=1)))
        self.judges.rows[0]["name"] = "another"
        self.judges.rows[1]["deleted"] = True
        self.notes.rows[0]["content"] = "another"
        self.exports.add("text/csv", NOW - timedelta(minutes=5), content=Blob.of(b"day,count\r\n2026-01-05,1\r\n"))


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """A server with something of every stream."""
    exports, judges, held = ExportStore(), EvaluationStore(), lists.stores()
    contents = [("text/csv", CSV), (XLSX, workbook(4)), ("image/png", PICTURE), ("application/json", b'[{"a": 1}]')]
    for number, (kind, content) in enumerate(contents):
        exports.add(kind, NOW - timedelta(hours=number + 1), content=Blob.of(content))
    for name in ("Helpful", "Short", "Kind"):
        judges.add(name, START)
    held["annotations"].add(START)
    events = steady(START, NOW - timedelta(hours=3), every=timedelta(minutes=20))
    datasets = {one: Dataset([*events, odd(one)]) for one in PROJECTS}
    made: list[World] = []
    with serve(
        datasets,
        profile=FREE,
        now=lambda: made[0].clock if made else NOW,
        exports=exports,
        evaluations=judges,
        lists=held,
    ) as simulator:
        made.append(World(simulator, exports, judges, held["annotations"], datasets, directory))
        yield made[0]


def odd(number: int) -> Event:
    """An event that cannot be typed."""
    return Event(f"eeeeeeee-0000-4000-8000-{number:012}", "odd", "d", START + timedelta(minutes=70), DEEP)


def fill(address: str, directory: Path) -> None:
    """Land every stream of both projects; of the first again, after something has changed."""
    with world(directory) as made:
        for project_id in PROJECTS:
            made.sync(address, project_id)
        made.change()
        made.sync(address, PROJECTS[0])


def once(temporary: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A directory that *make* fills once for all workers of a run, to be copied from."""
    root = temporary.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    home, begun = root / name, root / f"{name}.new"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir()
            make(begun)
            begun.rename(home)
    return home


def opened(address: str, directory: Path) -> Destination:
    return destination_of(load({"destination.address": address}, directory=directory).settings)


def told(sink: Destination) -> dict[str, Any]:
    """Everything that a destination holds, in an order of its own, without where contents lie and what only it knows:
    how often it was written."""
    found = told_beside(sink)
    for one in found["projects"]:
        found[f"origins {one}"] = [sink.origin(one, stream.name) for stream in STREAMS]
        found[f"runs {one}"] = sink.runs(one, limit=1_000)
        ledger = sink.ledger(one, "events")
        found[f"windows {one}"] = [_bare(entry) for _, entry in sorted(ledger.entries.items())]
        found[f"ledger {one}"] = (ledger.mark, ledger.steps)
        found[f"changes {one}"] = sink.changes(one, "events")
        found[f"events {one}"] = sorted(map(str, sink.rows(one, START, NOW).to_pylist()))
        found[f"quarantine {one}"] = sorted(
            str(row) for entry in ledger.entries.values() for row in sink.rejects(entry).to_pylist()
        )
    return found


def told_beside(sink: Destination) -> dict[str, Any]:
    """Tables and contents."""
    found: dict[str, Any] = {"projects": sink.projects()}
    for name in sink.tables():
        held = sink.table(name)
        assert held is not None
        found[name] = (_types(held.rows), _rows(held.rows))
        if name == "exports":
            for row in held.rows.to_pylist():
                if row["content_path"]:
                    with sink.content(row["content_path"]) as file:
                        found[f"content {row['project_id']} {row['id']}"] = file.read()
    return found


def _bare(entry: Entry) -> str:
    return str(replace(entry, generation=0, noted=0))


def _types(table: pa.Table) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in table.schema]


def _rows(table: pa.Table) -> list[str]:
    kept = [name for name in table.column_names if name != "content_path"]
    return sorted(map(str, table.select(kept).to_pylist()))
