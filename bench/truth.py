"""What was landed against what the source holds, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

ROW = "md5(concat_ws('\x1f', uuid::VARCHAR, event, distinct_id, epoch_us(timestamp), properties::VARCHAR, elements_chain))"


@dataclass(frozen=True, slots=True)
class Landed:
    """*missing*: rows of the source that are not landed as they are; *extra*: rows beyond them, copies included."""

    rows: int
    missing: int
    extra: int

    @property
    def whole(self) -> bool:
        return not self.missing and not self.extra


def compared(truth: Path, landed: str, *, attach: Path | None = None, row: str = ROW) -> Landed:
    """*landed*: what to select FROM; *attach*: a DuckDB file, known there as `it`. *row*: what makes a row equal."""
    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as db:
        db.execute("SET TimeZone = 'UTC'")
        if attach is not None:
            db.execute(f"ATTACH '{attach}' AS it (READ_ONLY)")
        db.execute(f"CREATE TEMP TABLE there AS SELECT {row} AS r FROM {landed}")
        db.execute(f"CREATE TEMP TABLE wanted AS SELECT {row} AS r FROM read_parquet('{truth}')")
        count = "SELECT (SELECT count(*) FROM there), (SELECT count(*) FROM (FROM wanted EXCEPT ALL FROM there)), "
        found = db.execute(count + "(SELECT count(*) FROM (FROM there EXCEPT ALL FROM wanted))").fetchone()
    assert found is not None
    return Landed(*found)
