"""What a person or a script gets to see: progress, results, status. Decides no work.

Results go to stdout, everything else to stderr; with --json one document on stdout and nothing else there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from extractors.http.pacing import Wait
from flows.landing import session
from flows.report.words import counted, spoken, visible
from flows.runs.wiring import Listener

stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
WIDE = 1_000_000  # columns of a table that no terminal shows: nothing is cut


def say(text: str) -> None:
    """A line of result for people."""
    Console(highlight=False, soft_wrap=True, emoji=False).print(visible(text), markup=False)


def note(text: str, *, style: str = "") -> None:
    """A line beside the result, on stderr."""
    stderr.print(visible(text), style=style, markup=False)


@contextmanager
def progress(project_id: int, *, quiet: bool, verbose: bool) -> Iterator[Listener]:
    """A listener that shows a bar on a terminal, lines about waits and retries elsewhere too, nothing with *quiet*."""
    if quiet:
        yield Listener()
        return
    # One line of 80 columns: what is landed, or what is waited for.
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(f"project {project_id}", total=None, doing="")

        def moved(at: session.Progress) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            speed = f" · {at.rows / elapsed:,.0f}/s" if elapsed > 1 else ""
            doing = f"{at.rows:,} rows{speed} · {counted(at.requests, 'request')}"
            bar.update(task, completed=at.windows_done, total=at.windows_planned, doing=doing)

        def waited(wait: Wait) -> None:
            text = waiting(wait)
            bar.update(task, doing=text)
            if verbose or (wait.seconds >= 1 and not stderr.is_terminal):
                note(text)

        def retried(error: Exception, wait_s: float) -> None:
            note(f"trying again{f' in {spoken(timedelta(seconds=wait_s))}' if wait_s else ''}: {error}")

        yield Listener(
            progress=moved,
            wait=waited,
            retry=retried,
            busy=lambda text: note(f"waiting for the file: {text}"),
        )


def waiting(wait: Wait) -> str:
    return f"waiting {spoken(timedelta(seconds=wait.seconds))}: {wait.reason}"


def waits(*, verbose: bool) -> Listener:
    """A listener for short work: only what is waited for."""
    return Listener(
        wait=lambda wait: note(f"waiting {spoken(timedelta(seconds=wait.seconds))}: {wait.reason}") if verbose else None
    )


def show_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A result of SQL for people."""
    table = Table(*map(visible, names))
    for row in rows:
        table.add_row(*("" if value is None else visible(str(value)) for value in row))
    terminal = Console(highlight=False, markup=False, emoji=False)
    console = terminal if terminal.is_terminal else Console(highlight=False, markup=False, emoji=False, width=WIDE)
    console.print(table)
