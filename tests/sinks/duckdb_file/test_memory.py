"""A DuckDB file when memory ends in the middle of a landing, and rows that its ledger does not know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb
import pytest

from sinks import errors
from sinks.duckdb_file.connection import PLENTY
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Entry, Landing
from tests.sinks.test_conformance import DAY, landing, names, shifted


@pytest.fixture
def sink(tmp_path) -> DuckDBSink:
    made = DuckDBSink(tmp_path / "a.duckdb")
    made.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    return made


@pytest.mark.parametrize("first", ["a", "b"], ids=["its own", "another run's"])
def test_landing_goes_on_after_what_is_committed_when_memory_ends(first, sink, monkeypatch):
    """What this run committed before is not landed twice; what another run landed meanwhile is not taken for it."""
    land_all, given = sink._land_all, []

    def landed(landings: Sequence[Landing], *, mark: datetime | None) -> list[Entry]:
        given.append(len(landings))
        if len(given) > 1:
            return land_all(landings, mark=mark)
        land_all([landing(*first)] if first == "a" else [landing("b", "c")], mark=None)
        raise errors.MemoryExhausted("not enough memory")

    monkeypatch.setattr(sink, "_land_all", landed)
    wanted = [landing("a"), shifted(landing(), hours=1)]
    if first == "a":
        assert [entry.generation for entry in sink.land(wanted)] == [1, 1]
        assert (given, names(sink), sink._file.memory_limit) == ([2, 1], ["a"], PLENTY)
        return
    with pytest.raises(errors.GenerationConflict):
        sink.land(wanted)
    assert (given, names(sink)) == ([2, 2], ["b", "c"])


def test_change_that_no_memory_is_enough_for_is_no_success(sink):
    """It is tried with more, then the error is raised: a change that was not made is never taken for one that was."""
    tried = []

    def change(db: duckdb.DuckDBPyConnection) -> None:
        tried.append(sink._file.memory_limit)
        raise errors.MemoryExhausted("not enough memory")

    bound = sink._file.memory_limit
    with pytest.raises(errors.MemoryExhausted):
        sink._file.changed(change)

    assert (tried[0], tried[-1], sink._file.memory_limit) == (bound, PLENTY, bound)


def test_windows_without_rows_are_not_landed_over_rows_that_nobody_knows(sink):
    """Several at once, of which one holds a row without a ledger entry: refused as one window is, and nothing is changed."""
    sink.land([landing("a")])
    with duckdb.connect(str(sink.path)) as db:
        db.execute("DELETE FROM hedgerow.windows")
    sink = DuckDBSink(sink.path)

    with pytest.raises(
        errors.DestinationUnusable, match=f"from {DAY:%Y-%m-%dT%H:%MZ} on that the ledger does not know"
    ):
        sink.land([shifted(landing(), hours=hour) for hour in (0, 1)])

    assert names(sink) == ["a"]
    assert not sink.ledger(1, "events").entries
