"""A window as it is about to be put: its file, and the footer that says what it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from sinks import errors
from sinks.entries import Entry, Landing
from sinks.lake import window_file
from sinks.lake.cache import File
from sinks.lake.stream import Stream
from sinks.lake.window_file import Footer
from sinks.ledger import marks_after, marks_kept, recent

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
        changes=(*(old.changes if old else ()), *([(entry.read_at, landing.changes)] if landing.changes else ())),
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


def conflict(entry: Entry, found: int) -> errors.GenerationConflict:
    return errors.GenerationConflict(f"{entry.start:%Y-%m-%dT%H:%MZ}", expected=entry.generation, found=found)
