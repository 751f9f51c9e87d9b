"""Prefect flow of the scheduled evaluations sync; the work is flows.assets'. Run by hand: `python -m flows.evaluations`."""

from __future__ import annotations

from prefect import flow, task

from flows import assets, projects, wiring
from flows.assets import Synced
from flows.events import MAX_WAIT
from flows.settings import load


@task(name="load evaluations")
def load_project(project_id: int) -> Synced:
    return assets.sync(load().settings, project_id, assets.EVALUATIONS, named=True, max_wait=MAX_WAIT)


@flow(name="sync-evaluations")
def sync_evaluations() -> list[Synced]:
    """Bring the history of every project's evaluations up to date."""
    found: list[Synced] = []
    failures = projects.each(
        wiring.projects(load().settings), lambda project_id: found.append(load_project(project_id))
    )
    projects.check(failures, found)
    return found


if __name__ == "__main__":
    sync_evaluations()
