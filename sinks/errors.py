"""What can go wrong at the destination (exit status 12, contract.md §3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sinks.entries import Entry


class SinkError(Exception):
    """Base of everything a sink raises. *transient*: the same call may succeed later.

    *landed*: entries that the failing call had committed before.
    """

    transient = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.landed: list[Entry] = []


class GenerationConflict(SinkError):
    """Another run landed the window first; nothing of this landing was written."""

    transient = True

    def __init__(self, window: str, *, expected: int, found: int) -> None:
        super().__init__(
            f"window {window} was landed by another run: expected generation {expected}, found {found}",
            hint="another run loads this stream; run again to go on from what it landed",
        )


class CoversLess(SinkError):
    """The landing covers less of the window than the ledger does; nothing of it was written."""

    def __init__(self, window: str, *, expected: str, found: str) -> None:
        super().__init__(
            f"window {window} is landed for {expected}, and would be covered for {found} only",
            hint="what is landed stays; nothing of this window was changed",
        )


class DestinationBusy(SinkError):
    """Another process holds the destination."""

    transient = True


class DestinationUnusable(SinkError):
    """Not a destination of ours, of a newer version, unwritable, or damaged; nothing was changed."""


class MemoryExhausted(DestinationUnusable):
    """DuckDB needs more memory than it was given; transactions before the failing one are committed."""


class TableUnreadable(DestinationUnusable):
    """The object of a table is there and cannot be read. *version*: which object, so that whoever can make it again may
    replace it."""

    def __init__(self, message: str, *, hint: str, version: str) -> None:
        super().__init__(message, hint=hint)
        self.version = version


class FilterChanged(SinkError):
    """The stream was landed under another event filter (exit status 2)."""


class HostChanged(SinkError):
    """The project id was landed from another host (exit status 2)."""


class ContentMissing(SinkError):
    """There is no content where its row says that it is kept."""


class BadQuery(SinkError):
    """SQL of the user that DuckDB refuses (exit status 2)."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What the operating system refuses while something is written at *place*: a full disk, a quota, missing rights."""
    try:
        yield
    except OSError as exc:
        raise DestinationUnusable(
            f"cannot write {place}: {exc.strerror}", hint="free space there, or check path and permissions"
        ) from exc


@contextmanager
def counting(landed: list[Entry]) -> Iterator[None]:
    """What fails says what was *landed* before."""
    try:
        yield
    except SinkError as exc:
        exc.landed = list(landed)
        raise
