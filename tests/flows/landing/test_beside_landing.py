"""What happens beside a landing, in another process, at the source or by hand: no event is lost, doubled or called verified.

Each test tells a course of events from its beginning to the next runs, through the real pipeline over HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from extractors.filters import EventFilter
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Faults, Heavy
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.landing import copy
from flows.landing.outcome import Outcome
from flows.landing.verification import Verification
from flows.runs import findings
from sinks.entries import Agreement, Damage, Entry, Landing, Note, State, Tally
from sinks.errors import FilterChanged
from sinks.lake import stream
from sinks.sink import REJECTS, Sink
from tests.flows.harness import UNLIMITED, landed, sync, truth, verify
from tests.flows.places import late, lose_a_row, meanwhile, place, reopened, steady
from transforms.schema import EVENTS

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
SILENT = replace(UNLIMITED, query_allowed=False)

in_both = pytest.mark.parametrize("kind", ["duckdb", "lake"])


class Runs:
    """Runs into one destination by the source's clock, which the test moves."""

    def __init__(self, simulator: Simulator, sink: Sink, directory: Path) -> None:
        self._at, self.sink, self._directory = simulator, sink, directory

    def sync(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        sink: Sink | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Outcome:
        url, key = self._at.url, self._at.key
        return sync(url, key, sink or self.sink, self._directory, since=since, until=until, clock=clock)[0]

    def verify(self, *, repair: bool = False) -> Verification:
        return verify(self._at.url, self._at.key, reopened(self.sink), self._directory, repair=repair)

    def states(self) -> dict[datetime, State]:
        return {start: entry.shown for start, entry in self.sink.ledger(1, "events").entries.items()}


def port(simulator: Simulator) -> int:
    return int(simulator.url.rpartition(":")[2])


@in_both
def test_copy_of_a_part_of_a_date_takes_nothing_away(kind, tmp_path):
    """A colleague read two hours of a date that the team has whole: the copy leaves the window, names it, and no row goes."""
    dataset = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE))
    team, colleague = place(kind, tmp_path / "team"), place(kind, tmp_path / "colleague")
    (tmp_path / "team").mkdir()
    (tmp_path / "colleague").mkdir()
    with serve(dataset, profile=UNLIMITED, now=lambda: FIRST + 3 * DAY) as simulator:
        Runs(simulator, team, tmp_path).sync(since=FIRST, until=FIRST + DAY)
    with serve(dataset, profile=UNLIMITED, now=lambda: FIRST + 4 * DAY, port=port(simulator)) as simulator:
        Runs(simulator, colleague, tmp_path).sync(since=FIRST + 10 * HOUR, until=FIRST + 12 * HOUR)
    done = copy.copy(1, colleague, team)

    assert (done.windows, done.narrower) == (0, [FIRST])
    assert "cover less" in str(findings.of_copy(done))
    assert landed(reopened(team), FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


@in_both
def test_copy_over_a_gap_does_not_move_the_mark(kind, tmp_path):
    """The team's next sync reads the days between its own last one and the colleague's few hours."""
    dataset = Dataset(steady(FIRST, FIRST + 5 * DAY, every=10 * MINUTE))
    (tmp_path / "team").mkdir()
    (tmp_path / "colleague").mkdir()
    team, colleague = place(kind, tmp_path / "team"), place(kind, tmp_path / "colleague")
    clock = FIRST + DAY + 6 * HOUR
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        runs = Runs(simulator, team, tmp_path)
        runs.sync(since=FIRST)
        clock = FIRST + 4 * DAY + 12 * HOUR
        runs.sync(sink=colleague, since=clock - 2 * HOUR)
        copy.copy(1, colleague, team)
        outcome = runs.sync()

    assert outcome.complete
    assert landed(team, FIRST, clock) == truth(dataset.events, FIRST, clock)


@in_both
def test_filter_that_is_replaced_under_a_run_ends_it(kind, tmp_path, monkeypatch):
    """Another run rebuilds under a new filter while this one reads: nothing of the old one lands, in a window known or new."""
    wanted = steady(FIRST, FIRST + 2 * DAY, every=HOUR, name="wanted")
    dataset = Dataset([*wanted, *steady(FIRST + MINUTE, FIRST + 2 * DAY, every=HOUR, name="other")])
    sink, narrow = place(kind, tmp_path), EventFilter(("wanted",))
    with serve(dataset, profile=UNLIMITED, now=lambda: FIRST + 9 * DAY) as simulator:
        at = simulator.url, simulator.key
        sync(*at, sink, tmp_path, since=FIRST, until=FIRST + DAY)
        before = landed(sink, FIRST, FIRST + 2 * DAY)
        other = reopened(sink)

        def rebuild() -> None:
            other.prepare(1, "events", host=simulator.url, event_filter=narrow.identity, rebuild=True)

        meanwhile(monkeypatch, sink, "land", rebuild)
        with pytest.raises(FilterChanged):
            sync(*at, sink, tmp_path, since=FIRST, until=FIRST + 2 * DAY)
        assert landed(sink, FIRST, FIRST + 2 * DAY) == before
        sync(*at, other, tmp_path, since=FIRST, until=FIRST + 2 * DAY, events=narrow)

    assert landed(other, FIRST, FIRST + 2 * DAY) == truth(wanted, FIRST, FIRST + 2 * DAY)


@in_both
def test_damage_found_beside_a_sync_stands(kind, tmp_path, monkeypatch):
    """`verify` finds it between a sync's question to the source and its note: every later run says so until the repair."""
    dataset, clock = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE)), FIRST + 2 * DAY
    sink = place(kind, tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST)
        runs.sync()

        def found() -> None:
            lose_a_row(sink)
            runs.verify()

        meanwhile(monkeypatch, sink, "note", found)
        beside, after = runs.sync(), runs.sync()
        during = runs.states()[FIRST]
        runs.verify(repair=True)
        mended = runs.sync()

    assert [outcome.damaged for outcome in (beside, after)] == [[FIRST], [FIRST]]
    assert (beside.complete, after.complete) == (False, False)
    assert during is State.DISPUTED
    assert (mended.complete, runs.states()[FIRST]) == (True, State.VERIFIED)
    assert landed(sink, FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


@pytest.mark.parametrize("kind", ["memory", "duckdb", "lake"])
def test_answer_that_met_another_note_is_decided_anew(kind, tmp_path, monkeypatch):
    """The source's answer is not lost because damage was noted beside it: both are known in the end."""
    dataset, clock = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE)), FIRST + 2 * DAY + 6 * HOUR
    sink = place(kind, tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST)
        clock += HOUR

        def found() -> None:
            other = reopened(sink)
            other.note([Note(other.ledger(1, "events").entries[FIRST], clock - MINUTE, Damage())])

        meanwhile(monkeypatch, sink, "note", found)
        outcome = runs.sync()

    entry = reopened(sink).ledger(1, "events").entries[FIRST]
    assert (entry.facts.damaged, entry.probed and entry.probed.at) == (clock - MINUTE, clock)
    assert outcome.damaged == [FIRST]


def test_answer_about_a_landing_that_was_replaced_verifies_nothing(tmp_path, monkeypatch):
    """Another run lands the window between the answer and its note: what is there now was not compared."""
    dataset, clock = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE)), FIRST + 2 * DAY + 6 * HOUR
    sink = place("memory", tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST, until=FIRST + DAY)
        clock += HOUR

        def noted(notes: Sequence[Note]) -> list[Note]:
            if not anew and any((note.known.start, type(note.finding)) == (FIRST, Agreement) for note in notes):
                again = replace(sink.ledger(1, "events").entries[FIRST], tally=Tally(0, "0:0:0:0:0", 0, "0"))
                again = replace(again, agreed=None, probed=None)
                anew.extend(sink.land([Landing(again, EVENTS.empty_table(), REJECTS.empty_table(), FIRST, DAY)]))
            return note(notes)

        anew: list[Entry] = []
        note = sink.note
        monkeypatch.setattr(sink, "note", noted)
        outcome = runs.sync()

    assert len(anew) == 1
    assert FIRST not in outcome.agreed


@in_both
def test_damage_found_while_the_source_answers_no_query_stands(kind, tmp_path):
    """Later syncs say so with and without query rights, and no answer of the source makes the window verified."""
    dataset, clock = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE)), FIRST + 2 * DAY
    sink = place(kind, tmp_path)
    with serve(dataset, profile=SILENT, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST, until=FIRST + DAY)
        lose_a_row(sink)
        found = runs.verify()
        silent = [runs.sync() for _ in range(2)]
    with serve(dataset, profile=UNLIMITED, now=lambda: clock, port=port(simulator)) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        asked = [runs.sync() for _ in range(2)]
        during = runs.states()[FIRST]
        runs.verify(repair=True)

    assert found.left == [FIRST]
    assert [outcome.damaged for outcome in (*silent, *asked)] == [[FIRST]] * 4
    assert not any(outcome.complete for outcome in (*silent, *asked))
    assert (during, runs.states()[FIRST]) == (State.DISPUTED, State.VERIFIED)
    assert landed(sink, FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


def test_one_heavy_window_leaves_the_proof_of_all_others(tmp_path):
    """Twelve days, one of which no query can count: eleven are verified, the one is named, a late event elsewhere is found."""
    end = FIRST + 12 * DAY
    dataset = Dataset(steady(FIRST, end, every=3 * HOUR))
    heavy, other = FIRST + 4 * DAY, FIRST + 7 * DAY
    faults, sink = Faults([]), place("memory", tmp_path)

    def heavier(seen: RequestSeen) -> None:
        if (seen.endpoint, seen.number) == ("query", 2):  # hours are still counted
            faults.heavy = (Heavy(start=heavy, end=heavy + DAY),)

    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: end + DAY, on_request=heavier) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        first = runs.sync(since=FIRST, until=end)
        dataset.add(late(3, other + HOUR, end + DAY))
        second = runs.sync()

    states = {start: state for start, state in runs.states().items() if start < end}
    assert {start for start, state in states.items() if state is State.VERIFIED} == set(states) - {heavy}
    assert (first.heavy, second.heavy) == ([heavy], [heavy])
    assert (first.complete, second.complete) == (True, True)
    assert {start: change.late for start, change in second.changes.items()} == {other: 3}
    assert landed(sink, FIRST, end) == truth(dataset.events, FIRST, end)


def test_source_that_shows_less_with_every_run_empties_no_warehouse(tmp_path):
    """A shard of eleven is missing, then another: at most a thousand rows go in a day, then every run says that it held."""
    days, per_day = 29, 150
    end = FIRST + days * DAY
    dataset = Dataset(steady(FIRST, end, every=DAY / per_day))
    clock, sink, outcomes = end + 2 * HOUR, place("memory", tmp_path), []
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST, until=end)
        for shard in range(6):
            clock += 15 * MINUTE
            dataset.delete({event.uuid for event in dataset.events if event.micros // 10**6 % 11 == shard})
            outcomes.append(runs.sync())

    assert days * per_day - 1_000 <= len(landed(sink, FIRST, end)) < days * per_day
    assert all(outcome.held and not outcome.complete for outcome in outcomes[3:])


@pytest.mark.parametrize("answers", [1, 99], ids=["one answer", "a whole run"])
@pytest.mark.parametrize("profile", [UNLIMITED, SILENT], ids=["counted", "not counted"])
def test_answers_of_tomorrow_cost_no_event(profile, answers, tmp_path):
    """The source's clock is a day ahead for a while: the syncs after it read on from where the last true one ended."""
    coming = steady(FIRST, FIRST + 2 * DAY, every=10 * MINUTE)
    shown, clock, sink = Dataset(), FIRST + 6 * HOUR, place("memory", tmp_path)
    left, wrong = [0], [False]

    def mistake(seen: RequestSeen) -> None:
        wrong[0] = left[0] > 0
        left[0] -= 1

    now = lambda: clock + (DAY if wrong[0] else timedelta(0))  # noqa: E731
    with serve(shown, profile=profile, now=now, on_request=mistake) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        for hour in range(9):
            clock += HOUR
            shown.add(event for event in coming if clock - (7 * HOUR if not hour else HOUR) <= event.timestamp < clock)
            left[0] = answers if hour == 2 else 0
            outcome = runs.sync(since=None if hour else FIRST)
            if hour != 2:
                assert outcome.complete
                assert landed(sink, FIRST, clock) == truth(shown.events, FIRST, clock)


def test_local_clock_days_ahead_hides_no_late_event(tmp_path):
    """Without queries windows are read again at their ages by the source's time, whatever this machine believes."""
    dataset, clock = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE)), FIRST + DAY + HOUR / 2
    sink = place("duckdb", tmp_path)
    with serve(dataset, profile=SILENT, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST, clock=lambda: clock + 5 * DAY)
        dataset.add(late(3, FIRST + 20 * HOUR, clock))
        clock += 6 * HOUR
        outcome = runs.sync(clock=lambda: clock + 5 * DAY)

    assert sum(change.late for change in outcome.changes.values()) == 3
    assert landed(sink, FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("kind", ["memory", "duckdb", "lake"])
def test_date_that_another_run_lands_during_its_search_is_searched_again(kind, tmp_path, monkeypatch):
    """The other run lands a moved event and is killed before its own search: the next sync finds the event in two places."""
    dataset, clock = Dataset(steady(FIRST, FIRST + 12 * HOUR, every=10 * MINUTE)), FIRST + 12 * HOUR + 20 * MINUTE
    sink = place(kind, tmp_path)
    with serve(dataset, profile=SILENT, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST)
        dataset.add(steady(clock - 5 * MINUTE, clock, every=MINUTE))
        other = reopened(sink)

        def lands_and_dies() -> None:
            if other is sink:
                monkeypatch.undo()
            dataset.move(dataset.events[5].uuid, clock - 2 * MINUTE)
            meanwhile(monkeypatch, other, "duplicates", killed)
            with pytest.raises(Killed):
                runs.sync(sink=other)
            if other is sink:
                monkeypatch.undo()

        def killed() -> None:
            raise Killed

        meanwhile(monkeypatch, sink, "mark_searched", lands_and_dies)
        runs.sync()
        runs.sync()

    assert landed(sink, FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


def test_two_runs_over_a_lake_that_is_slow_to_list_both_end(tmp_path, monkeypatch):
    """The other run lands eight windows first: the slower one lists the lake anew after a conflict, and goes on."""
    listings = [0]
    clock = SimpleNamespace(monotonic=lambda: 60.0 * listings[0], time=time.time, time_ns=time.time_ns)
    monkeypatch.setattr(stream, "time", clock)
    dataset = Dataset(steady(FIRST, FIRST + 8 * DAY, every=3 * HOUR))
    sink = place("lake", tmp_path)
    listed = sink.objects.list

    def slowly(*asked: object, **named: object) -> object:
        listings[0] += 1  # a minute each
        return listed(*asked, **named)

    with serve(dataset, profile=UNLIMITED, now=lambda: FIRST + 9 * DAY) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        monkeypatch.setattr(sink.objects, "list", slowly)
        end = FIRST + 8 * DAY
        meanwhile(monkeypatch, sink, "land", lambda: runs.sync(sink=reopened(sink), since=FIRST, until=end))
        outcome = runs.sync(since=FIRST, until=end)

    assert outcome.complete
    assert listings[0] < 25  # anew at once, not when the old listing is too old to be believed
    assert landed(reopened(sink), FIRST, end) == truth(dataset.events, FIRST, end)


def test_what_an_attempt_committed_stays_counted(tmp_path, monkeypatch):
    """Another run is first with the last of three days: the run counts the two that it landed itself."""
    end = FIRST + 3 * DAY
    dataset, sink = Dataset(steady(FIRST, end, every=3 * HOUR)), place("memory", tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: end + DAY) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        meanwhile(monkeypatch, sink, "land", lambda: runs.sync(since=FIRST + 2 * DAY, until=end))
        outcome = runs.sync(since=FIRST, until=end)

    assert (outcome.windows, outcome.rows, outcome.complete) == (2, 16, True)
    assert landed(sink, FIRST, end) == truth(dataset.events, FIRST, end)


def test_what_a_lost_attempt_found_is_not_told(tmp_path, monkeypatch):
    """It disputed a day; then another run landed that day right and was first with another: the second attempt tells none."""
    clock, sink, hiding = FIRST + DAY, place("memory", tmp_path), [False]
    dataset = Dataset(steady(FIRST, FIRST + 2 * DAY, every=3 * HOUR))
    hidden = late(2, FIRST + DAY + HOUR)

    def hide(seen: RequestSeen) -> None:
        """The list never shows what the queries count."""
        if hiding[0]:
            dataset.delete({event.uuid for event in hidden})
            if seen.endpoint == "query":
                dataset.add(hidden)

    with serve(dataset, profile=UNLIMITED, now=lambda: clock, on_request=hide) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST)
        clock = FIRST + 3 * DAY
        runs.sync(until=FIRST + DAY)
        dataset.add(steady(FIRST + HOUR / 2, FIRST + HOUR, every=HOUR / 2))
        land, disputed = sink.land, []

        def first_elsewhere(landings: Sequence[Landing], **named: datetime | None) -> list[Entry]:
            if hiding[0] and landings[0].entry.start == FIRST:
                hiding[0] = False
                disputed.append(runs.states()[FIRST + DAY])
                dataset.add(late(3, FIRST + DAY + HOUR)[2:])
                runs.sync()
            return land(landings, **named)

        hiding[0] = True
        monkeypatch.setattr(sink, "land", first_elsewhere)
        outcome = runs.sync()

    assert disputed == [State.DISPUTED]
    assert (outcome.disputed, outcome.complete) == ([], True)
    assert landed(sink, FIRST, clock) == truth(dataset.events, FIRST, clock)


def test_every_run_tells_what_stands_until_it_is_gone(tmp_path):
    """A microsecond that could not be read whole, and damage: told by each sync, whatever it landed itself, then no more."""
    dataset = Dataset(steady(FIRST, FIRST + 2 * DAY, every=3 * HOUR))
    dataset.add([replace(event, timestamp=FIRST + HOUR) for event in late(30, FIRST)])
    poor = replace(SILENT, page_cap=20, hogql_filter_allowed=False)
    sink, clock, told = place("duckdb", tmp_path), FIRST + 3 * DAY, []
    with serve(dataset, profile=poor, now=lambda: clock) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        runs.sync(since=FIRST, until=FIRST + 2 * DAY)
        lose_a_row(sink)
        runs.verify()
        told = [runs.sync() for _ in range(2)]
    with serve(dataset, profile=UNLIMITED, now=lambda: clock, port=port(simulator)) as simulator:
        runs = Runs(simulator, sink, tmp_path)
        answered = runs.sync()
        runs.verify(repair=True)
        after = runs.sync()

    assert [(outcome.unread, outcome.damaged) for outcome in told] == [([FIRST + HOUR], [FIRST])] * 2
    assert (answered.unread, answered.damaged) == ([], [FIRST])
    assert [outcome.complete for outcome in (*told, answered, after)] == [False, False, False, True]
    assert landed(sink, FIRST, clock) == truth(dataset.events, FIRST, clock)
