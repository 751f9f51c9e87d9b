"""Prefect flow of the scheduled exports sync; the work is flows.assets'. Run by hand: `python -m flows.exports`."""

from __future__ import annotations

from prefect import flow, task

from flows import assets, runs, wiring
from flows.assets import Synced
from flows.events import MAX_WAIT
from flows.settings import load


@task(name="load exports")
def load_project(project_id: int) -> Synced:
    return assets.sync(load().settings, project_id, assets.EXPORTS, named=True, max_wait=MAX_WAIT)


@flow(name="sync-exports")
def sync_exports() -> list[Synced]:
    """Land new exports of every project, their contents, and the snapshots of the settings."""
    found = [load_project(project_id) for project_id in wiring.projects(load().settings)]
    runs.check_complete(found)
    return found


if __name__ == "__main__":
    sync_exports()
