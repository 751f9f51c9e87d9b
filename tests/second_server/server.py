"""The second server over real HTTP: HTTP/1.1 with keep-alive, no Nagle, gzip when accepted, `Date` by its own clock.

Knows sockets and bytes; what is answered is decided in api.py.
"""

import socket
import socketserver
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zoneinfo import ZoneInfo

from .answers import Answer, Request
from .api import MAX_LIMIT, OLDER_MAX_LIMIT, Project, SecondServer, Settings, Throttle
from .assets import KINDS, Evaluations, Exports, Objects, OlderExports
from .bucket import Bucket
from .rows import Row, Store

GZIP_LEAST_BYTES = 200  # smaller bodies grow


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 around a function from request to answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        # The body is read even where it is not wanted: left in the socket it would be the next request.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            method=self.command,
            target=self.path,
            host=self.headers.get("Host", ""),
            authorization=self.headers.get("Authorization", ""),
            body=body,
            accept=self.headers.get("Accept", "*/*"),
        )
        self._send(self.server.respond(request))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _send(self, answer: Answer) -> None:
        body, headers = answer.body, [("Vary", "Accept, Accept-Encoding, Origin")]
        if body:  # what is empty has no type either
            headers.append(("Content-Type", answer.content_type))
        # A store's objects are sent as they lie there.
        compressible = answer.content_type == "application/json" and len(body) >= GZIP_LEAST_BYTES
        if compressible and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = zlib.compress(body, level=1, wbits=31)
            headers.append(("Content-Encoding", "gzip"))
        self.send_response(answer.status)
        for name, value in (*headers, *answer.headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if answer.cut else body)
        self.close_connection = self.close_connection or answer.cut

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The `Date` header, by the server's own clock."""
        return format_datetime(self.server.now().astimezone(UTC), usegmt=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at SecondServer instead."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, respond: Callable[[Request], Answer], now: Callable[[], datetime]) -> None:
        self.respond = respond
        self.now = now
        super().__init__(("127.0.0.1", 0), _Handler)
        self._open: set[socket.socket] = set()

    def server_bind(self) -> None:
        # HTTPServer's own also asks DNS for this machine's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""

    def hang_up(self) -> None:
        """Cut every kept-alive connection, so that a stopped server is gone for its old clients too."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _listening(respond: Callable[[Request], Answer], now: Callable[[], datetime]) -> Iterator[str]:
    """The address where *respond* answers until the block ends."""
    server = _Server(respond, now)
    # The default poll of 0.5 s would be the time every test waits at its end.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.hang_up()


@contextmanager
def second_server(
    rows: Iterable[Row],
    *,
    key: str = "phx_second",
    project_id: int = 1,
    now: Callable[[], datetime] | None = None,
    per_minute: int | None = None,
    per_hour: int | None = None,
    query_allowed: bool = True,
    hogql_filter_allowed: bool = True,
    faults: Mapping[int, str] | None = None,
    # Not UTC, not whole hours, with summer time: whoever forgets a zone is off by 2.5 or 3.5 hours.
    time_zone: str = "America/St_Johns",
    export_content: bytes = b"",
    evaluations: Iterable[Mapping[str, Any]] = (),
    lists: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    older: bool = False,
    most_rows: int | None = None,
    persons: Mapping[str, Mapping[str, Any]] | None = None,
    foreign: Iterable[int] = (),
    before_answer: Callable[[str, int], None] = lambda endpoint, number: None,
) -> Iterator[SecondServer]:
    """Serve *rows* on loopback until the block ends.

    *now*: clock for the `Date` header, defaults, relative dates and throttles. *per_minute*, *per_hour*: None is off,
    PostHog has 240 and 1200; list and detail share one bucket, POST query has its own of the same size.
    *faults*: which answer the n-th list request (from 1) gets instead: "429", "500", "502html", "503", "504" or "cut".
    *export_content*: what every export's content is; a store on another port serves it, an older server itself.
    *evaluations*: what differs of each from an enabled judge made now; *lists*: the same of plain lists, by name.
    *older*: act as a server of 2023. *most_rows*:
    larger pages are clamped without a word; None is 1,000, and 10,000 of an older one. *persons*: by distinct id.
    *foreign*: projects of another organization. *before_answer*: called with "events" or "query" and the number (from
    1) of that list or query.
    """
    clock = now or _wall_clock
    settings = Settings(
        key,
        project_id,
        ZoneInfo(time_zone),
        clock,
        query_allowed,
        hogql_filter_allowed,
        faults or {},
        older,
        most_rows=most_rows or (OLDER_MAX_LIMIT if older else MAX_LIMIT),
        foreign=frozenset(foreign),
        before_answer=before_answer,
    )
    seen, bucket = SecondServer(url="", key=key, hold=lambda rows: project.hold(rows)), Bucket()
    project = Project(
        Store(rows, persons=persons or {}, older=older),
        settings,
        seen,
        throttles={name: Throttle(per_minute=per_minute, per_hour=per_hour) for name in ("events", "query")},
        exports=(OlderExports if older else Exports)(content=export_content, bucket=bucket, now=clock),
        evaluations=Evaluations(evaluations, now=clock),
        lists={name: Objects(kind, (lists or {}).get(name, ()), now=clock) for name, kind in KINDS.items()},
    )
    try:
        with _listening(bucket.respond, clock) as bucket.url, _listening(project.respond, clock) as seen.url:
            yield seen
    finally:
        project.close()
