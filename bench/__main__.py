"""`make bench`: what hedgerow costs beside the limit and its peers, as a table, as JSON and as docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from bench import page, report
from bench.figures import Line, lines
from bench.source import serving
from bench.stages import Stage, stages
from bench.starts import starts
from bench.suites import SUITES, Suite
from bench.whole import rounds

CONSOLE = Console(width=150)


@dataclass(slots=True)
class Found:
    """All that was measured. *notes*: what does not count, or is not there."""

    lines: list[Line] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def main() -> None:
    names = [*SUITES, *OTHERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="about a minute: 200,000 rows into DuckDB, one round")
    parser.add_argument("--rounds", type=int, help="of each suite, instead of its own number")
    parser.add_argument("--rows", type=int, help="of each suite, instead of its own number")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--docs", type=Path, help="write the page there, and the chart beside it")
    given = parser.parse_args()
    usual = [name for name, suite in SUITES.items() if suite.default and suite.quick == given.quick]
    found = Found()
    for name in given.only or [*usual, *([] if given.quick else OTHERS)]:
        if name in OTHERS:
            OTHERS[name](found, given.rounds)
        else:
            suite = SUITES[name] if given.rows is None else SUITES[name].of(given.rows)
            _measure(name, suite, given.rounds, found)
    for note in found.notes:
        CONSOLE.print(note, style="bold")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(_json(found), encoding="utf-8")
    if given.docs:
        page.write(given.docs, found.lines, found.stages, found.notes)
    sys.exit(any(line.fault for line in found.lines if line.contestant.startswith("hedgerow")))


def _measure(name: str, suite: Suite, count: int | None, found: Found) -> None:
    """One suite of whole runs."""
    with serving(suite.case.kind) as source:
        done = list(rounds(suite.case, source, suite.contestants, count=count or suite.rounds))
    _show(lines(name, suite.case, done), found)
    found.notes += [f"{name}, round {number}: void: {one.void}" for number, one in enumerate(done, 1) if one.void]
    found.notes += filter(None, (f"{name}: {why}" if (why := one.available()) else "" for one in suite.contestants))


def _starts(found: Found, count: int | None) -> None:
    _show(list(starts(rounds=count or 3)), found)


def _stages(found: Found, count: int | None) -> None:
    del count
    found.stages += stages()
    CONSOLE.print(report.stage_table(found.stages))


def _show(some: Sequence[Line], found: Found) -> None:
    found.lines += some
    CONSOLE.print(report.table(some))
    found.notes += [f"{line.suite}: {line.contestant}: {line.fault}" for line in some if line.fault]


def _json(found: Found) -> str:
    figures = {"machine": page.machine(), "lines": [asdict(one) for one in found.lines]}
    figures |= {"stages": [asdict(one) for one in found.stages], "notes": found.notes}
    return json.dumps(figures, indent=2) + "\n"


OTHERS: dict[str, Callable[[Found, int | None], None]] = {"starts": _starts, "stages": _stages}

if __name__ == "__main__":
    main()
