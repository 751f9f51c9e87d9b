"""Prefect flow of a backfill, alone or in parts; the work is flows.runs.loads' and flows.orchestration.parts'.

Run by hand: `python -m flows.backfill 2025-01-01 2026-01-01`.
"""

from __future__ import annotations

import argparse

from prefect import flow, runtime

from extractors.errors import SourceError
from flows.orchestration import adapter, artifacts, parts
from flows.orchestration.adapter import Ended
from flows.orchestration.parameters import ProjectId, Since, Until, Workers
from flows.orchestration.parameters import Share as ShareOf
from flows.orchestration.parts import Part
from flows.runs.run import Report
from flows.settings.parse import SettingsError
from sinks.errors import SinkError


def _name() -> str:
    given = runtime.flow_run.parameters
    return adapter.named(since=given.get("since"), until=given.get("until"), whole="everything")


def _part_name() -> str:
    return Part(**runtime.flow_run.parameters).title


# Longer than others: its docstring is the form that Prefect shows, a line for each parameter.
@flow(name="backfill-events", flow_run_name=_name, retries=0)
def backfill_events(
    since: Since,
    until: Until,
    projects: list[ProjectId] | None = None,
    workers: Workers = 1,
    dask: str | None = None,
    accept_deletions: bool = False,
    require_proof: bool = False,
) -> Ended[Report]:
    """Fill the windows of a range that are not landed yet, for every project; goes on where an earlier run stopped.

    Args:
        since: Start of the range, as on the command line: 2026-01-31, 90d, earliest.
        until: End of the range, not included: 2026-01-31, now.
        projects: Numbers of the projects. Empty: those of the settings.
        workers: In how many parts, run side by side, each project's range is cut. More than one needs a lake, and as
            many workers; against PostHog Cloud two are the most.
        dask: Address of a Dask scheduler, such as tcp://host:8786, to run the parts there. Empty: Prefect's workers.
        accept_deletions: Remove rows that the source does not show any more, also many at once.
        require_proof: End as incomplete unless the source confirmed by a query what was landed.
    """
    if workers == 1 and not dask:
        return adapter.each(
            projects,
            lambda settings, project_id, done: parts.load(
                settings,
                Part(project_id, since, until, accept_deletions=accept_deletions, require_proof=require_proof),
                done,
            ),
        )
    try:
        settings = adapter.settings(projects)
        cut = parts.cut(
            settings,
            since,
            until,
            workers=workers,
            accept_deletions=accept_deletions,
            require_proof=require_proof,
        )
        ended = parts.on_dask(dask, cut) if dask else parts.on_workers(cut)
        wrong = {title: how for title, how in ended.items() if how != parts.DONE}
        wrong = parts.missing(settings, cut) | wrong
    except (SettingsError, SourceError, SinkError) as exc:
        return adapter.failed(adapter.told(exc))
    adapter.table(artifacts.spread(ended | wrong))
    return adapter.failed("; ".join(f"{title}: {how}" for title, how in wrong.items())) if wrong else []


@flow(name="backfill-events-part", flow_run_name=_part_name, retries=0)
def backfill_part(
    project_id: ProjectId,
    since: Since,
    until: Until,
    name: str = "1 of 1",
    share: ShareOf = parts.SHARE,
    destination: str = "",
    accept_deletions: bool = False,
    require_proof: bool = False,
) -> Ended[Report]:
    """A part of a backfill, started by it: lands [since, until) of one project within a share of the source's limits.

    Args:
        project_id: Number of the project.
        since: Start of the range.
        until: End of the range, not included.
        name: Which part of how many.
        share: What part of the source's limits it keeps to, more than 0 and at most 1.
        destination: Where the backfill lands. Empty: wherever the settings say.
        accept_deletions: Remove rows that the source does not show any more, also many at once.
        require_proof: End as incomplete unless the source confirmed by a query what was landed.
    """
    return parts.land(Part(project_id, since, until, name, share, destination, accept_deletions, require_proof))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.backfill", description=backfill_events.description)
    parser.add_argument("since")
    parser.add_argument("until")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dask")
    asked = parser.parse_args()
    backfill_events(asked.since, asked.until, workers=asked.workers, dask=asked.dask)
