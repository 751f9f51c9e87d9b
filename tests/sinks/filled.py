"""Rows of events with every column that may be null filled in some of them, as a landing has them."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa

from transforms import digest
from transforms import events as rows_of
from transforms.events import STAGED

PERSON = '{"email":"ü@example.org","n":1E5,"n":-0.0}'


def staged(raw: pa.Table, *, project_id: int, loaded_at: datetime) -> pa.Table:
    """*raw* as rows_of.from_page gives it; of every two rows the first has a person, of every three one when it was created.

    The events list supplies none of these columns; a sink must keep them all the same.
    """
    rows = rows_of.from_page(raw, project_id=project_id, loaded_at=loaded_at)
    number = pl.int_range(pl.len())
    made = pl.DataFrame(pl.from_arrow(rows)).with_columns(
        pl.when(number % 2 == 0).then(pl.concat_str(pl.lit("person of "), "uuid")).alias("person_id"),
        pl.when(number % 2 == 0).then(pl.lit(PERSON)).alias("person_properties"),
        pl.when(number % 3 == 0).then(pl.col("timestamp") + timedelta(microseconds=7)).alias("created_at"),
    )
    return made.with_columns(digest.row_hashes(made).alias("_h")).select(STAGED.names).to_arrow().cast(STAGED)
