"""The only HTTP: where the key goes, what is tried again and how often, and bodies that are not whole."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from extractors import errors
from extractors.http.client import Client, Source
from extractors.http.pacing import Limit, Pacing
from extractors.http.retry import Patience
from extractors.lists.contents import download
from extractors.lists.exports import asset_of
from extractors.request import PAGE, WHOLE, WRITE, Bucket, Policy, Request

KEY = "phx_secret"
ASKED = Request(1, "events/", Bucket.LIST, (("limit", "1"),))
FAST = Patience(attempts=4, total_s=20, first_s=0.001, longest_s=0.002, first_contact_attempts=2)


def client(url: str, directory: Path, **more: object) -> Client:
    limits = dict.fromkeys(Bucket, Limit(10**6, 10**6))
    return Client(Source(url, KEY), Pacing(directory, host=url, key=KEY, limits=limits), patience=FAST, **more)


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A real server on loopback; its address, and the Authorization of every request it got."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            keys.append(self.headers.get("Authorization", ""))
            answer(self)

        do_GET = do_POST = do_PATCH = _handle  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}", keys
    finally:
        running.shutdown()
        running.server_close()


def body(handler: BaseHTTPRequestHandler, content: bytes, *, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    named = {"Content-Length": str(len(content))} | {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in named.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_refused_and_the_other_host_never_asked(status, tmp_path):
    """An API call follows nothing, whatever the status: the key stays with the configured host."""
    with (
        server(lambda handler: body(handler, b"{}")) as (elsewhere, there),
        server(lambda handler: body(handler, b"", status=status, Location=f"{elsewhere}/api/")) as (url, here),
        pytest.raises(errors.UnusableAnswer, match="redirect"),
    ):
        client(url, tmp_path).send(ASKED)

    assert here == [f"Bearer {KEY}"]
    assert there == []


def test_key_is_in_no_repr_and_no_address(tmp_path):
    """What is shown by accident shows no key."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    made = client("http://source.example", tmp_path, transport=httpx.MockTransport(answer))
    made.send(ASKED)

    assert KEY not in repr(Source("http://source.example", KEY)) + str(Source("http://source.example", KEY)) + asked[0]


CONTENT = Request(1, "exports/7/content/", Bucket.REST, accept="*/*", entry="content of export 7")


def test_content_is_not_fetched_unencrypted(tmp_path):
    """From https a redirect to http is refused before anything is asked there."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"Location": "http://store.example/a?signed"})

    made = client("https://source.example", tmp_path, transport=httpx.MockTransport(answer))
    with pytest.raises(errors.UnusableAnswer, match="expected https"), made.content(CONTENT, headers={}):
        raise AssertionError("not reached")

    assert asked == ["source.example"]


def test_content_may_lead_back_without_the_key(tmp_path):
    """Even an address of the same host is asked without the key once it came out of an answer; hops are bounded."""
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Authorization", ""))
        return httpx.Response(302, headers={"Location": "/again", "Set-Cookie": "a=b"})

    made = client("https://source.example", tmp_path, transport=httpx.MockTransport(answer))
    with pytest.raises(errors.SourceUnavailable, match="302"), made.content(CONTENT, headers={}):
        raise AssertionError("not reached")

    assert keys == [f"Bearer {KEY}", "", "", ""]


def test_content_is_not_waited_for_longer_than_the_run_may(tmp_path):
    """A block of an hour ends a run that may wait ten seconds at once, and nothing is asked meanwhile."""
    limits = dict.fromkeys(Bucket, Limit(10, 10))
    waits: list[float] = []
    budget = Pacing(tmp_path, host="h", key=KEY, limits=limits, max_wait_s=10, sleep=waits.append)
    budget.block(Bucket.REST, 3600)
    made = Client(Source("https://source.example", KEY), budget, transport=httpx.MockTransport(lambda request: None))

    with pytest.raises(errors.LimitsExhausted, match="10 s allowed"):
        fetched(made, CONTENT)

    assert waits == []


def damaged(*, at: int) -> bytes:
    """A gzip body of which one byte was changed on the way."""
    packed = bytearray(gzip.compress(json.dumps(list(range(1000))).encode(), mtime=0))
    packed[at] ^= 0xFF
    return bytes(packed)


CUTS = [
    pytest.param(
        lambda handler: body(handler, gzip.compress(b"{}" * 5000)[:40], Content_Encoding="gzip"), id="gzip cut in half"
    ),
    pytest.param(lambda handler: body(handler, b"{}", Content_Encoding="gzip"), id="no gzip at all"),
    pytest.param(
        lambda handler: body(handler, b"\x1f\x8b no gzip", Content_Encoding="gzip"), id="gzip by its first bytes"
    ),
    pytest.param(lambda handler: body(handler, damaged(at=-5), Content_Encoding="gzip"), id="another checksum"),
    pytest.param(lambda handler: body(handler, damaged(at=20), Content_Encoding="gzip"), id="another byte"),
    pytest.param(
        lambda handler: body(handler, b"{}", Content_Length="9999", Connection="close"), id="shorter than it says"
    ),
]


@pytest.mark.parametrize("answer", CUTS)
def test_body_that_is_not_whole_is_an_error(answer, tmp_path):
    """Half an answer is never taken for an answer; a divisible request is given back at once."""

    def cut(handler: BaseHTTPRequestHandler) -> None:
        answer(handler)
        handler.close_connection = True

    with server(cut) as (url, keys), pytest.raises(errors.BodyCut):
        client(url, tmp_path).send(Request(1, "events/", Bucket.LIST, policy=PAGE))

    assert len(keys) == 1


def test_body_over_the_bound_is_given_up(tmp_path, monkeypatch):
    """A body that inflates beyond the bound is cut off while it comes."""
    monkeypatch.setattr("extractors.http.client.MAX_BODY_BYTES", 10_000)
    bomb = gzip.compress(b" " * 10_000_000)
    with (
        server(lambda handler: body(handler, bomb, Content_Encoding="gzip")) as (url, _),
        pytest.raises(errors.BodyCut, match="larger"),
    ):
        client(url, tmp_path).send(Request(1, "events/", Bucket.LIST, policy=PAGE))


ATTEMPTS = [
    pytest.param(False, FAST.first_contact_attempts, id="first contact"),
    pytest.param(True, FAST.attempts, id="a server that has answered"),
]


@pytest.mark.parametrize(("answered", "attempts"), ATTEMPTS)
def test_transient_failure_is_tried_again_a_bounded_number_of_times(answered, attempts, tmp_path):
    """All attempts where the host has answered before, few where it never has, as it may be mistyped; each is told."""
    told: list[str] = []
    healthy = [answered]
    with server(lambda handler: body(handler, b"{}", status=200 if healthy[0] else 502)) as (url, keys):
        asking = client(url, tmp_path, on_retry=lambda error, wait_s: told.append(str(error)))
        if answered:
            asking.send(ASKED)
        healthy[0] = False
        with pytest.raises(errors.SourceUnavailable):
            asking.send(ASKED)

    assert len(keys) - answered == attempts
    assert told == ["PostHog answered 502"] * (attempts - 1)


def test_back_off_doubles_with_jitter_up_to_the_longest(tmp_path):
    """Many clients do not ask again in one moment. It is slept as every wait is, so that it ends with the run."""
    waits: list[float] = []
    busy = httpx.MockTransport(lambda request: httpx.Response(502, stream=httpx.ByteStream(b"")))
    budget = Pacing(tmp_path, host="h", key=KEY, limits=dict.fromkeys(Bucket, Limit(9, 9)))
    patience = Patience(attempts=5, first_contact_attempts=5, first_s=1, longest_s=5)
    asking = Client(Source("http://h", KEY), budget, patience=patience, transport=busy, sleep=waits.append)

    with pytest.raises(errors.SourceUnavailable):
        asking.send(ASKED)

    assert [int(wait) for wait in waits] == [1, 2, 4, 5]
    assert any(wait % 1 for wait in waits[:3])


@pytest.mark.parametrize(("policy", "asked"), [(WHOLE, 3), (PAGE, 1)], ids=["whole", "divisible"])
def test_proxy_s_page_is_waited_for_where_less_cannot_be_asked(policy, asked, tmp_path):
    """What came whole and is no list: a proxy's word of a moment. Whoever can ask for less is told at once."""
    waits: list[float] = []
    with server(lambda handler: body(handler, b"<html>busy</html>")) as (url, keys):
        asking = client(url, tmp_path, sleep=waits.append)
        with pytest.raises(errors.BodyCut, match="events list"):
            asking.page(replace(ASKED, policy=policy))

    assert len(keys) == asked
    assert waits == [1.0, 2.0][: asked - 1]


QUERY = Request(1, "query/", Bucket.QUERY, body=b"{}", method="POST")
LISTED = Request(1, "evaluations/", Bucket.REST)
CHANGE = Request(1, "evaluations/7/", Bucket.REST, body=b"{}", method="PATCH", policy=WRITE)


def fetched(asking: Client, request: Request) -> None:
    """As whoever asks for it does: a content to a file, everything else as it is."""
    if request is CONTENT:
        one = asset_of({"id": 7, "export_format": "text/csv", "filename": "a", "has_content": True})
        with TemporaryDirectory() as directory:
            download(asking, 1, one, Path(directory, "a.csv"))
    else:
        asking.send(request)


def in_seconds(now: datetime) -> str:
    return "40"


def as_date(now: datetime) -> str:
    return format_datetime(now + timedelta(seconds=40), usegmt=True)


TOLD_TO_WAIT = [
    *((request, status) for request in (ASKED, QUERY, LISTED, CONTENT) for status in (429, 503)),
    (CHANGE, 429),  # after a 503 a write may have been done: it is not sent again
]


@dataclass(slots=True)
class Strict:
    """A source that refuses the first request and notes when each of them came, by a clock that only sleeping moves."""

    status: int
    told: Callable[[datetime], str]
    now: datetime = datetime(2026, 3, 20, tzinfo=UTC)
    begun: datetime = datetime(2026, 3, 20, tzinfo=UTC)
    came: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.came.append((self.now - self.begun).total_seconds())
        first = len(self.came) == 1
        handler.send_response_only(self.status if first else 200)
        handler.send_header("Date", format_datetime(self.now, usegmt=True))
        if first:
            handler.send_header("Retry-After", self.told(self.now))
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    def asking(self, url: str, directory: Path, **more: object) -> Client:
        budget = Pacing(
            directory,
            host=url,
            key=KEY,
            limits=dict.fromkeys(Bucket, Limit(9, 9)),
            clock=lambda: self.now.timestamp(),
            sleep=self.sleep,
            **more,
        )
        return Client(Source(url, KEY), budget, patience=FAST, sleep=self.sleep)


@pytest.mark.parametrize("told", [in_seconds, as_date])
@pytest.mark.parametrize(
    ("asked", "status"), TOLD_TO_WAIT, ids=lambda one: str(one if isinstance(one, int) else one.resource)
)
def test_retry_after_is_waited_for_exactly(asked, status, told, tmp_path):
    """By whatever is asked: neither sooner nor later than the server says, and then it is served."""
    strict = Strict(status, told)
    with server(strict.answer) as (url, _):
        fetched(strict.asking(url, tmp_path), asked)

    assert strict.came == [0, 40]


@pytest.mark.parametrize("asked", [ASKED, QUERY, LISTED, CONTENT], ids=lambda one: one.resource)
def test_retry_after_of_the_limits_holds_for_everyone_with_the_key(asked, tmp_path):
    """While one waits another, with a budget of its own in the same place, asks no sooner."""
    strict = Strict(429, in_seconds)
    with server(strict.answer) as (url, _):
        neighbour = strict.asking(url, tmp_path)
        fetched(strict.asking(url, tmp_path, on_wait=lambda wait: fetched(neighbour, asked)), asked)

    assert min(strict.came[1:]) == 40
    assert len(strict.came) == 3


@pytest.mark.parametrize("status", [429, 503, 425], ids=["limits", "busy", "not there yet"])
def test_retry_after_of_a_content_is_not_waited_for_longer_than_the_run_may(status, tmp_path):
    """A run that may wait half a minute ends at once, instead of sleeping for forty seconds."""
    strict = Strict(status, in_seconds)
    with server(strict.answer) as (url, _), pytest.raises(errors.LimitsExhausted, match="30 s allowed"):
        fetched(strict.asking(url, tmp_path, max_wait_s=30), CONTENT)

    assert strict.now == strict.begun


def test_retry_after_of_the_store_is_waited_for_exactly(tmp_path):
    """The place of contents may ask for patience as well as PostHog."""
    strict = Strict(503, in_seconds)
    with server(strict.answer) as (store, _), server(leads_to(store)) as (url, _):
        fetched(strict.asking(url, tmp_path), CONTENT)

    assert strict.came == [0, 40]


SIGNATURE = "0f1e2d3c4b5a"


def leads_to(address: str) -> Callable[[BaseHTTPRequestHandler], None]:
    signed = f"{address}?X-Amz-Credential=AKIA{SIGNATURE}&X-Amz-Signature={SIGNATURE}"
    return lambda handler: body(handler, b"", status=302, Location=signed)


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def cut_short(handler: BaseHTTPRequestHandler) -> None:
    body(handler, b"{}", Content_Length="9999")
    handler.close_connection = True


STORES = {
    "refuses": lambda handler: body(handler, f"<Error>{SIGNATURE}</Error>".encode(), status=403),
    "fails": lambda handler: body(handler, f"{handler.path}".encode(), status=500),
    "sends on for ever": leads_to("/again"),
    "sends to nowhere": leads_to(f"https://user:{SIGNATURE}@[broken/"),
    "sends to an odd name": leads_to(f"https://us\u2100er:{SIGNATURE}@store.example/".encode().decode("latin-1")),
    "sends to what is no web": leads_to(f"ftp://user:{SIGNATURE}@store.example/"),
    "hangs up": hangs_up,
    "is cut": cut_short,
    "is silent": lambda handler: threading.Event().wait(0.5),
    "serves": lambda handler: body(handler, b"{}"),
}
PLACES = {
    **dict.fromkeys(STORES, "{store}/a"),
    "is not there": "http://127.0.0.1:9/a",
    "speaks no TLS": "https{store_without_scheme}/a",
    "has an odd port": "http://127.0.0.1:99999/a",
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_opens_a_content_is_in_no_message(kind, tmp_path, caplog):
    """Neither in an error, its hint and its traceback, nor in a log of the libraries, at any level."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    asked = replace(CONTENT, policy=Policy(answer_s=0.2 if kind == "is silent" else 20))
    with server(STORES.get(kind, hangs_up)) as (store, keys):
        place = PLACES[kind].format(store=store, store_without_scheme=store.removeprefix("http"))
        with server(leads_to(place)) as (url, _):
            try:
                with client(url, tmp_path).content(asked, headers={}) as content:
                    list(content.pieces)
            except errors.SourceError as exc:
                told += [exc.hint, *traceback.format_exception(exc)]

    assert bool(told) == (kind != "serves")
    shown = "\n".join([*told, caplog.text])
    assert SIGNATURE not in shown
    assert KEY not in shown
    assert not any(keys)


def test_refusal_is_not_tried_again(tmp_path):
    """What only the user can mend is asked once."""
    with (
        server(lambda handler: body(handler, b'{"detail":"no"}', status=403)) as (url, keys),
        pytest.raises(errors.AccessDenied),
    ):
        client(url, tmp_path).send(ASKED)

    assert len(keys) == 1


def test_missing_prefix_is_switched_once_and_remembered(tmp_path):
    """A 404 `Endpoint not found.` turns to the other prefix; the next request goes there at once."""
    paths: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path.split("/")[2])
        missing = paths[-1] == "environments"
        body(handler, b'{"detail":"Endpoint not found."}' if missing else b"{}", status=404 if missing else 200)

    with server(answer) as (url, _):
        asking = client(url, tmp_path)
        asking.send(ASKED)
        asking.send(ASKED)

    assert paths == ["environments", "projects", "projects"]


CSV = replace(ASKED, params=(("format", "csv"),), accept="text/csv")


def not_found(handler: BaseHTTPRequestHandler, detail: str) -> None:
    said = json.dumps({"type": "invalid_request", "code": "not_found", "detail": detail, "attr": None})
    body(handler, said.encode(), status=404)


def test_missing_prefix_that_does_not_say_so_is_switched(tmp_path):
    """To `format=csv` an absent prefix answers a bare `Not found.`: the other one is tried before it is believed."""
    paths: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path.split("/")[2])
        if paths[-1] == "environments":
            not_found(handler, "Not found.")
        else:
            body(handler, b"event\r\n")

    with server(answer) as (url, _):
        asking = client(url, tmp_path)
        assert asking.send(CSV).body == b"event\r\n"
        asking.send(CSV)

    assert paths == ["environments", "projects", "projects"]


NOWHERE = [
    pytest.param(CSV, "Not found.", errors.AccessDenied, ["environments", "projects"], id="no project, said barely"),
    pytest.param(CSV, "Project not found.", errors.AccessDenied, ["environments"], id="no project, said so"),
    pytest.param(
        replace(ASKED, resource="events/0/", entry="event 0"),
        "No events exist for event UUID 0",
        errors.NotFound,
        ["environments"],
        id="no event",
    ),
    pytest.param(
        replace(ASKED, resource="exports/7/", entry="export 7"),
        "Not found.",
        errors.NotFound,
        ["environments", "projects"],
        id="no export, said barely",
    ),
]


@pytest.mark.parametrize(("asked", "detail", "error", "paths"), NOWHERE)
def test_404_of_both_prefixes_is_believed(asked, detail, error, paths, tmp_path):
    """Each prefix is asked at most once, and the 404 means what it says."""
    seen: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path.split("/")[2])
        not_found(handler, detail)

    with server(answer) as (url, _), pytest.raises(errors.SourceError) as raised:
        client(url, tmp_path).send(asked)

    assert type(raised.value) is error
    assert seen == paths


def test_404_of_a_prefix_that_answered_is_believed_at_once(tmp_path):
    """An address that is known to exist is not doubted again."""
    paths: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path.split("/")[2])
        if len(paths) > 1:
            not_found(handler, "Not found.")
        else:
            body(handler, b"{}")

    with server(answer) as (url, _):
        asking = client(url, tmp_path)
        asking.send(ASKED)
        with pytest.raises(errors.NotFound):
            asking.send(replace(ASKED, resource="events/0/", entry="event 0"))

    assert paths == ["environments", "environments"]
