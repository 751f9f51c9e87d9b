"""What `verify` says is true, each time: damage here and changes at the source, alone and together, before a repair and after."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.profiles import SERVER_2023_12
from extractors.simulator.server import Simulator, serve
from flows.assets.verified import Verified
from flows.landing.verification import Difference, Verification
from flows.report import results
from flows.runs import loads, wiring
from flows.runs.run import Report
from flows.runs.verify import verify_events
from flows.settings.load import load
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Dispute, Entry, Note, State
from sinks.lake import window_file
from sinks.sink import Sink
from tests.flows.cli.test_exit import REPORT
from tests.flows.hands_places import held_open
from tests.flows.hands_source import Moods
from tests.flows.harness import UNLIMITED, landed, truth
from tests.flows.places import place as opened

NOW = datetime(2026, 3, 10, 14, 30, tzinfo=UTC)
DAY = timedelta(days=1)
START = datetime(2026, 2, 1, tzinfo=UTC)
ROWS = 6  # of each day
HERE = ("nothing", "deleted", "changed", "doubled", "invented")
THERE = ("nothing", "late", "deleted", "changed")
CELLS = [(here, there) for here in HERE for there in THERE]
END = START + len(CELLS) * DAY
SERVERS = {
    "today": UNLIMITED,
    "without queries": replace(UNLIMITED, query_allowed=False),
    "of 2023": SERVER_2023_12,
}
COLUMNS = ("event", "properties", "distinct_id")  # that a hand changes, one in each row
HURT = len(COLUMNS)  # rows of a day, the first


def uuid_of(day: int, number: int) -> str:
    return f"{day:08x}-0000-4000-8000-{number:012x}"


def invented(day: int) -> list[str]:
    return [uuid_of(day, 200 + n) for n in range(HURT)]


def events_of(day: int) -> list[Event]:
    at = START + day * DAY + timedelta(hours=1)
    return [
        Event(uuid_of(day, n), f"e{n % 3}", f"user-{n}", at + n * timedelta(minutes=1), f'{{"n":{n}}}', "", at + DAY)
        for n in range(ROWS)
    ]


def changed_there(dataset: Dataset, day: int, there: str) -> None:
    """The source changes a day: its last events, which no hand touches here."""
    last = events_of(day)[-2:]
    if there == "late":
        dataset.add([replace(last[0], uuid=uuid_of(day, 100), created_at=NOW)])
    elif there == "deleted":
        dataset.delete({event.uuid for event in last})
    elif there == "changed":
        dataset.add([replace(event, properties='{"changed":"there"}', created_at=NOW) for event in last])
        dataset.merge()


def changed_here(rows: pa.Table, day: int, here: str) -> pa.Table:
    """*rows* of a day, which ascend, after a hand was there."""
    if here == "deleted":
        return rows.slice(HURT)
    if here == "doubled":
        return pa.concat_tables([rows, rows.slice(0, HURT)]).sort_by("timestamp")
    if here == "invented":
        names = pa.array(invented(day), pa.string())
        made = rows.slice(0, HURT).set_column(rows.schema.get_field_index("uuid"), rows.schema.field("uuid"), names)
        return pa.concat_tables([rows, made]).sort_by("timestamp")
    for number, column in enumerate(COLUMNS if here == "changed" else ()):
        values = rows[column].to_pylist()
        values[number] = '{"by":"hand"}' if column == "properties" else "by hand"
        rows = rows.set_column(
            rows.schema.get_field_index(column), rows.schema.field(column), pa.array(values, "string")
        )
    return rows


def day_of(row: tuple[object, ...]) -> int:
    """The day of a row as `landed` gives it."""
    return (row[3] - START) // DAY


def entries_of(sink: Sink) -> list[Entry]:
    return list(sink.ledger(1, "events").entries.values())


def rewritten(sink: Sink, changes: Mapping[int, Callable[[pa.Table], pa.Table]]) -> None:
    """What is held of each day of *changes* is what its change makes of it; the ledger stays."""
    windows = {(entry.start - START) // DAY: entry for entry in reversed(entries_of(sink)) if entry.tally.landed_rows}
    if isinstance(sink, DuckDBSink):
        with held_open(sink):
            held = {day: sink.rows(1, windows[day].start, windows[day].end) for day in changes}
        with duckdb.connect(str(sink.path)) as db:
            for day, change in changes.items():
                span = [windows[day].start, windows[day].end]
                db.execute('DELETE FROM events WHERE "timestamp" >= ? AND "timestamp" < ?', span)
                db.register("kept", change(held[day]))
                db.execute("INSERT INTO events BY NAME SELECT * FROM kept")
        return
    for day, change in changes.items():
        path = window_file.window_path(windows[day])
        file = pq.ParquetFile(io.BytesIO(sink.objects.get(path)[0]))
        rows, buffer = change(file.read().replace_schema_metadata(None)), pa.BufferOutputStream()
        with pq.ParquetWriter(buffer, rows.schema, compression="zstd") as writer:
            writer.write_table(rows)
            writer.add_key_value_metadata({window_file.KEY: file.metadata.metadata[window_file.KEY]})
        sink.objects.put(path, buffer.getvalue().to_pybytes())


class Place:
    """A destination with a day for each cell of the table, its source, and what a verification says of each."""

    def __init__(self, kind: str, simulator: Simulator, dataset: Dataset, directory: Path) -> None:
        address = f"duckdb:{directory / 'a.duckdb'}" if kind == "duckdb" else f"file:{directory / 'lake'}"
        flags: dict[str, object] = {
            "source.host": simulator.url,
            "source.key": simulator.key,
            "source.project_id": 1,
            "source.requests_per_minute": 10**6,
            "source.requests_per_hour": 10**6,
            "source.state_dir": directory / "state",
            "destination.address": address,
        }
        self.settings, self.dataset = load(flags, directory=directory).settings, dataset
        self._kind, self._directory = kind, directory
        loads.load_events(self.settings, 1, command="backfill", since=START.isoformat(), until=END.isoformat())

    @property
    def sink(self) -> Sink:
        """As another process opens it."""
        return opened(self._kind, self._directory)

    def verify(self, *, repair: bool, detail: bool) -> tuple[Verification, Report]:
        return verify_events(self.settings, 1, repair=repair, detail=detail)

    def hurt(self) -> None:
        """Every cell of the table happens to its day."""
        for day, (_, there) in enumerate(CELLS):
            changed_there(self.dataset, day, there)
        hands = {
            day: partial(changed_here, day=day, here=here) for day, (here, _) in enumerate(CELLS) if here != "nothing"
        }
        rewritten(self.sink, hands)


def said(found: Verification) -> dict[int, tuple[bool, bool, int, int, int | None]]:
    """Of each day that differs: damaged, changed, rows by the ledger, held, and at the source."""
    return {
        (one.start - START) // DAY: (one.damaged, one.changed, one.ledger_rows, one.held_rows, one.source_rows)
        for one in found.differences
    }


def true(*, counted: bool) -> dict[int, tuple[bool, bool, int, int, int | None]]:
    """What is true of each day; *counted*: the source answers queries."""
    rows = {}
    for day, (here, there) in enumerate(CELLS):
        damaged, changed = here != "nothing", there != "nothing" and counted
        held = ROWS + {"deleted": -HURT, "doubled": HURT, "invented": HURT}.get(here, 0)
        source = ROWS + {"late": 1, "deleted": -2}.get(there, 0) if counted else None
        if damaged or changed:
            rows[day] = damaged, changed, ROWS, held, source
    return rows


def detailed(found: Verification) -> dict[int, tuple[object, ...]]:
    """Of each day that differs: uuids missing, extra, differing, and the columns of these."""
    return {
        (one.start - START) // DAY: (*map(Counter, (one.missing, one.extra, one.differing)), one.differing_in)
        for one in found.differences
    }


def true_detail(*, counted: bool) -> dict[int, tuple[object, ...]]:
    """What the source has and the destination lacks, the other way round, and what differs, with its columns."""
    rows = {}
    for day in true(counted=counted):
        here, there = CELLS[day]
        first, last = ([event.uuid for event in some] for some in (events_of(day)[:HURT], events_of(day)[-2:]))
        missing = (first if here == "deleted" else []) + ([uuid_of(day, 100)] if there == "late" else [])
        extra = {"doubled": first, "invented": invented(day)}.get(here, []) + (last if there == "deleted" else [])
        differing = {uuid: (column,) for uuid, column in zip(first, COLUMNS, strict=True) if here == "changed"}
        differing |= {uuid: ("properties",) for uuid in last if there == "changed"}
        rows[day] = Counter(missing), Counter(extra), Counter(differing.keys()), differing
    return rows


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("kind", ["duckdb", "file"])
def test_what_verify_says_is_true_each_time(kind, server, tmp_path, monkeypatch, capsys):
    """Damage here and a change at the source, each and both: the same at every run, in detail, in JSON, at the repair."""
    monkeypatch.setattr(wiring, "now", lambda: NOW)
    dataset = Dataset(event for day in range(len(CELLS)) for event in events_of(day))
    counted = server != "without queries"
    told = true(counted=counted)
    with serve(dataset, profile=SERVERS[server], now=lambda: NOW) as simulator:
        place = Place(kind, simulator, dataset, tmp_path)
        place.hurt()
        first, again, mended, after = (
            place.verify(repair=repair, detail=detail)
            for repair, detail in ((False, False), (False, True), (True, False), (False, False))
        )
        results.verified({1: Verified(1, again)}, {}, repair=False, json_output=True, quiet=False)
    shown = json.loads(capsys.readouterr().out)["projects"][0]["differences"]

    assert [said(found) for found, _ in (first, again, mended, after)] == [told, told, told, {}]
    assert [found.good for found, _ in (first, again, mended, after)] == [False, False, counted, counted]
    assert mended[0].left == []
    assert detailed(again[0]) == true_detail(counted=counted)
    assert [(one["damaged"], one["changed"]) for one in shown] == [row[:2] for row in told.values()]
    days = {day for day, (here, _) in enumerate(CELLS) if counted or here != "nothing"}
    held, shown = landed(place.sink, START, END), truth(dataset.events, START, END)
    assert [row for row in held if day_of(row) in days] == [row for row in shown if day_of(row) in days]


def test_a_repair_that_mends_objects_of_a_lake_is_good(tmp_path, monkeypatch):
    """One is gone, in the place of another lies its neighbour's: the same at each run, and nothing is left after the repair."""
    monkeypatch.setattr(wiring, "now", lambda: NOW)
    dataset = Dataset(event for day in range(8) for event in events_of(day))
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        place = Place("file", simulator, dataset, tmp_path)
        files = sorted((tmp_path / "lake").glob("events/**/*.parquet"))
        files[3].unlink()
        files[6].write_bytes(files[7].read_bytes())
        first, again, mended, after = (place.verify(repair=n == 2, detail=False)[0] for n in range(4))

    assert [list(said(found)) for found in (first, again, mended, after)] == [[3, 6], [3, 6], [3, 6], []]
    assert [found.good for found in (first, again, mended, after)] == [False, False, True, True]
    assert (mended.stray_rows, landed(place.sink, START, END)) == (0, truth(dataset.events, START, END))


def test_a_dispute_of_earlier_is_no_change_of_now(tmp_path, monkeypatch):
    """The source counts again what was read, and no reading has settled the dispute: told as that, until a repair."""
    monkeypatch.setattr(wiring, "now", lambda: NOW)
    dataset, moods = Dataset(events_of(0)), Moods(UNLIMITED)
    moods.query_allowed = False
    with serve(dataset, profile=moods, now=lambda: NOW) as simulator:
        place = Place("duckdb", simulator, dataset, tmp_path)
        (entry,) = (one for one in entries_of(place.sink) if one.tally.landed_rows)
        place.sink.note([Note(entry, NOW, Dispute("7:0:0:0:0/0:0"))])
        moods.query_allowed = True
        (waiting, _), (mended, _) = (place.verify(repair=repair, detail=False) for repair in (False, True))

    (told,) = waiting.differences
    assert (told.damaged, told.changed, told.standing, told.source_rows) == (False, False, True, told.ledger_rows)
    assert (waiting.good, mended.good) == (False, True)


def test_events_that_differ_are_told_one_in_a_line(capsys):
    """Twenty at most of each kind, with how many there are, and in which columns those that differ do."""
    many = tuple(uuid_of(0, number) for number in range(23))
    found = Difference(
        START,
        END,
        State.LANDED,
        9,
        9,
        9,
        True,
        False,
        missing=many,
        differing=many[:1],
        differing_in={many[0]: ("event",)},
    )
    results.verified(
        {1: Verified(1, (Verification(windows=1, differences=[found], left=[START]), REPORT))},
        {},
        repair=False,
        json_output=False,
        quiet=True,
    )
    lines = [line.removeprefix("project 1:").strip() for line in capsys.readouterr().err.splitlines()]

    assert lines[1:4] == ["missing: 23 events", many[0], many[1]]
    assert lines[22:25] == ["and 3 more: see --json", "differing: 1 event", f"{many[0]} in event"]
