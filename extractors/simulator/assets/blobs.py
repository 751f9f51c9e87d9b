"""Contents of exports, of any size without holding them: one pattern, repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """*size* bytes: *pattern* over and over. *version* is part of the ETag."""

    pattern: bytes
    size: int
    version: int = 1

    @classmethod
    def of(cls, content: bytes) -> Blob:
        return cls(content or b"\0", len(content))

    @property
    def etag(self) -> str:
        digest = hashlib.sha256(self.pattern + f"{self.size} {self.version}".encode()).hexdigest()
        return f'"{digest[:32]}"'

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from *start* on, about a MiB at a time."""
        block = self.pattern * max(1, PIECE_BYTES // len(self.pattern))
        at = start
        while at < self.size:
            skipped = at % len(self.pattern)
            piece = block[skipped : skipped + self.size - at]
            yield piece
            at += len(piece)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()
