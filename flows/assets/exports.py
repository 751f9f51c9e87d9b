"""Exports landed: what is new or changed, with its content, before it expires."""

from __future__ import annotations

from collections.abc import Iterator

from extractors.http.client import Client
from extractors.lists import exports
from extractors.lists.exports import Asset
from flows.assets import ordering
from flows.assets import rebuild as rebuilding
from flows.assets.snapshots import take_snapshot
from flows.assets.synced import Synced
from flows.assets.tables import AssetTable
from flows.runs.catalog import EXPORTS
from flows.settings.model import Settings
from sinks.destination import Destination


def land_exports(
    settings: Settings, project_id: int, client: Client, sink: Destination, done: Synced, *, rebuild: bool
) -> None:
    growing = frozenset(one.name for one in settings.exports.snapshot)
    if rebuild:
        rebuilding.rebuild(sink, done, growing)
    shown = exports.assets(client, project_id, on_unusable=done.problems.append)
    first = next(shown, None)  # the source has let us in
    sink.prepare(project_id, EXPORTS, host=settings.source.host, event_filter="", rebuild=False)
    table = AssetTable(sink, project_id, done, growing)
    ordered: list[tuple[Asset, str]] = []
    for one in _chained(first, shown):
        name = ordering.snapshot_of(one)
        if name is None:
            table.take(client, one)
        else:
            ordered.append((one, name))
    for one, name in reversed(ordered):  # the oldest first; those of this run's own table come when all else is landed
        table.take(client, one, snapshot=name)
    table.commit()
    for wanted in settings.exports.snapshot:
        take_snapshot(settings, wanted, client, table)


def _chained(first: Asset | None, rest: Iterator[Asset]) -> Iterator[Asset]:
    if first is not None:
        yield first
        yield from rest
