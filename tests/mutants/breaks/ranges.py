"""Breaks of the range that a run is for, of the one that it says, and of plans."""

from __future__ import annotations

from tests.mutants.breaks.kind import Break

RANGES = "tests/flows/runs/test_ranges.py"
BREAKS = [
    Break(
        "a first sync up to a time lands what is before now",
        "flows/landing/plan.py",
        "Bounds(midnight((end - FIRST_RANGE).date()), end)\n",
        "Bounds(midnight((now - FIRST_RANGE).date()), end)\n",
        f"{RANGES} -k first_sync",
    ),
    Break(
        "a sync that is behind is silent",
        "flows/landing/pipeline.py",
        "Planned(asked, _left(asked, wanted), in_quarantine, idle)",
        "Planned(asked, _left(asked, wanted), in_quarantine)",
        f"{RANGES} -k behind",
    ),
    Break(
        "the first event is called the end of earlier syncs",
        "flows/runs/findings.py",
        "    if not bounds.goes_on:\n",
        "    if False:\n",
        f"{RANGES} -k before_the_first_event",
    ),
    Break(
        "a rebuild says the last minutes",
        "flows/landing/outcome.py",
        "            span=_span([planned.wanted, *(fact.covers for fact in landed)]),\n",
        "            span=planned.wanted,\n",
        f"{RANGES} -k rebuild_says",
    ),
    Break(
        "a plan of events that no sync lands is silent",
        "flows/runs/estimate.py",
        "    if STREAM in included:\n",
        "    if included:\n",
        "tests/flows/cli/test_cli.py -k plan_says",
    ),
]
