"""One HTTP exchange: a question out, its answer in as it comes. The only place with httpx.

Bodies are read raw and gunzipped with isal, at a third of the cost of httpx's own. The key goes in one header, to the
configured host only, and no redirect is followed here.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from isal import isal_zlib

from extractors import errors
from extractors.request import Request

# httpx logs addresses, httpcore the headers of answers: where a content lies is said there with what opens it.
for _library in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_library).addFilter(lambda record: record.levelno >= logging.WARNING)

Transport = httpx.BaseTransport
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Coming:
    """An answer as it comes: status, lower-case headers, where it came from, and its plain bytes, readable once."""

    status: int
    headers: Mapping[str, str]
    address: str
    host: str
    pieces: Iterator[bytes]

    @property
    def packed(self) -> bool:
        """Whether the bytes came compressed, so that their number and place are not those of the headers."""
        return self.headers.get("content-encoding") == "gzip"

    @property
    def redirect(self) -> str | None:
        """Where it leads, as it says it."""
        return self.headers.get("location") if self.status in _REDIRECTS else None


class Connections:
    """Pooled connections to one host, and those to other places, which know neither key nor cookie.

    *received_bytes*: bodies as they came over the wire, compressed where the server compresses.
    """

    def __init__(self, host: str, key: str, *, agent: str, transport: Transport | None) -> None:
        self._key = key
        self._agent = agent
        self._transport = transport
        self.received_bytes = 0
        self._http = self._to(host.rstrip("/"))

    def close(self) -> None:
        """Close the connections; whoever still waits for an answer gets a SourceError."""
        self._http.close()

    @contextmanager
    def ask(self, request: Request, prefix: str, more: Mapping[str, str]) -> Iterator[Coming]:
        """The answer to *request* at the configured host, with the key. *more*: further headers."""
        address = f"/api/{prefix}/{request.project_id}/{request.resource}"
        headers = {"Authorization": f"Bearer {self._key}", "Accept": request.accept, **more}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with (
                _reaching(str(self._http.base_url.host)),
                self._http.stream(
                    request.method,
                    address,
                    params=list(request.params) or None,
                    content=request.body,
                    headers=headers,
                    timeout=_timeout(request.policy.answer_s),
                ) as response,
            ):
                yield self._coming(response)
        except errors.SourceUnavailable as exc:
            if self._http.is_closed:  # by the run's end, while the reading thread still waits: nobody is to hear of it
                raise errors.SourceError("the run has ended") from exc
            raise

    @contextmanager
    def ask_elsewhere(
        self, address: str, headers: Mapping[str, str], *, host: str, answer_s: float
    ) -> Iterator[Coming]:
        """The answer of *address*, which lies at *host* and gets no key."""
        with self._to("") as store, _reaching(host):
            asked = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
            with store.stream("GET", address, headers=asked, timeout=_timeout(answer_s)) as response:
                yield self._coming(response)

    def _to(self, host: str) -> httpx.Client:
        return httpx.Client(
            base_url=host,
            headers={"User-Agent": self._agent, "Accept-Encoding": "gzip"},
            follow_redirects=False,
            trust_env=True,
            transport=self._transport,
        )

    def _coming(self, response: httpx.Response) -> Coming:
        headers = {name.lower(): value for name, value in response.headers.items()}
        pieces = self._pieces(response, gzipped=headers.get("content-encoding") == "gzip")
        return Coming(response.status_code, headers, str(response.url), response.url.host, pieces)

    def _pieces(self, response: httpx.Response, *, gzipped: bool) -> Iterator[bytes]:
        """The plain bytes as they come; raises BodyCut for what ends early and for a broken gzip stream."""
        inflate = isal_zlib.decompressobj(wbits=31) if gzipped else None
        try:
            for piece in response.iter_raw():
                self.received_bytes += len(piece)
                yield inflate.decompress(piece) if inflate else piece
            if inflate and not inflate.eof:
                raise EOFError("gzip stream ends early")
        except (httpx.RemoteProtocolError, httpx.ReadError, zlib.error, EOFError) as exc:
            raise errors.BodyCut(f"the answer was cut: {_cause(exc)}") from exc


def _timeout(answer_s: float) -> httpx.Timeout:
    return httpx.Timeout(30.0, connect=10.0, read=answer_s)


@contextmanager
def _reaching(host: str) -> Iterator[None]:
    """Transport failures in our words."""
    try:
        yield
    except httpx.ReadTimeout as exc:
        raise errors.RangeTooHeavy(f"no answer in time from {host}") from exc
    except (httpx.TransportError, httpx.InvalidURL) as exc:
        hint = "check POSTHOG_HOST and the network"
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            hint = "the server's certificate is not trusted here: set SSL_CERT_FILE to your authority's certificate"
        unsent = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.InvalidURL)
        kind = errors.Unreached if unsent else errors.SourceUnavailable
        raise kind(f"cannot reach {host}: {_cause(exc)}", hint=hint) from exc


def _cause(exc: Exception) -> str:
    """The error's own words on one line."""
    return " ".join(str(exc).split())[:200] or type(exc).__name__
