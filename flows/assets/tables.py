"""The tables of assets at the destination: each asset committed with its content, read and replaced whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from extractors.errors import LimitsExhausted, SourceError
from extractors.http.client import Client
from extractors.lists import contents
from extractors.lists.exports import Asset
from flows.assets.growing import Written
from flows.assets.synced import Synced
from flows.landing.crossing import until_done
from flows.runs.catalog import EXPORTS
from flows.runs.wiring import now
from sinks.destination import Destination, Rows
from sinks.errors import DestinationUnusable, MemoryExhausted, TableUnreadable
from transforms import exports as export_rows
from transforms.blocks import NONE, Blocks, Empty, NotTabular

BATCH = 20  # assets that are committed together, where they have no content


class AssetTable:
    """The table of assets as it is landed, and what is to be committed to it. *growing*: names of the snapshots' tables."""

    def __init__(self, sink: Destination, project_id: int, done: Synced, growing: Container[str]) -> None:
        self._sink, self._project_id, self.done, self._growing = sink, project_id, done, growing
        held = sink.table(EXPORTS)
        self._known = export_rows.known(held.rows if held else None, project_id)
        self._pending: list[export_rows.Row] = []

    def take(self, client: Client, one: Asset, *, snapshot: str | None = None) -> None:
        """Land an asset, if it is new or has changed, with its content. *snapshot*: the one that it was ordered for."""
        before = self._known.get(one.id)
        row = export_rows.row_of(
            one.row,
            project_id=self._project_id,
            created_at=one.created_at,
            expires_after=one.expires_after,
            has_content=one.has_content,
            loaded_at=now(),
        )
        row = export_rows.merged(before, row)
        fetched = row["content_sha256"] is not None
        if not export_rows.differs(row, before) and (fetched or not one.has_content):
            return
        self.done.new += before is None
        self.done.changed += before is not None
        if one.has_content and not fetched:
            row = self._fetched(client, one, row, snapshot=snapshot)
        self._known[one.id] = row
        self._pending.append(row)
        if len(self._pending) >= BATCH or (row["content_sha256"] and not fetched):
            self.commit()

    def _fetched(self, client: Client, one: Asset, row: export_rows.Row, *, snapshot: str | None) -> export_rows.Row:
        """The row with its content, which is landed and kept; as it was, if the content did not come."""
        with ExitStack() as until_kept:
            try:
                with _writing(self._sink):
                    scratch = until_kept.enter_context(
                        tempfile.TemporaryDirectory(
                            dir=self._sink.spool_directory, prefix="content-", ignore_cleanup_errors=True
                        )
                    )
                    path = Path(scratch) / contents.safe_name(one)
                    content = contents.download(client, self._project_id, one, path)
                    table = table_of(one.id, one.export_format, content.path, self.done, snapshot=snapshot)
            except LimitsExhausted:
                raise
            except SourceError as exc:
                self.done.problems.append(f"the content of export {one.id} did not come: {exc}")
                return row
            self.done.contents += 1
            self.done.bytes += content.bytes
            if content.possibly_cut:
                self.done.problems.append(
                    f"export {one.id} has exactly {content.rows:,} rows, a limit of PostHog's: it may have been cut there"
                )
            # A snapshot's table grows before the content is kept and the asset committed: a run that ends in between is
            # followed by one that does all of it again, and finds the rows in.
            if snapshot is not None:
                self._grow(one, table, snapshot)
            address = self._sink.store_content(f"{self._project_id}/{one.id}-{content.path.name}", content.path)
        if snapshot is None and table is not None:
            self._land_table(one, table)
        return export_rows.with_content(
            row,
            path=address,
            sha256=content.sha256,
            size=content.bytes,
            rows=table.num_rows if table is not None else content.rows,
            possibly_cut=content.possibly_cut,
        )

    def _land_table(self, one: Asset, table: Blocks) -> None:
        with named(self.done, f"the table of export {one.id} was not made, its content is kept"):
            put_table(self._sink, self._project_id, f"export_{self._project_id}_{one.id}", lambda old: table)

    def commit(self) -> None:
        """Land what is pending; at least an empty table, so that queries find it."""

        def update(old: pa.Table | None) -> pa.Table | None:
            if old is not None and not self._pending:
                return None
            rows = export_rows.updated(old, self._pending)
            self._known = export_rows.known(rows, self._project_id)  # with what other runs have landed meanwhile
            return rows

        replaced(self._sink, EXPORTS, update, json=export_rows.JSON)
        self._pending = []

    def _grow(self, one: Asset, table: Blocks | None, snapshot: str) -> None:
        """Add the rows of *one* to its snapshot's growing table, if they are not in it."""
        if snapshot not in self._growing:
            self.done.notes.append(
                f"export {one.id} was ordered for snapshot {snapshot}, which is not in the settings: its content is kept"
            )
        elif table is None:
            self.done.problems.append(f"snapshot {snapshot} was not landed: export {one.id} holds no table")
        else:
            at = one.created_at or now()
            written = Written(self._sink, self._project_id, {(self._project_id, one.id): table})
            grown: pa.Table | None = None

            def grow(old: pa.Table | None) -> pa.Table | None:
                nonlocal grown
                grown = export_rows.grown(old, rows, written)
                return grown

            with named(self.done, f"snapshot {snapshot} has not grown by export {one.id}, its content is kept"):
                rows = export_rows.snapshot(table.table(), at=at, project_id=self._project_id, asset_id=one.id)
                replaced(self._sink, snapshot, grow)
                self.done.problems += written.problems(snapshot)
                self.done.snapshots += grown is not None  # a run that was killed may have got so far


def table_of(number: int, export_format: str, path: Path, done: Synced, *, snapshot: str | None) -> Blocks | None:
    """What the content of export *number* is as a table, if it is one; why it is none is said.

    A content without rows is a snapshot's all the same: of a day without any.
    """
    try:
        return export_rows.blocks_of(export_format, path)
    except NotTabular as exc:
        if snapshot is not None and isinstance(exc, Empty):
            return NONE
        said = done.problems if exc.broken else done.notes
        said.append(f"export {number} is no table: {exc}; its content is kept")
        return None


@contextmanager
def named(done: Synced, what: str) -> Iterator[None]:
    """A table that takes more memory than there is, or is damaged, keeps nothing else from landing: *what* is said."""
    try:
        yield
    except (MemoryExhausted, MemoryError, TableUnreadable) as exc:
        done.problems.append(f"{what}: {exc}")


@contextmanager
def _writing(sink: Destination) -> Iterator[None]:
    """Translates what the disk says of the place where a content waits until it is kept."""
    try:
        yield
    except OSError as exc:
        remedy = (
            "set TMPDIR to a directory with room" if sink.home is None else "make room there, and let hedgerow write"
        )
        raise DestinationUnusable(
            f"cannot write a content into {sink.spool_directory}: {exc.strerror or exc}",
            hint=f"{remedy}; what is committed stays, and the next run goes on from there",
        ) from exc


def put_table(sink: Destination, project_id: int, name: str, change: Callable[[pa.Table | None], Rows | None]) -> None:
    """As replaced, of the table of an export: with the view `export_<id>` where no other project has that id.

    *change* needs nothing of the old table, so that one that cannot be read is replaced.
    """
    asset_id = name.rpartition("_")[2]
    held = sink.table(EXPORTS)
    others = held.rows.to_pylist() if held else []
    alone = all(row["project_id"] == project_id for row in others if str(row["id"]) == asset_id)
    views = {f"export_{asset_id}": f'FROM "{name}"'} if alone else {}
    replaced(sink, name, change, views=views, made_of_contents=True)


def replaced(
    sink: Destination,
    name: str,
    change: Callable[[pa.Table | None], Rows | None],
    *,
    json: Sequence[str] = (),
    views: dict[str, str] | None = None,
    made_of_contents: bool = False,
) -> None:
    """Read the table *name*, *change* it and put it back; again, if another run was faster. None: it stays as it is.

    *made_of_contents*: kept contents have all of it, so that one that cannot be read is changed as if there were none.
    """
    version = ""

    def attempt() -> None:
        nonlocal version
        held = None
        try:
            old = sink.table(name)
            version, held = (old.version, old.rows) if old else ("", None)
        except TableUnreadable as exc:
            if not made_of_contents:
                raise
            version = exc.version
        rows = change(held)
        old = held = None  # which may be as large as what takes its place
        if rows is not None:
            sink.replace(name, rows, version=version, json=json, views=views)

    until_done(attempt, landed=lambda: version)
