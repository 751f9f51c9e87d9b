"""The deletion guard: whether rows may go from the destination, because the source does not show them any more. Pure.

It keeps a restricted key or an outage from emptying a warehouse, at once or a little with every run. One rule for syncs,
rebuilds, repairs and copies (docs/proof.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from extractors.window import DAY, midnight
from sinks.base import Change
from sinks.ledger import Entry, Ledger, Removal

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
    _removals: list[Removal] = field(default_factory=list)
    _added: dict[datetime, list[tuple[datetime, int]]] = field(default_factory=dict)

    def look(self, ledger: Ledger, changes: Iterable[Change] = ()) -> None:
        """Take in what the destination holds and what was removed and added late, as it is now."""
        self._rows = {start: entry.tally.landed_rows for start, entry in ledger.entries.items()}
        self._removals = list(ledger.removals)
        self._added = {}
        for change in changes:
            if change.changes.late:
                day = midnight(change.window_start.date())
                self._added.setdefault(day, []).append((change.found_at, change.changes.late))

    def landed(self, entry: Entry, removed: int) -> None:
        """Take in a landing of this run, as soon as it is decided."""
        self._rows[entry.start] = entry.tally.landed_rows
        if removed:
            self._removals.append(Removal(entry.start, entry.read_at, removed))

    def stops(self, start: datetime, removed: int, *, now: datetime) -> bool:
        """Whether removing *removed* rows from the window at *start* would be too much at *now* (the source's time)."""
        if self.accept or not removed:
            return False
        recent = [one for one in self._removals if one.at > now - SPAN]
        held, gone = sum(self._rows.values()), sum(one.rows for one in recent)
        if held and removed >= held:
            return True
        if gone + removed > max(MOST_ROWS, MOST_SHARE * (held + gone)):
            return True
        day = midnight(start.date())
        if day + DAY > now - SPAN:
            return False
        gone_of_day = sum(one.rows for one in recent if midnight(one.window_start.date()) == day)
        late = sum(rows for at, rows in self._added.get(day, ()) if at > now - SPAN)
        held_of_day = sum(rows for at, rows in self._rows.items() if midnight(at.date()) == day)
        then = held_of_day + gone_of_day - late
        return then >= DATE_ROWS and gone_of_day + removed > DATE_SHARE * then

    def foresees(self, removed: Mapping[datetime, int], *, now: datetime) -> bool:
        """Whether removing so many rows of each window, one after the other, would be stopped somewhere.

        A run that would remove too much stops before it removes anything.
        """
        trial = replace(self, _rows=dict(self._rows), _removals=list(self._removals))
        for start, rows in sorted(removed.items()):
            if trial.stops(start, rows, now=now):
                return True
            trial._rows[start] = trial._rows.get(start, 0) - rows
            trial._removals.append(Removal(start, now, rows))
        return False


@dataclass(slots=True)
class Trial(Guard):
    """Stops nothing, and counts what each window's landing would remove."""

    accept: bool = False
    removed: dict[datetime, int] = field(default_factory=dict)

    def stops(self, start: datetime, removed: int, *, now: datetime) -> bool:
        del now
        self.removed[start] = removed
        return False
