"""One run over one project, from settings to a report: sync, backfill, verify; each is written into the history.

What the command line and the Prefect flows call. Decides nothing about windows and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from extractors.http import pacing
from extractors.http.pacing import Share
from extractors.window import Range
from flows.landing import pipeline, plan
from flows.landing.session import STREAM, Order, Session
from flows.runs.memory import held
from flows.runs.run import Report, asked_range, started
from flows.runs.wiring import Listener, filter_of, now, reader_of, sink_of
from flows.settings.model import Settings

LOOKBACK_SHARE = 4  # the look-back asks at most every fourth query of an hour (design.md, Probe)


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
    on_report: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Sync or backfill the events of one project and write the run into the history.

    *since*, *until*: as on the command line. *require_proof*: what the source did not confirm is a problem; the settings may
    ask for that, too. *share*: what part of the limits to keep to. *on_report* hears of a run that ends with an error, too.
    Raises SettingsError, SourceError, SinkError; what is landed stays.
    """
    listener = listener or Listener()
    start, end, from_earliest = asked_range(since, until)
    reports: list[Report] = []

    def told(report: Report) -> None:
        reports.append(report)
        on_report(report)

    with started(
        settings,
        project_id,
        command=command,
        rebuild=rebuild,
        max_wait=max_wait,
        require_proof=require_proof or settings.events.require_proof,
        share=share,
        listener=listener,
        on_report=told,
    ) as run:
        first = run.reader.earliest() if from_earliest else start
        order = _order(settings, project_id, since=first, until=end, marks=command == "sync", accept=accept_deletions)
        session = Session(order, run.sink, run.sink.spool_directory, now, run.listener, held(settings))
        pipeline.run(session, run.reader, run.log, served_at=run.served_at)
    return reports[0]


def _order(
    settings: Settings,
    project_id: int,
    *,
    since: datetime | None,
    until: datetime | None,
    marks: bool = False,
    accept: bool = False,
) -> Order:
    """What is asked, with what the settings say of every run."""
    return Order(
        project_id=project_id,
        since=since,
        until=until,
        settle=settings.events.settle,
        marks=marks,
        accept_deletions=accept,
        lookback=settings.events.lookback,
        reread_at=settings.events.reread_at,
        reread_requests=settings.source.requests_per_hour // 4,
        lookback_queries=pacing.QUERY.per_hour // LOOKBACK_SHARE,
    )


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
    sink.check(project_id, STREAM, host=settings.source.host, event_filter=filter_of(settings).identity)
    with reader_of(settings, project_id, listener=listener, max_wait=max_wait) as (reader, _, _):
        now_there = reader.now(first=sink.origin(project_id, STREAM) is None)
        first = reader.earliest() if from_earliest else start
        order = _order(settings, project_id, since=first, until=end)
        return pipeline.parts(order, reader, sink, now=now_there, count=count)


def uncovered(settings: Settings, project_id: int, *, since: str, until: str) -> list[Range]:
    """What of [since, until) the destination does not hold by its ledger; asks it anew, and PostHog nothing.

    Raises SettingsError, SinkError.
    """
    start, end, _ = asked_range(since, until)
    assert start is not None
    assert end is not None
    return plan.gaps(sink_of(settings).ledger(project_id, STREAM), Range(start, end))
