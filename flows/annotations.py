"""Prefect flow of the annotations sync, by hand or on a schedule of your own; the work is flows.assets'."""

from __future__ import annotations

from prefect import flow

from flows.assets.synced import Synced
from flows.orchestration import adapter
from flows.orchestration.adapter import Ended
from flows.orchestration.parameters import Minutes, ProjectId
from flows.orchestration.streams import sync_stream


def _name() -> str:
    return adapter.named(whole="annotations")


@flow(name="sync-annotations", flow_run_name=_name, retries=0)
def sync_annotations(
    projects: list[ProjectId] | None = None, accept_deletions: bool = False, max_wait_minutes: Minutes = 10
) -> Ended[Synced]:
    """Land the annotations of every project, with their history.

    Args:
        projects: Ids of the projects. Empty: those of the worker's settings (POSTHOG_PROJECT_ID).
        accept_deletions: Mark as deleted what PostHog does not show any more, also many at once. Otherwise many at once
            are kept, and the run ends as Incomplete.
        max_wait_minutes: Longest wait for PostHog's limits, in sum; the rest is left to the next run.
    """
    return sync_stream("annotations", projects, accept_deletions=accept_deletions, max_wait_minutes=max_wait_minutes)


if __name__ == "__main__":
    sync_annotations()
