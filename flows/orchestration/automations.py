"""Automations that hedgerow ships for a Prefect server; made or brought up to date by name.

Run by hand: `python -m flows.orchestration.automations`.

A run whose process and worker both died stays RUNNING for ever, and holds its deployment's place, unless something marks
it: Prefect itself does not (facts/stack.md §2, Crash and cancel).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.filters import EventFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.states import Crashed

from flows.orchestration.artifacts import DIFFERENCE, GAP
from flows.settings.parse import SettingsError

HEARTBEAT = timedelta(seconds=30)  # prefect.yaml sets it for every run
WITHIN = 3 * HEARTBEAT
STARTING = timedelta(minutes=5)  # what a busy machine may need from the worker's claim to the flow's first step
ENDED = frozenset(f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Incomplete", "Crashed", "Cancelled"))
TAG = "hedgerow"
OURS: dict[str, str | list[str]] = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
EACH = {"prefect.resource.id"}
BODY = """{{ event.resource.name }}, {{ event.payload.stream }} {{ event.payload.range }}
{% for problem in event.payload.problems %}- {{ problem }}
{% endfor %}
Flow run {{ event.payload.flow_run }}"""


def zombies(within: timedelta = WITHIN) -> Automation:
    """Marks a run of ours whose heartbeat has stopped. Raises SettingsError where a run alive could be taken for dead."""
    if within < WITHIN:
        raise SettingsError(
            f"{within.total_seconds():.0f} s is less than three heartbeats of {HEARTBEAT.total_seconds():.0f} s: runs "
            "that are alive would be marked crashed",
            hint=f"give --within {WITHIN.total_seconds():.0f} or more",
        )
    return Automation(
        name="hedgerow: zombie runs are marked crashed",
        description="Its heartbeat has stopped. What it landed stays; the next run goes on from there.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ENDED},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=OURS,
            for_each=EACH,
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[_crashed(f"no heartbeat for {within.total_seconds():.0f} s: its process and its worker have ended")],
    )


def unstarted() -> Automation:
    """Marks a run of ours that a worker claimed and never started."""
    return Automation(
        name="hedgerow: runs that never started are marked crashed",
        description="A worker claimed the run and ended before it began.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Pending"},
            expect={"prefect.flow-run.Running", "prefect.flow-run.heartbeat", *ENDED},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=OURS,
            for_each=EACH,
            posture=Posture.Proactive,
            threshold=1,
            within=STARTING,
        ),
        actions=[_crashed(f"not started within {STARTING.total_seconds():.0f} s: its worker has ended")],
    )


def _crashed(message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)


def news(block: str) -> Automation:
    """Tells of differences and gaps through the notification block *block*, `type/name`. Raises SettingsError."""
    kind, _, name = block.partition("/")
    if not kind or not name:
        raise SettingsError(f"{block!r} names no block", hint="expected type/name, such as slack-webhook/data-team")
    try:
        found = cast("Block", Block.load(block))
    except ValueError:
        raise SettingsError(
            f"there is no block {block}", hint="make it in Prefect's UI (Blocks), of a type that notifies"
        ) from None
    document = getattr(found, "_block_document_id", None)
    if document is None or "notify" not in found.get_block_capabilities():
        raise SettingsError(f"the block {block} does not notify", hint="expected one such as slack-webhook/data-team")
    return Automation(
        name="hedgerow: tell of differences and gaps",
        description="What a run found to be incomplete, once; the daily verification says it again.",
        trigger=EventTrigger(
            expect={DIFFERENCE, GAP},
            match={"prefect.resource.id": "hedgerow.project.*"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=document,
                subject="{{ event.event }}: {{ event.resource.name }}, {{ event.payload.stream }}",
                body=BODY,
            )
        ],
    )


def mark_crashed(own: UUID, *, after: timedelta = STARTING) -> list[UUID]:
    """Mark runs of ours that have shown no sign of life for so long; their ids. *own*: the run that looks.

    What the automations do sooner; but a server that is restarted, or loses an event, may miss a run for good. A run's
    heartbeat is its sign of life, or a change of its state. Raises what Prefect's client raises.
    """
    since = datetime.now(UTC) - after
    found = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[TAG]),
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
        ),
    )
    buried = []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=found):
            if run.id == own or run.state is None or run.state.timestamp > since or _lives(client, run.id, since):
                continue
            message = f"no sign of life for {after.total_seconds():.0f} s: its process and its worker have ended"
            client.set_flow_run_state(run.id, Crashed(message=message))
            buried.append(run.id)
    return buried


def _lives(client: SyncPrefectClient, run_id: UUID, since: datetime) -> bool:
    """Whether the server has heard anything of the run since then."""
    wanted = EventFilter(
        occurred=EventOccurredFilter.model_validate({"since": since}),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    body = {"filter": wanted.model_dump(mode="json"), "limit": 1}
    answer = client.request("POST", "/events/filter", json=body)
    answer.raise_for_status()
    return bool(answer.json()["events"])


def put(wanted: Automation) -> str:
    """Make the automation, or bring the one of its name up to date; which of the two."""
    try:
        held = cast("Automation", Automation.read(name=wanted.name))
    except ValueError:
        wanted.create()
        return "made"
    wanted.id = held.id
    wanted.update()
    return "brought up to date"


def main(given: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 for what the user gave, 11 where the server is not reached."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.orchestration.automations", description=(__doc__ or "").split(";")[0]
    )
    parser.add_argument(
        "--notify", metavar="TYPE/NAME", help="a notification block that is told of differences and gaps"
    )
    parser.add_argument(
        "--within",
        metavar="SECONDS",
        type=float,
        default=WITHIN.total_seconds(),
        help="how long a run may be without a heartbeat (default: %(default).0f)",
    )
    asked = parser.parse_args(given)
    with get_client(sync_client=True) as client:
        silence = client.api_healthcheck()
    if silence is not None:
        sys.stderr.write(
            f"error: Prefect's server does not answer at {client.api_url}: {silence}\n  set PREFECT_API_URL\n"
        )
        return 11
    try:
        wanted = [zombies(timedelta(seconds=asked.within)), unstarted()]
        if asked.notify:
            wanted.append(news(asked.notify))
        for one in wanted:
            sys.stdout.write(f"{put(one)}: {one.name}\n")
    except SettingsError as exc:
        sys.stderr.write(f"error: {exc}\n  {exc.hint}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
