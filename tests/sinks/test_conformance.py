"""One suite for every sink: the contract of sinks/sink.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from extractors.http.decode import RAW_ROWS, REJECTS
from sinks import errors
from sinks.duckdb_file import connection
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import (
    Agreed,
    Agreement,
    Base,
    Changes,
    Damage,
    Dispute,
    Entry,
    Facts,
    Landing,
    Note,
    Probed,
    Removal,
    Sound,
    State,
    Stop,
    Tally,
)
from sinks.lake.sink import LakeSink
from sinks.ledger import marks_kept
from sinks.memory import MemorySink
from sinks.queries import AUDIT, SUM_SQL
from sinks.sink import Change, Holding, Run, Sink
from tests import stores
from tests.sinks import filled
from transforms import events as rows_of

DAY = datetime(2026, 1, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)
ODD = ['{"big":123456789012345678901234567890,"z":-0.0}', '{"a":1,"a":2}', '{"nul":"a\\u0000b","e":1E5}', "{}"]


@pytest.fixture(params=["memory", "duckdb", "lake", "moto", pytest.param("localbucket", marks=pytest.mark.long)])
def sink(request, tmp_path) -> Sink:
    made: Sink
    match request.param:
        case "memory":
            made = MemorySink()
        case "duckdb":
            made = DuckDBSink(tmp_path / "a.duckdb", lock_timeout_s=0.3)
        case "lake":
            made = stores.local_lake(tmp_path / "lake")
        case server:
            made = stores.s3_lake(request.getfixturevalue(server))
    made.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    return made


def landing(
    *names: str,
    generation: int = 0,
    replace_start: datetime = DAY,
    state: State = State.LANDED,
    first: int = 0,
    rejects: Sequence[datetime | None] = (),
    project_id: int = 1,
) -> Landing:
    """A landing of the window [DAY, DAY + 1 h) with one row per name, a minute apart from minute *first* on.

    *rejects*: times of rows that could not be typed.
    """
    raw = pa.table(
        [
            [f"00000000-0000-4000-8000-{number + first:012x}" for number in range(len(names))],
            list(names),
            ["d"] * len(names),
            [DAY + timedelta(minutes=number + first) for number in range(len(names))],
            [ODD[number % len(ODD)] for number in range(len(names))],
            [""] * len(names),
        ],
        schema=RAW_ROWS,
    )
    settled = rows_of.settled(filled.staged(raw, project_id=project_id, loaded_at=DAY))
    source_rows, quarantined = len(names) + len(rejects), len(rejects)
    tally = Tally(source_rows, str(settled.source), len(names), str(settled.landed_digest), quarantined)
    entry = Entry(project_id, "events", DAY, DAY + HOUR, DAY, DAY + HOUR, state, DAY, tally, generation)
    return Landing(entry, settled.rows, rejected(rejects), replace_start, HOUR)


def rejected(times: Sequence[datetime | None]) -> pa.Table:
    """Rows that could not be typed, each with its time as reason and text."""
    texts = [str(at) for at in times]
    return pa.table([list(times), texts, texts], schema=REJECTS)


def shifted(made: Landing, *, hours: int) -> Landing:
    """The landing some hours later on its date, without rows."""
    by = timedelta(hours=hours)
    entry = made.entry
    moved = replace(
        entry,
        start=entry.start + by,
        end=entry.end + by,
        covered_start=entry.covered_start + by,
        covered_end=entry.covered_end + by,
        tally=Tally(made.rejects.num_rows, "0:0:0:0:0", 0, "0", made.rejects.num_rows),
    )
    return replace(made, entry=moved, rows=made.rows.slice(0, 0), replace_start=made.replace_start + by)


def opened_anew(sink: Sink) -> Sink:
    """The same destination, as another process has it."""
    match sink:
        case DuckDBSink():
            return DuckDBSink(sink.path)
        case LakeSink():
            return LakeSink(sink.objects)
    return sink


def names(sink: Sink) -> list[str]:
    return sink.rows(1, DAY, DAY + HOUR)["event"].to_pylist()


def test_landed_rows_come_back_to_the_letter(sink):
    """Digits, duplicate keys and escapes of properties stay, and every column; the ledger has the entry, step, generation."""
    made = landing("a", "b", "c", "d")
    (entry,) = sink.land([made])

    assert sink.rows(1, DAY, DAY + HOUR)["properties"].to_pylist() == ODD
    assert sink.rows(1, DAY, DAY + HOUR).select(made.rows.schema.names).to_pylist() == made.rows.to_pylist()
    ledger = sink.ledger(1, "events")
    assert ledger.entries == {DAY: entry}
    assert entry.generation == 1
    assert ledger.steps == {DAY.date(): HOUR}


@pytest.mark.parametrize("whole_at", [None, DAY + HOUR / 4], ids=["older", "read whole"])
def test_open_window_comes_back_with_its_base(whole_at, sink):
    """What was compared of it, up to when, and when it was last read from its start, by which it is read again."""
    made = landing("a", "b", rejects=[DAY + HOUR / 3], state=State.OPEN)
    base = Base(DAY + HOUR / 2, replace(made.entry.tally, landed_rows=1, copies=1), whole_at)
    (entry,) = sink.land([replace(made, entry=replace(made.entry, base=base))])

    assert entry.base == base
    assert opened_anew(sink).ledger(1, "events").entries == {DAY: entry}


def test_landing_again_replaces(sink):
    """The second landing of a window replaces the first."""
    sink.land([landing("a", "b")])
    sink.land([landing("c", generation=1)])

    assert names(sink) == ["c"]


def test_empty_window_takes_rows_when_landed_again(sink):
    """What arrived since comes in, and the step and entry follow."""
    sink.land([landing()])
    sink.land([landing("a", generation=1)])

    assert names(sink) == ["a"]


@pytest.mark.parametrize("hours", [(5,), (4, 5)], ids=["one window", "several without rows"])
def test_date_that_another_run_cut_otherwise_is_a_conflict(sink, hours):
    """Its windows have rows where this run's would be: planned anew, and not called rows that nobody knows."""
    made = landing("a", first=5 * 60 + 3)
    whole = replace(made.entry, end=DAY + 24 * HOUR, covered_end=DAY + 24 * HOUR)
    sink.land([replace(made, entry=whole, step=24 * HOUR)])

    with pytest.raises(errors.GenerationConflict, match=r"\(step\)"):
        sink.land([shifted(landing(), hours=hour) for hour in hours])

    assert list(sink.ledger(1, "events").entries) == [DAY]


def test_stale_writer_changes_nothing(sink):
    """A writer that expects an old generation gets an error; rows and ledger are as before."""
    sink.land([landing("a")])
    before = sink.ledger(1, "events")

    with pytest.raises(errors.GenerationConflict):
        sink.land([landing("b")])

    assert names(sink) == ["a"]
    assert sink.ledger(1, "events") == before


def test_tail_keeps_earlier_rows(sink):
    """Landing from replace_start on keeps what lies before it."""
    sink.land([landing("a", "b", "c", state=State.OPEN)])
    sink.land([landing("x", generation=1, replace_start=DAY + timedelta(minutes=1), first=1, state=State.OPEN)])

    assert names(sink) == ["a", "x"]


MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
EDGE = 10 * MINUTE  # into the window: where a tail begins
BEFORE, FIRST, LATER, UNKNOWN = EDGE - MICROSECOND, EDGE, EDGE + MINUTE, None
WHOLE, TAIL = timedelta(0), EDGE
QUARANTINES: dict[str, tuple[list[timedelta | None], timedelta, list[timedelta | None], list[timedelta | None]]] = {
    "whole: what is read now": ([BEFORE, LATER], WHOLE, [LATER], [LATER]),
    "whole and none: none": ([BEFORE, LATER], WHOLE, [], []),
    "the first ones": ([], WHOLE, [FIRST], [FIRST]),
    "without a time: once": ([UNKNOWN], WHOLE, [UNKNOWN], [UNKNOWN]),
    "tail: those before it stay": ([BEFORE], TAIL, [LATER], [BEFORE, LATER]),
    "tail without any: those before it stay": ([BEFORE], TAIL, [], [BEFORE]),
    "tail: one at its edge is read again": ([FIRST, LATER], TAIL, [FIRST], [FIRST]),
    "tail: on both sides of its edge": ([BEFORE, FIRST], TAIL, [FIRST], [BEFORE, FIRST]),
    "tail: without a time once": ([UNKNOWN, BEFORE], TAIL, [UNKNOWN], [BEFORE, UNKNOWN]),
    "tail: without a time, and not read again": ([UNKNOWN], TAIL, [], []),
}


def quarantining(hour: int, times: Sequence[timedelta | None]) -> Landing:
    """A landing of one hour without rows; *times*: of its rejects, into the hour."""
    start = DAY + hour * HOUR
    return shifted(landing(state=State.OPEN, rejects=[at if at is None else start + at for at in times]), hours=hour)


def test_quarantine_is_replaced_with_the_rows(sink):
    """A landing takes the rejects of the part that it replaces, and those without a time, and puts its own: none doubles.

    Each case has an hour of its own, and keeps its rejects whatever the neighbours do.
    """
    first = [quarantining(hour, case[0]) for hour, case in enumerate(QUARANTINES.values())]
    again = []
    for entry, (hour, (_, part, after, left)) in zip(sink.land(first), enumerate(QUARANTINES.values()), strict=True):
        made = quarantining(hour, after)
        tally = quarantining(hour, left).entry.tally
        known = replace(made.entry, generation=entry.generation, tally=tally)
        again.append(replace(made, entry=known, replace_start=entry.start + part))
    landed = sink.land(again)

    found = {name: told_rejects(sink, entry) for name, entry in zip(QUARANTINES, landed, strict=True)}
    assert found == {
        name: sorted(quarantining(hour, case[3]).rejects["text"].to_pylist())
        for hour, (name, case) in enumerate(QUARANTINES.items())
    }


def told_rejects(sink: Sink, entry: Entry) -> list[str]:
    rejects = sink.rejects(entry).to_pylist()
    assert all(str(one["at"]) == one["reason"] == one["text"] for one in rejects)
    return sorted(one["text"] for one in rejects)


def of_project(sink: Sink, project_id: int) -> list[object]:
    """All that a sink says of a project."""
    ledger = sink.ledger(project_id, "events")
    day, after = DAY - HOUR, DAY + 25 * HOUR
    return [
        ledger,
        sink.rows(project_id, day, after).to_pylist(),
        sorted(map(str, sink.hashes(project_id, day, after).to_pylist())),
        [told_rejects(sink, entry) for entry in ledger.entries.values()],
        sink.audit(project_id, "events", day, after),
        sink.changes(project_id, "events"),
        sink.runs(project_id, limit=9),
        sorted(map(str, sink.duplicates(project_id, "events", [DAY.date()]).to_pylist())),
    ]


def full(project_id: int, *, generation: int = 0) -> list[Landing]:
    """Two windows with one event in both, and all that a landing can carry."""
    one = replace(
        landing("a", "b", generation=generation, rejects=[DAY, None], project_id=project_id),
        changes=Changes(1, 2, 3, HOUR),
        removed=1,
    )
    other = landing("a", "c", generation=generation, project_id=project_id)
    by = [pa.scalar(HOUR, pa.duration("us"))]
    moved_rows = other.rows.set_column(8, "timestamp", pc.add(other.rows["timestamp"], *by))
    rows = moved_rows.cast(other.rows.schema)
    digest = sum(rows_of.hashed(rows)["hash"].to_pylist()) % 2**64
    later = shifted(other, hours=1)
    tally = replace(other.entry.tally, landed_digest=str(digest))
    return [one, replace(later, entry=replace(later.entry, tally=tally), rows=rows)]


def everything(sink: Sink, project_id: int) -> None:
    """All that can be done to a stream, each thing once."""
    sink.prepare(project_id, "events", host="https://a", event_filter="", rebuild=False)
    for number, made in enumerate(full(project_id), start=1):
        sink.land([made], mark=DAY + number * HOUR)
    entries = sink.ledger(project_id, "events").entries.values()
    sink.note([agreement(entry) for entry in entries])
    sink.note([Note(entry, DAY, Damage()) for entry in entries])
    sink.save(project_id, "events", 10 + project_id)
    sink.record(Run(f"run of {project_id}", "sync", project_id, "events", DAY, DAY, "done", 1, 2, 3, 0.5))


def test_projects_of_one_destination_do_not_touch_each_other(sink):
    """The same windows and events in two projects: whatever is done to the second, of the first everything is as it was."""
    everything(sink, 1)
    alone = of_project(sink, 1)
    everything(sink, 2)
    sink.land(full(2, generation=1), mark=DAY + 3 * HOUR)
    sink.land([landing(generation=2, project_id=2), shifted(landing(project_id=2), hours=3)])
    landed = sink.ledger(2, "events")
    sink.note([Note(entry, DAY, Sound()) for entry in landed.entries.values()])
    sink.mark_searched(2, "events", [DAY.date()], seen=landed)
    sink.prepare(2, "exports", host="https://a", event_filter="", rebuild=True)
    sink.prepare(2, "events", host="https://a", event_filter="x", rebuild=True)
    ledger = sink.ledger(2, "events")

    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    assert of_project(sink, 1) == alone
    assert ([entry.state for entry in ledger.entries.values()], ledger.unchecked) == ([State.STALE] * 3, frozenset())
    assert (ledger.saved, told_rejects(sink, ledger.entries[DAY])) == (12, [])


def test_run_under_an_older_filter_is_stopped(tmp_path):
    """Another process rebuilds a file meanwhile: what was read under the old filter is not landed, the new one's is."""
    sink, other = DuckDBSink(tmp_path / "a.duckdb"), DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([landing("a")])
    other.prepare(1, "events", host="https://a", event_filter="x", rebuild=True)
    stale = sink.ledger(1, "events").entries[DAY]
    for made in ([landing("b", generation=2)], [shifted(landing(), hours=hour) for hour in (3, 4)]):
        with pytest.raises(errors.FilterChanged):
            sink.land(made)

    assert sink.ledger(1, "events").entries == {DAY: stale}
    assert names(sink) == ["a"]
    assert other.land([landing("b", generation=2)])


def test_event_in_two_windows_stays_to_be_searched_whatever_is_landed_again(sink):
    """A landing without new rows of one of its windows takes the date off no list: the event still stands twice."""
    first, second = full(1)
    sink.land([first, second])
    sink.land([replace(first, entry=replace(first.entry, generation=1))])
    sink.land([replace(second, entry=replace(second.entry, generation=1))])

    ledger = sink.ledger(1, "events")
    assert ledger.unchecked == {DAY.date()}
    assert sink.duplicates(1, "events", sorted(ledger.unchecked)).num_rows == 2


def test_mark_never_moves_back(sink):
    """The mark is the greatest bound given."""
    sink.land([landing("a")], mark=DAY + HOUR)
    sink.land([landing("b", generation=1)], mark=DAY)

    assert sink.ledger(1, "events").mark == DAY + HOUR


def test_rebuild_makes_windows_stale_and_keeps_rows(sink):
    """A changed filter is refused; with rebuild every window is stale and its rows stay."""
    sink.land([landing("a")])
    with pytest.raises(errors.FilterChanged):
        sink.prepare(1, "events", host="https://a", event_filter="x", rebuild=False)
    sink.prepare(1, "events", host="https://a", event_filter="x", rebuild=True)

    assert sink.ledger(1, "events").entries[DAY].state is State.STALE
    assert names(sink) == ["a"]


def test_other_host_is_refused(sink):
    """The same project id from another host does not mix."""
    with pytest.raises(errors.HostChanged):
        sink.prepare(1, "events", host="https://b", event_filter="", rebuild=False)


def test_newer_format_is_refused(tmp_path):
    """A file of a newer format is not touched."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    with duckdb.connect(str(sink.path)) as db:
        db.execute("UPDATE hedgerow.meta SET value = '99' WHERE key = 'format'")

    with pytest.raises(errors.DestinationUnusable, match="newer"):
        sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)


def test_file_in_use_is_named_with_its_holder(tmp_path):
    """While another process has the file, landing waits the lock timeout and then names it."""
    sink = DuckDBSink(tmp_path / "a.duckdb", lock_timeout_s=0.3)
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    code = f"import duckdb; db = duckdb.connect({str(sink.path)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(errors.DestinationBusy, match=str(holder.pid)):
            sink.land([landing("a")])
        holder.kill()
    assert sink.land([landing("a")])


def test_sql_digest_equals_the_ledger(tmp_path):
    """The landed digest of the ledger is what DuckDB computes from the rows."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    (entry,) = sink.land([landing("a", "b", "ü", "'; DROP TABLE events;--")])

    with sink.query(f"SELECT {SUM_SQL} FROM events") as result:
        assert result.fetchone() == (entry.tally.landed_digest,)


@pytest.mark.parametrize("times", [100, pytest.param(1_000, marks=pytest.mark.long)])
def test_file_stays_small_over_many_landings(times, tmp_path):
    """After 1,000 re-landings of one window with changing rows the file is at most twice as large, and a block or four."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([landing(*("a" * 50))])
    first = sink.path.stat().st_size
    for generation in range(1, times + 1):
        sink.land([landing(*("ab"[generation % 2] * 50), generation=generation)])

    assert sink.path.stat().st_size <= 2 * first + 4 * 262_144
    assert len(names(sink)) == 50


def agreement(entry: Entry, created: str = "5:6") -> Note:
    """The source says what was landed."""
    return Note(entry, DAY + HOUR, Agreement(f"{entry.tally.source_digest}/{created}", entry.compared_until))


def test_note_changes_what_is_known_only(sink):
    """What was found out about a window is kept with its entry; rows, tally and generation stay."""
    (entry,) = sink.land([landing("a", "b")])

    assert sink.note([agreement(entry)]) == []

    said = agreement(entry).finding
    assert isinstance(said, Agreement)
    noted = replace(
        entry,
        state=State.VERIFIED,
        probed=Probed(DAY + HOUR, said.answer),
        agreed=Agreed(said.answer, entry.covered_end),
        noted=1,
    )
    assert sink.ledger(1, "events").entries == {DAY: noted}
    assert names(sink) == ["a", "b"]


def test_note_about_an_older_landing_is_left_out(sink):
    """Another run landed the same rows meanwhile: what was found out about the older landing says nothing of the new."""
    (old,) = sink.land([landing("a", "b")])
    (new,) = sink.land([landing("a", "b", generation=1)])
    left = sink.note([agreement(old), Note(old, DAY, Damage())])

    assert [note.known for note in left] == [old, old]
    assert sink.ledger(1, "events").entries == {DAY: new}


def test_note_decided_from_an_older_note_is_left_out(sink):
    """A dispute was noted while the source was asked: the answer does not end it, and whoever decided hears of it."""
    (entry,) = sink.land([landing("a", "b")])
    sink.note([agreement(entry)])
    (agreed,) = sink.ledger(1, "events").entries.values()
    sink.note([Note(agreed, DAY, Dispute("1:1:1:1:1/1:1"))])
    left = sink.note([agreement(agreed)])

    assert len(left) == 1
    assert sink.ledger(1, "events").entries[DAY].facts == Facts(disputed=DAY)


def test_damage_is_noted_whatever_else_was(sink):
    """Damage needs no newest note, and an answer of the source does not clear it."""
    (entry,) = sink.land([landing("a", "b")])
    sink.note([agreement(entry)])
    sink.note([Note(entry, DAY, Damage())])
    (damaged,) = sink.ledger(1, "events").entries.values()
    sink.note([agreement(damaged)])

    (known,) = sink.ledger(1, "events").entries.values()
    assert (known.facts, known.shown) == (Facts(damaged=DAY), State.DISPUTED)


def test_landing_that_covers_less_is_refused(sink):
    """Covered time never shrinks: rows and ledger are as before."""
    sink.land([landing("a", "b")])
    before = sink.ledger(1, "events")
    less = landing("a", generation=1)

    with pytest.raises(errors.CoversLess):
        sink.land([replace(less, entry=replace(less.entry, covered_end=DAY + HOUR / 2))])

    assert sink.ledger(1, "events") == before
    assert names(sink) == ["a", "b"]


def test_mark_beyond_a_gap_is_not_taken(sink):
    """A mark says that everything before it was read: a sync that left time out does not move it."""
    sink.land([landing("a")], mark=DAY + HOUR / 2)
    later = shifted(landing("b"), hours=5)
    sink.land([later], mark=DAY + 6 * HOUR)

    assert sink.ledger(1, "events").mark == DAY + HOUR / 2


def test_marks_of_two_days_are_kept_and_the_one_before():
    """That one is in force where all later ones are of a clock that was ahead."""
    old, older = DAY - 9 * 24 * HOUR, DAY - 10 * 24 * HOUR
    assert marks_kept([DAY, old, older, DAY - 47 * HOUR]) == (old, DAY - 47 * HOUR, DAY)
    assert marks_kept([DAY, old]) == (old, DAY)
    assert (marks_kept([DAY]), marks_kept([])) == ((DAY,), ())


def test_mark_ahead_of_the_source_s_clock_is_not_in_force(sink):
    """One answer had the wrong time: the mark before it counts until that time has come."""
    sink.land([landing("a", state=State.OPEN)], mark=DAY + HOUR / 2)
    sink.land([landing("a", generation=1)], mark=DAY + HOUR)

    assert sink.ledger(1, "events").mark_at(DAY + HOUR / 2) == DAY + HOUR / 2
    assert sink.ledger(1, "events").mark_at(DAY + 9 * HOUR) == DAY + HOUR


def test_date_that_was_landed_again_stays_to_be_searched(sink):
    """A search that saw an older landing does not take the date off the list."""
    sink.land([landing("a")])
    seen = sink.ledger(1, "events")
    sink.land([landing("b", generation=1)])
    sink.mark_searched(1, "events", [DAY.date()], seen=seen)
    assert sink.ledger(1, "events").unchecked == {DAY.date()}

    sink.mark_searched(1, "events", [DAY.date()], seen=sink.ledger(1, "events"))
    assert sink.ledger(1, "events").unchecked == frozenset()


def test_tail_keeps_what_is_known_of_the_part_before_it(sink):
    """An open window goes on beside a stop or damage of its settled part; a landing of every row clears both."""
    (entry,) = sink.land([landing("a", "b", state=State.OPEN)])
    sink.note([Note(entry, DAY, Stop())])
    sink.note([Note(entry, DAY, Damage())])
    tail = landing("x", generation=1, replace_start=DAY + timedelta(minutes=1), first=1, state=State.OPEN)
    sink.land([tail])
    assert sink.ledger(1, "events").entries[DAY].facts == Facts(held=DAY, damaged=DAY)

    sink.land([landing("a", "b", generation=2)])
    assert sink.ledger(1, "events").entries[DAY].facts == Facts()


def test_removals_are_kept_with_their_landing(sink):
    """What the guard counts is written in the landing's own commit, and forgotten after two days."""
    sink.land([landing("a", "b")])
    sink.land([replace(landing("a", generation=1), removed=1)])
    assert sink.ledger(1, "events").removals == (Removal(DAY, DAY, 1),)

    late = landing("a", generation=2)
    sink.land([replace(late, entry=replace(late.entry, read_at=DAY + timedelta(days=3)), removed=2)])
    assert sink.ledger(1, "events").removals == (Removal(DAY, DAY + timedelta(days=3), 2),)


def test_removals_of_two_days_are_all_kept(sink):
    """The guard adds up what every landing has removed, of one window or of several."""
    sink.land([landing("a", "b", "c"), shifted(landing(), hours=1)])
    for generation, hours in ((1, 1), (2, 47)):
        made = landing("a", "b", generation=generation)
        sink.land([replace(made, entry=replace(made.entry, read_at=DAY + hours * HOUR), removed=generation)])
    other = shifted(landing(generation=1), hours=1)
    sink.land([replace(other, entry=replace(other.entry, read_at=DAY + 2 * HOUR), removed=5)])

    removed = [(one.at - DAY, one.rows) for one in opened_anew(sink).ledger(1, "events").removals]
    assert sorted(removed) == [(HOUR, 1), (2 * HOUR, 5), (47 * HOUR, 2)]


def test_saved_pages_are_remembered(sink):
    """What one run did not spend, the next one finds."""
    assert sink.ledger(1, "events").saved == 0
    sink.save(1, "events", 70)
    sink.save(1, "events", 40)

    assert sink.ledger(1, "events").saved == 40


def test_a_landing_forgets_what_was_probed(sink):
    """The probe of the rows that were replaced is not that of the new ones."""
    (entry,) = sink.land([landing("a")])
    sink.note([agreement(entry)])
    sink.land([landing("b", generation=1)])

    known = sink.ledger(1, "events").entries[DAY]
    assert (known.probed, known.agreed, known.noted) == (None, None, 0)


def test_hashes_add_up_to_the_landed_digest(sink):
    """Row by row the hash that the ledger sums."""
    (entry,) = sink.land([landing("a", "b", "ü", "'; DROP TABLE events;--")])
    found = sink.hashes(1, DAY, DAY + HOUR)

    assert str(sum(found["hash"].to_pylist()) % 2**64) == entry.tally.landed_digest
    assert sorted(found["event"].to_pylist()) == sorted(["a", "b", "ü", "'; DROP TABLE events;--"])
    assert sink.hashes(1, DAY + HOUR, DAY + 2 * HOUR).num_rows == 0


def test_audit_tells_what_is_really_held(sink):
    """Windows with rows, without rows, and those that only touch the range; digests as in the ledger."""
    (full,) = sink.land([landing("a", "b")])
    empty = landing()
    later = replace(
        empty.entry, start=DAY + HOUR, end=DAY + 2 * HOUR, covered_start=DAY + HOUR, covered_end=DAY + 2 * HOUR
    )
    sink.land([replace(empty, entry=later, replace_start=DAY + HOUR)])

    assert sink.audit(1, "events", DAY + HOUR / 2, DAY + 9 * HOUR) == {
        DAY: Holding(2, full.tally.landed_digest),
        DAY + HOUR: Holding(0, "0"),
    }
    assert sink.audit(1, "events", DAY + 9 * HOUR, DAY + 10 * HOUR) == {}
    assert sink.audit(2, "events", DAY, DAY + HOUR) == {}


def test_audit_compares_no_row_with_every_window(tmp_path):
    """Rows and windows meet in their order, however few DuckDB takes them for: of thousands each that is minutes."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([landing("a", "b")])
    asked = {"project": 1, "stream": "events", "start": DAY, "end": DAY + HOUR}
    with sink._file.open(read_only=True) as db:
        plan = str(db.execute(f"EXPLAIN (FORMAT json) {AUDIT}", asked).fetchall())

    assert "ASOF_JOIN" in plan
    assert "NESTED_LOOP_JOIN" not in plan


def test_row_at_a_window_s_end_is_none_of_its_own(sink):
    """What a window covers does not include its end: a row there is a stray, and told as one."""
    sink.land([landing("a", "b", first=59)])

    found = sink.audit(1, "events", DAY, DAY + 2 * HOUR)
    assert {start: held.rows for start, held in found.items()} == {DAY: 1, None: 1}


def test_audit_sees_damage_by_hand(tmp_path):
    """Rows deleted, doubled, changed, or added where nothing is covered."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    (entry,) = sink.land([landing("a", "b", "c")])
    whole = {DAY: Holding(3, entry.tally.landed_digest)}
    assert sink.audit(1, "events", DAY, DAY + HOUR) == whole

    for damage in (
        "UPDATE events SET properties = '{}' WHERE event = 'a'",
        "INSERT INTO events SELECT * FROM events WHERE event = 'b'",
        "DELETE FROM events WHERE event = 'c'",
    ):
        with duckdb.connect(str(sink.path)) as db:
            db.execute(damage)
        found = sink.audit(1, "events", DAY, DAY + HOUR)
        assert found != whole
        whole = found
    with duckdb.connect(str(sink.path)) as db:
        db.execute("INSERT INTO events SELECT * REPLACE (timestamp + INTERVAL 2 HOUR AS timestamp) FROM events LIMIT 1")
    assert sink.audit(1, "events", DAY, DAY + 9 * HOUR) == whole | {None: Holding(1, "")}


def test_audit_counts_strays_of_the_range_alone(tmp_path):
    """A row by hand behind the covered part of a window: one of the hours that hold it, none of the others."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    made = landing("a")
    sink.land([replace(made, entry=replace(made.entry, end=DAY + 24 * HOUR), step=24 * HOUR)])
    with duckdb.connect(str(sink.path)) as db:
        db.execute("INSERT INTO events SELECT * REPLACE (timestamp + INTERVAL 2 HOUR AS timestamp) FROM events")

    found = [sink.audit(1, "events", DAY + hour * HOUR, DAY + (hour + 1) * HOUR).get(None) for hour in range(4)]
    assert found == [None, None, Holding(1, ""), None]


def test_changes_are_kept_in_order(sink):
    """What landings found changed is history, lateness of days included; landings without changes leave none."""
    sink.land([landing("a")])
    sink.land([replace(landing("b", generation=1), changes=Changes(1, 2, 3, 50 * HOUR))])

    assert sink.changes(1, "events") == [Change(1, "events", DAY, DAY, Changes(1, 2, 3, 50 * HOUR))]
    assert opened_anew(sink).changes(1, "events") == sink.changes(1, "events")


@pytest.mark.parametrize("rows", [("b",), ()], ids=["with rows", "without"])
def test_changes_of_a_copied_window_go_along(rows, sink):
    """With the time at which they were found elsewhere; also those of an empty window among many."""
    found = ((DAY + HOUR, Changes(1, 2, 3, HOUR)), (DAY + 2 * HOUR, Changes(late=1)))
    many = [shifted(landing(), hours=1), replace(landing(*rows), history=found), shifted(landing(), hours=2)]
    sink.land(many)

    assert sink.changes(1, "events") == [Change(1, "events", DAY, at, changes) for at, changes in found]
    assert len(opened_anew(sink).ledger(1, "events").entries) == 3


def test_runs_can_be_written_at_once(sink):
    """Of several streams, as each by itself."""
    streams = ("events", "exports", "events")
    runs = [
        Run(f"{n}", "sync", 1, name, DAY + n * HOUR, DAY + n * HOUR, "done", 1, 2, 3, 0.5)
        for n, name in enumerate(streams)
    ]
    sink.prepare(1, "exports", host="https://a", event_filter="", rebuild=False)
    sink.record(*runs)
    sink.record()

    assert opened_anew(sink).runs(1, limit=9) == runs[::-1]


def test_rewrite_replaces_rows_that_the_ledger_calls_equal(tmp_path):
    """Repair of damage by hand: the ledger has the right digest, the rows are wrong."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([landing("a", "b")])
    with duckdb.connect(str(sink.path)) as db:
        db.execute("INSERT INTO events SELECT * FROM events")
    sink.land([replace(landing("a", "b", generation=1), rewrite=True)])

    assert names(sink) == ["a", "b"]


@pytest.mark.parametrize("known", ["noted", "told"])
def test_damage_in_a_window_without_rows_is_mended(known, tmp_path):
    """A row by hand where nothing was landed: the ledger's digest is right, and the landing removes the row."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    empty = DAY + 5 * HOUR
    sink.land([landing("a")])
    (entry,) = sink.land([shifted(landing(), hours=5)])
    with duckdb.connect(str(sink.path)) as db:
        db.execute("INSERT INTO events SELECT * REPLACE (?::TIMESTAMPTZ AS timestamp) FROM events", [empty])
    assert sink.audit(1, "events", empty, empty + HOUR)[empty].rows == 1
    if known == "noted":
        sink.note([Note(entry, empty + HOUR, Damage())])
    sink.land([replace(shifted(landing(generation=1), hours=5), rewrite=known == "told")])

    assert sink.audit(1, "events", empty, empty + HOUR) == {empty: Holding()}
    assert names(sink) == ["a"]


def test_equal_digest_rewrites_only_the_ledger(tmp_path):
    """Rows that did not change are not written again: `_loaded_at` stays."""
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([landing("a")])
    again = landing("a", generation=1)
    later = again.rows.set_column(10, "_loaded_at", pa.array([DAY + HOUR], pa.timestamp("us", "UTC")))
    sink.land([replace(again, rows=later.cast(again.rows.schema))])

    assert sink.rows(1, DAY, DAY + HOUR)["_loaded_at"].to_pylist() == [DAY]
    assert sink.ledger(1, "events").entries[DAY].generation == 2


def test_rows_larger_than_the_memory_limit_are_landed(tmp_path, monkeypatch):
    """Large rows stay in DuckDB's memory whatever its bound: landed all the same, each once, and read again."""
    monkeypatch.setitem(connection.CONFIG, "memory_limit", "24MB")
    sink = DuckDBSink(tmp_path / "a.duckdb")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    random = Random(1)
    for number in range(3):
        large = ['{"x":"' + random.randbytes(2**18).hex() + '"}' for _ in range(40)]
        made = landing(*("a" * 40), first=0, generation=number)
        rows = made.rows.set_column(5, "properties", pa.array(large, pa.string()))
        entry = replace(made.entry, tally=replace(made.entry.tally, landed_digest=str(number)))
        sink.land([replace(made, entry=entry, rows=rows.cast(made.rows.schema))], mark=DAY + HOUR)

    again = DuckDBSink(sink.path)
    assert again.ledger(1, "events").entries[DAY].generation == 3
    assert again.ledger(1, "events").mark == DAY + HOUR
    assert sorted(again.rows(1, DAY, DAY + HOUR)["properties"].to_pylist()) == sorted(large)


@pytest.mark.parametrize("kind", ["duckdb", "lake"])
def test_table_of_another_run_is_not_replaced(kind, tmp_path):
    """Whoever replaces a table says which it saw: of two that saw the same one is refused, and writes nothing."""
    sink = DuckDBSink(tmp_path / "a.duckdb") if kind == "duckdb" else stores.local_lake(tmp_path / "lake")
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.replace("weekly", pa.table({"n": [1]}), version="")
    with pytest.raises(errors.GenerationConflict):
        sink.replace("weekly", pa.table({"n": [2]}), version="")

    found = sink.table("weekly")
    assert found is not None
    assert found.rows.to_pylist() == [{"n": 1}]


def test_failure_says_what_was_landed_before_it(sink):
    """Of two windows the second is refused: the first stays, and the error brings its entry."""
    sink.land([shifted(landing(), hours=1)])
    with pytest.raises(errors.GenerationConflict) as raised:
        sink.land([landing("a"), shifted(landing(), hours=1)])

    assert [entry.start for entry in raised.value.landed] == [DAY]
    assert names(sink) == ["a"]
