"""The lake: Parquet in S3 or in a directory, one object per window, replaced whole by one PUT (docs/lake.md).

By a plain glob each window is at every moment one complete reading. The PUT is conditional where the store honours
If-Match; elsewhere the object is looked at before, and of two writers that still cross the last is one complete reading.
"""

from __future__ import annotations

import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sinks import errors, queries
from sinks.destination import HISTORIES, Table
from sinks.lake import views as lake_views
from sinks.lake import window_file
from sinks.lake.cache import File
from sinks.lake.journal import AT_ONCE, GRAVE, HOME, Line, carried, line_of, stored_run
from sinks.lake.landing import conflict, footer_of, generation_of, window_written
from sinks.lake.stream import Stream
from sinks.lake.window_file import FILE_SCHEMA, Footer
from sinks.ledger import (
    Entry,
    Landing,
    Ledger,
    Note,
    follows,
    generations,
    off_the_list,
)
from sinks.objects.base import SCRATCH, Changed, Exists, Missing, Objects
from sinks.objects.local import LocalObjects
from sinks.sink import FORMAT, IDENTITIES, REJECTS, Change, Holding, Run, after, by_stream, grouped

FORMAT_PATH = f"{HOME}/format"
CONTENTS = "exports/contents"
REBUILDS = 5  # how often two rebuilds may cross before one gives up
READ_ROWS, READ_OBJECTS = 100_000, 256  # what is compared at once
ORDER = [(name, "ascending") for name in ("timestamp", "uuid", "event", "distinct_id")]


class LakeSink:
    """A lake in *objects*. Not thread-safe; many processes may write at once."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.name = objects.name
        self._filters: dict[tuple[int, str], str] = {}
        self._streams: dict[tuple[int, str], Stream] = {}
        self._tried = False

    @property
    def home(self) -> Path | None:
        return self.objects.root if isinstance(self.objects, LocalObjects) else None

    @property
    def spool_directory(self) -> Path:
        if self.home is None:
            return Path(tempfile.gettempdir())
        scratch = self.home / SCRATCH
        return scratch if scratch.is_dir() else self.home.parent

    # --- the stream's rules

    def prepare(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool) -> None:
        self._try()
        self._check_format(write=True)
        self._check_host(project_id, host, write=True)
        known = self._stream(project_id, stream)
        known.refresh_rules()
        if known.rules is None:
            with suppress(Exists):  # another process begins the same stream
                self.objects.put(known.rules_path, _json(filter=event_filter, epoch=0), create=True)
            known.refresh_rules()
        self._check_filter(known, event_filter, rebuild=rebuild)
        if rebuild:
            self._rebuild(known, event_filter)
        self._filters[project_id, stream] = event_filter

    def _rebuild(self, known: Stream, event_filter: str) -> None:
        """One PUT makes every window stale: their footers are of an earlier epoch. Of two rebuilds at once both count."""
        for attempt in reversed(range(REBUILDS)):
            epoch = known.rules[1] if known.rules else 0
            try:
                rules = _json(filter=event_filter, epoch=epoch + 1)
                self.objects.put(known.rules_path, rules, match=known.rules_etag)
                known.refresh_rules()
                return
            except Changed:
                if not attempt:
                    raise errors.GenerationConflict(f"rules of {known.name}", expected=epoch, found=epoch + 1) from None
                known.refresh_rules()

    def check(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool = False) -> None:
        self._try()
        self._check_format(write=False)
        self._check_host(project_id, host, write=False)
        known = self._stream(project_id, stream)
        known.refresh_rules()
        self._check_filter(known, event_filter, rebuild=rebuild)

    def _try(self) -> None:
        if not self._tried:
            self.objects.check()
            self._tried = True

    def _check_format(self, *, write: bool) -> None:
        found = self._format()
        if found is None:
            other = next((one.path for one in self.objects.list() if not one.path.startswith(f"{HOME}/")), None)
            if other is not None and self._format() is None:  # else another process has begun the lake meanwhile
                raise errors.DestinationUnusable(
                    f"{self.name} holds files that are not hedgerow's: {other}",
                    hint="give a prefix or directory of its own; nothing was changed",
                )
            if write:
                with suppress(Exists):
                    self.objects.put(FORMAT_PATH, _json(format=FORMAT), create=True)
        elif found < FORMAT and write:
            self.objects.put(FORMAT_PATH, _json(format=FORMAT))  # an older hedgerow would not see what this one notes
        elif found > FORMAT:
            raise errors.DestinationUnusable(
                f"{self.name} was written by a newer hedgerow: format {found}, this one knows {FORMAT}",
                hint="upgrade hedgerow",
            )

    def _format(self) -> int | None:
        """The lake's format; None where there is no lake yet."""
        try:
            return int(msgspec.json.decode(self.objects.get(FORMAT_PATH)[0])["format"])
        except Missing:
            return None
        except (ValueError, KeyError, TypeError) as exc:
            raise errors.DestinationUnusable(
                f"{self.name}: {FORMAT_PATH} cannot be read", hint="is this a lake of hedgerow? nothing was changed"
            ) from exc

    def _check_host(self, project_id: int, host: str, *, write: bool) -> None:
        path = f"{HOME}/projects/{project_id}.json"
        known = self.host(project_id)
        if known is None and write:
            with suppress(Exists):
                self.objects.put(path, _json(host=host), create=True)
            known = self.host(project_id)
        if known is not None and known != host:
            raise errors.HostChanged(
                f"project {project_id} in {self.name} comes from {known}, not from {host}",
                hint="use another destination for another PostHog host",
            )

    def host(self, project_id: int) -> str | None:
        """The PostHog host of a project; None for one that was never landed."""
        try:
            return str(msgspec.json.decode(self.objects.get(f"{HOME}/projects/{project_id}.json")[0])["host"])
        except Missing:
            return None

    @staticmethod
    def _check_filter(known: Stream, event_filter: str, *, rebuild: bool) -> None:
        if known.rules is not None and known.rules[0] != event_filter and not rebuild:
            raise errors.FilterChanged(
                f"stream {known.name!r} of project {known.project_id} was landed with the event filter "
                f"{known.rules[0] or 'none'}, now it is {event_filter or 'none'}",
                hint="go back to the old filter, or land everything again with --rebuild",
            )

    def _stream(self, project_id: int, stream: str) -> Stream:
        return self._streams.setdefault((project_id, stream), Stream(self.objects, project_id, stream))

    def _known(self, project_id: int, stream: str) -> Stream:
        """What is known of a stream, after a first look where there was none."""
        known = self._stream(project_id, stream)
        if not known.files:
            known.refresh()
        return known

    def stream(self, project_id: int, stream: str) -> Stream:
        """What is known of a stream, after a look at what others have landed."""
        known = self._stream(project_id, stream)
        known.refresh()
        return known

    # --- landing

    def ledger(self, project_id: int, stream: str) -> Ledger:
        return self.stream(project_id, stream).ledger()

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        landed: list[Entry] = []
        if not landings:
            return landed
        entry = landings[0].entry
        known = self._stream(entry.project_id, entry.stream)
        known.refresh_rules()
        self._check_same_filter(known)
        tails = any(landing.tail for landing in landings)
        if tails:  # what was noted of the part before a tail goes on with it
            known.journal.read()
        with errors.counting(landed):
            for group in grouped(landings):
                last = group[-1] is landings[-1]
                self._land_beside(known, group[:-1] if last else group, landed)
                if last:  # the mark goes with the last, after all others
                    landed.append(self._land(known, group[-1], mark=mark))
        return landed

    def _land_beside(self, known: Stream, landings: Sequence[Landing], landed: list[Entry]) -> None:
        """Land windows side by side; all that can be are, before the first error is raised."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lake") as pool:
            under_way = [pool.submit(self._land, known, landing, mark=None) for landing in landings]
        failed = [done.exception() for done in under_way]
        landed += [done.result() for done, error in zip(under_way, failed, strict=True) if error is None]
        for error in filter(None, failed):
            raise error

    def _check_same_filter(self, known: Stream) -> None:
        """Refuse rows that were read under a filter which a rebuild has replaced meanwhile."""
        expected = self._filters.get((known.project_id, known.name))
        if known.rules is not None and expected is not None and known.rules[0] != expected:
            raise errors.FilterChanged(
                f"the event filter of stream {known.name!r} was changed by another run: now {known.rules[0] or 'none'}",
                hint="run again with the filter that is in force",
            )

    def _land(self, known: Stream, landing: Landing, *, mark: datetime | None) -> Entry:
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
            known.files[path] = self._put(known, path, self._rows_to_write(landing, file), footer, file)
        except errors.GenerationConflict:
            known.outdated()
            if quarantine is not None:
                with suppress(errors.SinkError):  # no footer will name it
                    self.objects.delete(quarantine)
            raise
        if file is not None and file.footer.quarantine not in (None, quarantine):
            with suppress(errors.SinkError):  # nobody names it any more
                self.objects.delete(file.footer.quarantine or "")
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
            kept = self._read(file)
            bound = pa.scalar(landing.replace_start, pa.timestamp("us", "UTC"))
            rows = pa.concat_tables([kept.filter(pc.less(kept["timestamp"], bound)), rows])
        return rows if _ascends(rows["timestamp"]) else rows.sort_by("timestamp")

    def _put(self, known: Stream, path: str, rows: pa.Table, footer: Footer, file: File | None) -> File:
        there = file is not None and bool(file.etag)
        try:
            with window_written(rows, footer, self.spool_directory) as data:
                etag = self.objects.put(path, data, create=not there, match=file.etag if file and there else None)
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
            old = self._rejects_of(file)
            bound = pa.scalar(landing.replace_start, pa.timestamp("us", "UTC"))
            stays = pc.fill_null(pc.less(old["at"], bound), False)
            rejects = pa.concat_tables([old.filter(stays), rejects.cast(REJECTS)])
        if not rejects.num_rows:
            return None
        name = f"{entry.start:%Y%m%dT%H%M%SZ}-{landing_id}.parquet"
        path = f"{HOME}/quarantine/project_id={known.project_id}/stream={known.name}/{name}"
        buffer = pa.BufferOutputStream()
        pq.write_table(rejects, buffer, compression="zstd")
        self.objects.put(path, buffer.getvalue().to_pybytes(), create=True)
        return path

    def _rejects_of(self, file: File) -> pa.Table:
        if file.footer.quarantine is None:
            return REJECTS.empty_table()
        try:
            return pq.read_table(pa.BufferReader(self.objects.get(file.footer.quarantine)[0])).cast(REJECTS)
        except Missing:
            return REJECTS.empty_table()

    # --- what was found out later

    def note(self, notes: Sequence[Note]) -> list[Note]:
        left: list[Note] = []
        for (project_id, stream), some in by_stream(notes):
            known = self._stream(project_id, stream)
            known.refresh_rules()
            known.journal.read()
            lines = []
            for note in some:
                file = known.files.get(window_file.window_path(note.known))
                new = follows(known.entry(file), note) if file is not None else None
                if file is None or not isinstance(new, Entry):
                    left.append(note)
                    continue
                lines.append(line_of(file.footer.id, new, note, known.journal.notes.get(file.footer.id)))
            known.journal.write(lines)
            written = {line.id for line in lines}
            left += [
                note for note in some if isinstance(note.finding, GRAVE) and not self._stands(known, note, written)
            ]
        return left

    @staticmethod
    def _stands(known: Stream, note: Note, written: set[str]) -> bool:
        """Whether a grave note is about the landing that is there: one that was replaced meanwhile takes it along."""
        path = window_file.window_path(note.known)
        before = known.files.get(path)
        if before is None or before.footer.id not in written:
            return True  # left out already
        now = known.look(path)
        return now is not None and now.footer.id == before.footer.id

    def mark_searched(self, project_id: int, stream: str, days: Iterable[date], *, seen: Ledger) -> None:
        known = self._stream(project_id, stream)
        now = known.ledger()
        wanted = {day for day in days if off_the_list(seen, generations(now, day), day)}
        known.journal.write(
            Line(id=file.footer.id, checked=True, at=time.time())
            for file in known.files.values()
            if known.unchecked(file) and file.footer.entry.start.date() in wanted
        )

    def save(self, project_id: int, stream: str, pages: int) -> None:
        known = self._stream(project_id, stream)
        if known.saved != pages:
            self.objects.put(known.saved_path, str(pages).encode())
            known.saved = pages

    def record(self, run: Run) -> None:
        known = self._stream(run.project_id, run.stream)
        known.journal.write([Line(run=stored_run(run), at=time.time())])
        known.tidy()

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        found = [
            run for stream in self._streams_of(project_id) for run in self.stream(project_id, stream).journal.runs()
        ]
        return sorted(found, key=lambda run: run.started_at, reverse=True)[:limit]

    def changes(self, project_id: int, stream: str) -> list[Change]:
        files = self.stream(project_id, stream).files.values()
        found = [
            Change(project_id, stream, file.footer.entry.start, at, changes)
            for file in files
            for at, changes in file.footer.changes
        ]
        return sorted(found, key=lambda change: (change.found_at, change.window_start))

    # --- what is there

    def exists(self) -> bool:
        return self.objects.head(FORMAT_PATH) is not None

    def projects(self) -> tuple[int, ...]:
        names = (one.path.rpartition("/")[2].removesuffix(".json") for one in self.objects.list(f"{HOME}/projects"))
        return tuple(sorted(int(name) for name in names if name.isdigit()))

    def _streams_of(self, project_id: int) -> list[str]:
        """Streams that have a journal or rules."""
        listed = self.objects.list(f"{HOME}/streams/project_id={project_id}")
        return sorted(one.path.rpartition("stream=")[2].removesuffix(".json") for one in listed)

    def stop_waiting(self) -> None:
        """Nothing of a lake is waited for."""

    def duplicates(self, project_id: int, stream: str, days: Iterable[date]) -> pa.Table:
        known = self._stream(project_id, stream)
        found = [IDENTITIES.empty_table()]
        for day in sorted(days):
            files = [file for file in known.files.values() if file.footer.entry.start.date() == day]
            with self._events(project_id, files, IDENTITIES.names) as db:
                found.append(queries.duplicates(db, project_id, [day]))
        return pa.concat_tables(found)

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._events(project_id, self._touching(project_id, start, end)) as db:
            return queries.hashes(db, project_id, start, end)

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._events(project_id, self._touching(project_id, start, end)) as db:
            return queries.rows(db, project_id, start, end)

    def table(self, name: str) -> Table | None:
        try:
            data, etag = self.objects.get(table_path(name))
            return Table(window_file.read(data), etag)
        except Missing:
            return None
        except window_file.Unreadable as exc:
            raise errors.DestinationUnusable(
                f"{self.name}: {table_path(name)} cannot be read", hint="bring it back from a backup, or delete it"
            ) from exc

    def replace(
        self,
        name: str,
        rows: pa.Table,
        *,
        version: str,
        json: Sequence[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> None:
        buffer = pa.BufferOutputStream()
        # JSON is text in Parquet, and views are made where the lake is queried: the footer says what they are. Its id
        # makes two versions of the same rows two.
        notes = window_file.TableNotes(uuid.uuid4().hex, list(json), dict(views or {}))
        pq.write_table(window_file.noted(rows, notes), buffer, compression="zstd")
        try:
            self.objects.put(
                table_path(name), buffer.getvalue().to_pybytes(), create=not version, match=version or None
            )
        except (Exists, Changed) as exc:
            raise errors.GenerationConflict(f"table {name}", expected=0, found=1) from exc

    def tables(self) -> dict[str, tuple[str, window_file.TableNotes]]:
        """Tables beside the events, by name: where they are, and what their footers say."""
        found = {}
        for place in ("exports", *HISTORIES):
            for one in self.objects.list(place):
                name = one.path.rpartition("/")[2].removesuffix(".parquet")
                name = "exports" if one.path == table_path("exports") else name
                if one.path == table_path(name):
                    with suppress(window_file.Unreadable):
                        found[name] = one.path, window_file.read_end(self.objects, one, window_file.read_notes)
        return found

    def store_content(self, path: str, file: Path) -> str:
        self.objects.put(f"{CONTENTS}/{path}", file)
        return f"{CONTENTS}/{path}"

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        known, host = self._stream(project_id, stream), self.host(project_id)
        known.refresh_rules()
        return (host, known.rules[0]) if host is not None and known.rules is not None else None

    def rejects(self, entry: Entry) -> pa.Table:
        known = self._known(entry.project_id, entry.stream)
        file = known.files.get(window_file.window_path(entry))
        return self._rejects_of(file) if file else REJECTS.empty_table()

    def audit(self, project_id: int, stream: str, start: datetime, end: datetime) -> dict[datetime | None, Holding]:
        known = self.stream(project_id, stream)
        files = [file for file in known.files.values() if _touches(file, start, end)]
        found: dict[datetime | None, Holding] = {file.footer.entry.start: Holding() for file in files}
        stray = 0
        for some in _batches([file for file in files if file.rows != 0 and file.etag]):
            held, outside = self._held(some, start, end)
            found |= held
            stray += outside
        return found | ({None: Holding(stray, "")} if stray else {})

    def _held(
        self, files: Sequence[File], start: datetime, end: datetime
    ) -> tuple[dict[datetime | None, Holding], int]:
        """What the objects of *files* really hold of their windows, and how many rows of [start, end) of no window."""
        tables = []
        for file, rows in zip(files, self._all_read(files), strict=True):
            entry = file.footer.entry
            covers = (
                pa.array([at] * rows.num_rows, pa.timestamp("us", "UTC"))
                for at in (entry.covered_start, entry.covered_end)
            )
            low, high = covers
            window = pa.array([entry.start] * rows.num_rows, pa.timestamp("us", "UTC"))
            tables.append(rows.append_column("w", window).append_column("low", low).append_column("high", high))
        with _duckdb() as db:
            db.register("landed", pa.concat_tables(tables))
            asked = {"project": files[0].footer.entry.project_id, "start": start, "end": end}
            result = db.execute(queries.HELD, asked).fetchall()
        held: dict[datetime | None, Holding] = {
            at.astimezone(UTC): Holding(rows, digest) for at, rows, digest, _ in result
        }
        return held, sum(row[3] for row in result)

    def _touching(self, project_id: int, start: datetime, end: datetime) -> list[File]:
        """Windows of events, which [start, end) touches."""
        known = self._known(project_id, "events")
        return [file for file in known.files.values() if _touches(file, start, end)]

    @contextmanager
    def _events(
        self, project_id: int, files: Sequence[File], columns: list[str] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB in memory whose table events has the rows of *files*."""
        held = [file for file in files if file.etag and file.rows != 0]
        schema = pa.schema([FILE_SCHEMA.field(name) for name in columns or FILE_SCHEMA.names])
        rows = pa.concat_tables([schema.empty_table(), *(table.select(schema.names) for table in self._all_read(held))])
        with _duckdb() as db:
            db.register("landed", rows)
            db.execute(f"CREATE VIEW events AS SELECT {project_id}::BIGINT AS project_id, * FROM landed")
            yield db

    def _read(self, file: File) -> pa.Table:
        """A window's rows. Raises GenerationConflict when the object was replaced since it was looked at."""
        entry = file.footer.entry
        try:
            data, etag = self.objects.get(window_file.window_path(entry))
        except Missing:
            data, etag = b"", ""
        if etag != file.etag:
            raise conflict(entry, entry.generation + 1)
        try:
            rows = window_file.read(data)
            return rows.select(FILE_SCHEMA.names).cast(FILE_SCHEMA)
        except (window_file.Unreadable, KeyError, pa.ArrowException):
            return FILE_SCHEMA.empty_table()  # damaged: it holds no row that anyone could read

    def _all_read(self, files: Sequence[File]) -> list[pa.Table]:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lake") as pool:
            return list(pool.map(self._read, files))

    def attach(self, output: Path) -> str:
        """Write a DuckDB file with the lake's views; as views.attach."""
        empty = not any(self.stream(project_id, "events").files for project_id in self.projects())
        return lake_views.attach(self.objects, output, empty=empty)

    def _contents(self) -> lake_views.Contents:
        projects = self.projects()
        ledgers = [self.ledger(project_id, "events") for project_id in projects]
        entries = [entry for ledger in ledgers for entry in ledger.entries.values()]
        return lake_views.Contents(
            entries=entries,
            rejects=[(entry, self.rejects(entry)) for entry in entries if entry.tally.quarantined_rows],
            runs=[run for project_id in projects for run in self.runs(project_id, limit=10**6)],
            changes=[change for project_id in projects for change in self.changes(project_id, "events")],
            tables=self.tables(),
        )

    @contextmanager
    def query(self, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.exists():
            raise errors.DestinationUnusable(f"there is no lake yet: {self.name}", hint="run hedgerow sync first")
        with lake_views.connected(self.objects, self._contents()) as db, queries.refusals():
            yield queries.executed(db, sql)


def table_path(name: str) -> str:
    """The object of a table beside the events (contract.md §4, docs/lake.md)."""
    if name == "exports":
        return "exports/assets.parquet"
    if name in HISTORIES:
        return f"{name}/{name}.parquet"
    return f"exports/{'tables' if re.fullmatch(r'export_[0-9]+_[0-9]+', name) else 'snapshots'}/{name}.parquet"


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": 2, "autoinstall_known_extensions": False}) as db:
        db.execute("SET TimeZone = 'UTC'")
        yield db


def _touches(file: File, start: datetime, end: datetime) -> bool:
    return file.footer.entry.start < end and file.footer.entry.end > start


def _batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Files to be read at once, by their rows: the memory of a comparison is bounded."""
    some: list[File] = []
    rows = 0
    for file in files:
        if some and (rows + max(file.rows, 0) > READ_ROWS or len(some) >= READ_OBJECTS):
            yield some
            some, rows = [], 0
        some.append(file)
        rows += max(file.rows, 0)
    if some:
        yield some


def _ascends(times: pa.ChunkedArray) -> bool:
    if len(times) < 2:
        return True
    flat = times.combine_chunks()
    return bool(pc.all(pc.less_equal(flat[:-1], flat[1:])).as_py())


def _json(**values: object) -> bytes:
    return msgspec.json.encode(values)
