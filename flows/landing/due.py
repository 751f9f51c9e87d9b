"""Which landed windows are asked about or read again, and when, decided from the ledger and the source's clock. Pure.

Ages, waits and the budget of re-reading: docs/proof.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from extractors.window import DAY, EPOCH, Range
from sinks.entries import HEAVY, Entry, State
from sinks.ledger import Ledger

OPEN_AGAIN = timedelta(hours=1)  # how often an open window is read from its start where the source does not count
PAGE_ROWS = 1_000  # what today's servers give at a time


def stopped(ledger: Ledger, ages: Sequence[timedelta], *, now: datetime, accept: bool) -> frozenset[datetime]:
    """Starts of windows whose removal the guard has stopped, and that are not to be tried again at *now*.

    With *accept* all are tried.
    """
    if accept:
        return frozenset()
    held = ((start, entry) for start, entry in ledger.entries.items() if entry.facts.held is not None)
    return frozenset(start for start, entry in held if retried_at(entry, entry.facts.held, ages, now=now) is None)


def compared_again(
    ledger: Ledger,
    ages: Sequence[timedelta],
    *,
    rng: Range | None,
    since: datetime | None,
    now: datetime,
    asked: Collection[datetime],
) -> list[Entry]:
    """Entries whose source side is to be asked for again: open ones, then those waiting longest, then the newest.

    *since*: where the look-back begins (None: there is none). Windows that were never compared, and those that differed,
    come back wherever they are; with *rng* only those inside it. Open windows come back with a look-back. What was too
    heavy comes last, and at the re-read *ages* only, counted from when it first was, then daily. *asked*: starts of
    windows that were asked for already.
    """
    found = []
    for entry in ledger.entries.values():
        comparable = entry.settled or (entry.base is not None and since is not None)
        if not comparable or entry.start in asked:
            continue
        first = entry.probed.at if entry.probed else None
        if heavy(entry) and retried_at(entry, first, ages, now=now, daily=True) is None:
            continue
        waiting = entry.probed is None or bool(entry.facts)
        inside = rng is None or rng.overlap(Range(entry.start, entry.end)) is not None
        if (waiting and inside) or (since is not None and entry.covered_end > since):
            found.append(entry)
    found.sort(key=lambda entry: entry.start, reverse=True)
    found.sort(key=lambda entry: entry.probed.at if entry.probed else EPOCH)
    found.sort(key=lambda entry: (heavy(entry), entry.state is not State.OPEN))
    return found


def heavy(entry: Entry) -> bool:
    """Whether the source could not count the window when it was asked last."""
    return entry.probed is not None and entry.probed.values == HEAVY


def passed_age(
    since: datetime, last: datetime, ages: Sequence[timedelta], *, now: datetime, daily: bool = False
) -> datetime | None:
    """When the latest age that has passed since *since* came, if nothing was tried from then on; else None.

    *daily*: after the last age every day is one more.
    """
    passed = [since + age for age in ages if since + age <= now]
    if daily and passed and len(passed) == len(ages):
        passed.append(passed[-1] + (now - max(passed)) // DAY * DAY)
    return max(passed) if passed and last < max(passed) else None


def retried_at(
    entry: Entry, since: datetime | None, ages: Sequence[timedelta], *, now: datetime, daily: bool = False
) -> datetime | None:
    """When what stands *since* was to be tried again, counted from its note; None: not yet, or it was."""
    return passed_age(since, entry.tried_at or since, ages, now=now, daily=daily) if since is not None else None


@dataclass(frozen=True, slots=True)
class Due:
    """A window to be read again, and since when it is due."""

    at: datetime
    entry: Entry

    @property
    def pages(self) -> int:
        """What reading it costs."""
        return 1 + self.entry.tally.source_rows // PAGE_ROWS


def due_again(ledger: Ledger, ages: Sequence[timedelta], *, now: datetime, refused: bool) -> list[Due]:
    """Windows that have come to one of the re-read *ages*, the longest due first.

    Different copies and unread microseconds count from the landing that first found them, and daily after the last age;
    stops and disputes without an answer from their note; windows that are too heavy to compare from their end. Where the
    source *refused* queries, so do all settled ones, and open ones are read from their start once an hour.
    """
    found = []
    for entry in ledger.entries.values():
        facts, times = entry.facts, []
        if (first := facts.unmerged or facts.unread) is not None:
            # A tail that landed since is no reading of the part that the copies are in.
            read_at = (entry.base.whole_at if entry.base is not None else None) or entry.read_at
            last = max(read_at, entry.tried_at or read_at)
            times.append(passed_age(first, last, ages, now=now, daily=True))
        if (stood := facts.held or facts.disputed) is not None and (refused or entry.probed is None):
            times.append(retried_at(entry, stood, ages, now=now))
        elif entry.settled and not facts and (refused or heavy(entry)):
            times.append(passed_age(entry.end, entry.read_at, ages, now=now))
        if refused and entry.base is not None and not facts:
            whole_at = entry.base.whole_at or entry.read_at
            times.append(whole_at + OPEN_AGAIN if whole_at + OPEN_AGAIN <= now else None)
        due = [at for at in times if at is not None]
        if due and entry.state is not State.STALE:
            found.append(Due(min(due), entry))
    return sorted(found, key=lambda one: (one.at, one.entry.start))


def affordable(due: Sequence[Due], *, allowance: int, saved: int) -> tuple[list[Entry], int]:
    """Which of *due*, the longest due first, *allowance* pages and those *saved* before can read; and what is saved then.

    Where the longest due one is too dear, half of the allowance is put by for it, and the others get the rest: it is
    neither passed over for ever nor in their way.
    """
    funds, taken = allowance + saved, []
    rest = list(due)
    while rest and rest[0].pages <= funds:
        funds -= rest[0].pages
        taken.append(rest.pop(0).entry)
    if not rest:
        return taken, 0
    dear, others = rest[0].pages, min(funds, allowance // 2)
    for one in rest[1:]:
        if one.pages <= others:
            others -= one.pages
            funds -= one.pages
            taken.append(one.entry)
    return taken, min(funds, dear)
