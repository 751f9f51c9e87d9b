"""Prefect flow of a backfill by hand; the work is flows.wiring's. Run: `python -m flows.backfill 2025-01-01 2026-01-01`."""

from __future__ import annotations

import sys

from prefect import flow, task

from flows import projects, runs, wiring
from flows.runs import Report
from flows.settings import load


@task(name="backfill events")
def load_project(project_id: int, since: str, until: str) -> Report:
    return runs.load_events(load().settings, project_id, command="backfill", since=since, until=until)


@flow(name="backfill-events")
def backfill_events(since: str, until: str) -> list[Report]:
    """Fill the windows of [since, until) that are not landed yet, for every project."""
    reports: list[Report] = []
    failures = projects.each(
        wiring.projects(load().settings), lambda project_id: reports.append(load_project(project_id, since, until))
    )
    projects.check(failures, reports)
    return reports


if __name__ == "__main__":
    backfill_events(*sys.argv[1:3])
