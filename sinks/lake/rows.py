"""Rows of a lake's windows, as its objects really hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from sinks import errors, queries
from sinks.entries import Entry
from sinks.lake import window_file
from sinks.lake.cache import File
from sinks.lake.journal import AT_ONCE
from sinks.lake.window_file import FILE_SCHEMA
from sinks.objects.base import Missing, Objects
from sinks.sink import Holding

READ_ROWS, READ_OBJECTS = 100_000, 256  # what is compared at once


class Rows:
    """Reads the objects of windows, side by side."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, file: File) -> pa.Table:
        """A window's rows. Raises GenerationConflict when the object was replaced since it was looked at."""
        entry = file.footer.entry
        try:
            data, etag = self._objects.get(window_file.window_path(entry))
        except Missing:
            data, etag = b"", ""
        if etag != file.etag:
            raise conflict(entry, entry.generation + 1)
        try:
            rows = window_file.read(data)
            return rows.select(FILE_SCHEMA.names).cast(FILE_SCHEMA)
        except (window_file.Unreadable, KeyError, pa.ArrowException):
            return FILE_SCHEMA.empty_table()  # damaged: it holds no row that anyone could read

    def all_read(self, files: Sequence[File]) -> list[pa.Table]:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lake") as pool:
            return list(pool.map(self.read, files))

    @contextmanager
    def events(
        self, project_id: int, files: Sequence[File], columns: list[str] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB in memory whose table events has the rows of *files*."""
        held = [file for file in files if file.etag and file.rows != 0]
        schema = pa.schema([FILE_SCHEMA.field(name) for name in columns or FILE_SCHEMA.names])
        rows = pa.concat_tables([schema.empty_table(), *(table.select(schema.names) for table in self.all_read(held))])
        with _duckdb() as db:
            db.register("landed", rows)
            db.execute(f"CREATE VIEW events AS SELECT {project_id}::BIGINT AS project_id, * FROM landed")
            yield db

    def held(self, files: Sequence[File], start: datetime, end: datetime) -> tuple[dict[datetime | None, Holding], int]:
        """What the objects of *files* really hold of their windows, and how many rows of [start, end) of no window."""
        tables = []
        for file, rows in zip(files, self.all_read(files), strict=True):
            entry = file.footer.entry
            covers = (
                pa.array([at] * rows.num_rows, pa.timestamp("us", "UTC"))
                for at in (entry.covered_start, entry.covered_end)
            )
            low, high = covers
            window = pa.array([entry.start] * rows.num_rows, pa.timestamp("us", "UTC"))
            tables.append(rows.append_column("w", window).append_column("low", low).append_column("high", high))
        with _duckdb() as db:
            db.register("landed", pa.concat_tables(tables))
            asked = {"project": files[0].footer.entry.project_id, "start": start, "end": end}
            result = db.execute(queries.HELD, asked).fetchall()
        held: dict[datetime | None, Holding] = {
            at.astimezone(UTC): Holding(rows, digest) for at, rows, digest, _ in result
        }
        return held, sum(row[3] for row in result)


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": 2, "autoinstall_known_extensions": False}) as db:
        db.execute("SET TimeZone = 'UTC'")
        yield db


def batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Files to be read at once, by their rows: the memory of a comparison is bounded."""
    some: list[File] = []
    rows = 0
    for file in files:
        if some and (rows + max(file.rows, 0) > READ_ROWS or len(some) >= READ_OBJECTS):
            yield some
            some, rows = [], 0
        some.append(file)
        rows += max(file.rows, 0)
    if some:
        yield some


def conflict(entry: Entry, found: int) -> errors.GenerationConflict:
    return errors.GenerationConflict(f"{entry.start:%Y-%m-%dT%H:%MZ}", expected=entry.generation, found=found)


def touches(file: File, start: datetime, end: datetime) -> bool:
    return file.footer.entry.start < end and file.footer.entry.end > start
