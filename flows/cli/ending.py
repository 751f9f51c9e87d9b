"""How a command ends: what it raised in words, and its exit status (README, Exit statuses)."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import asdict

from flows.cli.options import ACCESS, BUG, DESTINATION, DONE, INTERRUPTED, SOURCE, USAGE
from flows.report.failures import Failure, Kind, failure_of
from flows.report.words import visible

STATUSES = {
    Kind.USAGE: USAGE,
    Kind.ACCESS: ACCESS,
    Kind.SOURCE: SOURCE,
    Kind.DESTINATION: DESTINATION,
    Kind.BUG: BUG,
    Kind.INTERRUPTED: INTERRUPTED,
}


def fall_silent() -> None:
    """End well: whoever read the output has had enough of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(DONE)


def explained(exc: Exception) -> tuple[int, Failure]:
    """Exit status and words of an error."""
    from flows.cli import meant

    # Typer's usage errors, whose base class it does not export, have this.
    failure = meant.failure_of(exc) if hasattr(exc, "format_message") else failure_of(exc)
    return STATUSES[failure.kind], failure


def fail(failure: Failure) -> None:
    """Say *failure* on stderr, with --json also as the document on stdout where there is none yet, and end."""
    from flows.report import documents

    code = STATUSES[failure.kind]
    if "--json" in sys.argv and not documents.begun():
        documents.as_json({"error": asdict(failure) | {"exit_status": code}})
    sys.stderr.write(f"hedgerow: {visible(failure.text)}\n")
    if threading.active_count() > 1:
        # The reading thread may be in the middle of an answer; a library that is torn down under it would abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
