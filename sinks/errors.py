"""What can go wrong at the destination (exit status 12, contract.md §3)."""

from __future__ import annotations


class SinkError(Exception):
    """Base of everything a sink raises. *transient*: the same call may succeed later."""

    transient = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class GenerationConflict(SinkError):
    """Another run landed the window first; nothing of this landing was written."""

    transient = True

    def __init__(self, window: str, *, expected: int, found: int) -> None:
        super().__init__(
            f"window {window} was landed by another run: expected generation {expected}, found {found}",
            hint="another run loads this stream; run again to go on from what it landed",
        )


class DestinationBusy(SinkError):
    """Another process holds the destination."""

    transient = True


class DestinationUnusable(SinkError):
    """Not a destination of ours, of a newer version, unwritable, or damaged; nothing was changed."""


class MemoryExhausted(DestinationUnusable):
    """DuckDB needs more memory than it was given; transactions before the failing one are committed."""


class FilterChanged(SinkError):
    """The stream was landed under another event filter (exit status 2)."""


class HostChanged(SinkError):
    """The project id was landed from another host (exit status 2)."""


class BadQuery(SinkError):
    """SQL of the user that DuckDB refuses (exit status 2)."""
