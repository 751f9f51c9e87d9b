"""The DuckDB destination: one transaction per window, and the file open only while it is used.

Every call opens, works and closes (sinks/duckdb_file/connection). Compression: design.md, facts/performance.md §4.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa

from sinks import errors, queries
from sinks.destination import Rows, Table
from sinks.duckdb_file import contents, tables
from sinks.duckdb_file.connection import MEMORY_LIMIT, PLENTY, DuckDBFile, one, transaction
from sinks.duckdb_file.known import Known, count
from sinks.duckdb_file.landing import (
    DATE,
    WINDOW,
    check_filter,
    land_empty,
    land_window,
    read_entries,
    read_ledger,
    rewrite,
    take_mark,
)
from sinks.duckdb_file.prepare import prepare
from sinks.duckdb_file.rows import utc
from sinks.duckdb_file.schema import format_of, migrate
from sinks.entries import Changes, Entry, Landing, Note
from sinks.ledger import Ledger, follows, off_the_list
from sinks.sink import REJECTS, STORAGE_VERSION, Change, Holding, Run, by_stream, grouped, shared


class DuckDBSink:
    """A DuckDB file. *lock_timeout_s*: how long to wait for another process; *on_wait* hears the holder, and None when that is
    over; *storage_version*: of a new file, the DuckDB that can read it; *memory_limit*: DuckDB's, while it lands."""

    def __init__(
        self,
        path: Path,
        *,
        lock_timeout_s: float = 60.0,
        on_wait: Callable[[str | None], None] = lambda holder: None,
        storage_version: str = STORAGE_VERSION,
        memory_limit: str = MEMORY_LIMIT,
    ) -> None:
        self._file = DuckDBFile(
            path,
            lock_timeout_s=lock_timeout_s,
            on_wait=on_wait,
            storage_version=storage_version,
            memory_limit=memory_limit,
        )
        self.path = self._file.path
        self.name, self.home, self.spool_directory = self.path.name, self.path.parent, self.path.parent
        self.runs_kept: int | None = None
        self._filters: dict[tuple[int, str], str] = {}
        self._entries = Known()

    def prepare(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool) -> None:
        with self._file.open_whole() as db, transaction(db):
            prepare(db, self.path.name, project_id, stream, host=host, event_filter=event_filter, rebuild=rebuild)
        self._filters[project_id, stream] = event_filter

    def check(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool = False) -> None:
        """What prepare would do and raise, without leaving a trace."""
        if not self.path.exists():
            try:
                with tempfile.TemporaryFile(dir=self.path.parent):
                    return
            except OSError as exc:
                raise errors.DestinationUnusable(
                    f"cannot write into {self.path.parent}: {exc.strerror}", hint="check path, permissions and disk"
                ) from exc
        with self._file.open_whole() as db:
            db.execute("BEGIN")
            try:
                prepare(db, self.path.name, project_id, stream, host=host, event_filter=event_filter, rebuild=rebuild)
            finally:
                db.execute("ROLLBACK")

    def ledger(self, project_id: int, stream: str) -> Ledger:
        if not self.path.exists():
            return Ledger()
        with self._file.open(read_only=True) as db:
            if not format_of(db):
                return Ledger()
            return read_ledger(db, project_id, stream, self._entries.read(db, (project_id, stream)))

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        try:
            return self._land_all(landings, mark=mark)
        except errors.MemoryExhausted:
            if self._file.memory_limit == PLENTY:
                raise
        # Rows of 64 KiB and more stay in memory until their row group is full, whatever the limit: give DuckDB more, and
        # go on after what is committed.
        self._file.memory_limit = PLENTY
        done: list[Entry] = []
        for landing in landings:
            known = self._known(landing.entry)
            if known is None or known.generation == landing.entry.generation:
                break
            if (known.generation, known.tally) != (landing.entry.generation + 1, landing.entry.tally):
                break  # another run was faster: landing says so
            done.append(known)
        rest = landings[len(done) :]
        return done + self._land_all(rest, mark=mark if rest else None)

    def _known(self, entry: Entry) -> Entry | None:
        with self._file.open(read_only=True) as db:
            return next(
                iter(read_entries(db, entry.project_id, entry.stream, "AND window_start = ?", [entry.start])), None
            )

    def _land_all(self, landings: Sequence[Landing], *, mark: datetime | None) -> list[Entry]:
        landed: list[Entry] = []
        with errors.counting(landed):
            for share in shared(grouped(landings)):
                at_end = mark if share[-1][-1] is landings[-1] else None
                try:
                    self._commit(share, landed, mark=at_end)
                except errors.DestinationUnusable:  # of one window: the others can be landed
                    if len(share) == 1:
                        raise
                    for group in share:
                        self._commit([group], landed, mark=at_end if group is share[-1] else None)
        return landed

    def _commit(self, share: Sequence[Sequence[Landing]], landed: list[Entry], *, mark: datetime | None) -> None:
        """One transaction. What the ledger's rules refuse is left out, and said when the rest is committed."""
        new: list[Entry] = []
        stream = share[-1][-1].entry.key[:2]
        refused: errors.SinkError | None = None
        with self._file.open() as db, transaction(db):
            entry = share[-1][-1].entry
            number = count(db, stream)
            check_filter(db, entry, self._filters.get((entry.project_id, entry.stream)))
            for group in share:
                try:
                    new += land_empty(db, group) if len(group) > 1 else [land_window(db, group[0])]
                except (errors.GenerationConflict, errors.CoversLess) as exc:
                    refused = refused or exc
            if mark is not None and refused is None:
                take_mark(db, entry, mark)
        self._entries.changed(stream, number, new)
        landed += new
        if refused is not None:
            self._entries.forget(stream)
            raise refused

    def duplicates(self, project_id: int, stream: str, days: Iterable[date]) -> pa.Table:
        with self._file.open(read_only=True, large=True) as db:
            return queries.duplicates(db, project_id, days)

    def note(self, notes: Sequence[Note]) -> list[Note]:
        left: list[Note] = []
        if not notes:
            return left
        changed: dict[tuple[int, str], int] = {}
        with self._file.open() as db, transaction(db):
            new: dict[tuple[int, str, datetime], Entry] = {}
            for (project_id, stream), some in by_stream(notes):
                changed[project_id, stream] = count(db, (project_id, stream))
                starts = [note.known.start for note in some]
                inside = "AND window_start BETWEEN ? AND ?"
                found = read_entries(db, project_id, stream, inside, [min(starts), max(starts)])
                known = {entry.start: entry for entry in found}
                for note in some:
                    start = note.known.start
                    entry = follows(known.get(start), note)
                    if isinstance(entry, Entry):
                        known[start] = new[entry.key] = entry
                    else:
                        left.append(note)
            rewrite(db, list(new.values()))
        for of, number in changed.items():
            self._entries.changed(of, number, [entry for entry in new.values() if entry.key[:2] == of])
        for note in left:
            self._entries.forget(note.known.key[:2])
        return left

    def save(self, project_id: int, stream: str, pages: int) -> None:
        key = f"saved:{project_id}:{stream}"
        with self._file.open() as db, transaction(db):
            db.execute("DELETE FROM hedgerow.meta WHERE key = ?", [key])
            db.execute("INSERT INTO hedgerow.meta VALUES (?, ?)", [key, str(pages)])

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._file.open(read_only=True) as db:
            return queries.hashes(db, project_id, start, end)

    def audit(self, project_id: int, stream: str, start: datetime, end: datetime) -> dict[datetime | None, Holding]:
        if not self.path.exists():
            return {}
        with self._file.open(read_only=True, large=True) as db:
            return queries.audit(db, project_id, stream, start, end) if format_of(db) else {}

    def changes(self, project_id: int, stream: str) -> list[Change]:
        if not self.path.exists():
            return []
        with self._file.open(read_only=True) as db:
            if format_of(db) < 2:
                return []
            rows = db.execute(
                "SELECT * FROM hedgerow.changes WHERE project_id = ? AND stream = ? ORDER BY found_at, window_start",
                [project_id, stream],
            ).fetchall()
            return [
                Change(project, of, utc(start), utc(at), Changes(late, deleted, changed, timedelta(seconds=lateness_s)))
                for project, of, start, at, late, deleted, changed, lateness_s in rows
            ]

    def mark_searched(self, project_id: int, stream: str, days: Iterable[date], *, seen: Ledger) -> None:
        with self._file.open() as db, transaction(db):
            for day in days:
                of_day = "SELECT window_start, generation FROM hedgerow.windows WHERE project_id = ? AND stream = ? "
                start = datetime(day.year, day.month, day.day, tzinfo=UTC)
                bounds = [project_id, stream, start, start + timedelta(days=1)]
                rows = db.execute(f"{of_day} AND window_start >= ? AND window_start < ?", bounds).fetchall()
                if off_the_list(seen, {utc(at): generation for at, generation in rows}, day):
                    db.execute(f"UPDATE hedgerow.steps SET unchecked = false WHERE {DATE}", [project_id, stream, day])

    def exists(self) -> bool:
        return self.path.exists()

    def held(self) -> AbstractContextManager[None]:
        return self._file.held()

    def stop_waiting(self) -> None:
        self._file.lock_timeout_s = 0.0

    def record(self, *runs: Run) -> None:
        # Whole: also a run that was refused because the file is cut short comes here, and must not write into it.
        with self._file.open_whole() as db, transaction(db):
            for run in runs:
                values = list(asdict(run).values())
                db.execute(f"INSERT INTO hedgerow.runs VALUES ({', '.join('?' * len(values))})", values)

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        if not self.path.exists():
            return []
        with self._file.open(read_only=True) as db:
            if not format_of(db):
                return []
            rows = db.execute(
                "SELECT * FROM hedgerow.runs WHERE project_id = ? ORDER BY started_at DESC LIMIT ?", [project_id, limit]
            ).fetchall()
            return [Run(*(utc(value) for value in row)) for row in rows]

    def projects(self) -> tuple[int, ...]:
        if not self.path.exists():
            return ()
        with self._file.open(read_only=True) as db:
            if not format_of(db):
                return ()
            rows = db.execute("SELECT DISTINCT project_id FROM hedgerow.streams ORDER BY 1").fetchall()
            return tuple(row[0] for row in rows)

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._file.open(read_only=True) as db:
            return queries.rows(db, project_id, start, end)

    def tables(self) -> tuple[str, ...]:
        if not self.path.exists():
            return ()
        with self._file.open(read_only=True) as db:
            return tables.names(db) if format_of(db) else ()

    def table(self, name: str) -> Table | None:
        if not self.path.exists():
            return None
        with self._file.open(read_only=True) as db:
            return tables.read(db, name) if format_of(db) else None

    def replace(
        self,
        name: str,
        rows: Rows,
        *,
        version: str,
        json: Sequence[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> None:
        def change(db: duckdb.DuckDBPyConnection) -> None:
            migrate(db, self.path.name)
            tables.replace(db, name, rows, version=version, json=json, views=views or {})

        self._file.changed(change)

    def drop(self, name: str, *, views: Sequence[str] = ()) -> None:
        self._file.changed(lambda db: tables.drop(db, name, views))

    def store_content(self, path: str, file: Path) -> str:
        return contents.store(self.path, path, file)

    def content(self, address: str) -> AbstractContextManager[BinaryIO]:
        return contents.kept(self.path, address)

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        if not self.path.exists():
            return None
        with self._file.open(read_only=True) as db:
            if not format_of(db):
                return None
            found = one(
                db,
                "SELECT m.value, s.filter FROM hedgerow.streams s JOIN hedgerow.meta m ON m.key = 'host:' || s.project_id "
                "WHERE s.project_id = ? AND s.stream = ?",
                [project_id, stream],
            )
            return (found[0], found[1]) if found else None

    def rejects(self, entry: Entry) -> pa.Table:
        with self._file.open(read_only=True) as db:
            query = f'SELECT "at", reason, text FROM hedgerow.quarantine WHERE {WINDOW}'
            return db.sql(query, params=list(entry.key)).to_arrow_table().cast(REJECTS)

    @contextmanager
    def query(self, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.results(sql, alone=True) as found:
            yield next(found)

    @contextmanager
    def results(self, sql: str, *, alone: bool) -> Iterator[Iterator[duckdb.DuckDBPyConnection]]:
        if not self.path.exists():
            raise errors.DestinationUnusable(f"no such file: {self.path}", hint="run hedgerow sync first")
        with self._file.open(read_only=True) as db, queries.refusals():
            yield queries.results(db, sql, alone=alone)
