"""Breaks of what a look-up says of a server that does not read what it is asked."""

from __future__ import annotations

from tests.mutants.breaks.kind import ASKING, Break

BREAKS = [
    Break(
        "rows that no filter kept away are listed",
        "flows/cli/events.py",
        "            _end(_nothing([*problems, WHERE_IGNORED], csv=csv))\n",
        "            problems += [WHERE_IGNORED]\n",
        f"{ASKING} -k 'ignores and where'",
    ),
    Break(
        "a selection that is not read is no problem",
        "flows/cli/events.py",
        "            problems += [SELECT_IGNORED] if chosen is None else []\n",
        "            problems += []\n",
        f"{ASKING} -k 'ignores and select'",
    ),
    Break(
        "an empty range accuses the server",
        "extractors/lists/lookups.py",
        "    if rows == []:\n",
        "    if False:\n",
        f"{ASKING} -k empty_range_shows",
    ),
    Break(
        "two forms of output are mixed",
        "flows/cli/event.py",
        "    if json_output and format_ is Format.CSV:\n",
        "    if False:\n",
        f"{ASKING} -k 'mistake and two_forms or mistake and forms'",
    ),
    Break(
        "an event compared with another project's row",
        "flows/cli/event.py",
        "WHERE uuid = '{name}' AND project_id = {at.project_id}\"",
        "WHERE uuid = '{name}'\"",
        "tests/flows/cli/test_events.py -k its_own_project",
    ),
    Break(
        "the earliest of nothing is a mistake",
        "flows/cli/events.py",
        "start = min(reader.earliest() or end, end) - timedelta(microseconds=1)",
        "start = min(reader.earliest() or end, end)",
        "tests/flows/cli/test_events.py -k since_the_earliest",
    ),
    Break(
        "the earliest behind the end is a mistake",
        "flows/cli/events.py",
        "start = min(reader.earliest() or end, end) - timedelta(microseconds=1)",
        "start = (reader.earliest() or end) - timedelta(microseconds=1)",
        "tests/flows/cli/test_events.py -k since_the_earliest",
    ),
    Break(
        "a list without a start counts back from now",
        "flows/cli/events.py",
        "start = end - DEFAULT_SPAN",
        "start = now - DEFAULT_SPAN",
        "tests/flows/cli/test_events.py -k without_since",
    ),
    Break(
        "a list without a start has two days",
        "flows/cli/events.py",
        "DEFAULT_SPAN = timedelta(hours=24)",
        "DEFAULT_SPAN = timedelta(hours=48)",
        "tests/flows/cli/test_events.py -k without_since",
    ),
]
