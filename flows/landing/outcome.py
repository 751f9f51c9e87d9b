"""What a run over events is asked to do, and what it did: values that every wing knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from extractors.window import Range
from flows.landing import plan
from sinks.ledger import FACTS, Changes, Ledger

STREAM = "events"


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked to do. *since*, *until*: None as in the contract; *marks*: whether a later sync goes on from here.

    *lookback*, *reread_at*: how far back, and at which ages, landed windows are compared with the source again;
    *reread_requests*: pages an hour for the latter (design.md, "What the ledger proves").
    """

    project_id: int
    since: datetime | None
    until: datetime | None
    settle: timedelta
    marks: bool
    accept_deletions: bool = False
    reread_requests: int = 300
    lookback: timedelta = timedelta(days=30)
    reread_at: tuple[timedelta, ...] = (
        timedelta(hours=1),
        timedelta(hours=6),
        timedelta(hours=24),
        timedelta(hours=72),
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: windows and rows landed, windows planned, and the time up to which everything asked is read."""

    windows_done: int
    windows_planned: int
    rows: int
    read_until: datetime | None


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit made durable: *windows* that lie within *range*, and the rows that are new with them."""

    range: Range
    windows: int
    rows: int


@dataclass(slots=True)
class Outcome:
    """What a run did, and what the ledger says against its windows in the end.

    *left_out*: copies and rows that could not be typed, as each window was read last; *unproven*: microseconds that
    may miss events; *unserved*: those with an event that the source cannot serve; *unreachable*: time that this
    source cannot be asked for, and that the run left out; *doubled*: dates whose events the source kept moving
    between windows. *changes*: what the source changed in windows landed before. *agreed*: windows whose source side
    was the same after landing, or still is, and that hold no different copies; *unasked*: windows that wait for the
    next run's probe; *moving*: windows that the source changed while they were read, also the second time;
    *undecided*: how many events of windows landed by this run have different copies of which the source did not tell
    the later; *in_quarantine*: rows that earlier runs could not type, and that still are not in the table. *standing*:
    starts of windows by the fact that stands beside their state; *landed*: windows landed by this run; *heavy*: windows
    that are too heavy for the source to count; *unconfirmed*: settled windows landed by this run that the source has
    not confirmed.
    """

    wanted: Range | None = None
    windows: int = 0
    rows: int = 0
    left_out: dict[datetime, tuple[int, int]] = field(default_factory=dict)
    unproven: dict[datetime, list[datetime]] = field(default_factory=dict)
    unserved: dict[datetime, list[datetime]] = field(default_factory=dict)
    unreachable: list[Range] = field(default_factory=list)
    doubled: list[date] = field(default_factory=list)
    changes: dict[datetime, Changes] = field(default_factory=dict)
    agreed: set[datetime] = field(default_factory=set)
    unasked: int = 0
    moving: set[datetime] = field(default_factory=set)
    in_quarantine: int = 0
    standing: dict[str, list[datetime]] = field(default_factory=dict)
    landed: set[datetime] = field(default_factory=set)
    heavy: list[datetime] = field(default_factory=list)
    unconfirmed: list[datetime] = field(default_factory=list)
    undecided: dict[datetime, int] = field(default_factory=dict)

    @property
    def verified(self) -> int:
        return len(self.agreed)

    @property
    def copies(self) -> int:
        return sum(copies for copies, _ in self.left_out.values())

    @property
    def quarantined(self) -> int:
        return sum(quarantined for _, quarantined in self.left_out.values())

    @property
    def disputed(self) -> list[datetime]:
        return self.standing.get("disputed", [])

    @property
    def held(self) -> list[datetime]:
        return self.standing.get("held", [])

    @property
    def damaged(self) -> list[datetime]:
        return self.standing.get("damaged", [])

    @property
    def unread(self) -> list[datetime]:
        return self.standing.get("unread", [])

    @property
    def unmerged(self) -> list[datetime]:
        return self.standing.get("unmerged", [])

    @property
    def complete(self) -> bool:
        """Nothing is missing, nothing was left out, nothing is there twice or in dispute."""
        standing = self.disputed or self.held or self.damaged or self.unread or self.standing.get("witness")
        left_out = self.unproven or self.unreachable or self.quarantined or self.doubled or self.undecided
        return not (left_out or standing)

    def conclude(self, ledger: Ledger) -> None:
        """Take in what the ledger says in the end: every run tells each fact until it is gone."""
        self.standing, self.heavy, self.unconfirmed = {}, [], []
        for start, entry in sorted(ledger.entries.items()):
            for name in FACTS:
                if getattr(entry.facts, name) is not None:
                    self.standing.setdefault(name, []).append(start)
            if plan.heavy(entry):
                self.heavy.append(start)
            if start in self.landed and entry.settled and entry.agreed is None:
                self.unconfirmed.append(start)
