"""Contents kept byte for byte beside a DuckDB file, in `<file>.exports/`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sinks import durable, errors


def store(database: Path, path: str, file: Path) -> str:
    """As sinks.destination.Destination.store_content."""
    home = database.with_name(f"{database.name}.exports")
    with errors.writing(home):
        target = home / path
        durable.make(target.parent)
        with file.open("rb") as source, durable.arriving(target) as buffer:
            shutil.copyfileobj(source, buffer)
    return f"{home.name}/{path}"


@contextmanager
def kept(database: Path, address: str) -> Iterator[BinaryIO]:
    """As sinks.destination.Destination.content."""
    try:
        file = (database.parent / address).open("rb")
    except OSError as exc:
        raise errors.ContentMissing(f"{address} cannot be read: {exc.strerror}") from exc
    with file:
        yield file
