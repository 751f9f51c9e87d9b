"""Figures for people: a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bench.figures import Line

COLUMNS = (
    "contestant",
    "wall s",
    "CPU s",
    "peak MB",
    "of the limit: wall",
    "CPU",
    "requests",
    "server s",
    "load",
    "landed",
)


def table(found: Sequence[Line]) -> Table:
    """One suite."""
    title = f"{found[0].suite}: {found[0].case}; medians of {found[0].rounds}"
    made = Table(*COLUMNS, title=title, title_justify="left")
    for line in found:
        made.add_row(*cells(line))
    return made


def cells(line: Line) -> tuple[str, ...]:
    """As COLUMNS."""
    return (
        line.contestant,
        f"{line.wall_s:.2f}",
        f"{line.cpu_s:.2f}",
        f"{line.peak_mb:.0f}",
        "" if line.of_wall is None else f"{line.of_wall:.2f}",
        "" if line.of_cpu is None else f"{line.of_cpu:.2f}",
        f"{line.requests:,}",
        f"{line.server_s:.2f}",
        f"{line.load:.1f}",
        landed(line),
    )


def landed(line: Line) -> str:
    """What is there beside what the source holds, and what went wrong."""
    if line.landed_rows is None:
        return line.fault or "nothing"
    lost = [f"{line.missing:,} missing"] if line.missing else []
    lost += [f"{line.extra:,} extra"] if line.extra else []
    return ", ".join([f"{line.landed_rows:,} of {line.source_rows:,}", *lost])
