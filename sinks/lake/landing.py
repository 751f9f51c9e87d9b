"""Puts windows into a lake: each by one PUT, whose footer is the ledger's entry."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sinks import errors
from sinks.entries import Entry, Landing
from sinks.lake import tables, window_file
from sinks.lake.cache import File
from sinks.lake.journal import HOME, carried
from sinks.lake.rows import Rows, conflict
from sinks.lake.stream import Stream
from sinks.lake.window_file import FILE_SCHEMA, Footer, Unreadable
from sinks.ledger import marks_after, marks_kept, recent
from sinks.objects.base import Changed, Exists, Missing, Objects
from sinks.sink import REJECTS, after, changes_of

BUFFERED_BYTES = 64 * 2**20  # of Arrow rows: a larger window is written to a file before it goes up


@contextmanager
def window_written(rows: pa.Table, footer: Footer, directory: Path) -> Iterator[bytes | Path]:
    """A window's file: in memory, or on disk when it is large."""
    if rows.nbytes <= BUFFERED_BYTES:
        buffer = pa.BufferOutputStream()
        window_file.write(rows, footer, buffer)
        yield buffer.getvalue().to_pybytes()
        return
    with ExitStack() as held:
        with errors.writing(directory):
            file = held.enter_context(tempfile.NamedTemporaryFile(dir=directory, prefix="window-"))
            window_file.write(rows, footer, Path(file.name))
        yield Path(file.name)


def footer_of(
    known: Stream,
    landing: Landing,
    entry: Entry,
    file: File | None,
    *,
    landing_id: str,
    quarantine: str | None,
    mark: datetime | None,
) -> Footer:
    """What the window will say of itself: *entry*. It keeps the mark and the histories of what it replaces."""
    old = file.footer if file else None
    tally = (entry.tally.landed_rows, entry.tally.landed_digest)
    same = old is not None and tally == (old.entry.tally.landed_rows, old.entry.tally.landed_digest)
    changed = landing.rewrite or not same or (file is not None and known.entry(file).facts.damaged is not None)
    removed = [*(old.removed if old else ()), *filter(None, [landing.removal])]
    return Footer(
        id=landing_id,
        epoch=known.rules[1] if known.rules else 0,
        entry=replace(entry, noted=0),
        step=landing.step,
        marks=_marks(known, entry, mark, old.marks if old else ()),
        unchecked=(changed and landing.partial and landing.rows.num_rows > 0)
        or (file is not None and known.unchecked(file)),
        quarantine=quarantine,
        changes=(*(old.changes if old else ()), *changes_of(landing)),
        removed=recent(removed),
    )


def _marks(known: Stream, entry: Entry, mark: datetime | None, old: tuple[datetime, ...]) -> tuple[datetime, ...]:
    """The marks that the window carries after this landing: *old* ones, and *mark* where ledger.marks_after takes it.

    A mark may only be in force over covered time, which the reader of the ledger looks at once more.
    """
    if mark is None:
        return old
    ledger = known.ledger()
    taken = marks_after(replace(ledger, entries={**ledger.entries, entry.start: entry}), mark)
    return marks_kept([*old, mark]) if taken is not None else old


def generation_of(known: Stream, file: File | None) -> int:
    return known.entry(file).generation if file else 0


class Writer:
    """Lands one window; many may be landed side by side."""

    def __init__(self, objects: Objects, rows: Rows) -> None:
        self._objects, self._rows = objects, rows

    def land(self, known: Stream, landing: Landing, *, spool: Path, mark: datetime | None) -> Entry:
        """One window, by one PUT."""
        entry, path = landing.entry, window_file.window_path(landing.entry)
        file = known.files.get(path)
        if generation_of(known, file) != entry.generation:
            file = known.look(path)
        new = self._after(known, file, landing)
        step = known.agree_step(entry.start.date(), landing.step)
        if step != landing.step:
            raise errors.GenerationConflict(
                f"{entry.start:%Y-%m-%d} (step)",
                expected=int(landing.step.total_seconds()),
                found=int(step.total_seconds()),
            )
        landing_id = uuid.uuid4().hex
        quarantine = self._quarantine(known, landing, file, landing_id)
        footer = footer_of(known, landing, new, file, landing_id=landing_id, quarantine=quarantine, mark=mark)
        try:
            known.files[path] = self._put(known, path, self._rows_to_write(landing, file), footer, file, spool)
        except errors.GenerationConflict:
            known.outdated()
            if quarantine is not None:
                with suppress(errors.SinkError):  # no footer will name it
                    self._objects.delete(quarantine)
            raise
        if file is not None and file.footer.quarantine not in (None, quarantine):
            with suppress(errors.SinkError):  # nobody names it any more
                self._objects.delete(file.footer.quarantine or "")
        if landing.tail and file is not None:
            self._carry(known, file, known.files[path])
        return known.entry(known.files[path])

    @staticmethod
    def _carry(known: Stream, old: File, new: File) -> None:
        """What was noted of the part before a tail while the tail was put: it would be forgotten with the old landing."""
        known.journal.read()
        missed = replace(known.entry(old).facts, unread=None, unmerged=None)
        entry = known.entry(new)
        if (facts := missed.joined(entry.facts)) != entry.facts:
            known.journal.write([carried(new.footer.id, entry.known_as(facts))])

    @staticmethod
    def _after(known: Stream, file: File | None, landing: Landing) -> Entry:
        """The entry after *landing*, over what stands at the store: the PUT compares the version that was looked at."""
        try:
            return after(known.entry(file) if file else None, landing)
        except errors.GenerationConflict:
            known.outdated()
            raise

    def _rows_to_write(self, landing: Landing, file: File | None) -> pa.Table:
        """The window's rows, whole: those that stay, and the new ones."""
        rows = landing.rows.select(FILE_SCHEMA.names).cast(FILE_SCHEMA)
        if landing.replace_start > landing.entry.covered_start and file is not None and file.rows != 0:
            kept = self._rows.read(file)
            bound = pa.scalar(landing.replace_start, pa.timestamp("us", "UTC"))
            rows = pa.concat_tables([kept.filter(pc.less(kept["timestamp"], bound)), rows])
        return rows if _ascends(rows["timestamp"]) else rows.sort_by("timestamp")

    def _put(self, known: Stream, path: str, rows: pa.Table, footer: Footer, file: File | None, spool: Path) -> File:
        there = file is not None and bool(file.etag)
        try:
            with window_written(rows, footer, spool) as data:
                etag = self._objects.put(path, data, create=not there, match=file.etag if file and there else None)
        except (Exists, Changed) as exc:
            # Either another run was first, or this PUT's answer was lost and it was tried again.
            now = known.look(path)
            if now is None or now.footer.id != footer.id:
                expected = replace(footer.entry, generation=footer.entry.generation - 1)
                raise conflict(expected, generation_of(known, now)) from exc
            return now
        except errors.SinkError:
            with suppress(errors.SinkError):
                now = known.look(path)
                if now is not None and now.footer.id == footer.id:
                    return now
            raise
        return File(etag, rows.num_rows, footer)

    def _quarantine(self, known: Stream, landing: Landing, file: File | None, landing_id: str) -> str | None:
        """Write the window's rejects, old ones before the replaced part included, and give the object's name."""
        rejects, entry = landing.rejects, landing.entry
        if file is not None and landing.replace_start > entry.covered_start:
            old = self.rejects_of(file)
            bound = pa.scalar(landing.replace_start, pa.timestamp("us", "UTC"))
            stays = pc.fill_null(pc.less(old["at"], bound), False)
            rejects = pa.concat_tables([old.filter(stays), rejects.cast(REJECTS)])
        if not rejects.num_rows:
            return None
        name = f"{entry.start:%Y%m%dT%H%M%SZ}-{landing_id}.parquet"
        path = f"{HOME}/quarantine/project_id={known.project_id}/stream={known.name}/{name}"
        buffer = pa.BufferOutputStream()
        pq.write_table(rejects, buffer, compression="zstd")
        self._objects.put(path, buffer.getvalue().to_pybytes(), create=True)
        return path

    def rejects_of(self, file: File) -> pa.Table:
        if file.footer.quarantine is None:
            return REJECTS.empty_table()
        try:
            data, etag = self._objects.get(file.footer.quarantine)
        except Missing:
            return REJECTS.empty_table()
        try:
            return window_file.read(data).cast(REJECTS)
        except (Unreadable, pa.ArrowException, ValueError) as exc:
            said = tables.unreadable(self._objects, file.footer.quarantine)
            raise errors.TableUnreadable(said, hint=tables.UNREADABLE_HINT, version=etag) from exc


def _ascends(times: pa.ChunkedArray) -> bool:
    if len(times) < 2:
        return True
    flat = times.combine_chunks()
    return bool(pc.all(pc.less_equal(flat[:-1], flat[1:])).as_py())
