"""Prefect flow of a backfill, alone or in parts; the work is flows.runs.loads' and flows.orchestration.parts'.

Run by hand: `python -m flows.backfill 2025-01-01`, with an end after the start if it is not to be now.
"""

from __future__ import annotations

import argparse

from prefect import flow, runtime

from extractors.errors import SourceError
from flows.orchestration import adapter, artifacts, parts
from flows.orchestration.adapter import Ended
from flows.orchestration.parameters import Minutes, ProjectId, Since, Until, Workers
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
    until: Until = "now",
    projects: list[ProjectId] | None = None,
    workers: Workers = 1,
    dask: str | None = None,
    accept_deletions: bool = False,
    require_proof: bool = False,
    max_wait_minutes: Minutes | None = None,
) -> Ended[Report]:
    """Land what is missing of a past range of every project's events; continue where an earlier run stopped.

    Args:
        since: Start of the range: 2026-01-31, 90d, or earliest for everything there is.
        until: End of the range, not included: 2026-01-31, or now.
        projects: Ids of the projects. Empty: those of the worker's settings (POSTHOG_PROJECT_ID).
        workers: Number of parts that each project's range is cut into, to land them side by side. More than one needs a
            lake and as many workers; PostHog Cloud allows two.
        dask: Address of a Dask scheduler, such as tcp://host:8786, that runs the parts. Empty: Prefect's workers.
        accept_deletions: Remove rows that PostHog does not show any more, also many at once. Otherwise many at once are
            kept, and the run ends as Incomplete.
        require_proof: End as Incomplete unless PostHog confirmed by a query what was landed.
        max_wait_minutes: Longest wait for PostHog's limits, in sum; then the run ends as Failed and keeps what it landed.
            Empty: wait as long as it takes.
    """
    if workers == 1 and not dask:
        return adapter.each(
            projects,
            lambda settings, project_id, done: parts.load(
                settings,
                Part(
                    project_id,
                    since,
                    until,
                    accept_deletions=accept_deletions,
                    require_proof=require_proof,
                    max_wait_minutes=max_wait_minutes,
                ),
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
            max_wait_minutes=max_wait_minutes,
        )
        ended = parts.on_dask(dask, cut) if dask else parts.on_workers(cut)
        wrong = {title: how for title, how in ended.items() if how != parts.DONE}
        wrong = parts.missing(settings, cut) | wrong
    except (SettingsError, SourceError, SinkError) as exc:
        return adapter.failed(adapter.told(exc))
    adapter.table(artifacts.spread(ended | wrong))
    if wrong:
        return adapter.failed("; ".join(f"{title}: {how}" for title, how in wrong.items()))
    return parts.landed(cut)


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
    max_wait_minutes: Minutes | None = None,
) -> Ended[Report]:
    """Land one part of a backfill: a range of one project, within a share of PostHog's limits. The backfill starts it.

    Args:
        project_id: Id of the project.
        since: Start of the range.
        until: End of the range, not included.
        name: Which part this is, and of how many.
        share: Share of PostHog's limits that this part may use, more than 0 and at most 1.
        destination: Where the backfill lands. A worker with another destination refuses the part. Empty: any.
        accept_deletions: Remove rows that PostHog does not show any more, also many at once.
        require_proof: End as Incomplete unless PostHog confirmed by a query what was landed.
        max_wait_minutes: Longest wait for PostHog's limits, in sum. Empty: wait as long as it takes.
    """
    return parts.land(
        Part(project_id, since, until, name, share, destination, accept_deletions, require_proof, max_wait_minutes)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.backfill", description=__doc__)
    parser.add_argument("since")
    parser.add_argument("until", nargs="?", default="now")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dask")
    asked = parser.parse_args()
    backfill_events(asked.since, asked.until, workers=asked.workers, dask=asked.dask)
