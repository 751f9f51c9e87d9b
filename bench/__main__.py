"""`make bench`: what hedgerow costs beside the limit, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench.figures import Line, lines
from bench.report import table
from bench.source import serving
from bench.suites import SUITES, Suite
from bench.whole import rounds

CONSOLE = Console(width=150)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=SUITES, metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("--quick", action="store_true", help="one round of quick-1000 and quick-10000")
    parser.add_argument("--rounds", type=int, help="of each suite, instead of its own number")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    given = parser.parse_args()
    wanted = given.only or [name for name, suite in SUITES.items() if given.quick == suite.quick and suite.default]
    found: list[Line] = []
    void: list[str] = []
    for name in wanted:
        suite_lines, said = measured(name, SUITES[name], given.rounds)
        found += suite_lines
        void += said
        CONSOLE.print(table(suite_lines))
        for reason in said:
            CONSOLE.print(f"void: {name}: {reason}", style="bold")
    if given.json:
        given.json.write_text(json.dumps([asdict(line) for line in found], indent=2) + "\n", encoding="utf-8")
    sys.exit(any(line.fault for line in found))


def measured(name: str, suite: Suite, count: int | None) -> tuple[list[Line], list[str]]:
    """The lines of *suite*, and why rounds do not count."""
    with serving(suite.case.kind) as source:
        found = list(rounds(suite.case, source, suite.contestants, count=count or suite.rounds))
    return lines(name, suite.case, found), [one.void for one in found if one.void]


if __name__ == "__main__":
    main()
