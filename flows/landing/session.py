"""What a run over events is asked to do, and what it works with: values that every wing knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from extractors.window import Range
from flows.landing.crossing import Retried
from flows.landing.plan import Target
from sinks.sink import Sink

STREAM = "events"


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked to do. *since*, *until*: None as in the contract; *marks*: whether a later sync goes on from here.

    *lookback*, *reread_at*: how far back, and at which ages, landed windows are compared with the source again;
    *reread_requests*: pages an hour for the latter (docs/proof.md); *lookback_queries*: how many queries of an hour may
    have been sent for the look-back to ask one more, None: any number.
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
    lookback_queries: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: windows and rows landed, windows planned, the time up to which everything asked is read, and the
    requests that it has sent. *left_s*: seconds until it is through, where somebody foresees that."""

    windows_done: int
    windows_planned: int
    rows: int
    read_until: datetime | None
    requests: int = 0
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit made durable: *windows* that lie within *range*, and the rows that are new with them."""

    range: Range
    windows: int
    rows: int


@dataclass(frozen=True, slots=True)
class Group:
    """Windows that are read, landed and proven together; none where landed ones are compared with the source again."""

    range: Range | None = None
    windows: int = 0

    @classmethod
    def of(cls, targets: Sequence[Target]) -> Group:
        """The group of *targets*, which ascend."""
        return cls(Range(targets[0].covers.start, targets[-1].covers.end), len(targets))


def run_directly(group: Group, work: Callable[[], None]) -> None:
    """Do the work of a group, and nothing beside it."""
    work()


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom a run tells what happens: where it is, what each commit made durable, why it waits before it tries again.

    *run_group* does the work of each group of windows, in order; what the work raises it must raise.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    committed: Callable[[Committed], None] = lambda committed: None
    retry: Retried = lambda error, wait_s: None
    run_group: Callable[[Group, Callable[[], None]], None] = run_directly


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that a run holds in memory: *joined* of pages before they are typed, *spool* of a window's rows before they wait
    on disk."""

    joined: int = 8 * 2**20
    spool: int = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Session:
    """One run: what it is asked to do, where it lands, where rows wait meanwhile (*spool*, a directory), this machine's
    clock, whom it tells, and how much it holds in memory."""

    order: Order
    sink: Sink
    spool: Path
    clock: Callable[[], datetime]
    listener: Listener = field(default_factory=Listener)
    held: Held = field(default_factory=Held)
