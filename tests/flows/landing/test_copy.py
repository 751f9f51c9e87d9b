"""`copy` from one destination to another: what the target has is never less afterwards, and what was left out is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from flows.landing import copy
from flows.landing.outcome import Outcome
from flows.runs import findings
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Damage, Dispute, Entry, Facts, Note
from sinks.lake.sink import LakeSink
from sinks.sink import Sink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import lose_a_row, meanwhile, place, reopened, steady
from tests.program import surroundings
from tests.sinks.test_conformance import DAY as LANDED_AT
from tests.sinks.test_conformance import landing, shifted

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
END = FIRST + 4 * DAY


@dataclass
class Two:
    """A source of copies and a target, both filled from one project by the clock of the test."""

    here: DuckDBSink | LakeSink
    there: DuckDBSink | LakeSink
    dataset: Dataset
    directory: Path
    port: int = 0

    def sync(
        self,
        sink: Sink,
        *,
        at: datetime,
        since: datetime | None = None,
        until: datetime | None = None,
        marks: bool = True,
    ) -> Outcome:
        with serve(self.dataset, profile=UNLIMITED, now=lambda: at, port=self.port) as simulator:
            self.port = int(simulator.url.rpartition(":")[2])
            return sync(simulator.url, simulator.key, sink, self.directory, since=since, until=until, marks=marks)[0]


@pytest.fixture(params=["duckdb", "lake"])
def two(request, tmp_path) -> Two:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = place("duckdb", tmp_path / "here"), place(request.param, tmp_path / "there")
    return Two(here, there, Dataset(steady(FIRST, END, every=10 * MINUTE)), tmp_path)


def test_window_that_covers_more_takes_the_place_of_a_part(two):
    """The target has an afternoon, the source the whole date: the date is whole afterwards, each event once."""
    two.sync(two.there, at=END, since=FIRST + 14 * HOUR, until=FIRST + 18 * HOUR)
    two.sync(two.here, at=END + HOUR, since=FIRST, until=FIRST + DAY)
    done = copy.copy(1, two.here, two.there)

    assert (done.windows, done.problems) == (1, {})
    assert landed(reopened(two.there), FIRST, END) == truth(two.dataset.events, FIRST, FIRST + DAY)


@pytest.mark.parametrize(("since", "until"), [(6, 24), (0, 18), (6, 18)], ids=["begins later", "ends earlier", "both"])
def test_window_of_which_the_target_read_a_part_later_is_named(since, until, two):
    """Its newer reading stays, and what it does not cover is not copied: no success, at whichever end."""
    two.sync(two.here, at=END + HOUR, since=FIRST, until=FIRST + DAY)
    two.sync(two.there, at=END + 2 * HOUR, since=FIRST + since * HOUR, until=FIRST + until * HOUR, marks=False)
    done = copy.copy(1, two.here, two.there)

    assert (done.behind, done.windows) == ([FIRST], 0)
    assert two.there.ledger(1, "events").mark is None


def test_older_reading_does_not_replace_a_newer_one(two):
    """What the target read later stays, although the copy comes after it."""
    two.sync(two.here, at=END + HOUR, since=FIRST, until=END)
    two.dataset.delete([event.uuid for event in two.dataset.events[:5]])
    two.sync(two.there, at=END + 2 * HOUR, since=FIRST, until=END)
    done = copy.copy(1, two.here, two.there)

    assert (done.windows, done.kept) == (0, 4)
    assert landed(two.there, FIRST, END) == truth(two.dataset.events, FIRST, END)


def test_empty_target_takes_the_source_s_mark(two):
    """The next sync into it goes on where the source's ended, as if it had been landed there."""
    two.sync(two.here, at=END + HOUR, since=FIRST)
    done = copy.copy(1, two.here, two.there)
    mark = two.here.ledger(1, "events").mark
    outcome = two.sync(two.there, at=END + 2 * HOUR)

    assert done.problems == {}
    assert reopened(two.there).ledger(1, "events").marks[0] == mark == END + HOUR
    assert outcome.wanted.start == mark - 10 * MINUTE
    assert landed(two.there, FIRST, END) == truth(two.dataset.events, FIRST, END)


@pytest.mark.parametrize("kinds", [("duckdb", "lake"), ("lake", "duckdb")], ids=["file to lake", "lake to file"])
def test_quarantine_is_copied_with_its_window(kinds, tmp_path):
    """With time, reason and text, once; where the source can read the rows again, they leave the target's quarantine."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, there = place(kinds[0], tmp_path / "here"), place(kinds[1], tmp_path / "there")
    here.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    first = landing("a", rejects=[LANDED_AT, LANDED_AT + MINUTE, None])
    here.land([first, shifted(landing(rejects=[None]), hours=1)], mark=LANDED_AT + 2 * HOUR)
    done = copy.copy(1, here, there)
    held = [reopened(there).rejects(entry) for entry in entries(there)]

    assert (done.windows, done.problems, reopened(there).ledger(1, "events").mark) == (2, {}, LANDED_AT + 2 * HOUR)
    assert [sorted(map(str, one.to_pylist())) for one in held] == [
        sorted(map(str, here.rejects(entry).to_pylist())) for entry in entries(here)
    ]
    assert [one.num_rows for one in held] == [entry.tally.quarantined_rows for entry in entries(there)] == [3, 1]

    mended = landing("a", "b", generation=1)
    here.land([replace(mended, entry=replace(mended.entry, read_at=LANDED_AT + HOUR))])
    assert copy.copy(1, here, there).problems == {}
    assert [reopened(there).rejects(entry).num_rows for entry in entries(there)] == [0, 1]


def entries(sink: Sink) -> list[Entry]:
    return [entry for _, entry in sorted(sink.ledger(1, "events").entries.items())]


def test_target_that_has_a_mark_keeps_it(two):
    """Also where the copied windows reach beyond it without a gap: it moves with the target's own next sync."""
    two.sync(two.there, at=FIRST + 30 * HOUR, since=FIRST)
    two.sync(two.here, at=END + HOUR, since=FIRST)
    done = copy.copy(1, two.here, two.there)

    assert done.problems == {}
    assert two.there.ledger(1, "events").mark == FIRST + 30 * HOUR
    assert two.sync(two.there, at=END + 2 * HOUR).complete
    assert landed(two.there, FIRST, END) == truth(two.dataset.events, FIRST, END)


def test_no_mark_over_a_window_that_was_left_out(two):
    """One window of the source is damaged: the target has no mark, so its own first sync reads that window."""
    two.sync(two.here, at=END + HOUR, since=FIRST)
    lose_a_row(two.here)
    done = copy.copy(1, two.here, two.there)
    before = reopened(two.there).ledger(1, "events")
    outcome = two.sync(two.there, at=END + 2 * HOUR)

    assert (done.damaged, before.mark, FIRST in before.entries) == ([FIRST], None, False)
    assert outcome.complete
    assert landed(two.there, FIRST, END) == truth(two.dataset.events, FIRST, END)


def test_copy_that_would_remove_too_much_leaves_the_window(two):
    """Most of an old date is gone in the source: the target keeps it, no fact and no mark is written there, and it is named."""
    two.sync(two.there, at=END + DAY, since=FIRST, until=END, marks=False)
    doomed = [event.uuid for event in two.dataset.events if event.timestamp < FIRST + 16 * HOUR]
    whole = truth(two.dataset.events, FIRST, END)
    two.dataset.delete(doomed)
    two.sync(two.here, at=END + 2 * DAY, since=FIRST, until=END)
    done = copy.copy(1, two.here, two.there)

    assert (done.windows, done.held) == (3, [FIRST])
    assert "too many rows" in str(findings.of_copy(done))
    assert landed(reopened(two.there), FIRST, END) == whole
    assert reopened(two.there).ledger(1, "events").mark is None
    assert {entry.facts for entry in two.there.ledger(1, "events").entries.values()} == {Facts()}


def test_copy_judges_by_the_latest_reading_of_either_side(two):
    """A date is old although some window of the target was read before it: half of it may not go."""
    last = END - DAY
    two.sync(two.there, at=FIRST + 26 * HOUR, since=FIRST, until=FIRST + DAY, marks=False)
    two.sync(two.there, at=END + 2 * HOUR, since=last, until=END, marks=False)
    two.dataset.delete([event.uuid for event in two.dataset.events if event.timestamp >= last][:100])
    two.sync(two.here, at=END + 10 * DAY, since=last, until=END)

    assert copy.copy(1, two.here, two.there).held == [last]


def test_window_that_another_run_lands_during_the_copy_is_left_to_it(two, monkeypatch):
    """A sync into the target is faster with two of four windows, at the last look: they are named, the others are copied."""
    monkeypatch.setattr(copy, "ROUNDS", 1)
    two.sync(two.here, at=END + HOUR, since=FIRST, until=END)
    other = reopened(two.there)
    two.dataset.delete([two.dataset.events[3].uuid])

    def lands_first() -> None:
        two.sync(other, at=END + 2 * HOUR, since=FIRST, until=FIRST + 2 * DAY)

    meanwhile(monkeypatch, two.there, "land", lands_first)
    done = copy.copy(1, two.here, two.there)

    assert (done.windows, done.moved_on) == (2, [FIRST, FIRST + DAY])
    assert "landed by another run" in str(findings.of_copy(done))
    assert landed(reopened(two.there), FIRST, END) == truth(two.dataset.events, FIRST, END)


@pytest.mark.parametrize("side", ["source", "target"])
def test_what_another_run_lands_during_the_copy_is_looked_at_again(side, two, monkeypatch):
    """A sync into the target, or into the source between its ledger and its rows: all of it is there, nothing is named."""
    two.sync(two.here, at=END + HOUR, since=FIRST, until=END)
    sink, step = (two.here, "audit") if side == "source" else (two.there, "land")
    other = reopened(sink)

    def other_run() -> None:
        two.dataset.delete([two.dataset.events[3].uuid])
        two.sync(other, at=END + 2 * HOUR, since=FIRST, until=END)

    meanwhile(monkeypatch, sink, step, other_run)
    done = copy.copy(1, two.here, two.there)

    assert done.problems == {}
    assert landed(reopened(two.there), FIRST, END) == truth(two.dataset.events, FIRST, END)


def test_only_the_window_in_the_way_is_left_out(two, monkeypatch):
    """Windows without rows are committed many at a time: one that another run lands first keeps none of the others."""
    monkeypatch.setattr(copy, "ROUNDS", 1)
    two.dataset.delete([event.uuid for event in two.dataset.events])
    two.sync(two.here, at=END + HOUR, since=FIRST, until=END)
    other = reopened(two.there)
    meanwhile(
        monkeypatch,
        two.there,
        "land",
        lambda: two.sync(other, at=END + 2 * HOUR, since=FIRST + DAY, until=FIRST + 2 * DAY),
    )
    done = copy.copy(1, two.here, two.there)

    assert (done.moved_on, done.windows) == ([FIRST + DAY], len(two.here.ledger(1, "events").entries) - 1)


def test_copied_facts_are_told(two):
    """A window that its source calls in dispute is no sound one in the target: the copy says so and the target, too."""
    two.sync(two.here, at=END + HOUR, since=FIRST, until=END)
    known = two.here.ledger(1, "events").entries[FIRST]
    two.here.note([Note(known, END, Dispute("9:9:9:9:9/9:9"))])
    done = copy.copy(1, two.here, two.there)

    assert done.standing == [FIRST]
    assert "in dispute where they come from" in str(findings.of_copy(done))
    assert reopened(two.there).ledger(1, "events").entries[FIRST].facts == Facts(disputed=END)


def test_copy_carries_no_damage_that_was_healed_since(two):
    """The source's ledger still says damaged, its rows are sound: the target is not called damaged, and stays so."""
    two.sync(two.here, at=END + HOUR, since=FIRST, until=END)
    entry = two.here.ledger(1, "events").entries[FIRST]
    two.here.note([Note(entry, END + HOUR, Damage())])
    done = copy.copy(1, two.here, two.there)
    again = copy.copy(1, two.here, two.there)

    assert (done.problems, again.windows) == ({}, 0)
    assert reopened(two.there).ledger(1, "events").entries[FIRST].facts.damaged is None


def test_removals_of_a_copy_count_together_over_many_days(tmp_path):
    """Each date was read on another day, and a little less than half of each is gone: the copy stops all the same."""
    dates = 8
    dataset = Dataset(steady(FIRST, FIRST + dates * DAY, every=4 * MINUTE))
    made = Two(place("duckdb", tmp_path), DuckDBSink(tmp_path / "other.duckdb"), dataset, tmp_path)
    made.sync(made.there, at=FIRST + 9 * DAY, since=FIRST, until=FIRST + dates * DAY)
    dataset.delete([event.uuid for number, event in enumerate(dataset.events) if number % 20 < 9])
    for number in range(dates):
        day = FIRST + number * DAY
        made.sync(made.here, at=FIRST + (10 + 2 * number) * DAY, since=day, until=day + DAY, marks=False)
    before = made.there.rows(1, FIRST, FIRST + dates * DAY).num_rows
    gone = before - len(dataset)
    done = copy.copy(1, made.here, made.there)

    assert gone > 1_000
    assert done.held
    assert made.there.rows(1, FIRST, FIRST + dates * DAY).num_rows >= before - 1_000


def test_only_the_projects_that_are_named_are_copied(tmp_path, main):
    """Of a destination that holds several."""
    here = DuckDBSink(tmp_path / "here.duckdb")
    for project_id in (1, 2, 3):
        made = landing()
        here.prepare(project_id, "events", host="https://a", event_filter="", rebuild=False)
        here.land([replace(made, entry=replace(made.entry, project_id=project_id))])
    files = ["--from", f"duckdb:{tmp_path / 'here.duckdb'}", "--to", f"duckdb:{tmp_path / 'there.duckdb'}"]
    done = main(["copy", *files, "--project", "1,3"], tmp_path, surroundings(tmp_path))

    assert (done.returncode, DuckDBSink(tmp_path / "there.duckdb").projects()) == (0, (1, 3)), done.stderr
