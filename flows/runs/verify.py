"""Verifies the landed events of one project: compares, and repairs where asked to."""

from __future__ import annotations

from datetime import timedelta

from flows.landing import audit
from flows.landing.session import STREAM, Order, Session
from flows.landing.verification import Verification
from flows.runs import findings
from flows.runs.memory import held
from flows.runs.run import Report, asked_range, started
from flows.runs.wiring import Listener, now, sink_of
from flows.settings.model import Settings
from sinks.errors import DestinationUnusable


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
) -> tuple[Verification, Report]:
    """Compare landed windows with the destination and the source; with *repair* land again those that differ.

    Raises SettingsError, SourceError, SinkError; what is repaired stays.
    """
    listener = listener or Listener()
    start, end, _ = asked_range(since, until)
    sink = sink_of(settings, listener)
    if sink.origin(project_id, STREAM) is None:
        raise DestinationUnusable(
            f"nothing of project {project_id} is landed in {sink.name}", hint="run hedgerow sync first, or name another"
        )
    reports: list[Report] = []
    with started(
        settings,
        project_id,
        command="verify",
        rebuild=False,
        max_wait=max_wait,
        listener=listener,
        on_report=reports.append,
    ) as run:
        order = Order(
            project_id=project_id,
            since=start,
            until=end,
            settle=settings.events.settle,
            marks=False,
            accept_deletions=accept_deletions,
        )
        session = Session(order, run.sink, run.sink.spool_directory, now, run.listener, held(settings))
        found = audit.run(session, run.reader, run.log, repair=repair, detail=detail)
        run.found.extend(findings.of_verification(found))
    return found, reports[0]
