"""A relay in front of an S3 server that misbehaves on request: what real stores, proxies and networks do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx

DROPPED = frozenset({"host", "content-length", "transfer-encoding", "connection"})


@dataclass(frozen=True, slots=True)
class Request:
    """What came: *host* as asked for, and the path without the host."""

    method: str
    host: str
    path: str
    headers: dict[str, str]


def refused(status: int, code: str) -> tuple[int, bytes]:
    """An answer as S3 gives it."""
    text = f"<Error><Code>{code}</Code><Message>signed with secret-of-the-test</Message><Resource>/x</Resource></Error>"
    return status, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


@dataclass(slots=True)
class Relay:
    """*answer*: an answer instead of the server's (status 0: the connection ends without one); *ignored*: headers that
    do not get through; *lost*: whether the answer is lost after the server has done its work; *on_put*: called before
    an object is put."""

    address: str
    answer: Callable[[Request], tuple[int, bytes] | None] = lambda request: None
    ignored: frozenset[str] = frozenset()
    lost: Callable[[Request], bool] = lambda request: False
    on_put: Callable[[Request], None] = lambda request: None
    seen: list[Request] = field(default_factory=list)


@contextmanager
def relay(upstream: str) -> Iterator[Relay]:
    """A relay to *upstream*; also as an HTTP proxy, which turns virtual hosts `bucket.s3.test` into paths."""
    client = httpx.Client(timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            asked = urlsplit(self.path)
            host = asked.netloc or self.headers["host"]
            path = asked.path + (f"?{asked.query}" if asked.query else "")
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, host, path, headers)
            made.seen.append(request)
            if self.command == "PUT":
                made.on_put(request)
            canned = made.answer(request)
            if canned is not None and not canned[0]:
                self._hang_up()
                return
            if canned is not None:
                self._send(canned[0], canned[1], {"content-type": "application/xml"})
                return
            bucket = host.partition(".")[0] if host.endswith(".s3.test") else ""
            sent = {name: value for name, value in headers.items() if name not in DROPPED | made.ignored}
            answer = client.request(
                self.command, f"{upstream}{f'/{bucket}' if bucket else ''}{path}", content=body, headers=sent
            )
            if made.lost(request):
                self._hang_up()
                return
            kept = {name: value for name, value in answer.headers.items() if name not in DROPPED}
            length = answer.headers.get("content-length") if self.command == "HEAD" else None
            self._send(answer.status_code, answer.content, kept, length=length)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.close()

        def _send(self, status: int, body: bytes, headers: dict[str, str], length: str | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

        def log_message(self, *told: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, client:
        made = Relay(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
