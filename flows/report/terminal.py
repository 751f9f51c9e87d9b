"""What a person or a script gets to see: progress, results, status. Decides no work.

Results go to stdout, everything else to stderr; with --json one document on stdout and nothing else there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from rich.box import SQUARE
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from extractors.http.pacing import Wait
from flows.landing import session
from flows.landing.session import Committed, Group
from flows.report.words import counted, day, spoken, visible
from flows.runs.wiring import Listener

stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
WIDE = 1_000_000  # columns of a table that no terminal shows: nothing is cut
TOLD_S = 1.0  # shorter waits are told with --verbose only
_AT_MOST = "up to "


def say(text: str) -> None:
    """A line of result for people."""
    Console(highlight=False, soft_wrap=True, emoji=False).print(visible(text), markup=False)


def note(text: str, *, style: str = "") -> None:
    """A line beside the result, on stderr."""
    stderr.print(visible(text), style=style, markup=False)


class _Countdown:
    """A line on the terminal, below whatever stands there, that says for how long something is still waited for.

    A later wait takes the line of an earlier one. Thread-safe: waits begin in the thread that reads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._ends = threading.Timer(0, self.end)

    def begin(self, wait: Wait, *, at_most: bool = False) -> Live:
        """Show *wait*, which begins now, until it is over; the line that shows it. *at_most*: end() may come sooner."""
        self.end()
        ends_s, ends, most = time.monotonic() + wait.seconds, _time_of_day(wait), _AT_MOST if at_most else ""

        def line() -> Text:
            left = timedelta(seconds=max(0, math.ceil(ends_s - time.monotonic())))
            return Text(
                visible(f"waiting {most}{left} more, until {ends}: {wait.reason}"), style="yellow", no_wrap=True
            )

        live = Live(console=stderr, get_renderable=line, transient=True, refresh_per_second=4)
        with self._lock:
            self._live = live
            live.start(refresh=True)
            self._ends = threading.Timer(wait.seconds, self.end, [live])
            self._ends.daemon = True
            self._ends.start()
        return live

    def end(self, of: Live | None = None) -> None:
        """Take the line away, if there is one. *of*: only that of this wait, as a later one may have begun meanwhile."""
        with self._lock:
            if of is not None and of is not self._live:
                return
            self._ends.cancel()
            if self._live is not None:
                self._live.stop()
            self._live = None


class _Left(ProgressColumn):
    """How long until the run is through, counted down from what it last said of itself."""

    def render(self, task: Task) -> Text:
        ends_s: float | None = task.fields["ends_s"]
        if ends_s is None:
            return Text("-:--:--")
        return Text(f"{timedelta(seconds=max(0, round(ends_s - time.monotonic())))} left")


@contextmanager
def waits(*, quiet: bool = False, verbose: bool = False) -> Iterator[Listener]:
    """A listener that shows what is waited for: on a terminal a line that counts down, elsewhere a line when a wait begins.

    Waits below a second are told with *verbose* only; nothing is with *quiet*.
    """
    if quiet:
        yield Listener()
        return
    countdown = _Countdown()

    def waited(wait: Wait) -> None:
        if stderr.is_terminal and wait.seconds >= TOLD_S:
            countdown.begin(wait)
        if verbose or (wait.seconds >= TOLD_S and not stderr.is_terminal):
            note(waiting(wait))

    def retried(error: Exception, wait_s: float) -> None:
        note(f"trying again{f' in {spoken(timedelta(seconds=wait_s))}' if wait_s else ''}: {error}")
        if stderr.is_terminal and wait_s >= TOLD_S:
            countdown.begin(Wait(wait_s, "before it is tried again"))

    lines: list[Live] = []

    def busy(wait: Wait | None) -> None:
        if wait is None:
            while lines:
                countdown.end(lines.pop())
        elif stderr.is_terminal:
            lines.append(countdown.begin(wait, at_most=True))
        else:
            note(waiting(wait, at_most=True))

    try:
        yield Listener(wait=waited, retry=retried, busy=busy)
    finally:
        countdown.end()


@contextmanager
def progress(project_id: int, *, quiet: bool, verbose: bool, what: str = "") -> Iterator[Listener]:
    """A listener that shows a bar on a terminal, what is waited for elsewhere too, nothing with *quiet*; with *verbose* also
    what is read and what each commit made durable."""
    columns = [  # one line of 80 columns
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        _Left(),
    ]
    hidden = quiet or not stderr.is_terminal
    with (
        Progress(*columns, console=stderr, transient=True, disable=hidden) as bar,
        waits(quiet=quiet, verbose=verbose) as listener,
    ):
        task = bar.add_task(f"project {project_id}", total=None, doing=what, ends_s=None)

        def moved(at: session.Progress) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            speed = f" · {at.rows / elapsed:,.0f}/s" if elapsed > 1 else ""
            doing = f"{at.rows:,} rows{speed} · {counted(at.requests, 'request')}"
            ends_s = None if at.left_s is None else time.monotonic() + at.left_s
            bar.update(task, completed=at.windows_done, total=at.windows_planned, doing=doing, ends_s=ends_s)

        def run_group(group: Group, work: Callable[[], None]) -> None:
            note(f"reading {group_name(project_id, group)}")
            work()

        def committed(done: Committed) -> None:
            span = f"{day(done.range.start)} .. {day(done.range.end)}"
            note(f"landed {counted(done.windows, 'window')} of {span}: {counted(done.rows, 'new row')}")

        if not quiet:
            listener = replace(listener, progress=moved, wait=_putting_off(bar, task, listener.wait))
        yield replace(listener, run_group=run_group, committed=committed) if verbose and not quiet else listener


def _putting_off(bar: Progress, task: TaskID, told: Callable[[Wait], None]) -> Callable[[Wait], None]:
    """*told*, after which *task* ends no sooner than the wait: nobody foresees when the source asks to wait."""

    def waited(wait: Wait) -> None:
        ends_s: float | None = bar.tasks[0].fields["ends_s"]
        if ends_s is not None:
            bar.update(task, ends_s=max(ends_s, time.monotonic() + wait.seconds))
        told(wait)

    return waited


def group_name(project_id: int, group: Group) -> str:
    """What is read, landed and proven together, in words."""
    if group.range is None:
        return f"project {project_id} · look-back"
    span = f"{day(group.range.start)} .. {day(group.range.end)}"
    return f"project {project_id} · {span} · {counted(group.windows, 'window')}"


def waiting(wait: Wait, *, at_most: bool = False) -> str:
    """A wait that begins now, in words. *at_most*: it may be over sooner."""
    longest = f"{_AT_MOST if at_most else ''}{spoken(timedelta(seconds=wait.seconds))}"
    return f"waiting {longest}, until {_time_of_day(wait)}: {wait.reason}"


def _time_of_day(wait: Wait) -> str:
    """When a wait that begins now is over, by this machine's clock, with the zone: logs are read elsewhere."""
    return f"{datetime.now().astimezone() + timedelta(seconds=wait.seconds):%H:%M:%S %Z}"


def show_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A list for people, drawn as a result of SQL is; what is too wide for the terminal is folded."""
    table = Table(box=SQUARE, header_style="")
    for name, *column in zip(names, *rows, strict=True):
        numeric = bool(column) and all(isinstance(value, int | float | None) for value in column)
        # The first names the row, and is copied into the next command.
        whole = not table.columns
        table.add_column(visible(name), justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*("" if value is None else visible(str(value)) for value in row))
    terminal = Console(highlight=False, markup=False, emoji=False)
    console = terminal if terminal.is_terminal else Console(highlight=False, markup=False, emoji=False, width=WIDE)
    console.print(table)
