"""What Prefect sees of a run: its name, its logs, a task for each group of windows, artifacts, events; the key's block.

The five @flow files are thin because of this one. Decides nothing about data: flows.runs.loads does. A run's state in Prefect
is neither a lock nor a checkpoint (design.md, Rooms); what cannot be told to Prefect is logged and changes no run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast
from uuid import UUID

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import FailedRun, MissingContextError
from prefect.states import Completed, Failed

from extractors.errors import SourceError
from extractors.http.pacing import Wait
from extractors.window import iso
from flows.landing.session import Committed, Group, Progress
from flows.orchestration import artifacts, automations
from flows.orchestration.artifacts import AnyReport
from flows.report import status, terminal
from flows.report.status import Segment
from flows.runs import projects, wiring
from flows.runs.run import Report
from flows.runs.wiring import Listener
from flows.settings.load import ENVIRONMENT, SECRETS, load
from flows.settings.model import Settings
from flows.settings.parse import SettingsError
from sinks.errors import SinkError

T = TypeVar("T", bound=AnyReport)
Ended = State[list[T]]
TOLD_WAIT_S = 5.0  # shorter waits are not worth a line of log
BLOCKS = {key: name.lower().replace("_", "-") for name, key in ENVIRONMENT.items() if key in SECRETS}
"""Names of the Secret blocks that are asked for what neither the environment nor .env has."""

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def settings(project_ids: Sequence[int] | None = None) -> Settings:
    """Settings as on the command line; secrets that are not set come from Prefect's Secret blocks (BLOCKS).

    Raises SettingsError.
    """
    flags = {"source.project_id": list(project_ids)} if project_ids else {}
    found = load(flags).settings
    wanted = ["source.key"] if found.source.key is None else []
    if found.destination.address.startswith("s3:") and found.destination.access_key_id is None:
        wanted += [key for key in BLOCKS if key.startswith("destination.")]
    blocks = {key: secret for key in wanted if (secret := _secret(BLOCKS[key])) is not None}
    return load(flags, blocks=blocks).settings if blocks else found


def _secret(name: str) -> str | None:
    try:
        block = cast("Secret[str]", Secret.load(name))
    except ValueError:
        return None
    return str(block.get())


def named(*, since: str | None = None, until: str | None = None, whole: str) -> str:
    """A run's name: projects and range. *whole*: what is done where no range is given."""
    given = runtime.flow_run.parameters.get("projects") or _projects()
    ids = ", ".join(map(str, given)) or "not set"
    span = f"{since or 'what is landed'} .. {until or 'now'}" if since or until else whole
    return f"project{'s' if len(given) > 1 else ''} {ids} · {span}"


def _projects() -> Sequence[int]:
    try:
        return load().settings.source.project_id
    except SettingsError:  # the run itself says so
        return ()


def log() -> Logger:
    """The logger of the run under way; records carry its ids. Outside of Prefect an ordinary one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("hedgerow")


def run_id() -> str:
    """The id of the flow run under way; empty outside of Prefect."""
    return str(runtime.flow_run.id or "")


def job_variables() -> dict[str, object]:
    """What the run under way was given beside its deployment's: runs that it starts are to have the same."""
    with get_client(sync_client=True) as client:
        return dict(client.read_flow_run(UUID(run_id())).job_variables or {})


@task(name="step", task_run_name="{name}", retries=0, cache_policy=NO_CACHE, persist_result=False, log_prints=False)
def _step(name: str, work: Callable[[], Exception | None]) -> State[None]:
    """Not tried again here: what is transient is, where it is asked (one layer, style.md)."""
    failure = work()
    return Completed(message="done") if failure is None else Failed(message=told(failure))


def step(name: str, work: Callable[[], None]) -> None:
    """Do *work*, once, as a task of the run: a group of windows, or one project. Raises what it raises.

    Where Prefect's server is away for a while the work goes on without it: a backfill of days must not end because the
    server was brought up to date.
    """
    if not run_id():
        work()
        return
    begun, raised = False, list[Exception]()

    def tried() -> Exception | None:
        nonlocal begun
        begun = True
        try:
            work()
        except Exception as exc:
            raised.append(exc)
            if isinstance(exc, SourceError | SinkError):
                return exc  # in words; what else is raised is a bug, which Prefect logs with its traceback
            raise
        return None

    with telling():
        _step(name, tried, return_state=True)
    if not begun:
        work()
    if raised:
        raise raised[0]


def listener(project_id: int, *, progress: Callable[[Progress], None] = lambda at: None) -> Listener:
    """Shows one project's run in Prefect: log lines, a task for each group. *progress* hears where it is."""
    flow_log = log()  # of the run: waits and retries are heard in the reading thread, which has no context

    def run_group(group: Group, work: Callable[[], None]) -> None:
        step(terminal.group_name(project_id, group), work)

    def committed(done: Committed) -> None:
        log().info(
            "landed project=%d windows=%d since=%s until=%s rows=%d run=%s",
            project_id,
            done.windows,
            iso(done.range.start),
            iso(done.range.end),
            done.rows,
            run_id(),
        )

    def waited(wait: Wait) -> None:
        if wait.seconds >= TOLD_WAIT_S:
            flow_log.info("%s", terminal.waiting(wait))

    def busy(wait: Wait | None) -> None:
        if wait is not None:
            flow_log.info("%s", terminal.waiting(wait, at_most=True))

    def retried(error: Exception, wait_s: float) -> None:
        flow_log.warning("trying again in %.0f s: %s", wait_s, error)

    return Listener(
        progress=progress,
        committed=committed,
        run_group=run_group,
        wait=waited,
        retry=retried,
        busy=busy,
    )


@contextmanager
def telling() -> Iterator[None]:
    """What Prefect cannot be told is logged: it must not fail a run whose data are landed."""
    try:
        yield
    except Exception as exc:
        log().warning("Prefect could not be told: %s: %s", type(exc).__name__, exc)


def told(error: Exception) -> str:
    """An error in the words of the command line: what, and how to mend it."""
    hint = getattr(error, "hint", "")
    return f"{error} → {hint}" if hint else str(error)


def each(project_ids: Sequence[int] | None, work: Callable[[Settings, int, list[T]], None]) -> Ended[T]:
    """Do *work* for every project, which adds what it did to the list; leave artifacts and events; end as it deserves.

    A run that is complete says what it landed; one that is incomplete or has failed ends in a failed state, "Incomplete"
    or "Failed", in the words of exit status 3 or of 2, 10, 11 and 12, without a traceback. Anything else that is raised is
    a bug, or the end of the process.
    """
    done: list[T] = []
    if run_id():
        with telling():
            for other in automations.mark_crashed(UUID(run_id())):
                log().warning("run %s has ended without a word: marked crashed", other)
    try:
        found = settings(project_ids)
        failures = projects.each(wiring.projects(found), lambda project_id: work(found, project_id, done))
    except SettingsError as exc:
        return failed(told(exc))
    except Exception:
        raise
    except BaseException:
        log().warning("interrupted: what is landed stays, and the next run goes on from there")
        raise
    leave(found, done)
    return concluded(failures, done)


def concluded(failures: dict[int, Exception], done: list[T]) -> Ended[T]:
    """The state that says what was done, or what is wrong with it: one line, which the list of runs shows."""
    lines = [f"project {project_id}: {told(exc)}" for project_id, exc in failures.items()]
    lines += [f"project {one.project_id}: {problem}" for one in done for problem in one.problems]
    if not lines:
        return Completed(data=done, message=artifacts.done(done))
    return failed("; ".join(lines), name="Failed" if failures else "Incomplete")


def failed(message: str, *, name: str = "Failed") -> State[list[T]]:
    """A failed state that says what is wrong; Prefect's traceback of its own FailedRun would say nothing more."""
    logging.getLogger("prefect.flow_runs").addFilter(_is_no_failed_run)
    return Failed(message=message, name=name)


def _is_no_failed_run(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))


def table(rows: list[dict[str, object]]) -> None:
    """Leave a table of what the run did, under the name of its flow."""
    name = str(runtime.flow_run.flow_name)
    with telling():
        create_table_artifact(rows, key=name, description=f"What {name} did")


def leave(found: Settings, done: Sequence[AnyReport]) -> None:
    """Artifacts and events of a run that has come to its end."""
    if not run_id():
        return
    if done:
        table([artifacts.row(one) for one in done])
    for one in done:
        with telling():
            _leave(found, one)


def _leave(found: Settings, one: AnyReport) -> None:
    sink = wiring.sink_of(found)
    history = sink.runs(one.project_id, limit=status.RUNS_SHOWN) if sink.exists() else []
    gaps: Sequence[Segment] = ()
    done = one.report if isinstance(one, artifacts.Verified) else one
    if isinstance(done, Report):
        held = status.summary_of(found, sink, one.project_id)
        gaps = held.gaps
        key = f"project-{one.project_id}-{done.stream}"
        create_markdown_artifact(artifacts.page(done, held, run=run_id()), key=key, description="Coverage")
    for alert in artifacts.alerts(one, gaps=gaps, before=history):
        emit_event(
            alert.event,
            resource={
                "prefect.resource.id": f"hedgerow.project.{alert.project_id}",
                "prefect.resource.name": f"project {alert.project_id}",
            },
            payload=alert.payload(run_id()),
        )
