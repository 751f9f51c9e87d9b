"""Look-ups and writes at PostHog as a user has them: a process of its own, exit statuses, stdout and stderr."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from extractors.lists import exact, lookups
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.assets.storage import Storage
from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.cli import evaluations, exports
from flows.cli.app import app
from flows.cli.asking import json_of
from flows.settings.parse import SettingsError
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.cli.test_cli import environment
from tests.flows.harness import UNLIMITED, sync
from tests.program import HEDGEROW, run, told

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)
RANGE = ("--since", "2026-03-01", "--until", "2026-03-05")
FREE = replace(UNLIMITED, rest_per_minute=None, rest_per_hour=None, offset_wait_s=0.0)
RECENT = Event(
    "00000000-0000-4000-8000-00000000beef", "buy", "ann", datetime.now(UTC) - timedelta(days=1), '{"plan":"Pro"}'
)
DATASET = generate(events=1_500, start=START, end=END, seed=2, tie_sizes=(1_200,))
DATASET.add([RECENT])


def hedgerow(simulator: Simulator, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return told(run(arguments, home, environment(simulator, home, **more)))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serve(DATASET, profile=FREE) as running:
        yield running


def in_range() -> list[Event]:
    return [event for event in DATASET.events if START <= event.timestamp < END]


def by_id() -> list[Event]:
    return sorted(in_range(), key=lambda event: event.uuid)


def test_list_prints_every_event_of_the_range_once(simulator, tmp_path):
    """One JSON document; the tie larger than a page is whole; properties are to the letter."""
    done = hedgerow(simulator, tmp_path, "events", "list", *RANGE, "--json")

    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr, document["problems"]) == (0, "", [])
    assert sorted(row["id"] for row in document["results"]) == [event.uuid for event in by_id()]
    assert all(f'"properties":{event.properties},' in done.stdout for event in in_range())


def test_list_is_cut_at_the_limit(simulator, tmp_path):
    """The oldest first, no more than asked."""
    done = hedgerow(simulator, tmp_path, "events", "list", *RANGE, "--limit", "7", "--event", "purchase")

    expected = [event.uuid for event in in_range() if event.event == "purchase"][:7]
    assert [row["id"] for row in json.loads(done.stdout)["results"]] == expected


def test_list_without_since_says_which_day(simulator, tmp_path):
    """The last 24 hours as at PostHog, said on stderr."""
    done = hedgerow(simulator, tmp_path, "events", "list")

    assert (done.returncode, json.loads(done.stdout)["results"]) == (0, [])
    assert "24 hours before" in done.stderr


def test_offset_and_csv_name_their_limits(simulator, tmp_path):
    """One page as PostHog gives it; stderr says what that means."""
    page = hedgerow(simulator, tmp_path, "events", "list", *RANGE, "--offset", "3", "--limit", "2")
    table = hedgerow(simulator, tmp_path, "events", "list", *RANGE, "--format", "csv", "--limit", "2")

    assert [row["id"] for row in json.loads(page.stdout)["results"]] == [event.uuid for event in in_range()[3:5]]
    assert "some may come twice and others never" in page.stderr
    assert len(list(csv.DictReader(io.StringIO(table.stdout)))) == 2
    assert "one page, 2 rows" in table.stderr


FORMS = {
    "all": ((), lambda out: len(json.loads(out)["results"])),
    "json": (("--json", "--limit", "1"), lambda out: len(json.loads(out)["results"])),
    "one page": (("--offset", "0", "--limit", "1"), lambda out: len(json.loads(out)["results"])),
    "csv": (("--format", "csv", "--limit", "1", "--quiet"), lambda out: len(list(csv.DictReader(io.StringIO(out))))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("option", ["--select", "--where"])
def test_what_the_server_ignores_is_incomplete(option, form, simulator, tmp_path):
    """Sent as documented; that the server does not read it is exit 3, in the document and on stderr. Rows that a filter
    should have kept away are not printed."""
    before, (more, rows) = len(simulator.requests), FORMS[form]
    asked = {"--select": '["event"]', "--where": "event = 'x'"}
    done = hedgerow(simulator, tmp_path, "events", "list", *RANGE, option, asked[option], *more)

    assert done.returncode == 3
    assert f"incomplete: {option}: this server ignores it" in done.stderr
    assert rows(done.stdout) == (0 if option == "--where" else 1 if more else len(in_range()))
    assert form == "csv" or f"{option}: this server ignores it" in json.loads(done.stdout)["problems"][0]
    sent = simulator.requests[before].params
    assert sent[option.removeprefix("--")] == {"--select": '["event"]', "--where": "[\"event = 'x'\"]"}[option]


def test_what_the_server_selects_is_printed_to_the_letter(simulator, tmp_path, monkeypatch, capsys):
    """With what is incomplete beside it, and only after the conditions were found to be read."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment(simulator, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lookups, "selected", lambda client, request: b'{"results":[[1.10]]}\n')
    listed = ["events", "list", "--since", "2026-03-01", "--until", "2026-03-02", "--select", "x"]
    plain = app(listed, standalone_mode=False), capsys.readouterr().out
    ignored = app([*listed, "--where", "event = 'x'"], standalone_mode=False), capsys.readouterr().out

    assert plain == (None, '{"results":[[1.10]],"problems":[]}\n')
    assert (ignored[0], json.loads(ignored[1])["results"]) == (3, [])


def test_an_empty_range_shows_of_no_option_whether_it_is_read(simulator, tmp_path):
    """Nothing to list, and nothing is incomplete."""
    done = hedgerow(
        simulator, tmp_path, "events", "list", "--since", "2026-01-01", "--until", "2026-01-02", "--select", "event"
    )

    assert (done.returncode, json.loads(done.stdout)) == (0, {"results": [], "problems": []})


OLD = [
    Event(
        f"00000000-0000-4000-8000-{n:012x}",
        "old",
        "d",
        datetime(1970, 1, 1, tzinfo=UTC) + n * timedelta(seconds=1),
        "{}",
    )
    for n in (-(10**8), -1, 0, 1)
]
OLD = [replace(event, uuid=f"00000000-0000-4000-8000-00000000000{n}") for n, event in enumerate(OLD)]
FAR = [
    pytest.param(OLD_2023, ("--since", "1960-01-01"), 0, OLD, id="since 1960"),
    pytest.param(
        OLD_2023,
        ("--since", "1960-01-01", "--until", "1969-12-01"),
        0,
        OLD[:1],
        id="the sixties",
        marks=pytest.mark.long,
    ),
    pytest.param(OLD_2023, ("--since", "1960-01-01", "--offset", "0"), 3, OLD[2:], id="one page"),
    pytest.param(
        OLD_2023,
        ("--since", "1970-01-01", "--until", "2150-01-01"),
        0,
        OLD[2:],
        id="until 2150",
        marks=pytest.mark.long,
    ),
    pytest.param(
        FREE,
        ("--since", "1960-01-01", "--until", "1971-01-01"),
        3,
        OLD[2:],
        id="since 1960, cloud",
        marks=pytest.mark.long,
    ),
]


@pytest.mark.parametrize(("profile", "arguments", "status", "expected"), FAR)
def test_list_of_times_far_away_loses_nothing_in_silence(profile, arguments, status, expected, tmp_path):
    """What no bound can be sent for is listed all the same, or it is named and the status is 3."""
    with serve(Dataset([*OLD, RECENT]), profile=profile) as running:
        done = hedgerow(running, tmp_path, "events", "list", *arguments, "--event", "old")

    document = json.loads(done.stdout)
    assert [row["id"] for row in document["results"]] == [event.uuid for event in expected]
    assert (done.returncode, bool(document["problems"])) == (status, status == 3)


@pytest.mark.long  # a full wait of a minute
def test_row_that_cannot_be_served_is_named_and_the_others_are_listed(tmp_path):
    """Exit 3, its microsecond on stderr and in the document."""
    bad = Event("00000000-0000-4000-8000-00000000dead", "bad", "d", START + timedelta(hours=7, microseconds=5), "[]")
    dataset = Dataset([*(event for event in in_range() if event.event != "bulk import"), bad])
    with serve(dataset, profile=FREE) as damaged:
        done = hedgerow(damaged, tmp_path, "events", "list", *RANGE, "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 3
    assert document["problems"] == ["2026-03-01T07:00:00.000005Z: PostHog cannot serve an event of this microsecond"]
    assert len(document["results"]) == len(dataset.events) - 1


@pytest.mark.long  # a full wait of a minute
def test_check_warns_of_a_row_that_cannot_be_served(tmp_path):
    """It is no failure: a sync lands all others."""
    with serve(
        Dataset([RECENT, replace(RECENT, properties="[]", timestamp=RECENT.timestamp + timedelta(hours=2))]),
        profile=FREE,
    ) as damaged:
        done = hedgerow(damaged, tmp_path, "check", "--json")

    found = {one["check"]: one for one in json.loads(done.stdout)["projects"][0]["checks"]}
    assert (done.returncode, found["events"]["result"]) == (0, "warn"), found["events"]
    assert "microsecond" in found["events"]["mend"]


def test_row_that_cannot_be_read_makes_the_list_incomplete(tmp_path):
    """Exit 3, named on stderr and in the document; the other rows are there."""
    faults = Faults([Fault("nanoseconds", rate=1.0, uuid=in_range()[5].uuid)])
    with serve(DATASET, profile=FREE, faults=faults) as damaged:
        done = hedgerow(damaged, tmp_path, "events", "list", *RANGE, "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 3
    assert document["problems"] == ["1 rows cannot be read as events and are left out"]
    assert document["problems"][0] in done.stderr
    assert len(document["results"]) == len(in_range()) - 1


def test_one_event_is_printed_and_compared(simulator, tmp_path):
    """To the letter as JSON, as a row of CSV, and against what is landed."""
    event = in_range()[5]
    hedgerow(simulator, tmp_path, "sync", "--since", "2026-03-01", "--until", "2026-03-02")
    json_text = hedgerow(simulator, tmp_path, "events", "get", event.uuid.upper())
    table = hedgerow(simulator, tmp_path, "events", "get", event.uuid, "--format", "csv")
    same = hedgerow(simulator, tmp_path, "events", "get", event.uuid, "--diff")
    absent = hedgerow(simulator, tmp_path, "events", "get", RECENT.uuid, "--diff", "--json")

    assert f'"properties":{event.properties},' in json_text.stdout
    assert next(csv.DictReader(io.StringIO(table.stdout)))["id"] == event.uuid
    assert (same.returncode, same.stdout) == (0, "no difference: the landed row equals the event\n")
    assert (absent.returncode, "not landed" in json.loads(absent.stdout)["differences"]["row"]) == (3, True)


def test_event_that_changed_is_told_field_by_field(tmp_path):
    """Exit 3 and both sides."""
    event = in_range()[5]
    dataset = Dataset([event])
    with serve(dataset, profile=FREE) as changing:
        hedgerow(changing, tmp_path, "sync", *RANGE)
        dataset.delete([event.uuid])
        dataset.add([replace(event, properties='{"changed":1}')])
        done = hedgerow(changing, tmp_path, "events", "get", event.uuid, "--diff")

    assert done.returncode == 3
    assert done.stdout.startswith("properties: source '{\"changed\":1}', landed")
    assert len(done.stdout.splitlines()) == 1


def test_event_is_compared_with_the_landed_row_of_its_own_time(tmp_path, monkeypatch, capsys):
    """One uuid on two days is two events: whichever the source shows equals the row of its day."""
    first = in_range()[5]
    both = [first, replace(first, timestamp=first.timestamp + timedelta(days=1), properties='{"n":2}')]
    dataset, sink = Dataset(both), DuckDBSink(tmp_path / "posthog.duckdb")
    monkeypatch.chdir(tmp_path)
    with serve(dataset, profile=FREE) as running:
        for name, value in environment(running, tmp_path).items():
            monkeypatch.setenv(name, value)
        sync(running.url, running.key, sink, tmp_path, since=START, until=END)
        ended = []
        for shown in both:
            dataset.delete([first.uuid])
            dataset.add([shown])
            ended.append(app(["events", "get", first.uuid, "--diff"], standalone_mode=False))

    assert (ended, capsys.readouterr().out) == ([None] * 2, "no difference: the landed row equals the event\n" * 2)


def test_values_are_suggested_in_three_forms(simulator, tmp_path):
    """Lines for people, JSON, CSV."""
    arguments = ("events", "values", "plan", "--event", "buy")
    forms = [hedgerow(simulator, tmp_path, *arguments, *form).stdout for form in ((), ("--json",), ("--format", "csv"))]

    assert (forms[0], forms[2]) == ("Pro\n", "name\nPro\n")
    assert json.loads(forms[1]) == {"results": [{"name": "Pro"}], "refreshing": False}


def test_no_values_are_said(simulator, tmp_path):
    """An empty answer is no answer that failed: it is said beside the result, which stays empty."""
    done = hedgerow(simulator, tmp_path, "events", "values", "nobody_has_it", "--event", "buy")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no values in the last seven days\n")


@pytest.mark.parametrize(
    ("text", "said"), [('{"a":1,"b":2,"a":3}', "'a' stands twice"), ('[{"v":NaN}]', "NaN"), ("[" * 100_000, "deep")]
)
def test_json_that_would_be_sent_otherwise_is_refused(text, said):
    """Of a name given twice one would be left out; digits go as they are."""
    with pytest.raises(SettingsError, match=f"--context is no JSON.*{said}"):
        json_of("--context", text)
    assert exact.dumps(json_of("--conditions", '[{"rollout_percentage": 1.10, "n": 7}]')) == (
        '[{"rollout_percentage": 1.10, "n": 7}]'
    )


EVALUATION = "00000000-0000-4000-8000-000000000001"
MISTAKES = [
    pytest.param(("events", "get", "x"), 2, "no uuid", id="event: no uuid"),
    pytest.param(("events", "get", EVALUATION), 2, "no event 0", id="event: unknown"),
    pytest.param(("events", "list", "--properties", "{"), 2, "--properties", id="list: bad JSON"),
    pytest.param(("events", "list", "--where", "[1]"), 2, "--where", id="list: where of numbers"),
    pytest.param(("events", "list", "--properties", "@nowhere"), 2, "nowhere", id="list: no such file"),
    pytest.param(("events", "list", "--since", "now", "--until", "1d"), 2, "not before", id="list: since after until"),
    pytest.param(("events", "list", *RANGE, "--offset", "50001"), 2, "50000", id="list: offset too deep"),
    pytest.param(("events", "list", "--format", "xml"), 2, "xml", id="list: unknown format"),
    pytest.param(("events", "list", "--json", "--format", "csv"), 2, "one of", id="list: two forms"),
    pytest.param(("events", "values", "plan"), 2, "add --event NAME", id="values: no event"),
    pytest.param(
        ("events", "values", "plan", "--event", "buy", "--json", "--format", "csv"), 2, "one of", id="values: two forms"
    ),
    pytest.param(("events", "get", RECENT.uuid, "--json", "--format", "csv"), 2, "one of", id="event: two forms"),
    pytest.param(("events", "get", RECENT.uuid, "--diff", "--format", "csv"), 2, "no table", id="event: no table"),
    pytest.param(("events", "values", "plan", "--properties", "[]"), 2, "no JSON object", id="values: a list"),
    pytest.param(("exports", "get", "999"), 2, "hedgerow exports list", id="export: unknown"),
    pytest.param(("exports", "create", "--format", "csv", "--yes"), 2, "nothing to export", id="create: nothing"),
    pytest.param(("exports", "create", "--format", "doc", "--insight", "1"), 2, "doc", id="create: format"),
    pytest.param(("exports", "create", "--format", "csv", "--insight", "1"), 2, "--yes", id="create: not asked"),
    pytest.param(("exports", "create", "--format", "csv", "--insight", "77", "--yes"), 2, "77", id="create: unknown"),
    pytest.param(("exports", "create", "--format", "mp4", "--insight", "1", "--yes"), 2, "video", id="create: video"),
    pytest.param(
        ("exports", "create", "--format", "csv", "--context", "[]", "--yes"), 2, "no JSON object", id="create: context"
    ),
    pytest.param(
        ("exports", "create", "--format", "csv", "--insight", "1", "--expires-after", "soon"), 2, "soon", id="expiry"
    ),
    pytest.param(("exports", "download", "9"), 11, "failed: Query", id="download: failed"),
    pytest.param(("exports", "download", "10"), 11, "not ready", id="download: not ready"),
    pytest.param(("exports", "download", "1", "--output", "no/such/a"), 2, "no such directory", id="download: where"),
    pytest.param(("exports", "download", "1", "--output", "/dev/null"), 2, "no ordinary file", id="download: device"),
    pytest.param(("evaluations", "get", "x"), 2, "no uuid", id="evaluation: no uuid"),
    pytest.param(("evaluations", "get", RECENT.uuid), 2, "no evaluation", id="evaluation: unknown"),
    pytest.param(("evaluations", "update", EVALUATION), 2, "nothing to change", id="update: nothing"),
    pytest.param(("evaluations", "update", EVALUATION, "--set", "deleted=true"), 2, "--set", id="update: key"),
    pytest.param(("evaluations", "update", EVALUATION, "--set", "name=x"), 2, "--yes", id="update: not asked"),
    pytest.param(("evaluations", "update", EVALUATION, "--set", "name=", "--yes"), 2, "name", id="update: refused"),
    pytest.param(("evaluations", "update", EVALUATION, "--prompt", " "), 2, "empty", id="update: empty prompt"),
    pytest.param(
        ("evaluations", "update", "00000000-0000-4000-8000-000000000003", "--prompt", "x"), 2, "hog", id="no prompt"
    ),
    pytest.param(("evaluations", "update", EVALUATION, "--conditions", "{}"), 2, "no JSON array", id="conditions"),
    pytest.param(("evaluations", "delete", EVALUATION), 2, "--yes", id="delete: not asked"),
    pytest.param(("evaluations", "restore", RECENT.uuid, "--yes"), 2, "no evaluation", id="restore: unknown"),
]


@pytest.mark.parametrize(("arguments", "status", "words"), MISTAKES)
def test_mistake_ends_clearly(arguments, status, words, simulator, tmp_path):
    """The exit status of the contract, the reason, no result on stdout, no traceback, nothing written."""
    before = [dict(row) for row in simulator.evaluations.rows], len(simulator.exports.assets)
    done = hedgerow(simulator, tmp_path, *arguments)

    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert set(json.loads(done.stdout)) == {"error"} if "--json" in arguments else done.stdout == ""
    assert "Traceback" not in done.stderr
    assert ([dict(row) for row in simulator.evaluations.rows], len(simulator.exports.assets)) == before
    assert {file.name for file in tmp_path.iterdir()} <= {"state"}


ACCESS = [
    pytest.param(("exports", "list"), {"POSTHOG_PERSONAL_API_KEY": "phx_wrong"}, 10, id="wrong key"),
    pytest.param(("exports", "get", "1"), {"POSTHOG_PROJECT_ID": "7"}, 10, id="no such project"),
    pytest.param(("evaluations", "list"), {"POSTHOG_HOST": "http://127.0.0.1:1"}, 11, id="nobody listens"),
    pytest.param(("evaluations", "list"), {"POSTHOG_PROJECT_ID": "1,2"}, 2, id="two projects"),
    pytest.param(("events", "get", RECENT.uuid, "--diff"), {}, 12, id="nothing landed"),
]


@pytest.mark.parametrize(("arguments", "settings", "status"), ACCESS)
def test_access_and_source_have_their_statuses(arguments, settings, status, simulator, tmp_path):
    """As for every other command."""
    done = hedgerow(simulator, tmp_path, *arguments, **settings)

    assert (done.returncode, done.stdout, len(done.stderr.splitlines()) <= 4) == (status, "", True), done.stderr


def test_missing_scope_is_named(tmp_path):
    """403: which scope the key lacks, for reading and for writing."""
    with serve(Dataset(), profile=FREE, scopes=frozenset({"query:read", "export:read"})) as limited:
        read = hedgerow(limited, tmp_path, "evaluations", "list")
        listed = hedgerow(limited, tmp_path, "exports", "list", "--json")
        write = hedgerow(limited, tmp_path, "exports", "create", "--format", "csv", "--insight", "1", "--yes")

    assert [done.returncode for done in (read, listed, write)] == [10, 0, 10]
    assert ("scope evaluation:read" in read.stderr, "scope export:write" in write.stderr) == (True, True)


def test_server_without_a_list_or_evaluations_says_so(tmp_path):
    """1.43 has neither: exit 11, that the server is too old, in PostHog's words too; one export by its id works."""
    store = ExportStore()
    asset = store.add("text/csv", datetime.now(UTC))
    with serve(Dataset(), profile=OLD_2023, exports=store) as old:
        refused = {
            command: hedgerow(old, tmp_path, *command)
            for command in (("exports", "list"), ("sync", "exports"), ("evaluations", "list"))
        }
        got = hedgerow(old, tmp_path, "exports", "get", str(asset.id), "--json")

    assert ({done.returncode for done in refused.values()}, got.returncode) == ({11}, 0)
    for command, done in refused.items():
        what, said = ("the list of exports", "405") if "exports" in command else ("evaluations", "404")
        assert f"this server is too old for {what}: PostHog answered {said}" in " ".join(done.stderr.split())
        assert "POSTHOG_HOST" not in done.stderr


def test_number_without_a_word_in_json_is_a_text_in_every_document(tmp_path):
    """What 1.43 sends as `Infinity` is printed as JSON, landed to the letter, and no difference between the two."""
    event = Event(
        "00000000-0000-4000-8000-00000000cafe", "odd", "ann", START, '{"f":1e400,"big":123456789012345678901}'
    )
    with serve(Dataset([event]), profile=OLD_2023) as old:
        synced = hedgerow(old, tmp_path, "sync", *RANGE)
        listed = hedgerow(old, tmp_path, "events", "list", *RANGE)
        compared = hedgerow(old, tmp_path, "events", "get", event.uuid, "--diff", "--json")
    with duckdb.connect(str(tmp_path / "posthog.duckdb"), read_only=True) as db:
        landed = db.execute("SELECT properties::VARCHAR, (properties->>'f')::DOUBLE FROM events").fetchall()

    assert (synced.returncode, compared.returncode) == (0, 0), synced.stderr
    rows = [json.loads(listed.stdout)["results"][0], json.loads(compared.stdout)["event"]]
    assert [row["properties"] for row in rows] == [{"f": "Infinity", "big": 123456789012345678901}] * 2
    assert landed == [(event.properties.replace("1e400", "Infinity"), math.inf)]


def test_numbers_of_lists_are_printed_to_the_letter(main, tmp_path, monkeypatch):
    """As PostHog wrote them, whatever their digits and however deep, by get, list and update."""
    stores = ExportStore(), EvaluationStore()
    digits = (
        '{"a": 1.10, "b": 123456789012345678901234567890.50, "c": 1e400, "twice": {"x": 1, "x": 1.10}, "deep": '
        + "[" * 700
        + "1.0"
        + "]" * 700
        + "}"
    )
    stores[0].add("text/csv", RECENT.timestamp, content=Blob.of(b"a\n1\n"), export_context="DIGITS")
    judge = stores[1].add("Digits", START)
    judge["evaluation_config"] = {"prompt": "p", "n": "DIGITS"}
    answer = json.dumps
    monkeypatch.setattr(
        "extractors.simulator.responses.json.dumps", lambda *of, **how: answer(*of, **how).replace('"DIGITS"', digits)
    )
    commands = (
        ("exports", "get", "1"),
        ("exports", "list", "--json"),
        ("evaluations", "get", judge["id"]),
        ("evaluations", "list", "--json"),
        ("evaluations", "update", judge["id"], "--set", "name=Digits", "--json"),
    )
    with serve(Dataset([]), profile=FREE, exports=stores[0], evaluations=stores[1]) as simulator:
        ended = [main(one, tmp_path, environment(simulator, tmp_path)) for one in commands]

    assert [one.returncode for one in ended] == [0] * len(commands), [one.stderr for one in ended]
    assert [re.sub(r"\s", "", digits) in re.sub(r"\s", "", one.stdout) for one in ended] == [True] * len(commands)


def test_old_server_lists_the_same_events(tmp_path):
    """1.43 has another address, page size and rule for the lower bound: the same rows, as JSON and as its CSV."""
    with serve(DATASET, profile=OLD_2023) as old:
        listed = hedgerow(old, tmp_path, "events", "list", *RANGE, "--json")
        table = hedgerow(old, tmp_path, "events", "list", *RANGE, "--format", "csv")

    assert sorted(row["id"] for row in json.loads(listed.stdout)["results"]) == [event.uuid for event in by_id()]
    assert len(list(csv.DictReader(io.StringIO(table.stdout)))) == len(in_range())


def test_export_is_made_waited_for_and_fetched(tmp_path):
    """Ready when the command ends; the granted expiry is told; the content lies under a safe name, unreplaced."""
    store = ExportStore(looks=2)
    context = json.dumps({"filename": "../../My Events", "source": {"kind": "EventsQuery"}})
    with serve(Dataset(), profile=FREE, exports=store) as running:
        made = hedgerow(
            running,
            tmp_path,
            *("exports", "create", "--format", "csv", "--context", context, "--expires-after", "90d"),
            *("--wait", "--yes", "--json"),
        )
        store.assets[0].filename = "../../etc/cron.d/x\x1b[2J.csv"
        fetched = hedgerow(running, tmp_path, "exports", "download", "1")
        again = hedgerow(running, tmp_path, "exports", "download", "1")
        beside = hedgerow(running, tmp_path, "exports", "download", "1", "--output", ".")
        replaced = hedgerow(running, tmp_path, "exports", "download", "1", "--output", "etc-cron.d-x-2J.csv", "--json")

    assert (made.returncode, json.loads(made.stdout)["has_content"]) == (0, True), made.stderr
    assert ": ready" not in made.stderr  # the result says it
    assert ("what was asked is ignored" in made.stderr, "will be made" in made.stderr) == (True, True)
    assert store.assets[0].export_context["source"] == {"kind": "EventsQuery"}
    statuses = [one.returncode for one in (fetched, again, beside, replaced)]
    assert statuses == [0, 2, 2, 0], fetched.stderr
    (file,) = [file for file in tmp_path.iterdir() if file.name != "state"]
    assert json.loads(replaced.stdout)["rows"] == 2
    assert json.loads(replaced.stdout)["path"] == file.name
    assert store.storage.keys_seen == []


def test_content_never_replaces_the_destination(tmp_path):
    """An --output that is the database is exit 2, and the database stays."""
    (tmp_path / "posthog.duckdb").write_text("mine")
    store = ExportStore()
    store.add("text/csv", datetime.now(UTC), content=Blob(b"a,b\r\n", 5))
    with serve(Dataset(), profile=FREE, exports=store) as running:
        done = hedgerow(running, tmp_path, "exports", "download", "1", "--output", "posthog.duckdb")

    assert (done.returncode, "is the destination itself" in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "posthog.duckdb").read_text() == "mine"


def test_content_of_exactly_a_cap_is_reported(tmp_path):
    """Exit 3, named on stderr and in the document; the file is there."""
    store = ExportStore()
    store.add("text/csv", datetime.now(UTC), content=Blob(b"a,b\r\n", 5 * 10_001))
    with serve(Dataset(), profile=FREE, exports=store) as running:
        done = hedgerow(running, tmp_path, "exports", "download", "1", "--output", "a.csv", "--json")

    assert (done.returncode, json.loads(done.stdout)["possibly_cut"], (tmp_path / "a.csv").exists()) == (3, True, True)
    assert "exactly 10,000 rows" in done.stderr


def test_failed_export_has_posthogs_reason(tmp_path):
    """201 with an exception: exit 11 and the reason, waited for or not."""
    store = ExportStore(fails="Query has hit the max execution time")
    with serve(Dataset(), profile=FREE, exports=store) as running:
        order = ("exports", "create", "--format", "csv", "--insight", "1", "--yes")
        done = [hedgerow(running, tmp_path, *order, *more) for more in ((), ("--wait",))]

    assert [one.returncode for one in done] == [11, 11]
    assert all("Query has hit the max execution time" in one.stderr for one in done)


LOST = ["reset", "done-504", "cut"]


@pytest.mark.parametrize("kind", LOST)
def test_lost_answer_makes_no_second_export(kind, tmp_path):
    """The POST is sent once; the export is found by its mark, in the same command."""
    faults = Faults([Fault(kind, endpoint="exports", at=(1,))])
    with serve(Dataset(), profile=FREE, exports=ExportStore(), faults=faults) as running:
        done = hedgerow(
            running, tmp_path, *("exports", "create", "--format", "csv", "--insight", "1", "--wait", "--yes")
        )
        posts = [seen for seen in running.requests if seen.method == "POST"]

    assert (done.returncode, len(posts), len(running.exports.assets)) == (0, 1, 1), done.stderr
    assert (done.stdout + done.stderr).count("ready") == 1  # the result says it
    assert "looking for it in the list" in done.stderr
    assert not list(tmp_path.rglob("*.export"))


def test_two_orders_of_the_same_make_two_exports(tmp_path):
    """Only an order that had no answer is taken up again: a later one is a new wish."""
    with serve(Dataset(), profile=FREE, exports=ExportStore()) as running:
        for _ in range(2):
            hedgerow(running, tmp_path, *("exports", "create", "--format", "csv", "--insight", "1", "--yes"))

    assert len(running.exports.assets) == 2


class Killer:
    """Ends a process at its n-th request of an endpoint, or when a store has sent so many bytes."""

    def __init__(self, endpoint: str = "", at: int = 0) -> None:
        self.endpoint, self.at = endpoint, at
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, seen: RequestSeen) -> None:
        if (seen.endpoint, seen.number) == (self.endpoint, self.at):
            self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)

    def run(self, simulator: Simulator, home: Path, *arguments: str) -> int:
        self.process = subprocess.Popen(
            [HEDGEROW, *arguments],
            cwd=home,
            env=environment(simulator, home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self.process.wait(timeout=60)


def test_killed_order_makes_no_second_export(tmp_path):
    """kill -9 while the POST is under way: the same command again takes the export that was made."""
    killer = Killer("exports", 1)
    order = ("exports", "create", "--format", "csv", "--insight", "1", "--yes")
    with serve(Dataset(), profile=FREE, exports=ExportStore(), on_request=killer) as running:
        assert killer.run(running, tmp_path, *order) == -signal.SIGKILL
        again = hedgerow(running, tmp_path, *order, "--wait", "--json")
        other = hedgerow(running, tmp_path, *order, "--json")

    assert (again.returncode, json.loads(again.stdout)["id"]) == (0, 1), again.stderr
    assert "had made export 1" in again.stderr
    assert json.loads(other.stdout)["id"] == 2
    assert len(running.exports.assets) == 2


def test_killed_download_leaves_no_broken_file(tmp_path):
    """kill -9 in the middle: nothing under the final name; the next run ends with the whole and leaves nothing else."""
    killer = Killer()
    store = ExportStore(storage=Storage(on_piece=lambda sent: killer.kill() if sent > 2_000_000 else None))
    blob = Blob(b"0123456789\n", 200_000_000)
    store.add("text/csv", datetime.now(UTC), content=blob)
    fetch = ("exports", "download", "1", "--output", "a.csv")
    with serve(Dataset(), profile=FREE, exports=store) as running:
        assert killer.run(running, tmp_path, *fetch) == -signal.SIGKILL
        left = {file.name for file in tmp_path.iterdir()}
        killer.process = None
        done = hedgerow(running, tmp_path, *fetch, "--json")

    assert left == {"state", ".a.csv.part"}
    assert (done.returncode, json.loads(done.stdout)["sha256"]) == (0, blob.sha256)
    assert {file.name for file in tmp_path.iterdir()} == {"state", "a.csv"}


def answered(simulator: Simulator, home: Path, answer: bytes, *arguments: str) -> tuple[int, str]:
    """The command on a terminal where *answer* is typed: its exit status and what it wrote to stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [HEDGEROW, *arguments],
        cwd=home,
        env=environment(simulator, home),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(ours, answer)
    _, stderr = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    return process.returncode, stderr


@pytest.mark.parametrize(("answer", "status", "name"), [(b"y\n", 0, "new"), (b"n\n", 2, "old"), (b"\n", 2, "old")])
def test_terminal_is_asked_before_a_write(answer, status, name, tmp_path):
    """What will be done is said first; only a yes does it."""
    store = EvaluationStore()
    store.add("old", datetime.now(UTC))
    with serve(Dataset(), profile=FREE, evaluations=store) as running:
        code, stderr = answered(running, tmp_path, answer, "evaluations", "update", EVALUATION, "--set", "name=new")

    assert (code, store.rows[0]["name"]) == (status, name), stderr
    assert "will be changed: name" in stderr


def test_evaluation_is_changed_deleted_and_restored(tmp_path):
    """Only what differs is sent; delete is soft; nothing to do writes nothing."""
    store = EvaluationStore()
    store.add("old", datetime.now(UTC))
    (tmp_path / "prompt.txt").write_text("Is it polite?\n")
    with serve(Dataset(), profile=FREE, evaluations=store) as running:
        change = ("--set", "name=new", "--prompt", "@prompt.txt", "--disable", "--yes", "--json")
        changed = hedgerow(running, tmp_path, "evaluations", "update", EVALUATION, *change)
        same = hedgerow(running, tmp_path, "evaluations", "update", EVALUATION, *change)
        gone = hedgerow(running, tmp_path, "evaluations", "delete", EVALUATION, "--yes")
        listed = hedgerow(running, tmp_path, "evaluations", "list", "--json")
        back = hedgerow(running, tmp_path, "evaluations", "restore", EVALUATION, "--yes", "--json")
        again = hedgerow(running, tmp_path, "evaluations", "restore", EVALUATION, "--yes")
        methods = [seen.method for seen in running.requests]

    assert [done.returncode for done in (changed, same, gone, listed, back, again)] == [0] * 6
    row = json.loads(changed.stdout)
    assert (row["name"], row["evaluation_config"], row["enabled"]) == ("new", {"prompt": "Is it polite?"}, False)
    assert "so already" in same.stderr
    assert (gone.stdout + gone.stderr).count(" deleted") == 2, gone.stderr  # that it will be, and that it is
    assert json.loads(listed.stdout) == {"evaluations": []}
    assert json.loads(back.stdout)["deleted"] is False
    assert "nothing to restore" in again.stderr
    assert methods == ["GET", "PATCH", "GET", "GET", "PATCH", "GET", "GET", "PATCH", "GET"]


def test_key_is_in_no_output_and_no_file_of_an_export(tmp_path):
    """Not even with -v, nor in the note of an order that had no answer."""
    faults = Faults([Fault("500", endpoint="exports", at=(1,))])
    with serve(Dataset(), profile=FREE, exports=ExportStore(), faults=faults) as running:
        order = ("exports", "create", "--format", "csv", "--insight", "1", "--yes", "-v")
        done = hedgerow(running, tmp_path, *order)

    assert done.returncode == 11
    assert running.key not in done.stdout + done.stderr
    assert list(tmp_path.rglob("*.export"))
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and running.key.encode() in file.read_bytes()]


@pytest.mark.long
def test_gigabyte_is_fetched_in_little_memory(tmp_path):
    """1 GB, byte for byte, with a peak under 200 MB."""
    peaks = [0]

    def look(sent: int) -> None:
        # VmHWM and not ru_maxrss: the latter is inherited from the parent across fork and exec.
        if sent % 100_000_000 < 1_100_000:
            told = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peaks.append(int(told[1]) // 1024 if told else 10**6)

    store = ExportStore(storage=Storage(cuts=[700_000_000], on_piece=look))
    blob = Blob(b'1,"two\nlines",3\r\n', 10**9)
    store.add("text/csv", datetime.now(UTC), content=blob)
    with serve(Dataset(), profile=FREE, exports=store) as running:
        process = subprocess.Popen(
            [HEDGEROW, "exports", "download", "1", "--output", "a.csv", "--json"],
            cwd=tmp_path,
            env=environment(running, tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        )
        told, _ = process.communicate(timeout=250)

    print(f"peak {max(peaks)} MB in {len(peaks) - 1} looks")
    assert (process.returncode, json.loads(told)["sha256"]) == (0, blob.sha256)
    assert 0 < max(peaks) < 200
    assert [seen.range for seen in store.storage.requests] == ["", "bytes=700000000-"]


@pytest.mark.parametrize("there", ["a file", "a directory", "a link", "a link to nothing"])
def test_name_that_posthog_chose_replaces_nothing(there, tmp_path, monkeypatch):
    """Whatever stands in its place."""
    monkeypatch.chdir(tmp_path)
    match there:
        case "a file":
            Path("a.csv").write_text("mine")
        case "a directory":
            Path("a.csv").mkdir()
        case "a link":
            Path("b").write_text("mine")
            Path("a.csv").symlink_to("b")
        case _:
            Path("a.csv").symlink_to("nothing")
    with pytest.raises(SettingsError, match="there already"):
        exports._free(None, "a.csv")


def test_what_is_set_may_hold_an_equals_sign():
    """The first one ends the name."""
    assert evaluations._sets(["name=a=b", "description=="]) == {"name": "a=b", "description": "="}
