"""What a lake knows of one stream: the footers of its windows, remembered, and the journal of what was found out later.

Windows are the truth: each carries its own ledger entry (sinks/lake/window_file). Under `_hedgerow/` lie, per stream,
`cache` (footers by version of their object, so that 100,000 windows need not be opened; anyone may rebuild it),
`journal` (objects that are written once: what probes said of a landing, dates searched, runs) and `steps`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import msgspec

from sinks import errors
from sinks.entries import Entry, Rebuild
from sinks.lake import strays, window_file
from sinks.lake.cache import Cache, File
from sinks.lake.journal import HOME, Journal, noted, side_by_side
from sinks.lake.window_file import Footer, Unreadable
from sinks.ledger import Ledger, follows, marks_kept, recent
from sinks.objects.base import Exists, Found, Missing, Objects

LONG_LISTING_S = 0.5


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
    saved: int | None = None
    journal: Journal = field(init=False)
    _cache: Cache = field(init=False)
    _listed_at: float | None = None
    _listing_s: float = 0.0

    def __post_init__(self) -> None:
        self.journal, self._cache = Journal(self.objects, self._of), Cache(self.objects, self._of)

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
        if line := self.journal.notes.get(file.footer.id):
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
        return file.footer.unchecked and file.footer.id not in self.journal.searched

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
        self.journal.read()
        listed_s = None if self._listed_at is None else time.monotonic() - self._listed_at
        if listed_s is not None and self._listing_s > LONG_LISTING_S and listed_s < 20 * self._listing_s:
            return
        for path, file in self._cache.read().items():
            self.files.setdefault(path, file)
        started = time.monotonic()
        found = self._list_windows()
        self._listed_at, self._listing_s = time.monotonic(), time.monotonic() - started
        for path, file in self.files.items():
            if path not in found and file.etag:
                self.files[path] = replace(file, etag="")
        known = self.files
        unknown = [one for path, one in found.items() if path not in known or known[path].etag != one.etag]
        self.files.update(side_by_side(self._opened, unknown))
        self._read_steps()

    def _list_windows(self) -> dict[str, Found]:
        """The windows of this project, after a look whether all that a glob would read among them are windows."""
        found: dict[str, Found] = {}
        foreign = []
        for one in self.objects.list(f"{self.name}/project_id={self.project_id}"):
            if window_file.project_of(one.path) == self.project_id:
                found[one.path] = one
            elif one.path.endswith(".parquet"):
                foreign.append(one.path)
        if foreign:
            raise strays.refusal(self.objects, *sorted(foreign))
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
            raise strays.refusal(self.objects, path)
        return known.footer

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

    def tidy(self) -> None:
        """Merge a long journal into one object, and write the cache when enough has changed. Safe beside other writers."""
        try:
            if self._listed_at is None:
                self.refresh()
            if self.journal.long:
                self._merge()
        except errors.SinkError:
            return  # only a tidy-up; what cannot be listed is not merged either
        self._cache.write(self.files)  # damaged ones too: who forgets them takes them for foreign files

    def _merge(self) -> None:
        # The windows are listed after the journal was read: a landing that a line speaks of and that is not listed now
        # has been replaced since. Lines that come later stay in objects of their own.
        self.outdated()
        self.refresh()
        self.journal.merge(dict(self.journal.objects_read), {file.footer.id for file in self.files.values()})
