"""Results as files: pages, Parquet, CSV; whole or not at all, for the user alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from extractors import files
from flows.settings.parse import SettingsError


def distinct(names: Sequence[str]) -> list[str]:
    """Column names, each once: a query may name two columns alike."""
    found: list[str] = []
    for name in names:
        number, shown = 1, name
        while shown in found:
            number += 1
            shown = f"{name}_{number}"
        found.append(shown)
    return found


def write_page(text: str, file: Path) -> None:
    """Write a page of HTML, whole or not at all, for the user alone. Raises SettingsError where that cannot be."""
    with _whole(file) as out:
        out.write(text.encode())


def write_parquet(table: pa.Table, file: Path) -> int:
    """Write *table* to *file*, whole or not at all, for the user alone; returns its rows.

    Raises SettingsError where that cannot be, also for a column that Parquet has no type for.
    """
    table = table.rename_columns(distinct(table.column_names))
    unknown = [f"{field.name} ({field.type})" for field in table.schema if not _has_parquet(field)]
    if unknown:
        raise SettingsError(
            f"Parquet has no type for {', '.join(unknown)}", hint="cast it in the query, such as column::VARCHAR"
        )
    with _whole(file) as out:
        pq.write_table(table, out, compression="zstd")
    return int(table.num_rows)


def _has_parquet(field: pa.Field) -> bool:
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
    except pa.ArrowException:
        return False
    return True


@contextmanager
def _whole(file: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of *file* in the end, and leaves the old one where anything goes wrong."""
    try:
        with files.arriving(file) as out:
            yield out
    except (OSError, files.Busy) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"cannot write {file}: {why}", hint="give the path of a file") from exc


def write_csv(names: Sequence[str], rows: Iterable[Sequence[object]], file: Path | None = None) -> None:
    """CSV to *file* or stdout, each row ended by a line feed; text that a spreadsheet would run as a formula is quoted with an
    apostrophe."""
    import csv

    with file.open("w", newline="", encoding="utf-8") if file else _stdout() as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([_harmless(name) for name in names])
        writer.writerows([_harmless(value) for value in row] for row in rows)


@contextmanager
def _stdout() -> Iterator[Any]:
    yield sys.stdout


def _harmless(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
