"""`make prefect`: a whole Prefect on this machine, scheduled against the bundled simulator, until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from flows.landing.session import STREAM
from flows.orchestration.local import NotReady, Stack, script
from flows.report import status
from flows.report.words import counted
from flows.runs import wiring
from flows.settings.model import Settings
from flows.settings.parse import loopback
from sinks.errors import SinkError

DIRECTORY, DATABASE, LOG = "prefect-demo", "posthog.duckdb", "simulator.log"
EVENTS, EVERY_S = 20_000, 60
PORT = 4280  # beside 4200, where a Prefect of one's own is
DEPLOYMENT = "sync-events"


def main(arguments: Sequence[str]) -> int:
    """Start everything, wait for the first scheduled run, and go on until Ctrl-C. Exit statuses as of the command line."""
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:5.0f} s  {line}\n")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(arguments[0]) if arguments else Path(DIRECTORY)
    try:
        directory.mkdir(exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(alone(directory))
            make_way(directory / DATABASE)
            stack.callback(lambda: say("\n         ".join(left(directory))))
            _run(directory, stack, say)
            signal.pause()
    except KeyboardInterrupt:
        return 130
    except NotReady as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 11
    return 0


def _run(directory: Path, stack: ExitStack, say: Callable[[str], None]) -> None:
    """Start everything, wait for the first scheduled run, and say what to do next. *stack* ends all of it."""
    destination = f"duckdb:{directory.absolute() / DATABASE}"
    say(f"starting a simulated PostHog with {EVENTS:,} events")
    source = stack.enter_context(simulated(EVENTS, directory / LOG))
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hedgerow-prefect-")))
    settings = source | {"HEDGEROW_DESTINATION": destination}
    running = stack.enter_context(Stack(home, settings, port=PORT, every_s=EVERY_S, say=say))
    stack.callback(lambda: say("ending the worker, Prefect's server and the simulated PostHog"))
    sys.stdout.write(f"{running.ui}\n")
    sys.stdout.flush()
    say(f"Prefect's UI: {running.ui}")
    say(
        f"waiting for the first scheduled run of {DEPLOYMENT}: due every {EVERY_S} s here, every 15 min by prefect.yaml"
    )
    run = running.wait(lambda: ended(running.runs(DEPLOYMENT)), "a scheduled run completes")
    held = status.summaries(_settings(directory / DATABASE))
    say(
        f"{run['name']}: completed; {counted(sum(one.rows for one in held if one.held is None), 'event')} in {destination}"
    )
    at = f"PREFECT_API_URL={running.ui}/api {_shown('prefect')}"
    say(f"to start one at once: {at} deployment run {DEPLOYMENT}/{DEPLOYMENT}")
    say("a run starts every minute until Ctrl-C, which ends everything and keeps what is landed")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep *directory* to this demo while it runs: another would take its file away. Raises NotReady."""
    with (directory / LOG).open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NotReady(f"make prefect is at work in {directory} already: end that one first") from None
        yield


@contextmanager
def simulated(events: int, log: Path) -> Iterator[dict[str, str]]:
    """The bundled simulator as a process; the settings that ask it."""
    command = [script("hedgerow"), "simulator", "--port", "0", "--events", str(events)]
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=out, text=True, start_new_session=True, stdin=subprocess.DEVNULL
        )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        yield dict(line.split("=", 1) for line in lines)
    finally:
        process.terminate()
        process.wait()


def ended(runs: Sequence[dict[str, object]]) -> dict[str, object] | None:
    """The first of *runs* that the schedule made and that has completed. Raises NotReady where one has ended otherwise."""
    for run in runs:
        if run["auto_scheduled"] and run["state_type"] == "COMPLETED":
            return run
        if run["auto_scheduled"] and run["state_type"] in ("FAILED", "CRASHED"):
            state = run["state"]
            assert isinstance(state, dict)
            raise NotReady(f"{run['name']}: {state['name']}: {state['message']}")
    return None


def make_way(database: Path) -> None:
    """Remove the file of an earlier demo: its simulator is gone, and the next one has other events.

    Raises NotReady for a file that holds, or may hold, anything else.
    """
    if not database.exists():
        return
    try:
        sink = wiring.sink_of(_settings(database))
        origin, others = sink.origin(1, STREAM), set(sink.projects()) - {1}
    except SinkError as exc:
        raise NotReady(f"{database} is there, and cannot be read: {exc}") from exc
    if others or origin is None or not loopback(urlsplit(origin[0]).hostname or ""):
        raise NotReady(f"{database} is there, and make prefect did not make it: move it")
    for file in (database, database.with_name(f"{database.name}.wal")):
        file.unlink(missing_ok=True)


def left(directory: Path) -> Iterator[str]:
    """What the end leaves, how to look at it and how to be rid of it, line by line."""
    database = directory / DATABASE
    if database.exists():
        yield f"ended; Prefect's history is gone, {database} stays"
        yield f"to look at it: {_shown('hedgerow')} status --destination duckdb:{database}"
    else:
        yield "ended, with nothing landed"
    yield f"to be rid of all of it: rm -r {directory}"


def _settings(database: Path) -> Settings:
    return Settings.model_validate({"destination": {"address": f"duckdb:{database.absolute()}"}})


def _shown(name: str) -> str:
    """A command of this environment, as one types it here."""
    return min(script(name), os.path.relpath(script(name)), key=len)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
