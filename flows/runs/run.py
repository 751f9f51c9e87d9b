"""One run over one project, from settings to a report that is written into the history. Decides nothing about windows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from extractors.http.client import Client
from extractors.http.pacing import Pacing, Share
from extractors.reading.events import EventsReader
from flows.landing.outcome import Log
from flows.landing.session import STREAM
from flows.runs.findings import not_compared, notes_of_run, of_run, unproven
from flows.runs.history import INTERRUPTED, record
from flows.runs.remaining import foreseeing
from flows.runs.wiring import Listener, filter_of, list_limit, now, reader_of, sink_of
from flows.settings.model import Settings
from flows.settings.parse import EARLIEST, SettingsError, instant
from sinks.destination import Destination
from sinks.errors import SinkError


@dataclass(frozen=True, slots=True)
class Report:
    """What one run over one project did, for people and for --json.

    *since*, *until*: from the first to the last of what was asked for and landed.
    *problems*: what differs or is incomplete (exit status 3); *notes*: what is worth knowing and no fault.
    *late*, *deleted*, *changed*: events that the source changed in windows landed before. *compared*: whether the source
    answered the queries of the run, where it asked any.
    """

    run_id: str
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
    """A run under way: whom it asks and tells, where it lands, what it has done so far. *found*: problems beside the log's."""

    sink: Destination
    reader: EventsReader
    client: Client
    budget: Pacing
    listener: Listener
    log: Log
    found: list[str]
    served_at: datetime | None = None


@contextmanager
def started(
    settings: Settings,
    project_id: int,
    *,
    command: str,
    rebuild: bool,
    max_wait: timedelta | None,
    require_proof: bool = False,
    share: Share | None = None,
    listener: Listener,
    on_report: Callable[[Report], None],
) -> Iterator[_Started]:
    """Try the destination, ask the source, and prepare; in the end *on_report* the run's report, also to the history."""
    started_at, error = now(), ""
    sink = sink_of(settings, listener)
    host, event_filter = settings.source.host, filter_of(settings).identity
    # The destination is tried before the source is asked, and written when the source has let us in.
    sink.check(project_id, STREAM, host=host, event_filter=event_filter, rebuild=rebuild)
    asking = reader_of(settings, project_id, listener=listener, max_wait=max_wait, share=share)
    with sink.held(), asking as (reader, client, budget):
        progress = foreseeing(listener.progress, budget, list_limit(settings, share))
        run = _Started(sink, reader, client, budget, replace(listener, progress=progress), Log(), [])
        try:
            served_at = reader.now(first=sink.origin(project_id, STREAM) is None)
            sink.prepare(project_id, STREAM, host=host, event_filter=event_filter, rebuild=rebuild)
            yield replace(run, served_at=served_at)
        except Exception as exc:
            error = f"{type(exc).__name__}: {exc}"[:500]
            raise
        except BaseException:  # Ctrl-C, or whoever runs us wants it to end
            error = INTERRUPTED
            sink.stop_waiting()
            raise
        finally:
            if error:
                with suppress(SinkError):  # what stands in the ledger is told all the same
                    run.log.conclude(sink.ledger(project_id, STREAM))
            report = _report(project_id, run, require_proof=require_proof, started_at=started_at)
            on_report(report)
            _keep(report, sink, command=command, started_at=started_at, error=error)


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


def _keep(report: Report, sink: Destination, *, command: str, started_at: datetime, error: str) -> None:
    """Write the run into the history, which must not hide the *error* that ended it."""
    with suppress(SinkError) if error else nullcontext():
        if sink.exists():
            record(
                sink,
                report,
                command=command,
                started_at=started_at,
                finished_at=now(),
                error=error,
                windows=report.windows,
                rows=report.rows,
                waited_s=report.waited_s,
            )


def _report(project_id: int, run: _Started, *, require_proof: bool, started_at: datetime) -> Report:
    reader, client, outcome = run.reader, run.client, run.log.outcome()
    if require_proof:
        run.found.extend(unproven(outcome, reader))
    left_out = not_compared(reader)
    notes = [*notes_of_run(outcome, reader), *([left_out] if left_out and not require_proof else [])]
    problems = list(of_run(outcome))
    span = outcome.span
    changes = outcome.changes.values()
    return Report(
        run_id=str(uuid.uuid4()),
        project_id=project_id,
        stream=STREAM,
        since=span.start if span else None,
        until=span.end if span else None,
        windows=outcome.windows,
        rows=outcome.rows,
        copies=outcome.copies,
        quarantined=outcome.quarantined,
        requests=sum(client.requests.values()),
        waited_s=round(run.budget.waited_s, 3),
        seconds=round((now() - started_at).total_seconds(), 3),
        verified=outcome.verified,
        compared=not not_compared(reader),
        late=sum(change.late for change in changes),
        deleted=sum(change.deleted for change in changes),
        changed=sum(change.changed for change in changes),
        lateness_s=max((change.lateness.total_seconds() for change in changes), default=0.0),
        problems=(*run.found, *problems),
        notes=tuple(notes),
        learned={
            "page_cap": reader.learned.page_cap,
            "hogql_filter": reader.learned.hogql_filter,
            "query": reader.probe.refusal or reader.probe.unavailable or True,
            "prefixes": dict(client.prefixes),
        },
    )
