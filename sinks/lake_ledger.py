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
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sinks import errors, lake_file
from sinks.base import Entry, Ledger, Probed, Run, State
from sinks.lake_file import Footer, Truncated, Unreadable
from sinks.objects import Exists, Found, Missing, Objects

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


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the journal: what a probe said of the landing *id*, or that its date was searched, or a run."""

    id: str = ""
    state: str = ""
    probed_at: datetime | None = None
    probed: str | None = None
    checked: bool = False
    run: dict[str, str | int | float] | None = None
    at: float = 0.0


@dataclass(slots=True)
class Stream:
    """One stream of one project as far as this process knows it.

    *rules*: the event filter in force and how often the stream was rebuilt; None before its first landing.
    """

    objects: Objects
    project_id: int
    name: str
    rules: tuple[str, int] | None = None
    files: dict[str, File] = field(default_factory=dict)
    steps: dict[date, timedelta] = field(default_factory=dict)
    journal: dict[str, list[Note]] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    _listed_at: float = 0.0
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
            stored = msgspec.json.decode(self.objects.get(self.rules_path)[0])
            self.rules = stored["filter"], stored["epoch"]
        except Missing:
            self.rules = None

    def entry(self, file: File) -> Entry:
        """The ledger's line of a window: its footer, what the journal adds, and whether a rebuild has made it stale."""
        footer = file.footer
        entry = footer.entry
        if note := self.notes.get(footer.id):
            probed = Probed(note.probed_at, note.probed or "") if note.probed_at else None
            entry = replace(entry, state=State(note.state), probed=probed)
        behind = (self.rules[1] if self.rules else 0) - footer.epoch
        if behind:
            entry = replace(entry, state=State.STALE, base=None, generation=entry.generation + behind)
        return entry

    def unchecked(self, file: File) -> bool:
        return file.footer.unchecked and file.footer.id not in self.checked

    def ledger(self) -> Ledger:
        """As sinks.base.Sink.ledger; refresh first."""
        entries = {file.footer.entry.start: self.entry(file) for file in self.files.values()}
        marks = [file.footer.mark for file in self.files.values() if file.footer.mark is not None]
        days = {file.footer.entry.start.date() for file in self.files.values() if self.unchecked(file)}
        return Ledger(entries, dict(self.steps), max(marks, default=None), frozenset(days))

    # --- reading

    def refresh(self) -> None:
        """Learn what others have landed since. A listing that takes long is not repeated at once."""
        self.refresh_rules()
        self._read_journal()
        fresh = time.monotonic() - self._listed_at < 20 * self._listing_s
        if self._listing_s > LONG_LISTING_S and fresh:
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
            if lake_file.is_window_path(one.path):
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
            tail = self.objects.tail(found.path, size=found.size, length=lake_file.TAIL_BYTES)
            try:
                footer, rows = lake_file.read_footer(tail)
            except Truncated as exc:
                footer, rows = lake_file.read_footer(self.objects.tail(found.path, size=found.size, length=exc.length))
            if lake_file.window_path(footer.entry) != found.path:
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

    def write_notes(self, notes: Iterable[Note]) -> None:
        """Append to the journal: an object of its own, so that no writer can overwrite another's."""
        lines = list(notes)
        if lines:
            path = f"{HOME}/journal/{self._of}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
            self.objects.put(path, b"\n".join(map(msgspec.json.encode, lines)), create=True)
            self._take(path, lines)

    def _take(self, path: str, lines: list[Note]) -> None:
        self.journal[path] = lines
        for note in lines:
            if note.checked:
                self.checked.add(note.id)
            elif note.run is None and (note.id not in self.notes or self.notes[note.id].at <= note.at):
                self.notes[note.id] = note

    def _read_journal(self) -> None:
        listed = {one.path for one in self.objects.list(f"{HOME}/journal/{self._of}")}
        for path in [path for path in self.journal if path not in listed]:
            del self.journal[path]  # merged by another process: what it said is in the merged one
        new = sorted(listed - set(self.journal))
        for path, lines in self._all(self._read_lines, new):
            if lines is not None:
                self._take(path, lines)

    def _read_lines(self, path: str) -> tuple[str, list[Note] | None]:
        try:
            text = self.objects.get(path)[0]
        except Missing:
            return path, None
        return path, [msgspec.json.decode(line, type=Note) for line in text.splitlines() if line]

    def runs(self) -> list[Run]:
        """The runs of the journal, newest first; refresh first."""
        found = {note.run["run_id"]: note.run for lines in self.journal.values() for note in lines if note.run}
        return sorted((_run(stored) for stored in found.values()), key=lambda run: run.started_at, reverse=True)

    def tidy(self) -> None:
        """Merge a long journal into one object, and write the cache when enough has changed. Safe beside other writers.

        Only when the windows can be listed: what was said of windows that are not known here would be dropped.
        """
        if not self._listed_at:
            try:
                self.refresh()
            except errors.SinkError:
                return
        if len(self.journal) > JOURNAL_OBJECTS:
            merged = list(self.journal)
            current = {file.footer.id for file in self.files.values()}
            recent = time.time() - 86_400  # a landing of another process may not have been seen yet
            kept: dict[str, Note] = {}
            for note in (note for path in sorted(merged) for note in self.journal[path]):
                if note.run is not None:
                    kept[f"run {note.run['run_id']}"] = note
                elif note.id in current or note.at > recent:
                    kept[f"{note.checked} {note.id}"] = note
            runs = sorted((key for key, note in kept.items() if note.run), key=lambda key: str(_started(kept[key])))
            for key in runs[:-RUNS_KEPT]:
                del kept[key]
            self.write_notes(kept.values())
            for path in merged:
                self.objects.delete(path)
                del self.journal[path]
        self._write_cache()

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
                self.files.setdefault(path, File(etag, rows, lake_file.loaded(text)))
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
                *((path, file.etag, file.rows, lake_file.dumped(file.footer)) for path, file in sound.items()),
                strict=True,
            )
        )
        sunk = pa.BufferOutputStream()
        pq.write_table(
            pa.table([pa.array(column) for column in columns], schema=CACHE_SCHEMA), sunk, compression="zstd"
        )
        self.objects.put(self._cache_path, sunk.getvalue().to_pybytes())
        self._cached = {path: file.etag for path, file in sound.items()}

    def _all(self, ask: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
        """Ask for many small objects at once."""
        if len(items) <= 1:
            yield from map(ask, items)
            return
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lake") as pool:
            yield from pool.map(ask, items)


def stored_run(run: Run) -> dict[str, str | int | float]:
    """A run as the journal writes it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in msgspec.to_builtins(run).items()
    }


def _run(stored: dict[str, str | int | float]) -> Run:
    return msgspec.convert(stored, Run)


def _started(note: Note) -> object:
    return note.run["started_at"] if note.run else ""
