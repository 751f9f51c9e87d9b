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
]
