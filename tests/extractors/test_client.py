"""The only HTTP: where the key goes, what is tried again and how often, and bodies that are not whole."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from extractors import errors
from extractors.client import Client, Patience, Source
from extractors.pacing import Limit, Pacing
from extractors.queries import Bucket, Request

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

        def do_GET(self) -> None:
            keys.append(self.headers.get("Authorization", ""))
            answer(self)

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

    with pytest.raises(errors.LimitsExhausted, match="10 s allowed"), made.content(CONTENT, headers={}):
        raise AssertionError("not reached")

    assert waits == []


CUTS = [
    pytest.param(
        lambda handler: body(handler, gzip.compress(b"{}" * 5000)[:40], Content_Encoding="gzip"), id="gzip cut in half"
    ),
    pytest.param(lambda handler: body(handler, b"{}", Content_Encoding="gzip"), id="no gzip at all"),
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
        client(url, tmp_path).send(Request(1, "events/", Bucket.LIST, divisible=True))

    assert len(keys) == 1


def test_body_over_the_bound_is_given_up(tmp_path, monkeypatch):
    """A body that inflates beyond the bound is cut off while it comes."""
    monkeypatch.setattr("extractors.client.MAX_BODY_BYTES", 10_000)
    bomb = gzip.compress(b" " * 10_000_000)
    with (
        server(lambda handler: body(handler, bomb, Content_Encoding="gzip")) as (url, _),
        pytest.raises(errors.BodyCut, match="larger"),
    ):
        client(url, tmp_path).send(Request(1, "events/", Bucket.LIST, divisible=True))


@pytest.mark.parametrize(
    ("answered", "attempts"),
    [(True, FAST.attempts), (False, FAST.first_contact_attempts)],
    ids=["has answered before", "has never answered"],
)
def test_transient_failure_is_tried_again_a_bounded_number_of_times(answered, attempts, tmp_path):
    """Once a server has answered, four attempts and no more, one that never has gets two; each is told."""
    told: list[str] = []
    served = [answered]  # the first request of a server that answers

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if served.pop() if served else False:
            body(handler, b"{}")
        else:
            handler.close_connection = True

    with server(answer) as (url, keys):
        asking = client(url, tmp_path, on_retry=lambda error, wait_s: told.append(str(error)))
        if answered:
            asking.send(ASKED)
        with pytest.raises(errors.SourceUnavailable):
            asking.send(ASKED)

    assert len(keys) == attempts + answered
    assert len(told) == attempts - 1


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
