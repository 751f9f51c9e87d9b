"""The entries of a stream as they were last read, so that a run reads a long ledger once.

Every commit that changes entries counts up the stream's number in hedgerow.meta. Entries are read anew where the number is
another one, after a refusal, and after KEPT_S: an older hedgerow, or somebody by hand, may not have counted. What is decided
from entries that are out of date is refused inside the commit, which reads them there (sinks.ledger.follows).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb

from sinks.duckdb_file.connection import one
from sinks.duckdb_file.landing import read_entries
from sinks.entries import Entry

KEPT_S = 300.0
Stream = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Read:
    """*entries* by window start, as of *number*; *at_s*: when they were read, by this machine's monotonic clock."""

    number: int
    entries: Mapping[datetime, Entry]
    at_s: float


class Known:
    """The entries of each stream of one file. *count* goes into the transaction of a change, *changed* behind its commit."""

    def __init__(self) -> None:
        self._read: dict[Stream, _Read] = {}

    def read(self, db: duckdb.DuckDBPyConnection, stream: Stream) -> Mapping[datetime, Entry]:
        """All entries of *stream*, read anew where they may have changed."""
        number, kept = _number(db, stream), self._read.get(stream)
        if kept is not None and kept.number == number and time.monotonic() - kept.at_s < KEPT_S:
            return kept.entries
        entries = {entry.start: entry for entry in read_entries(db, *stream)}
        self._read[stream] = _Read(number, entries, time.monotonic())
        return entries

    def changed(self, stream: Stream, number: int, entries: Iterable[Entry]) -> None:
        """*entries* were committed as the change of that *number*."""
        kept = self._read.get(stream)
        if kept is not None and kept.number == number - 1:
            now = {**kept.entries, **{entry.start: entry for entry in entries}}
            self._read[stream] = _Read(number, now, kept.at_s)

    def forget(self, stream: Stream) -> None:
        """What was read of *stream* may be out of date."""
        self._read.pop(stream, None)


def count(db: duckdb.DuckDBPyConnection, stream: Stream) -> int:
    """Count up the changes of *stream* inside the running transaction; the number of this one."""
    number = _number(db, stream) + 1
    key = _key(stream)
    db.execute("DELETE FROM hedgerow.meta WHERE key = ?", [key])
    db.execute("INSERT INTO hedgerow.meta VALUES (?, ?)", [key, str(number)])
    return number


def _number(db: duckdb.DuckDBPyConnection, stream: Stream) -> int:
    row = one(db, "SELECT value FROM hedgerow.meta WHERE key = ?", [_key(stream)])
    return int(row[0]) if row else 0


def _key(stream: Stream) -> str:
    return f"changes:{stream[0]}:{stream[1]}"
