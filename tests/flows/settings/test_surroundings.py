"""The variables of the machine, as docs/settings.md lists them: whatever stands in one, it works or it is named."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extractors.http import client
from sinks.errors import DestinationUnusable
from sinks.objects import s3
from tests.flows.harness import IMPATIENT
from tests.flows.settings.servers import SECRET, Servers, serving
from tests.program import Ended, surroundings

ROOT = Path(__file__).parents[3]
ASK, LAKE, SHOW = ("events", "list", "--limit", "1"), ("status",), ("status", "--project", "1")
NOWHERE, NOTHING = "http://127.0.0.1:9", "/proc/none"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET}
REFUSED = 12  # the store knows nobody: whoever gets there has passed all that is tested here


@dataclass(frozen=True)
class Case:
    """*values*: the exit status that each leads to; `{cert}` and the like are places of the test. *around*: what else is set.
    *says*: what the error names where that is not the variable itself."""

    command: tuple[str, ...]
    values: dict[str, int]
    around: dict[str, str] = field(default_factory=dict)
    says: str = ""


def proxy(address: str) -> Case:
    wrong = dict.fromkeys(
        (
            "socks5://127.0.0.1:9",
            "ftp://127.0.0.1",
            f"http://me:{SECRET}",
            f"http://me:{SECRET[:3]}/{SECRET}@127.0.0.1:9",
            f"http://me:80/{SECRET}@127.0.0.1:9",
            "http://[::1",
            "http://127.0.0.1:99999",
            "http://pr oxy",
        ),
        2,
    )
    unreachable = {"{stranger}": 11, NOWHERE: 11, "127.0.0.1:9": 11, f"http://me:{SECRET}@127.0.0.1:9": 11}
    works = {"": 0, "{proxy}": 0}
    return Case(ASK, works | wrong | unreachable, {"POSTHOG_HOST": address, "SSL_CERT_FILE": "{cert}"})


def no_proxy() -> Case:
    direct = (
        "*",
        "127.0.0.1",
        "127.0.0.0/8",
        "a.b,127.0.0.1,fd00::/8",
        "[::1] 127.*",
        "http://127.0.0.1",
        "<l>;127.0.0.1:{port}",
    )
    proxied = ("", "127.0.0.1:1", "https://127.0.0.1", "fe80::1%eth0/64,[::1]:80,:::,/,[", "10.0.0.0/99")
    return Case(ASK, dict.fromkeys(direct, 0) | dict.fromkeys(proxied, 11), {"HTTP_PROXY": NOWHERE}, "NO_PROXY")


def certificates(command: tuple[str, ...], well: int) -> Case:
    return Case(command, {"": well, "{cert}": well, NOTHING: 2, "{home}": 2, "{text}": 2}, KEYS)


def unread(command: tuple[str, ...] = ASK, well: int = 0) -> Case:
    return Case(command, dict.fromkeys(("", NOTHING, "nonsense", "1"), well), KEYS)


TLS = {"POSTHOG_HOST": "{https}"}
STATE = {"HEDGEROW_STATE_DIR": ""}
DIRECTORY = {"": 0, NOTHING: 2, "{text}": 2, "{home}/new": 0}
CASES: dict[str, Case] = {
    **{name: proxy("{http}") for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")},
    **{name: proxy("{https}") for name in ("HTTPS_PROXY", "https_proxy")},
    **{name: no_proxy() for name in ("NO_PROXY", "no_proxy")},
    "SSL_CERT_FILE": Case(ASK, {"": 11, "{cert}": 0, "{other}": 11, NOTHING: 2, "{home}": 2, "{text}": 2}, TLS),
    "SSL_CERT_DIR": Case(ASK, {"": 11, "{home}": 11, NOTHING: 2, "{text}": 2}, TLS, "SSL_CERT_"),
    "SSLKEYLOGFILE": Case(ASK, {"": 0, NOTHING: 2, "{home}": 2, "{home}/keys": 0}),
    **{name: Case(ASK, {"": 0, NOTHING: 0, "nonsense": 0}) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")},
    "HOME": Case(ASK, DIRECTORY, STATE),
    "XDG_STATE_HOME": Case(ASK, DIRECTORY | {"relative": 0}, STATE),
    "HEDGEROW_STATE_DIR": Case(ASK, DIRECTORY | {"~/state": 0}),
    "XDG_CACHE_HOME": unread(),
    **{name: unread(LAKE, REFUSED) for name in ("TMPDIR", "TEMP", "TMP")},
    **{name: Case(SHOW, dict.fromkeys(("", "0", "-5", "wide", "1", "99999999"), 0)) for name in ("COLUMNS", "LINES")},
    **{name: unread(SHOW) for name in ("NO_COLOR", "TERM", "LANG", "LC_ALL", "TZ")},
    "AWS_ACCESS_KEY_ID": Case(LAKE, {"a": REFUSED, "ü": 2, "a\nb": 2, "a b": 2}, KEYS),
    "AWS_SECRET_ACCESS_KEY": Case(LAKE, {SECRET: REFUSED, f"{SECRET} ü": 2}, KEYS),
    "AWS_SESSION_TOKEN": Case(LAKE, {SECRET: 2, f"{SECRET}\n{SECRET}": 2}),
    **{
        name: Case(LAKE, {"": REFUSED, "eu-west-1": REFUSED, "no region": 2}, KEYS)
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION")
    },
    **{
        name: Case(
            LAKE,
            {"{store}": REFUSED, "nonsense": 2, "ftp://a": 2, f"http://me:{SECRET}@127.0.0.1:9": 2, NOWHERE: REFUSED},
            KEYS | {"AWS_ENDPOINT_URL": ""},
            "AWS_ENDPOINT",
        )
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    },
    "AWS_CA_BUNDLE": certificates(LAKE, REFUSED),
    **{
        name: Case(LAKE, {"nobody": 2})
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE")
    },
    "AWS_CONFIG_FILE": unread(LAKE, REFUSED),
    "AWS_WEB_IDENTITY_TOKEN_FILE": Case(LAKE, {NOTHING: 2, "{home}": 2}, {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}),
    "AWS_ROLE_ARN": Case(LAKE, {"": 2}, {"AWS_WEB_IDENTITY_TOKEN_FILE": "{text}"}),
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": Case(LAKE, {"nonsense": 2}),
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": Case(LAKE, {"nonsense": 2}),
    "AWS_EC2_METADATA_DISABLED": Case(LAKE, {"true": 2, "TRUE": 2}),
    **{
        name: Case(LAKE, {"": REFUSED, "nonsense": 12}, KEYS)
        for name in ("AWS_CHECKSUM_ALGORITHM", "AWS_SERVER_SIDE_ENCRYPTION", "AWS_COPY_IF_NOT_EXISTS")
    },
    **{name: unread(LAKE, REFUSED) for name in ("AWS_SKIP_SIGNATURE", "AWS_CONDITIONAL_PUT", "AWS_UNSIGNED_PAYLOAD")},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nothing is tried again: what fails here fails at once."""
    monkeypatch.setattr(client, "Patience", lambda: IMPATIENT)
    monkeypatch.setattr(s3, "RETRY", {"max_retries": 0})


def filled(text: str, home: Path, servers: Servers) -> str:
    """*text* with the test's own places."""
    places = {"home": str(home), "text": str(home / "text"), **servers.places}
    return re.sub(r"{(\w+)}", lambda found: places[found[1]], text)


def test_page_lists_what_is_tried():
    """Each variable of docs/settings.md is tried, and no other; they are many."""
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8").partition("## The machine's variables")[2]
    rows = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    assert set(CASES) == listed
    assert len(listed) >= 25


@pytest.mark.parametrize("name", CASES)
def test_variable_works_or_is_named(name, servers, tmp_path, main, monkeypatch):
    """Empty, wrong and out of reach: the status of the table, the variable's name, two lines, no traceback, no secret."""
    (tmp_path / "text").write_text("this is no certificate\n")
    case = CASES[name]
    around = {
        "POSTHOG_HOST": "{http}",
        "POSTHOG_PROJECT_ID": "1",
        "POSTHOG_PERSONAL_API_KEY": "phx_good",
        "HEDGEROW_STATE_DIR": "{home}/state",
        **({"HEDGEROW_DESTINATION": "s3://bucket/p", "AWS_ENDPOINT_URL": "{store}"} if case.command is LAKE else {}),
        **case.around,
    }
    for value, status in case.values.items():
        monkeypatch.setattr(tempfile, "tempdir", None)
        given = {one: filled(text, tmp_path, servers) for one, text in (around | {name: value}).items()}
        done = main(case.command, tmp_path, surroundings(tmp_path, **given))

        last = well_said(done)
        assert done.returncode == status, (value, done.stderr)
        assert done.returncode or done.stdout, value
        refused = status == REFUSED and "access is denied" in last
        assert not done.returncode or refused or (case.says or name) in last, (value, last)


def well_said(done: Ended) -> str:
    """The error, in two lines; no traceback, no bug and no secret in any output."""
    last = done.stderr.partition("hedgerow: ")[2]
    assert len(last.strip().splitlines()) == (2 if done.returncode else 0), done.stderr
    assert [word for word in ("Traceback", "bug", SECRET) if word in done.stdout + done.stderr] == []
    return last


STORE: dict[str, tuple[dict[str, str], int, str]] = {
    "a proxy out of reach": ({"HTTP_PROXY": f"http://me:{SECRET}@127.0.0.1:9"}, 12, "check HTTP_PROXY, or add"),
    "a proxy that wants a password": ({"HTTP_PROXY": "{stranger}"}, 12, "407\n  check HTTP_PROXY, or add"),
    "a proxy that gets it": (
        {"HTTPS_PROXY": "{proxy}", "AWS_ENDPOINT_URL": "{tls_store}", "AWS_CA_BUNDLE": "{cert}"},
        12,
        "denied",
    ),
    "a proxy that is not for it": ({"HTTP_PROXY": NOWHERE, "NO_PROXY": "127.0.0.0/8"}, 12, "access is denied"),
    "a form that only we know": ({"HTTP_PROXY": NOWHERE, "NO_PROXY": "127.*"}, 12, "access is denied"),
    "a port": (
        {"HTTP_PROXY": f"me:{SECRET}@127.0.0.1:9", "NO_PROXY": "127.0.0.1:{store_port}"},
        12,
        "access is denied",
    ),
    "a proxy of another kind": ({"ALL_PROXY": "socks5://127.0.0.1:9"}, 2, "ALL_PROXY"),
    "a wrong proxy that is for others": ({"HTTPS_PROXY": "socks5://127.0.0.1:9"}, 12, "access is denied"),
    "no certificates": ({"SSL_CERT_FILE": "{text}"}, 2, "holds no certificate"),
    "a directory without certificates": ({"SSL_CERT_DIR": "{home}"}, 12, "SSL_CERT_DIR"),
    "a certificate of nobody": ({"AWS_ENDPOINT_URL": "{tls_store}"}, 12, "not trusted here\n  set AWS_CA_BUNDLE"),
    "its certificate": ({"AWS_ENDPOINT_URL": "{tls_store}", "AWS_CA_BUNDLE": "{cert}"}, 12, "access is denied"),
    "its certificate for all": ({"AWS_ENDPOINT_URL": "{tls_store}", "SSL_CERT_FILE": "{cert}"}, 12, "access is denied"),
    "the better of two addresses": ({"AWS_ENDPOINT_URL_S3": "{store}", "AWS_ENDPOINT_URL": NOWHERE}, 12, "denied"),
}


@pytest.mark.parametrize("name", STORE)
def test_store_is_reached_as_the_source_is(name, servers, tmp_path, main):
    """The S3 client reads the same variables in another way; what is said of them is the same."""
    (tmp_path / "text").write_text("this is no certificate\n")
    around = KEYS | {"HEDGEROW_DESTINATION": "s3://bucket/p", "AWS_ENDPOINT_URL": "{store}", "AWS_REGION": "eu-west-1"}
    around |= {"POSTHOG_PROJECT_ID": "1", "POSTHOG_PERSONAL_API_KEY": "phx_good"}
    variables, status, words = STORE[name]
    given = {one: filled(text, tmp_path, servers) for one, text in (around | variables).items()}
    done = main(LAKE, tmp_path, surroundings(tmp_path, **given))

    assert words in well_said(done)
    assert done.returncode == status


def test_lake_in_s3_needs_a_place_for_its_rows(servers, tmp_path, main, monkeypatch):
    """Where no directory for temporary files can be written, TMPDIR is named before anything is asked."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    around = {"HEDGEROW_DESTINATION": "s3://bucket/p", "POSTHOG_PROJECT_ID": "1", "POSTHOG_PERSONAL_API_KEY": "phx_a"}
    done = main(LAKE, tmp_path, surroundings(tmp_path, **KEYS, **around))

    assert "TMPDIR" in well_said(done)
    assert done.returncode == 2


def test_address_of_the_settings_is_that_of_the_store(servers, monkeypatch):
    """Whatever variable its client would read by itself."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", NOWHERE)
    options = s3.S3Options("a", SECRET, region="eu-west-1", endpoint=servers.places["store"])

    with pytest.raises(DestinationUnusable, match="access is denied"):
        s3.S3Objects("bucket", "p", options).get("a")


def test_program_speaks_as_ever_on_an_odd_terminal(tmp_path):
    """A process of its own: its language, encoding, time zone and size are what Python reads as it starts."""
    odd = {"LC_ALL": "C", "LANG": "xx_YY", "PYTHONIOENCODING": "latin-1", "TZ": "Mars/Olympus", "TERM": "none"}
    command = [str(Path(sys.executable).parent / "hedgerow"), "settings"]
    around = surroundings(tmp_path, **odd, COLUMNS="0", LINES="-1")
    done = subprocess.run(command, cwd=tmp_path, env=around, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert "│ source.host" in done.stdout.decode("utf-8")
