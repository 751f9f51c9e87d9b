"""Prefect flow of the scheduled exports sync; the work is flows.assets'. Run by hand: `python -m flows.exports`."""

from __future__ import annotations

from prefect import flow

from flows.assets.synced import Synced
from flows.orchestration import adapter
from flows.orchestration.adapter import Ended
from flows.orchestration.parameters import Minutes, ProjectId
from flows.orchestration.streams import sync_stream


def _name() -> str:
    return adapter.named(whole="exports")


@flow(name="sync-exports", flow_run_name=_name, retries=0)
def sync_exports(projects: list[ProjectId] | None = None, max_wait_minutes: Minutes = 10) -> Ended[Synced]:
    """Land the exports of every project: new assets, their contents, and the snapshots of the settings.

    Args:
        projects: Ids of the projects. Empty: those of the worker's settings (POSTHOG_PROJECT_ID).
        max_wait_minutes: Longest wait for PostHog's limits, in sum; the rest is left to the next run.
    """
    return sync_stream("exports", projects, max_wait_minutes=max_wait_minutes)


if __name__ == "__main__":
    sync_exports()
