"""What lies among a lake's objects and is not hedgerow's: Parquet that a glob over a stream's folder would read.

By names alone: nothing is opened. A folder that belongs to no stream is its owner's.
"""

from __future__ import annotations

from sinks import errors
from sinks.destination import HISTORIES
from sinks.lake import marker, tables, window_file
from sinks.lake.beside import CONTENTS
from sinks.objects.base import Objects

WINDOWS = "events"
PLACES = (WINDOWS, "exports", *HISTORIES)
"""Folders of streams at a lake's root."""


def look_over(objects: Objects) -> None:
    """Look whether all Parquet in the folders of streams is ours. On S3 one listing. Raises DestinationUnusable."""
    foreign: list[str] = []
    windows: dict[int, str] = {}
    known: set[int | None] = set()
    for one in objects.among((marker.PROJECTS, *PLACES)):
        known.add(marker.project_of(one.path))
        if not one.path.endswith(".parquet"):
            continue
        project_id = window_file.project_of(one.path) if one.path.startswith(f"{WINDOWS}/") else None
        if project_id is not None:
            windows.setdefault(project_id, one.path)
        elif tables.named(one.path) is None and not one.path.startswith(f"{CONTENTS}/"):
            foreign.append(one.path)
    if others := windows.keys() - known:  # one of them may have been begun meanwhile
        foreign += [windows[project_id] for project_id in others - set(marker.projects_of(objects))]
    if foreign:
        raise refusal(objects, *sorted(foreign))


def refusal(objects: Objects, *paths: str) -> errors.DestinationUnusable:
    """What is said of *paths*, which no query may read."""
    more = f" (and {len(paths) - 1:,} more)" if paths[1:] else ""
    return errors.DestinationUnusable(
        f"{objects.name} holds a file that hedgerow did not write or that is damaged: {paths[0]}{more}",
        hint="move it out of the lake: every query over the lake reads it; nothing was changed",
    )
