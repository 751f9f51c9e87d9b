"""Prefect flow of the daily verification; the work is flows.wiring's. Run by hand: `python -m flows.verify`."""

from __future__ import annotations

from prefect import flow, task

from flows import runs, wiring
from flows.audit import Verification
from flows.events import MAX_WAIT
from flows.settings import load


@task(name="verify events")
def verify_project(project_id: int, since: str | None, until: str | None, repair: bool) -> Verification:
    settings = load().settings
    found, _ = runs.verify_events(settings, project_id, since=since, until=until, repair=repair, max_wait=MAX_WAIT)
    return found


@flow(name="verify-events")
def verify_events(since: str | None = None, until: str | None = None, repair: bool = False) -> list[Verification]:
    """Compare what is landed with the destination and the source, for every project; with *repair* mend it."""
    found = [verify_project(project_id, since, until, repair) for project_id in wiring.projects(load().settings)]
    if not all(verification.good for verification in found):
        raise runs.Incomplete(f"windows that differ: {sum(len(one.left) for one in found)}; see hedgerow verify")
    return found


if __name__ == "__main__":
    verify_events()
