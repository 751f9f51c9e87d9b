"""Figures for people: as cells, and as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bench.figures import Line
from bench.stages import Stage

COLUMNS = ("contestant", "wall s", "CPU s", "peak MB", "limit / wall", "limit / CPU", "requests", "server s", "load")


def table(found: Sequence[Line]) -> Table:
    """One suite."""
    first = found[0]
    started = first.suite == "starts"
    title = (
        f"{first.suite}: medians of {first.rounds}"
        if started
        else f"{first.suite}: {first.case}; medians of {first.rounds}"
    )
    made = Table(*COLUMNS, "over" if started else "landed", title=title, title_justify="left")
    for line in found:
        made.add_row(*cells(line), line.case if started else landed(line))
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
        f"{line.requests:,}" if line.requests else "",
        f"{line.server_s:.2f}" if line.requests else "",
        f"{line.load:.1f}",
    )


def landed(line: Line) -> str:
    """What is there beside what the source holds."""
    if line.landed_rows is None:
        return "failed" if line.fault else ""
    lost = [f"{line.missing:,} missing"] if line.missing else []
    lost += [f"{line.extra:,} extra"] if line.extra else []
    return ", ".join([f"{line.landed_rows:,} of {line.source_rows:,}", *lost])


STAGE_COLUMNS = ("stage", "rows", "CPU ms", "rows / CPU s", "yardstick", "× yardstick")


def stage_table(found: Sequence[Stage]) -> Table:
    """All stages."""
    made = Table(*STAGE_COLUMNS, title="stages: best of several", title_justify="left")
    for one in found:
        made.add_row(*stage_cells(one))
    return made


def stage_cells(one: Stage) -> tuple[str, ...]:
    """As STAGE_COLUMNS."""
    rate = f"{one.rows / one.cpu_s:,.0f}"
    return (
        one.name,
        f"{one.rows:,}",
        f"{one.cpu_s * 1000:.1f}",
        rate,
        one.yardstick,
        f"{one.cpu_s / one.yardstick_s:.2f}",
    )
