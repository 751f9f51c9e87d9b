"""The server that every contestant asks, in a process of its own: pages of one kept data set, and what is asked of /query.

    python -m bench.server 200000 1000

A thread per connection and blocking writes, because what it costs is taken from whom it serves. `POST /_bench` sets the
largest page and the latency, and tells CPU seconds, requests, and questions that it could not answer.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import numpy as np

from bench.answers import UnknownQuestion, answer
from bench.data import DataSet, Kind, kept
from bench.pages import Body, page, reversed_page
from extractors.simulator.data.listing import PROBED_S

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LISTS: dict[str, Any] = {"count": 0, "next": None, "previous": None, "results": []}
PROJECT = {"id": 1, "name": "bench", "timezone": "UTC"}


class Server:
    """Answers about *data*. *cap*: rows of a page at most; *latency_s*: before each answer."""

    def __init__(self, data: DataSet) -> None:
        self.data, self.cap, self.latency_s = data, 1000, 0.0
        self.asked: Counter[str] = Counter()
        self.unknown: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 2**20)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in buffer:
                    received = connection.recv(65536)
                    if not received:
                        return
                    buffer += received
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                length = int(headers.get("content-length", 0))
                while len(buffer) < length:
                    buffer += connection.recv(length - len(buffer))
                body, buffer = buffer[:length], buffer[length:]
                method, target, _ = first.split(" ", 2)
                status, packed, pieces = self._answer(method, target, body)
                size = sum(map(len, pieces))
                extra = "Content-Encoding: gzip\r\n" if packed else ""
                start = (
                    f"HTTP/1.1 {status} OK\r\nDate: {formatdate(usegmt=True)}\r\nContent-Type: application/json\r\n"
                    f"{extra}Content-Length: {size}\r\n\r\n"
                )
                _send(connection, [start.encode(), *pieces])

    def _answer(self, method: str, target: str, body: bytes) -> tuple[int, bool, Body]:
        """Status, whether the body is packed, the body."""
        parts = urlsplit(target)
        path = tuple(part for part in parts.path.split("/") if part)
        if path == ("_bench",):
            return 200, False, [json.dumps(self._control(json.loads(body or b"{}"))).encode()]
        if self.latency_s:
            time.sleep(self.latency_s)
        what = path[3] if len(path) > 3 else "project"
        self.asked[what] += 1
        if what == "events" and len(path) == 4:
            return 200, True, self._page(dict(parse_qsl(parts.query)), parts.path)
        if what == "query" and method == "POST":
            return self._query(body)
        if what in ("exports", "evaluations", "annotations", "cohorts") and len(path) == 4:
            return 200, False, [json.dumps(LISTS).encode()]
        if what == "project" and path[:1] == ("api",):
            found = PROJECT if len(path) == 3 else LISTS | {"count": 1, "results": [PROJECT]}
            return 200, False, [json.dumps(found).encode()]
        self.unknown.append(f"{method} {target}")
        return 404, False, [b'{"type":"invalid_request","code":"not_found","detail":"Not found.","attr":null}']

    def _page(self, asked: dict[str, str], path: str) -> Body:
        micros, limit = self.data.micros, min(int(asked.get("limit", 100)), self.cap)
        after, before = _micros(asked.get("after", "")), _micros(asked.get("before", ""))
        begin = 0 if after is None else int(np.searchsorted(micros, after, "right"))
        end = len(micros) if before is None else int(np.searchsorted(micros, before, "left"))
        ascending, skip = asked.get("orderBy") == '["timestamp"]', int(asked.get("offset", 0))
        if not ascending:
            begin = self._probed(begin, end, after, before, limit)
        first = min(begin + skip, end) if ascending else max(end - skip - limit, begin)
        last = min(first + limit, end) if ascending else max(end - skip, begin)
        following, moved = "null", last - 1 if ascending else first
        if first < last and (last < end if ascending else first > begin):
            cursor = (EPOCH + timedelta(microseconds=int(micros[moved]))).isoformat()
            changed = asked | {"after" if ascending else "before": cursor}
            following = json.dumps(f"{self.url}{path}?{urlencode(changed, quote_via=quote)}")
        return (page if ascending else reversed_page)(self.data, first, last, following)

    def _probed(self, begin: int, end: int, after: int | None, before: int | None, limit: int) -> int:
        """Newest first the server looks back only as far as half a page lies, which is why descending readers lose rows."""
        until = before if before is not None else time.time_ns() // 1000
        for seconds in PROBED_S:
            start = until - seconds * 1_000_000
            if after is not None and start <= after:
                break
            nearer = int(np.searchsorted(self.data.micros, start, "right"))
            if end - nearer >= max(limit // 2, 1):
                return nearer
        return begin

    def _query(self, body: bytes) -> tuple[int, bool, Body]:
        hogql = json.loads(body)["query"].get("query", "")
        try:
            rows = answer(self.data, hogql)
        except (UnknownQuestion, ValueError, KeyError):
            self.unknown.append(hogql)
            return 400, False, [b'{"type":"validation_error","code":"invalid_input","detail":"unknown","attr":null}']
        return 200, False, [json.dumps({"results": rows, "hasMore": False, "is_cached": False}).encode()]

    def _control(self, wanted: dict[str, float]) -> dict[str, object]:
        self.cap = int(wanted.get("cap", self.cap))
        self.latency_s = wanted.get("latency_s", self.latency_s)
        return {"cpu_s": time.process_time(), "asked": dict(self.asked), "unknown": self.unknown}


def _micros(text: str) -> int | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _send(connection: socket.socket, pieces: Body) -> None:
    """All *pieces*, without joining them."""
    rest = [memoryview(piece) for piece in pieces]
    while rest:
        sent = connection.sendmsg(rest)
        while rest and sent >= len(rest[0]):
            sent -= len(rest.pop(0))
        if sent:
            rest[0] = rest[0][sent:]


if __name__ == "__main__":
    server = Server(kept(Kind(int(sys.argv[1]), int(sys.argv[2]))))
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    server.run()
