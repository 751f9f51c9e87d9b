"""What a destination holds of a stream beside events, counted: a function per mechanism. Asks PostHog nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flows.runs.catalog import STREAMS, Mechanism, Stream
from sinks.destination import Destination
from sinks.sink import Run
from transforms.backup import of_project


@dataclass(frozen=True, slots=True)
class Held:
    """*rows*: of its table. *current*: objects that are there; *deleted*; *missing*: of the current ones, those that the
    source does not show any more, or whose content is not kept. *contents*: kept, and their *bytes*; *tables*: made of
    them. *changed_at*: of the latest row; *read_at*: when a sync last read the source to the end."""

    rows: int = 0
    current: int = 0
    deleted: int = 0
    missing: int = 0
    contents: int = 0
    bytes: int = 0
    tables: int = 0
    changed_at: datetime | None = None
    read_at: datetime | None = None


def held(sink: Destination, project_id: int, stream: Stream, runs: Sequence[Run]) -> Held:
    """What *sink* holds of *stream*. *runs*: the stream's, newest first. Raises SinkError."""
    table = sink.table(stream.table)
    rows: list[dict[str, Any]] = of_project(table.rows, project_id).to_pylist() if table else []
    ended = (run.finished_at for run in runs if run.command == "sync" and run.outcome in ("done", "incomplete"))
    return BESIDE[stream.mechanism](rows, sink, project_id, next(ended, None))


def _history(rows: Sequence[Mapping[str, Any]], sink: Destination, project_id: int, read_at: datetime | None) -> Held:
    current = [row for row in rows if row["valid_to"] is None]
    living = [row for row in current if not row["deleted"]]
    return Held(
        rows=len(rows),
        current=len(living),
        deleted=len(current) - len(living),
        missing=sum(row.get("missing_since") is not None for row in living),
        changed_at=max((row["valid_from"] for row in rows), default=None),
        read_at=read_at,
    )


def _exports(rows: Sequence[Mapping[str, Any]], sink: Destination, project_id: int, read_at: datetime | None) -> Held:
    kept = [row for row in rows if row["content_sha256"] is not None]
    beside = {stream.table for stream in STREAMS}
    tables = [name for name in sink.tables() if name not in beside]
    mine = [
        name for name in tables if (of := re.fullmatch(r"export_(\d+)_\d+", name)) is None or int(of[1]) == project_id
    ]
    return Held(
        rows=len(rows),
        current=len(rows),
        missing=sum(row["has_content"] and row["content_sha256"] is None for row in rows),
        contents=len(kept),
        bytes=sum(row["content_bytes"] for row in kept),
        tables=len(mine),
        changed_at=max((row["_loaded_at"] for row in rows), default=None),
        read_at=read_at,
    )


BESIDE: Mapping[Mechanism, Callable[[Sequence[Mapping[str, Any]], Destination, int, datetime | None], Held]] = {
    Mechanism.HISTORY: _history,
    Mechanism.CONTENTS: _exports,
}
"""How what lies beside windows of time is counted."""
