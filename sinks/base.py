"""The contract of a destination: rows and their ledger entry become durable together, or not at all.

Knows windows only as pairs of aware datetimes and digests only as text. Implementations: sinks/memory (the reference),
sinks/duckdb_file, sinks/lake. One conformance suite holds them to the contracts written here (tests/sinks/conformance.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

FORMAT = 2
"""Format number of the bookkeeping; older is migrated additively, newer is refused."""


IDENTITIES = pa.schema(
    [
        pa.field("uuid", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
"""What makes a row one event of its date, and its time."""

HASHED = pa.schema([*IDENTITIES, pa.field("hash", pa.uint64(), nullable=False)])
"""The same with the row's hash, whose sum is the landed digest (docs/ledger.md)."""


REJECTS = pa.schema([("at", pa.timestamp("us", "UTC")), ("reason", pa.string()), ("text", pa.string())])
"""What could not be typed: when it is of (null: unknown), why, and the text as received."""


class State(StrEnum):
    """What is known of a window (contract.md §4, design.md)."""

    OPEN = "open"
    LANDED = "landed"
    VERIFIED = "verified"
    UNMERGED = "unmerged"
    DISPUTED = "disputed"
    HELD = "held"
    STALE = "stale"

    @property
    def settled(self) -> bool:
        """Read whole after it settled, and not to be read again without a reason."""
        return self not in (State.OPEN, State.STALE)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and digests of one range. Always source = landed + quarantined + suppressed + copies."""

    source_rows: int
    source_digest: str
    landed_rows: int
    landed_digest: str
    quarantined_rows: int = 0
    suppressed_rows: int = 0
    copies: int = 0

    def __post_init__(self) -> None:
        accounted = self.landed_rows + self.quarantined_rows + self.suppressed_rows + self.copies
        if self.source_rows != accounted:
            raise ValueError(f"tally does not add up: {self.source_rows} rows at the source, {accounted} accounted for")


@dataclass(frozen=True, slots=True)
class Base:
    """The part of an open window that the next sweep does not read again: everything before *until*."""

    until: datetime
    tally: Tally


@dataclass(frozen=True, slots=True)
class Probed:
    """What the last probe said of a window's source side, as text, and when."""

    at: datetime
    values: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a landing found changed in a part that was landed before; *lateness*: how long after its time a late event came,
    at least."""

    late: int = 0
    deleted: int = 0
    changed: int = 0
    lateness: timedelta = timedelta(0)

    def __bool__(self) -> bool:
        return bool(self.late or self.deleted or self.changed)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: what the destination holds of a window, and what the source showed when it was read.

    [start, end) is the window, [covered_start, covered_end) the part that was asked. *generation* counts landings; 0 is
    a window never landed. *base* is set for open windows only. *probed*: None where the source was not asked since.
    """

    project_id: int
    stream: str
    start: datetime
    end: datetime
    covered_start: datetime
    covered_end: datetime
    state: State
    read_at: datetime
    tally: Tally
    generation: int = 0
    base: Base | None = None
    probed: Probed | None = None

    def __post_init__(self) -> None:
        if not self.start <= self.covered_start < self.covered_end <= self.end:
            raise ValueError(f"covered range {self.covered_start} .. {self.covered_end} is not inside the window")

    @property
    def key(self) -> tuple[int, str, datetime]:
        return self.project_id, self.stream, self.start


@dataclass(frozen=True, slots=True)
class Landing:
    """One window to land: its new entry, the rows of [replace_start, covered_end), and what could not be typed.

    *entry.generation* is the generation expected at the destination; landing raises it by one. Rows that the window
    holds from *replace_start* on are replaced, earlier ones stay. *rows*: transforms' EVENTS schema, each identity once;
    *rejects*: at, reason, text. *step* is written for the window's date if the date has none. *changes* go into the
    history of changes. *rewrite*: replace the rows even where the ledger says that they are the same.
    """

    entry: Entry
    rows: pa.Table
    rejects: pa.Table
    replace_start: datetime
    step: timedelta
    changes: Changes = Changes()
    rewrite: bool = False

    def __post_init__(self) -> None:
        if not self.entry.covered_start <= self.replace_start < self.entry.covered_end:
            raise ValueError(f"replaced range starts outside the covered one: {self.replace_start}")

    @property
    def partial(self) -> bool:
        """The date has rows beside these, so that an identity may now occur in it twice (design.md, moved events)."""
        return self.replace_start > self.entry.covered_start or self.entry.end - self.entry.start < timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that the destination knows of one stream, read once per run. Keys of entries: window starts.

    *unchecked*: dates landed in parts since they were last searched for one identity in two places.
    """

    entries: Mapping[datetime, Entry] = field(default_factory=dict)
    steps: Mapping[date, timedelta] = field(default_factory=dict)
    mark: datetime | None = None
    unchecked: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Holding:
    """What a destination really holds of one window, counted row by row: rows, and the sum of their hashes as text."""

    rows: int = 0
    digest: str = "0"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history of changes: a landing of the window at *window_start* that found some."""

    project_id: int
    stream: str
    window_start: datetime
    found_at: datetime
    changes: Changes


@dataclass(frozen=True, slots=True)
class Table:
    """A table beside the events, small enough to be replaced whole. *version*: which; "" before there is any."""

    rows: pa.Table
    version: str


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the history of runs."""

    run_id: str
    command: str
    project_id: int
    stream: str
    started_at: datetime
    finished_at: datetime
    outcome: str
    windows: int
    rows: int
    requests: int
    waited_s: float
    error: str = ""


class Sink(Protocol):
    """A destination of one stream of windows per project. Not thread-safe; one writer thread per instance."""

    def prepare(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool) -> None:
        """Create or migrate the bookkeeping, and check host and filter of the stream.

        With *rebuild* a changed filter is stored and every window becomes stale, in one commit; rows stay. A run under
        way then gets GenerationConflict for what is landed, FilterChanged for the rest. Idempotent.
        Raises HostChanged, FilterChanged, DestinationUnusable, DestinationBusy; then nothing was changed.
        """

    def ledger(self, project_id: int, stream: str) -> Ledger:
        """Everything known of the stream; empty for a stream or destination that does not exist yet."""

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        """Land windows, each by itself all or nothing, in order; returns the new entries.

        Per window: compare the generation, replace the rows, write the entry and, with the last window, *mark* (the
        bound of the last complete sweep; never moves back). An equal landed digest rewrites only the entry; otherwise a
        partial landing with rows leaves its date unchecked. After an error the windows before the failing one are
        landed, it and the later ones are as before; of new windows without rows, which a lake lands side by side, any
        may be landed, and *mark* is not.
        Raises GenerationConflict, FilterChanged (another filter than the one prepared), DestinationBusy,
        DestinationUnusable.
        """

    def twice(self, project_id: int, stream: str, days: Iterable[date]) -> pa.Table:
        """Landed rows of *days* whose identity occurs more than once in its date: uuid, event, distinct_id, timestamp."""

    def checked(self, project_id: int, stream: str, days: Iterable[date]) -> None:
        """Take *days* off the ledger's unchecked dates."""

    def note(self, entries: Sequence[Entry]) -> None:
        """Write what was found out about landed windows: state and probed of *entries*, in one commit.

        An entry whose generation is not the destination's any more is left out: another run landed it meanwhile.
        """

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        """Landed rows of [start, end) as HASHED, in any order."""

    def audit(self, project_id: int, stream: str, start: datetime, end: datetime) -> dict[datetime | None, Holding]:
        """What is really held of every window of the ledger that touches [start, end), by window start.

        None: rows of [start, end) that lie in the covered part of no window; missing where there are none.
        """

    def changes(self, project_id: int, stream: str) -> list[Change]:
        """The history of changes, in the order in which they were found."""

    def record(self, run: Run) -> None:
        """Append to the history of runs."""

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        """The latest runs, newest first."""

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        """Landed rows of [start, end) as text columns, sorted by timestamp, uuid, event, distinct_id."""


class Destination(Sink, Protocol):
    """A sink that people name by an address: what the commands need beside landing."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def home(self) -> Path | None:
        """The directory of this machine in which it lies; None where it lies elsewhere."""

    @property
    def spool_directory(self) -> Path:
        """Where rows may wait on disk: beside the destination, or else the system's place for temporary files."""

    def probe(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool = False) -> None:
        """What prepare would do and raise, without leaving a trace."""

    def exists(self) -> bool:
        """Whether there is anything yet."""

    def projects(self) -> tuple[int, ...]:
        """Projects that the destination knows, in order."""

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        """Host and event filter that the stream was landed with; None for one that was never landed."""

    def rejects(self, entry: Entry) -> pa.Table:
        """Rows of a landed window that could not be typed: at, reason, text."""

    def table(self, name: str) -> Table | None:
        """The table *name*, JSON and uuids as text; None where there is none."""

    def replace(
        self,
        name: str,
        rows: pa.Table,
        *,
        version: str,
        json: Sequence[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> None:
        """Put *rows* in the place of the version that was read, in one commit; *json* columns get that type.

        *views*: made anew with it, name → SELECT in DuckDB's SQL; a lake has them where it is queried.
        Raises GenerationConflict when another run was faster, DestinationUnusable for a table that is not hedgerow's.
        """

    def keep(self, path: str, file: Path) -> str:
        """Store a file byte for byte below the place of contents; the address it has there. Replaces what was there."""

    def hurry(self) -> None:
        """Wait for no other process any more: the run is to end."""

    def query(self, sql: str) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """The result of *sql* on the destination, which it cannot change. Raises BadQuery for SQL that DuckDB refuses."""


def grouped(landings: Sequence[Landing]) -> Iterator[list[Landing]]:
    """Windows that are landed at once: each by itself, but new windows without rows together.

    Fifty empty years are thousands of windows, and a commit each would take minutes.
    """
    group: list[Landing] = []
    for landing in landings:
        new = landing.entry.generation == 0 and not landing.rows.num_rows and not landing.rejects.num_rows
        if group and not (new and group[-1].entry.generation == 0 and not group[-1].rows.num_rows):
            yield group
            group = []
        group.append(landing)
        if not new:
            yield group
            group = []
    if group:
        yield group
