"""Kept contents, read in pieces: what their bytes are, and whether those are the ones that were landed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sinks.destination import Destination
from sinks.errors import ContentMissing, writing

PIECE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Kept:
    """What a content is: its sha256 and its size."""

    sha256: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.bytes:,} bytes with sha256 {self.sha256[:12]}…"


def landed(row: Mapping[str, Any]) -> Kept | None:
    """What the row of an export says of its content; None where none was landed."""
    return Kept(row["content_sha256"], row["content_bytes"]) if row["content_sha256"] is not None else None


def read(sink: Destination, address: str, into: IO[bytes] | None = None) -> Kept | None:
    """What really lies at *address*, copied *into* a file; None where nothing does. Memory: a piece."""
    digest, size = hashlib.sha256(), 0
    try:
        with sink.content(address) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
                if into is not None:
                    into.write(piece)
    except ContentMissing:
        return None
    return Kept(digest.hexdigest(), size)


class NotAsLanded(Exception):
    """A content is not there any more, or has other bytes than were landed: the text says which."""


@contextmanager
def as_landed(sink: Destination, row: Mapping[str, Any]) -> Iterator[Path]:
    """The content of an export that is landed, as a file of this machine. Raises NotAsLanded."""
    with writing(sink.spool_directory), tempfile.NamedTemporaryFile(dir=sink.spool_directory) as file:
        found = read(sink, row["content_path"], file)
        file.flush()
        if found != landed(row):
            raise NotAsLanded(said(found))
        yield Path(file.name)


def size(sink: Destination, address: str) -> int | None:
    """How long the content at *address* is, without reading it; None where there is none."""
    try:
        with sink.content(address) as file:
            return file.seek(0, os.SEEK_END)
    except ContentMissing:
        return None


def said(found: Kept | None) -> str:
    """What is wrong with a content that is not the one that was landed."""
    return "it is missing" if found is None else f"it is damaged, {found}"


def below(address: str) -> str:
    """The part of an address that is the same at every destination: project, and name."""
    return "/".join(address.split("/")[-2:])
