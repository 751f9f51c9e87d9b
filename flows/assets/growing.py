"""Growing tables of snapshots: where a column becomes text, what it holds is read again from the contents.

A value of a type does not tell how it was written: a double that was `3` is shown as 3.0. So the rows of each export that
has such values are made anew, one content after the other, with those columns as the texts that stand there.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import pyarrow as pa

from flows.assets import contents
from flows.runs.catalog import EXPORTS
from sinks.destination import Destination
from transforms import columns
from transforms import exports as export_rows
from transforms.blocks import Blocks, Leave, NotTabular
from transforms.exports import Key, Row

NAMED = 5  # exports, of those with the same fault


class Written:
    """Tables → the same, with texts as they were written (transforms.exports.Tables). *fresh*: contents that are not landed
    yet; *foreign*: exports of which *sink* has another content than the one that made the rows.

    Rows whose content is not there, or not the one that was landed, stay as they are, and are named in *problems*.
    """

    def __init__(
        self,
        sink: Destination,
        project_id: int,
        fresh: Mapping[Key, Blocks] | None = None,
        foreign: Container[Key] = (),
    ) -> None:
        self._sink, self._project_id, self._fresh, self._foreign = sink, project_id, fresh or {}, foreign
        self._assets: dict[Key, Row] | None = None
        self._left: dict[Key, str] = {}

    def __call__(self, tables: Sequence[pa.Table]) -> list[pa.Table]:
        """*tables* of one growing table, whose rows stay in their order by export. Memory: one content's, beside theirs."""
        found, known = list(tables), frozenset[str]()
        # A content that is read anew may have columns that were typed by the rules of an earlier version.
        while (names := known | columns.texts_of(found)) != known:
            known = names
            found = [part for table in found for part in self._parts(table, names)]
        return found

    def problems(self, table: str) -> list[str]:
        """Whose rows in *table* could not be read again, and why."""
        whose: dict[str, list[int]] = {}
        for (_, number), why in sorted(self._left.items()):
            whose.setdefault(why, []).append(number)
        return [
            f"in the snapshot {table} a column has become text, and what it held of export {_listed(ids)} stands there as its "
            f"type is shown: {why} (hedgerow verify --repair, then hedgerow sync exports --rebuild)"
            for why, ids in whose.items()
        ]

    def _parts(self, table: pa.Table, names: frozenset[str]) -> list[pa.Table]:
        if not columns.unwritten(table, names):
            return [table]
        parts = export_rows.runs(table, self._project_id).items()
        return [self._again(key, part, names) if columns.unwritten(part, names) else part for key, part in parts]

    def _again(self, key: Key, rows: pa.Table, names: frozenset[str]) -> pa.Table:
        """The rows of an export, made of its content with *names* as texts; as they are, if that cannot be."""
        self._left.pop(key, None)
        try:
            made = self._read(key, export_rows.left_in(names))
        except (contents.NotAsLanded, NotTabular) as exc:
            self._left[key] = f"its content cannot be read: {exc}"
            return rows
        if made is None or made.num_rows != rows.num_rows:
            self._left[key] = "its content makes another number of rows now"
            return rows
        at = rows[export_rows.SNAPSHOT[0]][0].as_py()
        return export_rows.snapshot(made, at=at, project_id=key[0], asset_id=key[1])

    def _read(self, key: Key, leave: Leave) -> pa.Table | None:
        if key in self._fresh:
            return self._fresh[key].table(leave)
        if key in self._foreign:
            raise contents.NotAsLanded("another one is kept here")
        if self._assets is None:
            held = self._sink.table(EXPORTS)
            rows = held.rows.to_pylist() if held else []
            self._assets = {(row["project_id"], row["id"]): row for row in rows if row["content_sha256"] is not None}
        row = self._assets.get(key)
        if row is None:
            raise contents.NotAsLanded("it is not landed")
        with contents.as_landed(self._sink, row) as path:
            made = export_rows.blocks_of(row["export_format"], path)
        return made.table(leave) if made is not None else None


def _listed(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:NAMED]))
    return shown if len(ids) <= NAMED else f"{shown} and {len(ids) - NAMED:,} more"
