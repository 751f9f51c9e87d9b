"""How rows that are held differ from rows that are shown, event by event, for people. Pure.

Equal rows belong together, then rows of one event, then rows of one uuid; what is left over is missing or extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from transforms import digest
from transforms.schema import DIGESTED

_IDENTITY = ("uuid", "event", "distinct_id")
_SAME_ROW = (*_IDENTITY, "timestamp", "hash")
_COMPARED = tuple(name for name in DIGESTED if name != "uuid")
_HELD = "_held"


@dataclass(frozen=True, slots=True)
class Named:
    """Uuids of rows, one for each, in order of time. *missing*: shown and not held; *extra*: held and not shown, or held once
    more; *differing*: held with another content, time, event or distinct id than shown."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    differing: tuple[str, ...]


def named(held: pa.Table, shown: pa.Table) -> Named:
    """What differs between two readings of one UTC date or a part of it. Both: uuid, event, distinct_id, timestamp, hash."""
    pairs, extra, missing = _paired(*(pl.DataFrame(pl.from_arrow(rows)) for rows in (held, shown)))
    return Named(*(tuple(rows["uuid"]) for rows in (missing, extra, pairs)))


def columns(held: pa.Table, shown: pa.Table, uuids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns in which the rows of *uuids* differ that `named` calls differing. Both tables: the columns of EVENTS."""
    frames = []
    for rows in (held, shown):
        some = pl.DataFrame(pl.from_arrow(rows)).filter(pl.col("uuid").is_in(list(uuids)))
        frames.append(some.with_columns(digest.row_hashes(some).alias("hash")))
    found: dict[str, tuple[str, ...]] = {}
    for pair in _paired(*frames)[0].iter_rows(named=True):
        other = {name for name in _COMPARED if pair[name] != pair[name + _HELD]} | {*found.get(pair["uuid"], ())}
        found[pair["uuid"]] = tuple(name for name in _COMPARED if name in other)
    return found


def _paired(held: pl.DataFrame, shown: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows that belong together and are not equal, and what is left over of *held* and of *shown*; in order of time."""
    held, shown = (rows.sort("timestamp", *_IDENTITY, "hash") for rows in (held, shown))
    pairs = []
    for keys in (_SAME_ROW, _IDENTITY, ("uuid",)):
        held, shown = (rows.with_columns(pl.int_range(pl.len()).over(keys).alias("_n")) for rows in (held, shown))
        on = [*keys, "_n"]
        if keys != _SAME_ROW:
            pairs.append(shown.join(held, on=on, how="inner", suffix=_HELD, coalesce=False))
        held, shown = (
            one.join(other, on=on, how="anti", maintain_order="left").drop("_n")
            for one, other in ((held, shown), (shown, held))
        )
    return pl.concat(pairs).sort("timestamp", *_IDENTITY), held, shown
