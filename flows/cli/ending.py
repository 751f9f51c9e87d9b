"""How a command ends: what it raised in words, and its exit status (README, Exit statuses)."""

from __future__ import annotations

import os
import sys
import threading

from flows.cli.options import ACCESS, BUG, DESTINATION, DONE, SOURCE, USAGE
from flows.report.words import visible
from flows.settings.parse import SettingsError


def fall_silent() -> None:
    """End well: whoever read the output has had enough of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(DONE)


def explained(exc: Exception) -> tuple[int, str]:
    """Exit status and message of an error."""
    from extractors.errors import AccessDenied, BadQuestion, SourceError
    from extractors.files import Busy
    from flows.report.words import in_words
    from sinks.errors import BadQuery, FilterChanged, HostChanged, SinkError

    format_message = getattr(exc, "format_message", None)  # typer's usage errors, whose base class it does not export
    if format_message is not None:
        return USAGE, f"{format_message()}\n  hedgerow --help shows commands and options"
    hint = getattr(exc, "hint", "")
    text = in_words(str(exc)) if isinstance(exc, FilterChanged) else str(exc)
    text = f"{text}\n  {hint}" if hint else text
    if isinstance(exc, SettingsError | BadQuery | BadQuestion | Busy | FilterChanged | HostChanged):
        return USAGE, text
    if isinstance(exc, AccessDenied):
        return ACCESS, text
    if isinstance(exc, SourceError):
        return SOURCE, text
    if isinstance(exc, SinkError):
        return DESTINATION, text
    return BUG, f"this is a bug in hedgerow: {type(exc).__name__}: {exc}"


def fail(text: str, code: int) -> None:
    sys.stderr.write(f"hedgerow: {visible(text)}\n")
    if threading.active_count() > 1:
        # The reading thread may be in the middle of an answer; a library that is torn down under it would abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
