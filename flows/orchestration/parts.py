"""A backfill in parts: cut, spread over workers of the pool or a Dask cluster, and checked to have left nothing.

Parts land into one lake and need no word with each other: each has dates of its own and a fixed share of the source's
limits (docs/operations.md). They may run on other machines, whose environment is not ours: a part refuses another
destination than it was cut for, and in the end the ledger is asked what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling, Completed

from extractors.http import pacing
from extractors.window import iso
from flows.orchestration import adapter, progress
from flows.orchestration.adapter import Ended
from flows.report.words import counted
from flows.runs import loads, wiring
from flows.runs.run import Report
from flows.settings.model import Settings
from flows.settings.parse import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

DEPLOYMENT = "backfill-events-part/backfill-events-part"
SHARE = 0.75  # of the source's limits, for all parts of a backfill together: a quarter is left to the scheduled sync
DONE = "done"
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one project that one run lands into *destination*, with its *share* of the source's limits.

    *destination*: empty where the settings of this run are the only ones. *max_wait_minutes*: None for as long as it takes.
    """

    project_id: int
    since: str
    until: str
    name: str = "1 of 1"
    share: float = SHARE
    destination: str = ""
    accept_deletions: bool = False
    require_proof: bool = False
    max_wait_minutes: int | None = None

    @property
    def max_wait(self) -> timedelta | None:
        return None if self.max_wait_minutes is None else timedelta(minutes=self.max_wait_minutes)

    @property
    def title(self) -> str:
        return f"project {self.project_id} · {self.since} .. {self.until} · part {self.name}"


def load(settings: Settings, part: Part, done: list[Report]) -> None:
    """Land a part; *done* hears what it did. Raises SettingsError, SourceError, SinkError."""
    if part.destination not in ("", settings.destination.address):
        raise SettingsError(
            f"this worker lands into {settings.destination.address}, the backfill into {part.destination}",
            hint="give every worker the same HEDGEROW_DESTINATION",
        )
    number = part.name.partition(" ")[0]
    with progress.bar(f"backfill-project-{part.project_id}-part-{number}", part.project_id) as moved:
        loads.load_events(
            settings,
            part.project_id,
            command="backfill",
            since=part.since,
            until=part.until,
            accept_deletions=part.accept_deletions,
            require_proof=part.require_proof,
            max_wait=part.max_wait,
            share=pacing.Share(f"backfill {part.name}", part.share),
            listener=adapter.listener(part.project_id, progress=moved),
            on_report=done.append,
        )


def land(part: Part) -> Ended[Report]:
    """Land a part under the settings of this machine, as a run of its own or within another."""
    return adapter.each([part.project_id], lambda settings, _, done: load(settings, part, done))


def cut(
    settings: Settings,
    since: str,
    until: str,
    *,
    workers: int,
    accept_deletions: bool,
    require_proof: bool = False,
    max_wait_minutes: int | None = None,
) -> list[Part]:
    """The parts of all projects: what is yet to be landed, in at most *workers* ranges each.

    Raises SettingsError where the source or the destination would refuse so many, SourceError, SinkError.
    """
    _check(settings, workers)
    max_wait = None if max_wait_minutes is None else timedelta(minutes=max_wait_minutes)
    found = [
        (project_id, rng)
        for project_id in wiring.projects(settings)
        for rng in loads.parts_of(
            settings,
            project_id,
            since=since,
            until=until,
            count=workers,
            max_wait=max_wait,
            listener=adapter.listener(project_id),
        )
    ]
    of = len(found)
    return [
        Part(
            project_id,
            iso(rng.start),
            iso(rng.end),
            f"{number} of {of}",
            SHARE / of,
            settings.destination.address,
            accept_deletions,
            require_proof,
            max_wait_minutes,
        )
        for number, (project_id, rng) in enumerate(found, start=1)
    ]


def _check(settings: Settings, workers: int) -> None:
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


def missing(settings: Settings, parts: Sequence[Part]) -> dict[str, str]:
    """The parts that the destination does not hold in whole, and what of them: by its ledger, whoever said what."""
    found = {}
    for part in parts:
        gaps = loads.uncovered(settings, part.project_id, since=part.since, until=part.until)
        if gaps:
            found[part.title] = f"not landed: {', '.join(f'{iso(gap.start)} .. {iso(gap.end)}' for gap in gaps[:5])}"
    return found


def landed(parts: Sequence[Part]) -> Ended[Report]:
    """How a backfill in parts ends that left nothing out."""
    said = f"{counted(len(parts), 'part')} landed, and by the ledger nothing is missing" if parts else "nothing to land"
    return Completed(data=[], message=said)


def on_workers(parts: Sequence[Part]) -> dict[str, str]:
    """Run the first part here and the others as runs of their own; how each ended, DONE or what is wrong.

    A run that no worker has taken up when this one has time is done here: a pool with one free place is slow, not stuck.
    """
    ended: dict[str, str] = {}
    others: dict[Part, UUID] = {}
    with _cancelled_together(others):
        for part in parts[1:]:
            others[part] = _start(part).id
        for part in parts[:1]:
            ended[part.title] = _here(part)
        for part, started in list(others.items()):
            taken = False
            with adapter.telling():
                taken = _taken_back(started)
            if taken:
                del others[part]
                ended[part.title] = _here(part)
        while others:
            for part, started in list(others.items()):
                how = None
                with adapter.telling():  # the server may be away for a while
                    how = _how(started)
                if how is not None:
                    del others[part]
                    ended[part.title] = how
            if others:
                time.sleep(POLL_S)
    return {part.title: ended[part.title] for part in parts}


def _start(part: Part) -> FlowRun:
    try:
        # Once for this run, also where the answer was lost and the call is made again.
        return run_deployment(  # type: ignore[return-value]
            DEPLOYMENT,
            parameters=asdict(part),
            timeout=0,
            idempotency_key=f"{adapter.run_id()} {part.name}",
            job_variables=adapter.job_variables(),
        )
    except ObjectNotFound:
        raise SettingsError(
            f"there is no deployment {DEPLOYMENT}", hint="run prefect --no-prompt deploy --all"
        ) from None


def _here(part: Part) -> str:
    ended = land(part)
    return DONE if ended.is_completed() else str(ended.message)


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
def _part_task(title: str, part: Part) -> str:
    return _here(part)


def on_dask(address: str, parts: Sequence[Part]) -> dict[str, str]:
    """Run all parts as tasks on the Dask cluster at *address*; how each ended. Its workers need hedgerow and its settings."""
    try:
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError:
        raise SettingsError("prefect-dask is not installed", hint="pip install 'prefect-dask>=0.3.7'") from None

    @flow(name="backfill-events-on-dask", task_runner=DaskTaskRunner(address=address))
    def spread() -> dict[str, str]:
        started = {part.title: _part_task.submit(part.title, part) for part in parts}
        return {title: future.result() for title, future in started.items()}

    return spread()
