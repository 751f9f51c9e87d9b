"""How a run is written into the destination's history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sinks.destination import Destination
from sinks.sink import Run

INTERRUPTED = "interrupted"


class Report(Protocol):
    """What every run's report has."""

    @property
    def run_id(self) -> str: ...
    @property
    def project_id(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def requests(self) -> int: ...
    @property
    def problems(self) -> Sequence[str]: ...


def in_history(error: str, problems: Sequence[str]) -> str:
    """How the history of runs tells an error and problems."""
    return "; ".join(filter(None, (error, *problems)))[:1000]


def record(
    sink: Destination,
    done: Report,
    *,
    command: str,
    started_at: datetime,
    finished_at: datetime,
    error: str,
    windows: int = 0,
    rows: int,
    waited_s: float = 0.0,
) -> None:
    """Write what a run did, or the *error* that ended it, into the destination's history. Raises SinkError."""
    outcome = INTERRUPTED if error == INTERRUPTED else "failed" if error else "incomplete" if done.problems else "done"
    sink.record(
        Run(
            run_id=done.run_id,
            command=command,
            project_id=done.project_id,
            stream=done.stream,
            started_at=started_at,
            finished_at=finished_at,
            outcome=outcome,
            windows=windows,
            rows=rows,
            requests=done.requests,
            waited_s=waited_s,
            error=in_history(error, done.problems),
        )
    )
