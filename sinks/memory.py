"""The reference sink: a destination as plain values, for tests to compare the others with; the product lands nothing in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from sinks import errors
from sinks.entries import Entry, Landing, Note, Rebuild, Removal
from sinks.ledger import Ledger, follows, generations, marks_after, off_the_list, recent
from sinks.sink import EPOCH, HASHED, IDENTITIES, REJECTS, Change, Holding, Run, after, changes_of

Stream = tuple[int, str]
ORDER = [(name, "ascending") for name in ("timestamp", "uuid", "event", "distinct_id")]


class MemorySink:
    """Obeys the contract of sinks.sink.Sink in memory."""

    def __init__(self) -> None:
        self._hosts: dict[int, str] = {}
        self._filters: dict[Stream, str] = {}
        self._entries: dict[Stream, dict[datetime, Entry]] = {}
        self._steps: dict[Stream, dict[date, timedelta]] = {}
        self._marks: dict[Stream, tuple[datetime, ...]] = {}
        self._removals: dict[Stream, tuple[Removal, ...]] = {}
        self._saved: dict[Stream, int] = {}
        self._unchecked: dict[Stream, set[date]] = {}
        self._rows: dict[tuple[int, str, datetime], pa.Table] = {}
        self._rejects: dict[tuple[int, str, datetime], pa.Table] = {}
        self._runs: list[Run] = []
        self._changes: list[Change] = []

    def prepare(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool) -> None:
        if self._hosts.setdefault(project_id, host) != host:
            raise errors.HostChanged(f"project {project_id} was landed from another host: {self._hosts[project_id]}")
        known = self._filters.setdefault((project_id, stream), event_filter)
        if known != event_filter and not rebuild:
            raise errors.FilterChanged(f"stream {stream!r} was landed under another filter: {known or 'none'}")
        if rebuild:
            self._filters[project_id, stream] = event_filter
            entries = self._entries.get((project_id, stream), {})
            for start, entry in entries.items():
                stale = follows(entry, Rebuild())
                assert isinstance(stale, Entry)
                entries[start] = stale

    def ledger(self, project_id: int, stream: str) -> Ledger:
        key = (project_id, stream)
        return Ledger(
            dict(self._entries.get(key, {})),
            dict(self._steps.get(key, {})),
            self._marks.get(key, ()),
            frozenset(self._unchecked.get(key, ())),
            self._removals.get(key, ()),
            self._saved.get(key, 0),
        )

    def land(self, landings: Sequence[Landing], *, mark: datetime | None = None) -> list[Entry]:
        landed: list[Entry] = []
        with errors.counting(landed):
            self._land(landings, landed, mark=mark)
        return landed

    def _land(self, landings: Sequence[Landing], landed: list[Entry], *, mark: datetime | None) -> None:
        for number, landing in enumerate(landings):
            entry = landing.entry
            stream = (entry.project_id, entry.stream)
            known = self._entries.setdefault(stream, {}).get(entry.start)
            new = after(known, landing)
            rows, day = landing.rows, entry.start.date()
            step = self._steps.setdefault(stream, {}).setdefault(day, landing.step)
            if step != landing.step:
                seconds = [int(one.total_seconds()) for one in (landing.step, step)]
                raise errors.GenerationConflict(f"{day} (step)", expected=seconds[0], found=seconds[1])
            tally = (entry.tally.landed_rows, entry.tally.landed_digest)
            changed = known is None or tally != (known.tally.landed_rows, known.tally.landed_digest)
            changed = changed or landing.rewrite or (known is not None and known.facts.damaged is not None)
            if changed and landing.partial and rows.num_rows:
                self._unchecked.setdefault(stream, set()).add(day)
            if entry.key in self._rows and landing.replace_start > entry.covered_start:
                kept = self._rows[entry.key]
                bound = pa.scalar(landing.replace_start, pa.timestamp("us", "UTC"))
                rows = pa.concat_tables([kept.filter(pc.less(kept["timestamp"], bound)), rows])
            if changed:
                self._rows[entry.key] = rows
            rejects = landing.rejects.cast(REJECTS)
            if landing.tail:
                old = self.rejects(entry)
                bound = pa.scalar(landing.replace_start, pa.timestamp("us", "UTC"))
                rejects = pa.concat_tables([old.filter(pc.less(old["at"], bound)), rejects])
            self._rejects[entry.key] = rejects
            landed.append(new)
            self._changes += [Change(*entry.key, found_at, changes) for found_at, changes in changes_of(landing)]
            if landing.removal is not None:
                self._removals[stream] = recent((*self._removals.get(stream, ()), landing.removal))
            self._entries[stream][entry.start] = new
            if mark is not None and number == len(landings) - 1:
                taken = marks_after(self.ledger(*stream), mark)
                self._marks[stream] = self._marks.get(stream, ()) if taken is None else taken

    def duplicates(self, project_id: int, stream: str, days: Iterable[date]) -> pa.Table:
        found = [IDENTITIES.empty_table()]
        for day in days:
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            rows = self.rows(project_id, start, start + timedelta(days=1))
            if rows.num_rows:
                keys = list(zip(*(rows[name].to_pylist() for name in ("uuid", "event", "distinct_id")), strict=True))
                counts = Counter(keys)
                again = pa.array([counts[key] > 1 for key in keys], pa.bool_())
                found.append(rows.select(IDENTITIES.names).cast(IDENTITIES).filter(again))
        return pa.concat_tables(found)

    def mark_searched(self, project_id: int, stream: str, days: Iterable[date], *, seen: Ledger) -> None:
        known = self.ledger(project_id, stream)
        done = {day for day in days if off_the_list(seen, generations(known, day), day)}
        self._unchecked.get((project_id, stream), set()).difference_update(done)

    def note(self, notes: Sequence[Note]) -> list[Note]:
        left = []
        for note in notes:
            project_id, stream, start = note.known.key
            entries = self._entries.setdefault((project_id, stream), {})
            new = follows(entries.get(start), note)
            if isinstance(new, Entry):
                entries[start] = new
            else:
                left.append(note)
        return left

    def save(self, project_id: int, stream: str, pages: int) -> None:
        self._saved[project_id, stream] = pages

    def hashes(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        rows = self.rows(project_id, start, end)
        if not rows.num_rows:
            return HASHED.empty_table()
        hashes = pa.array([row_hash(row) for row in rows.to_pylist()], pa.uint64())
        return rows.select(IDENTITIES.names).append_column("hash", hashes).cast(HASHED)

    def audit(self, project_id: int, stream: str, start: datetime, end: datetime) -> dict[datetime | None, Holding]:
        found: dict[datetime | None, Holding] = {}
        inside = 0
        for entry in self._entries.get((project_id, stream), {}).values():
            if entry.end > start and entry.start < end:
                held = self.hashes(project_id, entry.covered_start, entry.covered_end)
                inside += self.hashes(project_id, max(start, entry.covered_start), min(end, entry.covered_end)).num_rows
                found[entry.start] = Holding(held.num_rows, str(sum(held["hash"].to_pylist()) % 2**64))
        stray = self.hashes(project_id, start, end).num_rows - inside
        return found | ({None: Holding(stray, "")} if stray else {})

    def changes(self, project_id: int, stream: str) -> list[Change]:
        return [one for one in self._changes if (one.project_id, one.stream) == (project_id, stream)]

    def record(self, *runs: Run) -> None:
        self._runs.extend(runs)

    def runs(self, project_id: int, *, limit: int) -> list[Run]:
        return [run for run in reversed(self._runs) if run.project_id == project_id][:limit]

    def rows(self, project_id: int, start: datetime, end: datetime) -> pa.Table:
        parts = [rows for (project, _, _), rows in self._rows.items() if project == project_id]
        if not parts:
            return pa.table({})
        rows = pa.concat_tables(parts)
        low, high = (pa.scalar(at, pa.timestamp("us", "UTC")) for at in (start, end))
        inside = pc.and_(pc.greater_equal(rows["timestamp"], low), pc.less(rows["timestamp"], high))
        return rows.filter(inside).sort_by(ORDER)

    def rejects(self, entry: Entry) -> pa.Table:
        return self._rejects.get(entry.key, REJECTS.empty_table())


def row_hash(row: dict[str, object]) -> int:
    """The first eight bytes of the MD5 of a landed row's text, as docs/ledger.md writes it."""
    text = ""
    for name, value in row.items():
        if name != "_loaded_at":
            shown = (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value
            text += "~" if shown is None else f"{len(str(shown).encode())}:{shown}"
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "big")
