"""A small data set of the benchmarks, made once."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.data import DataSet, Kind, kept


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> DataSet:
    """3,000 rows of 1 KB, kept in a directory of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_DATA", str(tmp_path_factory.mktemp("bench")))
        return kept(Kind(3_000))


@pytest.fixture(scope="session")
def truth(made) -> pa.Table:
    """What a destination must hold of it."""
    return pq.read_table(made.directory / "truth.parquet")
