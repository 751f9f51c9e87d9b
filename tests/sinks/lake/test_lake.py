"""What a lake promises beyond the contract of every sink: a plain glob, one writer per window, stores that misbehave."""

from __future__ import annotations

import errno
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from extractors.http.decode import REJECTS
from sinks import errors
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
    Sound,
    State,
    Stop,
)
from sinks.lake import journal, views, window_file
from sinks.lake import statements as statements_lake
from sinks.lake.journal import Journal, Line
from sinks.lake.sink import LakeSink
from sinks.lake.window_file import FILE_SCHEMA, Truncated, read_footer
from sinks.objects import s3
from sinks.objects.base import Found, Missing
from sinks.objects.local import LocalObjects
from sinks.sink import Run
from tests import stores
from tests.relay import refused, relay
from tests.sinks.test_conformance import DAY, HOUR, landing, names

COLUMNS = FILE_SCHEMA.names


def moved(made: Landing, hours: int) -> Landing:
    """The landing's empty window, so many hours later."""
    start = DAY + hours * HOUR
    entry = replace(made.entry, start=start, end=start + HOUR, covered_start=start, covered_end=start + HOUR)
    return replace(made, entry=entry, replace_start=start)


@pytest.fixture
def lake(tmp_path) -> LakeSink:
    made = stores.local_lake(tmp_path / "lake")
    prepare(made)
    return made


def prepare(lake: LakeSink, *, rebuild: bool = False, event_filter: str = "") -> LakeSink:
    lake.prepare(1, "events", host="https://a", event_filter=event_filter, rebuild=rebuild)
    return lake


def glob_of(lake: LakeSink) -> str:
    return statements_lake.glob_of(lake.objects)


def test_a_plain_glob_is_right_everywhere(lake):
    """DuckDB, polars and pyarrow read the same rows; windows without rows are files of the same schema."""
    lake.land([landing("a", "b", "c"), moved(landing(), 1)])
    by_duckdb = duckdb.sql(f"SELECT event, project_id, date FROM read_parquet('{glob_of(lake)}') ORDER BY 1").fetchall()
    by_polars = pl.scan_parquet(glob_of(lake), hive_partitioning=True).select("event", "project_id", "date").collect()
    root = Path(lake.objects.root)
    dataset = ds.dataset(root / "events", format="parquet", partitioning="hive")
    by_pyarrow = dataset.to_table(columns=["event", "project_id", "date"]).to_pylist()
    files = sorted(root.glob("events/**/*.parquet"))

    assert by_duckdb == [(name, 1, date(2026, 1, 31)) for name in "abc"]
    assert sorted(by_polars.rows()) == by_duckdb
    assert sorted((row["event"], row["project_id"], str(row["date"])) for row in by_pyarrow) == [
        (name, 1, "2026-01-31") for name in "abc"
    ]
    assert [file.relative_to(root).as_posix() for file in files] == [
        f"events/project_id=1/date=2026-01-31/20260131T0{hour}0000Z-20260131T0{hour + 1}0000Z.parquet"
        for hour in (0, 1)
    ]
    assert all(pq.read_schema(file).remove_metadata().equals(FILE_SCHEMA) for file in files)


def test_files_prune_on_time_event_and_person(lake):
    """Rows ascend by time; statistics for all three, and Bloom filters where the order says little."""
    lake.land([landing("b", "a", "c")])
    (file,) = Path(lake.objects.root).glob("events/**/*.parquet")
    group = pq.read_metadata(file).row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    times = pq.read_table(file)["timestamp"].to_pylist()
    excluded = duckdb.sql(f"FROM parquet_bloom_probe('{file}', 'distinct_id', 'nobody')").fetchall()

    assert times == sorted(times)
    assert all(columns[name].statistics.has_min_max for name in ("timestamp", "event", "distinct_id"))
    assert columns["properties"].statistics is None
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert [row[-1] for row in excluded] == [True]


def test_a_footer_has_the_whole_entry(lake):
    """Another process knows everything from the files alone: state, base, answers, facts, changes, mark."""
    made, half = landing("a", state=State.OPEN), DAY + HOUR / 2
    entry = replace(
        made.entry,
        probed=Probed(DAY, "1:2/3:4"),
        agreed=Agreed("1:2/3:4", half),
        base=Base(half, made.entry.tally, DAY),
        facts=Facts(unread=DAY, held=half),
    )
    lake.land([replace(made, entry=entry, changes=Changes(1, 2, 3, HOUR))], mark=DAY + HOUR)
    again = stores.local_lake(Path(lake.objects.root))

    assert again.ledger(1, "events") == lake.ledger(1, "events")
    assert again.ledger(1, "events").entries[DAY] == replace(entry, generation=1)
    assert [change.changes for change in again.changes(1, "events")] == [Changes(1, 2, 3, HOUR)]


def test_a_footer_longer_than_what_was_read_says_how_much_it_needs(lake):
    """The last bytes alone are asked for; where they are too few the number that is enough is told."""
    lake.land([landing("a", "b")])
    (path,) = Path(lake.objects.root).glob("events/**/*.parquet")
    content = path.read_bytes()
    with pytest.raises(Truncated) as raised:
        read_footer(content[-64:])

    assert 64 < raised.value.length < len(content)
    assert read_footer(content[-raised.value.length :]) == read_footer(content)


def test_a_table_with_many_columns_is_one_of_sql_s(lake):
    """However long its footer is."""
    lake.land([landing("a")])
    wide = pa.table({f"a rather long name of a column, number {n}": [n] for n in range(400)})
    lake.replace("weekly", wide, version="")
    with lake.query("SELECT count(*) FROM weekly") as result:
        found = result.fetchall()

    assert found == [(1,)]


def test_a_directory_with_other_files_is_refused(tmp_path):
    """Nothing is written beside what hedgerow did not write."""
    (tmp_path / "thesis.docx").write_bytes(b"1")
    lake = stores.local_lake(tmp_path)
    with pytest.raises(errors.DestinationUnusable, match=r"thesis\.docx"):
        prepare(lake)
    with pytest.raises(errors.DestinationUnusable, match=r"thesis\.docx"):
        lake.check(1, "events", host="https://a", event_filter="")
    with pytest.raises(errors.DestinationUnusable, match=r"thesis\.docx"):
        lake.attach(tmp_path / "views.duckdb")
    with pytest.raises(errors.DestinationUnusable, match=r"thesis\.docx"), lake.query("SELECT 1"):
        pass

    assert [one.name for one in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_bucket_prefix_with_other_files_is_refused(moto):
    """The same in S3."""
    bucket = stores.new_bucket(moto)
    stores.client(moto).put_object(Bucket=bucket, Key="p/other.csv", Body=b"1")
    with relay(moto) as between, pytest.raises(errors.DestinationUnusable, match=r"other\.csv"):
        prepare(stores.s3_lake(between.address, bucket=bucket, prefix="p"))
    assert {request.method for request in between.seen} == {"GET"}
    prepare(stores.s3_lake(moto, bucket=bucket, prefix="q"))


def test_a_lake_of_a_newer_version_is_refused(lake):
    """It is not touched."""
    lake.objects.put("_hedgerow/format", b'{"format":99}')
    with pytest.raises(errors.DestinationUnusable, match="newer"):
        prepare(stores.local_lake(Path(lake.objects.root)))


@pytest.mark.parametrize("name", ["copy.parquet", "20260131T050000Z-20260131T060000Z.parquet"])
def test_a_foreign_file_among_the_windows_is_named(name, lake):
    """Every query over the lake would read it: a copy of a window would double its rows."""
    lake.land([landing("a")])
    (file,) = Path(lake.objects.root).glob("events/**/*.parquet")
    file.with_name(name).write_bytes(file.read_bytes())
    with pytest.raises(errors.DestinationUnusable, match=name):
        stores.local_lake(Path(lake.objects.root)).ledger(1, "events")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "rewritten": lambda file: duckdb.sql(f"SELECT * FROM '{file}' WHERE event = 'a'").write_parquet(str(file)),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_by_hand_is_found_and_mended(damage, lake):
    """A window's file that is not ours any more, or gone: the audit says so, and landing it again mends it."""
    (entry,) = lake.land([landing("a", "b")])
    lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))
    (file,) = Path(lake.objects.root).glob("events/**/*.parquet")
    DAMAGES[damage](file)
    for sink in (lake, stores.local_lake(Path(lake.objects.root))):
        (known,) = sink.ledger(1, "events").entries.values()
        assert (replace(known, facts=Facts()), known.shown) == (entry, State.DISPUTED)
        assert sink.audit(1, "events", DAY, DAY + HOUR)[DAY].rows == (1 if damage == "rewritten" else 0)
    again = prepare(stores.local_lake(Path(lake.objects.root)))
    again.ledger(1, "events")
    again.land([replace(landing("a", "b", generation=1), rewrite=True)])

    assert names(again) == ["a", "b"]
    assert again.audit(1, "events", DAY, DAY + HOUR)[DAY].digest == entry.tally.landed_digest


def test_no_mark_over_a_window_that_nobody_remembers(lake):
    """Its file is deleted by hand, and no cache knew it: later syncs go on from before it, and read it again."""
    for hour in range(4):
        lake.land([moved(landing(), hour)], mark=DAY + (hour + 1) * HOUR)
    (file,) = Path(lake.objects.root).glob("events/**/20260131T02*.parquet")
    file.unlink()

    assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events").mark == DAY + 2 * HOUR


def test_a_window_that_is_lost_is_told_by_every_run(lake):
    """Its object was deleted: each later process says so, however often the cache is written anew."""
    lake.land([landing("a")])
    lake.record(a_run(1))
    (file,) = Path(lake.objects.root).glob("events/**/*.parquet")
    file.unlink()
    told = []
    for hour in range(1, 4):
        other = prepare(stores.local_lake(Path(lake.objects.root)))
        told.append(other.ledger(1, "events").entries[DAY].facts.damaged is not None)
        other.land([moved(landing("b"), hour)])
        other.record(a_run(1 + hour))

    assert told == [True, True, True]


def test_a_damaged_file_that_nobody_remembers_is_named(lake):
    """Without cache or process that knew it, it is a foreign file."""
    lake.land([landing("a")])
    (file,) = Path(lake.objects.root).glob("events/**/*.parquet")
    file.write_bytes(b"")
    with pytest.raises(errors.DestinationUnusable, match="damaged"):
        stores.local_lake(Path(lake.objects.root)).ledger(1, "events")


def test_the_cache_is_only_a_cache(lake):
    """Gone or broken, the ledger is the same."""
    lake.land([landing("a"), moved(landing(), 1)])
    lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))
    wanted = lake.ledger(1, "events")
    (cache,) = Path(lake.objects.root).glob("_hedgerow/cache/**/*.parquet")
    for break_it in (lambda: None, lambda: cache.write_bytes(b"PAR1"), lambda: cache.unlink()):
        break_it()
        assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events") == wanted


def test_an_outdated_cache_is_not_believed(lake):
    """What it remembers of a window counts for that version of its object alone."""
    lake.land([landing("a")])
    lake.record(a_run(1))
    (cache,) = Path(lake.objects.root).glob("_hedgerow/cache/**/*.parquet")
    outdated = cache.read_bytes()
    lake.land([landing("b", generation=1)])
    cache.write_bytes(outdated)

    assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events") == lake.ledger(1, "events")


def test_the_cache_saves_opening_windows(moto):
    """Of forty windows, one of which changed since, a new process opens that one."""
    with relay(moto) as between:
        bucket = stores.new_bucket(moto)
        lake = prepare(stores.s3_lake(moto, bucket=bucket))
        lake.land([moved(landing(), hour) for hour in range(24)])
        lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))
        changed = moved(landing(), 3)
        lake.land([replace(changed, entry=replace(changed.entry, generation=1))])
        between.seen.clear()
        ledger = stores.s3_lake(between.address, bucket=bucket).ledger(1, "events")
        opened = [one for one in between.seen if one.method == "GET" and one.path.endswith("Z.parquet")]

    assert ledger == lake.ledger(1, "events")
    assert len(opened) == 1
    assert len(between.seen) - 1 < 10  # one listing goes over the lake first


def test_a_long_journal_is_merged(lake):
    """Hundreds of notes and runs become one object, and say the same, also to a process that knew the old ones."""
    (entry,) = lake.land([landing("a")])
    other = stores.local_lake(Path(lake.objects.root))
    said = f"{entry.tally.source_digest}/1:2"
    for number in range(120):
        known = lake.ledger(1, "events").entries[DAY]
        lake.note([Note(known, DAY + timedelta(seconds=number), Agreement(said, known.covered_end))])
        if number == 30:
            other.ledger(1, "events")
    lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))

    assert len(list(lake.objects.list("_hedgerow/journal"))) == 1
    for sink in (lake, other, stores.local_lake(Path(lake.objects.root))):
        noted = sink.ledger(1, "events").entries[DAY]
        assert (noted.state, noted.probed) == (State.VERIFIED, Probed(DAY + timedelta(seconds=119), said))
        assert [run.run_id for run in sink.runs(1, limit=9)] == ["1"]


def disputed(lake: LakeSink) -> Note:
    """What another process finds out about the first window, as it is known there."""
    return Note(lake.ledger(1, "events").entries[DAY], DAY + HOUR, Dispute("9:9:9:9:9/9:9"))


def a_run(number: int) -> Run:
    return Run(str(number), "sync", 1, "events", DAY + timedelta(seconds=number), DAY, "done", 1, 2, 3, 0.0)


def test_merged_journal_forgets_no_newer_note(lake, monkeypatch):
    """Noted by another process while the journal is merged, under an earlier name than the merged object's: it stands."""
    (entry,) = lake.land([landing("a")])
    said = f"{entry.tally.source_digest}/1:2"
    for _ in range(50):
        lake.note([Note(lake.ledger(1, "events").entries[DAY], DAY, Agreement(said, entry.covered_end))])
    other, third = (stores.local_lake(Path(lake.objects.root)) for _ in range(2))
    known, writings = lake.stream(1, "events").journal, []
    write = Journal.write

    def write_lines(writer: Journal, lines: Iterable[Line]) -> None:
        if writer is known:
            writings.append(1)
            if len(writings) == 2:  # the run itself was the first
                other.note([disputed(other)])
        write(writer, lines)

    monkeypatch.setattr(Journal, "write", write_lines)
    lake.record(a_run(0))
    assert lake.ledger(1, "events").entries[DAY].shown is State.DISPUTED
    for number in range(1, 60):
        third.record(a_run(number))

    assert len(writings) == 2
    assert len(list(lake.objects.list("_hedgerow/journal"))) < 48
    for sink in (lake, other, third, stores.local_lake(Path(lake.objects.root))):
        assert sink.ledger(1, "events").entries[DAY].shown is State.DISPUTED


@pytest.mark.parametrize("searched_first", [True, False])
def test_merged_journal_keeps_notes_searches_and_runs(searched_first, lake):
    """Of one landing: what was found out about it, and that its date was searched, in whatever order; and all runs."""
    lake.land([landing("a")])
    steps = [lambda: lake.mark_searched(1, "events", [DAY.date()], seen=lake.ledger(1, "events"))]
    steps.insert(searched_first, lambda: lake.note([disputed(lake)]))
    for step in steps:
        step()
    for number in range(60):
        lake.record(a_run(number))
    again = stores.local_lake(Path(lake.objects.root))
    ledger = again.ledger(1, "events")

    assert len(list(lake.objects.list("_hedgerow/journal"))) < 48
    assert (ledger.entries[DAY].facts, ledger.unchecked) == (Facts(disputed=DAY + HOUR), frozenset())
    assert len(again.runs(1, limit=99)) == 60


@pytest.mark.parametrize("ended_at", ["put", "delete"])
def test_merge_that_ends_in_between_forgets_nothing(ended_at, lake, monkeypatch):
    """Killed, or without the store's answer: what the journal said stands in the old objects, in the merged one, or in both."""
    lake.land([landing("a")])
    lake.note([disputed(lake)])
    for number in range(60):
        lake.stream(1, "events").journal.write([Line(run=journal.stored_run(a_run(number)))])
    merge = Journal.merge

    def ended(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    def merge_until_then(*given: Any) -> None:
        monkeypatch.setattr(LocalObjects, ended_at, ended)
        merge(*given)

    monkeypatch.setattr(Journal, "merge", merge_until_then)
    with pytest.raises(KeyboardInterrupt):
        lake.record(a_run(60))
    monkeypatch.undo()
    again = stores.local_lake(Path(lake.objects.root))

    assert [run.run_id for run in again.runs(1, limit=99)] == [str(number) for number in reversed(range(61))]
    assert again.ledger(1, "events").entries[DAY].facts == Facts(disputed=DAY + HOUR)


def test_a_history_that_is_too_long_forgets_the_oldest_runs(lake, monkeypatch):
    """What `status` shows are the last runs."""
    monkeypatch.setattr(journal, "RUNS_KEPT", 5)
    lake.land([landing("a")])
    for number in range(journal.JOURNAL_OBJECTS + 3):
        lake.record(a_run(number))
    kept = [int(run.run_id) for run in stores.local_lake(Path(lake.objects.root)).runs(1, limit=99)]

    assert kept == list(range(journal.JOURNAL_OBJECTS + 2, journal.JOURNAL_OBJECTS + 2 - len(kept), -1))
    assert 5 <= len(kept) < 10


def test_merge_forgets_no_note_about_a_landing_that_came_meanwhile(lake):
    """Another process lands the window again and disputes it: who merges the journal has not listed that landing yet."""
    (entry,) = lake.land([landing("a")])
    lake.ledger(1, "events")
    other = prepare(stores.local_lake(Path(lake.objects.root)))
    other.ledger(1, "events")
    other.land([landing("b", generation=1)])
    other.note([disputed(other)])
    said = Agreement(f"{entry.tally.source_digest}/1:2", entry.covered_end)
    lake.note([Note(entry, DAY, said)])  # it reads the journal, not the list of windows
    for number in range(60):
        lake.record(a_run(number))

    assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events").entries[DAY].shown is State.DISPUTED


@pytest.mark.parametrize("ahead_s", [-30, 30])
def test_note_counts_whatever_the_clock_of_its_writer(ahead_s, lake, monkeypatch):
    """A dispute noted after a verification by a machine whose clock is wrong stands; a verification after it is known, too."""
    (entry,) = lake.land([landing("a")])
    agreed = Agreement(f"{entry.tally.source_digest}/1:2", entry.covered_end)
    lake.note([Note(entry, DAY, agreed)])
    other = stores.local_lake(Path(lake.objects.root))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("time.time", lambda now=time.time: now() + ahead_s)
        elsewhere.setattr("time.time_ns", lambda now=time.time_ns: now() + ahead_s * 10**9)
        other.note([disputed(other)])
    assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events").entries[DAY].shown is State.DISPUTED

    lake.note([Note(lake.ledger(1, "events").entries[DAY], DAY, agreed)])
    assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events").entries[DAY].shown is State.VERIFIED


def test_what_is_known_of_windows_outlives_a_run_that_saw_none(lake):
    """A foreign file ends a run before it has listed the windows: its journal is not merged without them."""
    (entry,) = lake.land([landing("a")])
    for _ in range(60):
        lake.note([Note(entry, DAY, Damage())])
    foreign = Path(lake.objects.root) / "events" / "project_id=1" / "x.parquet"
    with pytest.MonkeyPatch.context() as later:
        later.setattr("time.time", lambda now=time.time: now() + 90_000)
        other = prepare(stores.local_lake(Path(lake.objects.root)))
        foreign.write_bytes(b"")
        with pytest.raises(errors.DestinationUnusable):
            other.ledger(1, "events")
        other.record(Run("last", "sync", 1, "events", DAY, DAY, "failed", 1, 2, 3, 0.0))
    foreign.unlink()

    assert stores.local_lake(Path(lake.objects.root)).ledger(1, "events").entries[DAY].shown is State.DISPUTED


def test_a_lake_that_another_process_has_just_begun_is_no_foreign_place(lake, monkeypatch):
    """Its format comes between the look for one and the look at what is there."""
    lake.land([landing("a")])
    other = stores.local_lake(Path(lake.objects.root))
    looked = other.objects.get
    missed = [True]

    def get(path: str) -> tuple[bytes, str]:
        if path == "_hedgerow/format" and missed:
            missed.clear()
            raise Missing(path)
        return looked(path)

    monkeypatch.setattr(other.objects, "get", get)
    prepare(other)

    assert names(other) == ["a"]


@pytest.mark.parametrize(("host", "other_host"), [("https://us", False), ("https://eu", True)])
def test_of_two_hosts_that_begin_a_project_at_once_one_is_refused(host, other_host, lake, monkeypatch):
    """Both see a lake that knows no host of it: the slower one hears whose it is by then. Two of one host go on."""
    other = stores.local_lake(Path(lake.objects.root))
    put = other.objects.put

    def slower(path: str, *given: Any, **named: Any) -> Any:
        monkeypatch.undo()
        lake.prepare(2, "events", host="https://us", event_filter="", rebuild=False)
        return put(path, *given, **named)

    monkeypatch.setattr(other.objects, "put", slower)
    with pytest.raises(errors.HostChanged, match="from https://us") if other_host else nullcontext():
        other.prepare(2, "events", host=host, event_filter="", rebuild=False)


@pytest.mark.parametrize("there", [False, True])
def test_trying_a_destination_leaves_nothing(there, tmp_path):
    """A directory that does not exist is not made by a look at it, nor anything in one that does."""
    if there:
        (tmp_path / "lake").mkdir()
    stores.local_lake(tmp_path / "lake").check(1, "events", host="https://a", event_filter="")

    assert list(tmp_path.rglob("*")) == ([tmp_path / "lake"] if there else [])


STRAYS = {
    "beside the projects": "events/stray.parquet",
    "of a project that was never landed": "events/project_id=9999/date=2026-01-01/{window}",
    "of no project": "events/project_id=x/date=2026-01-01/{window}",
    "in a folder more": "events/project_id=1/old/date=2026-01-01/{window}",
    "in a folder of its own": "events/backup/project_id=1/date=2026-01-01/{window}",
    "of another project's windows": "events/project_id=2/date=2026-01-01/part-0.parquet",
    "in digits of another script": "events/project_id=\u0661/date=2026-01-01/{window}",
    "beside a list with history": "evaluations/copy.parquet",
    "among the tables of exports": "exports/tables/mine.parquet",
    "a window in another stream's folder": "exports/project_id=1/date=2026-01-01/{window}",
}


@pytest.mark.parametrize("place", ["local", "moto"])
@pytest.mark.parametrize("stray", STRAYS)
def test_what_a_glob_over_the_lake_would_read_is_ours_or_named(stray, place, tmp_path, request):
    """By the first look of a run and of verify, of whichever stream, by check, sql and attach: before anything is landed."""
    local = place == "local"
    lake = stores.local_lake(tmp_path / "lake") if local else stores.s3_lake(request.getfixturevalue("moto"))
    for project_id in (1, 2):
        lake.prepare(project_id, "events", host="https://a", event_filter="", rebuild=False)
    lake.land([landing("a")])
    (one,) = lake.objects.list("events")
    path = STRAYS[stray].format(window="20260101T000000Z-20260102T000000Z.parquet")
    lake.objects.put(path, lake.objects.get(one.path)[0])

    def sql() -> None:
        with LakeSink(lake.objects).query("SELECT count(*) FROM events"):
            pass

    looks = {
        "run": lambda: LakeSink(lake.objects).ledger(1, "events"),
        "check": lambda: LakeSink(lake.objects).check(1, "events", host="https://a", event_filter=""),
        "check of another stream": lambda: LakeSink(lake.objects).check(
            1, "exports", host="https://a", event_filter=""
        ),
        "verify of another stream": lambda: LakeSink(lake.objects).origin(1, "evaluations"),
        "copy of another stream": lambda: LakeSink(lake.objects).prepare(
            1, "annotations", host="https://a", event_filter="", rebuild=False
        ),
        "audit": lambda: LakeSink(lake.objects).audit(1, "events", DAY, DAY + HOUR),
        "sql": sql,
        "attach": lambda: LakeSink(lake.objects).attach(tmp_path / "views.duckdb"),
    }
    for look in looks.values():
        with pytest.raises(errors.DestinationUnusable, match=re.escape(path)):
            look()
    assert not (tmp_path / "views.duckdb").exists()


def test_strays_are_named_where_no_project_is(tmp_path):
    """A lake that holds nothing yet, or exports alone."""
    lake = prepare(stores.local_lake(tmp_path / "lake"))
    for one in lake.objects.list("_hedgerow/projects"):
        lake.objects.delete(one.path)
    lake.objects.put("events/stray.parquet", b"PAR1")
    lake.objects.put("events/another.parquet", b"PAR1")
    named = pytest.raises(errors.DestinationUnusable, match=r"another\.parquet \(and 1 more\)")
    with named, LakeSink(lake.objects).query("SELECT 1"):
        pass
    with named:
        LakeSink(lake.objects).attach(tmp_path / "views.duckdb")


def test_windows_of_other_projects_and_other_files_are_no_strays(lake):
    """Several projects lie in one lake; a glob over *.parquet does not read a README, nor a folder that is no stream's.
    A content may be of any kind."""
    lake.prepare(12, "events", host="https://a", event_filter="", rebuild=False)
    lake.land([landing("a", project_id=12)])
    lake.objects.put("events/README.txt", b"mine")
    lake.objects.put("reports/mine.parquet", b"mine")
    lake.objects.put("exports/contents/1/3-data.parquet", b"a content")
    for name in ("exports", "export_1_3", "weekly", "evaluations"):
        lake.replace(name, pa.table({"a": [1]}), version="")

    assert LakeSink(lake.objects).ledger(1, "events").entries == {}
    assert len(LakeSink(lake.objects).ledger(12, "events").entries) == 1


def test_a_project_begun_meanwhile_is_no_stray(lake, monkeypatch):
    """Its windows are listed, and it is not yet: who looks asks once more."""
    lake.prepare(12, "events", host="https://a", event_filter="", rebuild=False)
    lake.land([landing("a", project_id=12)])
    asked = list(lake.objects.list())
    monkeypatch.setattr(lake.objects, "among", lambda places: (one for one in asked if "projects/12" not in one.path))

    assert LakeSink(lake.objects).ledger(1, "events").entries == {}


def test_one_listing_of_a_run_goes_over_the_lake(moto):
    """The first; those after it ask for the run's own project."""
    with relay(moto) as between:
        lake = prepare(stores.s3_lake(between.address, prefix="p"))
        lake.land([landing("a")])
        between.seen.clear()
        again = LakeSink(lake.objects)
        for _ in range(3):
            again.ledger(1, "events")
    listed = [unquote(request.path) for request in between.seen if "list-type=2" in request.path]
    asked = [re.findall(r"[?&]prefix=([^&]*)", path) for path in listed if "_hedgerow" not in path]

    assert asked == [["p/"]] + [["p/events/project_id=1/"]] * 3


@pytest.mark.parametrize(("prefix", "asked"), [("p", [""]), ("", ["a", "b/c"])])
def test_a_bucket_without_a_prefix_is_not_listed_whole(prefix, asked, monkeypatch):
    """Others may have a million objects in it. Below a prefix of its own one listing is the least."""
    objects, seen = s3.S3Objects("bucket", prefix, s3.S3Options()), []
    there = [Found(path, "", 1) for path in ("a/1", "b/c/2", "b/3", "ab/4")]

    def listed(place: str = "") -> list[Found]:
        seen.append(place)
        return [one for one in there if not place or one.path.startswith(f"{place}/")]

    monkeypatch.setattr(objects, "list", listed)

    assert [one.path for one in objects.among(("a", "b/c"))] == ["a/1", "b/c/2"]
    assert seen == asked


def test_a_lake_that_sql_cannot_read_is_told_as_one(lake):
    """What DuckDB says of the files is no fault of hedgerow, nor of the query."""
    lake.land([landing("a")])
    lake.replace("export_1_5", pa.table({"a": [1]}), version="", views={"export_5": "SELECT b FROM export_1_5"})
    with pytest.raises(errors.DestinationUnusable, match=r"export_5.* cannot be read"), lake.query("FROM export_5"):
        pass


def test_a_damaged_window_that_a_query_meets_is_no_fault_of_the_query(lake):
    """The first of the files says what the view is; what any other is, is seen only when its rows are read."""
    lake.land([landing("a"), moved(landing("b"), 1)])
    lake.record(a_run(1))
    sorted(Path(lake.objects.root).glob("events/**/*.parquet"))[1].write_bytes(b"PAR1 no more")
    there = stores.local_lake(Path(lake.objects.root))
    with pytest.raises(errors.DestinationUnusable, match="T010000Z-"), there.query("SELECT event FROM events"):
        pass
    with pytest.raises(errors.BadQuery), there.query("SELECT nothing FROM events"):
        pass


LISTS = {
    "evaluations": {
        "evaluations_current": "FROM evaluations",
        "evaluation_results": "SELECT e.uuid AS result FROM events e, evaluations",
    },
    "annotations": {"annotations_current": "FROM annotations"},
}
DEPENDENT = {
    "evaluations/evaluations.parquet": ["evaluations", "evaluations_current", "evaluation_results"],
    "annotations/annotations.parquet": ["annotations", "annotations_current"],
    "exports/tables/export_1_5.parquet": ["export_1_5", "export_5"],
    "exports/snapshots/weekly.parquet": ["weekly"],
    "events/*/*/*.parquet": ["events", "evaluation_results"],
    "_hedgerow/quarantine/*/*/*.parquet": ["hedgerow.quarantine"],
}


@pytest.mark.parametrize("damaged", DEPENDENT)
def test_an_object_that_cannot_be_read_hides_nothing_but_itself(damaged, lake, tmp_path):
    """Who asks for it hears which it is, also for a count of its rows or one of its columns; all else can be asked for. In
    `sql` and in what `attach` writes."""
    lake.land([landing("a", rejects=[DAY])])
    lake.record(a_run(1))  # the window is remembered
    for name, views_of in {**LISTS, "export_1_5": {"export_5": "FROM export_1_5"}, "weekly": {}}.items():
        lake.replace(name, pa.table({"a": [1]}), version="", views=views_of)
    (file,) = Path(lake.objects.root).glob(damaged)
    file.write_bytes(b"PAR1 no more")
    there = LakeSink(LocalObjects(Path(lake.objects.root), lake.name))
    _, problems = there.attach(tmp_path / "views.duckdb")

    names = {name for dependent in DEPENDENT.values() for name in dependent}
    said = rf"({file.name}|{'events' if 'events' in damaged else file.name}) cannot be read|{file.name}'"
    assert any(re.search(said, problem) for problem in problems)
    with duckdb.connect(str(tmp_path / "views.duckdb"), read_only=True) as db:
        for name in names:
            if name not in DEPENDENT[damaged]:
                with there.query(f"SELECT count(*) FROM {name}") as result:
                    assert result.fetchall() == [(1,)]
                if "events" not in damaged or "quarantine" not in name:  # attached, a view over the windows' footers
                    assert db.execute(f"SELECT count(*) FROM {name}").fetchall() == [(1,)]
                continue
            with pytest.raises(errors.DestinationUnusable, match=said), there.query(f"SELECT count(*) FROM {name}"):
                pass
            with pytest.raises(errors.SinkError) as refused, there.query(f"SELECT a FROM {name}"):
                pass
            assert re.search(said, f"{refused.value} {refused.value.hint}")
            with pytest.raises(duckdb.Error, match=said):
                db.execute(f"SELECT count(*) FROM {name}")


@pytest.fixture(params=["local", "moto", "localbucket"])
def shared(request, tmp_path) -> Callable[[], LakeSink]:
    """Opens one lake as another process would; localbucket ignores If-Match."""
    if request.param == "local":
        return lambda: stores.local_lake(tmp_path / "lake")
    address = request.getfixturevalue(request.param)
    bucket = stores.new_bucket(address)
    return lambda: stores.s3_lake(address, bucket=bucket)


@pytest.mark.parametrize("generation", [0, 1])
def test_of_two_writers_of_a_window_one_lands(shared, generation):
    """At the same moment: one lands, the other hears of it; in the store is one complete reading, which the ledger tells."""
    first = prepare(shared())
    if generation:
        first.land([landing("old")])
    lost: list[str] = []
    landed: list[Entry] = []
    writers = [prepare(shared()) for _ in range(4)]
    ready = threading.Barrier(len(writers))

    def write(writer: LakeSink, number: int) -> None:
        writer.ledger(1, "events")
        ready.wait()
        try:
            landed.extend(writer.land([landing(*[f"w{number}"] * 3, generation=generation)]))
        except errors.GenerationConflict:
            lost.append(str(number))

    threads = [threading.Thread(target=write, args=(one, number)) for number, one in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = shared()
    entry = reader.ledger(1, "events").entries[DAY]

    assert len(landed) + len(lost) == len(writers)
    if first.objects.conditional or not generation:
        assert len(landed) == 1
    assert len(names(reader)) == 3
    assert len(set(names(reader))) == 1
    assert reader.audit(1, "events", DAY, DAY + HOUR)[DAY].digest == entry.tally.landed_digest


def test_two_writers_agree_on_the_step_of_a_date(shared):
    """The first to land cuts the date; another cut is refused, and heard of."""
    first, second = prepare(shared()), prepare(shared())
    second.ledger(1, "events")
    first.land([landing("a")])
    other = landing("b")
    whole = replace(other.entry, end=DAY + timedelta(days=1), covered_end=DAY + timedelta(days=1))
    with pytest.raises(errors.GenerationConflict, match="step"):
        second.land([replace(other, entry=whole, step=timedelta(days=1))])

    assert names(shared()) == ["a"]


def test_a_run_under_an_older_filter_is_stopped(shared):
    """Another process rebuilds meanwhile: what was read under the old filter is not landed."""
    first = prepare(shared())
    first.land([landing("a")])
    prepare(shared(), rebuild=True, event_filter="x")
    with pytest.raises(errors.FilterChanged):
        first.land([landing("b", generation=1)])

    assert shared().ledger(1, "events").entries[DAY].state is State.STALE
    assert names(shared()) == ["a"]


def test_a_lost_answer_of_a_put_is_no_failure(moto):
    """The object is there, its answer never came: the landing is known by its id, and not taken for another run's."""
    with relay(moto) as between:
        bucket = stores.new_bucket(moto)
        lake = prepare(stores.s3_lake(between.address, bucket=bucket))
        for generation in range(2):
            lost = [True]
            between.lost = lambda request, lost=lost: (
                request.method == "PUT" and request.path.endswith("Z.parquet") and bool(lost) and lost.pop()
            )
            (entry,) = lake.land([landing("ab"[generation], generation=generation)])
            assert not lost
            assert entry.generation == generation + 1

    assert names(stores.s3_lake(moto, bucket=bucket)) == ["b"]


NO_200 = [
    pytest.param(refused(503, "SlowDown"), id="503"),
    pytest.param(refused(403, "AccessDenied"), id="403"),
    pytest.param((0, b""), id="no answer"),
]


@pytest.mark.parametrize("answer", NO_200)
def test_a_put_without_a_200_is_no_landing(answer, moto, monkeypatch):
    """The call fails, and nobody takes the window for landed again: what was there stays, and the next try lands."""
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    monkeypatch.setattr(s3, "RETRY", {"max_retries": 1, "retry_timeout": timedelta(seconds=5), "backoff": backoff})
    with relay(moto) as between:
        bucket = stores.new_bucket(moto)
        lake = prepare(stores.s3_lake(between.address, bucket=bucket))
        lake.land([landing("a")])
        between.answer = lambda request: answer if request.method == "PUT" else None
        for one in (landing("b", generation=1), moved(landing(), 1)):
            with pytest.raises(errors.SinkError):
                lake.land([one])
        between.answer = lambda request: None

        for known in (lake, stores.s3_lake(moto, bucket=bucket)):
            assert {start: entry.generation for start, entry in known.ledger(1, "events").entries.items()} == {DAY: 1}
            assert names(known) == ["a"]
        (entry,) = lake.land([landing("b", generation=1)])
        assert (entry.generation, names(lake)) == (2, ["b"])


def test_credentials_that_expire_keep_what_is_landed(moto):
    """After three windows every request is refused: named, and the next run goes on from there."""
    with relay(moto) as between:
        bucket = stores.new_bucket(moto)
        lake = prepare(stores.s3_lake(between.address, bucket=bucket))
        made = [moved(landing(), hour) for hour in range(6)]
        for one in made[:3]:
            lake.land([one])
        between.answer = lambda request: refused(400, "ExpiredToken")
        with pytest.raises(errors.DestinationUnusable, match="expired"):
            lake.land(made[3:])

    assert len(stores.s3_lake(moto, bucket=bucket).ledger(1, "events").entries) == 3


def test_a_read_only_bucket_can_be_read_and_says_so(moto):
    """Nothing is written at the start of a run; status and sql work."""
    with relay(moto) as between:
        bucket = stores.new_bucket(moto)
        prepare(stores.s3_lake(moto, bucket=bucket)).land([landing("a")])
        between.answer = lambda request: refused(403, "AccessDenied") if request.method == "PUT" else None
        lake = stores.s3_lake(between.address, bucket=bucket)
        with pytest.raises(errors.DestinationUnusable, match="access is denied"):
            prepare(lake)

        assert names(lake) == ["a"]
        with lake.query("SELECT count(*) FROM events") as result:
            assert result.fetchall() == [(1,)]


def test_rows_in_quarantine_follow_their_window(shared):
    """Written first, named by the footer; what replaces them takes the old object away."""
    lake = prepare(shared())
    made = landing("a")
    rejects = REJECTS.empty_table().from_pylist([{"at": DAY, "reason": "no time", "text": "{}"}], schema=REJECTS)
    entry = replace(made.entry, tally=replace(made.entry.tally, source_rows=2, quarantined_rows=1))
    lake.land([replace(made, entry=entry, rejects=rejects)])
    with shared().query("SELECT reason, text FROM hedgerow.quarantine") as result:
        assert result.fetchall() == [("no time", "{}")]
    lake.land([landing("a", generation=1)])

    assert list(lake.objects.list("_hedgerow/quarantine")) == []


def test_the_slower_writer_leaves_no_quarantine(shared):
    """What it wrote before it heard that another was first is named by no footer, and removed."""
    first, second = prepare(shared()), prepare(shared())
    second.ledger(1, "events")
    first.land([landing("a")])
    rejects = REJECTS.empty_table().from_pylist([{"at": DAY, "reason": "no time", "text": "{}"}], schema=REJECTS)
    with pytest.raises(errors.GenerationConflict):
        second.land([replace(landing("b"), rejects=rejects)])

    assert list(first.objects.list("_hedgerow/quarantine")) == []


def test_a_large_window_goes_up_from_disk(shared, monkeypatch):
    """Beyond what is held in memory the file is written first; it is the same."""
    monkeypatch.setattr("sinks.lake.landing.BUFFERED_BYTES", 10)
    monkeypatch.setattr("sinks.objects.base.MULTIPART_BYTES", 100)
    lake = prepare(shared())
    lake.land([landing("a", "b")])
    lake.land([landing("c", generation=1)])

    assert names(shared()) == ["c"]
    assert not list(lake.spool_directory.glob("window-*"))


@pytest.mark.parametrize("shared", ["local", "moto"], indirect=True)
@pytest.mark.parametrize("whole", [True, False])
def test_sql_has_the_tables_of_a_duckdb_file(whole, shared, monkeypatch):
    """Rows, ledger, runs, changes and quarantine, also for an empty lake, without httpfs; large files are read in parts."""
    if not whole:
        monkeypatch.setattr(views, "WHOLE_BYTES", 0)
    lake = prepare(shared())
    tables = ("events", "hedgerow.windows", "hedgerow.runs", "hedgerow.changes", "hedgerow.quarantine")
    for rows in (0, 1):
        for table in tables:
            with shared().query(f"SELECT count(*) FROM {table}") as result:
                assert result.fetchall() == [(rows if table != "hedgerow.quarantine" else 0,)]
        if not rows:
            lake.land([replace(landing("a"), changes=Changes(late=1))])
            lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))
    with shared().query("SELECT uuid, properties->>'big', date FROM events") as result:
        assert result.description[0][1] == "UUID"
    with pytest.raises(errors.BadQuery), shared().query("SELECT nothing FROM events"):
        pass


def test_views_of_histories_say_what_runs_know(lake, tmp_path):
    """Each column has its own value, and its own type: of runs, of changes and of quarantine, attached and in `sql`."""
    found = Changes(1, 2, 3, timedelta(hours=50))
    lake.land([replace(landing("a", rejects=[DAY + HOUR / 2]), changes=found)])
    run = Run("r", "sync", 1, "events", DAY, DAY + HOUR, "failed", 4, 5, 6, 7.5, "why")
    lake.record(run)
    asked = {
        "runs": "run_id, command, project_id, stream, epoch(started_at), epoch(finished_at), outcome, windows, rows, "
        "requests, waited_s, error",
        "changes": "project_id, stream, epoch(window_start), epoch(found_at), late, deleted, changed, lateness_s",
        "quarantine": 'project_id, stream, epoch(window_start), epoch("at"), reason, text, epoch(read_at)',
    }
    began = DAY.timestamp()
    odd = str(DAY + HOUR / 2)
    expected = {
        "runs": ("r", "sync", 1, "events", began, began + 3600, "failed", 4, 5, 6, 7.5, "why"),
        "changes": (1, "events", began, began, 1, 2, 3, 180_000.0),
        "quarantine": (1, "events", began, began + 1800, odd, odd, began),
    }
    lake.attach(tmp_path / "views.duckdb")
    with duckdb.connect(str(tmp_path / "views.duckdb"), read_only=True) as db:
        attached = {
            name: db.sql(f"SELECT {columns} FROM hedgerow.{name}").fetchall() for name, columns in asked.items()
        }
    shown = {}
    for name, columns in asked.items():
        with lake.query(f"SELECT {columns} FROM hedgerow.{name}") as result:
            shown[name] = result.fetchall()

    assert attached == shown == {name: [row] for name, row in expected.items()}


@pytest.mark.parametrize("empty", [True, False])
def test_views_follow_the_lake(empty, tmp_path):
    """Attached before or after the first window, the file shows what is landed later; opened by two at once."""
    lake = prepare(stores.local_lake(tmp_path / "it's a lake"))
    if not empty:
        lake.land([landing("a")])
    file = tmp_path / "views.duckdb"
    lake.attach(file)
    lake.land([landing("b", generation=0 if empty else 1)])
    with duckdb.connect(str(file), read_only=True) as one, duckdb.connect(str(file), read_only=True) as two:
        found = [db.sql("SELECT event, uuid, properties->>'big' AS big FROM events").fetchall() for db in (one, two)]

    assert found[0] == found[1]
    assert [row[0] for row in found[0]] == ["b"]
    assert found[0][0][2] == "123456789012345678901234567890"


def test_printed_views_work_elsewhere(lake):
    """The SQL that is printed makes the same views in any DuckDB; the ledger comes from the footers."""
    lake.land([landing("a", "b"), moved(landing(), 1)])
    statements, _ = lake.attach(Path(lake.objects.root).parent / "views.duckdb")
    with duckdb.connect() as db:
        db.execute(statements)
        assert db.sql("SELECT count(*) FROM events").fetchall() == [(2,)]
        ledger = db.sql("SELECT window_start, landed_rows, generation FROM hedgerow.windows ORDER BY 1").fetchall()

    assert [(rows, generation) for _, rows, generation in ledger] == [(2, 1), (0, 1)]


def test_a_view_that_was_attached_before_the_first_quarantine_says_so(lake):
    """Not that there is nothing in quarantine: a row for each window that has something there."""
    lake.land([landing("a")])
    output = Path(lake.objects.root).parent / "views.duckdb"
    lake.attach(output)
    with duckdb.connect(str(output)) as db:
        assert db.sql("FROM hedgerow.quarantine").fetchall() == []
    rejected = pa.Table.from_pylist([{"at": DAY, "reason": "odd", "text": "{"}], schema=REJECTS)
    lake.land([replace(moved(landing("b"), 1), rejects=rejected)])
    with duckdb.connect(str(output)) as db:
        before = db.sql("SELECT reason, text FROM hedgerow.quarantine").fetchall()
    lake.attach(output)
    with duckdb.connect(str(output)) as db:
        after = db.sql("SELECT reason, text FROM hedgerow.quarantine").fetchall()

    assert before == [("attached before the first row in quarantine: attach again", None)]
    assert after == [("odd", "{")]


@pytest.mark.parametrize("journal", [True, False])
def test_views_over_windows_are_for_duckdb_1_too(journal, lake):
    """It knows no option for patterns that find nothing, and takes a chain of arrows otherwise."""
    lake.land([landing("a")])
    if journal:
        lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))
    statements, _ = lake.attach(Path(lake.objects.root).parent / "views.duckdb")

    assert "allow_empty" not in statements
    assert re.search(r"->\s*'[^']*'\s*->", statements) is None


def test_folders_above_a_lake_are_no_columns(tmp_path):
    """A folder name=value gives a value to nothing that a window, its ledger or a table says."""
    home = tmp_path / "state=CA" / "epoch=7" / "team=blue" / "my_project_id=9"
    home.mkdir(parents=True)
    lake = prepare(stores.local_lake(home / "lake"))
    lake.land([landing("a"), moved(landing("b"), 1)])
    lake.replace("export_1_5", pa.table({"team": ["red"]}), version="")
    entry, _ = [entry for _, entry in sorted(lake.ledger(1, "events").entries.items())]
    lake.note([Note(entry, DAY, Damage())])
    lake.attach(tmp_path / "views.duckdb")
    prepare(lake, rebuild=True)
    with duckdb.connect(str(tmp_path / "views.duckdb"), read_only=True) as db:
        shown = db.sql("SELECT state, generation FROM hedgerow.windows ORDER BY window_start").fetchall()
    with lake.query("SELECT team FROM export_1_5") as result:
        assert result.fetchall() == [("red",)]

    known = [(str(entry.shown), entry.generation) for _, entry in sorted(lake.ledger(1, "events").entries.items())]
    assert shown == known == [("stale", 2), ("stale", 2)]


def test_views_of_several_projects_have_each_window_once(lake, tmp_path):
    """The rules of one project say nothing of another's windows."""
    for project_id in (1, 2, 3):
        lake.prepare(project_id, "events", host="https://a", event_filter="", rebuild=project_id == 2)
        made = landing("a")
        lake.land([replace(made, entry=replace(made.entry, project_id=project_id))])
    lake.attach(tmp_path / "views.duckdb")
    with duckdb.connect(str(tmp_path / "views.duckdb"), read_only=True) as db:
        shown = db.sql("SELECT project_id, state FROM hedgerow.windows ORDER BY 1").fetchall()

    assert shown == [(1, "landed"), (2, "landed"), (3, "landed")]


def test_no_credentials_in_views(moto, tmp_path):
    """Neither in the file nor in what is printed."""
    lake = prepare(stores.s3_lake(moto))
    lake.land([landing("a")])
    statements, _ = lake.attach(tmp_path / "views.duckdb")

    for secret in stores.KEYS:
        assert secret not in statements
        assert secret.encode() not in (tmp_path / "views.duckdb").read_bytes()
    assert "CREATE SECRET" in statements


@pytest.mark.parametrize("what", ["TABLE precious", "VIEW events"])
def test_attach_replaces_only_views(what, lake, tmp_path):
    """A database with data, or with a view of somebody else's, is not overwritten."""
    file = tmp_path / "mine.duckdb"
    with duckdb.connect(str(file)) as db:
        db.execute(f"CREATE {what} AS SELECT 1 AS a")
    with pytest.raises(errors.DestinationUnusable, match=r"mine\.duckdb"):
        lake.attach(file)
    lake.attach(tmp_path / "views.duckdb")
    lake.attach(tmp_path / "views.duckdb")

    with duckdb.connect(str(file), read_only=True) as db:
        assert db.sql(f"FROM {what.split()[1]}").fetchall() == [(1,)]


def test_attached_ledger_is_the_one_that_runs_know(lake, tmp_path):
    """States and facts as `ledger` gives them: after a note, after damage and its end, after a rebuild, merged or not."""
    file = tmp_path / "views.duckdb"
    lake.land([landing("a", "b"), moved(landing("c"), 1), moved(landing("d"), 2), moved(landing("e"), 3)])
    lake.attach(file)

    def entries() -> list[Entry]:
        return [entry for _, entry in sorted(lake.ledger(1, "events").entries.items())]

    def compare() -> list[str]:
        columns = "window_start, state, generation, damaged_at, unmerged_at, held_at, disputed_at, probed"
        with duckdb.connect(str(file), read_only=True) as db:
            db.execute("SET TimeZone = 'UTC'")
            shown = db.sql(f"SELECT {columns} FROM hedgerow.windows ORDER BY 1").fetchall()
        known = [
            (
                *(entry.start, str(entry.shown), entry.generation),
                *(getattr(entry.facts, name) for name in ("damaged", "unmerged", "held", "disputed")),
                entry.probed.values if entry.probed else None,
            )
            for entry in entries()
        ]
        assert shown == known
        return [row[1] for row in shown]

    first, second, third, fourth = entries()
    assert compare() == ["landed"] * 4
    said = f"{first.tally.source_digest}/1:2"
    lake.note([Note(first, DAY, Agreement(said, first.covered_end)), Note(second, DAY, Stop())])
    lake.note([Note(third, DAY, Damage()), Note(fourth, DAY, Damage())])
    assert compare() == ["verified", "held", "disputed", "disputed"]
    lake.note([Note(entries()[3], DAY, Sound())])
    assert compare() == ["verified", "held", "disputed", "landed"]
    for _ in range(60):
        lake.note([Note(entries()[1], DAY, Stop())])
    lake.record(Run("1", "sync", 1, "events", DAY, DAY, "done", 1, 2, 3, 0.0))
    assert compare() == ["verified", "held", "disputed", "landed"]
    lake.prepare(1, "events", host="https://a", event_filter="", rebuild=True)
    assert compare() == ["stale"] * 4


def test_a_full_disk_is_told_as_one(lake, monkeypatch):
    """A large window waits in a file before it goes up: where there is no room, exit 12 says what to free."""
    monkeypatch.setattr("sinks.lake.landing.BUFFERED_BYTES", 0)

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sinks.lake.window_file.write", full)
    with pytest.raises(errors.DestinationUnusable, match="No space left") as told:
        lake.land([landing("a")])

    assert "free space" in told.value.hint


def test_of_two_rebuilds_at_once_both_count(lake, monkeypatch):
    """Neither undoes the other: every landing of before is stale, also one that came between the two."""
    lake.land([landing("a")])
    other = prepare(stores.local_lake(Path(lake.objects.root)))
    put = lake.objects.put

    def second(path: str, data: bytes, **condition: object) -> str:
        if "/streams/" in path:
            monkeypatch.setattr(lake.objects, "put", put)
            prepare(other, rebuild=True)
            other.ledger(1, "events")
            other.land([landing("b", generation=2)])
        return put(path, data, **condition)

    monkeypatch.setattr(lake.objects, "put", second)
    prepare(lake, rebuild=True)

    (entry,) = lake.ledger(1, "events").entries.values()
    assert (entry.state, entry.generation) == (State.STALE, 4)


def test_a_faster_replacer_is_not_taken_for_us(lake, monkeypatch):
    """The version remembered of a new object is that of what was put, not of what stands there a moment later."""
    other = prepare(stores.local_lake(Path(lake.objects.root)))
    put = LocalObjects.put

    def then_replaced(self: LocalObjects, path: str, data: bytes | Path, **condition: object) -> str:
        etag = put(self, path, data, **condition)
        if path.endswith("Z.parquet") and self is lake.objects and condition.get("create"):
            other.ledger(1, "events")
            other.land([landing("b", generation=1)])
        return etag

    monkeypatch.setattr(LocalObjects, "put", then_replaced)
    lake.land([landing("a")])

    with pytest.raises(errors.GenerationConflict):
        lake.land([landing("c", generation=1)])
    assert names(other) == ["b"]


def test_a_table_in_blocks_is_written_in_groups(tmp_path, monkeypatch):
    """Each row once and in its order, a group of them in memory at a time; from the start again at each call."""
    monkeypatch.setattr(window_file, "ROWS_PER_GROUP", 4)
    rows = pa.table({"n": range(9)})
    batches = rows.to_batches(max_chunksize=2)
    sink = stores.local_lake(tmp_path / "lake")
    for _ in range(2):
        held = sink.table("weekly")
        sink.replace(
            "weekly",
            lambda: pa.RecordBatchReader.from_batches(rows.schema, batches),
            version=held.version if held else "",
        )

    assert sink.table("weekly").rows.to_pylist() == rows.to_pylist()
    assert pq.ParquetFile(tmp_path / "lake/exports/snapshots/weekly.parquet").metadata.num_row_groups == 3
