"""What a run over events found, in words for people: problems (exit status 3) and notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from extractors.reading.events import EventsReader
from extractors.window import iso
from flows.landing import audit, pipeline
from flows.report.words import counted, spoken
from flows.runs.wiring import now

NAMED = 20  # microseconds that one line names
CLOCKS_DIFFER = timedelta(hours=1)


def _problems(outcome: pipeline.Outcome) -> Iterator[str]:
    """What differs or is incomplete: what this run met, and what stands in the ledger until it is gone."""
    for at in sorted({at for moments in outcome.unproven.values() for at in moments}):
        yield f"the microsecond {iso(at)} holds more events than could be told apart"
    if unserved := sorted({at for moments in outcome.unserved.values() for at in moments}):
        named = ", ".join(map(iso, unserved[:NAMED])) + (" and others" if len(unserved) > NAMED else "")
        yield (
            f"not served by the source, and missing here: events of {counted(len(unserved), 'microsecond')}, {named}; "
            "everything else of the range is landed"
        )
    for rng in outcome.unreachable:
        yield f"not covered, as this server cannot be asked for events so far away: {rng}"
    if outcome.quarantined:
        yield f"could not be typed: {counted(outcome.quarantined, 'row')}; see hedgerow.quarantine"
    for day in outcome.doubled:
        yield f"the events of {day} moved while they were read: some are landed twice"
    if outcome.undecided:
        events = counted(sum(outcome.undecided.values()), "event")
        yield (
            f"the source does not tell which of its different copies is the later: {events} in "
            f"{_windows(list(outcome.undecided))}; one of each is kept by a fixed rule until PostHog has merged them, "
            "see unmerged_at in hedgerow.windows"
        )
    if outcome.damaged:
        yield (
            f"the destination does not hold what was landed of {_windows(outcome.damaged)}: "
            "hedgerow verify --repair lands it again"
        )
    told = {*outcome.unproven, *outcome.unserved}
    if unread := [start for start in outcome.unread if start not in told]:
        yield f"some microseconds could not be read whole in {_windows(unread)}; read again later"
    for start in sorted({*outcome.disputed, *outcome.standing.get("witness", [])}):
        yield f"the window at {iso(start)} does not hold what the source counts, even after a second reading"
    if outcome.held:
        yield (
            f"the source does not show the rows of {_windows(outcome.held)} any more: kept; "
            "if they were deleted on purpose, run with --accept-deletions"
        )


def _windows(starts: Sequence[datetime]) -> str:
    return f"{counted(len(starts), 'window')}, the first at {iso(min(starts))}"


def _notes(outcome: pipeline.Outcome, reader: EventsReader) -> Iterator[str]:
    if reader.served_at is not None and reader.served_at - now() > CLOCKS_DIFFER:
        yield (
            f"the server's clock says {iso(reader.served_at)}, this machine's {iso(now())}: windows count as over when "
            "both say so"
        )
    changes = outcome.changes.values()
    parts = []
    if late := sum(change.late for change in changes):
        windows = sum(change.late > 0 for change in changes)
        lateness = max(change.lateness for change in changes)
        came = f", the latest at least {spoken(lateness)} after its time" if lateness else ""
        parts.append(f"{counted(late, 'late event')} in {counted(windows, 'window')}{came}")
    parts += [
        f"{count:,} {word}"
        for word, count in (
            ("deleted", sum(change.deleted for change in changes)),
            ("changed in place", sum(change.changed for change in changes)),
        )
        if count
    ]
    if parts:
        yield "found at the source since the last run: " + "; ".join(parts)
    if outcome.moving:
        moving = counted(len(outcome.moving), "window")
        yield f"changed at the source while being read: {moving}; the next run compares again"
    if merging := [start for start in outcome.unmerged if start not in outcome.undecided]:
        yield audit.unmerged_words(len(merging))
    if outcome.heavy:
        yield f"too heavy to compare with the source: {counted(len(outcome.heavy), 'window')}"
    if outcome.in_quarantine:
        yield f"in quarantine since earlier runs: {counted(outcome.in_quarantine, 'row')}; see hedgerow.quarantine"
    if outcome.unasked:
        left = counted(outcome.unasked, "window")
        yield f"left to the next run: {left} of the look-back; this one's share of queries is used up"


def not_compared(reader: EventsReader) -> str:
    """Why the run has compared nothing, or nothing more, with the source; empty where it could."""
    if reader.probe.refusal:
        return f"nothing was compared with the source, because it refuses queries ({reader.probe.refusal})"
    if reader.probe.unavailable:
        return f"not everything was compared: the source does not answer queries now ({reader.probe.unavailable})"
    return ""


def unproven(outcome: pipeline.Outcome, reader: EventsReader) -> Iterator[str]:
    """What a run that requires proof calls a problem."""
    if why := not_compared(reader):
        yield f"proof is required: {why}"
    elif outcome.unconfirmed:
        yield f"proof is required: the source has not confirmed {_windows(outcome.unconfirmed)}, landed by this run"
