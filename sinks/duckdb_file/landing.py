"""Statements that land windows, inside the transaction of sink.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import duckdb
import pyarrow as pa

from sinks import errors
from sinks.duckdb_file.connection import one
from sinks.duckdb_file.rows import TIMES, entries_of, ledger_table, ledger_values, utc
from sinks.duckdb_file.schema import ADDED_COLUMNS, ALL_COLUMNS, COLUMNS, SINCE, format_of
from sinks.entries import Entry, Landing, Removal
from sinks.ledger import REMOVALS_KEPT, Ledger, marks_after, marks_kept, recent
from sinks.sink import after, changes_of

SLICE_BYTES = 16 * 2**20
WINDOW = "project_id = ? AND stream = ? AND window_start = ?"
DATE = "project_id = ? AND stream = ? AND date = ?"


def check_filter(db: duckdb.DuckDBPyConnection, entry: Entry, expected: str | None) -> None:
    """Refuse rows that were read under a filter, *expected* if one is known, which a rebuild has replaced meanwhile."""
    stream = [entry.project_id, entry.stream]
    row = one(db, "SELECT filter FROM hedgerow.streams WHERE project_id = ? AND stream = ?", stream)
    if row is not None and expected is not None and row[0] != expected:
        raise errors.FilterChanged(
            f"the event filter of stream {entry.stream!r} was changed by another run: now {row[0] or 'none'}",
            hint="run again with the filter that is in force",
        )


def land_empty(db: duckdb.DuckDBPyConnection, landings: Sequence[Landing]) -> list[Entry]:
    """New windows without rows, inside the running transaction. A refusal is raised before anything is written."""
    entries = [landing.entry for landing in landings]
    of = [entries[0].project_id, entries[0].stream]
    held = (
        "SELECT window_start FROM hedgerow.windows WHERE project_id = ? AND stream = ? AND window_start BETWEEN ? AND ?"
    )
    found = {utc(row[0]) for row in db.execute(held, [*of, entries[0].start, entries[-1].start]).fetchall()}
    for entry in entries:
        if entry.start in found:
            raise errors.GenerationConflict(f"{entry.start:%Y-%m-%dT%H:%MZ}", expected=0, found=1)
    new = [after(None, landing) for landing in landings]
    _write_steps(db, landings)
    db.register("empty_windows", ledger_table(new))
    if _held(db, entries[0], entries[-1]):
        stray = one(
            db,
            'SELECT min(e."timestamp") FROM (SELECT * FROM events WHERE project_id = ? AND "timestamp" >= ? '
            'AND "timestamp" < ?) e ASOF JOIN empty_windows w ON e."timestamp" >= w.window_start '
            'WHERE e."timestamp" < w.window_end',
            [entries[0].project_id, entries[0].start, entries[-1].end],
        )
        if stray and stray[0] is not None:
            raise _unaccounted(utc(stray[0]), entries[0])
    db.execute(f"INSERT INTO hedgerow.windows ({ALL_COLUMNS}) SELECT {ALL_COLUMNS} FROM empty_windows")
    db.unregister("empty_windows")
    return new


def land_window(db: duckdb.DuckDBPyConnection, landing: Landing) -> Entry:
    """One window inside the running transaction. A refusal is raised before anything is written."""
    entry = landing.entry
    key = list(entry.key)
    known = next(iter(read_entries(db, entry.project_id, entry.stream, "AND window_start = ?", [entry.start])), None)
    new = after(known, landing)
    step = _step_of(db, landing)
    if known is None and _held(db, entry, entry):
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
    values = ledger_values(new)
    if known is not None:
        db.execute(f"DELETE FROM hedgerow.windows WHERE {WINDOW}", key)
    db.execute(f"INSERT INTO hedgerow.windows ({ALL_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)
    if (removal := landing.removal) is not None:
        of = [entry.project_id, entry.stream]
        old = "DELETE FROM hedgerow.removals WHERE project_id = ? AND stream = ? AND removed_at <= ?"
        db.execute(old, [*of, removal.at - REMOVALS_KEPT])
        db.execute("INSERT INTO hedgerow.removals VALUES (?, ?, ?, ?, ?)", [*key, removal.at, removal.rows])
    for found_at, news in changes_of(landing):
        counts = [found_at, news.late, news.deleted, news.changed, news.lateness.total_seconds()]
        db.execute(f"INSERT INTO hedgerow.changes VALUES ({', '.join('?' * 8)})", [*key, *counts])
    _write_step(db, landing, step, unchecked=changed and landing.partial and landing.rows.num_rows > 0)
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


def _step_of(db: duckdb.DuckDBPyConnection, landing: Landing) -> tuple[int, bool] | None:
    """Step and unchecked of the landing's date, as they are; None for a new date. Raises GenerationConflict.

    Another run may have cut the date otherwise: then the rows that are there are its own.
    """
    entry, day = landing.entry, landing.entry.start.date()
    row = one(db, f"SELECT step_s, unchecked FROM hedgerow.steps WHERE {DATE}", [entry.project_id, entry.stream, day])
    step_s = int(landing.step.total_seconds())
    if row is not None and row[0] != step_s:
        raise errors.GenerationConflict(f"{day} (step)", expected=step_s, found=row[0])
    return row and (row[0], row[1])


def _write_step(
    db: duckdb.DuckDBPyConnection, landing: Landing, known: tuple[int, bool] | None, *, unchecked: bool
) -> None:
    """A date's step is written once and never changed; *unchecked* notes that it is to be searched."""
    entry, day = landing.entry, landing.entry.start.date()
    if known is None:
        values = [entry.project_id, entry.stream, day, int(landing.step.total_seconds()), unchecked]
        db.execute("INSERT INTO hedgerow.steps VALUES (?, ?, ?, ?, ?)", values)
    elif unchecked and not known[1]:
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


def read_ledger(
    db: duckdb.DuckDBPyConnection, project_id: int, stream: str, entries: Mapping[datetime, Entry] | None = None
) -> Ledger:
    """Everything known of the stream. *entries*: those of it, where they were read before."""
    if entries is None:
        entries = {entry.start: entry for entry in read_entries(db, project_id, stream)}
    of = [project_id, stream]
    where = "WHERE project_id = ? AND stream = ?"
    steps = db.execute(f"SELECT date, step_s, unchecked FROM hedgerow.steps {where}", of).fetchall()
    known: dict[date, timedelta] = {day: timedelta(seconds=step_s) for day, step_s, _ in steps}
    marks = db.execute(f"SELECT mark FROM hedgerow.streams {where} AND mark IS NOT NULL", of).fetchall()
    removals: list[Removal] = []
    if format_of(db) >= 3:
        marks += db.execute(f"SELECT mark FROM hedgerow.marks {where}", of).fetchall()
        found = db.execute(f"SELECT window_start, removed_at, rows FROM hedgerow.removals {where}", of)
        removals = [Removal(utc(start), utc(at), rows) for start, at, rows in found.fetchall()]
    saved = one(db, "SELECT value FROM hedgerow.meta WHERE key = ?", [f"saved:{project_id}:{stream}"])
    return Ledger(
        entries=entries,
        steps=known,
        marks=marks_kept(utc(row[0]) for row in marks),
        unchecked=frozenset(day for day, _, unchecked in steps if unchecked),
        removals=recent(removals),
        saved=int(saved[0]) if saved else 0,
    )


def take_mark(db: duckdb.DuckDBPyConnection, entry: Entry, mark: datetime) -> None:
    """Store *mark* of the entry's stream, if ledger.marks_after takes it."""
    of = [entry.project_id, entry.stream]
    marks = marks_after(read_ledger(db, entry.project_id, entry.stream), mark)
    if marks is not None:
        db.execute("DELETE FROM hedgerow.marks WHERE project_id = ? AND stream = ?", of)
        db.executemany("INSERT INTO hedgerow.marks VALUES (?, ?, ?)", [[*of, one] for one in marks])
        latest = "UPDATE hedgerow.streams SET mark = greatest(?::TIMESTAMPTZ, coalesce(mark, ?::TIMESTAMPTZ))"
        db.execute(f"{latest} WHERE project_id = ? AND stream = ?", [mark, mark, *of])


def read_entries(
    db: duckdb.DuckDBPyConnection, project_id: int, stream: str, more: str = "", values: Sequence[object] = ()
) -> list[Entry]:
    """Entries of a stream, whatever format they were written in; *more*: a further condition and its *values*."""
    added = ADDED_COLUMNS[: SINCE.get(format_of(db), len(ADDED_COLUMNS))]
    missing = ["NULL"] * (len(ADDED_COLUMNS) - len(added))
    # Microseconds, not times: DuckDB makes Python's times one by one with their zone, which takes longer than all the rest.
    names = [*COLUMNS.split(", "), *added]
    columns = ", ".join([*(f"epoch_us({name})" if name in TIMES else name for name in names), *missing])
    where = f"WHERE project_id = ? AND stream = ? {more}"
    rows = db.execute(f"SELECT {columns} FROM hedgerow.windows {where}", [project_id, stream, *values]).fetchall()
    return entries_of(rows)


def rewrite(db: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> None:
    """Put *entries* in the place of those of the same windows."""
    if not entries:
        return
    db.register("rewritten", ledger_table(entries))
    db.execute(
        "DELETE FROM hedgerow.windows AS w USING rewritten r WHERE w.project_id = r.project_id AND w.stream = r.stream "
        "AND w.window_start = r.window_start"
    )
    db.execute(f"INSERT INTO hedgerow.windows ({ALL_COLUMNS}) SELECT {ALL_COLUMNS} FROM rewritten")
    db.unregister("rewritten")
