"""Prefect flow of the daily verification; the work is flows.landing.audit's. Run by hand: `python -m flows.verify`."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow, runtime

from flows.assets import verified
from flows.assets.verifying import Checked
from flows.orchestration import adapter
from flows.orchestration.adapter import Ended
from flows.orchestration.artifacts import Verified
from flows.orchestration.parameters import Minutes, ProjectId, Since, Until
from flows.settings.model import Settings


def _name() -> str:
    given = runtime.flow_run.parameters
    return adapter.named(since=given.get("since"), until=given.get("until"), whole="everything landed")


@flow(name="verify-events", flow_run_name=_name, retries=0)
def verify_events(
    since: Since | None = None,
    until: Until | None = None,
    projects: list[ProjectId] | None = None,
    repair: bool = False,
    accept_deletions: bool = False,
    max_wait_minutes: Minutes = 10,
) -> Ended[Verified | Checked]:
    """Compare what is landed with the destination and with PostHog, for every project.

    Args:
        since: Start of the range: 2026-01-31, 7d, or earliest. Empty: everything landed.
        until: End of the range, not included: 2026-01-31, or now. Empty: everything landed.
        projects: Ids of the projects. Empty: those of the worker's settings (POSTHOG_PROJECT_ID).
        repair: Read the windows that differ again, and replace them.
        accept_deletions: With repair: remove rows that PostHog does not show any more, also many at once.
        max_wait_minutes: Longest wait for PostHog's limits, in sum; what was not compared by then ends the run as Failed.
    """

    def verify(settings: Settings, project_id: int, done: list[Verified | Checked]) -> None:
        def work() -> None:
            found = verified.verify(
                settings,
                project_id,
                since=since,
                until=until,
                repair=repair,
                accept_deletions=accept_deletions,
                max_wait=timedelta(minutes=max_wait_minutes),
                listener=adapter.listener(project_id),
            )
            if found.events is not None:
                done.append(Verified(project_id, *found.events))
            done.extend(found.others)

        adapter.step(f"project {project_id} · verify", work)

    return adapter.each(projects, verify)


if __name__ == "__main__":
    verify_events()
