"""docs/benchmarks.md and its chart, written from the figures and never by hand."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from bench import peers
from bench.figures import Line
from bench.report import COLUMNS, STAGE_COLUMNS, cells, landed, stage_cells
from bench.stages import Stage

LIBRARIES = ("duckdb", "polars", "pyarrow", "msgspec", "httpx", "isal", "obstore")
COLOURS = {"limit": "#9a9a9a", "hedgerow": "#2f7d4f", "dlt": "#b9772e", "Airbyte": "#5a6fb5"}
BAR, GAP, LEFT, WIDTH = 16, 6, 190, 760
HEAD = """# Benchmarks

Written by `make bench`; not to be edited. Rounds are interleaved, each figure is the median of its rounds, every program
is a process of its own from its start to its end, and after each run what it landed is compared with the source.

- **The limit** (`bench/limit.py`) asks for the same pages one behind the other, unpacks and parses them, and keeps
  nothing. `limit / wall` and `limit / CPU` say what part of a program's time that alone would take: 1.00 is a program
  that lands for nothing.
- The server sends pages that were packed beforehand. A round in which it used more than 15 % of the limit's wall does
  not count.
- hedgerow runs as installed, its own limits of requests apart. It proves what it landed, which is part of the figure,
  and every row must be there as the source has it, or the benchmark fails.
- Peers are set up as someone would who knows them; of what they landed the ids are counted.

![CPU seconds](benchmarks.svg)
"""
REPEAT = """## How to repeat it

```console
$ make bench                                  # this page, about ten minutes on a quiet machine
$ .venv/bin/python -m bench --quick           # a minute: pages of 1,000 and 10,000 rows into DuckDB, one round
$ .venv/bin/python -m bench --only large --json figures.json
```

`--only` takes {names}.

The data (seed {seed}) are made once and kept in the user's cache, or where `BENCH_DATA` says. The peers are installed by
pip beside them; without a network they are left out. A load above the number of cores makes wall times useless: compare
CPU then.
"""


def machine() -> dict[str, str]:
    """What the figures depend on."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
    }
    return found | {name: importlib.metadata.version(name) for name in ("hedgerow", *LIBRARIES)}


def write(file: Path, found: Sequence[Line], stages: Sequence[Stage], notes: Sequence[str]) -> None:
    """The page to *file*, and the chart beside it."""
    from bench.data import SEED
    from bench.suites import SUITES

    parts = [HEAD]
    for suite, group in groupby((line for line in found if line.suite != "starts"), key=lambda line: line.suite):
        some = list(group)
        parts.append(f"## {some[0].case}\n\n`{suite}`, {_rounds(some[0].rounds)}.\n")
        parts.append(_table([*COLUMNS, "landed"], [[*cells(line), landed(line)] for line in some]))
    begun = [line for line in found if line.suite == "starts"]
    if begun:
        parts.append(f"## Starts\n\n`starts`, {_rounds(begun[0].rounds)}.\n")
        rows = [[line.contestant, line.case, *cells(line)[1:4], cells(line)[-1]] for line in begun]
        parts.append(_table(["command", "over", *COLUMNS[1:4], COLUMNS[-1]], rows))
    if stages:
        parts.append("## Stages\n\n`stages`, in one process; the yardstick has the same bytes or rows.\n")
        parts.append(_table(STAGE_COLUMNS, [stage_cells(one) for one in stages]))
    if notes:
        parts.append("## Notes\n\n" + "".join(f"- {' '.join(note.split())}\n" for note in notes))
    facts = machine() | {f"{name} (peer)": version for name, version in peers.versions().items()}
    parts.append("## Machine and versions\n\n" + _table(["", ""], list(facts.items())))
    names = ", ".join(f"`{name}`" for name in [*SUITES, "starts", "stages"])
    parts.append(REPEAT.format(names=names, seed=SEED))
    file.write_text("\n".join(parts), encoding="utf-8")
    file.with_suffix(".svg").write_text(chart(found), encoding="utf-8")


def _rounds(count: int) -> str:
    return "one round" if count == 1 else f"medians of {count} rounds"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def chart(found: Sequence[Line]) -> str:
    """CPU seconds by case, as bars; a case's longest bar is as wide as the chart, so that short runs can be read, too."""
    pieces: list[str] = []
    y = GAP
    for _, group in groupby((line for line in found if line.suite != "starts"), key=lambda line: line.suite):
        some = list(group)
        longest = max(line.cpu_s for line in some)
        pieces.append(f'<text x="0" y="{y + 13}" font-weight="bold">{some[0].case}</text>')
        y += BAR + GAP
        for line in some:
            width = max(1, round((WIDTH - LEFT - 90) * line.cpu_s / longest))
            colour = COLOURS.get(line.contestant.split()[0], "#777777")
            pieces.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{line.contestant}</text>')
            pieces.append(f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR}" fill="{colour}"/>')
            pieces.append(f'<text x="{LEFT + width + 6}" y="{y + 12}">{line.cpu_s:.2f} CPU s</text>')
            y += BAR + GAP
        y += 2 * GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
    style = 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>\n'
    return head + style + "\n".join(pieces) + "\n</svg>\n"
