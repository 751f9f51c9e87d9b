"""Prefect flow of the daily verification; the work is flows.wiring's. Run by hand: `python -m flows.verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import flow, task

from flows import projects, runs, wiring
from flows.audit import Verification
from flows.events import MAX_WAIT
from flows.settings import load


@dataclass(frozen=True, slots=True)
class Verified:
    """One project's verification, and what is wrong in words."""

    project_id: int
    verification: Verification
    problems: Sequence[str]


@task(name="verify events")
def verify_project(project_id: int, since: str | None, until: str | None, repair: bool) -> Verification:
    settings = load().settings
    found, _ = runs.verify_events(settings, project_id, since=since, until=until, repair=repair, max_wait=MAX_WAIT)
    return found


@flow(name="verify-events")
def verify_events(since: str | None = None, until: str | None = None, repair: bool = False) -> list[Verification]:
    """Compare what is landed with the destination and the source, for every project; with *repair* mend it."""
    found: list[Verified] = []

    def verify(project_id: int) -> None:
        verification = verify_project(project_id, since, until, repair)
        found.append(Verified(project_id, verification, verification.problems))

    failures = projects.each(wiring.projects(load().settings), verify)
    projects.check(failures, found)
    return [one.verification for one in found]


if __name__ == "__main__":
    verify_events()
