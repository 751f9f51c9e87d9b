"""One window as one Parquet file: its rows, and in the footer what the ledger says of it (docs/lake.md, Layout).

Rows and ledger entry are one object, so they cannot disagree. Pure: bytes in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sinks.entries import FACTS, OWN, Agreed, Base, Changes, Entry, Facts, Probed, Removal, State, Tally, of_older
from sinks.objects.base import Found, Objects
from sinks.sink import FORMAT

T = TypeVar("T")

KEY = b"hedgerow"
FACTS_SINCE = 3  # the format in which facts stand beside the state
ROWS_PER_GROUP = 50_000  # facts/performance.md: about 50k rows per group
PRUNED = ["timestamp", "event", "distinct_id", "uuid", "created_at", "_loaded_at"]
TAIL_BYTES = 32 * 1024  # holds the footer of a window of a million rows

FILE_SCHEMA = pa.schema(
    [
        pa.field("uuid", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("person_id", pa.string()),
        pa.field("properties", pa.string(), nullable=False),
        pa.field("person_properties", pa.string()),
        pa.field("elements_chain", pa.string()),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("created_at", pa.timestamp("us", "UTC")),
        pa.field("_loaded_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
"""contract.md §4: the columns of `events` but project_id, which is in the path; uuid as text."""


class Unreadable(Exception):
    """No Parquet file, or none that hedgerow wrote."""


class TableNotes(msgspec.Struct, frozen=True):
    """What the footer of a table beside the events says: its version, JSON columns, and views to be made with it."""

    id: str
    json: list[str] = []
    views: dict[str, str] = {}


class _Stored(msgspec.Struct, frozen=True):
    """The footer's text. Names are the format: they may be added to, never changed."""

    format: int
    id: str
    epoch: int
    project_id: int
    stream: str
    start: datetime
    end: datetime
    covered_start: datetime
    covered_end: datetime
    state: str
    generation: int
    read_at: datetime
    tally: dict[str, Any]
    step_s: int
    base_until: datetime | None = None
    base_tally: dict[str, Any] | None = None
    probed_at: datetime | None = None
    probed: str | None = None
    mark: datetime | None = None
    unchecked: bool = False
    quarantine: str | None = None
    changes: list[tuple[datetime, int, int, int, float]] = []
    base_whole_at: datetime | None = None
    agreed: str | None = None
    agreed_until: datetime | None = None
    tried_at: datetime | None = None
    facts: dict[str, datetime] = {}
    removed: list[tuple[datetime, int]] = []
    marks: list[datetime] = []


@dataclass(frozen=True, slots=True)
class Footer:
    """What a window's file says beside its rows.

    *id*: this landing, and no other. *epoch*: how often the stream had been rebuilt. *marks*: the stream's, as far as this
    window knows, ascending. *unchecked*: its date is to be searched for one identity in two windows. *quarantine*: the
    object with its rows that could not be typed. *changes*: what its landings found changed, and when. *removed*: what
    they removed in the last two days.
    """

    id: str
    epoch: int
    entry: Entry
    step: timedelta
    marks: tuple[datetime, ...] = ()
    unchecked: bool = False
    quarantine: str | None = None
    changes: tuple[tuple[datetime, Changes], ...] = ()
    removed: tuple[Removal, ...] = ()


def window_path(entry: Entry) -> str:
    """The name of a window's object below the lake's root."""
    start, end = entry.start, entry.end
    return (
        f"{entry.stream}/project_id={entry.project_id}/date={start:%Y-%m-%d}/"
        f"{start:%Y%m%dT%H%M%SZ}-{end:%Y%m%dT%H%M%SZ}.parquet"
    )


def project_of(path: str) -> int | None:
    """The project of a window's object; None for a *path* that window_path gives to no window."""
    day = r"date=(\d{4}-\d\d-\d\d)/(\d{8})T\d{6}Z-\d{8}T\d{6}Z\.parquet"
    found = re.fullmatch(rf"\w+/project_id=([1-9]\d*)/{day}", path, re.ASCII)
    return int(found[1]) if found and found[2].replace("-", "") == found[3] else None


def write(rows: pa.Table, footer: Footer, where: Path | pa.NativeFile) -> None:
    """Write *rows* (FILE_SCHEMA, sorted by time) and *footer* as one file."""
    rows_per_group = max(1, min(ROWS_PER_GROUP, rows.num_rows))
    with pq.ParquetWriter(
        where,
        FILE_SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=["event", "distinct_id", "elements_chain"],
        write_statistics=PRUNED,
        write_page_index=True,
        # Sorted by time, a group's bounds say little of who and what: Bloom filters do.
        bloom_filter_options={name: {"ndv": rows_per_group, "fpp": 0.05} for name in ("event", "distinct_id")},
        sorting_columns=[pq.SortingColumn(FILE_SCHEMA.get_field_index("timestamp"))],
    ) as writer:
        if rows.num_rows:
            writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({KEY: dumped(footer)})


def read(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The rows of a window's file. Raises Unreadable."""
    try:
        return pq.read_table(pa.BufferReader(data), columns=columns).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as exc:
        raise Unreadable(str(exc)) from exc


def read_footer(tail: bytes) -> tuple[Footer, int]:
    """Footer and number of rows, from the last bytes of a file.

    Raises Unreadable, and Truncated when the footer needs more bytes than these.
    """
    text, rows = _metadata(tail)
    return loaded(text), rows


def _metadata(tail: bytes) -> tuple[bytes, int]:
    """What hedgerow wrote into the footer, and the number of rows."""
    if len(tail) < 12 or tail[-4:] != b"PAR1":
        raise Unreadable("not a Parquet file")
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > len(tail):
        raise Truncated(needed)
    try:
        # The metadata is all that is looked at, so a file that has nothing else will do.
        metadata = pq.read_metadata(pa.BufferReader(b"PAR1" + tail[-needed:]))
        text = (metadata.metadata or {}).get(KEY)
    except (pa.ArrowException, OSError) as exc:
        raise Unreadable(str(exc)) from exc
    if text is None:
        raise Unreadable("not written by hedgerow")
    return text, metadata.num_rows


def read_notes(tail: bytes) -> TableNotes:
    """The notes of a table, from the last bytes of its file. Raises Unreadable, Truncated."""
    try:
        return msgspec.json.decode(_metadata(tail)[0], type=TableNotes)
    except msgspec.MsgspecError as exc:
        raise Unreadable(f"its notes cannot be read: {exc}") from exc


def read_end(objects: Objects, found: Found, read: Callable[[bytes], T]) -> T:
    """What *read* makes of the last bytes of an object, of as many as it needs. Raises Unreadable, Missing, SinkError."""
    try:
        return read(objects.tail(found.path, size=found.size, length=TAIL_BYTES))
    except Truncated as exc:
        return read(objects.tail(found.path, size=found.size, length=exc.length))


class Truncated(Exception):
    """More of the file's end is needed: *length* bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(f"{length} bytes needed")
        self.length = length


def dumped(footer: Footer) -> bytes:
    """A footer as text (JSON)."""
    entry = footer.entry
    return msgspec.json.encode(
        _Stored(
            format=FORMAT,
            id=footer.id,
            epoch=footer.epoch,
            project_id=entry.project_id,
            stream=entry.stream,
            start=entry.start,
            end=entry.end,
            covered_start=entry.covered_start,
            covered_end=entry.covered_end,
            state=str(entry.shown),
            generation=entry.generation,
            read_at=entry.read_at,
            tally=msgspec.to_builtins(entry.tally),
            step_s=int(footer.step.total_seconds()),
            base_until=entry.base.until if entry.base else None,
            base_tally=msgspec.to_builtins(entry.base.tally) if entry.base else None,
            probed_at=entry.probed.at if entry.probed else None,
            probed=entry.probed.values if entry.probed else None,
            mark=footer.marks[-1] if footer.marks else None,  # all that formats 1 and 2 know
            marks=list(footer.marks),
            unchecked=footer.unchecked,
            quarantine=footer.quarantine,
            changes=[
                (at, one.late, one.deleted, one.changed, one.lateness.total_seconds()) for at, one in footer.changes
            ],
            base_whole_at=entry.base.whole_at if entry.base else None,
            agreed=entry.agreed.values if entry.agreed else None,
            agreed_until=entry.agreed.until if entry.agreed else None,
            tried_at=entry.tried_at,
            facts=facts_text(entry.facts),
            removed=[(one.at, one.rows) for one in footer.removed],
        )
    )


def loaded(text: bytes) -> Footer:
    """A footer from its text. Raises Unreadable."""
    try:
        stored = _DECODER.decode(text)
        entry = _entry(stored)
    except (msgspec.MsgspecError, TypeError, ValueError) as exc:
        raise Unreadable(f"its ledger entry cannot be read: {exc}") from exc
    return Footer(
        id=stored.id,
        epoch=stored.epoch,
        entry=entry,
        step=timedelta(seconds=stored.step_s),
        marks=tuple(stored.marks) or ((stored.mark,) if stored.mark else ()),
        unchecked=stored.unchecked,
        quarantine=stored.quarantine,
        changes=tuple(
            (at, Changes(late, deleted, changed, timedelta(seconds=lateness_s)))
            for at, late, deleted, changed, lateness_s in stored.changes
        ),
        removed=tuple(Removal(stored.start, at, rows) for at, rows in stored.removed),
    )


def _entry(stored: _Stored) -> Entry:
    base = None
    if stored.base_until is not None and stored.base_tally is not None:
        base = Base(stored.base_until, Tally(**stored.base_tally), stored.base_whole_at)
    probed = Probed(stored.probed_at, stored.probed) if stored.probed_at and stored.probed is not None else None
    state, facts, agreed = own_state(
        stored.state,
        stored.facts,
        older=stored.format < FACTS_SINCE,
        read_at=stored.read_at,
        probed=probed,
        covered_end=stored.covered_end,
    )
    if stored.agreed is not None and stored.agreed_until is not None:
        agreed = Agreed(stored.agreed, stored.agreed_until)
    return Entry(
        project_id=stored.project_id,
        stream=stored.stream,
        start=stored.start,
        end=stored.end,
        covered_start=stored.covered_start,
        covered_end=stored.covered_end,
        state=state,
        read_at=stored.read_at,
        tally=Tally(**stored.tally),
        generation=stored.generation,
        base=base,
        probed=probed,
        agreed=agreed,
        facts=facts,
        tried_at=stored.tried_at,
    )


def facts_text(facts: Facts) -> dict[str, datetime]:
    """Facts as footers and the journal write them: those that stand, with their times."""
    return {name: at for name in FACTS if (at := getattr(facts, name)) is not None}


def own_state(
    shown: str,
    facts: dict[str, datetime],
    *,
    older: bool,
    read_at: datetime,
    probed: Probed | None,
    covered_end: datetime,
) -> tuple[State, Facts, Agreed | None]:
    """An entry's own state and its facts, from the state shown; of an *older* format also what agreed."""
    if older:
        return of_older(shown, read_at=read_at, probed=probed, covered_end=covered_end)
    state = State(shown)
    return (state if state in OWN else State.LANDED), Facts(**facts), None


_DECODER = msgspec.json.Decoder(_Stored)
