"""Every sink against the reference: after every step of any history both hold the same."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from extractors.http.decode import RAW_ROWS, REJECTS
from extractors.window import DAY, MICROSECOND, midnight
from sinks import errors
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import (
    Agreement,
    Base,
    Damage,
    Dispute,
    Entry,
    Facts,
    Landing,
    Note,
    Sound,
    State,
    Stop,
    Tally,
    TooHeavy,
)
from sinks.ledger import Ledger
from sinks.memory import MemorySink
from sinks.sink import Run, Sink
from tests import stores
from tests.sinks import filled
from transforms import events as rows_of
from transforms.schema import EVENTS

DAYS = (date(2026, 1, 31), date(2026, 2, 1))
STEPS = {DAYS[0]: timedelta(hours=6), DAYS[1]: DAY}
HOSTS = ("https://a", "https://b")
READ_AT = datetime(2026, 2, 2, tzinfo=UTC)
ODD = ('{"big":123456789012345678901234567890,"z":-0.0}', '{"a":1,"a":2}', '{"nul":"a\\u0000b"}', "{}")

# Rows that could not be typed: microseconds from where a tail begins, None for those without a time.
rejected = st.lists(st.none() | st.sampled_from([-1, 0, 1]), max_size=3, unique=True)
# Minutes into the window, number of the uuid (few, so that identities meet again), text of the properties.
rows = st.lists(st.tuples(st.integers(0, 359), st.integers(0, 5), st.sampled_from(ODD)), max_size=6)
windows = st.tuples(st.sampled_from(DAYS), st.integers(0, 3))
projects = st.sampled_from([1, 2])
findings = st.sampled_from(
    [
        lambda known: Agreement(f"{known.known_tally.source_digest}/1:2", known.compared_until),
        lambda known: Agreement(f"{known.known_tally.source_digest}/3:4", known.compared_until),
        lambda known: Dispute("9:9:9:9:9/9:9"),
        lambda known: Stop(None),
        lambda known: Stop("8:8:8:8:8/8:8"),
        lambda known: Damage(),
        lambda known: Sound(),
        lambda known: TooHeavy(),
    ]
)


def window_of(day: date, number: int) -> tuple[datetime, datetime]:
    step = STEPS[day]
    start = midnight(day) + number % (DAY // step) * step
    return start, start + step


def landing(
    project_id: int,
    window: tuple[date, int],
    content: list[tuple[int, int, str]],
    *,
    known: Entry | None,
    tail: bool,
    rejects: Sequence[int | None] = (),
) -> Landing:
    """A landing as the pipeline would make it; a *tail* keeps the first half of an open window."""
    start, end = window_of(*window)
    step = end - start
    bound = start + step / 2 if tail else start
    moments = [start + timedelta(minutes=minute % int(step / timedelta(minutes=1))) for minute, _, _ in content]
    kept = [(at, number, text) for at, (_, number, text) in zip(moments, content, strict=True) if at >= bound]
    kept.sort(key=lambda row: row[0])
    raw = pa.table(
        [
            [f"00000000-0000-4000-8000-{number:012x}" for _, number, _ in kept],
            [f"e{number % 2}'; DROP TABLE events;--" for _, number, _ in kept],
            ["d"] * len(kept),
            [at for at, _, _ in kept],
            [text for _, _, text in kept],
            [""] * len(kept),
        ],
        schema=RAW_ROWS,
    )
    settled = rows_of.settled(filled.staged(raw, project_id=project_id, loaded_at=READ_AT))
    edge = start + step / 2
    times = [None if micros is None else edge + micros * MICROSECOND for micros in rejects]
    times = [at for at in times if at is None or at >= bound]
    texts = [f"{at}'; DROP TABLE events;--" for at in times]
    tally = Tally(
        settled.source.count + len(times),
        str(settled.source),
        settled.landed_rows,
        str(settled.landed_digest),
        quarantined_rows=len(times),
        copies=settled.copies,
    )
    state = State.OPEN if tail or len(content) % 2 else State.LANDED
    base = Base(start + step / 2, tally, READ_AT) if state is State.OPEN else None
    facts = Facts(unmerged=READ_AT) if settled.unmerged else Facts()
    entry = Entry(
        project_id,
        "events",
        start,
        end,
        start,
        end,
        state,
        READ_AT,
        tally,
        generation=known.generation if known else 0,
        base=base,
        facts=facts,
    )
    quarantine = pa.table([times, texts, texts], schema=REJECTS)
    return Landing(entry, settled.rows, quarantine, bound, step, removed=len(content) % 3)


class Sinks(RuleBasedStateMachine):
    """Drives both sinks with the same calls; each call returns or raises the same in both."""

    def make(self) -> Sink:
        """The sink under test, as a new process finds it."""
        return DuckDBSink(Path(self.directory.name) / "a.duckdb", lock_timeout_s=0)

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.seen: dict[int, Ledger] = {}
        self.memory: Sink = MemorySink()
        self.tested: Sink = self.make()
        for project_id in (1, 2):
            self.both(
                lambda sink, p=project_id: sink.prepare(p, "events", host="https://a", event_filter="", rebuild=False)
            )

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    def both(self, call) -> None:
        outcomes = []
        for sink in (self.memory, self.tested):
            try:
                outcomes.append(call(sink))
            except errors.SinkError as exc:
                outcomes.append(type(exc))
        assert outcomes[0] == outcomes[1], "the sink answers otherwise than the reference"

    def same_rejects(self, project_id: int, start: datetime) -> None:
        """Both hold the same rejects of a window, as many as its entry says."""
        entry = self.memory.ledger(project_id, "events").entries.get(start)
        if entry is not None:
            held = [sorted(map(str, sink.rejects(entry).to_pylist())) for sink in (self.memory, self.tested)]
            assert held[0] == held[1]
            assert len(held[0]) == entry.tally.quarantined_rows

    def known(self, project_id: int, window: tuple[date, int]) -> Entry | None:
        return self.memory.ledger(project_id, "events").entries.get(window_of(*window)[0])

    @rule(project_id=projects, host=st.sampled_from(HOSTS), named=st.sampled_from(["", "x"]), rebuild=st.booleans())
    def prepare(self, project_id: int, host: str, named: str, rebuild: bool) -> None:
        self.both(lambda sink: sink.prepare(project_id, "events", host=host, event_filter=named, rebuild=rebuild))

    @rule(
        project_id=projects,
        window=windows,
        content=rows,
        rejects=rejected,
        stale=st.booleans(),
        mark=st.none() | st.integers(0, 9),
    )
    def land(self, project_id, window, content, rejects, stale, mark) -> None:
        known = self.known(project_id, window)
        made = landing(project_id, window, content, known=known, tail=False, rejects=rejects)
        if stale:
            made = replace(made, entry=replace(made.entry, generation=made.entry.generation + 1))
        at = None if mark is None else midnight(DAYS[0]) + timedelta(hours=mark)
        self.both(lambda sink: sink.land([made], mark=at))
        self.same_rejects(project_id, made.entry.start)

    @rule(
        project_id=projects,
        windows=st.lists(windows, min_size=2, max_size=3),
        content=rows,
        rejects=rejected,
        broken=st.booleans(),
    )
    def land_several(self, project_id, windows, content, rejects, broken) -> None:
        made = [
            landing(project_id, one, content, known=self.known(project_id, one), tail=False, rejects=rejects)
            for one in windows
        ]
        if broken:
            made[-1] = replace(made[-1], entry=replace(made[-1].entry, generation=99))
        self.both(lambda sink: sink.land(made, mark=midnight(DAYS[1])))

    @rule(project_id=projects, window=windows, content=rows, rejects=rejected)
    def land_tail(self, project_id, window, content, rejects) -> None:
        landed = sorted(self.memory.ledger(project_id, "events").entries)
        if not landed:
            return
        # One that is landed, whichever was drawn.
        start = landed[window[1] % len(landed)]
        window = (start.date(), (start - midnight(start.date())) // STEPS[start.date()])
        known = self.known(project_id, window)
        # The ledger claims the whole window: what was kept and what is new.
        made = landing(project_id, window, content, known=known, tail=True, rejects=rejects)
        held = self.memory.rows(project_id, known.start, made.replace_start)
        times = self.memory.rejects(known)["at"].to_pylist()
        kept = sum(at is not None and at < made.replace_start for at in times)
        tally = replace(
            made.entry.tally,
            source_rows=made.entry.tally.source_rows + held.num_rows + kept,
            quarantined_rows=made.entry.tally.quarantined_rows + kept,
            landed_rows=made.entry.tally.landed_rows + held.num_rows,
            landed_digest=made.entry.tally.landed_digest + str(hash(tuple(map(str, held.to_pylist())))),
        )
        self.both(lambda sink: sink.land([replace(made, entry=replace(made.entry, tally=tally))]))
        self.same_rejects(project_id, made.entry.start)

    @rule(project_id=projects, day=st.sampled_from(DAYS))
    def search(self, project_id: int, day: date) -> None:
        found = [
            sorted(map(str, sink.duplicates(project_id, "events", [day]).to_pylist()))
            for sink in (self.memory, self.tested)
        ]
        assert found[0] == found[1]

    @rule(project_id=projects, days=st.lists(st.sampled_from(DAYS), max_size=2))
    def check(self, project_id: int, days: list[date]) -> None:
        # As seen now, or before some landings: then a date that was landed since stays.
        seen = self.seen.get(project_id) or self.memory.ledger(project_id, "events")
        self.both(lambda sink: sink.mark_searched(project_id, "events", days, seen=seen))

    @rule(project_id=projects)
    def look(self, project_id: int) -> None:
        self.seen[project_id] = self.memory.ledger(project_id, "events")

    @rule(project_id=projects, window=windows, finding=findings, old=st.booleans(), second=st.integers(0, 9))
    def note(self, project_id, window, finding, old, second) -> None:
        seen = self.seen.get(project_id) if old else None
        ledger = seen or self.memory.ledger(project_id, "events")
        known = ledger.entries.get(window_of(*window)[0])
        if known is not None:
            said = finding(known)
            at = READ_AT + timedelta(seconds=second)
            self.both(lambda sink: [one.known.start for one in sink.note([Note(known, at, said)])])

    @rule(project_id=projects, pages=st.integers(0, 99))
    def save(self, project_id: int, pages: int) -> None:
        self.both(lambda sink: sink.save(project_id, "events", pages))

    @rule(project_id=projects, number=st.integers(0, 999_999))
    def record(self, project_id: int, number: int) -> None:
        at = READ_AT + timedelta(seconds=number)
        run = Run(str(number), "sync", project_id, "events", at, at, "done", 1, 2, 3, 0.5)
        self.both(lambda sink: sink.record(run))

    @rule()
    def reopen(self) -> None:
        self.tested = self.make()

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "memory"):
            return
        for project_id in (1, 2):
            assert self.memory.ledger(project_id, "events") == self.tested.ledger(project_id, "events")
            first, last = midnight(DAYS[0]), midnight(DAYS[1]) + DAY
            held = [content(sink.rows(project_id, first, last)) for sink in (self.memory, self.tested)]
            assert held[0] == held[1]


def content(table: pa.Table) -> list[str]:
    """Rows as texts in a fixed order, whatever the order of ties."""
    return sorted(map(str, table.select(EVENTS.names).to_pylist())) if table.num_rows else []


class LakeSinks(Sinks):
    """The same with a lake in a directory."""

    def make(self) -> Sink:
        return stores.local_lake(Path(self.directory.name) / "lake")


class S3Sinks(Sinks):
    """The same with a lake in S3; every history in a bucket of its own."""

    address = ""

    def make(self) -> Sink:
        if not hasattr(self, "bucket"):
            self.bucket = stores.new_bucket(self.address)
        return stores.s3_lake(self.address, bucket=self.bucket)


HISTORIES = settings(
    max_examples=20,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a red history is short enough, and shrinking opens files for minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
Sinks.TestCase.settings = settings(HISTORIES, max_examples=7)
LakeSinks.TestCase.settings = settings(HISTORIES, max_examples=7)
TestSinks = Sinks.TestCase
TestLakeSinks = LakeSinks.TestCase


@pytest.mark.long
@pytest.mark.parametrize("server", ["moto", "localbucket"])
def test_s3_lakes(server, request):
    """A store that honours If-Match, and one that does not."""

    class Machine(S3Sinks):
        address = request.getfixturevalue(server)

    run_state_machine_as_test(Machine, settings=HISTORIES)
