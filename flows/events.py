"""Prefect flow of the scheduled events sync; the work is flows.wiring's. Run by hand: `python -m flows.events`."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow, task

from flows import projects, runs, wiring
from flows.runs import Report
from flows.settings import load

MAX_WAIT = timedelta(minutes=10)  # a scheduled run that waits longer leaves the rest to the next one (contract.md §3)


@task(name="load events")
def load_project(project_id: int, since: str | None, until: str | None) -> Report:
    return runs.load_events(load().settings, project_id, command="sync", since=since, until=until, max_wait=MAX_WAIT)


@flow(name="sync-events")
def sync_events(since: str | None = None, until: str | None = None) -> list[Report]:
    """Bring the events of every project up to date. *since*, *until*: as on the command line."""
    reports: list[Report] = []
    failures = projects.each(
        wiring.projects(load().settings), lambda project_id: reports.append(load_project(project_id, since, until))
    )
    projects.check(failures, reports)
    return reports


if __name__ == "__main__":
    sync_events()
