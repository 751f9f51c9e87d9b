"""Several projects in one run: one that fails leaves the others to be done, and every failure is told.

What the command line and the Prefect flows share. Knows no stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from extractors.errors import LimitsExhausted, SourceError
from flows.report.words import in_words
from sinks.errors import DestinationBusy, FilterChanged, MemoryExhausted, SinkError


def each(project_ids: Iterable[int], work: Callable[[int], None]) -> dict[int, Exception]:
    """Do *work* for every project, in order; the failures by project.

    What all of them share ends it: the key's limits, a destination that is held by another process or needs more memory.
    """
    failures: dict[int, Exception] = {}
    for project_id in project_ids:
        try:
            work(project_id)
        except (SourceError, SinkError) as exc:
            if isinstance(exc, FilterChanged):
                exc.args = (in_words(str(exc)),)
            failures[project_id] = exc
            if isinstance(exc, LimitsExhausted | DestinationBusy | MemoryExhausted):
                break
    return failures
