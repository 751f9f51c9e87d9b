"""The deletion guard: whether rows may go from the destination, because the source does not show them any more. Pure.

It keeps a restricted key or an outage from emptying a warehouse, at once or a little with every run. One rule for syncs,
rebuilds, repairs and copies (docs/proof.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from extractors.window import DAY, midnight
from sinks.entries import Entry, Removal
from sinks.ledger import Ledger
from sinks.sink import Change

MOST_ROWS, MOST_SHARE = 1_000, 0.10
DATE_ROWS, DATE_SHARE = 100, 0.5
SPAN = timedelta(hours=24)


@dataclass(slots=True)
class Guard:
    """Counts what was removed in the last 24 hours by every run, and what the project holds.

    *accept*: removals are wanted; then nothing is stopped and nothing is counted.
    """

    accept: bool
    _rows: dict[datetime, int] = field(default_factory=dict)
    _total: int = 0
    _days: dict[date, int] = field(default_factory=dict)
    _removals: list[Removal] = field(default_factory=list)
    _added: dict[date, list[tuple[datetime, int]]] = field(default_factory=dict)

    def look(self, ledger: Ledger, changes: Iterable[Change] = ()) -> None:
        """Take in what the destination holds and what was removed and added late, as it is now."""
        self._rows, self._total, self._days, self._added = {}, 0, {}, {}
        for start, entry in ledger.entries.items():
            self._holds(start, entry.tally.landed_rows)
        self._removals = list(ledger.removals)
        for change in changes:
            if change.changes.late:
                found = self._added.setdefault(change.window_start.date(), [])
                found.append((change.found_at, change.changes.late))

    def _holds(self, start: datetime, rows: int) -> None:
        more = rows - self._rows.get(start, 0)
        self._rows[start] = rows
        self._total += more
        self._days[start.date()] = self._days.get(start.date(), 0) + more

    def landed(self, entry: Entry, removed: int, *, at: datetime | None = None) -> None:
        """Take in a landing of this run, as soon as it is decided. *at*: when it removes rows; None: when it was read."""
        self._holds(entry.start, entry.tally.landed_rows)
        if removed:
            self._removals.append(Removal(entry.start, at or entry.read_at, removed))

    def stops(self, start: datetime, removed: int, *, now: datetime) -> bool:
        """Whether removing *removed* rows from the window at *start* would be too much at *now* (the source's time)."""
        if self.accept or not removed:
            return False
        recent = [one for one in self._removals if one.at > now - SPAN]
        gone = sum(one.rows for one in recent)
        if self._total and removed >= self._total:
            return True
        if gone + removed > max(MOST_ROWS, MOST_SHARE * (self._total + gone)):
            return True
        day = start.date()
        if midnight(day) + DAY > now - SPAN:
            return False
        gone_of_day = sum(one.rows for one in recent if one.window_start.date() == day)
        late = sum(rows for at, rows in self._added.get(day, ()) if at > now - SPAN)
        then = self._days.get(day, 0) + gone_of_day - late
        return then >= DATE_ROWS and gone_of_day + removed > DATE_SHARE * then

    def foresees(self, removed: Mapping[datetime, int], *, now: datetime) -> bool:
        """Whether removing so many rows of each window, one after the other, would be stopped somewhere.

        A run that would remove too much stops before it removes anything.
        """
        if not removed:
            return False
        trial = replace(self, _rows=dict(self._rows), _days=dict(self._days), _removals=list(self._removals))
        for start, rows in sorted(removed.items()):
            if trial.stops(start, rows, now=now):
                return True
            trial._holds(start, trial._rows.get(start, 0) - rows)
            trial._removals.append(Removal(start, now, rows))
        return False
