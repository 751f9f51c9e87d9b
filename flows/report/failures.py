"""What ended a command, in words: its kind, what it says, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flows.settings.parse import SettingsError


class Kind(StrEnum):
    """Where the fault lies; each has an exit status of its own (README, Exit statuses)."""

    USAGE = "usage"
    ACCESS = "access"
    SOURCE = "source"
    DESTINATION = "destination"
    BUG = "bug"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error for people and for --json. *remedy*: how to mend it, empty where nobody knows."""

    kind: Kind
    message: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """One line, or two with the remedy."""
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


def failure_of(exc: Exception) -> Failure:
    """The error that *exc* is; of a kind that hedgerow does not know, a bug in it."""
    from extractors.errors import AccessDenied, BadQuestion, SourceError
    from extractors.files import Busy
    from flows.report.words import in_words
    from sinks.errors import BadQuery, FilterChanged, HostChanged, SinkError

    kinds: tuple[tuple[tuple[type[Exception], ...], Kind], ...] = (
        ((SettingsError, BadQuery, BadQuestion, Busy, FilterChanged, HostChanged), Kind.USAGE),
        ((AccessDenied,), Kind.ACCESS),
        ((SourceError,), Kind.SOURCE),
        ((SinkError,), Kind.DESTINATION),
    )
    text = in_words(str(exc)) if isinstance(exc, FilterChanged) else str(exc)
    for known, kind in kinds:
        if isinstance(exc, known):
            return Failure(kind, text, getattr(exc, "hint", ""))
    return Failure(Kind.BUG, f"this is a bug in hedgerow: {type(exc).__name__}: {exc}")
