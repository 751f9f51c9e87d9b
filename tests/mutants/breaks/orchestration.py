"""Breaks of the flows under Prefect."""

from __future__ import annotations

from tests.mutants.breaks.kind import ADAPTER, EXIT, ORDER, Break

BREAKS = [
    Break(
        "work left out while Prefect is away",
        "flows/orchestration/adapter.py",
        "    if not begun:\n        work()\n",
        "",
        f"{ADAPTER} -k done_once",
    ),
    Break(
        "error swallowed by the task",
        "flows/orchestration/adapter.py",
        "    if raised:\n        raise raised[0]\n",
        "",
        f"{ADAPTER} -k error_of_the_work",
    ),
    Break(
        "every problem told every time",
        "flows/orchestration/artifacts.py",
        '    return last is not None and last.error == in_history("", told.problems)\n',
        "    return False\n",
        f"{ADAPTER} -k told_once",
    ),
    Break(
        "parts take everything",
        "flows/orchestration/parts.py",
        "SHARE = 0.75",
        "SHARE = 1.0",
        f"{ADAPTER} -k equal_shares",
    ),
    Break(
        "any number of parts",
        "flows/orchestration/parts.py",
        "    if workers > most:\n",
        "    if workers > 64:\n",
        f"{ADAPTER} -k more_parts",
    ),
    Break(
        "incomplete run completes",
        "flows/orchestration/adapter.py",
        "    if not lines:\n",
        "    if not failures:\n",
        "tests/flows/runs/test_projects.py -k every_problem",
    ),
    Break(
        "accepted deletions stop at the flow",
        "flows/evaluations.py",
        "                    accept_deletions=accept_deletions,\n",
        "",
        f"{ORDER} -k accepted_in_prefect",
    ),
    Break(
        "a part with a hole is done",
        "flows/backfill.py",
        "        wrong = parts.missing(settings, cut) | wrong\n",
        "",
        f"{EXIT} -k hole",
    ),
    Break(
        "no part is ever missing",
        "flows/orchestration/parts.py",
        "        if gaps:\n",
        "        if False:\n",
        f"{EXIT} -k hole",
    ),
    Break(
        "what is missing of one project is looked for in another",
        "flows/orchestration/parts.py",
        "loads.uncovered(settings, part.project_id,",
        "loads.uncovered(settings, 1,",
        f"{EXIT} -k hole",
    ),
    Break(
        "a live run taken for dead",
        "flows/orchestration/automations.py",
        "    if within < WITHIN:",
        "    if False:",
        "tests/flows/orchestration/test_adapter.py -k live_run",
    ),
    Break(
        "filter changes and Prefect's sync never rebuilds",
        "flows/events.py",
        "            rebuild=rebuild,",
        "            rebuild=False,",
        "tests/flows/orchestration/test_adapter.py -k reaches_the_work",
    ),
    Break(
        "Prefect's sync of exports waits for ever",
        "flows/exports.py",
        "max_wait=timedelta(minutes=max_wait_minutes)",
        "max_wait=None",
        "tests/flows/orchestration/test_adapter.py -k reaches_the_work",
    ),
    Break(
        "Prefect's verification never repairs",
        "flows/verify.py",
        "                repair=repair,",
        "                repair=False,",
        "tests/flows/orchestration/test_adapter.py -k reaches_the_work",
    ),
    Break(
        "a flow's start is looked at when it runs",
        "flows/orchestration/parameters.py",
        "    return text if text.strip() == EARLIEST else _time(text)",
        "    return text",
        "tests/flows/orchestration/test_adapter.py -k parameters_are_checked",
    ),
    Break(
        "a part takes proof for accepted deletions",
        "flows/backfill.py",
        "share, destination, accept_deletions, require_proof))",
        "share, destination, require_proof, accept_deletions))",
        f"{ADAPTER} -k reaches_the_work",
    ),
    Break(
        "a gap before a run's range is told by it",
        "flows/orchestration/artifacts.py",
        "since < gap.end)",
        "since <= gap.end)",
        "tests/flows/orchestration/test_adapter.py -k told_once",
    ),
    Break(
        "a gap behind a run's range is told by it",
        "flows/orchestration/artifacts.py",
        "gap.start < until and",
        "gap.start <= until and",
        "tests/flows/orchestration/test_adapter.py -k told_once",
    ),
]
