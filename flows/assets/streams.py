"""Exports and evaluations landed as tables: what is new or changed, nothing twice (contract.md §3, `sync`).

Contents go to the destination byte for byte before they expire; a content whose sha256 is known is never fetched again.
Each asset is committed with its content, so that a run that ends goes on where it stopped.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from extractors import files
from extractors.errors import AccessDenied, EndpointMissing, LimitsExhausted, RequestRefused, SourceError
from extractors.http.client import Client
from extractors.lists import contents, evaluations, exports
from extractors.lists.exports import Asset, NewExport
from flows.assets import ordering
from flows.landing.crossing import until_done
from flows.report.words import counted
from flows.runs.loads import INTERRUPTED, in_history
from flows.runs.wiring import Listener, client_of, now, sink_of
from flows.settings.model import Settings, Snapshot
from sinks.errors import DestinationUnusable, SinkError
from sinks.sink import Destination, Run, Table
from transforms import evaluations as evaluation_rows
from transforms import exports as export_rows
from transforms import tables

EXPORTS, EVALUATIONS = "exports", "evaluations"
BATCH = 20  # assets that are committed together, where they have no content
ANSWER_S = 100.0


@dataclass(slots=True)
class Synced:
    """What a run over one stream of one project did. *new*, *changed*, *deleted*: assets or evaluations; *contents*:
    fetched, and their *bytes*; *skipped*: why the source has nothing for this key."""

    project_id: int
    stream: str
    new: int = 0
    changed: int = 0
    deleted: int = 0
    contents: int = 0
    bytes: int = 0
    snapshots: int = 0
    requests: int = 0
    seconds: float = 0.0
    skipped: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sync(
    settings: Settings,
    project_id: int,
    stream: str,
    *,
    named: bool,
    accept_deletions: bool = False,
    max_wait: timedelta | None = None,
    listener: Listener | None = None,
) -> Synced:
    """Land what is new of exports or evaluations. *named*: the user asked for this stream; otherwise a key or server
    that has none is no error. *accept_deletions*: what the source does not show any more is deleted, however much it is.

    Raises SettingsError, SourceError, SinkError; what is committed stays.
    """
    listener = listener or Listener()
    started_at = now()
    done = Synced(project_id, stream)
    sink = sink_of(settings, listener)
    sink.probe(project_id, stream, host=settings.source.host, event_filter="")
    with client_of(settings, listener=listener, max_wait=max_wait) as (client, _):
        error = ""
        try:
            if stream == EXPORTS:
                _exports(settings, project_id, client, sink, done)
            else:
                _evaluations(settings.source.host, client, sink, done, accept_deletions=accept_deletions)
        except (AccessDenied, EndpointMissing, RequestRefused) as exc:
            if named:
                raise
            done.skipped = str(exc)
            return done
        except Exception as exc:
            error = f"{type(exc).__name__}: {exc}"[:500]
            raise
        except BaseException:
            error = INTERRUPTED
            sink.hurry()
            raise
        finally:
            done.requests = sum(client.requests.values())
            done.seconds = round((now() - started_at).total_seconds(), 3)
            # The history must not hide the error that ended the run.
            with suppress(SinkError) if error else nullcontext():
                if sink.exists() and not done.skipped and (error or sink.origin(project_id, stream)):
                    _record(sink, done, started_at=started_at, error=error)
    return done


def _exports(settings: Settings, project_id: int, client: Client, sink: Destination, done: Synced) -> None:
    shown = exports.assets(client, project_id)
    first = next(shown, None)  # the source has let us in
    sink.prepare(project_id, EXPORTS, host=settings.source.host, event_filter="", rebuild=False)
    shelf = _Shelf(sink, project_id, done, frozenset(one.name for one in settings.exports.snapshot))
    ordered: list[tuple[Asset, str]] = []
    for one in _chained(first, shown):
        name = ordering.snapshot_of(one)
        if name is None:
            shelf.take(client, one)
        else:
            ordered.append((one, name))
    for one, name in reversed(ordered):  # the oldest first; those of this run's own table come when all else is landed
        shelf.take(client, one, snapshot=name)
    shelf.commit()
    for wanted in settings.exports.snapshot:
        _snapshot(settings, wanted, client, shelf)


def _chained(first: Asset | None, rest: Iterator[Asset]) -> Iterator[Asset]:
    if first is not None:
        yield first
        yield from rest


class _Shelf:
    """The table of assets as it is landed, and what is to be committed to it. *growing*: names of the snapshots' tables."""

    def __init__(self, sink: Destination, project_id: int, done: Synced, growing: Container[str]) -> None:
        self._sink, self._project_id, self.done, self._growing = sink, project_id, done, growing
        held = sink.table(EXPORTS)
        self._known = export_rows.known(held.rows if held else None, project_id)
        self._pending: list[export_rows.Row] = []

    def take(self, client: Client, one: Asset, *, snapshot: str | None = None) -> None:
        """Land an asset, if it is new or has changed, with its content. *snapshot*: the one that it was ordered for."""
        before = self._known.get(one.id)
        row = export_rows.row_of(
            one.row,
            project_id=self._project_id,
            created_at=one.created_at,
            expires_after=one.expires_after,
            has_content=one.has_content,
            loaded_at=now(),
        )
        row = export_rows.merged(before, row)
        fetched = row["content_sha256"] is not None
        if not export_rows.differs(row, before) and (fetched or not one.has_content):
            return
        self.done.new += before is None
        self.done.changed += before is not None
        if one.has_content and not fetched:
            row = self._fetched(client, one, row, snapshot=snapshot)
        self._known[one.id] = row
        self._pending.append(row)
        if len(self._pending) >= BATCH or (row["content_sha256"] and not fetched):
            self.commit()

    def _fetched(self, client: Client, one: Asset, row: export_rows.Row, *, snapshot: str | None) -> export_rows.Row:
        """The row with its content, which is landed and kept; as it was, if the content did not come."""
        with ExitStack() as until_kept:
            try:
                with _writing(self._sink):
                    scratch = until_kept.enter_context(
                        tempfile.TemporaryDirectory(
                            dir=self._sink.spool_directory, prefix="content-", ignore_cleanup_errors=True
                        )
                    )
                    path = Path(scratch) / contents.safe_name(one)
                    content = contents.download(client, self._project_id, one, path)
                    table = self._table(one, content.path)
            except LimitsExhausted:
                raise
            except SourceError as exc:
                self.done.problems.append(f"the content of export {one.id} did not come: {exc}")
                return row
            self.done.contents += 1
            self.done.bytes += content.bytes
            if content.possibly_cut:
                self.done.problems.append(
                    f"export {one.id} has exactly {content.rows:,} rows, a limit of PostHog's: it may have been cut there"
                )
            # A snapshot's table grows before the content is kept and the asset committed: a run that ends in between is
            # followed by one that does all of it again, and finds the rows in.
            if snapshot is not None:
                self._grow(one, table, snapshot)
            address = self._sink.keep(f"{self._project_id}/{one.id}-{content.path.name}", content.path)
        if snapshot is None and table is not None:
            self._land_table(one, table)
        return export_rows.with_content(
            row,
            path=address,
            sha256=content.sha256,
            size=content.bytes,
            rows=table.num_rows if table is not None else content.rows,
            possibly_cut=content.possibly_cut,
        )

    def _table(self, one: Asset, path: Path) -> pa.Table | None:
        reader = export_rows.READERS.get(one.export_format)
        if reader is None:
            return None
        if path.stat().st_size > tables.LARGEST_BYTES:
            self.done.notes.append(f"export {one.id} is too large to be a table; its content is kept")
            return None
        try:
            return reader(path.read_bytes())
        except tables.NotTabular as exc:
            self.done.notes.append(f"export {one.id} is no table: {exc}; its content is kept")
            return None

    def _land_table(self, one: Asset, table: pa.Table) -> None:
        name = f"export_{self._project_id}_{one.id}"
        held = self._sink.table(EXPORTS)
        others = held.rows.to_pylist() if held else []
        alone = all(row["project_id"] == self._project_id for row in others if row["id"] == one.id)
        views = {f"export_{one.id}": f'FROM "{name}"'} if alone else {}
        replaced(self._sink, name, lambda old: table, views=views)

    def commit(self) -> None:
        """Land what is pending; at least an empty table, so that queries find it."""

        def update(old: pa.Table | None) -> pa.Table | None:
            if old is not None and not self._pending:
                return None
            rows = export_rows.updated(old, self._pending)
            self._known = export_rows.known(rows, self._project_id)  # with what other runs have landed meanwhile
            return rows

        replaced(self._sink, EXPORTS, update, json=export_rows.JSON)
        self._pending = []

    def _grow(self, one: Asset, table: pa.Table | None, snapshot: str) -> None:
        """Add the rows of *one* to its snapshot's growing table, if they are not in it."""
        if snapshot not in self._growing:
            self.done.notes.append(
                f"export {one.id} was ordered for snapshot {snapshot}, which is not in the settings: its content is kept"
            )
        elif table is None:
            self.done.problems.append(f"snapshot {snapshot} was not landed: export {one.id} holds no table")
        else:
            at = one.created_at or now()
            rows = export_rows.snapshot(table, at=at, project_id=self._project_id, asset_id=one.id)
            replaced(self._sink, snapshot, lambda old: export_rows.grown(old, rows))
            self.done.snapshots += 1


@contextmanager
def _writing(sink: Destination) -> Iterator[None]:
    """Translates what the disk says of the place where a content waits until it is kept."""
    try:
        yield
    except OSError as exc:
        remedy = (
            "set TMPDIR to a directory with room" if sink.home is None else "make room there, and let hedgerow write"
        )
        raise DestinationUnusable(
            f"cannot write a content into {sink.spool_directory}: {exc.strerror or exc}",
            hint=f"{remedy}; what is committed stays, and the next run goes on from there",
        ) from exc


def _snapshot(settings: Settings, wanted: Snapshot, client: Client, shelf: _Shelf) -> None:
    """Make an export, wait for it, and land it into its growing table. What is not ready in time is a later run's."""
    done = shelf.done
    order = NewExport(exports.FORMATS[wanted.format], wanted.insight, wanted.dashboard, wanted.context)
    desk = ordering.Desk(settings.source.state_dir, settings.source.host, done.project_id, now(), wanted.name)
    try:
        made = ordering.make(client, order, desk, answer_s=ANSWER_S, pause=time.sleep, tell=done.notes.append)
        ready = exports.finished(client, done.project_id, made, pause=time.sleep)
    except LimitsExhausted:
        raise
    except files.Busy:
        done.problems.append(f"snapshot {wanted.name} was not taken: another run is ordering the same")
        return
    except SourceError as exc:
        done.problems.append(f"snapshot {wanted.name} was not taken: {exc}")
        return
    shelf.take(client, ready, snapshot=wanted.name)
    shelf.commit()


def _evaluations(host: str, client: Client, sink: Destination, done: Synced, *, accept_deletions: bool) -> None:
    """Read the table, then the list, then put the table back; all of it again, if another run was faster.

    In this order what is read is newer than all that the table holds, so that no clock is needed to tell which is.
    """
    project_id, version = done.project_id, ""

    def attempt() -> evaluation_rows.Merged:
        nonlocal version
        old = sink.table(EVALUATIONS)
        rows = list(evaluations.evaluations(client, project_id))
        version = old.version if old else ""
        # Only now, when the source has let us in.
        sink.prepare(project_id, EVALUATIONS, host=host, event_filter="", rebuild=False)
        found = evaluation_rows.merged(
            old.rows if old else None,
            rows,
            project_id=project_id,
            at=client.served_at or now(),
            accept_deletions=accept_deletions,
        )
        if old is None or found:
            _put(sink, old, found)
        return found

    found = until_done(attempt, landed=lambda: version)
    done.new, done.changed, done.deleted = found.new, found.changed, found.deleted
    if found.missing:
        done.problems.append(
            f"the source does not show {len(found.missing):,} of {counted(found.current, 'evaluation')} any more: kept; "
            "if they were deleted on purpose, run with --accept-deletions"
        )


def _put(sink: Destination, old: Table | None, found: evaluation_rows.Merged) -> None:
    views = {"evaluation_results": evaluation_rows.RESULTS_VIEW}
    version = old.version if old else ""
    sink.replace(EVALUATIONS, found.table, version=version, json=evaluation_rows.JSON, views=views)


def replaced(
    sink: Destination,
    name: str,
    change: Callable[[pa.Table | None], pa.Table | None],
    *,
    json: Sequence[str] = (),
    views: dict[str, str] | None = None,
) -> None:
    """Read the table *name*, *change* it and put it back; again, if another run was faster. None: it stays as it is."""
    version = ""

    def attempt() -> None:
        nonlocal version
        old = sink.table(name)
        version = old.version if old else ""
        rows = change(old.rows if old else None)
        if rows is not None:
            sink.replace(name, rows, version=version, json=json, views=views)

    until_done(attempt, landed=lambda: version)


def _record(sink: Destination, done: Synced, *, started_at: datetime, error: str) -> None:
    sink.record(
        Run(
            run_id=str(uuid.uuid4()),
            command="sync",
            project_id=done.project_id,
            stream=done.stream,
            started_at=started_at,
            finished_at=now(),
            outcome=INTERRUPTED
            if error == INTERRUPTED
            else "failed"
            if error
            else "incomplete"
            if done.problems
            else "done",
            windows=0,
            rows=done.new + done.changed,
            requests=done.requests,
            waited_s=0.0,
            error=in_history(error, done.problems),
        )
    )
