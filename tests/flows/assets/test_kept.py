"""Tables with history that an earlier version wrote: the same rows come out now, and the same table goes on."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.flows.assets.kept import make


def table(path) -> pa.Table:
    """Rows, columns and types; the version in the footer is another at each writing."""
    return pq.read_table(path).replace_schema_metadata()


def notes(path) -> dict[str, Any]:
    """What the footer says of the table."""
    return json.loads(pq.read_metadata(path).metadata[b"hedgerow"])


@pytest.mark.parametrize(("steps", "name"), [(2, "evaluations_begun"), (make.STEPS, "evaluations")])
def test_evaluations_come_out_as_before(steps, name, tmp_path):
    """Every column, every value and every view to the letter, after changes, a deletion, a return and an empty list."""
    make.synced(f"file:{tmp_path / 'lake'}", tmp_path, steps=steps)
    found, kept = tmp_path / "lake/evaluations/evaluations.parquet", make.HERE / f"{name}.parquet"

    assert table(found).equals(table(kept))
    now, before = notes(found), notes(kept)
    assert now["views"].pop("evaluations_current")  # came later
    assert [now[what] for what in ("json", "views")] == [before[what] for what in ("json", "views")]


def test_a_table_of_the_version_before_goes_on(tmp_path):
    """What an earlier version began and this one goes on with is what the earlier one would have made of it."""
    begun = tmp_path / "lake/evaluations/evaluations.parquet"

    def before(step: int) -> None:
        if step == 2:
            shutil.copy(make.HERE / "evaluations_begun.parquet", begun)

    make.synced(f"file:{tmp_path / 'lake'}", tmp_path, before=before)

    assert table(begun).equals(table(make.HERE / "evaluations.parquet"))
