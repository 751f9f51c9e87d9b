"""Exit status 3: every reason for which a run is not complete, each by itself, and each command that ends with it."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType

from extractors.errors import SourceUnavailable
from extractors.reading.questions import Outside
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from extractors.window import MICROSECOND, Range, iso
from flows import backfill
from flows.assets import copying
from flows.assets import streams as assets
from flows.assets.copying import Backup
from flows.assets.synced import Synced
from flows.cli import app, demo, ending
from flows.landing.copy import Copied
from flows.landing.outcome import Beyond, Outcome
from flows.landing.plan import Bounds
from flows.landing.verification import Difference, Verification
from flows.orchestration import adapter, parts
from flows.orchestration.parts import Part
from flows.report import documents
from flows.report.failures import Failure, Kind
from flows.runs import findings, loads, verify
from flows.runs.run import Report
from flows.settings.load import load
from sinks.entries import FACTS, Changes, State
from sinks.errors import DestinationUnusable
from sinks.lake.sink import LakeSink
from tests import stores
from tests.flows.harness import UNLIMITED
from tests.flows.places import place, steady
from tests.program import Command
from tests.sinks import test_conformance
from tests.sinks.test_conformance import landing, shifted

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AT = datetime(2026, 3, 1, tzinfo=UTC)
NOW = AT + 20 * DAY
RANGE = ("--since", "2026-03-01", "--until", "2026-03-02")

# --- what is said of a run's outcome

PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "unproven": ({"unproven": {AT: [AT]}}, "more events than could be told apart"),
    "unserved": ({"unserved": {AT: [AT]}, "standing": {"unread": [AT]}}, "not served by the source, and missing here"),
    "unreachable": ({"unreachable": [Range(AT, AT + DAY)]}, "not covered"),
    "left_out": ({"left_out": {AT: (0, 1)}}, "could not be typed: 1 row"),
    "doubled": ({"doubled": [AT.date()]}, "some are landed twice"),
    "undecided": ({"undecided": {AT: 1}}, "does not tell which of its different copies is the later"),
    "damaged": ({"standing": {"damaged": [AT]}}, "does not hold what was landed"),
    "unread": ({"standing": {"unread": [AT]}}, "could not be read whole"),
    "held": ({"standing": {"held": [AT]}}, "does not show the rows of"),
    "disputed": ({"standing": {"disputed": [AT]}}, "does not hold what the source counts"),
    "witness": ({"standing": {"witness": [AT]}}, "does not hold what the source counts"),
}
NO_PROBLEMS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "copies": {"left_out": {AT: (3, 0)}},
    "landed": {"wanted": Range(AT, AT + DAY), "windows": 2, "rows": 9, "landed": {AT}, "agreed": {AT}},
    "changed by the source": {"changes": {AT: Changes(1, 2, 3, HOUR)}},
    "for the next run": {"unasked": 4, "moving": {AT}},
    "known of earlier runs": {"in_quarantine": 1},
    "not merged yet": {"standing": {"unmerged": [AT]}},
    "cannot be compared": {"heavy": [AT], "unconfirmed": [AT]},
    "nothing to land": {"idle": Bounds(AT + DAY, AT), "span": Range(AT, AT + DAY)},
    "left by a first sync": {"beyond": Beyond((Outside("before", 3, AT, AT + HOUR),), AT)},
}


def named(table: dict[str, Any], made: type) -> set[str]:
    """Fields of *made* that the cases of *table* set."""
    given = [one[0] if isinstance(one, tuple) else one for one in table.values()]
    return {name for one in given for name in one} & {one.name for one in fields(made)}


def unset(made: type) -> set[str]:
    """Fields of *made* that have to be decided about: those with a default."""
    return {one.name for one in fields(made) if one.default is not MISSING or one.default_factory is not MISSING}


@pytest.mark.parametrize("reason", PROBLEMS)
def test_each_reason_makes_a_run_incomplete(reason):
    """One line says it, and the run is not complete."""
    given, words = PROBLEMS[reason]
    outcome = Outcome(**given)

    (line,) = findings.of_run(outcome)
    assert words in line
    assert not outcome.complete


@pytest.mark.parametrize("case", NO_PROBLEMS)
def test_what_is_no_fault_leaves_a_run_complete(case):
    """Notes are no problems."""
    outcome = Outcome(**NO_PROBLEMS[case])

    assert list(findings.of_run(outcome)) == []
    assert outcome.complete


def test_every_part_of_an_outcome_is_decided_about():
    """What a run can say of itself is a reason or none; each fact of the ledger but different copies is one."""
    assert named(PROBLEMS, Outcome) | named(NO_PROBLEMS, Outcome) == unset(Outcome)
    assert {*FACTS} - {"unmerged"} <= {*PROBLEMS}


# --- how the program ends


def test_what_is_written_is_out_before_threads_are_left(monkeypatch):
    """A file or a pipe gets it from a buffer, which an end beside a thread that still reads does not empty by itself."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    ends: list[tuple[int, bytes, bytes]] = []

    def ended(status: int) -> None:
        ends.append((status, out.buffer.getvalue(), err.buffer.getvalue()))
        raise SystemExit

    for owner, name, value in ((sys, "stdout", out), (sys, "stderr", err), (os, "_exit", ended)):
        monkeypatch.setattr(owner, name, value)
    monkeypatch.setattr(sys, "argv", ["hedgerow", "sync", "--json"])
    monkeypatch.setattr(documents, "_begun", False)
    stay = threading.Event()
    threading.Thread(target=stay.wait).start()
    try:
        with pytest.raises(SystemExit):
            ending.fail(Failure(Kind.SOURCE, "no answer", "wait"))
    finally:
        stay.set()
    ((status, document, words),) = ends

    assert (status, json.loads(document)["error"]["exit_status"]) == (11, 11)
    assert words == b"hedgerow: no answer\n  wait\n"


# --- what is said of a verification

DIFFERENCE = Difference(AT, AT + DAY, State.LANDED, 1, 1, 1, damaged=False, changed=True)
BETWEEN, AROUND = Outside("between", 3, AT, AT + HOUR), Outside("before", 3, AT - DAY, AT - HOUR)
LATER = Outside("between", 2, AT + 2 * HOUR, AT + 3 * HOUR)


def filling(first: datetime, last: datetime) -> str:
    """The command that lands the events from *first* to *last*, that one too."""
    return f"hedgerow backfill --since {iso(first)} --until {iso(last + MICROSECOND)}"


NOT_GOOD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"windows": 0}, "nothing is landed in this range"),
    "differences": ({"differences": [DIFFERENCE], "left": [AT]}, "not as landed: 1 window"),
    "elsewhere": ({"elsewhere": [AT]}, "outside this range, not as landed"),
    "doubled": ({"doubled": [AT.date()]}, "stands in two windows"),
    "stale": ({"stale": 1}, "to be landed again: 1 window"),
    "a gap": ({"outside": [BETWEEN]}, f"missing between landed windows: 3 rows; {filling(AT, AT + HOUR)}"),
    "an event's gap": ({"outside": [Outside("between", 1, AT, AT)]}, filling(AT, AT)),
    "two gaps": ({"outside": [AROUND, LATER, BETWEEN]}, filling(AT, AT + 3 * HOUR)),
    "strays": ({"stray_rows": 1}, "outside all landed windows: 1 row"),
    "not compared": ({"unknown": 1}, "not compared: 1 window"),
    "quarantine": ({"quarantined": 1}, "in quarantine, and missing from the table: 1 row"),
}
GOOD: dict[str, dict[str, Any]] = {
    "all compared": {"compared": 1},
    "open": {"open": 1},
    "mended": {"differences": [DIFFERENCE]},
    "not merged yet": {"unmerged": 1},
    "outside": {"outside": [AROUND]},
}


@pytest.mark.parametrize("reason", NOT_GOOD)
def test_each_reason_makes_a_verification_bad(reason):
    """One line says it."""
    given, words = NOT_GOOD[reason]
    found = Verification(**{"windows": 1} | given)

    (line,) = findings.of_verification(found)
    assert words in line
    assert not found.good


@pytest.mark.parametrize("case", GOOD)
def test_what_is_no_fault_leaves_a_verification_good(case):
    """Windows that have not settled, what is mended, and what lies around all that is landed."""
    assert Verification(windows=1, **GOOD[case]).good


def test_every_part_of_a_verification_is_decided_about():
    """What it can find is a reason or none."""
    assert named(NOT_GOOD, Verification) | named(GOOD, Verification) == unset(Verification)


COPIED: dict[str, str] = {
    "behind": "copied in no part",
    "broken": "damaged in the target",
    "doubled": "stands in two windows",
    "damaged": "not what was landed",
    "narrower": "cover less than the target does",
    "held": "too many rows would go",
    "differing": "not in the target as copied",
    "standing": "in dispute where they come from",
    "moved_on": "landed by another run meanwhile",
}


def test_each_reason_makes_a_copy_incomplete():
    """One line for each, and no other part of it is one."""
    told = {name: findings.of_copy(Copied(1, **{name: [AT.date() if name == "doubled" else AT]})) for name in COPIED}

    assert [(name, len(told[name]), words in str(told[name])) for name, words in COPIED.items()] == [
        (name, 1, True) for name in COPIED
    ]
    assert findings.of_copy(Copied(1, windows=1, rows=2, kept=3)) == []
    assert {*COPIED} | {"windows", "rows", "kept"} == unset(Copied)


# --- what the commands make of it

REPORT = Report(
    run_id="own",
    project_id=1,
    stream="events",
    since=AT,
    until=NOW,
    windows=1,
    rows=1,
    copies=0,
    quarantined=0,
    requests=1,
    waited_s=0.0,
    seconds=0.1,
    verified=1,
    compared=True,
    late=0,
    deleted=0,
    changed=0,
    lateness_s=0.0,
    problems=(),
    notes=(),
    learned={},
)
COPY = ("copy", "--from", "duckdb:a", "--to", "duckdb:b")
ENDS = [
    pytest.param(("sync",), {}, 0, id="sync: nothing"),
    pytest.param(("sync",), {"events": {1}}, 3, id="sync: events"),
    pytest.param(("sync",), {"exports": {1}}, 3, id="sync: exports"),
    pytest.param(("sync",), {"evaluations": {1}}, 3, id="sync: evaluations"),
    pytest.param(("sync",), {"events": {2}}, 3, id="sync: the second project's events"),
    pytest.param(("sync",), {"exports": {2}}, 3, id="sync: the second project's exports"),
    pytest.param(("sync", "events"), {"exports": {1}}, 0, id="sync: of what was not asked for"),
    pytest.param(("sync", "exports"), {"exports": {1}}, 3, id="sync: exports alone"),
    pytest.param(("backfill", *RANGE), {}, 0, id="backfill: nothing"),
    pytest.param(("backfill", *RANGE), {"events": {1}}, 3, id="backfill: events"),
    pytest.param(("backfill", *RANGE), {"events": {2}}, 3, id="backfill: the second project's"),
    pytest.param(("verify",), {}, 0, id="verify: nothing"),
    pytest.param(("verify",), {"verify": {1}}, 3, id="verify: the first project"),
    pytest.param(("verify",), {"verify": {2}}, 3, id="verify: the second project"),
    pytest.param(COPY, {}, 0, id="copy: nothing"),
    pytest.param(COPY, {"copy": {1}}, 3, id="copy: the first project"),
    pytest.param(COPY, {"copy": {2}}, 3, id="copy: the second project"),
    pytest.param(("demo",), {}, 0, id="demo: nothing"),
    pytest.param(("demo",), {"demo": {1}}, 3, id="demo: a difference"),
]


TOLD = [
    *ENDS,
    *(
        pytest.param((*arguments, flag), wrong, 3, id=f"{arguments[0]} {flag}: {', '.join(wrong)}")
        for flag in ("--json", "--quiet")
        for arguments, wrong in (
            (("sync",), {"events": {1}}),
            (("sync",), {"exports": {1}}),
            (("backfill", *RANGE), {"events": {1}}),
            (("verify",), {"verify": {1}}),
            (COPY, {"copy": {1}}),
        )
    ),
]


@pytest.mark.parametrize(("arguments", "wrong", "status"), TOLD)
def test_command_ends_with_3_where_anything_is_wrong(arguments, wrong, status, tmp_path, monkeypatch, capsys):
    """In any project and any stream, however it is told; problems are on stderr, or in the result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_x")
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1,2")

    def load_events(settings: object, project_id: int, *, on_report: Callable[[Report], None], **more: object) -> None:
        on_report(
            replace(REPORT, project_id=project_id, problems=("bad",) if project_id in wrong.get("events", ()) else ())
        )

    def synced(settings: object, project_id: int, stream: str, **more: object) -> Synced:
        return Synced(project_id, stream, problems=["bad"] if project_id in wrong.get(stream, ()) else [])

    def verified(settings: object, project_id: int, **more: object) -> tuple[Verification, Report]:
        return Verification(windows=1, stale=project_id in wrong.get("verify", ())), REPORT

    def copied(project_id: int, *named: object, **more: object) -> Backup:
        found = Copied(project_id, standing=[AT] if project_id in wrong.get("copy", ()) else [])
        return Backup(project_id, found, (), 0)

    monkeypatch.setattr(loads, "load_events", load_events)
    monkeypatch.setattr(assets, "sync", synced)
    monkeypatch.setattr(verify, "verify_events", verified)
    monkeypatch.setattr(copying, "copy", copied)
    monkeypatch.setattr(demo, "demo", lambda output, **more: "demo" not in wrong)
    ended = app.app([*arguments], standalone_mode=False) or 0
    told = capsys.readouterr()

    assert ended == status
    assert bool(told.err) is (status == 3 and arguments[0] != "demo")  # whose result says it


# --- the real command line


@pytest.mark.parametrize(
    ("command", "address"),
    [(("sync", "events"), "duckdb:a.duckdb"), (("backfill",), "file:lake")],
    ids=["sync into a file", "backfill into a lake"],
)
def test_row_in_quarantine_is_exit_3_until_it_can_be_read(command, address, hedgerow: Command, tmp_path):
    """Of the run that could not type it, and of each verify; where the source is mended, a repair lands it. A backfill marks
    nothing."""
    dataset, faults = Dataset(steady(AT, AT + DAY, every=HOUR)), Faults([])
    damage = Faults([Fault("naive", rate=1.0, uuid=dataset.events[5].uuid)])
    with serve(dataset, profile=UNLIMITED, faults=damage, now=lambda: NOW) as simulator:
        first = hedgerow(simulator, *command, *RANGE, HEDGEROW_DESTINATION=address)
        found = hedgerow(simulator, "verify", HEDGEROW_DESTINATION=address)
        port = int(simulator.url.rpartition(":")[2])
    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: NOW, port=port) as simulator:
        mended = hedgerow(simulator, "verify", "--repair", HEDGEROW_DESTINATION=address)

    assert [one.returncode for one in (first, found, mended)] == [3, 3, 0], first.stderr + found.stderr + mended.stderr
    assert "could not be typed: 1 row" in first.stderr
    kind = "duckdb" if address.startswith("duckdb") else "lake"
    assert place(kind, tmp_path).ledger(1, "events").mark == (AT + DAY if command[0] == "sync" else None)
    assert "in quarantine, and missing from the table: 1 row" in found.stderr


def test_export_that_may_be_cut_is_exit_3(hedgerow: Command):
    """Of a sync of exports: the content has exactly as many rows as older servers cut at."""
    store = ExportStore()
    store.add("text/csv", created_at=NOW - DAY, content=Blob.of(b"n\n" + b"1\n" * 10_000))
    with serve(Dataset([]), profile=UNLIMITED, exports=store, now=lambda: NOW) as simulator:
        done = hedgerow(simulator, "sync", "exports", "--json")

    assert done.returncode == 3, done.stderr
    assert "may have been cut" in json.loads(done.stdout)["runs"][0]["problems"][0]


@pytest.mark.parametrize(
    ("command", "error"),
    [("sync", None), ("verify", None), ("sync", SourceUnavailable("no answer"))],
    ids=["sync", "verify", "a sync that fails"],
)
def test_history_that_cannot_be_written_ends_the_run(command, error, hedgerow: Command, monkeypatch):
    """Exit 12 and the reason: nobody would know of the run; but what ended the run before that is told first."""
    dataset = Dataset(steady(AT, AT + DAY, every=HOUR))

    def full(sink: LakeSink, run: object) -> None:
        raise DestinationUnusable("the disk is full")

    def fails(*asked: object, **named: object) -> None:
        raise error

    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        if command == "verify":
            assert hedgerow(simulator, "backfill", *RANGE, HEDGEROW_DESTINATION="file:lake").returncode == 0
        monkeypatch.setattr(LakeSink, "record", full)
        if error is not None:
            monkeypatch.setattr("flows.landing.pipeline.run", fails)
        streams = ["events", *RANGE] if command == "sync" else []
        done = hedgerow(simulator, command, *streams, HEDGEROW_DESTINATION="file:lake")

    assert (done.returncode, done.stderr.splitlines()[-1]) == ((11, "no answer") if error else (12, "the disk is full"))


# --- a backfill in parts


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where parts land, and the settings of their runs."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "POSTHOG_PERSONAL_API_KEY": "phx_x",
        "POSTHOG_PROJECT_ID": "1",
        "HEDGEROW_DESTINATION": f"file:{tmp_path / 'lake'}",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "lake"


START = test_conformance.DAY


def part_of(first: float, last: float) -> Part:
    return Part(1, (START + first * HOUR).isoformat(), (START + last * HOUR).isoformat(), f"{first}")


def test_part_that_left_a_hole_is_named(lake):
    """By the ledger that is there: hours that no window covers, those that are stale, and a project that has none."""
    sink = stores.local_lake(lake)
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    sink.land([shifted(landing(), hours=hour) for hour in (0, 1, 3)])
    settings = load({}, directory=lake.parent).settings
    whole, hole, other = part_of(0, 2), part_of(0, 4), replace(part_of(0, 2), project_id=2)

    assert parts.missing(settings, [whole, hole, other]) == {
        hole.title: "not landed: 2026-01-31T02:00:00Z .. 2026-01-31T03:00:00Z",
        other.title: "not landed: 2026-01-31T00:00:00Z .. 2026-01-31T02:00:00Z",
    }
    sink.prepare(1, "events", host="https://a", event_filter="", rebuild=True)
    assert set(parts.missing(settings, [whole])) == {whole.title}


def test_backfill_in_parts_that_left_a_hole_fails(lake, monkeypatch):
    """Each part said that it was done, the ledger says otherwise: the flow fails and names what is missing."""
    monkeypatch.setattr("flows.runs.loads.parts_of", lambda *asked, **named: [Range(START, START + DAY)])
    monkeypatch.setattr(parts, "on_workers", lambda cut: {part.title: parts.DONE for part in cut})
    monkeypatch.setattr(adapter, "table", lambda rows: None)
    state = backfill.backfill_events.fn("2026-01-31", "2026-02-01", workers=2)

    assert state.type is StateType.FAILED
    assert "not landed: 2026-01-31T00:00:00Z .. 2026-02-01T00:00:00Z" in state.message
