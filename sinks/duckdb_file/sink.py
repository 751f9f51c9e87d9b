"""The DuckDB destination: one transaction per window, and the file open only while it is used.

Every call opens, works and closes (sinks/duckdb_connection). Compression: design.md, facts/performance.md §4.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sinks import durable, errors, queries
from sinks.duckdb_file import tables
from sinks.duckdb_file.connection import PLENTY, DuckDBFile, one, transaction
from sinks.ledger import (
    FACTS,
    OWN,
    REMOVALS_KEPT,
    Agreed,
    Base,
    Changes,
    Entry,
    Facts,
    Landing,
    Ledger,
    Note,
    Probed,
    Rebuild,
    Removal,
    State,
    Tally,
    follows,
    marks_after,
    marks_kept,
    of_older,
    off_the_list,
    recent,
)
from sinks.sink import FORMAT, REJECTS, Change, Holding, Run, Table, after, by_stream, grouped

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS hedgerow;
CREATE TABLE IF NOT EXISTS hedgerow.meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS hedgerow.streams (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, filter VARCHAR NOT NULL, mark TIMESTAMPTZ);
CREATE TABLE IF NOT EXISTS hedgerow.steps (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, date DATE NOT NULL, step_s INTEGER NOT NULL,
    unchecked BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS hedgerow.windows (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, window_start TIMESTAMPTZ NOT NULL, window_end TIMESTAMPTZ NOT NULL,
    covered_start TIMESTAMPTZ NOT NULL, covered_end TIMESTAMPTZ NOT NULL, state VARCHAR NOT NULL, generation BIGINT NOT NULL,
    read_at TIMESTAMPTZ NOT NULL, source_rows BIGINT NOT NULL, source_digest VARCHAR NOT NULL, landed_rows BIGINT NOT NULL,
    landed_digest VARCHAR NOT NULL, quarantined_rows BIGINT NOT NULL, suppressed_rows BIGINT NOT NULL, copies BIGINT NOT NULL,
    base VARCHAR);
CREATE TABLE IF NOT EXISTS hedgerow.quarantine (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, window_start TIMESTAMPTZ NOT NULL, "at" TIMESTAMPTZ,
    reason VARCHAR NOT NULL, text VARCHAR NOT NULL, read_at TIMESTAMPTZ NOT NULL);
CREATE TABLE IF NOT EXISTS hedgerow.runs (
    run_id VARCHAR NOT NULL, command VARCHAR NOT NULL, project_id BIGINT NOT NULL, stream VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ NOT NULL, outcome VARCHAR NOT NULL, windows BIGINT NOT NULL,
    rows BIGINT NOT NULL, requests BIGINT NOT NULL, waited_s DOUBLE NOT NULL, error VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    project_id BIGINT NOT NULL, uuid UUID NOT NULL, event VARCHAR NOT NULL, distinct_id VARCHAR NOT NULL, person_id VARCHAR,
    properties JSON NOT NULL USING COMPRESSION zstd, person_properties JSON, elements_chain VARCHAR USING COMPRESSION zstd,
    "timestamp" TIMESTAMPTZ NOT NULL, created_at TIMESTAMPTZ, _loaded_at TIMESTAMPTZ NOT NULL);
"""
"""Format 1."""
ADDED = """
ALTER TABLE hedgerow.windows ADD COLUMN IF NOT EXISTS probed_at TIMESTAMPTZ;
ALTER TABLE hedgerow.windows ADD COLUMN IF NOT EXISTS probed VARCHAR;
CREATE TABLE IF NOT EXISTS hedgerow.changes (
    project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, window_start TIMESTAMPTZ NOT NULL, found_at TIMESTAMPTZ NOT NULL,
    late BIGINT NOT NULL, deleted BIGINT NOT NULL, changed BIGINT NOT NULL, lateness_s DOUBLE NOT NULL);
"""
"""What format 2 adds. Every format only adds: columns that may be null, tables."""
ADDED_3 = "\n".join(
    [
        *(
            f"ALTER TABLE hedgerow.windows ADD COLUMN IF NOT EXISTS {column};"
            for column in (
                "agreed VARCHAR",
                "agreed_until TIMESTAMPTZ",
                "noted BIGINT",
                "tried_at TIMESTAMPTZ",
                *(f"{name}_at TIMESTAMPTZ" for name in FACTS),
            )
        ),
        "CREATE TABLE IF NOT EXISTS hedgerow.marks ("
        "project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, mark TIMESTAMPTZ NOT NULL);",
        "CREATE TABLE IF NOT EXISTS hedgerow.removals (project_id BIGINT NOT NULL, stream VARCHAR NOT NULL, "
        "window_start TIMESTAMPTZ NOT NULL, removed_at TIMESTAMPTZ NOT NULL, rows BIGINT NOT NULL);",
    ]
)
"""What format 3 adds: facts beside the state, the number of the last note, marks, and what the deletion guard counts."""

SLICE_BYTES = 16 * 2**20
WINDOW = "project_id = ? AND stream = ? AND window_start = ?"
DATE = "project_id = ? AND stream = ? AND date = ?"
COLUMNS = (
    "project_id, stream, window_start, window_end, covered_start, covered_end, state, generation, read_at, source_rows, "
    "source_digest, landed_rows, landed_digest, quarantined_rows, suppressed_rows, copies, base"
)
ADDED_COLUMNS = (
    "probed_at",
    "probed",
    "agreed",
    "agreed_until",
    "noted",
    "tried_at",
    *(f"{name}_at" for name in FACTS),
)
ALL_COLUMNS = f"{COLUMNS}, {', '.join(ADDED_COLUMNS)}"
SINCE = {1: 0, 2: 2}
"""How many of ADDED_COLUMNS each older format has."""


class DuckDBSink:
    """A DuckDB file. *lock_timeout_s*: how long to wait for another process; *on_wait* hears the holder once."""

    def __init__(
        self, path: Path, *, lock_timeout_s: float = 60.0, on_wait: Callable[[str], None] = lambda holder: None
    ) -> None:
        self._file = DuckDBFile(path, lock_timeout_s=lock_timeout_s, on_wait=on_wait)
        self.path = self._file.path
        self.name, self.home, self.spool_directory = self.path.name, self.path.parent, self.path.parent
        self._filters: dict[tuple[int, str], str] = {}

    def prepare(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool) -> None:
        with self._file.open_whole() as db, transaction(db):
            self._prepare(db, project_id, stream, host=host, event_filter=event_filter, rebuild=rebuild)
        self._filters[project_id, stream] = event_filter

    def probe(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool = False) -> None:
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
                self._prepare(db, project_id, stream, host=host, event_filter=event_filter, rebuild=rebuild)
            finally:
                db.execute("ROLLBACK")

    def _prepare(
        self,
        db: duckdb.DuckDBPyConnection,
        project_id: int,
        stream: str,
        *,
        host: str,
        event_filter: str,
        rebuild: bool,
    ) -> None:
        self._migrate(db)
        known = one(db, "SELECT value FROM hedgerow.meta WHERE key = ?", [f"host:{project_id}"])
        if known is None:
            db.execute("INSERT INTO hedgerow.meta VALUES (?, ?)", [f"host:{project_id}", host])
        elif known[0] != host:
            raise errors.HostChanged(
                f"project {project_id} in {self.path.name} comes from {known[0]}, not from {host}",
                hint="use another destination for another PostHog host",
            )
        row = one(db, "SELECT filter FROM hedgerow.streams WHERE project_id = ? AND stream = ?", [project_id, stream])
        if row is None:
            db.execute("INSERT INTO hedgerow.streams VALUES (?, ?, ?, NULL)", [project_id, stream, event_filter])
        elif row[0] != event_filter and not rebuild:
            raise errors.FilterChanged(
                f"stream {stream!r} of project {project_id} was landed with the event filter {row[0] or 'none'}, "
                f"now it is {event_filter or 'none'}",
                hint="go back to the old filter, or land everything again with --rebuild",
            )
        if rebuild:
            db.execute(
                "UPDATE hedgerow.streams SET filter = ? WHERE project_id = ? AND stream = ?",
                [event_filter, project_id, stream],
            )
            stale = [follows(entry, Rebuild()) for entry in _entries(db, project_id, stream)]
            _rewrite(db, [entry for entry in stale if isinstance(entry, Entry)])

    def ledger(self, project_id: int, stream: str) -> Ledger:
        if not self.path.exists():
            return Ledger()
        with self._file.open(read_only=True) as db:
            if not _format(db):
                return Ledger()
            return _ledger(db, project_id, stream)

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
            return next(iter(_entries(db, entry.project_id, entry.stream, "AND window_start = ?", [entry.start])), None)

    def _land_all(self, landings: Sequence[Landing], *, mark: datetime | None) -> list[Entry]:
        landed: list[Entry] = []
        with errors.counting(landed), self._file.open() as db:
            for group in grouped(landings):
                with transaction(db):
                    entry = group[-1].entry
                    self._check_filter(db, entry)
                    new = _land_empty(db, group) if len(group) > 1 else [_land(db, group[0])]
                    if mark is not None and group[-1] is landings[-1]:
                        _take_mark(db, entry, mark)
                landed += new
        return landed

    def _check_filter(self, db: duckdb.DuckDBPyConnection, entry: Entry) -> None:
        """Refuse rows that were read under a filter which a rebuild has replaced meanwhile."""
        stream = [entry.project_id, entry.stream]
        row = one(db, "SELECT filter FROM hedgerow.streams WHERE project_id = ? AND stream = ?", stream)
        expected = self._filters.get((entry.project_id, entry.stream))
        if row is not None and expected is not None and row[0] != expected:
            raise errors.FilterChanged(
                f"the event filter of stream {entry.stream!r} was changed by another run: now {row[0] or 'none'}",
                hint="run again with the filter that is in force",
            )

    def twice(self, project_id: int, stream: str, days: Iterable[date]) -> pa.Table:
        with self._file.open(read_only=True) as db:
            return queries.twice(db, project_id, days)

    def note(self, notes: Sequence[Note]) -> list[Note]:
        left: list[Note] = []
        if not notes:
            return left
        with self._file.open() as db, transaction(db):
            new: dict[tuple[int, str, datetime], Entry] = {}
            for (project_id, stream), some in by_stream(notes):
                starts = [note.known.start for note in some]
                inside = "AND window_start BETWEEN ? AND ?"
                found = _entries(db, project_id, stream, inside, [min(starts), max(starts)])
                known = {entry.start: entry for entry in found}
                for note in some:
                    start = note.known.start
                    entry = follows(known.get(start), note)
                    if isinstance(entry, Entry):
                        known[start] = new[entry.key] = entry
                    else:
                        left.append(note)
            _rewrite(db, list(new.values()))
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
        with self._file.open(read_only=True) as db:
            return queries.audit(db, project_id, stream, start, end) if _format(db) else {}

    def changes(self, project_id: int, stream: str) -> list[Change]:
        if not self.path.exists():
            return []
        with self._file.open(read_only=True) as db:
            if _format(db) < 2:
                return []
            rows = db.execute(
                "SELECT * FROM hedgerow.changes WHERE project_id = ? AND stream = ? ORDER BY found_at, window_start",
                [project_id, stream],
            ).fetchall()
            return [
                Change(
                    project, of, _utc(start), _utc(at), Changes(late, deleted, changed, timedelta(seconds=lateness_s))
                )
                for project, of, start, at, late, deleted, changed, lateness_s in rows
            ]

    def checked(self, project_id: int, stream: str, days: Iterable[date], *, seen: Ledger) -> None:
        with self._file.open() as db, transaction(db):
            for day in days:
                of_day = "SELECT window_start, generation FROM hedgerow.windows WHERE project_id = ? AND stream = ? "
                start = datetime(day.year, day.month, day.day, tzinfo=UTC)
                bounds = [project_id, stream, start, start + timedelta(days=1)]
                rows = db.execute(f"{of_day} AND window_start >= ? AND window_start < ?", bounds).fetchall()
                if off_the_list(seen, {_utc(at): generation for at, generation in rows}, day):
                    db.execute(f"UPDATE hedgerow.steps SET unchecked = false WHERE {DATE}", [project_id, stream, day])

    def exists(self) -> bool:
        return self.path.exists()

    def hurry(self) -> None:
        self._file.lock_timeout_s = 0.0

    def record(self, run: Run) -> None:
        # Whole: also a run that was refused because the file is cut short comes here, and must not write into it.
        with self._file.open_whole() as db:
            values = list(asdict(run).values())
            db.execute(f"INSERT INTO hedgerow.runs VALUES ({', '.join('?' * len(values))})", values)

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        if not self.path.exists():
            return []
        with self._file.open(read_only=True) as db:
            if not _format(db):
                return []
            rows = db.execute(
                "SELECT * FROM hedgerow.runs WHERE project_id = ? ORDER BY started_at DESC LIMIT ?", [project_id, limit]
            ).fetchall()
            return [Run(*(_utc(value) for value in row)) for row in rows]

    def projects(self) -> tuple[int, ...]:
        if not self.path.exists():
            return ()
        with self._file.open(read_only=True) as db:
            if not _format(db):
                return ()
            rows = db.execute("SELECT DISTINCT project_id FROM hedgerow.streams ORDER BY 1").fetchall()
            return tuple(row[0] for row in rows)

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._file.open(read_only=True) as db:
            return queries.rows(db, project_id, start, end)

    def table(self, name: str) -> Table | None:
        if not self.path.exists():
            return None
        with self._file.open(read_only=True) as db:
            return tables.read(db, name) if _format(db) else None

    def replace(
        self,
        name: str,
        rows: pa.Table,
        *,
        version: str,
        json: Sequence[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> None:
        with self._file.open() as db, transaction(db):
            self._migrate(db)
            tables.replace(db, name, rows, version=version, json=json, views=views or {})

    def keep(self, path: str, file: Path) -> str:
        home = self.path.with_name(f"{self.path.name}.exports")
        with errors.writing(home):
            target = home / path
            durable.make(target.parent)
            with file.open("rb") as source, durable.arriving(target) as sunk:
                shutil.copyfileobj(source, sunk)
        return f"{home.name}/{path}"

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        if not self.path.exists():
            return None
        with self._file.open(read_only=True) as db:
            if not _format(db):
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
        if not self.path.exists():
            raise errors.DestinationUnusable(f"no such file: {self.path}", hint="run hedgerow sync first")
        with self._file.open(read_only=True) as db, queries.refusals():
            yield queries.executed(db, sql)

    def _migrate(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the tables of this format; a newer format is refused, an older one is added to."""
        found = _format(db)
        if found > FORMAT:
            raise errors.DestinationUnusable(
                f"{self.path.name} was written by a newer hedgerow: format {found}, this one knows {FORMAT}",
                hint="upgrade hedgerow",
            )
        if found == FORMAT:
            return
        db.execute(SCHEMA)
        db.execute(ADDED)
        db.execute(ADDED_3)
        if found:
            db.execute(
                "INSERT INTO hedgerow.marks SELECT project_id, stream, mark FROM hedgerow.streams WHERE mark IS NOT NULL"
            )
        db.execute("DELETE FROM hedgerow.meta WHERE key = 'format'")
        db.execute("INSERT INTO hedgerow.meta VALUES ('format', ?)", [str(FORMAT)])


def _format(db: duckdb.DuckDBPyConnection) -> int:
    """Number of the bookkeeping's format; 0 for a file that has none."""
    query = "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'hedgerow' AND table_name = 'meta'"
    row = one(db, query)
    if not row or not row[0]:
        return 0
    row = one(db, "SELECT value FROM hedgerow.meta WHERE key = 'format'")
    return int(row[0]) if row else 0


def _land_empty(db: duckdb.DuckDBPyConnection, landings: Sequence[Landing]) -> list[Entry]:
    """New windows without rows, inside the running transaction."""
    entries = [landing.entry for landing in landings]
    of = [entries[0].project_id, entries[0].stream]
    held = (
        "SELECT window_start FROM hedgerow.windows WHERE project_id = ? AND stream = ? AND window_start BETWEEN ? AND ?"
    )
    found = {_utc(row[0]) for row in db.execute(held, [*of, entries[0].start, entries[-1].start]).fetchall()}
    for entry in entries:
        if entry.start in found:
            raise errors.GenerationConflict(f"{entry.start:%Y-%m-%dT%H:%MZ}", expected=0, found=1)
    new = [after(None, landing) for landing in landings]
    _write_steps(db, landings)
    db.register("empty_windows", _table(new))
    if _held(db, entries[0], entries[-1]):
        stray = one(
            db,
            'SELECT min(e."timestamp") FROM (SELECT * FROM events WHERE project_id = ? AND "timestamp" >= ? '
            'AND "timestamp" < ?) e ASOF JOIN empty_windows w ON e."timestamp" >= w.window_start '
            'WHERE e."timestamp" < w.window_end',
            [entries[0].project_id, entries[0].start, entries[-1].end],
        )
        if stray and stray[0] is not None:
            raise _unaccounted(_utc(stray[0]), entries[0])
    db.execute(f"INSERT INTO hedgerow.windows ({ALL_COLUMNS}) SELECT {ALL_COLUMNS} FROM empty_windows")
    db.unregister("empty_windows")
    return new


def _land(db: duckdb.DuckDBPyConnection, landing: Landing) -> Entry:
    """One window inside the running transaction."""
    entry = landing.entry
    key = list(entry.key)
    known = next(iter(_entries(db, entry.project_id, entry.stream, "AND window_start = ?", [entry.start])), None)
    new = after(known, landing)
    if known is None and _held(db, entry, entry):
        _write_step(db, landing, unchecked=False)  # another run may have cut the date otherwise: then they are its rows
        raise _unaccounted(entry.start, entry)
    anew = landing.rewrite or (known is not None and known.facts.damaged is not None)
    changed = anew or known is None or not _same_rows(known, entry)
    if changed:
        if known is not None and (known.tally.landed_rows or anew):
            db.execute(
                'DELETE FROM events WHERE project_id = ? AND "timestamp" >= ? AND "timestamp" < ?',
                [entry.project_id, landing.replace_start, entry.end],
            )
        if landing.rows.num_rows:
            _insert(db, landing.rows)
    _quarantine(db, landing, anew=known is not None and known.tally.quarantined_rows > 0)
    values = _values(new)
    if known is not None:
        db.execute(f"DELETE FROM hedgerow.windows WHERE {WINDOW}", key)
    db.execute(f"INSERT INTO hedgerow.windows ({ALL_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)
    if (removal := landing.removal) is not None:
        of = [entry.project_id, entry.stream]
        old = "DELETE FROM hedgerow.removals WHERE project_id = ? AND stream = ? AND removed_at <= ?"
        db.execute(old, [*of, removal.at - REMOVALS_KEPT])
        db.execute("INSERT INTO hedgerow.removals VALUES (?, ?, ?, ?, ?)", [*key, removal.at, removal.rows])
    if news := landing.changes:
        counts = [entry.read_at, news.late, news.deleted, news.changed, news.lateness.total_seconds()]
        db.execute(f"INSERT INTO hedgerow.changes VALUES ({', '.join('?' * 8)})", [*key, *counts])
    _write_step(db, landing, unchecked=changed and landing.partial and landing.rows.num_rows > 0)
    return new


def _held(db: duckdb.DuckDBPyConnection, first: Entry, last: Entry) -> bool:
    """Whether there are rows from the beginning of the first window to the end of the last."""
    inside = 'project_id = ? AND "timestamp" >= ? AND "timestamp" < ?'
    row = one(db, f"SELECT 1 FROM events WHERE {inside} LIMIT 1", [first.project_id, first.start, last.end])
    return row is not None


def _unaccounted(at: datetime, entry: Entry) -> errors.DestinationUnusable:
    """Landing beside rows that the ledger does not know would double them, and they may not be ours to delete."""
    return errors.DestinationUnusable(
        f"the table events holds rows of project {entry.project_id} from {at:%Y-%m-%dT%H:%MZ} on that the ledger does not know",
        hint="delete them (DELETE FROM events WHERE …) or move them to another table, and run again; nothing was changed",
    )


def _insert(db: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    """Rows into events, a slice at a time: DuckDB holds 2,048 rows of a statement at once, however large they are."""
    step = max(1, rows.num_rows * SLICE_BYTES // max(1, rows.nbytes))
    for first in range(0, rows.num_rows, step):
        db.register("landing", rows.slice(first, step))
        db.execute("INSERT INTO events BY NAME SELECT * FROM landing")
        db.unregister("landing")


def _same_rows(known: Entry, new: Entry) -> bool:
    """The window's rows would be what they are: then only the ledger row is rewritten."""
    return (known.tally.landed_rows, known.tally.landed_digest) == (new.tally.landed_rows, new.tally.landed_digest)


def _quarantine(db: duckdb.DuckDBPyConnection, landing: Landing, *, anew: bool) -> None:
    entry = landing.entry
    if anew:
        db.execute(
            f'DELETE FROM hedgerow.quarantine WHERE {WINDOW} AND ("at" IS NULL OR "at" >= ?)',
            [*entry.key, landing.replace_start],
        )
    if landing.rejects.num_rows:
        db.register("rejects", landing.rejects)
        db.execute(
            'INSERT INTO hedgerow.quarantine SELECT ?, ?, ?, "at", reason, text, ? FROM rejects',
            [*entry.key, entry.read_at],
        )
        db.unregister("rejects")


def _write_step(db: duckdb.DuckDBPyConnection, landing: Landing, *, unchecked: bool) -> None:
    """A date's step is written once and never changed; *unchecked* notes that it is to be searched."""
    entry, day = landing.entry, landing.entry.start.date()
    row = one(db, f"SELECT step_s, unchecked FROM hedgerow.steps WHERE {DATE}", [entry.project_id, entry.stream, day])
    step_s = int(landing.step.total_seconds())
    if row is None:
        values = [entry.project_id, entry.stream, day, step_s, unchecked]
        db.execute("INSERT INTO hedgerow.steps VALUES (?, ?, ?, ?, ?)", values)
    elif row[0] != step_s:
        raise errors.GenerationConflict(f"{day} (step)", expected=step_s, found=row[0])
    elif unchecked and not row[1]:
        db.execute(f"UPDATE hedgerow.steps SET unchecked = true WHERE {DATE}", [entry.project_id, entry.stream, day])


def _write_steps(db: duckdb.DuckDBPyConnection, landings: Sequence[Landing]) -> None:
    """The steps of the dates of new windows without rows."""
    project_id, stream = landings[0].entry.project_id, landings[0].entry.stream
    steps = {landing.entry.start.date(): int(landing.step.total_seconds()) for landing in landings}
    known = db.execute(
        "SELECT date, step_s FROM hedgerow.steps WHERE project_id = ? AND stream = ? AND date BETWEEN ? AND ?",
        [project_id, stream, min(steps), max(steps)],
    ).fetchall()
    for day, step_s in known:
        wanted = steps.pop(day, step_s)
        if wanted != step_s:
            raise errors.GenerationConflict(f"{day} (step)", expected=wanted, found=step_s)
    if steps:
        db.register("new_steps", pa.table({"date": list(steps), "step_s": list(steps.values())}))
        db.execute("INSERT INTO hedgerow.steps SELECT ?, ?, date, step_s, false FROM new_steps", [project_id, stream])
        db.unregister("new_steps")


def _ledger(db: duckdb.DuckDBPyConnection, project_id: int, stream: str) -> Ledger:
    of = [project_id, stream]
    where = "WHERE project_id = ? AND stream = ?"
    steps = db.execute(f"SELECT date, step_s, unchecked FROM hedgerow.steps {where}", of).fetchall()
    known: dict[date, timedelta] = {day: timedelta(seconds=step_s) for day, step_s, _ in steps}
    marks = db.execute(f"SELECT mark FROM hedgerow.streams {where} AND mark IS NOT NULL", of).fetchall()
    removals: list[Removal] = []
    if _format(db) >= 3:
        marks += db.execute(f"SELECT mark FROM hedgerow.marks {where}", of).fetchall()
        found = db.execute(f"SELECT window_start, removed_at, rows FROM hedgerow.removals {where}", of)
        removals = [Removal(_utc(start), _utc(at), rows) for start, at, rows in found.fetchall()]
    saved = one(db, "SELECT value FROM hedgerow.meta WHERE key = ?", [f"saved:{project_id}:{stream}"])
    return Ledger(
        entries={entry.start: entry for entry in _entries(db, project_id, stream)},
        steps=known,
        marks=marks_kept(_utc(row[0]) for row in marks),
        unchecked=frozenset(day for day, _, unchecked in steps if unchecked),
        removals=recent(removals),
        saved=int(saved[0]) if saved else 0,
    )


def _take_mark(db: duckdb.DuckDBPyConnection, entry: Entry, mark: datetime) -> None:
    """Store *mark* of the entry's stream, if ledger.marks_after takes it."""
    of = [entry.project_id, entry.stream]
    marks = marks_after(_ledger(db, entry.project_id, entry.stream), mark)
    if marks is not None:
        db.execute("DELETE FROM hedgerow.marks WHERE project_id = ? AND stream = ?", of)
        db.executemany("INSERT INTO hedgerow.marks VALUES (?, ?, ?)", [[*of, one] for one in marks])
        latest = "UPDATE hedgerow.streams SET mark = greatest(?::TIMESTAMPTZ, coalesce(mark, ?::TIMESTAMPTZ))"
        db.execute(f"{latest} WHERE project_id = ? AND stream = ?", [mark, mark, *of])


def _entries(
    db: duckdb.DuckDBPyConnection, project_id: int, stream: str, more: str = "", values: Sequence[object] = ()
) -> list[Entry]:
    """Entries of a stream, whatever format they were written in; *more*: a further condition and its *values*."""
    added = ADDED_COLUMNS[: SINCE.get(_format(db), len(ADDED_COLUMNS))]
    missing = ["NULL"] * (len(ADDED_COLUMNS) - len(added))
    # Microseconds, not times: DuckDB makes Python's times one by one with their zone, which takes longer than all the rest.
    names = [*COLUMNS.split(", "), *added]
    columns = ", ".join([*(f"epoch_us({name})" if name in TIMES else name for name in names), *missing])
    where = f"WHERE project_id = ? AND stream = ? {more}"
    rows = db.execute(f"SELECT {columns} FROM hedgerow.windows {where}", [project_id, stream, *values]).fetchall()
    return [_entry(row) for row in rows]


def _rewrite(db: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> None:
    """Put *entries* in the place of those of the same windows."""
    if not entries:
        return
    db.register("rewritten", _table(entries))
    db.execute(
        "DELETE FROM hedgerow.windows AS w USING rewritten r WHERE w.project_id = r.project_id AND w.stream = r.stream "
        "AND w.window_start = r.window_start"
    )
    db.execute(f"INSERT INTO hedgerow.windows ({ALL_COLUMNS}) SELECT {ALL_COLUMNS} FROM rewritten")
    db.unregister("rewritten")


TIME = pa.timestamp("us", "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = frozenset(name for name in ALL_COLUMNS.split(", ") if name.endswith(("_at", "_start", "_end", "_until")))
TIME_PLACES = tuple(place for place, name in enumerate(ALL_COLUMNS.split(", ")) if name in TIMES)


def _table(entries: Sequence[Entry]) -> pa.Table:
    """The rows of *entries*, in the order of ALL_COLUMNS."""
    names = ALL_COLUMNS.split(", ")
    columns = zip(*map(_values, entries), strict=True)
    arrays = [pa.array(column, TIME if name in TIMES else None) for name, column in zip(names, columns, strict=True)]
    return pa.table(arrays, names=names)


def _values(entry: Entry) -> list[object]:
    base = None
    if entry.base is not None:
        whole_at = entry.base.whole_at.isoformat() if entry.base.whole_at else None
        until = entry.base.until.isoformat()
        base = json.dumps({"until": until, "tally": asdict(entry.base.tally), "whole_at": whole_at})
    return [
        entry.project_id,
        entry.stream,
        entry.start,
        entry.end,
        entry.covered_start,
        entry.covered_end,
        str(entry.shown),
        entry.generation,
        entry.read_at,
        *asdict(entry.tally).values(),
        base,
        entry.probed.at if entry.probed else None,
        entry.probed.values if entry.probed else None,
        entry.agreed.values if entry.agreed else None,
        entry.agreed.until if entry.agreed else None,
        entry.noted,
        entry.tried_at,
        *(getattr(entry.facts, name) for name in FACTS),
    ]


def _entry(row: Sequence[Any]) -> Entry:
    """The entry of a row in the order of ALL_COLUMNS, times in microseconds since 1970."""
    values = list(row)
    for place in TIME_PLACES:
        values[place] = _at(values[place])
    project_id, stream, start, end, covered_start, covered_end, shown, generation, read_at, *others = values
    *tally, base, probed_at, probed, agreed, agreed_until, noted, tried_at = others[: -len(FACTS)]
    stored = json.loads(base) if base else None
    last = Probed(probed_at, probed) if probed is not None else None
    if noted is None:  # of an older format
        state, facts, equal = of_older(shown, read_at=read_at, probed=last, covered_end=covered_end)
    else:
        facts = Facts(*others[-len(FACTS) :])
        own = shown in OWN or not facts
        state = State(shown) if own else State.LANDED
        equal = Agreed(agreed, agreed_until) if agreed is not None else None
    return Entry(
        project_id=project_id,
        stream=stream,
        start=start,
        end=end,
        covered_start=covered_start,
        covered_end=covered_end,
        state=state,
        read_at=read_at,
        tally=Tally(*tally),
        generation=generation,
        base=_base(stored) if stored else None,
        probed=last,
        agreed=equal,
        facts=facts,
        noted=noted or 0,
        tried_at=tried_at,
    )


def _base(stored: dict[str, Any]) -> Base:
    whole_at = stored.get("whole_at")
    return Base(
        datetime.fromisoformat(stored["until"]),
        Tally(**stored["tally"]),
        datetime.fromisoformat(whole_at) if whole_at else None,
    )


def _at(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)


def _utc(value: object):  # type: ignore[no-untyped-def]  # any column's value
    return value.astimezone(UTC) if isinstance(value, datetime) else value
