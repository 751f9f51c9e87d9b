"""Prefect flow of the scheduled evaluations sync; the work is flows.assets'. Run by hand: `python -m flows.evaluations`."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow

from flows.assets import streams
from flows.assets.synced import Synced
from flows.orchestration import adapter
from flows.orchestration.adapter import Ended
from flows.orchestration.parameters import Minutes, ProjectId
from flows.settings.model import Settings


def _name() -> str:
    return adapter.named(whole="evaluations")


@flow(name="sync-evaluations", flow_run_name=_name, retries=0)
def sync_evaluations(
    projects: list[ProjectId] | None = None, accept_deletions: bool = False, max_wait_minutes: Minutes = 10
) -> Ended[Synced]:
    """Land the evaluations of every project, with their history.

    Args:
        projects: Numbers of the projects. Empty: those of the settings.
        accept_deletions: Mark as deleted what the source does not show any more, also many at once.
        max_wait_minutes: A longer wait for the source's limits is left to the next run.
    """

    def load(settings: Settings, project_id: int, done: list[Synced]) -> None:
        def work() -> None:
            done.append(
                streams.sync(
                    settings,
                    project_id,
                    "evaluations",
                    named=True,
                    accept_deletions=accept_deletions,
                    max_wait=timedelta(minutes=max_wait_minutes),
                    listener=adapter.listener(project_id),
                )
            )

        adapter.step(f"project {project_id} · evaluations", work)

    return adapter.each(projects, load)


if __name__ == "__main__":
    sync_evaluations()
