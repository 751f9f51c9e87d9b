"""Whatever a user gets wrong: the exit status of the contract, one sentence of what and one of how to mend it."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import pytest

from tests.program import HEDGEROW, run, surroundings, told

DATE = "Tue, 24 Nov 2026 00:00:00 GMT"


def refusal(status: int, kind: str, code: str, detail: str) -> tuple[int, str]:
    return status, json.dumps({"type": kind, "code": code, "detail": detail, "attr": None})


ROW = {"id": 3251, "distinct_id": "u", "properties": {}, "event": "e", "timestamp": "2026-11-07T15:12:14Z"}
ANSWERS = {
    "phx_wrong": refusal(401, "authentication_error", "authentication_failed", "Personal API key is invalid."),
    "phx_scopeless": refusal(
        403, "authentication_error", "permission_denied", "API key missing required scope 'query:read'"
    ),
    "phx_elsewhere": refusal(
        403,
        "authentication_error",
        "permission_denied",
        "API key does not have access to the requested project: ID 1.",
    ),
    "phx_noproject": refusal(404, "invalid_request", "not_found", "Project not found."),
    "phx_noendpoint": refusal(404, "invalid_request", "not_found", "Endpoint not found."),
    "phx_quota": refusal(402, "quota_limit_exceeded", "quota_limit_exceeded", "Billing limit reached."),
    "phx_website": (200, "<!doctype html><title>Welcome</title>"),
    "phx_notfound": (404, "<!doctype html><title>Not found</title>"),
    "phx_moved": (302, ""),
    "phx_numbers": (200, json.dumps({"next": None, "results": [ROW]})),
    "phx_later": refusal(429, "throttled_error", "throttled", "Request was throttled."),
}


class Teller(BaseHTTPRequestHandler):
    """Answers by the key that asks."""

    def do_GET(self) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, body = ANSWERS.get(key, (200, '{"next":null,"results":[]}'))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "https://elsewhere.example/login")
        if status == 429:
            self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815

    def date_time_string(self, timestamp: float | None = None) -> str:
        return DATE

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Teller) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@dataclass(frozen=True)
class Case:
    """What is typed and set, and what must come out: exit status and words of stderr."""

    name: str
    arguments: str | tuple[str, ...]
    status: int
    words: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    toml: str | bytes = ""


def unset(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "")


KEY, PROJECT, HOST, TO = "POSTHOG_PERSONAL_API_KEY", "POSTHOG_PROJECT_ID", "POSTHOG_HOST", "HEDGEROW_DESTINATION"
EP = "AWS_ENDPOINT_URL"
S3 = {TO: "s3://bucket/p", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "eu-west-1"}
CASES = [
    # what to set
    Case("nothing set", "sync", 2, (KEY, PROJECT, "query:read"), unset(KEY, PROJECT)),
    Case("no key", "sync", 2, (KEY,), unset(KEY)),
    Case("no project", "sync", 2, (PROJECT, "Settings"), unset(PROJECT)),
    Case("project token", "sync", 2, (KEY, "phc_", "cannot read"), {KEY: "phc_abc"}),
    Case("key with a blank", "sync", 2, (KEY, "phx_"), {KEY: "phx_a b"}),
    Case("key with a letter no header has", "sync", 2, (KEY,), {KEY: "phx_ü"}),
    Case("project by name", "sync", 2, (f"change {PROJECT} in the environment", "'shop'", "number"), {PROJECT: "shop"}),
    Case("project zero", "sync", 2, (PROJECT, "'0'"), {PROJECT: "0"}),
    Case("project negative", "sync", 2, (PROJECT, "'-5'"), {PROJECT: "-5"}),
    Case("project with a fraction", "sync", 2, (PROJECT, "'1.5'"), {PROJECT: "1.5"}),
    Case("project list with a gap", "sync", 2, (PROJECT, "''"), {PROJECT: "1,,2"}),
    Case("project flag by name", "sync --project shop", 2, ("'shop'", "another --project")),
    Case("project of other digits", "sync", 2, (PROJECT,), {PROJECT: "²"}),
    Case("host without scheme", "sync", 2, (HOST, "https://"), {HOST: "us.posthog.com"}),
    Case("host with another scheme", "sync", 2, (HOST, "https://"), {HOST: "ftp://us.posthog.com"}),
    Case("host without a name", "sync", 2, (HOST,), {HOST: "https://"}),
    Case("ingestion host us", "sync", 2, ("ingestion", "https://us.posthog.com"), {HOST: "https://us.i.posthog.com"}),
    Case("ingestion host eu", "sync", 2, ("ingestion", "https://eu.posthog.com"), {HOST: "https://eu.i.posthog.com"}),
    Case("host with a path", "sync", 2, (HOST, "more than a host"), {HOST: "https://us.posthog.com/project/1"}),
    Case("host with a query", "sync", 2, (HOST, "more than a host"), {HOST: "https://us.posthog.com?a=1"}),
    Case("host with a password", "sync", 2, (HOST,), {HOST: "https://ann:hunter2@us.posthog.com"}),
    Case("host with an impossible port", "sync", 2, (HOST,), {HOST: "https://us.posthog.com:99999"}),
    Case("host without encryption", "sync", 2, (HOST, "HEDGEROW_ALLOW_HTTP"), {HOST: "http://us.posthog.com"}),
    Case("leave in words", "sync", 2, ("HEDGEROW_ALLOW_HTTP", "true or false"), {"HEDGEROW_ALLOW_HTTP": "maybe"}),
    Case("misspelt variable", "sync", 2, ("mean HEDGEROW_DESTINATION",), {"HEDGEROW_DESTINATON": "duckdb:a.duckdb"}),
    Case("unknown variable", "sync", 2, ("HEDGEROW_PAGE_ROWS", "expected one of"), {"HEDGEROW_PAGE_ROWS": "1"}),
    Case("hashing that does not exist", "sync", 2, ("HEDGEROW_SECRET",), {"HEDGEROW_SECRET": "s"}),
    Case("misspelt variable of PostHog", "sync", 2, (f"mean {PROJECT}",), {"POSTHOG_PROJECT": "1"}),
    Case("variable in small letters", "sync", 2, (f"mean {HOST}",), {"posthog_host": "https://us.posthog.com"}),
    Case("unknown destination", "sync", 2, ("mysql://", "duckdb:PATH"), {TO: "mysql://h/db"}),
    Case("destination without scheme", "sync", 2, ("posthog.db", "duckdb:PATH"), {TO: "posthog.db"}),
    Case("destination without path", "sync", 2, ("duckdb:PATH",), {TO: "duckdb:"}),
    Case("destination in memory", "sync", 2, (":memory:", "file"), {TO: "duckdb::memory:"}),
    Case("destination in no directory", "sync", 2, ("no such directory", "none"), {TO: "duckdb:none/a.duckdb"}),
    Case("destination is a directory", "sync", 2, ("is a directory",), {TO: "duckdb:."}),
    # hedgerow.toml
    Case("unknown table", "sync", 2, ("sauce",), toml="[sauce]\nhost = 'https://us.posthog.com'\n"),
    Case("unknown key", "sync", 2, ("source.colour", "hedgerow.toml"), toml="[source]\ncolour = 1\n"),
    Case("misspelt key", "sync", 2, ("did you mean events.include",), toml="[events]\ninclud = ['a']\n"),
    Case("key outside a table", "sync", 2, ("host", "[source]"), toml="host = 'https://us.posthog.com'\n"),
    Case("secret in the file", "sync", 2, ("no secret",), toml="[source]\nkey = 'phx_in_the_file'\n"),
    Case("secret by another name", "sync", 2, ("no secret",), toml="[source]\npersonal_api_key = 'phx_in_the_file'\n"),
    Case("secret outside a table", "sync", 2, ("no secret",), toml=f"{KEY} = 'phx_in_the_file'\n"),
    Case("unknown key of a snapshot", "sync", 2, ("snapshot.form",), toml="[[exports.snapshot]]\nform='csv'\nname='a'"),
    Case("no TOML", "sync", 2, ("cannot read hedgerow.toml",), toml="[source\n"),
    Case("no text", "sync", 2, ("cannot read hedgerow.toml",), toml=b"\xff\xfe\x00"),
    Case("requests in words", "sync", 2, ("requests_per_minute",), toml="[source]\nrequests_per_minute = 'many'\n"),
    Case("no requests", "sync", 2, ("requests_per_hour",), toml="[source]\nrequests_per_hour = 0\n"),
    Case(
        "none in flight",
        "sync",
        2,
        ("change source.in_flight in hedgerow.toml", "1 or more"),
        toml="[source]\nin_flight = 0\n",
    ),
    Case("ninety in flight", "sync", 2, ("in_flight",), toml="[source]\nin_flight = 90\n"),
    Case("settle in words", "sync", 2, ("events.settle", "10m"), toml="[events]\nsettle = 'soon'\n"),
    Case("settle negative", "sync", 2, ("events.settle",), toml="[events]\nsettle = '-5m'\n"),
    Case("memory in words", "sync", 2, ("memory", "such as 350MB"), toml="[run]\nmemory = 'much'\n"),
    Case("too little memory", "sync", 2, ("memory", "100 MB is too little"), toml="[run]\nmemory = '100MB'\n"),
    Case("re-read ages in words", "sync", 2, ("reread_at",), toml="[events]\nreread_at = ['later']\n"),
    Case("lock timeout without unit", "sync", 2, ("lock_timeout",), toml="[duckdb]\nlock_timeout = '60'\n"),
    Case("storage of no DuckDB", "sync", 2, ("storage_version", "v1.2.0"), toml="[duckdb]\nstorage_version = 'v9'\n"),
    Case("storage too old", "sync", 2, ("storage_version", "v1.2.0"), toml="[duckdb]\nstorage_version = 'v1.0.0'\n"),
    Case("re-read age alone", "sync", 2, ("reread_at", 'a list, such as ["1h"'), toml="[events]\nreread_at = '1h'\n"),
    Case("part of a request in flight", "sync", 2, ("a whole number",), toml="[source]\nin_flight = 1.5\n"),
    Case(
        "snapshot without a name", "sync", 2, ("snapshot.name", "missing"), toml="[[exports.snapshot]]\ninsight = 1\n"
    ),
    Case("event names that are numbers", "sync", 2, ("include", "expected text"), toml="[events]\ninclude = [1]\n"),
    Case("event both in and out", "sync", 2, ("include", "exclude"), toml="[events]\ninclude=['a']\nexclude=['a']\n"),
    # ranges
    Case("30 February", "sync --since 2026-02-30", 2, ("2026-02-30", "ISO 8601")),
    Case("month 13", "sync --since 2026-13-01", 2, ("2026-13-01", "ISO 8601")),
    Case("hour 25", "sync --until 2026-01-01T25:00", 2, ("2026-01-01T25:00", "ISO 8601")),
    Case("a word for a time", "sync --since yesterday", 2, ("'yesterday'", "7d")),
    Case("an end at the earliest", "sync --until earliest", 2, ("'earliest' is no time\n", "a start may also be")),
    Case("an empty time", ("sync", "--since", ""), 2, ("no time", "ISO 8601")),
    Case("year 99999", "sync --since 99999-01-01", 2, ("99999-01-01",)),
    Case("a billion days ago", "sync --since 999999999d", 2, ("999999999d",)),
    Case("since after until", "sync --since 2026-02-01 --until 2026-01-01", 2, ("--since", "not before")),
    Case("since is until", "sync --since 2026-02-01 --until 2026-02-01", 2, ("--since", "not before")),
    Case("since in the future", "backfill --since 2290-01-01", 2, ("2290-01-01", "future")),
    Case("backfill without since", "backfill", 2, ("--since",)),
    Case("longest wait in words", "sync --max-wait soon", 2, ("--max-wait", "10m")),
    # commands
    Case("unknown stream", "sync people", 2, ("people", "events")),
    Case("unknown command", "sink", 2, ("sink", "--help")),
    Case("unknown option", "sync --sinse 7d", 2, ("--sinse",)),
    Case("option without value", "sync --since", 2, ("--since",)),
    Case("no query", "sql", 2, ("query",)),
    Case("simulator of another profile", "simulator --profile mars", 2, ("mars", "cloud")),
    Case("simulator with fewer than no events", "simulator --events -1", 2, ("--events",)),
    Case("simulator at an impossible port", "simulator --port 99999", 2, ("--port",)),
    # access
    Case("wrong key", "sync", 10, ("401", KEY), {KEY: "phx_wrong"}),
    Case("missing scope", "sync", 10, ("403", "query:read"), {KEY: "phx_scopeless"}),
    Case("project of others", "sync", 10, ("403", "access to this project"), {KEY: "phx_elsewhere"}),
    Case("no such project", "sync", 10, ("404", PROJECT), {KEY: "phx_noproject"}),
    # source
    Case("host with a blank", "sync", 2, (HOST, "no address"), {HOST: "https://a b"}),
    Case("host with a sign", "sync", 2, (HOST, "no address"), {HOST: "https://%zz"}),
    Case("host that is half a number", "sync", 2, (HOST, "no address"), {HOST: "https://[::1"}),
    Case("host with a fragment", "sync", 2, (HOST, "more than a host"), {HOST: "https://a#b"}),
    Case("nobody listens", "sync", 11, ("cannot reach", HOST), {HOST: "http://127.0.0.1:9"}),
    Case("no such host", "sync", 11, ("cannot reach", HOST), {HOST: "https://posthog.invalid"}),
    Case("no such endpoint", "sync", 11, ("404", HOST), {KEY: "phx_noendpoint"}),
    Case("another website", "sync", 11, ("does not answer as PostHog", HOST), {KEY: "phx_website"}),
    Case("another website's 404", "sync", 10, ("404", HOST), {KEY: "phx_notfound"}),
    Case("a redirect", "sync", 11, ("302", HOST), {KEY: "phx_moved"}),
    Case("billing limit", "sync", 11, ("402", "Billing"), {KEY: "phx_quota"}),
    Case("events without uuids", "sync --since 2026-11-01", 11, ("upgrade PostHog",), {KEY: "phx_numbers"}),
    Case(
        "an hour to wait",
        "sync --max-wait 1m",
        11,
        ("come to 1 h, more than the 1 min allowed", "--max-wait"),
        {KEY: "phx_later"},
    ),
    # destination
    Case("query of nothing", ("sql", "SELECT 1"), 12, ("no such file", "hedgerow sync")),
    Case("bad SQL", ("sql", "SELEC 1"), 2, ("SELEC",), {TO: "duckdb:other.duckdb"}),
    Case("unknown table in SQL", ("sql", "FROM nowhere"), 2, ("nowhere",), {TO: "duckdb:other.duckdb"}),
    # lakes
    Case("S3 without bucket", "sync", 2, ("names no bucket", "s3://bucket/prefix"), {TO: "s3://"}),
    Case("S3 with a prefix only", "sync", 2, ("names no bucket",), {TO: "s3:///prefix"}),
    Case("S3 with one slash", "sync", 2, ("unknown destination", "s3://bucket/prefix"), {TO: "s3:/bucket"}),
    Case("bucket in capitals", "sync", 2, ("'Bucket'", "small letters"), {TO: "s3://Bucket/p"}),
    Case("bucket of two letters", "sync", 2, ("'ab'", "3 to 63"), {TO: "s3://ab/p"}),
    Case("bucket with two dots", "sync", 2, ("'a..b'",), {TO: "s3://a..b/p"}),
    Case("bucket with a port", "sync", 2, ("'bucket:9000'",), {TO: "s3://bucket:9000/p"}),
    Case("prefix that climbs", "sync", 2, ("prefix cannot be used",), {TO: "s3://bucket/../p"}),
    Case("prefix with a star", "sync", 2, ("prefix cannot be used",), {TO: "s3://bucket/a*"}),
    Case("prefix with two slashes", "sync", 2, ("prefix cannot be used", "single"), {TO: "s3://bucket/a//b"}),
    Case("another store", "sync", 2, ("unknown destination", "s3://bucket/prefix"), {TO: "gs://bucket/p"}),
    Case("endpoint without scheme", "sync", 2, ("AWS_ENDPOINT_URL", "http"), {TO: "s3://bucket/p", EP: "minio:9000"}),
    Case("endpoint with a password", "sync", 2, (EP,), {TO: "s3://bucket/p", EP: "http://me:hunter2@m:9000"}),
    Case("endpoint with a query", "sync", 2, (EP,), {TO: "s3://bucket/p", EP: "http://m:9000?x=hunter2"}),
    Case("endpoint with a bucket", "sync", 2, ("AWS_ENDPOINT_URL",), {TO: "s3://bucket/p", EP: "http://m:9000/bucket"}),
    Case("endpoint with a blank", "sync", 2, (EP,), {TO: "s3://bucket/p", EP: "http://a b:9000"}),
    Case("endpoint at no port", "sync", 2, (EP,), {TO: "s3://bucket/p", EP: "http://a:99999"}),
    Case("endpoint that is half a number", "sync", 2, (EP,), {TO: "s3://bucket/p", EP: "http://[::1"}),
    Case("endpoint with a fragment", "sync", 2, (EP,), {TO: "s3://bucket/p", EP: "http://m:9000#hunter2"}),
    Case(
        "bucket below a number",
        "sync",
        2,
        ("addressing",),
        S3 | {EP: "http://127.0.0.1:9"},
        "[destination]\naddressing = 'virtual'\n",
    ),
    Case("a secret of AWS in the file", "sync", 2, ("no secret",), toml="[destination]\nsecret_access_key = 'x'\n"),
    Case("addresses of a third kind", "sync", 2, ("addressing",), toml="[destination]\naddressing = 'dns'\n"),
    Case("store out of reach", "sync", 12, ("cannot be reached", "AWS_ENDPOINT_URL"), S3 | {EP: "http://127.0.0.1:9"}),
    Case("directory without a name", "sync", 2, ("names no directory", "file:DIR"), {TO: "file:"}),
    Case("directory at a host", "sync", 2, ("names no directory",), {TO: "file://host/lake"}),
    Case("directory that no glob finds", "sync", 2, ("glob",), {TO: "file:a[1]"}),
    Case("directory that is a file", "sync", 2, ("is a file",), {TO: "file:other.duckdb"}),
    Case("directory in no directory", "sync", 2, ("no such directory",), {TO: "file:none/lake"}),
    Case("directory of other things", "sync", 12, ("not hedgerow's", "of its own"), {TO: "file:."}),
    Case("query of no lake", ("sql", "SELECT 1"), 12, ("no lake yet", "hedgerow sync"), {TO: "file:lake"}),
    Case("views over a file", "attach", 2, ("is no lake", "file:DIR")),
    Case("views over data", "attach --output other.duckdb", 12, ("other.duckdb", "holds tables"), {TO: "file:lake"}),
    Case("views in no directory", "attach --output none/v.duckdb", 2, ("cannot write",), {TO: "file:lake"}),
    Case("copy from nothing", "copy --from file:lake --to file:lake2", 12, ("holds nothing", "hedgerow status")),
    Case("copy onto itself", "copy --from file:lake --to file:lake", 2, ("same destination",)),
    Case("copy onto itself, otherwise written", "copy --from file:lake --to file:./lake", 2, ("same destination",)),
    Case("copy of a file onto itself", "copy --from duckdb:a.duckdb --to duckdb:./a.duckdb", 2, ("same destination",)),
    Case("copy to nowhere", "copy --from file:lake", 2, ("--to",)),
    Case("no database", "sync", 12, ("hedgerow.toml",), {TO: "duckdb:hedgerow.toml"}, "[events]\nsettle = '10m'\n" * 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_ends_clearly(case, host, tmp_path, main):
    """Status and words as the table says; at most two lines, no traceback, no secret, nothing on stdout, nothing landed."""
    if case.toml:
        content = case.toml if isinstance(case.toml, bytes) else case.toml.encode()
        (tmp_path / "hedgerow.toml").write_bytes(content)
    with duckdb.connect(str(tmp_path / "other.duckdb")) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS one")
    arguments = case.arguments.split() if isinstance(case.arguments, str) else case.arguments
    settings = {KEY: "phx_good", PROJECT: "1", HOST: host, "HEDGEROW_STATE_DIR": str(tmp_path / "state")}
    environment = surroundings(tmp_path, **settings | dict(case.settings))
    if CASES.index(case) % 12:
        done = main(arguments, tmp_path, environment)
    else:  # some as a process of their own, as users have it
        done = subprocess.run(
            [HEDGEROW, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == case.status, done.stderr
    assert [words for words in case.words if words not in done.stderr] == [], done.stderr
    last = done.stderr[done.stderr.index("hedgerow: ") :]
    assert len(last.strip().splitlines()) <= 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    secrets = {environment[KEY], "hunter2", "phx_in_the_file"} - {""}
    assert [secret for secret in secrets if secret in done.stderr] == []


def test_table_has_sixty_cases():
    """The promise of the table's size, and that no case is there twice."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_same_project_of_another_host_is_refused(host, tmp_path):
    """A destination remembers the host of each project id: another one is exit 2, and says what to do."""
    settings = {KEY: "phx_good", PROJECT: "1", HOST: host, "HEDGEROW_STATE_DIR": str(tmp_path / "state")}
    environment = surroundings(tmp_path, **settings)
    runs = [
        told(run(["sync", "events"], tmp_path, environment | {HOST: address}))
        for address in (host, host.replace("127.0.0.1", "localhost"))
    ]

    assert [done.returncode for done in runs] == [0, 2], [done.stderr for done in runs]
    assert "another destination" in runs[1].stderr


def test_misspelt_variable_in_dotenv_is_refused(tmp_path):
    """A name in .env that is nearly one of hedgerow's is exit 2; one of another program's stands there in peace."""
    (tmp_path / ".env").write_text("POSTHOG_API_KEY=phc_1\nAPP_KEY=1\n")
    fine = settings_of(tmp_path)
    (tmp_path / ".env").write_text("POSTHOG_PROJECTID=1\n")
    refused = settings_of(tmp_path)

    assert (fine.returncode, refused.returncode) == (0, 2), fine.stderr
    assert (
        refused.stderr == "hedgerow: unknown variable POSTHOG_PROJECTID in .env\n  did you mean POSTHOG_PROJECT_ID?\n"
    )


def test_plain_http_is_allowed_by_name_and_on_this_machine(tmp_path):
    """allow_http, by variable or file, lets the key go unencrypted; a loopback address needs no leave."""
    far = {HOST: "http://posthog.internal:8000"}
    done = [
        settings_of(tmp_path, **far, HEDGEROW_ALLOW_HTTP="true"),
        *(settings_of(tmp_path, **{HOST: f"http://{name}:8000"}) for name in ("localhost", "127.9.0.1", "[::1]")),
    ]
    (tmp_path / "hedgerow.toml").write_text("[source]\nallow_http = true\n")
    done.append(settings_of(tmp_path, **far))

    assert [one.returncode for one in done] == [0] * 5, [one.stderr for one in done]


def test_name_that_looks_like_this_machine_is_another(tmp_path):
    """The key would travel unencrypted to whoever has that name."""
    others = ("posthog-localhost", "localhost.example.com", "128.0.0.1")

    assert [settings_of(tmp_path, **{HOST: f"http://{name}:8000"}).returncode for name in others] == [2, 2, 2]


def test_settings_are_told_as_they_are_written(tmp_path):
    """What `hedgerow settings` prints can be put back into the file: durations as 30d; in JSON numbers, lists and null."""
    (tmp_path / "hedgerow.toml").write_text('[events]\nlookback = "1.5h"\nreread_at = ["1h", "90m"]\n')
    text, told = settings_of(tmp_path).stdout, json.loads(settings_of(tmp_path, "--json").stdout)
    values = {name: one["value"] for name, one in told.items()}

    assert re.findall(r"events\.(?:settle|lookback|reread_at) +│ ([^│]*?) +│", text) == ["10m", "90m", "1h, 90m"]
    assert (values["events.lookback"], values["events.reread_at"]) == ("90m", ["1h", "90m"])
    assert (values["source.in_flight"], values["events.include"], values["destination.region"]) == (2, [], None)


def settings_of(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return told(run(["settings", *arguments], home, surroundings(home, **variables)))
