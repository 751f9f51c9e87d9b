"""Raw rows of a page → landed rows, and the rows of a window → one per event, with the sums that prove it.

Two steps: `from_page` types and hashes once per page; `settled` removes copies once per window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl
import pyarrow as pa

from transforms import digest
from transforms.digest import SourceDigest
from transforms.schema import EVENTS

MARKS = [pa.field("_n", pa.int64()), pa.field("_h", pa.uint64())]
STAGED = pa.schema([*EVENTS, *MARKS])
"""EVENTS and, per row: bytes of its key as read, and its hash as landed."""

_IDENTITY = ["uuid", "event", "distinct_id"]


@dataclass(frozen=True, slots=True)
class Settled:
    """The rows of one window, one per event, and their sums. Always source = landed + copies.

    *hashes*: identity, timestamp and hash of every row. *undecided*: events of which the fixed rule chose one of several
    copies.
    """

    rows: pa.Table
    hashes: pa.Table
    source: SourceDigest
    landed_rows: int
    landed_digest: int
    copies: int
    unmerged: bool
    undecided: int = 0


def from_page(raw: pa.Table, *, project_id: int, loaded_at: datetime) -> pa.Table:
    """Rows of one page in the schema STAGED.

    *raw*: uuid, event, distinct_id, properties, elements_chain (text) and timestamp (µs, UTC). Columns that the events
    list cannot supply are null (contract.md §4). Shape: raw.num_rows × len(STAGED).
    """
    rows = pl.DataFrame(pl.from_arrow(raw)).select(
        pl.lit(project_id, pl.Int64).alias("project_id"),
        "uuid",
        "event",
        "distinct_id",
        pl.lit(None, pl.String).alias("person_id"),
        "properties",
        pl.lit(None, pl.String).alias("person_properties"),
        "elements_chain",
        "timestamp",
        pl.lit(None, pl.Datetime("us", "UTC")).alias("created_at"),
        pl.lit(loaded_at).cast(pl.Datetime("us", "UTC")).alias("_loaded_at"),
    )
    return (
        rows.with_columns(digest.key_bytes(rows), digest.row_hashes(rows)).select(STAGED.names).to_arrow().cast(STAGED)
    )


def superseded(twice: pa.Table) -> pa.Table:
    """Of rows whose identity occurs more than once in a date, all but the latest. *twice*: identity and timestamp."""
    rows = pl.DataFrame(pl.from_arrow(twice))
    return rows.filter(pl.col("timestamp") < pl.col("timestamp").max().over(_IDENTITY)).to_arrow().cast(twice.schema)


def settled(staged: pa.Table, *, older: pa.Table | None = None, later: pa.Table | None = None) -> Settled:
    """One row per event out of all rows read for a window (schema STAGED, any order of ties, copies included).

    Equal copies become one row. Of different copies of one event the latest by time stays, of those of one time the one
    that *later* names (transforms.copies), else and among several named the one with the greatest hash; and the window is
    `unmerged` (docs/proof.md). *older*: identity and timestamp of copies whose later one is landed in another window. All
    rows lie in one UTC date.
    """
    if not staged.num_rows:
        return _NOTHING
    keys = pl.DataFrame(pl.from_arrow(staged.select([*_IDENTITY, "timestamp", "_n", "_h"]))).with_row_index()
    if keys["uuid"].n_unique() == keys.height:
        kept, read, unmerged, undecided = keys, keys, False, 0
    else:
        distinct = keys.unique([*_IDENTITY, "timestamp", "_h"], keep="first")
        read = distinct.unique([*_IDENTITY, "timestamp"], keep="first")
        ordered = _named(distinct, later).sort("timestamp", "_later", "_h")
        kept = ordered.unique(_IDENTITY, keep="last", maintain_order=True).sort("index")
        unmerged = kept.height < distinct.height
        undecided = _undecided(ordered) if unmerged else 0
    if older is not None:
        gone = pl.DataFrame(pl.from_arrow(older))
        left = kept.join(gone, on=[*_IDENTITY, "timestamp"], how="anti", maintain_order="left")
        kept, unmerged = left, unmerged or left.height < kept.height
    whole = kept.height == staged.num_rows
    rows = staged if whole else staged.take(kept["index"].cast(pl.Int64).to_arrow())
    return Settled(
        rows=rows.select(EVENTS.names),
        hashes=kept.select(*_IDENTITY, "timestamp", pl.col("_h").alias("hash")).to_arrow(),
        source=digest.source(read),
        landed_rows=kept.height,
        landed_digest=digest.landed(kept["_h"]),
        copies=read.height - kept.height,
        unmerged=unmerged,
        undecided=undecided,
    )


def _named(distinct: pl.DataFrame, later: pa.Table | None) -> pl.DataFrame:
    """*distinct* with the column _later: whether *later* names the row."""
    if later is None or not later.num_rows:
        return distinct.with_columns(pl.lit(False).alias("_later"))
    names = pl.DataFrame(pl.from_arrow(later)).unique().with_columns(pl.lit(True).alias("_later"))
    joined = distinct.join(names, on=[*_IDENTITY, "timestamp", "_h"], how="left", maintain_order="left")
    return joined.with_columns(pl.col("_later").fill_null(False))


def _undecided(rows: pl.DataFrame) -> int:
    """How many events have several contents at their latest time of which not exactly one is named. *rows*: as _named."""
    last = rows.filter(pl.col("timestamp") == pl.col("timestamp").max().over(_IDENTITY))
    events = last.group_by(_IDENTITY).agg(pl.len().alias("contents"), pl.col("_later").sum().alias("named"))
    return events.filter((pl.col("contents") > 1) & (pl.col("named") != 1)).height


_NOTHING = Settled(
    rows=EVENTS.empty_table(),
    hashes=pa.schema([EVENTS.field(name) for name in (*_IDENTITY, "timestamp")])
    .append(pa.field("hash", pa.uint64()))
    .empty_table(),
    source=SourceDigest(),
    landed_rows=0,
    landed_digest=0,
    copies=0,
    unmerged=False,
)
"""What an empty window comes to: most windows of an old project are."""


def hashed(rows: pa.Table) -> pa.Table:
    """Identity, timestamp and hash of landed rows (schema EVENTS)."""
    read = pl.DataFrame(pl.from_arrow(rows))
    return read.select(*_IDENTITY, "timestamp").with_columns(digest.row_hashes(read).alias("hash")).to_arrow()


def source_digest(rows: pa.Table) -> SourceDigest:
    """The source side's digest of landed rows (schema EVENTS), each an event of its own."""
    read = pl.DataFrame(pl.from_arrow(rows.select([*_IDENTITY, "timestamp"])))
    return digest.source(read.with_columns(digest.key_bytes(read)))


def without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Rows that are not among *others*, by identity and time."""
    left, right = (pl.DataFrame(pl.from_arrow(table)) for table in (rows, others))
    return left.join(right, on=[*_IDENTITY, "timestamp"], how="anti", maintain_order="left").to_arrow()


def nowhere(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Rows whose identity none of *others* has, at whatever time."""
    left, right = (pl.DataFrame(pl.from_arrow(table)) for table in (rows, others))
    return left.join(right, on=_IDENTITY, how="anti", maintain_order="left").to_arrow()


@dataclass(frozen=True, slots=True)
class Difference:
    """How the rows of one part differ between two readings: rows by identity and time, in order of time."""

    added: pa.Table
    deleted: pa.Table
    changed: pa.Table

    @property
    def earliest_added(self) -> datetime | None:
        at: datetime | None = self.added["timestamp"][0].as_py() if self.added.num_rows else None
        return at


def difference(before: pa.Table, after: pa.Table) -> Difference:
    """What *after* has and *before* has not, and so on. Both: uuid, event, distinct_id, timestamp, hash; one UTC date.

    A row is changed that has the same identity and another time or content.
    """
    old, new = (pl.DataFrame(pl.from_arrow(rows)).sort("timestamp", *_IDENTITY) for rows in (before, after))
    once = old.unique(_IDENTITY, keep="first", maintain_order=True)
    both = new.join(
        once.select(*_IDENTITY, pl.col("hash").alias("_was")), on=_IDENTITY, how="inner", maintain_order="left"
    )
    return Difference(
        added=new.join(old, on=_IDENTITY, how="anti", maintain_order="left").to_arrow(),
        deleted=once.join(new, on=_IDENTITY, how="anti", maintain_order="left").to_arrow(),
        changed=both.filter(pl.col("hash") != pl.col("_was")).drop("_was").to_arrow(),
    )
