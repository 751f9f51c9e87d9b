"""Prefect flow of a backfill: alone, cut into parts for several workers of the pool, or on a Dask cluster.

The work is flows.runs'. Run by hand: `python -m flows.backfill 2025-01-01 2026-01-01`. Parts land into one lake and
need no word with each other: each has dates of its own, and a fixed share of the source's limits (docs/operations.md).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from extractors import pacing
from extractors.errors import SourceError
from extractors.window import iso
from flows import adapter, artifacts, runs, wiring
from flows.adapter import Ended
from flows.parameters import ProjectId, Since, Until, Workers
from flows.parameters import Share as ShareOf
from flows.runs import Report
from flows.settings import Settings, SettingsError
from sinks.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

DEPLOYMENT = "backfill-events-part/backfill-events-part"
SHARE = 0.75  # of the source's limits, for all parts of a backfill together: a quarter is left to the scheduled sync
POLL_S = 2.0
DONE = "done"


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one project that one run lands, with its share of the source's limits."""

    project_id: int
    since: str
    until: str
    name: str
    share: float

    @property
    def title(self) -> str:
        return f"project {self.project_id} · {self.since} .. {self.until} · part {self.name}"


def _name() -> str:
    given = runtime.flow_run.parameters
    return adapter.named(since=given.get("since"), until=given.get("until"), whole="everything")


def _part_name() -> str:
    given = runtime.flow_run.parameters
    return Part(**{name: given[name] for name in ("project_id", "since", "until", "name", "share")}).title


@flow(name="backfill-events", flow_run_name=_name, retries=0)
def backfill_events(
    since: Since,
    until: Until,
    projects: list[ProjectId] | None = None,
    workers: Workers = 1,
    dask: str | None = None,
    accept_deletions: bool = False,
) -> Ended[Report]:
    """Fill the windows of a range that are not landed yet, for every project; goes on where an earlier run stopped.

    Args:
        since: Start of the range, as on the command line: 2026-01-31, 90d, earliest.
        until: End of the range, not included: 2026-01-31, now.
        projects: Numbers of the projects. Empty: those of the settings.
        workers: In how many parts, run side by side, each project's range is cut. More than one needs a lake, and as
            many workers; against PostHog Cloud two are the most.
        dask: Address of a Dask scheduler, such as tcp://host:8786, to run the parts there. Empty: Prefect's workers.
        accept_deletions: Remove rows that the source does not show any more, also many at once.
    """
    if workers == 1 and not dask:
        return adapter.each(
            projects,
            lambda settings, project_id, done: _load(
                settings,
                Part(project_id, since, until, "1 of 1", SHARE),
                done,
                accept_deletions=accept_deletions,
            ),
        )
    try:
        settings = adapter.settings(projects)
        _check(settings, workers)
        parts = _parts(settings, since, until, workers)
        if dask:
            ended = _on_dask(dask, parts, accept_deletions=accept_deletions)
        else:
            ended = _on_workers(parts, accept_deletions=accept_deletions)
    except (SettingsError, SourceError, SinkError) as exc:
        return adapter.failed(adapter.told(exc))
    adapter.table(artifacts.spread(ended))
    wrong = [f"{name}: {how}" for name, how in ended.items() if how != DONE]
    return adapter.failed("; ".join(wrong)) if wrong else []


@flow(name="backfill-events-part", flow_run_name=_part_name, retries=0)
def backfill_part(
    project_id: ProjectId, since: Since, until: Until, name: str, share: ShareOf, accept_deletions: bool = False
) -> Ended[Report]:
    """A part of a backfill, started by it: lands [since, until) of one project within a share of the source's limits.

    Args:
        project_id: Number of the project.
        since: Start of the range.
        until: End of the range, not included.
        name: Which part of how many.
        share: What part of the source's limits it keeps to, more than 0 and at most 1.
        accept_deletions: Remove rows that the source does not show any more, also many at once.
    """
    part = Part(project_id, since, until, name, share)
    return adapter.each(
        [project_id],
        lambda settings, _, done: _load(settings, part, done, accept_deletions=accept_deletions),
    )


def _load(settings: Settings, part: Part, done: list[Report], *, accept_deletions: bool) -> None:
    """Land a part; *done* hears what it did."""
    number = part.name.partition(" ")[0]
    runs.load_events(
        settings,
        part.project_id,
        command="backfill",
        since=part.since,
        until=part.until,
        accept_deletions=accept_deletions,
        share=pacing.Share(f"backfill {part.name}", part.share),
        listener=adapter.listener(part.project_id, progress=f"backfill-project-{part.project_id}-part-{number}"),
        tell=done.append,
    )


def _check(settings: Settings, workers: int) -> None:
    """Raises SettingsError where several parts would be refused by the source or by the destination."""
    most = settings.source.in_flight
    if workers > most:
        raise SettingsError(
            f"{workers} workers are more than the {most} requests in flight that the source allows a project",
            hint=f"expected at most {most}; for a server without limits set [source] in_flight",
        )
    if settings.destination.address.startswith("duckdb:"):
        raise SettingsError(
            f"{settings.destination.address} is one file, which one process writes at a time",
            hint="several workers need a lake (s3:// or file:); or leave workers at 1",
        )


def _parts(settings: Settings, since: str, until: str, count: int) -> list[Part]:
    """The parts of all projects. Raises SettingsError, SourceError, SinkError."""
    found = [
        (project_id, rng)
        for project_id in wiring.projects(settings)
        for rng in runs.parts_of(
            settings, project_id, since=since, until=until, count=count, listener=adapter.listener(project_id)
        )
    ]
    of = len(found)
    return [
        Part(project_id, iso(rng.start), iso(rng.end), f"{number} of {of}", SHARE / of)
        for number, (project_id, rng) in enumerate(found, start=1)
    ]


def _on_workers(parts: Sequence[Part], *, accept_deletions: bool) -> dict[str, str]:
    """Run the first part here and the others as runs of their own; how each ended, DONE or what is wrong.

    A run that no worker has taken up when this one has time is done here: a pool with one free place is slow, not stuck.
    """
    ended: dict[str, str] = {}
    others: dict[Part, UUID] = {}
    with _cancelled_together(others):
        for part in parts[1:]:
            others[part] = _start(part, accept_deletions=accept_deletions).id
        for part in parts[:1]:
            ended[part.title] = _here(part, accept_deletions=accept_deletions)
        for part, started in list(others.items()):
            if _taken_back(started):
                del others[part]
                ended[part.title] = _here(part, accept_deletions=accept_deletions)
        while others:
            for part, started in list(others.items()):
                how = _how(started)
                if how is not None:
                    del others[part]
                    ended[part.title] = how
            if others:
                time.sleep(POLL_S)
    return {part.title: ended[part.title] for part in parts}


def _start(part: Part, *, accept_deletions: bool) -> FlowRun:
    parameters = {
        "project_id": part.project_id,
        "since": part.since,
        "until": part.until,
        "name": part.name,
        "share": part.share,
        "accept_deletions": accept_deletions,
    }
    try:
        # Once for this run, also where the answer was lost and the call is made again.
        return run_deployment(  # type: ignore[return-value]
            DEPLOYMENT, parameters=parameters, timeout=0, idempotency_key=f"{adapter.run_id()} {part.name}"
        )
    except ObjectNotFound:
        raise SettingsError(
            f"there is no deployment {DEPLOYMENT}", hint="run prefect --no-prompt deploy --all"
        ) from None


def _here(part: Part, *, accept_deletions: bool) -> str:
    ended: Ended[Report] = adapter.each(
        [part.project_id],
        lambda settings, _, done: _load(settings, part, done, accept_deletions=accept_deletions),
    )
    return DONE if isinstance(ended, list) else str(ended.message)


def _taken_back(flow_run_id: UUID) -> bool:
    """Cancel a run that no worker has taken up yet; whether that succeeded."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id).state
        if state is None or state.type is not StateType.SCHEDULED:
            return False
        client.set_flow_run_state(flow_run_id, Cancelled(message="done by the run that started it"))
        state = client.read_flow_run(flow_run_id).state
        return state is not None and state.type is StateType.CANCELLED


def _how(flow_run_id: UUID) -> str | None:
    """How a part ended; None while it runs."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id).state
    if state is None or not state.is_final():
        return None
    return DONE if state.is_completed() else f"{state.type.value.lower()}: {state.message or 'no word'}"


@contextmanager
def _cancelled_together(others: dict[Part, UUID]) -> Iterator[None]:
    """Whoever ends this run early wants its parts to end too."""
    try:
        yield
    except BaseException:
        with adapter.telling(), get_client(sync_client=True) as client:
            for started in others.values():
                client.set_flow_run_state(started, Cancelling(message="the backfill that started it was ended"))
        raise


@task(name="part", task_run_name="{title}", retries=0, cache_policy=NO_CACHE, persist_result=False)
def _part_task(title: str, part: Part, accept_deletions: bool) -> str:
    return _here(part, accept_deletions=accept_deletions)


def _on_dask(address: str, parts: Sequence[Part], *, accept_deletions: bool) -> dict[str, str]:
    """Run all parts as tasks on the Dask cluster at *address*; how each ended. Its workers need hedgerow and its settings."""
    try:
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError:
        raise SettingsError("prefect-dask is not installed", hint="pip install hedgerow[dask]") from None

    @flow(name="backfill-events-on-dask", task_runner=DaskTaskRunner(address=address))
    def on_dask() -> dict[str, str]:
        started = {part.title: _part_task.submit(part.title, part, accept_deletions) for part in parts}
        return {title: future.result() for title, future in started.items()}

    return on_dask()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.backfill", description=backfill_events.description)
    parser.add_argument("since")
    parser.add_argument("until")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dask")
    asked = parser.parse_args()
    backfill_events(asked.since, asked.until, workers=asked.workers, dask=asked.dask)
