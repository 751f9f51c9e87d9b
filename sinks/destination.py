"""What a destination offers beside landing: its streams, history, tables, contents, SQL. Contracts in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import duckdb
import pyarrow as pa

from sinks.sink import Sink

HISTORIES = {"evaluations": ("evaluations_current", "evaluation_results"), "annotations": ("annotations_current",)}
"""Tables of lists with history, and the views that are made with each: in a lake each has a place of its own."""


Rows: TypeAlias = pa.Table | Callable[[], pa.RecordBatchReader]
"""Rows of a table: in memory, or to be read in blocks, from the start at each call."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table beside the events, small enough to be replaced whole. *version*: which; "" before there is any."""

    rows: pa.Table
    version: str


class Destination(Sink, Protocol):
    """A sink that people name by an address: what the commands need beside landing."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def home(self) -> Path | None:
        """The directory of this machine in which it lies; None where it lies elsewhere."""

    @property
    def spool_directory(self) -> Path:
        """Where rows may wait on disk: beside the destination, or else the system's place for temporary files."""

    @property
    def runs_kept(self) -> int | None:
        """How many runs of a stream the history keeps, the newest; None: all."""

    def check(self, project_id: int, stream: str, *, host: str, event_filter: str, rebuild: bool = False) -> None:
        """What prepare would do and raise, without leaving a trace."""

    def exists(self) -> bool:
        """Whether there is anything yet."""

    def held(self) -> AbstractContextManager[None]:
        """Within the block the destination may stay open between calls that follow one another."""

    def projects(self) -> tuple[int, ...]:
        """Projects that the destination knows, in order."""

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        """Host and event filter that the stream was landed with; None for one that was never landed."""

    def tables(self) -> tuple[str, ...]:
        """Names of all tables beside the events, in order."""

    def table(self, name: str) -> Table | None:
        """The table *name*, JSON and uuids as text; None where there is none. Raises TableUnreadable for one that is
        damaged by itself."""

    def replace(
        self,
        name: str,
        rows: Rows,
        *,
        version: str,
        json: Sequence[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> None:
        """Put *rows* in the place of the version that was read, in one commit; *json* columns get that type.

        *views*: made anew with it, name → SELECT in DuckDB's SQL; a lake has them where it is queried.
        Raises GenerationConflict when another run was faster, DestinationUnusable for a table that is not hedgerow's.
        """

    def drop(self, name: str, *, views: Sequence[str] = ()) -> None:
        """Remove the table *name*, if there is one of hedgerow's, and those of *views* that are made of it."""

    def store_content(self, path: str, file: Path) -> str:
        """Store a file byte for byte and durably below the place of contents; the address it has there. Replaces what was
        there, whole."""

    def content(self, address: str) -> AbstractContextManager[BinaryIO]:
        """The content that store_content gave *address*, to be read in pieces. Raises ContentMissing."""

    def stop_waiting(self) -> None:
        """Wait for no other process any more: the run is to end."""

    def query(self, sql: str) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """The result of *sql* on the destination, which it cannot change. Raises BadQuery for SQL that DuckDB refuses."""

    def results(self, sql: str, *, alone: bool) -> AbstractContextManager[Iterator[duckdb.DuckDBPyConnection]]:
        """The result of each query in *sql*, to be read before the next. *alone*: as query, which takes one."""
