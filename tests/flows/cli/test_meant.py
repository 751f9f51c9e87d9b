"""A mistyped command line is told what it may have meant; --json tells a failure as JSON."""

from __future__ import annotations

import json
import os

import pytest

from tests.program import surroundings

MEANT = [
    ("sync --from 7d", "No such option: --from; did you mean --since?", "hedgerow sync --help"),
    ("events list --to now", "did you mean --until?", "hedgerow events list --help"),
    ("sync --dest duckdb:a.duckdb", "did you mean --destination?", "hedgerow sync --help"),
    ("sync --dry-run", "did you mean hedgerow plan?", "hedgerow sync --help"),
    ("verify --repiar", "did you mean --repair?", "hedgerow verify --help"),
    ("backfill --since", "Option '--since' requires an argument\n", "hedgerow backfill --help"),
    ("events list --limit", "Option '--limit' requires an argument\n", "hedgerow events list --help"),
    ("exports get abc", "'abc' is no id of an export\n", "expected a number, as hedgerow exports list"),
    ("exports download -- -1", "'-1' is no id of an export\n", "hedgerow exports list"),
    ("evaluations get 5", "'5' is no uuid\n", "expected a uuid, as hedgerow evaluations list"),
    ("events get 5", "'5' is no uuid\n", "expected a uuid, as hedgerow events list"),
    ("copy --from lake --to duckdb:a.duckdb", "unknown destination 'lake'\n", "did you mean file:lake?"),
    ("copy --from s3:b/p --to duckdb:a.duckdb", "unknown destination 's3:b/p'\n", "did you mean s3://b/p?"),
    ("copy --from file:. --to duckdb:///a.duckdb", "unknown destination 'duck", "did you mean duckdb:/a.duckdb?"),
    ("copy --to duckdb:a.duckdb", "Missing option '--from'", "hedgerow copy --help"),
    ("query x", "No such command 'query'; did you mean hedgerow sql?", "hedgerow --help"),
    ("config", "did you mean hedgerow settings?", "hedgerow --help"),
    ("verfy", "did you mean verify?", "hedgerow --help"),
    ("events lst", "did you mean list?", "hedgerow events --help"),
    ("events config", "No such command 'config'\n", "hedgerow events --help"),
    ("exports create --format cvs", "did you mean csv?", "hedgerow exports create --help"),
    ("sync event", "unknown stream 'event'", "did you mean events?"),
    ("sync --whatever", "No such option: --whatever\n", "hedgerow sync --help"),
]


@pytest.mark.parametrize(("line", "said", "next_step"), MEANT, ids=[line for line, *_ in MEANT])
def test_a_near_miss_is_told_what_it_meant(line, said, next_step, tmp_path, main):
    """The name that other tools use, or the most alike; and whose help to read. Exit 2, two lines."""
    done = main(line.split(), tmp_path, surroundings(tmp_path))

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 2), done.stderr
    assert said in done.stderr
    assert next_step in done.stderr


def test_options_are_not_alike_by_their_dashes(tmp_path, main):
    """--json before the command is no near miss of --version."""
    done = main(["--json"], tmp_path, surroundings(tmp_path))

    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "hedgerow: No such option: --json")


@pytest.mark.parametrize(
    ("variables", "meant"),
    [
        ({"HEDGEROW_DEST": "duckdb:a.duckdb"}, "did you mean HEDGEROW_DESTINATION?"),
        ({"HEDGEROW_DESTINATION": "a.duckdb"}, "did you mean duckdb:a.duckdb?"),
        ({"HEDGEROW_DESTINATION": "mysql:a"}, "expected duckdb:PATH"),
    ],
)
def test_a_near_miss_of_a_setting_is_told_what_it_meant(variables, meant, tmp_path, main):
    """A variable that begins as one of ours, and a file without the kind of its destination."""
    done = main(["status"], tmp_path, surroundings(tmp_path, **variables))

    assert (done.returncode, meant in done.stderr) == (2, True), done.stderr


def test_an_unknown_variable_is_told_those_of_users(tmp_path, main):
    """And not what hedgerow's own tests read, which is no mistake where it is set."""
    tests_own = {"HEDGEROW_SOAK_SECONDS": "1"}
    unknown = main(["settings"], tmp_path, surroundings(tmp_path, HEDGEROW_XYZ="1", **tests_own))
    known = main(["settings"], tmp_path, surroundings(tmp_path, **tests_own))

    assert (unknown.returncode, known.returncode) == (2, 0), known.stderr
    assert "HEDGEROW_HOME" in unknown.stderr
    assert "SOAK" not in unknown.stderr


FAILURES = [
    ("sync", {}, "usage", 2),
    ("plan", {}, "usage", 2),
    ("status --what", {}, "usage", 2),
    ("sql x", {}, "destination", 12),
    ("sql x", {"HEDGEROW_DESTINATION": "file:none/lake"}, "usage", 2),
    ("events get 018e0000-0000-7000-8000-000000000000", {"POSTHOG_HOST": "http://127.0.0.1:9"}, "source", 11),
]


@pytest.mark.parametrize(("line", "more", "kind", "status"), FAILURES, ids=[line for line, *_ in FAILURES])
def test_a_failure_is_json_where_json_is_asked(line, more, kind, status, tmp_path, main):
    """One document on stdout with kind, message, remedy and exit status, where the command has written none."""
    key = {"POSTHOG_PERSONAL_API_KEY": "phx_a", "POSTHOG_PROJECT_ID": "1"} if more else {}
    done = main([*line.split(), "--json"], tmp_path, surroundings(tmp_path, **key, **more))
    told = json.loads(done.stdout)["error"]

    assert (done.returncode, told["kind"], told["exit_status"]) == (status, kind, status)
    assert told["remedy"]
    assert done.stderr.endswith(f"hedgerow: {told['message']}\n  {told['remedy']}\n")


def test_a_project_that_failed_tells_kind_and_remedy(tmp_path, main):
    """In the document that sync writes anyway, which stays the only one."""
    named = {"POSTHOG_PERSONAL_API_KEY": "phx_a", "POSTHOG_PROJECT_ID": "1", "POSTHOG_HOST": "http://127.0.0.1:9"}
    done = main(["sync", "events", "--json"], tmp_path, surroundings(tmp_path, **named))
    (failed,) = json.loads(done.stdout)["failed"]

    assert (done.returncode, failed["kind"]) == (11, "source")
    assert "POSTHOG_HOST" in failed["remedy"]


@pytest.mark.parametrize("line", ["-h", "sync -h", "events -h", "exports list -h"])
def test_h_is_help(line, tmp_path, main):
    """-h is --help, for every command and group."""
    short = main(line.split(), tmp_path, surroundings(tmp_path))
    long = main([*line.split()[:-1], "--help"], tmp_path, surroundings(tmp_path))

    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert "Usage: hedgerow" in short.stdout


COMPLETED = [
    ("ver", ["verify"]),
    ("sync --reb", ["--rebuild"]),
    ("sync ev", ["events", "evaluations"]),
    ("sync events an", ["annotations"]),
    ("backfill ", ["events"]),
    ("backfill --since e", ["earliest"]),
    ("copy --to ", ["duckdb:", "file:", "s3://"]),
    ("status --destination f", ["file:"]),
    ("exports create --format x", ["xlsx"]),
    ("simulator --profile s", ["self_hosted", "server_2023_12"]),
    ("attach --output ", []),  # files, as the shell has them
]


@pytest.mark.parametrize(("words", "found"), COMPLETED, ids=[words for words, _ in COMPLETED])
def test_a_shell_completes_what_is_known(words, found, tmp_path, main):
    """What the shell asks of the program as its completion does: commands, options, names and values."""
    line = f"hedgerow {words}"
    asked = {"_HEDGEROW_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = main([], tmp_path, surroundings(tmp_path, **asked))

    assert (done.returncode, done.stdout.split()) == (0, found)
    assert os.listdir(tmp_path) == []
