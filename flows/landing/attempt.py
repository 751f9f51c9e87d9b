"""One attempt of a run; another one follows where another run was faster (docs/ledger.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from extractors.reading.events import EventsReader
from flows.landing import plan
from flows.landing.guard import Guard
from flows.landing.outcome import Log
from flows.landing.session import STREAM, Session
from sinks.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt works with and asks, what the run has done so far, what may be removed, and when it began.

    *now*: the source's time; *sure*: up to when time has passed by this machine's clock as well, which decides what has
    settled.
    """

    session: Session
    reader: EventsReader
    log: Log
    guard: Guard
    now: datetime
    sure: datetime

    @classmethod
    def begun(cls, session: Session, reader: EventsReader, log: Log, *, ledger: Ledger, now: datetime) -> Attempt:
        """An attempt that begins at *now*, over what *ledger* says is landed."""
        order = session.order
        guard = Guard(order.accept_deletions)
        guard.look(ledger, session.sink.changes(order.project_id, STREAM))
        return cls(session, reader, log, guard, now, min(now, session.clock()))

    def ledger(self) -> Ledger:
        """The ledger as it is now, with the windows open that cannot have settled."""
        order = self.session.order
        ledger = self.session.sink.ledger(order.project_id, STREAM)
        return plan.as_of(ledger, self.now, settle=order.settle, latest=self.reader.served_at)
