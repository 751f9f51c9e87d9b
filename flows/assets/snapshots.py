"""Snapshots: exports that hedgerow orders, and the tables that grow by them."""

from __future__ import annotations

import time
from collections.abc import Callable

from extractors import files
from extractors.errors import LimitsExhausted, SourceError
from extractors.http.client import Client
from extractors.lists import exports
from extractors.lists.exports import Asset, NewExport
from flows.assets import ordering
from flows.assets.tables import AssetTable
from flows.runs.wiring import now
from flows.settings.model import Settings, Snapshot

ANSWER_S = 100.0
BUSY_S, POLL_S = 150.0, 0.5  # how long a run waits for another that is ordering the same, and how often it looks


def take_snapshot(settings: Settings, wanted: Snapshot, client: Client, table: AssetTable) -> None:
    """Make an export, wait for it, and land it into its growing table. What is not ready in time is a later run's."""
    done = table.done
    order = NewExport(exports.FORMATS[wanted.format], wanted.insight, wanted.dashboard, wanted.context)
    notes = ordering.OrderNotes(settings.source.state_dir, settings.source.host, done.project_id, now(), wanted.name)
    try:
        made = _made(client, order, notes, on_note=done.notes.append)
        ready = exports.finished(client, done.project_id, made, pause=time.sleep)
    except LimitsExhausted:
        raise
    except files.Busy:
        done.problems.append(f"snapshot {wanted.name} was not taken: another run is ordering the same")
        return
    except SourceError as exc:
        done.problems.append(f"snapshot {wanted.name} was not taken: {exc}")
        return
    table.take(client, ready, snapshot=wanted.name)
    table.commit()


def _made(client: Client, order: NewExport, notes: ordering.OrderNotes, *, on_note: Callable[[str], None]) -> Asset:
    """The export that *order* makes; where another run is ordering the same, after it. As ordering.make, which see."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return ordering.make(client, order, notes, answer_s=ANSWER_S, pause=time.sleep, on_note=on_note)
        except files.Busy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_S)
