"""The lake: Parquet in S3 or in a directory, one object per window, replaced whole by one PUT (docs/lake.md).

By a plain glob each window is at every moment one complete reading. The PUT is conditional where the store honours
If-Match; elsewhere the object is looked at before, and of two writers that still cross the last is one complete reading.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from sinks import errors, queries
from sinks.entries import Entry, Landing, Note
from sinks.lake import marker, strays, tables, window_file
from sinks.lake import rows as rows_of
from sinks.lake import views as lake_views
from sinks.lake.beside import Beside
from sinks.lake.cache import File
from sinks.lake.journal import AT_ONCE, GRAVE, HOME, RUNS_KEPT, Line, line_of, stored_run
from sinks.lake.landing import Writer
from sinks.lake.rows import Rows, touches
from sinks.lake.stream import Stream
from sinks.ledger import Ledger, follows, generations, off_the_list
from sinks.objects.base import SCRATCH, Changed, Exists, Objects
from sinks.objects.local import LocalObjects
from sinks.sink import IDENTITIES, REJECTS, STORAGE_VERSION, Change, Holding, Run, by_stream, grouped

REBUILDS = 5  # how often two rebuilds may cross before one gives up
ORDER = [(name, "ascending") for name in ("timestamp", "uuid", "event", "distinct_id")]


class LakeSink(Beside):
    """A lake in *objects*. Not thread-safe; many processes may write at once."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self._rows = Rows(objects)
        self._writer = Writer(objects, self._rows)
        self.name = objects.name
        self._filters: dict[tuple[int, str], str] = {}
        self._streams: dict[tuple[int, str], Stream] = {}
        self._tried = self._looked = False

    @property
    def home(self) -> Path | None:
        return self.objects.root if isinstance(self.objects, LocalObjects) else None

    @property
    def spool_directory(self) -> Path:
        if self.home is None:
            return Path(tempfile.gettempdir())
        scratch = self.home / SCRATCH
        return scratch if scratch.is_dir() else self.home.parent

    @property
    def runs_kept(self) -> int | None:
        return RUNS_KEPT  # every run reads them all

    # --- the stream's rules

    def prepare(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool) -> None:
        marker.check_format(self.objects, write=True, attempt=self._try)
        marker.check_host(self.objects, project_id, host, write=True)
        known = self._stream(project_id, stream)
        known.refresh_rules()
        if known.rules is None:
            with suppress(Exists):  # another process begins the same stream
                self.objects.put(known.rules_path, marker.json_of(filter=event_filter, epoch=0), create=True)
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
                rules = marker.json_of(filter=event_filter, epoch=epoch + 1)
                self.objects.put(known.rules_path, rules, match=known.rules_etag)
                known.refresh_rules()
                return
            except Changed:
                if not attempt:
                    raise errors.GenerationConflict(f"rules of {known.name}", expected=epoch, found=epoch + 1) from None
                known.refresh_rules()

    def check(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool = False) -> None:
        marker.check_format(self.objects, write=False, attempt=self._try)
        marker.check_host(self.objects, project_id, host, write=False)
        known = self._stream(project_id, stream)
        known.refresh_rules()
        self._check_filter(known, event_filter, rebuild=rebuild)

    def _try(self) -> None:
        if not self._tried:
            self.objects.check()
            self._tried = True

    @staticmethod
    def _check_filter(known: Stream, event_filter: str, *, rebuild: bool) -> None:
        if known.rules is not None and known.rules[0] != event_filter and not rebuild:
            raise errors.FilterChanged(
                f"stream {known.name!r} of project {known.project_id} was landed with the event filter "
                f"{known.rules[0] or 'none'}, now it is {event_filter or 'none'}",
                hint="go back to the old filter, or land everything again with --rebuild",
            )

    def _stream(self, project_id: int, stream: str) -> Stream:
        """A stream, of which nothing need be known. Before the first of them the lake is looked over, whichever it is."""
        self._look_over()
        return self._streams.setdefault((project_id, stream), Stream(self.objects, project_id, stream))

    def _look_over(self) -> None:
        if not self._looked:
            strays.look_over(self.objects)
            self._looked = True

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
            under_way = [pool.submit(self._land, known, landing) for landing in landings]
        failed = [done.exception() for done in under_way]
        landed += [done.result() for done, error in zip(under_way, failed, strict=True) if error is None]
        for error in filter(None, failed):
            raise error

    def _land(self, known: Stream, landing: Landing, mark: datetime | None = None) -> Entry:
        return self._writer.land(known, landing, spool=self.spool_directory, mark=mark)

    def _check_same_filter(self, known: Stream) -> None:
        """Refuse rows that were read under a filter which a rebuild has replaced meanwhile."""
        expected = self._filters.get((known.project_id, known.name))
        if known.rules is not None and expected is not None and known.rules[0] != expected:
            raise errors.FilterChanged(
                f"the event filter of stream {known.name!r} was changed by another run: now {known.rules[0] or 'none'}",
                hint="run again with the filter that is in force",
            )

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

    def record(self, *runs: Run) -> None:
        for project_id, stream in sorted({(run.project_id, run.stream) for run in runs}):
            known = self._stream(project_id, stream)
            mine = [run for run in runs if (run.project_id, run.stream) == (project_id, stream)]
            known.journal.write(Line(run=stored_run(run), at=time.time()) for run in mine)
            known.tidy()

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        streams = self._streams_of(project_id)
        found = [run for stream in streams for run in self.stream(project_id, stream).journal.runs()]
        return sorted(found, key=lambda run: run.started_at, reverse=True)[:limit]

    def changes(self, project_id: int, stream: str) -> list[Change]:
        footers = [file.footer for file in self.stream(project_id, stream).files.values()]
        found = [Change(*footer.entry.key, at, changes) for footer in footers for at, changes in footer.changes]
        return sorted(found, key=lambda change: (change.found_at, change.window_start))

    # --- what is there

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    def exists(self) -> bool:
        return self.objects.head(marker.FORMAT_PATH) is not None

    def projects(self) -> tuple[int, ...]:
        return marker.projects_of(self.objects)

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
            with self._rows.events(project_id, files, IDENTITIES.names) as db:
                found.append(queries.duplicates(db, project_id, [day]))
        return pa.concat_tables(found)

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._rows.events(project_id, self._touching(project_id, start, end)) as db:
            return queries.hashes(db, project_id, start, end)

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        with self._rows.events(project_id, self._touching(project_id, start, end)) as db:
            return queries.rows(db, project_id, start, end)

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        known, host = self._stream(project_id, stream), marker.host_of(self.objects, project_id)
        known.refresh_rules()
        return (host, known.rules[0]) if host is not None and known.rules is not None else None

    def rejects(self, entry: Entry) -> pa.Table:
        known = self._known(entry.project_id, entry.stream)
        file = known.files.get(window_file.window_path(entry))
        return self._writer.rejects_of(file) if file else REJECTS.empty_table()

    def audit(self, project_id: int, stream: str, start: datetime, end: datetime) -> dict[datetime | None, Holding]:
        known = self.stream(project_id, stream)
        files = [file for file in known.files.values() if touches(file, start, end)]
        found: dict[datetime | None, Holding] = {file.footer.entry.start: Holding() for file in files}
        stray = 0
        for some in rows_of.batches([file for file in files if file.rows != 0 and file.etag]):
            held, outside = self._rows.held(some, start, end)
            found |= held
            stray += outside
        return found | ({None: Holding(stray, "")} if stray else {})

    def _touching(self, project_id: int, start: datetime, end: datetime) -> list[File]:
        """Windows of events, which [start, end) touches."""
        known = self._known(project_id, "events")
        return [file for file in known.files.values() if touches(file, start, end)]

    def attach(self, output: Path, *, storage_version: str = STORAGE_VERSION) -> tuple[str, list[str]]:
        """Write a DuckDB file with the lake's views; as views.attach."""
        marker.check_format(self.objects, write=False)
        self._look_over()
        empty = not any(self.stream(project_id, "events").files for project_id in self.projects())
        found = tables.found(self.objects)
        return lake_views.attach(self.objects, output, found, empty=empty, storage_version=storage_version)

    def _contents(self) -> lake_views.Contents:
        self._look_over()
        projects = self.projects()
        entries = [entry for one in projects for entry in self.ledger(one, "events").entries.values()]
        rejects: list[tuple[Entry, pa.Table]] | str
        try:
            rejects = [(entry, self.rejects(entry)) for entry in entries if entry.tally.quarantined_rows]
        except errors.TableUnreadable as exc:
            rejects = str(exc)
        return lake_views.Contents(
            entries=entries,
            rejects=rejects,
            runs=[run for project_id in projects for run in self.runs(project_id, limit=10**6)],
            changes=[change for project_id in projects for change in self.changes(project_id, "events")],
            tables=tables.found(self.objects),
        )

    @contextmanager
    def query(self, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.results(sql, alone=True) as found:
            yield next(found)

    @contextmanager
    def results(self, sql: str, *, alone: bool) -> Iterator[Iterator[duckdb.DuckDBPyConnection]]:
        if not self.exists():
            marker.check_format(self.objects, write=False)
            raise errors.DestinationUnusable(f"there is no lake yet: {self.name}", hint="run hedgerow sync first")
        with lake_views.connected(self.objects, self._contents()) as db, queries.refusals():
            yield queries.results(db, sql, alone=alone)
