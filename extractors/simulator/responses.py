"""Answers as HTTP: bodies, the error object, and every transport fault (facts/posthog-api.md §5, §1.9)."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Mapping

from isal import igzip
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from extractors.simulator.faults import Fault

HTML = {
    "502": (502, "<html><body><h1>502 Bad Gateway</h1></body></html>"),
    "504-html": (504, "<html>504 Gateway Time-out</html>"),
    "html-200": (200, "<!DOCTYPE html><html><body><h1>Scheduled maintenance</h1></body></html>"),
}
CODES = {
    "503": ("error", "Queries are a little too busy right now."),
    "503-after": ("database_unavailable", "The database is unavailable."),
    "504": ("error", "Query has hit the max execution time before completing."),
    "512": ("error", "Query execution time is estimated to be too long."),
    "513": ("clickhouse_memory_limit_exceeded", "This query needs more memory than is available."),
}
PIECES = 10


def plain(body: bytes, *, status: int = 200, gzip: bool = False) -> Response:
    """A JSON body, packed if asked."""
    headers = {"Content-Encoding": "gzip"} if gzip else {}
    return Response(igzip.compress(body, compresslevel=0) if gzip else body, status, headers, "application/json")


def json_answer(value: object, *, status: int = 200) -> Response:
    # Half of a surrogate pair goes out as its escape, as from a server that escapes all but ASCII.
    return plain(json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace"), status=status)


def error(status: int, kind: str, code: str, detail: str, attr: str | None = None) -> Response:
    """PostHog's error object."""
    return json_answer({"type": kind, "code": code, "detail": detail, "attr": attr}, status=status)


def server_error() -> Response:
    return error(500, "server_error", "error", "A server error occurred.")


def not_found(detail: str) -> Response:
    return error(404, "invalid_request", "not_found", detail)


def throttled(wait_s: int) -> Response:
    unit = "second" if wait_s == 1 else "seconds"
    response = error(
        429, "throttled_error", "throttled", f"Request was throttled. Expected available in {wait_s} {unit}."
    )
    response.headers["Retry-After"] = str(wait_s)
    return response


def instead(kind: str, *, wait_s: float = 1.0) -> Response:
    """The answer that a fault of STATUS_KINDS gives instead of the one asked for. *wait_s*: how long a 429 asks to wait."""
    if kind == "429":
        return throttled(max(1, math.ceil(wait_s)))
    if kind == "500":
        return server_error()
    if kind in HTML:
        status, text = HTML[kind]
        return Response(text, status, media_type="text/html")
    code, detail = CODES[kind]
    response = error(int(kind[:3]), "server_error", code, detail)
    if kind == "503-after":
        response.headers["Retry-After"] = "1"
    return response


def delivered(whole: Response, fault: Fault, connections: Connections) -> Response:
    """*whole* as a fault of BODY_KINDS delivers it."""
    body, headers = bytes(whole.body), dict(whole.headers)
    if fault.kind == "done-504":
        return instead("504-html")
    if fault.kind == "reset":
        return Reset(connections)
    if fault.kind.startswith("slow"):
        return Slow(whole, fault.seconds, pieces=1 if fault.kind == "slow-first-byte" else PIECES)
    if fault.kind == "wrong-length":
        return Short(body, whole.status_code, headers, declared=len(body) + 10)
    half = body[: len(body) // 2]
    return Short(half, whole.status_code, headers, declared=len(half) if fault.kind == "cut-gzip" else len(body))


class Short(Response):
    """Declares *declared* bytes whatever it sends; where they are more, the server then closes the connection."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str], *, declared: int) -> None:
        super().__init__(body, status, headers)
        self.headers["Content-Length"] = str(declared)


class Slow(Response):
    """Sends nothing for *seconds*; or, with more *pieces*, the header at once and the body spread over *seconds*."""

    def __init__(self, whole: Response, seconds: float, *, pieces: int) -> None:
        super().__init__(bytes(whole.body), whole.status_code, dict(whole.headers))
        self._seconds, self._pieces = seconds, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pieces == 1:
            await asyncio.sleep(self._seconds)
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        size = max(1, -(-len(body) // self._pieces))
        for at in range(0, len(body), size):
            await asyncio.sleep(self._seconds / self._pieces)
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Connections:
    """Open connections by the client's address, so that one can be reset."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """The server's protocol, which keeps book here."""
        known = self._open

        class Known(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # Header and body are sent apart: without this each answer waits 40 ms for the client's delayed ACK.
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.client:
                    known[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    known.pop(self.client, None)
                super().connection_lost(exc)

        return Known

    def reset(self, client: tuple[str, int]) -> None:
        """Drop the connection with a TCP reset; no byte of an answer is sent."""
        transport = self._open[client]
        # Lingering for zero seconds turns the close into a reset.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Reset(Response):
    """No answer: the connection is reset."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(b"")
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._connections.reset(scope["client"])
        # The loss of the connection must have been noted before uvicorn asks why there was no answer.
        while (await receive())["type"] != "http.disconnect":
            pass
