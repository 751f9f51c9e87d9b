"""What `hedgerow verify` found: values, and which of them are problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum

from extractors.reading.questions import Outside
from sinks.entries import State


@dataclass(frozen=True, slots=True)
class Difference:
    """One window that is not what it should be: rows the ledger, the destination and the source (None: unknown) have.

    *damaged*: the destination does not hold what was landed. *changed*: the source does not show any more what was read.
    *standing*: earlier runs found it so, and no landing has settled it since; now the source says nothing else.
    *unread*: some microseconds of it could not be read whole, and as far as it is known nothing else is wrong.
    With detail: uuids that the source has and the destination lacks, the other way round, those that differ, and in which
    columns.
    """

    start: datetime
    end: datetime
    state: State
    ledger_rows: int
    held_rows: int
    source_rows: int | None
    damaged: bool
    changed: bool
    standing: bool = False
    unread: bool = False
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    differing_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Problem(Enum):
    """A way in which a verification is not good; Verification's field of the same name says how much of it there is."""

    EMPTY = "windows"
    LEFT = "left"
    ELSEWHERE = "elsewhere"
    DOUBLED = "doubled"
    STALE = "stale"
    MISSING = "missing"
    STRAY = "stray_rows"
    UNKNOWN = "unknown"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared and found. *differences*: before any repair; *left*: starts of the windows that still differ.

    *compared*: windows whose source side was asked for; *open*: windows that have not settled; *unknown*: windows that the
    source does not let us compare; *stale*: windows that are to be landed again and were not yet; *stray_rows*: rows of the
    destination that belong to no window; *quarantined*: rows that could not be typed, and are missing from the table;
    *unmerged*: windows of which the source holds different copies of one event, and the destination one; *elsewhere*: windows
    outside the range that earlier runs found damaged, held or in dispute; *doubled*: dates with an event in two windows.
    """

    windows: int = 0
    compared: int = 0
    open: int = 0
    unknown: int = 0
    stale: int = 0
    quarantined: int = 0
    unmerged: int = 0
    stray_rows: int = 0
    outside: list[Outside] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    left: list[datetime] = field(default_factory=list)
    elsewhere: list[datetime] = field(default_factory=list)
    doubled: list[date] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """There is something landed, every window of it was compared, and nothing differs or is missing any more."""
        return not self.problems

    @property
    def missing(self) -> int:
        """Rows that the source holds between landed windows: a gap."""
        return sum(part.rows for part in self.outside if part.where == "between")

    @property
    def problems(self) -> list[Problem]:
        """What is not as it should be."""
        wrong = {
            Problem.EMPTY: not self.windows,
            Problem.LEFT: self.left,
            Problem.ELSEWHERE: self.elsewhere,
            Problem.DOUBLED: self.doubled,
            Problem.STALE: self.stale,
            Problem.MISSING: self.missing,
            Problem.STRAY: self.stray_rows,
            Problem.UNKNOWN: self.unknown,
            Problem.QUARANTINED: self.quarantined,
        }
        return [problem for problem, found in wrong.items() if found]
