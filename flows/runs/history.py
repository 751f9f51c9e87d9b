"""How a run is written into the destination's history."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from flows.runs.run import Report
from flows.runs.wiring import now
from sinks.destination import Destination
from sinks.sink import Run

INTERRUPTED = "interrupted"


def in_history(error: str, problems: Sequence[str]) -> str:
    """How the history of runs tells an error and problems."""
    return "; ".join(filter(None, (error, *problems)))[:1000]


def record(sink: Destination, report: Report, *, command: str, started_at: datetime, error: str) -> None:
    sink.record(
        Run(
            run_id=str(uuid.uuid4()),
            command=command,
            project_id=report.project_id,
            stream=report.stream,
            started_at=started_at,
            finished_at=now(),
            outcome=INTERRUPTED
            if error == INTERRUPTED
            else "failed"
            if error
            else "incomplete"
            if report.problems
            else "done",
            windows=report.windows,
            rows=report.rows,
            requests=report.requests,
            waited_s=report.waited_s,
            error=in_history(error, report.problems),
        )
    )
