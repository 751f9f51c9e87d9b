"""Whether what is landed is what the source says it holds: decisions from a ledger entry and answers. Pure (docs/proof.md)."""

from __future__ import annotations

from datetime import datetime

from extractors.reading.questions import Part, Seen
from extractors.window import Range, Window
from flows.landing import due
from sinks.entries import Entry


def part_of(entry: Entry) -> Part:
    """The part of the source that *entry* can be compared with; of an open window, split where it was compared up to."""
    covers = Range(entry.covered_start, entry.compared_until)
    split = entry.agreed.until if entry.agreed and covers.start < entry.agreed.until < covers.end else None
    return Part(Window(entry.start, entry.end), covers, entry.known_tally.source_rows, split)


def answered(entry: Entry) -> Seen | None:
    """What the source said of the window when it was asked last; None where it has not said anything."""
    return Seen.parse(entry.probed.values) if entry.probed and not due.heavy(entry) else None


def equals(entry: Entry, said: Seen, early: Seen | None) -> bool:
    """Whether the source still holds what was read of a window, and nothing of it was inserted anew since.

    *early*: what it says of the part up to which the window was compared before, where that is not all of it. What was
    never compared must not hold anything that was created after it was read.
    """
    agreed = Seen.parse(entry.agreed.values) if entry.agreed else None
    if agreed is None or entry.agreed is None:
        read_at = entry.base.whole_at if entry.base is not None else entry.read_at
        disputed = entry.facts.disputed or entry.facts.held  # without a baseline only a reading tells
        return not disputed and agrees(entry, said, None) and not _later(said, read_at)
    if entry.agreed.until == entry.compared_until:
        return agrees(entry, said, agreed)
    if early is None or early.created != agreed.created or not agrees(entry, said, None):
        return False
    latest = max(filter(None, (early.latest, entry.read_at)), default=None)
    return not _later(said, latest)


def _later(said: Seen, at: datetime | None) -> bool:
    return at is not None and said.latest is not None and said.latest > at


def agrees(entry: Entry, said: Seen, before: Seen | None) -> bool:
    """Whether the source holds what was read, and nothing was inserted anew since *before*.

    Rows in quarantine have no digest: such a window agrees in its count, and in everything that the source said *before*.
    """
    tally = entry.known_tally
    if tally.quarantined_rows:
        return said.rows == tally.source_rows and (before is None or said == before)
    return said.digest == tally.source_digest and (before is None or said.created == before.created)


def still_stands(entry: Entry, said: Seen) -> bool:
    """Whether a dispute, a stopped removal or unread microseconds stay: the source says what it said when that was noted."""
    return bool(entry.facts.disputed or entry.facts.held or entry.facts.unread) and answered(entry) == said
