"""The command line as a user has it: a process of its own, exit statuses, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from extractors.errors import SourceUnavailable
from extractors.simulator.data.dataset import generate
from extractors.simulator.profiles import OLD_2021
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.cli.app import app
from sinks.duckdb_file.sink import DuckDBSink
from tests.flows.harness import UNLIMITED, landed, truth
from tests.program import HEDGEROW, run, surroundings, told

START, END, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
RANGE = ("--since", "2026-03-01", "--until", "2026-03-05")
DATASET = generate(events=9_000, start=START, end=END, seed=2)


class Held:
    """Holds the simulator's answer to one list request until the test has acted."""

    def __init__(self) -> None:
        self.at = 0
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, seen: RequestSeen) -> None:
        if self.process is None or seen.endpoint != "list":
            return
        time.sleep(0.1)  # pages that come faster are landed together
        if seen.number == self.at:
            self.process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def held() -> Held:
    return Held()


@pytest.fixture(scope="module")
def simulator(held) -> Iterator[Simulator]:
    with serve(DATASET, profile=UNLIMITED, now=lambda: NOW, on_request=held) as running:
        yield running


def environment(simulator: Simulator, home: Path, **more: str) -> Mapping[str, str]:
    known = {
        "COLUMNS": "120",
        "POSTHOG_HOST": simulator.url,
        "POSTHOG_PROJECT_ID": "1",
        "POSTHOG_PERSONAL_API_KEY": simulator.key,
        "HEDGEROW_STATE_DIR": str(home / "state"),
    }
    return surroundings(home, **known | more)


def hedgerow(simulator: Simulator, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return told(run(arguments, home, environment(simulator, home, **more)))


def test_sync_lands_the_range_and_the_second_nothing(simulator, tmp_path):
    """The first sync lands every event into posthog.duckdb, the second none, in one request and one query; both exit 0."""
    first = hedgerow(simulator, tmp_path, "sync", "events", *RANGE, "--json")
    second = hedgerow(simulator, tmp_path, "sync", "events", *RANGE, "--json")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert json.loads(first.stdout)["runs"][0]["rows"] == len(DATASET)
    assert [json.loads(second.stdout)["runs"][0][key] for key in ("rows", "windows", "requests")] == [0, 0, 2]
    assert landed(DuckDBSink(tmp_path / "posthog.duckdb"), START, END) == truth(DATASET.events, START, END)


SEVEN = ("--max-wait", "7m")
SPAN = {"since": "2026-03-01", "until": "2026-03-05"}
LONG = {"max_wait": timedelta(minutes=7)}
HANDED_ON = [
    (("sync", "events", *RANGE, "--rebuild", "--accept-deletions"), SPAN | LONG, {"rebuild", "accept_deletions"}),
    (("sync", "events", *RANGE, "--require-proof"), SPAN | LONG, {"require_proof"}),
    (("backfill", *RANGE, "--accept-deletions"), SPAN | LONG, {"accept_deletions"}),
    (("backfill", *RANGE, "--require-proof"), SPAN | LONG, {"require_proof"}),
    (("verify", *RANGE, "--repair"), SPAN | LONG, {"repair"}),
    (("verify", *RANGE, "--accept-deletions"), SPAN | LONG, {"accept_deletions"}),
    (("verify", *RANGE, "--detail"), SPAN | LONG, {"detail"}),
    (("sync", "exports", "--accept-deletions"), LONG, {"accept_deletions", "named"}),
    (("sync", "evaluations"), LONG, {"named"}),
]


@pytest.mark.parametrize(
    ("command", "given", "switches"),
    HANDED_ON,
    ids=lambda one: " ".join(sorted(one) if isinstance(one, set | frozenset) else one),
)
def test_what_the_command_line_is_given_reaches_the_work(command, given, switches, tmp_path, monkeypatch):
    """Range, longest wait and every switch, each as it was given and no other one."""
    heard: dict[str, object] = {}

    def work(settings: object, project_id: int, *stream: str, **more: object) -> object:
        heard.update(more)
        raise SourceUnavailable("heard")

    for name in ("runs.loads.load_events", "runs.verify.verify_events", "assets.streams.sync"):
        monkeypatch.setattr(f"flows.{name}", work)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_a")
    with pytest.raises(SourceUnavailable, match="heard"):
        app([*command, *SEVEN, "--quiet"], standalone_mode=False)

    assert {name: heard[name] for name in given} == given
    assert {name for name, value in heard.items() if value is True} == switches


def test_ctrl_c_keeps_what_is_committed_and_says_so(simulator, held, tmp_path):
    """SIGINT in the middle: exit 130, one line, no traceback; the next run goes on and the table is whole."""
    process = subprocess.Popen(
        [HEDGEROW, "backfill", *RANGE],
        cwd=tmp_path,
        env=environment(simulator, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # By then a window is landed: the reading is at most three pages ahead.
    held.at, held.process = simulator.count("list") + 10, process
    _, stderr = process.communicate(timeout=60)
    kept = len(landed(DuckDBSink(tmp_path / "posthog.duckdb"), START, END))
    held.process = None
    rest = hedgerow(simulator, tmp_path, "backfill", *RANGE, "--json")

    assert process.returncode == 130, stderr
    assert stderr == "hedgerow: interrupted; everything committed stays, the next run goes on from there\n"
    assert 0 < kept < len(DATASET)
    assert json.loads(rest.stdout)["runs"][0]["rows"] == len(DATASET) - kept
    assert landed(DuckDBSink(tmp_path / "posthog.duckdb"), START, END) == truth(DATASET.events, START, END)


def test_other_projects_are_synced_when_one_fails(simulator, tmp_path):
    """A project that the key may not read: exit 10 and its name, and the other projects are landed."""
    done = hedgerow(simulator, tmp_path, "sync", *RANGE, "--project", "2,1", "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 10
    assert [(run["project_id"], run["stream"]) for run in document["runs"]] == [
        (1, "events"),
        (1, "exports"),
        (1, "evaluations"),
    ]
    assert [failure["project_id"] for failure in document["failed"]] == [2]
    assert "project" in done.stderr.lower()


def test_changed_filter_is_told_in_words(simulator, tmp_path):
    """Exit 2 from sync and plan alike, and the same said in check's table: names of events, no JSON."""
    assert hedgerow(simulator, tmp_path, "backfill", *RANGE).returncode == 0
    (tmp_path / "hedgerow.toml").write_text('[events]\ninclude = ["a\\"] b", "c"]\nexclude = ["d"]\n')
    done = [hedgerow(simulator, tmp_path, command) for command in ("sync", "plan", "check")]

    words = """with the event filter none, now it is include 'a"] b', 'c' and exclude 'd'\n"""
    assert [one.returncode for one in done] == [2, 2, 2]
    told = [one.stderr for one in done[:2]] + [done[2].stdout]
    assert [words in text for text in told] == [True] * 3, told
    assert not [one for one in done if "{" in one.stderr + one.stdout]


def test_damage_ends_every_run_with_3_until_it_is_repaired(simulator, tmp_path):
    """Found once by verify: each later sync says so and ends with 3, although it landed all that it was asked for."""
    path, told = tmp_path / "posthog.duckdb", []

    def run(*arguments: str) -> None:
        told.append(hedgerow(simulator, tmp_path, *arguments))

    run("backfill", *RANGE)
    with duckdb.connect(str(path)) as db:
        db.execute("DELETE FROM events WHERE uuid = (SELECT min(uuid) FROM events)")
    for arguments in (("verify",), ("sync", *RANGE), ("sync", *RANGE), ("verify", "--repair"), ("sync", *RANGE)):
        run(*arguments)

    assert [one.returncode for one in told] == [0, 3, 3, 3, 0, 0], [one.stderr for one in told]
    assert all("does not hold what was landed" in one.stderr for one in told[2:4])
    assert landed(DuckDBSink(path), START, END) == truth(DATASET.events, START, END)


def test_other_projects_are_verified_when_one_fails(simulator, tmp_path):
    """A project of which nothing is landed: exit 12 and its name, and the others are compared all the same."""
    assert hedgerow(simulator, tmp_path, "backfill", *RANGE).returncode == 0
    done = hedgerow(simulator, tmp_path, "verify", "--project", "2,1", "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 12, done.stderr
    assert [(one["project_id"], one["good"]) for one in document["projects"]] == [(1, True)]
    assert [(one["project_id"], "nothing of project 2" in one["error"]) for one in document["failed"]] == [(2, True)]


def test_every_failed_project_is_named_before_the_reason_of_the_exit(simulator, tmp_path):
    """Two projects that the key may not read: a line for each, then the first one's reason and what to do."""
    done = hedgerow(simulator, tmp_path, "sync", "events", *RANGE, "--project", "2,3")

    lines = [line.partition(":")[0] for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert (done.returncode, lines) == (10, ["project 2", "project 3", "hedgerow"]), done.stderr


@pytest.mark.parametrize("json_output", [True, False])
def test_a_run_that_fails_tells_what_it_landed(json_output, tmp_path):
    """The source's limit is reached in the middle: exit 11, and JSON and summary have the windows that stay."""
    dataset = generate(events=30_000, start=START, end=END, seed=6)
    with serve(dataset, profile=replace(UNLIMITED, per_hour=14), now=lambda: NOW) as limited:
        asked = ("backfill", *RANGE, "--max-wait", "1s", *(["--json"] if json_output else []))
        done = hedgerow(limited, tmp_path, *asked)

    assert done.returncode == 11, done.stderr
    if json_output:
        document = json.loads(done.stdout)
        assert document["runs"] == []
        assert [(one["project_id"], one["landed"]["rows"] > 0) for one in document["failed"]] == [(1, True)]
    else:
        assert "events landed in 1 window" in done.stdout


def test_key_is_in_no_output_and_no_file(simulator, tmp_path):
    """Not in settings, results, logs, errors, nor in any file that was written."""
    outputs = [
        hedgerow(simulator, tmp_path, *arguments)
        for arguments in (
            ("settings",),
            ("settings", "--json"),
            ("sync", *RANGE, "-v"),
            ("sync", *RANGE, "--project", "2", "-v"),
            ("status", "--json"),
        )
    ]

    assert not [done for done in outputs if simulator.key in done.stdout + done.stderr]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and simulator.key.encode() in file.read_bytes()]


CHECKS = [
    pytest.param({}, 0, {}, id="all well"),
    pytest.param({"POSTHOG_PERSONAL_API_KEY": "phx_wrong"}, 10, {"key": "personal API key"}, id="wrong key"),
    pytest.param({"POSTHOG_PROJECT_ID": "7"}, 10, {"project": "POSTHOG_PROJECT_ID"}, id="no such project"),
    pytest.param({"POSTHOG_HOST": "http://127.0.0.1:1"}, 11, {"host": "POSTHOG_HOST"}, id="nobody listens"),
    pytest.param(
        {"HEDGEROW_DESTINATION": "duckdb:/proc/a.duckdb"}, 12, {"destination": "permissions"}, id="unwritable"
    ),
    pytest.param({"HEDGEROW_DESTINATION": "duckdb:text.duckdb"}, 12, {"destination": "not a"}, id="not a database"),
]


@pytest.mark.parametrize(("settings", "status", "mends"), CHECKS)
def test_check_names_what_fails_and_its_mend(settings, status, mends, simulator, tmp_path):
    """Exit status of the first failure, a mend for each, and nothing landed or created."""
    (tmp_path / "text.duckdb").write_text("not a database " * 100)
    done = hedgerow(simulator, tmp_path, "check", "--json", **settings)

    findings = json.loads(done.stdout)["projects"][0]["checks"]
    failed = {finding["check"]: finding for finding in findings if finding["result"] == "fail"}
    assert (done.returncode, set(failed)) == (status, set(mends))
    assert all(words in str(failed[name]) for name, words in mends.items())
    assert all(finding["mend"] for finding in failed.values())
    assert {file.name for file in tmp_path.iterdir()} <= {"text.duckdb", "state"}


def test_check_skips_what_an_old_server_does_not_have(tmp_path):
    """No query endpoint is told as such, with no scope to give; exports and evaluations are passed over without a warning."""
    with serve(generate(events=5, start=START, end=END), profile=OLD_2021, now=lambda: NOW) as old:
        done = hedgerow(old, tmp_path, "check", "--json")

    findings = {one["check"]: one for one in json.loads(done.stdout)["projects"][0]["checks"]}
    results = {name: findings[name]["result"] for name in ("query", "exports", "evaluations")}
    assert results == {"query": "warn", "exports": "skip", "evaluations": "skip"}
    assert "too old for queries" in findings["query"]["found"]
    assert "query:read" not in str(findings["query"])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        pytest.param(("sync", "people"), 2, "unknown stream 'people'", id="unknown stream"),
        pytest.param(("sync", "--since", "2026-02-30"), 2, "no time", id="impossible date"),
        pytest.param(("sync", "--since", "now", "--until", "2020-01-01"), 2, "not before", id="since after until"),
        pytest.param(("sync", "--frobnicate"), 2, "--frobnicate", id="unknown option"),
        pytest.param(("sync", "--max-wait", "soon"), 2, "--max-wait", id="bad duration"),
        pytest.param(("sql", "SELEC 1"), 12, "no such file", id="nothing landed yet"),
    ],
)
def test_bad_input_says_what_and_how_to_mend_it(arguments, status, words, simulator, tmp_path):
    """Exit status of the contract, at most two lines on stderr, no traceback."""
    done = hedgerow(simulator, tmp_path, *arguments)

    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""


def test_check_says_a_failure_once(simulator, tmp_path, main):
    """With its mend in the table on stdout; stderr names only what failed, and --quiet says it there."""
    surroundings_ = dict(environment(simulator, tmp_path, POSTHOG_PERSONAL_API_KEY="phx_wrong"))
    loud, quiet = main(["check"], tmp_path, surroundings_), main(["check", "-q"], tmp_path, surroundings_)
    why = re.compile(r"\b401\b")

    assert (loud.returncode, quiet.returncode) == (10, 10)
    assert (len(why.findall(loud.stdout + loud.stderr)), loud.stderr) == (1, "hedgerow: not ready: key\n")
    assert (quiet.stdout, len(why.findall(quiet.stderr))) == ("", 1)


def test_check_says_whose_failure_it_is_and_more_if_asked(simulator, tmp_path, main):
    """Of several projects each is named; -v says what is set, where, and what each line took."""
    around = environment(simulator, tmp_path, POSTHOG_PERSONAL_API_KEY="phx_wrong", POSTHOG_PROJECT_ID="1,2")
    plain, more, quiet = (main(["check", *flags], tmp_path, around) for flags in ((), ("-v",), ("-q",)))

    assert plain.stderr == "".join(f"hedgerow: project {one} is not ready: key\n" for one in (1, 2))
    assert "source.key = set (hidden) (environment)\n" in more.stdout
    assert (len(re.findall(r" · \d requests? · \d", more.stdout)), " · " in plain.stdout) == (2, False)
    assert [line.partition(": ")[0] for line in quiet.stderr.splitlines()[:2]] == ["project 1", "project 2"]


def test_verbose_says_what_is_read_and_what_is_landed(simulator, tmp_path, main):
    """-v has a line for each group of windows and for each commit; without it there is none."""
    told = [
        main(["backfill", *RANGE, *more], tmp_path / name, environment(simulator, tmp_path / name)).stderr
        for name, more in (("plain", ()), ("verbose", ("-v",)))
        if not (tmp_path / name).mkdir()
    ]

    assert told[0] == ""
    assert "reading project 1 · 2026-03-01 .. 2026-03-05 · 4 windows\n" in told[1]
    landed_rows = re.findall(r"landed \d+ windows? of \S+ \.\. \S+: ([\d,]+) new rows", told[1])
    assert sum(int(rows.replace(",", "")) for rows in landed_rows) == len(DATASET.events)


@pytest.mark.parametrize(
    ("include", "said"), [('["exports"]', True), ('["events", "exports"]', False)], ids=["exports", "both"]
)
def test_a_plan_says_whether_events_are_synced(include, said, simulator, tmp_path):
    """It is one of events, also where hedgerow sync leaves them out: in JSON and on stderr."""
    (tmp_path / "hedgerow.toml").write_text(f"[streams]\ninclude = {include}\n")
    done = hedgerow(simulator, tmp_path, "plan", "--json")

    assert done.returncode == 0
    assert bool(json.loads(done.stdout)["notes"]) is said
    assert ("events are not in [streams] include (exports)" in done.stderr) is said
