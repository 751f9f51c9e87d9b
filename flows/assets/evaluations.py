"""Evaluations landed with their history."""

from __future__ import annotations

from extractors.http.client import Client
from extractors.lists import evaluations
from flows.assets.synced import EVALUATIONS, Synced
from flows.landing.crossing import until_done
from flows.report.words import counted
from flows.runs.wiring import now
from sinks.destination import Destination, Table
from transforms import evaluations as evaluation_rows


def land_evaluations(host: str, client: Client, sink: Destination, done: Synced, *, accept_deletions: bool) -> None:
    """Read the table, then the list, then put the table back; all of it again, if another run was faster.

    In this order what is read is newer than all that the table holds, so that no clock is needed to tell which is.
    """
    project_id, version = done.project_id, ""

    def attempt() -> evaluation_rows.Merged:
        nonlocal version
        old = sink.table(EVALUATIONS)
        rows = list(evaluations.evaluations(client, project_id))
        version = old.version if old else ""
        # Only now, when the source has let us in.
        sink.prepare(project_id, EVALUATIONS, host=host, event_filter="", rebuild=False)
        found = evaluation_rows.merged(
            old.rows if old else None,
            rows,
            project_id=project_id,
            at=client.served_at or now(),
            accept_deletions=accept_deletions,
        )
        if old is None or found:
            _put(sink, old, found)
        return found

    found = until_done(attempt, landed=lambda: version)
    done.new, done.changed, done.deleted = found.new, found.changed, found.deleted
    if found.missing:
        done.problems.append(
            f"the source does not show {len(found.missing):,} of {counted(found.current, 'evaluation')} any more: kept; "
            "if they were deleted on purpose, run with --accept-deletions"
        )


def _put(sink: Destination, old: Table | None, found: evaluation_rows.Merged) -> None:
    views = {"evaluation_results": evaluation_rows.RESULTS_VIEW}
    version = old.version if old else ""
    sink.replace(EVALUATIONS, found.table, version=version, json=evaluation_rows.JSON, views=views)
