"""One run over one project, from settings to a report: sync, backfill, verify; each is written into the history.

What the command line and the Prefect flows call. Decides nothing about windows and prints nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from extractors.http import pacing
from extractors.http.client import Client
from extractors.http.pacing import Pacing, Share
from extractors.reading.events import EventsReader
from extractors.request import Bucket
from extractors.window import Range, iso
from flows.landing import audit, pipeline, plan
from flows.report.words import counted, spoken
from flows.runs.wiring import Listener, filter_of, now, reader_of, sink_of
from flows.settings.model import Settings
from flows.settings.parse import SettingsError, instant
from sinks.errors import DestinationUnusable, SinkError
from sinks.sink import Destination, Run

EARLIEST = "earliest"
NAMED = 20  # microseconds that one line names
INTERRUPTED = "interrupted"
CLOCKS_DIFFER = timedelta(hours=1)
LOOKBACK_SHARE = 4  # the look-back asks at most every fourth query of an hour (design.md, Probe)


@dataclass(frozen=True, slots=True)
class Report:
    """What one run over one project did, for people and for --json.

    *problems*: what differs or is incomplete (exit status 3); *notes*: what is worth knowing and no fault.
    *late*, *deleted*, *changed*: events that the source changed in windows landed before. *compared*: whether the source
    answered the queries of the run, where it asked any.
    """

    project_id: int
    stream: str
    since: datetime | None
    until: datetime | None
    windows: int
    rows: int
    copies: int
    quarantined: int
    requests: int
    waited_s: float
    seconds: float
    verified: int
    compared: bool
    late: int
    deleted: int
    changed: int
    lateness_s: float
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    learned: dict[str, object]


@dataclass(frozen=True, slots=True)
class _Started:
    """A run under way: whom it asks, where it lands, and what it has done so far. *found*: problems beside the outcome's."""

    sink: Destination
    reader: EventsReader
    client: Client
    budget: Pacing
    outcome: pipeline.Outcome
    served_at: datetime
    found: list[str]


@contextmanager
def _started(
    settings: Settings,
    project_id: int,
    *,
    command: str,
    rebuild: bool,
    max_wait: timedelta | None,
    require_proof: bool = False,
    share: Share | None = None,
    listener: Listener,
    tell: Callable[[Report], None],
) -> Iterator[_Started]:
    """Try the destination, ask the source, and prepare; in the end *tell* the run's report, also to the history."""
    started_at, error = now(), ""
    sink = sink_of(settings, listener)
    host, event_filter = settings.source.host, filter_of(settings).identity
    # The destination is tried before the source is asked, and written when the source has let us in.
    sink.probe(project_id, pipeline.STREAM, host=host, event_filter=event_filter, rebuild=rebuild)
    outcome = pipeline.Outcome()
    found: list[str] = []
    with reader_of(settings, project_id, listener=listener, max_wait=max_wait, share=share) as (
        reader,
        client,
        budget,
    ):
        try:
            served_at = reader.now(first=sink.origin(project_id, pipeline.STREAM) is None)
            sink.prepare(project_id, pipeline.STREAM, host=host, event_filter=event_filter, rebuild=rebuild)
            yield _Started(sink, reader, client, budget, outcome, served_at, found)
        except Exception as exc:
            error = f"{type(exc).__name__}: {exc}"[:500]
            raise
        except BaseException:  # Ctrl-C, or whoever runs us wants it to end
            error = INTERRUPTED
            sink.hurry()
            raise
        finally:
            if error:
                with suppress(SinkError):  # what stands in the ledger is told all the same
                    outcome.conclude(sink.ledger(project_id, pipeline.STREAM))
            if require_proof:
                found.extend(_unproven(outcome, reader))
            left_out = _not_compared(reader)
            notes = [*_notes(outcome, reader), *([left_out] if left_out and not require_proof else [])]
            report = _report(
                project_id, outcome, reader, client, budget, found=found, notes=notes, started_at=started_at
            )
            tell(report)
            # The history must not hide the error that ended the run.
            with suppress(SinkError) if error else nullcontext():
                if sink.exists():
                    _record(sink, report, command=command, started_at=started_at, error=error)


def load_events(
    settings: Settings,
    project_id: int,
    *,
    command: str,
    since: str | None = None,
    until: str | None = None,
    rebuild: bool = False,
    accept_deletions: bool = False,
    require_proof: bool = False,
    max_wait: timedelta | None = None,
    share: Share | None = None,
    listener: Listener | None = None,
    tell: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Sync or backfill the events of one project and write the run into the history.

    *since*, *until*: as on the command line. *require_proof*: what the source did not confirm is a problem; the settings may
    ask for that, too. *share*: what part of the limits to keep to. *tell* hears the report also of a
    run that ends with an error.
    Raises SettingsError, SourceError, SinkError; what is landed stays.
    """
    listener = listener or Listener()
    start, end, from_earliest = asked_range(since, until)
    reports: list[Report] = []

    def told(report: Report) -> None:
        reports.append(report)
        tell(report)

    with _started(
        settings,
        project_id,
        command=command,
        rebuild=rebuild,
        max_wait=max_wait,
        require_proof=require_proof or settings.events.require_proof,
        share=share,
        listener=listener,
        tell=told,
    ) as run:
        pipeline.run(
            pipeline.Order(
                project_id=project_id,
                since=run.reader.earliest() if from_earliest else start,
                until=end,
                settle=settings.events.settle,
                marks=command == "sync",
                accept_deletions=accept_deletions,
                lookback=settings.events.lookback,
                reread_at=settings.events.reread_at,
                reread_requests=settings.source.requests_per_hour // 4,
            ),
            reader=run.reader,
            sink=run.sink,
            spool_directory=run.sink.spool_directory,
            clock=now,
            served_at=run.served_at,
            outcome=run.outcome,
            on_progress=lambda progress: listener.progress(progress, sum(run.client.requests.values())),
            on_commit=listener.committed,
            may_ask=lambda: run.budget.used(Bucket.QUERY)[1] < pacing.QUERY.per_hour // LOOKBACK_SHARE,
            within=listener.within,
            on_retry=listener.retry,
        )
    return reports[0]


def parts_of(
    settings: Settings,
    project_id: int,
    *,
    since: str | None,
    until: str | None,
    count: int,
    max_wait: timedelta | None = None,
    listener: Listener | None = None,
) -> list[Range]:
    """What a backfill has yet to land, cut into at most *count* ranges of about as many rows each; see pipeline.parts.

    Raises SettingsError, SourceError, SinkError; lands nothing.
    """
    listener = listener or Listener()
    start, end, from_earliest = asked_range(since, until)
    sink = sink_of(settings, listener)
    sink.probe(project_id, pipeline.STREAM, host=settings.source.host, event_filter=filter_of(settings).identity)
    with reader_of(settings, project_id, listener=listener, max_wait=max_wait) as (reader, _, _):
        now_there = reader.now(first=sink.origin(project_id, pipeline.STREAM) is None)
        order = pipeline.Order(
            project_id=project_id,
            since=reader.earliest() if from_earliest else start,
            until=end,
            settle=settings.events.settle,
            marks=False,
        )
        return pipeline.parts(order, reader, sink, now=now_there, count=count)


def uncovered(settings: Settings, project_id: int, *, since: str, until: str) -> list[Range]:
    """What of [since, until) the destination does not hold by its ledger; asks it anew, and PostHog nothing.

    Raises SettingsError, SinkError.
    """
    start, end, _ = asked_range(since, until)
    assert start is not None
    assert end is not None
    return plan.gaps(sink_of(settings).ledger(project_id, pipeline.STREAM), Range(start, end))


def verify_events(
    settings: Settings,
    project_id: int,
    *,
    since: str | None = None,
    until: str | None = None,
    repair: bool = False,
    accept_deletions: bool = False,
    detail: bool = False,
    max_wait: timedelta | None = None,
    listener: Listener | None = None,
) -> tuple[audit.Verification, Report]:
    """Compare landed windows with the destination and the source; with *repair* land again those that differ.

    Raises SettingsError, SourceError, SinkError; what is repaired stays.
    """
    listener = listener or Listener()
    start, end, _ = asked_range(since, until)
    sink = sink_of(settings, listener)
    if sink.origin(project_id, pipeline.STREAM) is None:
        raise DestinationUnusable(
            f"nothing of project {project_id} is landed in {sink.name}", hint="run hedgerow sync first, or name another"
        )
    reports: list[Report] = []
    with _started(
        settings, project_id, command="verify", rebuild=False, max_wait=max_wait, listener=listener, tell=reports.append
    ) as run:
        found = audit.run(
            pipeline.Order(
                project_id=project_id,
                since=start,
                until=end,
                settle=settings.events.settle,
                marks=False,
                accept_deletions=accept_deletions,
            ),
            reader=run.reader,
            sink=run.sink,
            spool_directory=run.sink.spool_directory,
            clock=now,
            outcome=run.outcome,
            repair=repair,
            detail=detail,
            on_progress=lambda progress: listener.progress(progress, sum(run.client.requests.values())),
            on_retry=listener.retry,
        )
        run.found.extend(found.problems)
    return found, reports[0]


def asked_range(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None, bool]:
    """Start and end of the range named on the command line, and whether to start at the first event. Raises SettingsError."""
    at = now()
    from_earliest = since is not None and since.strip() == EARLIEST
    start = None if since is None or from_earliest else instant(since, now=at)
    end = None if until is None else instant(until, now=at)
    _check_range(start, end, since=since, until=until, now=at)
    return start, end, from_earliest


def _check_range(
    start: datetime | None, end: datetime | None, *, since: str | None, until: str | None, now: datetime
) -> None:
    if start and start > now:
        raise SettingsError(f"--since {since} lies in the future", hint="give a time that has been, such as 7d")
    if start and end and start >= end:
        raise SettingsError(f"--since {since} is not before --until {until}", hint="the range is [since, until)")


def _report(
    project_id: int,
    outcome: pipeline.Outcome,
    reader: EventsReader,
    client: Client,
    budget: Pacing,
    *,
    found: Sequence[str],
    notes: Sequence[str],
    started_at: datetime,
) -> Report:
    problems = list(_problems(outcome))
    wanted = outcome.wanted
    changes = outcome.changes.values()
    return Report(
        project_id=project_id,
        stream=pipeline.STREAM,
        since=wanted.start if wanted else None,
        until=wanted.end if wanted else None,
        windows=outcome.windows,
        rows=outcome.rows,
        copies=outcome.copies,
        quarantined=outcome.quarantined,
        requests=sum(client.requests.values()),
        waited_s=round(budget.waited_s, 3),
        seconds=round((now() - started_at).total_seconds(), 3),
        verified=outcome.verified,
        compared=not _not_compared(reader),
        late=sum(change.late for change in changes),
        deleted=sum(change.deleted for change in changes),
        changed=sum(change.changed for change in changes),
        lateness_s=max((change.lateness.total_seconds() for change in changes), default=0.0),
        problems=(*found, *problems),
        notes=tuple(notes),
        learned={
            "page_cap": reader.learned.page_cap,
            "hogql_filter": reader.learned.hogql_filter,
            "query": reader.probe.refusal or reader.probe.unavailable or True,
            "prefixes": dict(client.prefixes),
        },
    )


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


def _not_compared(reader: EventsReader) -> str:
    """Why the run has compared nothing, or nothing more, with the source; empty where it could."""
    if reader.probe.refusal:
        return f"nothing was compared with the source, because it refuses queries ({reader.probe.refusal})"
    if reader.probe.unavailable:
        return f"not everything was compared: the source does not answer queries now ({reader.probe.unavailable})"
    return ""


def _unproven(outcome: pipeline.Outcome, reader: EventsReader) -> Iterator[str]:
    """What a run that requires proof calls a problem."""
    if why := _not_compared(reader):
        yield f"proof is required: {why}"
    elif outcome.unconfirmed:
        yield f"proof is required: the source has not confirmed {_windows(outcome.unconfirmed)}, landed by this run"


def in_history(error: str, problems: Sequence[str]) -> str:
    """How the history of runs tells an error and problems."""
    return "; ".join(filter(None, (error, *problems)))[:1000]


def _record(sink: Destination, report: Report, *, command: str, started_at: datetime, error: str) -> None:
    sink.record(
        Run(
            run_id=str(uuid.uuid4()),
            command=command,
            project_id=report.project_id,
            stream=report.stream,
            started_at=started_at,
            finished_at=now(),
            outcome=INTERRUPTED
            if error == INTERRUPTED
            else "failed"
            if error
            else "incomplete"
            if report.problems
            else "done",
            windows=report.windows,
            rows=report.rows,
            requests=report.requests,
            waited_s=report.waited_s,
            error=in_history(error, report.problems),
        )
    )
