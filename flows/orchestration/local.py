"""A whole Prefect on this machine, for `make prefect` and for tests.

Server, work pool, deployments, automations and workers are Prefect's own commands, each a process of ours; nothing of
Prefect is imported. Everything listens on loopback and keeps its files in one directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import stamina

from flows.report.words import counted
from flows.settings.load import environment

# That SQLite was busy is no news.
stamina.instrumentation.set_on_retry_hooks(())

ROOT = Path(__file__).parents[2]
POOL = "hedgerow"
T = TypeVar("T")
PROCESS_PREFIXES = ("POSTHOG_", "HEDGEROW_", "AWS_", "PREFECT_")
# Kept in memory, as Prefect does by default, a restart of the server loses the leases, and every run that holds one is ended.
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
READY_S, STOP_S, POLL_S = 180.0, 20.0, 0.2


class NotReady(Exception):
    """Something of the stack did not start, or did not come in time; the message says what and where its log is."""


class Stack:
    """Prefect in *home*, with workers in *settings* (POSTHOG_…, HEDGEROW_…). A context manager: leaving it ends every
    process, also runs whose worker has died.

    *database*: the server's (default: SQLite in *home*). *port*: of the server, if it is free; else any that is.
    *every_s*: the schedule of sync-events instead of prefect.yaml's. *say* hears each step. *processes*: by name, `server`,
    `worker-1`, …; tests end them and start() them again.
    """

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str],
        *,
        database: str | None = None,
        workers: int = 1,
        limit: int = 4,
        port: int = 0,
        every_s: int | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.home = home.absolute()
        self.port = free_port(port)
        self.ui = f"http://127.0.0.1:{self.port}"
        self.workers, self.every_s, self._limit, self._say = workers, every_s, limit, say
        own = {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.ui}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
            "DO_NOT_TRACK": "1",
            "HEDGEROW_HOME": str(ROOT),
            "HEDGEROW_STATE_DIR": str(self.home / "state"),
        }
        if database is not None:
            own["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        self.environment = environment(own | dict(settings), without=PROCESS_PREFIXES)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Stack:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._say("starting Prefect's server")
            self.start("server")
            self.wait(self.answers, "Prefect's server answers", process="server")
            self._say("making the work pool, the deployments and the automations")
            self.prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
            self.prefect("--no-prompt", "deploy", "--all")
            if self.every_s is not None:
                self.schedule("sync-events/sync-events", self.every_s)
            self.command(sys.executable, "-m", "flows.orchestration.automations")
            self._say(f"starting {counted(self.workers, 'worker')}")
            for number in range(1, self.workers + 1):
                self.start(f"worker-{number}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self, name: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start, or start again, the server or a worker; *more*: settings of this process."""
        if name == "server":
            command = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        else:
            command = ["worker", "start", "--pool", POOL, "--name", name, "--limit", str(self._limit)]
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603
                [script("prefect"), *command],
                cwd=ROOT,
                env=self.environment | dict(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def schedule(self, deployment: str, every_s: int) -> None:
        """Give a deployment this schedule, and no other."""
        self.prefect("deployment", "schedule", "clear", "--accept-yes", deployment)
        self.prefect("deployment", "schedule", "create", deployment, "--interval", str(every_s))

    def prefect(self, *arguments: str) -> str:
        """Run a command of Prefect's; its output. Raises NotReady with what it said."""
        return self.command(script("prefect"), *arguments)

    def command(self, *command: str) -> str:
        """Run a command in the stack's environment; its output. Raises NotReady with what it said."""
        done = subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-2000:]
            raise NotReady(f"{' '.join(command[1:])} ended with {done.returncode}: {said}")
        return done.stdout

    def ask(self, path: str, body: object = None) -> object:
        """What Prefect's API answers: GET, or POST where there is a *body*. Raises OSError where it does not answer.

        A 503 is asked again: a server on SQLite says that while somebody else writes.
        """
        request = urllib.request.Request(f"{self.ui}/api/{path}")  # noqa: S310 - http on loopback
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for attempt in stamina.retry_context(on=_busy, attempts=20, timeout=60, wait_initial=0.2, wait_max=5):
            with attempt, urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                text = answer.read()
                return json.loads(text) if text else None
        raise AssertionError("the last attempt raises")

    def runs(self, deployment: str = "") -> list[dict[str, object]]:
        """The runs that are not merely scheduled, of a deployment or of all, the oldest first."""
        body: dict[str, object] = {
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        if deployment:
            body["deployments"] = {"name": {"any_": [deployment]}}
        found = self.ask("flow_runs/filter", body)
        assert isinstance(found, list)
        return found

    def wait(self, condition: Callable[[], T | None], what: str, *, seconds: float = READY_S, process: str = "") -> T:
        """Wait until *condition* gives something; that. Raises NotReady after *seconds*, or when *process* has ended."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = condition()
            except OSError:  # the server is away
                found = None
            if found:
                return found
            ended = process and self.processes[process].poll() is not None
            if ended or time.monotonic() > deadline:
                why = f"{process} has ended" if ended else f"not within {seconds:.0f} s"
                raise NotReady(f"{what}: {why}; the logs are in {self.home}")
            time.sleep(POLL_S)

    def answers(self) -> bool:
        try:
            return bool(self.ask("health"))
        except OSError:
            return False

    def ours(self) -> dict[int, str]:
        """Every living process of the stack, also what a worker left behind, and the id of the flow run it is of, if any."""
        home = self.environment["PREFECT_HOME"].encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                lines = (entry / "environ").read_bytes().split(b"\0")
                variables = dict(line.split(b"=", 1) for line in lines if b"=" in line)
                if variables.get(b"PREFECT_HOME") == home:
                    found[int(entry.name)] = variables.get(b"PREFECT__FLOW_RUN_ID", b"").decode()
        return found

    def stop(self) -> None:
        """End every process: workers first, so that their runs keep what is committed."""
        for name in sorted(self.processes, reverse=True):
            _end(self.processes[name], signal.SIGTERM)
        for pid in self.ours():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ask a process to end, and its group after STOP_S."""
    process.send_signal(how)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _busy(error: Exception) -> bool:
    return isinstance(error, urllib.error.HTTPError) and error.code == 503


def free_port(wanted: int = 0) -> int:
    """A port of loopback that is free now: *wanted*, or any where that is taken."""
    with suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as listener:
        return int(listener.getsockname()[1])
    return free_port()


def script(name: str) -> str:
    """A command of the environment that runs us."""
    return str(Path(sys.executable).with_name(name))
