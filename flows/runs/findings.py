"""What a run over events found, in words for people: problems (exit status 3) and notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from extractors.reading.events import EventsReader
from extractors.window import MICROSECOND, iso
from flows.landing.copy import Copied
from flows.landing.outcome import Beyond, Outcome
from flows.landing.plan import Bounds
from flows.landing.verification import Problem, Verification
from flows.report.words import counted, spoken
from flows.runs.wiring import now
from flows.settings.parse import EARLIEST

NEVER = datetime(1, 1, 2, tzinfo=UTC)
NAMED = 20  # microseconds that one line names
CLOCKS_DIFFER = timedelta(hours=1)


def of_run(outcome: Outcome) -> Iterator[str]:
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


def notes_of_run(outcome: Outcome, reader: EventsReader) -> Iterator[str]:
    """What is worth knowing of a run, and no fault."""
    if reader.served_at is not None and reader.served_at - now() > CLOCKS_DIFFER:
        yield (
            f"the server's clock says {iso(reader.served_at)}, this machine's {iso(now())}: windows count as over when "
            "both say so"
        )
    if outcome.idle is not None:
        yield f"nothing to land: {idle(outcome.idle)}"
    yield from _beyond(outcome.beyond)
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
        yield unmerged(len(merging))
    if outcome.heavy:
        yield f"too heavy to compare with the source: {counted(len(outcome.heavy), 'window')}"
    if outcome.in_quarantine:
        yield f"in quarantine since earlier runs: {counted(outcome.in_quarantine, 'row')}; see hedgerow.quarantine"
    if outcome.unasked:
        left = counted(outcome.unasked, "window")
        yield f"left to the next run: {left} of the look-back; this one's share of queries is used up"


def _beyond(beyond: Beyond) -> Iterator[str]:
    """What a first sync has not landed, and the command that brings it."""
    for part in beyond.parts:
        events = counted(part.rows, "event")
        if part.where == "before":
            yield f"not landed: {events} before, from {iso(part.first)} on: hedgerow backfill --since {EARLIEST}"
        else:
            yield f"not landed: {events} stamped later than now, up to {iso(part.last)}: a sync lands them when that has come"
    if beyond.earliest is not None:
        yield f"not landed: older events, from {iso(beyond.earliest)} on: hedgerow backfill --since {EARLIEST}"


def idle(bounds: Bounds) -> str:
    """Why a run has no range."""
    if not bounds.goes_on:
        return f"the first event is of {iso(bounds.start)}, and the range ends at {iso(bounds.end)}"
    return (
        f"a sync goes on from {iso(bounds.start)}, up to which it has landed all, and the range ends at {iso(bounds.end)}; "
        f"hedgerow backfill --since T --until {iso(bounds.end)} fills what may be missing before"
    )


def not_compared(reader: EventsReader) -> str:
    """Why the run has compared nothing, or nothing more, with the source; empty where it could."""
    if reader.probe.refusal:
        return f"nothing was compared with the source, because it refuses queries ({reader.probe.refusal})"
    if reader.probe.unavailable:
        return f"not everything was compared: the source does not answer queries now ({reader.probe.unavailable})"
    return ""


def unproven(outcome: Outcome, reader: EventsReader) -> Iterator[str]:
    """What a run that requires proof calls a problem."""
    if why := not_compared(reader):
        yield f"proof is required: {why}"
    elif outcome.unconfirmed:
        yield f"proof is required: the source has not confirmed {_windows(outcome.unconfirmed)}, landed by this run"


def unmerged(windows: int) -> str:
    """What there is to say of different copies that PostHog has not merged."""
    hold = "holds" if windows == 1 else "hold"
    return (
        f"{counted(windows, 'window')} {hold} different copies of one event, which PostHog has not merged yet: one of each is "
        "kept, the later where the source tells; see unmerged_at in hedgerow.windows"
    )


def of_verification(found: Verification) -> list[str]:
    """What is not as it should be after a verification."""
    between = [part for part in found.outside if part.where == "between"]
    first = iso(min((part.first for part in between), default=NEVER))
    last = iso(max((part.last + MICROSECOND for part in between), default=NEVER))
    words = {
        Problem.EMPTY: "nothing is landed in this range: hedgerow backfill lands it",
        Problem.LEFT: f"not as landed: {counted(len(found.left), 'window')}, the first of "
        f"{iso(min(found.left, default=NEVER))}; hedgerow verify --repair reads again what differs",
        Problem.ELSEWHERE: f"outside this range, not as landed since earlier runs: "
        f"{counted(len(found.elsewhere), 'window')}, the first of {iso(min(found.elsewhere, default=NEVER))}; "
        "hedgerow verify without a range compares them",
        Problem.DOUBLED: f"an event stands in two windows of {', '.join(map(str, found.doubled))}: the source moved it; "
        "the next sync or hedgerow verify --repair lands them again",
        Problem.STALE: f"to be landed again: {counted(found.stale, 'window')}, by the next sync or by --repair",
        Problem.MISSING: f"missing between landed windows: {counted(found.missing, 'row')}; "
        f"hedgerow backfill --since {first} --until {last}",
        Problem.STRAY: f"outside all landed windows: {counted(found.stray_rows, 'row')}, not hedgerow's, and left alone",
        Problem.UNKNOWN: f"not compared: {counted(found.unknown, 'window')}; "
        "the source does not answer queries about them",
        Problem.QUARANTINED: f"in quarantine, and missing from the table: {counted(found.quarantined, 'row')}; "
        "see hedgerow.quarantine",
    }
    return [words[problem] for problem in found.problems]


def of_copy(done: Copied) -> list[str]:
    """What is not as it should be after a copy."""
    words = {
        "damaged": "{} not copied: the rows are not what was landed (hedgerow verify --repair)",
        "broken": "{} damaged in the target, and older here: hedgerow verify --repair reads them again",
        "behind": "{} copied in no part: the target's own is newer and covers less; hedgerow backfill fills the rest",
        "narrower": "{} not copied: they cover less than the target does, whose rows stay as they are",
        "held": "{} not copied: too many rows would go from the target; if they were deleted on purpose, "
        "run hedgerow sync --accept-deletions there",
        "moved_on": "{} not copied: landed by another run meanwhile; copy again",
        "standing": "{} copied as they are: in dispute where they come from",
        "differing": "{} not in the target as copied",
    }
    days = ", ".join(map(str, done.doubled))
    doubled = f"an event stands in two windows of {days}: the source moved it; the target's next sync mends it"
    return [
        doubled if name == "doubled" else words[name].format(_first_three(getattr(done, name)))
        for name in done.problems
    ]


def _first_three(starts: Sequence[datetime]) -> str:
    shown = ", ".join(iso(start) for start in starts[:3])
    return f"{counted(len(starts), 'window')} ({shown}{', …' if len(starts) > 3 else ''})"
