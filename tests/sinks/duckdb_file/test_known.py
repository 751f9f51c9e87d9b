"""A run reads a long ledger once, and sees all the same what others commit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import duckdb
import pytest

from sinks import errors
from sinks.duckdb_file import known
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Agreement, Damage, Entry, Note
from tests.sinks.duckdb_file.test_keeping import hour
from tests.sinks.test_conformance import DAY, HOUR


@pytest.fixture
def sink(tmp_path) -> DuckDBSink:
    made = DuckDBSink(tmp_path / "a.duckdb")
    made.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    made.land([hour(0, "a"), hour(1, "b")])
    return made


@pytest.fixture
def readings(monkeypatch) -> list[int]:
    """One for every time that all entries are read."""
    times: list[int] = []
    really = known.read_entries

    def counted(db: duckdb.DuckDBPyConnection, project_id: int, stream: str) -> list[Entry]:
        times.append(project_id)
        return really(db, project_id, stream)

    monkeypatch.setattr(known, "read_entries", counted)
    return times


def entries(sink: DuckDBSink) -> dict[datetime, Entry]:
    return dict(sink.ledger(1, "events").entries)


def noted(sink: DuckDBSink, start: datetime = DAY) -> None:
    assert sink.note([Note(entries(sink)[start], DAY + 5 * HOUR, Damage())]) == []


def test_what_this_run_commits_is_known_without_reading(sink, readings):
    """Landings, notes and marks: the ledger is what another reading of it finds."""
    entries(sink)
    sink.land([hour(2, "c"), hour(3)], mark=DAY + 4 * HOUR)
    noted(sink)
    held = sink.ledger(1, "events")

    assert readings == [1]
    assert held == DuckDBSink(sink.path).ledger(1, "events")
    assert held.entries[DAY].facts.damaged is not None


def test_ledger_that_was_given_stays_as_it_was(sink):
    """A run plans by what it was told."""
    before = sink.ledger(1, "events")
    sink.land([hour(2, "c")])

    assert len(before.entries) == 2
    assert len(sink.ledger(1, "events").entries) == 3


OTHERS = {
    "a landing": lambda other: other.land([replace(hour(0, "z"), entry=replace(hour(0, "z").entry, generation=1))]),
    "a note": noted,
    "a rebuild": lambda other: other.prepare(1, "events", host="https://a", event_filter="", rebuild=True),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_what_another_run_commits_is_seen(change, sink):
    """Whatever it changes."""
    entries(sink)
    change(DuckDBSink(sink.path))

    assert entries(sink) == entries(DuckDBSink(sink.path))


def test_other_streams_and_projects_are_no_change(sink, readings):
    """Each has a number of its own."""
    entries(sink)
    other = DuckDBSink(sink.path)
    other.prepare(2, "events", host="https://a", event_filter="", rebuild=False)
    made = hour(0)
    other.land([replace(made, entry=replace(made.entry, project_id=2))])
    entries(sink)

    assert readings == [1]


def by_hand(sink: DuckDBSink) -> None:
    """A change that nobody counts: an older hedgerow, or SQL."""
    with duckdb.connect(str(sink.path)) as db:
        db.execute("UPDATE hedgerow.windows SET generation = 7")


@pytest.mark.parametrize("how", ["refused landing", "note left out", "five minutes"])
def test_what_nobody_counted_is_seen_at_last(how, sink, monkeypatch):
    """After a refusal, which comes from the entry in the commit, or after five minutes."""
    old = entries(sink)[DAY]
    by_hand(sink)
    if how == "refused landing":
        with pytest.raises(errors.GenerationConflict):
            sink.land([replace(hour(0, "z"), entry=replace(hour(0, "z").entry, generation=1))])
    elif how == "note left out":
        note = Note(old, DAY + 5 * HOUR, Agreement("0:0:0:0:0/0:0", old.covered_end))
        assert sink.note([note]) == [note]
    else:
        monkeypatch.setattr(known, "KEPT_S", 0.0)

    assert {entry.generation for entry in entries(sink).values()} == {7}


def test_change_of_another_run_between_two_of_ours_is_seen(sink):
    """What is committed upon it does not hide it."""
    entries(sink)
    DuckDBSink(sink.path).land([hour(2, "theirs")])
    sink.land([hour(3, "ours")])

    assert sorted(entries(sink)) == [DAY + number * HOUR for number in range(4)]
