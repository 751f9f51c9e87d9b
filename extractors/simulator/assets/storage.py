"""The object store that contents lie in: another host than the API, with addresses that are valid for a while.

S3-like: Range and If-Range by ETag; a request that brings a key of its own beside the signature is refused, as S3 does.
It keeps book of what came (facts/posthog-api.md §3.5).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from extractors.simulator.assets.blobs import Blob

VALID = timedelta(hours=1)
RANGE = re.compile(r"bytes=(\d+)-$")


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """One request at the store; *authorization* and *cookie* must be empty."""

    path: str
    authorization: str
    cookie: str
    range: str
    user_agent: str


@dataclass(slots=True)
class Storage:
    """The store and how it misbehaves; it starts listening when its address is first asked for.

    *ranges*, *etags*: whether it has them. *cuts*: after how many bytes the n-th answer breaks off (0: never).
    *statuses*: what the n-th request is answered instead of the content (0: the content). *piece_wait_s*: pause before
    each piece. *declared_extra*: bytes that Content-Length says too many. *longest_range*: bytes it gives at most of a
    range (0: all). *valid*: lifetime of an address.
    *hop*: the address leads to another address of the store first.
    """

    ranges: bool = True
    etags: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    piece_wait_s: float = 0.0
    declared_extra: int = 0
    longest_range: int = 0
    valid: timedelta = VALID
    hop: bool = False
    requests: list[StorageRequest] = field(default_factory=list)
    on_piece: Callable[[int], None] = lambda sent: None
    _blobs: dict[str, Blob] = field(default_factory=dict)
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def address(self, name: str, blob: Blob, now: datetime) -> str:
        """A signed address of *blob*, valid for an hour of the server's clock."""
        with self._lock:
            self._blobs[name] = blob
            if self._server is None:
                self._server = _listening(self)
        until = int((now + self.valid).timestamp())
        port = self._server.server_address[1]
        return f"http://127.0.0.1:{port}/exports/{name}?X-Amz-Expires={until}&X-Amz-Signature=simulated"

    @property
    def keys_seen(self) -> list[str]:
        """Every key that reached the store: must be empty."""
        return [seen.authorization for seen in self.requests if seen.authorization]

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, seen: StorageRequest) -> tuple[int, int]:
        """Note a request; gives the status it is to get (0: the content) and where it is cut (0: nowhere)."""
        with self._lock:
            self.requests.append(seen)
            status = self.statuses.pop(0) if self.statuses else 0
            cut = self.cuts.pop(0) if self.cuts and not status else 0
        return status, cut

    def blob(self, name: str) -> Blob | None:
        with self._lock:
            return self._blobs.get(name)


class _Handler(BaseHTTPRequestHandler):
    storage: Storage

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        headers = {name: self.headers.get(name, "") for name in ("Authorization", "Cookie", "Range", "User-Agent")}
        status, cut = self.storage.take(StorageRequest(parts.path, *headers.values()))
        blob = self.storage.blob(parts.path.rpartition("/")[2])
        until = parse_qs(parts.query).get("X-Amz-Expires", ["0"])[-1]
        if headers["Authorization"]:
            self._refuse(400, "InvalidArgument", "Only one auth mechanism allowed")
        elif status:
            self._refuse(status, "Simulated", "as told")
        elif blob is None or not parts.path.startswith("/exports/"):
            self._refuse(404, "NoSuchKey", "The specified key does not exist.")
        elif self.storage.valid <= timedelta(0) or not until.isdigit():
            self._refuse(403, "AccessDenied", "Request has expired")
        elif self.storage.hop and "hopped" not in parts.query:
            self._respond(307, b"", {"Location": f"{self.path}&hopped=1"})
        else:
            self._content(blob, cut)

    def _content(self, blob: Blob, cut: int) -> None:
        start = self._start(blob)
        if start >= blob.size and start:
            self._respond(416, b"", {"Content-Range": f"bytes */{blob.size}"})
            return
        left = blob.size - start
        if start and self.storage.longest_range:
            left = cut = min(left, self.storage.longest_range)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(left + self.storage.declared_extra))
        if self.storage.etags:
            self.send_header("ETag", blob.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + left - 1}/{blob.size}")
        self.end_headers()
        sent = 0
        for piece in blob.pieces(start):
            time.sleep(self.storage.piece_wait_s)
            part = piece[: cut - sent] if cut else piece
            try:
                self.wfile.write(part)
            except OSError:  # the client is gone
                self.close_connection = True
                return
            sent += len(part)
            self.storage.on_piece(sent)
            if cut and sent >= cut:
                break
        if sent < left or self.storage.declared_extra:
            self.close_connection = True

    def _start(self, blob: Blob) -> int:
        """Where the answer begins: a Range counts only where the store has ranges and If-Range still fits."""
        found = RANGE.match(self.headers.get("Range", ""))
        fits = self.headers.get("If-Range", blob.etag) == blob.etag
        return int(found[1]) if found and self.storage.ranges and fits else 0

    def _refuse(self, status: int, code: str, text: str) -> None:
        self._respond(status, f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode(), {})

    def _respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Content-Type": "application/xml"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _listening(storage: Storage) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"storage": storage})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="storage", daemon=True)
    serving.start()
    return server
