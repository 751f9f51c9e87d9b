"""The contract of a destination: rows and their ledger entry become durable together, or not at all.

Knows windows only as pairs of aware datetimes and digests only as text. Implementations: sinks/memory (the reference),
sinks/duckdb_file, sinks/lake. One conformance suite holds them to the contracts written here (tests/sinks/test_conformance.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

import pyarrow as pa

from sinks import errors
from sinks.entries import Changes, Entry, Landing, Note
from sinks.ledger import Ledger, Rule, follows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FORMAT = 3
"""Format number of the bookkeeping; older is migrated additively, newer is refused."""
STORAGE_VERSION = "v1.2.0"
"""The least DuckDB that reads a database made here: the first that knows zstd columns (docs/settings.md, `[duckdb]`)."""


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

        Per window: ask ledger.follows, replace the rows and the rejects (also old ones without a time), write the entry,
        what was removed and, with the last window, *mark* (the bound of the last complete sweep), which ledger.marks_after
        takes or refuses. An equal landed digest rewrites only the entry and the rejects, unless the window is known to be
        damaged; otherwise a partial landing with rows leaves its date unchecked. After an error the windows before the
        failing one are landed and it is as before; so are the later ones, but for those that share its commit or are landed
        beside it (small windows, and new ones without rows), of which any may be landed. *mark* is not taken then.
        Raises GenerationConflict, CoversLess, FilterChanged (another filter than the one prepared), DestinationBusy,
        DestinationUnusable.
        """

    def duplicates(self, project_id: int, stream: str, days: Iterable[date]) -> pa.Table:
        """Landed rows of *days* whose identity occurs more than once in its date: uuid, event, distinct_id, timestamp."""

    def mark_searched(self, project_id: int, stream: str, days: Iterable[date], *, seen: Ledger) -> None:
        """Take *days* off the ledger's unchecked dates: those that still are as *seen*, by which they were searched."""

    def note(self, notes: Sequence[Note]) -> list[Note]:
        """Write what was found out about landed windows, as ledger.follows says; returns the notes that were left out."""

    def save(self, project_id: int, stream: str, pages: int) -> None:
        """Remember how many pages the next run may read more than its share (Ledger.saved)."""

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        """Landed rows of [start, end) as HASHED, in any order."""

    def audit(self, project_id: int, stream: str, start: datetime, end: datetime) -> dict[datetime | None, Holding]:
        """What is really held of every window of the ledger that touches [start, end), by window start.

        None: rows of [start, end) that lie in the covered part of no window; missing where there are none.
        """

    def changes(self, project_id: int, stream: str) -> list[Change]:
        """The history of changes, in the order in which they were found."""

    def record(self, *runs: Run) -> None:
        """Append to the history of runs, in one commit a stream."""

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        """The latest runs, newest first."""

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        """Landed rows of [start, end) as text columns, sorted by timestamp, uuid, event, distinct_id."""

    def rejects(self, entry: Entry) -> pa.Table:
        """Rows of a landed window that could not be typed: at, reason, text."""


def after(known: Entry | None, landing: Landing) -> Entry:
    """The entry after *landing*, as ledger.follows says. Raises GenerationConflict, CoversLess."""
    entry = landing.entry
    new = follows(known, landing)
    if isinstance(new, Entry):
        return new
    window = f"{entry.start:%Y-%m-%dT%H:%MZ}"
    if known is not None and new.rule is Rule.COVERS_LESS:
        spans = [f"{one.covered_start:%H:%M:%S}–{one.covered_end:%H:%M:%S}" for one in (known, entry)]
        raise errors.CoversLess(window, expected=spans[0], found=spans[1])
    raise errors.GenerationConflict(window, expected=entry.generation, found=new.found)


def changes_of(landing: Landing) -> tuple[tuple[datetime, Changes], ...]:
    """What goes into the history of changes with *landing*, and when it was found."""
    return (*landing.history, *([(landing.entry.read_at, landing.changes)] if landing.changes else ()))


def by_stream(notes: Iterable[Note]) -> Iterable[tuple[tuple[int, str], list[Note]]]:
    """*notes* of each project and stream."""
    found: dict[tuple[int, str], list[Note]] = {}
    for note in notes:
        found.setdefault((note.known.project_id, note.known.stream), []).append(note)
    return found.items()


SHARED_ROWS = 50_000
SHARED_BYTES = 48 * 2**20


def shared(groups: Iterable[list[Landing]]) -> Iterator[list[list[Landing]]]:
    """Groups that share a commit, which costs as much as some thousand rows: as many as are small together, or one."""
    share: list[list[Landing]] = []
    rows = size = 0
    for group in groups:
        more = sum(landing.rows.num_rows for landing in group), sum(landing.rows.nbytes for landing in group)
        if share and (rows + more[0] > SHARED_ROWS or size + more[1] > SHARED_BYTES):
            yield share
            share, rows, size = [], 0, 0
        share.append(group)
        rows, size = rows + more[0], size + more[1]
    if share:
        yield share


def grouped(landings: Sequence[Landing]) -> Iterator[list[Landing]]:
    """Windows that are landed at once: each by itself, but new windows without rows together.

    Fifty empty years are thousands of windows, and a commit each would take minutes.
    """
    group: list[Landing] = []
    for landing in landings:
        told = landing.rows.num_rows or landing.rejects.num_rows or landing.history
        new = landing.entry.generation == 0 and not told
        if group and not (new and group[-1].entry.generation == 0 and not group[-1].rows.num_rows):
            yield group
            group = []
        group.append(landing)
        if not new:
            yield group
            group = []
    if group:
        yield group
