"""What a lake knows of one stream: the footers of its windows, remembered, and the journal of what was found out later.

Windows are the truth: each carries its own ledger entry (sinks/lake_file). Under `_hedgerow/` lie, per stream,
`cache` (footers by version of their object, so that 100,000 windows need not be opened; anyone may rebuild it),
`journal` (objects that are written once: what probes said of a landing, dates searched, runs) and `steps`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sinks import errors
from sinks.lake import window_file
from sinks.lake.journal import Line, joined, noted, run_of, run_started
from sinks.lake.window_file import Footer, Unreadable
from sinks.ledger import (
    Entry,
    Ledger,
    Rebuild,
    follows,
    marks_kept,
    recent,
)
from sinks.objects.base import Exists, Found, Missing, Objects
from sinks.sink import Run

HOME = "_hedgerow"
AT_ONCE = 16  # requests side by side: small objects, so latency is all that counts
JOURNAL_OBJECTS = 48  # more are merged into one
RUNS_KEPT = 1000
LONG_LISTING_S = 0.5
CACHE_CHANGES = 100  # the cache is written anew when one of so many windows has changed
CACHE_SCHEMA = pa.schema([("path", pa.string()), ("etag", pa.string()), ("rows", pa.int64()), ("footer", pa.binary())])


@dataclass(frozen=True, slots=True)
class File:
    """A window's object. *etag*: "" where it is gone, although it was landed. *rows*: -1 where its footer is not ours
    any more; then *footer* is what was remembered of it."""

    etag: str
    rows: int
    footer: Footer

    @property
    def sound(self) -> bool:
        return bool(self.etag) and self.rows >= 0


@dataclass(slots=True)
class Stream:
    """One stream of one project as far as this process knows it.

    *rules*: the event filter in force and how often the stream was rebuilt; None before its first landing.
    """

    objects: Objects
    project_id: int
    name: str
    rules: tuple[str, int] | None = None
    rules_etag: str | None = None
    files: dict[str, File] = field(default_factory=dict)
    steps: dict[date, timedelta] = field(default_factory=dict)
    journal: dict[str, list[Line]] = field(default_factory=dict)
    notes: dict[str, Line] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    saved: int | None = None
    _listed_at: float | None = None
    _listing_s: float = 0.0
    _cached: dict[str, str] | None = None

    @property
    def _of(self) -> str:
        return f"project_id={self.project_id}/stream={self.name}"

    @property
    def rules_path(self) -> str:
        return f"{HOME}/streams/{self._of}.json"

    # --- what is in force

    def refresh_rules(self) -> None:
        try:
            data, self.rules_etag = self.objects.get(self.rules_path)
            stored = msgspec.json.decode(data)
            self.rules = stored["filter"], stored["epoch"]
        except Missing:
            self.rules = self.rules_etag = None

    def entry(self, file: File) -> Entry:
        """The ledger's line of a window: its footer, what the journal adds, and whether a rebuild has made it stale.

        A window whose object is gone, or is no window any more, is damaged: that needs no audit.
        """
        entry = file.footer.entry
        if line := self.notes.get(file.footer.id):
            entry = noted(entry, line)
        if not file.sound and entry.facts.damaged is None:
            entry = entry.known_as(replace(entry.facts, damaged=entry.read_at))
        behind = (self.rules[1] if self.rules else 0) - file.footer.epoch
        for _ in range(behind):
            stale = follows(entry, Rebuild())
            assert isinstance(stale, Entry)
            entry = stale
        return entry

    def unchecked(self, file: File) -> bool:
        return file.footer.unchecked and file.footer.id not in self.checked

    def ledger(self) -> Ledger:
        """As sinks.sink.Sink.ledger; refresh first."""
        entries = {file.footer.entry.start: self.entry(file) for file in self.files.values()}
        marks = [mark for file in self.files.values() for mark in file.footer.marks]
        days = {file.footer.entry.start.date() for file in self.files.values() if self.unchecked(file)}
        removals = [one for file in self.files.values() for one in file.footer.removed]
        return Ledger(
            entries,
            dict(self.steps),
            marks_kept(marks),
            frozenset(days),
            recent(removals),
            self._read_saved(),
        )

    @property
    def saved_path(self) -> str:
        return f"{HOME}/saved/{self._of}"

    def _read_saved(self) -> int:
        """Pages saved for reading again. Of two runs that write at once the last counts: it is a budget, not a promise."""
        if self.saved is None:
            try:
                self.saved = int(self.objects.get(self.saved_path)[0])
            except (Missing, ValueError):
                self.saved = 0
        return self.saved

    def outdated(self) -> None:
        """Another process has landed meanwhile: the next look lists the windows anew, however long that takes."""
        self._listed_at = None

    # --- reading

    def refresh(self) -> None:
        """Learn what others have landed since. A listing that takes long is not repeated at once."""
        self.refresh_rules()
        self.read_journal()
        listed_s = None if self._listed_at is None else time.monotonic() - self._listed_at
        if listed_s is not None and self._listing_s > LONG_LISTING_S and listed_s < 20 * self._listing_s:
            return
        self._read_cache()
        started = time.monotonic()
        found = self._list_windows()
        self._listed_at, self._listing_s = time.monotonic(), time.monotonic() - started
        for path, file in self.files.items():
            if path not in found and file.etag:
                self.files[path] = replace(file, etag="")
        known = self.files
        unknown = [one for path, one in found.items() if path not in known or known[path].etag != one.etag]
        self.files.update(self._all(self._opened, unknown))
        self._read_steps()

    def _list_windows(self) -> dict[str, Found]:
        found = {}
        for one in self.objects.list(f"{self.name}/project_id={self.project_id}"):
            if window_file.is_window_path(one.path):
                found[one.path] = one
            elif one.path.endswith(".parquet"):
                raise self._foreign(one.path)
        return found

    def look(self, path: str) -> File | None:
        """The window's object as it is now."""
        found = self.objects.head(path)
        if found is None:
            known = self.files.get(path)
            if known is None:
                return None
            self.files[path] = replace(known, etag="")
        else:
            self.files.update([self._opened(found)])
        return self.files[path]

    def _opened(self, found: Found) -> tuple[str, File]:
        try:
            footer, rows = window_file.read_end(self.objects, found, window_file.read_footer)
            if window_file.window_path(footer.entry) != found.path:
                raise Unreadable("a copy of another window")
        except Missing:  # replaced and deleted meanwhile: as if it had not been listed
            footer, rows = self._remembered(found.path), -1
        except Unreadable:
            footer, rows = self._remembered(found.path), -1
        return found.path, File(found.etag, rows, footer)

    def _remembered(self, path: str) -> Footer:
        known = self.files.get(path)
        if known is None:
            raise self._foreign(path)
        return known.footer

    def _foreign(self, path: str) -> errors.DestinationUnusable:
        return errors.DestinationUnusable(
            f"{self.objects.name} holds a file that hedgerow did not write or that is damaged: {path}",
            hint="move it out of the lake: every query over the lake reads it; nothing was changed",
        )

    def _read_steps(self) -> None:
        for file in self.files.values():
            self.steps.setdefault(file.footer.entry.start.date(), file.footer.step)
        for one in self.objects.list(f"{HOME}/steps/{self._of}"):
            day = date.fromisoformat(one.path.rpartition("/")[2])
            if day not in self.steps:
                self.steps[day] = self._stored_step(one.path)

    def _stored_step(self, path: str) -> timedelta:
        return timedelta(seconds=int(self.objects.get(path)[0]))

    def agree_step(self, day: date, step: timedelta) -> timedelta:
        """Write the step of a date, unless it has one; the step that it has then."""
        if day not in self.steps:
            path = f"{HOME}/steps/{self._of}/{day}"
            try:
                self.objects.put(path, str(int(step.total_seconds())).encode(), create=True)
                self.steps[day] = step
            except Exists:
                self.steps[day] = self._stored_step(path)
        return self.steps[day]

    # --- the journal

    def write_lines(self, lines: Iterable[Line]) -> None:
        """Append to the journal: an object of its own, so that no writer can overwrite another's."""
        written = list(lines)
        if written:
            path = f"{HOME}/journal/{self._of}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
            self.objects.put(path, b"\n".join(map(msgspec.json.encode, written)), create=True)
            self._take(path, written)

    def _take(self, path: str, lines: list[Line]) -> None:
        self.journal[path] = lines
        for line in lines:
            if line.checked:
                self.checked.add(line.id)
            elif line.run is None:
                self.notes[line.id] = joined(self.notes[line.id], line) if line.id in self.notes else line

    def read_journal(self) -> None:
        """Learn what others have noted since."""
        listed = {one.path for one in self.objects.list(f"{HOME}/journal/{self._of}")}
        for path in [path for path in self.journal if path not in listed]:
            del self.journal[path]  # merged by another process: what it said is in the merged one
        new = sorted(listed - set(self.journal))
        for path, lines in self._all(self._read_lines, new):
            if lines is not None:
                self._take(path, lines)

    def _read_lines(self, path: str) -> tuple[str, list[Line] | None]:
        try:
            text = self.objects.get(path)[0]
        except Missing:
            return path, None
        return path, [msgspec.json.decode(line, type=Line) for line in text.splitlines() if line]

    def runs(self) -> list[Run]:
        """The runs of the journal, newest first; refresh first."""
        found = {note.run["run_id"]: note.run for lines in self.journal.values() for note in lines if note.run}
        return sorted((run_of(stored) for stored in found.values()), key=lambda run: run.started_at, reverse=True)

    def tidy(self) -> None:
        """Merge a long journal into one object, and write the cache when enough has changed. Safe beside other writers."""
        try:
            if self._listed_at is None:
                self.refresh()
            if len(self.journal) > JOURNAL_OBJECTS:
                self._merge()
        except errors.SinkError:
            return  # only a tidy-up; what cannot be listed is not merged either
        self._write_cache()

    def _merge(self) -> None:
        # The windows are listed after the journal was read: a landing that a line speaks of and that is not listed now
        # has been replaced since. Lines that come later stay in objects of their own.
        self.outdated()
        self.refresh()
        merged = dict(self.journal)
        current = {file.footer.id for file in self.files.values()}
        lines = [line for some in merged.values() for line in some]
        runs = {line.run["run_id"]: line for line in lines if line.run is not None}
        ordered = sorted(runs.values(), key=lambda line: str(run_started(line)))[-RUNS_KEPT:]
        searched = {line.id: line for line in lines if line.checked and line.id in current}
        # Only what these objects say: another process may merge the rest at this moment.
        noted: dict[str, Line] = {}
        for line in lines:
            if line.run is None and not line.checked and line.id in current:
                noted[line.id] = joined(noted[line.id], line) if line.id in noted else line
        self.write_lines([*ordered, *searched.values(), *noted.values()])
        for path in merged:
            self.objects.delete(path)
            del self.journal[path]

    # --- the cache

    @property
    def _cache_path(self) -> str:
        return f"{HOME}/cache/{self._of}.parquet"

    def _read_cache(self) -> None:
        if self._cached is not None:
            return
        self._cached = {}
        try:
            table = pq.read_table(pa.BufferReader(self.objects.get(self._cache_path)[0]))
            for path, etag, rows, text in zip(*(table[name].to_pylist() for name in CACHE_SCHEMA.names), strict=True):
                self._cached[path] = etag
                self.files.setdefault(path, File(etag, rows, window_file.loaded(text)))
        except (Missing, Unreadable, pa.ArrowException, OSError, KeyError):
            return  # it is only a cache

    def _write_cache(self) -> None:
        cached = self._cached or {}
        sound = {path: file for path, file in self.files.items() if file.rows >= 0}
        changed = sum(cached.get(path) != file.etag for path, file in sound.items())
        if changed * CACHE_CHANGES < max(1, len(sound)):
            return
        columns = list(
            zip(
                *((path, file.etag, file.rows, window_file.dumped(file.footer)) for path, file in sound.items()),
                strict=True,
            )
        )
        buffer = pa.BufferOutputStream()
        pq.write_table(
            pa.table([pa.array(column) for column in columns], schema=CACHE_SCHEMA), buffer, compression="zstd"
        )
        self.objects.put(self._cache_path, buffer.getvalue().to_pybytes())
        self._cached = {path: file.etag for path, file in sound.items()}

    def _all(self, ask: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
        """Ask for many small objects at once."""
        if len(items) <= 1:
            yield from map(ask, items)
            return
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lake") as pool:
            yield from pool.map(ask, items)
