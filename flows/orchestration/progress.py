"""A progress artifact of a backfill: how far it is while windows land, and where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.landing.session import Progress
from flows.orchestration import adapter
from flows.report.words import counted, spoken

EVERY_S = 5.0  # an update is a request to Prefect's API


@contextmanager
def bar(
    key: str, project_id: int, *, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[Progress], None]]:
    """A progress artifact named *key*, for as long as the work lasts; call what it gives with where the work is.

    The first window moves it at once, later ones at most once in EVERY_S, and the end always: also a cancellation.
    Outside of Prefect it does nothing.
    """
    if not adapter.run_id():
        yield lambda at: None
        return
    artifact: UUID | None = None
    with adapter.telling():
        first = f"Project {project_id}: no window is landed yet"
        artifact = cast("UUID", create_progress_artifact(0.0, key=key, description=first))
    at, due_s = Progress(0, 0, 0, None), monotonic()

    def show(share: float, words: str) -> None:
        if artifact is not None:
            with adapter.telling():
                update_progress_artifact(artifact, share, f"Project {project_id}: {words}")

    def moved(to: Progress) -> None:
        nonlocal at, due_s
        at = to
        if at.windows_done and monotonic() >= due_s:
            due_s = monotonic() + EVERY_S
            show(*shown(at))

    try:
        yield moved
    except BaseException:
        show(*stopped(at))
        raise
    show(*(shown(at) if at.windows_planned else (100.0, "nothing to land")))


def stopped(at: Progress) -> tuple[float, str]:
    """What is shown of a run that was ended early, or failed."""
    if not at.windows_planned:
        return 0.0, "stopped before the first window"
    share, words = shown(replace(at, left_s=None))
    return share, f"stopped at {words}"


def shown(at: Progress) -> tuple[float, str]:
    """The share of the planned windows that is landed, 0 to 100, and where the run is, in words."""
    share = round(100.0 * min(1.0, at.windows_done / max(1, at.windows_planned)), 1)
    left = at.left_s if at.windows_done < at.windows_planned else None
    return share, (
        f"{at.windows_done:,} of {counted(at.windows_planned, 'window')}, {counted(at.rows, 'row')}, "
        f"{counted(at.requests, 'request')}" + (f", about {spoken(timedelta(seconds=left))} left" if left else "")
    )
