"""Files of every released format are read, migrated and gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import State
from sinks.sink import FORMAT
from tests.sinks.formats import make

FILES = sorted(make.HERE.glob("*.duckdb"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def kept(request, tmp_path) -> tuple[DuckDBSink, dict[str, object]]:
    file = Path(shutil.copy(request.param, tmp_path))
    return DuckDBSink(file), json.loads(request.param.with_suffix(".json").read_text(encoding="utf-8"))


def agrees(expected: object, found: object) -> bool:
    """Equal, where a later format may know more fields."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(name in found and agrees(value, found[name]) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(agrees, expected, found))
    return expected == found


def test_current_format_has_a_kept_file():
    """Whoever raises the format number keeps a file of it."""
    assert make.HERE / f"format{FORMAT}.duckdb" in FILES


def test_kept_file_reads_as_it_was_written(kept):
    """Without any writing opening: ledger, rows and history to the letter."""
    sink, expected = kept

    assert agrees(expected, make.described(sink))


def test_kept_file_is_migrated_without_losing_anything(kept):
    """After the first writing opening the file says the same, under the current format."""
    sink, expected = kept
    sink.prepare(1, "events", host=make.HOST, event_filter=make.FILTER, rebuild=False)

    assert agrees(expected, make.described(sink))
    with sink.query("SELECT value FROM hedgerow.meta WHERE key = 'format'") as result:
        assert result.fetchall() == [(str(FORMAT),)]


def test_landing_goes_on_from_a_kept_file(kept):
    """Generations, steps and quarantine go on: the open window is landed whole, the others stay."""
    sink, _ = kept
    sink.prepare(1, "events", host=make.HOST, event_filter=make.FILTER, rebuild=False)
    (entry,) = sink.land([make.landing(3, 5, generation=1)])

    assert (entry.generation, entry.state) == (2, State.LANDED)
    assert len(make.rows(sink)) == 6 + 3 + 5
