"""Prefect flow of the scheduled events sync; the work is flows.runs.loads'. Run by hand: `python -m flows.events`."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow, runtime

from flows.orchestration import adapter
from flows.orchestration.adapter import Ended
from flows.orchestration.parameters import Minutes, ProjectId, Since, Until
from flows.runs import loads
from flows.runs.run import Report
from flows.settings.model import Settings


def _name() -> str:
    given = runtime.flow_run.parameters
    return adapter.named(since=given.get("since"), until=given.get("until"), whole="up to now")


@flow(name="sync-events", flow_run_name=_name, retries=0)
def sync_events(
    since: Since | None = None,
    until: Until | None = None,
    projects: list[ProjectId] | None = None,
    accept_deletions: bool = False,
    rebuild: bool = False,
    require_proof: bool = False,
    max_wait_minutes: Minutes = 10,
) -> Ended[Report]:
    """Bring the events of every project up to date: land what is new, compare the last days with PostHog.

    Args:
        since: Start of the range: 2026-01-31, 7d, or earliest for everything there is. Empty: where the last sync ended.
        until: End of the range, not included: 2026-01-31, or now. Empty: now.
        projects: Ids of the projects. Empty: those of the worker's settings (POSTHOG_PROJECT_ID).
        accept_deletions: Remove rows that PostHog does not show any more, also many at once. Otherwise many at once are
            kept, and the run ends as Incomplete.
        rebuild: Land everything again, after a change of the filter.
        require_proof: End as Incomplete unless PostHog confirmed by a query what was landed.
        max_wait_minutes: Longest wait for PostHog's limits, in sum; the rest is left to the next run.
    """

    def load(settings: Settings, project_id: int, done: list[Report]) -> None:
        loads.load_events(
            settings,
            project_id,
            command="sync",
            since=since,
            until=until,
            accept_deletions=accept_deletions,
            rebuild=rebuild,
            require_proof=require_proof,
            max_wait=timedelta(minutes=max_wait_minutes),
            listener=adapter.listener(project_id),
            on_report=done.append,
        )

    return adapter.each(projects, load)


if __name__ == "__main__":
    sync_events()
