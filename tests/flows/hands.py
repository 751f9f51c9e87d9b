"""Writers of one destination that stop before every call until they are let go: in threads, or in processes of their own.

A writer runs the real engine over real HTTP. It says what it is about to do, with ("stop", call), and waits for an
order: go on, die, or die midway (a landing of several windows lands only the first ones). After a call that writes it
says ("done", call), and waits until what it wrote was looked at. Both sides are the same for threads and processes.
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import queue
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol
from unittest import mock

import httpx

from extractors.filters import EventFilter
from extractors.http.client import Client
from extractors.http.client import Source as Address
from extractors.http.pacing import Limit, Pacing
from extractors.reading.events import EventsReader
from extractors.request import Bucket, Request
from extractors.window import Range
from flows.landing import audit, copy, pipeline
from flows.landing.ahead import Joining
from flows.landing.outcome import Log, Outcome
from flows.landing.session import STREAM, Session
from flows.landing.session import Order as RunOrder
from flows.landing.verification import Verification
from sinks import ledger
from sinks.destination import Destination
from sinks.entries import Entry, Landing
from sinks.errors import SinkError
from sinks.sink import Run, Sink
from tests.flows.hands_places import Place
from tests.flows.harness import IMPATIENT, SETTLE

KINDS = ("sync", "rebuild", "backfill", "verify", "repair", "accept", "copy")
PROMISES = ("sync", "rebuild", "backfill")  # whose outcome says complete or not
READS = frozenset(
    {"ledger", "hashes", "audit", "duplicates", "changes", "runs", "rows", "origin", "rejects", "check", "exists"}
    | {"projects", "table", "query", "stop_waiting"}
)
CALLS = frozenset(
    name for one in (Sink, Destination) for name, _ in inspect.getmembers(one, inspect.isfunction) if name[0] != "_"
)
PLENTY = Limit(10**6, 10**6)
PATIENCE_S = 60.0  # a writer that says nothing for so long hangs


# --- what is said


@dataclass(frozen=True, slots=True)
class Part:
    """A window in a landing: what it covers, and from where its rows are replaced."""

    start: datetime
    covered_start: datetime
    replace_start: datetime
    covered_end: datetime

    @property
    def replaced(self) -> Range:
        return Range(self.replace_start, self.covered_end)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a sink, or one request; *parts*: windows that a landing lands."""

    name: str
    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} of {len(self.parts)} windows" if len(self.parts) > 1 else self.name


@dataclass(frozen=True, slots=True)
class Order:
    """What a waiting writer is to do, the server's clock, and how long a look at a lake takes."""

    now: datetime
    do: str = "go"  # or "die", "midway"
    look_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a writer. *skew*: its clock less the server's. *other*: where `copy` copies from."""

    name: str
    kind: str
    place: Place
    url: str
    key: str
    directory: str
    skew: timedelta = timedelta(0)
    since: datetime | None = None
    until: datetime | None = None
    other: Place | None = None


@dataclass(slots=True)
class Report:
    """How a run ended. *rules*: of the ledger, by name, how often each took or refused something."""

    killed: bool = False
    error: str = ""
    trace: str = ""
    refusal: str = ""
    outcome: Outcome | None = None
    verification: Verification | None = None
    copied: copy.Copied | None = None
    rules: Counter[str] = field(default_factory=Counter)

    @property
    def ended(self) -> bool:
        """The run came to its own end."""
        return not self.killed and not self.error

    @property
    def good(self) -> bool:
        """The run says that all is well."""
        if self.verification is not None:
            return self.verification.good
        if self.copied is not None:
            return not self.copied.problems
        return self.outcome is not None and self.outcome.complete


class Killed(BaseException):
    """The writer is dead: nothing catches this."""


class Line(Protocol):
    """The writer's end of the line."""

    def say(self, what: tuple[str, object]) -> None: ...

    def hear(self) -> Order: ...

    def die(self) -> None:
        """Ends the writer, at once and without a word."""


# --- the writer's side


class LocalClock:
    """Stands for the module `time` in a lake: the clock of the machine whose writer is under way.

    *look_s*: what passes between two looks at the time that measures, so that listings may seem long.
    """

    def __init__(self) -> None:
        self.now, self.look_s = datetime(2026, 1, 1, tzinfo=UTC), 0.0
        self._ticks, self._measured_s = 0, 1000.0

    def time(self) -> float:
        return self.time_ns() / 1e9

    def time_ns(self) -> int:
        self._ticks += 1
        return int(self.now.timestamp()) * 10**9 + self._ticks * 1_000

    def monotonic(self) -> float:
        self._measured_s += self.look_s
        return self._measured_s


HERE = LocalClock()


class Gate:
    """A sink that asks before each of its calls."""

    def __init__(self, sink: Sink, line: Line, *, skew: timedelta) -> None:
        self._sink, self._line, self._skew, self._dead = sink, line, skew, False
        self.now = HERE.now

    def __getattr__(self, name: str) -> object:
        found = getattr(self._sink, name)
        if name not in CALLS:
            return found

        def call(*args: object, **named: object) -> object:
            made = _call(name, args, named)
            if self.stop(made) == "midway":
                _land_some(self._sink, args)
                self._line.say(("done", made))
                self.end()
            try:
                result = found(*args, **named)
            except SinkError as exc:
                starts = {entry.start for entry in exc.landed}
                if starts:  # it failed after some windows
                    self._done(replace(made, parts=tuple(part for part in made.parts if part.start in starts)))
                raise
            if name not in READS:
                self._done(made)
            return result

        return call

    def _done(self, call: Call) -> None:
        """Say what was done, so that it is looked at, and wait for the word."""
        self._line.say(("done", call))
        self._take(self._line.hear())

    def stop(self, call: Call) -> str:
        """Say what comes next, and wait for the word."""
        if self._dead:
            raise Killed
        self._line.say(("stop", call))
        return self._take(self._line.hear())

    def end(self) -> None:
        self._dead = True
        self._line.die()
        raise Killed

    def _take(self, order: Order) -> str:
        self.now = HERE.now = order.now + self._skew
        HERE.look_s = order.look_s
        if order.do == "die":
            self.end()
        return order.do


def _call(name: str, args: Sequence[object], named: dict[str, object]) -> Call:
    if name == "prepare" and named.get("rebuild"):
        return Call("rebuild")
    if name != "land":
        return Call(name)
    landings: Sequence[Landing] = args[0]
    entries: list[tuple[Entry, Landing]] = [(landing.entry, landing) for landing in landings]
    parts = [Part(one.start, one.covered_start, landing.replace_start, one.covered_end) for one, landing in entries]
    return Call(name, tuple(parts))


def _land_some(sink: Sink, args: Sequence[object]) -> None:
    """The first of several landings, without the mark that goes with the last."""
    landings: Sequence[Landing] = args[0]
    if len(landings) > 1:
        sink.land(landings[: len(landings) // 2])


class Kept(httpx.BaseTransport):
    """One set of connections for all clients of a process: a new one each would cost more than the run."""

    def __init__(self) -> None:
        self._http = httpx.HTTPTransport(verify=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._http.handle_request(request)

    def close(self) -> None:
        """Kept."""


class Hearing:
    """Counts the rules of the ledger that took or refused something for the writer of this thread."""

    def __init__(self) -> None:
        self.rules: Counter[str] = Counter()
        self._thread = threading.get_ident()

    @contextmanager
    def on(self) -> Iterator[None]:
        ledger.watchers.append(self._hear)
        try:
            yield
        finally:
            ledger.watchers.remove(self._hear)

    def _hear(self, rule: ledger.Rule) -> None:
        if threading.get_ident() == self._thread:
            self.rules[rule.name] += 1


KEPT: list[Kept] = []


def work(task: Task, line: Line) -> Report:
    """One run to its end, however that comes."""
    report, hearing = Report(), Hearing()
    try:
        with hearing.on():
            _work(task, line, report)
    except Killed:
        report.killed = True
    except Exception as exc:
        report.error, report.trace = type(exc).__name__, traceback.format_exc()
    report.rules = hearing.rules
    return report


def _work(task: Task, line: Line, report: Report) -> None:
    gate = Gate(task.place.open(), line, skew=task.skew)
    if task.kind == "copy":
        assert task.other is not None
        report.copied = copy.copy(1, task.other.open(), gate)
        return
    directory = Path(task.directory)
    limits = dict.fromkeys(Bucket, PLENTY)
    if not KEPT:
        KEPT.append(Kept())
    client = Client(
        Address(task.url, task.key),
        Pacing(directory / "state", host=task.url, key=task.key, limits=limits),
        patience=IMPATIENT,
        transport=KEPT[0],
    )
    send = client.send

    def asked(request: Request) -> object:
        gate.stop(Call(f"ask {request.bucket}"))
        return send(request)

    client.send = asked
    reader = EventsReader(client, 1, events=EventFilter())
    log = Log()
    try:
        _run(task, gate, reader, report, log, clock=lambda: gate.now)
    finally:
        report.outcome = log.outcome()
        report.refusal = reader.probe.refusal
        client.close()


def _run(
    task: Task, gate: Gate, reader: EventsReader, report: Report, log: Log, *, clock: Callable[[], datetime]
) -> None:
    started_at, served_at = clock(), reader.now()
    gate.prepare(1, STREAM, host=task.url, event_filter="", rebuild=task.kind == "rebuild")
    order = RunOrder(
        1,
        task.since,
        task.until,
        SETTLE,
        marks=task.kind in ("sync", "rebuild"),
        accept_deletions=task.kind == "accept",
    )
    session = Session(order, gate, Path(task.directory), clock)
    if task.kind in PROMISES:
        pipeline.run(session, reader, log, served_at=served_at)
    else:
        report.verification = audit.run(session, reader, log, repair=task.kind != "verify", detail=False)
    report.outcome = log.outcome()
    said = ("exit 3", "done")[report.good]
    gate.record(Run(task.name, task.kind, 1, STREAM, started_at, clock(), said, log.windows, 0, 0, 0.0))


# --- small sizes


@contextmanager
def _in_line(
    items: Iterator[object], joining: Joining[object, object], **options: object
) -> Iterator[Iterator[object]]:
    """Stands for reading ahead in a thread: a page is asked for when it is wanted, so that a history can be repeated."""
    del options
    yield (joining.join([item]) for item in items)


SMALL: dict[str, object] = {
    "flows.landing.plan.WINDOW_ROWS": 30,
    "flows.landing.plan.OVERRUN_ROWS": 60,
    "flows.landing.plan.FIRST_RANGE": timedelta(days=2),
    "flows.landing.pipeline.BATCH_ROWS": 60,
    "flows.landing.guard.MOST_ROWS": 12,
    "flows.landing.sweep.ahead": _in_line,
    "flows.landing.copy.BATCH_WINDOWS": 4,
    "sinks.lake.sink.time": HERE,
    "sinks.lake.stream.time": HERE,
    "sinks.lake.journal.time": HERE,
    "sinks.lake.journal.JOURNAL_OBJECTS": 6,
    "sinks.lake.journal.AT_ONCE": 2,
}
"""The engine's sizes for histories of a few days and a few hundred events, and what would make them unrepeatable."""


@contextmanager
def small() -> Iterator[None]:
    """The engine in small, in this process."""
    with _all([mock.patch(name, value) for name, value in SMALL.items()]):
        yield


@contextmanager
def _all(patches: Sequence[object]) -> Iterator[None]:
    started = []
    try:
        for patch in patches:
            patch.start()
            started.append(patch)
        yield
    finally:
        for patch in reversed(started):
            patch.stop()


# --- the scheduler's side


class Worker(Protocol):
    """The scheduler's end of the line to one writer."""

    def begin(self, task: Task) -> None: ...

    def order(self, order: Order) -> None: ...

    def hear(self) -> tuple[str, object]:
        """("stop", Call), ("done", Call) or ("ended", Report). Raises TimeoutError for a writer that hangs."""

    def close(self) -> None: ...


class _ThreadLine:
    def __init__(self) -> None:
        self.up: queue.Queue[tuple[str, object]] = queue.Queue()
        self.down: queue.Queue[Order] = queue.Queue()

    def say(self, what: tuple[str, object]) -> None:
        self.up.put(what)

    def hear(self) -> Order:
        return self.down.get()

    def die(self) -> None:
        """Killed is raised and goes through the engine; what it does then goes nowhere: the gate is shut."""


class ThreadWorker:
    """A writer in a thread, one for each run."""

    def begin(self, task: Task) -> None:
        self._line = _ThreadLine()
        line = self._line
        threading.Thread(target=lambda: line.say(("ended", work(task, line))), name=task.name, daemon=True).start()

    def order(self, order: Order) -> None:
        self._line.down.put(order)

    def hear(self) -> tuple[str, object]:
        try:
            return self._line.up.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise TimeoutError from None

    def close(self) -> None:
        """A thread ends with its run."""


class _ProcessLine:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, what: tuple[str, object]) -> None:
        self._pipe.send(what)

    def hear(self) -> Order:
        return self._pipe.recv()

    def die(self) -> None:
        os._exit(9)


def serve_runs(pipe: Connection) -> None:
    """The life of a writer process: one run after the other until the line is cut or it is killed."""
    line = _ProcessLine(pipe)
    with small():
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            line.say(("ended", work(task, line)))


class ProcessWorker:
    """A writer in a process of its own, which is used again until it is killed."""

    def __init__(self) -> None:
        self._process: multiprocessing.Process | None = None

    def begin(self, task: Task) -> None:
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["tests.flows.hands"])
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=serve_runs, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send(task)

    def order(self, order: Order) -> None:
        self._pipe.send(order)

    def hear(self) -> tuple[str, object]:
        if not self._pipe.poll(PATIENCE_S):
            raise TimeoutError
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            assert self._process is not None
            self._process.join()
            self._process = None
            return "ended", Report(killed=True)

    def close(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._pipe.close()
            self._process.join(timeout=10)
            self._process.kill()


def alone(task: Task, now: datetime) -> Report:
    """A run that nobody stops, in this thread."""

    class Open:
        def say(self, what: tuple[str, object]) -> None:
            """Nobody listens."""

        def hear(self) -> Order:
            return Order(now)

        def die(self) -> None:
            raise AssertionError("nobody gives the order")

    return work(task, Open())
