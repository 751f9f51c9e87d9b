"""`hedgerow copy` of every stream: from one destination to another, without asking PostHog.

Windows of time are flows/landing/copy.py's; this copies what lies beside them, a function per mechanism, and the history of
runs. Whatever is committed stays, a second copy goes on, and what the target has is never less afterwards.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from flows.assets import contents
from flows.assets.contents import said
from flows.assets.growing import Written
from flows.assets.tables import BATCH, put_table, replaced
from flows.landing import copy as windows
from flows.landing.session import Progress
from flows.runs import findings
from flows.runs.catalog import EXPORTS, STREAMS, Mechanism, Stream
from sinks.destination import Destination
from sinks.errors import DestinationUnusable, TableUnreadable, writing
from sinks.sink import Run
from transforms import backup, history
from transforms import exports as export_rows

EVERY_RUN = 2**62  # a history that is asked for whole


@dataclass(slots=True)
class Carried:
    """What was copied of a stream beside events. *rows*: new or other at the target than before; *contents*: copied, and
    their *bytes*; *tables*: compared, and copied where they differ; *kept*: rows and contents that the target had already."""

    project_id: int
    stream: str
    rows: int = 0
    contents: int = 0
    bytes: int = 0
    tables: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied of one project: its events, the streams beside them, and so many runs of its history. *runs_left*:
    older ones, which the target does not keep."""

    project_id: int
    events: windows.Copied
    others: tuple[Carried, ...]
    runs: int
    runs_left: int = 0

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        return [*findings.of_copy(self.events), *(problem for one in self.others for problem in one.problems)]


def copy(
    project_id: int,
    source: Destination,
    target: Destination,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Backup:
    """Bring *target* up to what *source* has of a project. Raises SinkError; what is committed stays."""
    landed = [stream for stream in STREAMS if source.origin(project_id, stream.name) is not None]
    if not landed:
        raise DestinationUnusable(
            f"{source.name} holds nothing of project {project_id}",
            hint="hedgerow status shows what a destination holds",
        )
    events, others = windows.Copied(project_id), []
    for stream in landed:
        if stream.mechanism is Mechanism.WINDOWS:
            events = windows.copy(project_id, source, target, on_progress=on_progress)
            continue
        host, event_filter = source.origin(project_id, stream.name) or ("", "")
        target.prepare(project_id, stream.name, host=host, event_filter=event_filter, rebuild=False)
        done = Carried(project_id, stream.name)
        with _left_out(done, stream.table):
            BESIDE[stream.mechanism](stream, source, target, done)
        others.append(done)
    return Backup(project_id, events, tuple(others), *_copy_runs(project_id, landed, source, target))


def _copy_runs(project_id: int, landed: Iterable[Stream], source: Destination, target: Destination) -> tuple[int, int]:
    """Runs of streams that are landed, the oldest first; how many were copied, and how many left."""
    names = {stream.name for stream in landed}
    theirs = [run for run in source.runs(project_id, limit=EVERY_RUN) if run.stream in names]
    ours = target.runs(project_id, limit=EVERY_RUN)
    wanted, left = runs_to_copy(theirs, ours, keep=target.runs_kept)
    if wanted:
        target.record(*wanted)
    return len(wanted), left


def runs_to_copy(theirs: Sequence[Run], ours: Sequence[Run], *, keep: int | None) -> tuple[list[Run], int]:
    """Those of *theirs* that *ours* lack, each known by its id, oldest first; of each stream no older ones than the target
    will *keep*, or a copy would never be done. And how many of them were left out."""
    known = {run.run_id for run in ours}
    lacking = sorted((run for run in theirs if run.run_id not in known), key=_begun)
    if keep is None:
        return lacking, 0
    kept: set[str] = set()
    for stream in {run.stream for run in lacking}:
        both = [run for run in (*ours, *lacking) if run.stream == stream]
        kept |= {run.run_id for run in sorted(both, key=_begun)[-keep:]}
    wanted = [run for run in lacking if run.run_id in kept]
    return wanted, len(lacking) - len(wanted)


def _begun(run: Run) -> tuple[datetime, str]:
    return run.started_at, run.run_id


# --- lists with history


def _copy_history(stream: Stream, source: Destination, target: Destination, done: Carried) -> None:
    assert stream.shape is not None
    theirs = source.table(stream.table)
    if theirs is None:
        return
    rows = backup.of_project(theirs.rows, done.project_id).num_rows

    def change(ours: pa.Table | None) -> pa.Table | None:
        done.rows, done.kept = 0, rows
        found = backup.history(ours, theirs.rows, done.project_id)
        if found is not None:
            done.rows, done.kept = rows, 0
        return found

    try:
        replaced(target, stream.table, change, json=history.json_columns(stream.shape), views=dict(stream.shape.views))
    except backup.OtherHistory:
        done.kept = 0
        done.problems.append(
            f"{stream.name} not copied: {target.name} has another history of them, which stays; copy into another destination"
        )


# --- exports, their contents and tables


def _copy_exports(stream: Stream, source: Destination, target: Destination, done: Carried) -> None:
    assets = source.table(EXPORTS)
    if assets is None:
        return
    theirs = export_rows.known(assets.rows, done.project_id)
    _copy_assets(theirs, source, target, done)
    held = target.table(EXPORTS)
    ours = export_rows.known(held.rows if held else None, done.project_id)
    names = source.tables()
    for name in names:
        found = re.fullmatch(rf"export_{done.project_id}_(\d+)", name)
        row = theirs.get(int(found[1])) if found else None
        if row is not None and _of_one_content(row, ours[row["id"]]):
            with _left_out(done, name):
                _copy_table(name, row, source, target, done)
    others = {one.table for one in STREAMS}
    foreign = {(done.project_id, one) for one, row in theirs.items() if not _of_one_content(row, ours[one])}
    for name in names:
        if name not in others and not re.fullmatch(r"export_\d+_\d+", name):
            with _left_out(done, name):
                _copy_snapshot(name, source, target, done, foreign)


@contextmanager
def _left_out(done: Carried, name: str) -> Iterator[None]:
    """A table that cannot be read, here or there, keeps nothing else from being copied: it is named."""
    try:
        yield
    except TableUnreadable as exc:
        done.problems.append(f"table {name} not copied: {exc} ({exc.hint})")


def _copy_assets(
    theirs: Mapping[int, export_rows.Row], source: Destination, target: Destination, done: Carried
) -> None:
    """Rows of exports, each after its content: at least an empty table, so that queries find it."""
    held = target.table(EXPORTS)
    ours = export_rows.known(held.rows if held else None, done.project_id)
    pending: list[export_rows.Row] = []
    for number, row in sorted(theirs.items()):
        copied = done.contents
        wanted = backup.asset(ours.get(number), _with_content(row, ours.get(number), source, target, done))
        if wanted == ours.get(number):
            done.kept += 1
            continue
        done.rows += 1
        pending.append(wanted)
        if done.contents > copied or len(pending) >= BATCH:
            _commit(target, pending)
            pending = []
    if pending or held is None:
        _commit(target, pending)


def _commit(target: Destination, rows: Sequence[export_rows.Row]) -> None:
    """Put *rows* into the target's table: over those that are there by then."""

    def change(old: pa.Table | None) -> pa.Table:
        now = export_rows.known(old, rows[0]["project_id"]) if rows else {}
        return export_rows.updated(old, [backup.asset(now.get(row["id"]), row) for row in rows])

    replaced(target, EXPORTS, change, json=export_rows.JSON)


def _with_content(
    row: export_rows.Row, held: export_rows.Row | None, source: Destination, target: Destination, done: Carried
) -> export_rows.Row:
    """*row* as the target may have it: with a content that lies there, or with none.

    A content is compared with its sha256 before it is copied and after; one that the target has stays.
    """
    known, ours = contents.landed(row), contents.landed(held) if held else None
    if known is None:
        return row
    what = f"the content of export {row['id']}"
    without = row | dict.fromkeys(export_rows.CONTENT)
    if held is not None and ours is not None and ours != known:
        done.problems.append(f"{what} not copied: {target.name} has another, of {ours}, which stays")
        return without
    if held is not None and ours == known and contents.size(target, held["content_path"]) == known.bytes:
        done.kept += 1
        return row | {"content_path": held["content_path"]}
    with writing(target.spool_directory), tempfile.NamedTemporaryFile(dir=target.spool_directory) as file:
        found = contents.read(source, row["content_path"], file)
        file.flush()
        if found != known:
            done.problems.append(f"{what} not copied: {said(found)} (hedgerow verify --repair)")
            return without
        address = target.store_content(contents.below(row["content_path"]), Path(file.name))
    if contents.read(target, address) != known:
        done.problems.append(f"{what} is not in {target.name} as copied")
        return without
    done.contents += 1
    done.bytes += known.bytes
    return row | {"content_path": address}


def _of_one_content(row: export_rows.Row, ours: export_rows.Row) -> bool:
    """Whether the table of an export may stand at the target: which may have another content of it."""
    return ours["content_sha256"] in (None, row["content_sha256"])


def _copy_table(name: str, row: export_rows.Row, source: Destination, target: Destination, done: Carried) -> None:
    """The table of an export, which is made of its content."""
    theirs = source.table(name)
    assert theirs is not None
    if row["content_rows"] != theirs.rows.num_rows:
        done.problems.append(
            f"table {name} not copied: it holds {theirs.rows.num_rows:,} of {row['content_rows'] or 0:,} rows "
            "(hedgerow verify --repair)"
        )
        return

    def change(ours: pa.Table | None) -> pa.Table | None:
        return None if ours is not None and backup.same(ours, theirs.rows) else theirs.rows

    put_table(target, done.project_id, name, change)
    done.tables += 1


def _copy_snapshot(
    name: str, source: Destination, target: Destination, done: Carried, foreign: Container[export_rows.Key]
) -> None:
    theirs = source.table(name)
    assert theirs is not None
    other: list[int] = []
    left: list[str] = []

    def change(ours: pa.Table | None) -> pa.Table | None:
        nonlocal other, left
        written = Written(target, done.project_id, foreign=foreign)
        found, other = backup.snapshot(ours, theirs.rows, done.project_id, written)
        left = written.problems(name) if found is not None else []
        return found

    replaced(target, name, change)
    done.tables += 1
    done.problems += left
    if other:
        done.problems.append(
            f"of snapshot {name}, {target.name} has other rows of export {', '.join(map(str, other))}, which stay"
        )


BESIDE: Mapping[Mechanism, Callable[[Stream, Destination, Destination, Carried], None]] = {
    Mechanism.HISTORY: _copy_history,
    Mechanism.CONTENTS: _copy_exports,
}
"""How what lies beside windows of time is copied."""
