"""Rows of the window being read: in memory up to a bound, then as Arrow IPC beside the destination.

The file has no name, so that a killed process leaves nothing. A disk that is full, over its quota or read-only is told
as the destination's trouble.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa

from sinks.errors import DestinationUnusable


class Spool:
    """Appends tables of one schema and gives them back as one table, memory-mapped where they were spilled.

    Raises DestinationUnusable where the file cannot be made, written or read; then the spool is good for nothing more.
    """

    def __init__(self, directory: Path, schema: pa.Schema, *, max_memory_bytes: int) -> None:
        self._directory = directory
        self._schema = schema
        self._nothing = schema.empty_table()
        self._max_memory_bytes = max_memory_bytes
        self._reset()

    def _reset(self) -> None:
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self.num_bytes = 0
        self._file: BinaryIO | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self.num_rows = 0

    def append(self, table: pa.Table) -> None:
        if table.num_rows == 0:
            return
        self.num_rows += table.num_rows
        self._held.append(table)
        self._held_bytes += table.nbytes
        self.num_bytes += table.nbytes
        if self._held_bytes > self._max_memory_bytes:
            self._spill()

    def take(self) -> pa.Table:
        """All rows in the order they came; the spool is empty afterwards."""
        if self._writer is None or self._file is None:
            # Most windows of empty years hold nothing: they share one table.
            table = pa.concat_tables([self._nothing, *self._held]) if self._held else self._nothing
        else:
            self._spill()
            with self._on_disk():
                self._writer.close()
                self._file.flush()
                mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
                table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
                self._file.close()  # the mapping keeps the pages until the table is dropped
        self._reset()
        return table

    def _spill(self) -> None:
        with self._on_disk():
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
                self._writer = pa.ipc.new_file(pa.PythonFile(self._file, mode="w"), self._schema)
            assert self._writer is not None
            for table in self._held:
                self._writer.write_table(table)
        self._held, self._held_bytes = [], 0

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """What the disk refuses, in our words."""
        try:
            yield
        except OSError as exc:
            hint = f"free space in {self._directory}, which must be writable: rows are kept there while they are read"
            if self._directory == Path(tempfile.gettempdir()):
                hint += "; or set TMPDIR to another directory"
            raise DestinationUnusable(
                f"cannot keep rows in {self._directory}: {exc.strerror or exc}", hint=hint
            ) from exc

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what could not be written is tried once more, and nobody needs it
                self._file.close()
        self._reset()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
