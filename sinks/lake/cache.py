"""What is remembered of windows' objects: footers by version, so that 100,000 windows need not be opened (docs/lake.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from sinks.lake import window_file
from sinks.lake.journal import HOME
from sinks.lake.window_file import Footer, Unreadable
from sinks.objects.base import Missing, Objects

CACHE_CHANGES = 100  # the cache is written anew when one of so many windows has changed
CACHE_SCHEMA = pa.schema([("path", pa.string()), ("etag", pa.string()), ("rows", pa.int64()), ("footer", pa.binary())])


@dataclass(frozen=True, slots=True)
class File:
    """A window's object. *etag*: "" where it is gone, although it was landed. *rows*: -1 where its footer is not ours
    any more; then *footer* is what was remembered of it."""

    etag: str
    rows: int
    footer: Footer

    @property
    def sound(self) -> bool:
        return bool(self.etag) and self.rows >= 0


@dataclass(slots=True)
class Cache:
    """The cache of one stream, *of* that name; anyone may rebuild it."""

    objects: Objects
    of: str
    _etags: dict[str, str] | None = field(default=None, init=False)

    @property
    def path(self) -> str:
        return f"{HOME}/cache/{self.of}.parquet"

    def read(self) -> dict[str, File]:
        """What is remembered, by path; nothing where it was read before."""
        found: dict[str, File] = {}
        if self._etags is not None:
            return found
        self._etags = {}
        try:
            table = pq.read_table(pa.BufferReader(self.objects.get(self.path)[0]))
            for path, etag, rows, text in zip(*(table[name].to_pylist() for name in CACHE_SCHEMA.names), strict=True):
                self._etags[path] = etag
                found[path] = File(etag, rows, window_file.loaded(text))
        except (Missing, Unreadable, pa.ArrowException, OSError, KeyError):
            pass  # it is only a cache
        return found

    def write(self, files: Mapping[str, File]) -> None:
        """Remember *files*, if enough of them have changed since the cache was written."""
        etags = self._etags or {}
        changed = sum(etags.get(path) != file.etag for path, file in files.items())
        if changed * CACHE_CHANGES < max(1, len(files)):
            return
        columns = list(
            zip(
                *((path, file.etag, file.rows, window_file.dumped(file.footer)) for path, file in files.items()),
                strict=True,
            )
        )
        buffer = pa.BufferOutputStream()
        pq.write_table(
            pa.table([pa.array(column) for column in columns], schema=CACHE_SCHEMA), buffer, compression="zstd"
        )
        self.objects.put(self.path, buffer.getvalue().to_pybytes())
        self._etags = {path: file.etag for path, file in files.items()}
