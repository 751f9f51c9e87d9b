"""Servers and keys that refuse /query: what is said of it, what is required of it, and empty time that costs nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors import errors
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.faults import Fault, Faults, Heavy
from extractors.simulator.profiles import OLD_2021, OLD_2023
from extractors.simulator.server import RequestSeen, serve
from flows.report.status import Summary, summary
from sinks.entries import State
from sinks.sink import Sink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import place, reopened, steady
from tests.program import Ended

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
NOW = FIRST + 20 * DAY
OLD = replace(OLD_2023, query_allowed=False, query_refused_with=404)
KEYLESS = replace(UNLIMITED, query_allowed=False, query_refused_with=403)
WITHOUT = [pytest.param(OLD, id="an old server"), pytest.param(KEYLESS, id="a key without the scope")]
in_both = pytest.mark.parametrize("kind", ["duckdb", "lake"])


def lengths(sink: Sink) -> Counter[timedelta]:
    """How many windows of each length are landed."""
    return Counter(entry.end - entry.start for entry in sink.ledger(1, "events").entries.values())


def told(sink: Sink, *, now: datetime = NOW) -> Summary:
    return summary(1, "events", sink.ledger(1, "events"), now=now)


# --- what is said


@pytest.mark.parametrize("profile", WITHOUT)
def test_sync_without_queries_says_that_nothing_was_compared(profile, tmp_path, hedgerow):
    """Exit 0, one line with the reason, `"compared": false`; `status` says that it never was; `plan` promises no query."""
    with serve(Dataset(steady(FIRST, FIRST + DAY, every=HOUR)), profile=profile, now=lambda: NOW) as simulator:
        planned = hedgerow(simulator, "plan", "--since", "2026-03-01", "--until", "2026-03-03")
        spoken = hedgerow(simulator, "sync", "events", "--since", "2026-03-01", "--until", "2026-03-03")
        listed = hedgerow(simulator, "sync", "events", "--since", "2026-03-01", "--json")
        status = hedgerow(simulator, "status")

    assert (spoken.returncode, listed.returncode) == (0, 0), spoken.stderr
    (line,) = spoken.stderr.splitlines()
    assert line.startswith("project 1: nothing was compared with the source, because it refuses queries (")
    assert json.loads(listed.stdout)["runs"][0]["compared"] is False
    assert "no queries: the source refuses them" in planned.stdout
    assert "compared   never: " in status.stdout


def test_sync_that_was_compared_says_so(tmp_path, hedgerow):
    """`"compared": true`, and `status` says up to when."""
    with serve(Dataset(steady(FIRST, FIRST + DAY, every=HOUR)), profile=UNLIMITED, now=lambda: NOW) as simulator:
        done = hedgerow(simulator, "sync", "events", "--since", "2026-03-01", "--until", "2026-03-03", "--json")
        status = hedgerow(simulator, "status", "--json")

    assert json.loads(done.stdout)["runs"][0]["compared"] is True
    (stream,) = json.loads(status.stdout)["streams"]
    assert (stream["compared_until"], stream["uncompared"]) == ("2026-03-03T00:00:00Z", 0)


@in_both
def test_what_was_compared_before_the_source_refused_is_said(kind, tmp_path):
    """Two days are compared, then the key loses its right and two more land: up to the second day, two days are not."""
    dataset, sink = Dataset(steady(FIRST, FIRST + 4 * DAY, every=HOUR)), place(kind, tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        port = int(simulator.url.rpartition(":")[2])
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + 2 * DAY)
    with serve(dataset, profile=KEYLESS, now=lambda: NOW + HOUR, port=port) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + 4 * DAY)

    one = told(reopened(sink), now=NOW + HOUR)
    assert (one.compared_at, one.compared_until) == (NOW, FIRST + 2 * DAY)
    assert one.uncompared == sum(start >= FIRST + 2 * DAY for start in sink.ledger(1, "events").entries)


PROOF = [
    pytest.param(("--require-proof",), "", id="the flag"),
    pytest.param((), "[events]\nrequire_proof = true\n", id="the setting"),
]


@pytest.mark.parametrize("command", ["sync", "backfill"])
@pytest.mark.parametrize(("flags", "settings"), PROOF)
def test_required_proof_that_is_refused_is_exit_3(command, flags, settings, tmp_path, hedgerow):
    """What was read stays landed; the reason stands once, as a problem."""
    (tmp_path / "hedgerow.toml").write_text(settings)
    dataset = Dataset(steady(FIRST, FIRST + DAY, every=HOUR))
    streams = ["events"] if command == "sync" else []
    with serve(dataset, profile=KEYLESS, now=lambda: NOW) as simulator:
        done = hedgerow(simulator, command, *streams, "--since", "2026-03-01", "--until", "2026-03-03", *flags)

    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("incomplete: project 1: proof is required: nothing was compared with the source, because")
    assert "24 events landed" in done.stdout


def test_required_proof_that_is_given_is_exit_0(tmp_path, hedgerow):
    """A source that counts what is landed."""
    dataset = Dataset(steady(FIRST, FIRST + DAY, every=HOUR))
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        done = hedgerow(simulator, "sync", "events", "--since", "2026-03-01", "--require-proof")

    assert done.returncode == 0, done.stderr


def test_required_proof_names_what_the_source_did_not_confirm(tmp_path, hedgerow):
    """The source answers queries, but one window is too heavy for it: exit 3 names that one."""
    dataset = Dataset(steady(FIRST, FIRST + 4 * DAY, every=HOUR))
    faults = Faults([])

    def heavier(seen: RequestSeen) -> None:
        if (seen.endpoint, seen.number) == ("query", 2):  # hours are still counted
            faults.heavy = (Heavy(start=FIRST + DAY, end=FIRST + 2 * DAY),)

    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: NOW, on_request=heavier) as simulator:
        done = hedgerow(simulator, "backfill", "--since", "2026-03-01", "--until", "2026-03-05", "--require-proof")

    assert done.returncode == 3, done.stderr
    named = "the source has not confirmed 1 window, the first at 2026-03-02T00:00:00Z, landed by this run"
    assert f"proof is required: {named}" in done.stderr


# --- empty time


def old_event(at: datetime) -> Event:
    return Event("00000000-0000-4000-8000-000000000001", "first", "d", at, "{}")


@in_both
def test_dates_that_prove_empty_are_one_window_each(kind, tmp_path):
    """One event, eight months, one busy day: only the two dates that have events are cut into hours; every row is there."""
    start = FIRST - 240 * DAY
    dataset = Dataset([old_event(start + 5 * HOUR), *steady(FIRST, FIRST + DAY, every=MINUTE)])
    sink = place(kind, tmp_path)
    with serve(dataset, profile=OLD, now=lambda: NOW) as simulator:
        _, requests = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=FIRST + 3 * DAY)
        again, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=start, until=FIRST + 3 * DAY)

    assert landed(sink, start, FIRST + 3 * DAY) == truth(dataset.events, start, FIRST + 3 * DAY)
    assert lengths(reopened(sink)) == {DAY: 241, HOUR: 48}
    assert again.windows == 0
    assert requests["list"] < 20


def test_ledger_that_was_begun_in_hours_goes_on(tmp_path):
    """A date that an older hedgerow cut into hours keeps them, whatever comes beside it."""
    dataset, sink = Dataset(steady(FIRST + DAY, FIRST + 2 * DAY, every=HOUR)), place("duckdb", tmp_path)
    with serve(dataset, profile=OLD, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST + 5 * HOUR, until=FIRST + 8 * HOUR, marks=False)
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + 3 * DAY)

    assert lengths(sink) == {HOUR: 48, DAY: 1}
    assert landed(sink, FIRST, FIRST + 3 * DAY) == truth(dataset.events, FIRST, FIRST + 3 * DAY)


@in_both
@pytest.mark.parametrize("profile", WITHOUT)
def test_late_event_in_a_date_that_was_empty_lands(profile, kind, tmp_path):
    """The date's window stays a day; the event comes when it is read again at its age."""
    dataset, sink, clock = Dataset([old_event(FIRST - DAY)]), place(kind, tmp_path), FIRST + DAY + 20 * MINUTE
    with serve(dataset, profile=profile, now=lambda: clock) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST - 2 * DAY, until=None, clock=lambda: clock)
        before = lengths(sink)[DAY]
        dataset.add(steady(FIRST + 7 * HOUR, FIRST + 8 * HOUR, every=10 * MINUTE))
        clock += 2 * HOUR
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=None, until=None, clock=lambda: clock)

    assert before == 2
    assert sum(change.late for change in outcome.changes.values()) == 6
    assert landed(reopened(sink), FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


def test_row_that_cannot_be_typed_makes_no_empty_date(tmp_path):
    """Its date is cut as any that has events, and the row is in quarantine with its hour."""
    victim = old_event(FIRST + 5 * HOUR + 7 * MINUTE)
    sink = place("duckdb", tmp_path)
    faults = Faults([Fault("deep", rate=1.0, uuid=victim.uuid)])
    with serve(Dataset([victim]), profile=OLD, faults=faults, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST - DAY, until=FIRST + 3 * DAY)

    assert outcome.quarantined == 1
    entry = sink.ledger(1, "events").entries[FIRST + 5 * HOUR]
    assert (entry.end - entry.start, entry.tally.quarantined_rows) == (HOUR, 1)
    assert lengths(sink) == {DAY: 3, HOUR: 24}


def test_date_that_was_counted_after_all_is_proven_in_its_hours(tmp_path):
    """Counting fails once, so a date is planned as empty and cut; the same run compares every window with the source, and
    lands none twice."""
    dataset, sink = Dataset(steady(FIRST, FIRST + DAY, every=10 * MINUTE)), place("memory", tmp_path)
    faults = Faults([Fault("500", endpoint="query", at=(1, 2, 3, 4))])
    with serve(dataset, profile=UNLIMITED, faults=faults, now=lambda: NOW) as simulator:
        outcome, _ = sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + 2 * DAY, marks=False)

    assert (outcome.windows, lengths(sink)) == (25, {HOUR: 24, DAY: 1})
    assert {entry.shown for entry in sink.ledger(1, "events").entries.values()} == {State.VERIFIED}


@pytest.mark.long
@in_both
def test_56_years_with_one_old_event_are_quick(kind, tmp_path, hedgerow):
    """One event of 1970 and a busy week: a backfill of everything, status and verify, each within its deadline."""
    dataset = Dataset(
        [old_event(datetime(1970, 1, 1, 5, tzinfo=UTC)), *steady(NOW - 7 * DAY, NOW - HOUR, every=5 * MINUTE)]
    )
    address = f"duckdb:{tmp_path / 'a.duckdb'}" if kind == "duckdb" else f"file:{tmp_path / 'lake'}"
    with serve(dataset, profile=OLD, now=lambda: NOW) as simulator:

        def run(*arguments: str, within_s: float) -> Ended:
            begun = datetime.now(UTC)
            done = hedgerow(simulator, *arguments, HEDGEROW_DESTINATION=address)
            assert (datetime.now(UTC) - begun).total_seconds() < within_s, arguments
            return done

        planned = run("plan", "--since", "1970-01-01", within_s=30)
        filled = run("backfill", "--since", "1970-01-01", "--json", within_s=110)
        status = run("status", "--json", within_s=60)
        verified = run("verify", "--json", within_s=60)

    assert (planned.returncode, filled.returncode, status.returncode, verified.returncode) == (0, 0, 0, 3)
    report = json.loads(filled.stdout)["runs"][0]
    assert (report["rows"], report["windows"] < 25_000, report["requests"] < 120) == (len(dataset), True, True)
    assert json.loads(verified.stdout)["projects"][0]["differences"] == []


# --- servers that are refused


@in_both
def test_nothing_is_landed_from_a_server_that_is_refused(kind, tmp_path):
    """The years before its first event are empty, and stay unlanded: what numbers its events is known before."""
    dataset, sink = Dataset([old_event(FIRST)]), place(kind, tmp_path)
    with (
        serve(dataset, profile=OLD_2021, now=lambda: NOW) as simulator,
        pytest.raises(errors.UnusableAnswer, match="numbers its events"),
    ):
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST - 900 * DAY, until=FIRST + DAY)

    assert sink.ledger(1, "events").entries == {}


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "--since", "2024-01-01"),
        ("sync", "events", "--since", "2024-01-01"),
        ("backfill", "--since", "2024-01-01"),
    ],
    ids=lambda command: command[0],
)
def test_refused_server_leaves_no_file(command, tmp_path, hedgerow):
    """Exit 11, and there is no destination to verify."""
    with serve(Dataset([old_event(FIRST)]), profile=OLD_2021, now=lambda: NOW) as simulator:
        done = hedgerow(simulator, *command)

    assert (done.returncode, "numbers its events" in done.stderr) == (11, True)
    assert not (tmp_path / "posthog.duckdb").exists()


def test_newest_event_that_cannot_be_served_keeps_no_run_from_the_others(tmp_path):
    """A first look that fails says nothing of the rest: the run goes on and meets the row where it stands."""
    dataset, sink = Dataset(steady(FIRST, FIRST + DAY, every=HOUR)), place("memory", tmp_path)
    faults = Faults([Fault("500", at=(1,))])
    with serve(dataset, profile=OLD, faults=faults, now=lambda: NOW) as simulator:
        sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + DAY)

    assert landed(sink, FIRST, FIRST + DAY) == truth(dataset.events, FIRST, FIRST + DAY)


def test_first_look_costs_no_request(tmp_path):
    """It is the request that tells the server's clock: one page beside it for a first day, none for a later sync."""
    dataset, sink = Dataset(steady(FIRST, FIRST + DAY, every=HOUR)), place("memory", tmp_path)
    with serve(dataset, profile=UNLIMITED, now=lambda: NOW) as simulator:
        asked = [
            sync(simulator.url, simulator.key, sink, tmp_path, since=FIRST, until=FIRST + DAY)[1]["list"]
            for _ in range(2)
        ]

    assert asked == [2, 1]
