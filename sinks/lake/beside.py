"""What a lake keeps beside its windows: tables that are replaced whole, and contents byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sinks import errors
from sinks.destination import Rows, Table
from sinks.lake import tables
from sinks.objects.base import Missing, Objects

CONTENTS = "exports/contents"


class Beside:
    """The part of sinks.destination.Destination that knows no windows."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    @property
    def spool_directory(self) -> Path:
        """As sinks.destination.Destination.spool_directory."""
        raise NotImplementedError

    def tables(self) -> tuple[str, ...]:
        return tuple(sorted(tables.listed(self.objects)))

    def table(self, name: str) -> Table | None:
        return tables.read(self.objects, name)

    def replace(
        self,
        name: str,
        rows: Rows,
        *,
        version: str,
        json: Sequence[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> None:
        notes = tables.notes(json, views or {})
        tables.replace(self.objects, name, rows, notes, version=version, spool=self.spool_directory)

    def drop(self, name: str, *, views: Sequence[str] = ()) -> None:
        self.objects.delete(tables.table_path(name))

    def store_content(self, path: str, file: Path) -> str:
        self.objects.put(f"{CONTENTS}/{path}", file)
        return f"{CONTENTS}/{path}"

    @contextmanager
    def content(self, address: str) -> Iterator[BinaryIO]:
        try:
            file = self.objects.open(address)
        except Missing as exc:
            raise errors.ContentMissing(f"{address} is not in {self.objects.name}") from exc
        with file:
            yield file
