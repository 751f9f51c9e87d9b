"""The work of the flows that sync a stream beside events: a step a project, as the table of streams names it."""

from __future__ import annotations

from datetime import timedelta

from flows.assets import streams
from flows.assets.synced import Synced
from flows.orchestration import adapter
from flows.orchestration.adapter import Ended
from flows.settings.model import Settings


def sync_stream(
    stream: str, projects: list[int] | None, *, accept_deletions: bool = False, max_wait_minutes: int
) -> Ended[Synced]:
    """Land *stream* of every project; *projects* empty: those of the settings."""

    def load(settings: Settings, project_id: int, done: list[Synced]) -> None:
        def work() -> None:
            done.append(
                streams.sync(
                    settings,
                    project_id,
                    stream,
                    named=True,
                    accept_deletions=accept_deletions,
                    max_wait=timedelta(minutes=max_wait_minutes),
                    listener=adapter.listener(project_id),
                )
            )

        adapter.step(f"project {project_id} · {stream}", work)

    return adapter.each(projects, load)
