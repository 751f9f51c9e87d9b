"""Prefect flow of the scheduled exports sync; the work is flows.assets'. Run by hand: `python -m flows.exports`."""

from __future__ import annotations

from prefect import flow, task

from flows import assets, projects, wiring
from flows.assets import Synced
from flows.events import MAX_WAIT
from flows.settings import load


@task(name="load exports")
def load_project(project_id: int) -> Synced:
    return assets.sync(load().settings, project_id, assets.EXPORTS, named=True, max_wait=MAX_WAIT)


@flow(name="sync-exports")
def sync_exports() -> list[Synced]:
    """Land new exports of every project, their contents, and the snapshots of the settings."""
    found: list[Synced] = []
    failures = projects.each(
        wiring.projects(load().settings), lambda project_id: found.append(load_project(project_id))
    )
    projects.check(failures, found)
    return found


if __name__ == "__main__":
    sync_exports()
