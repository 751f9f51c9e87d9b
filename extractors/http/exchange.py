"""One HTTP exchange: a question out, its answer in as it comes. The only place with httpx.

Bodies are read raw and gunzipped with isal, at a third of the cost of httpx's own. The key goes in one header, to the
configured host only, and no redirect is followed here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from isal import isal_zlib

from extractors import errors
from extractors.request import Request

# httpx logs addresses, httpcore the headers of answers: where a content lies is said there with what opens it.
for _library in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_library).addFilter(lambda record: record.levelno >= logging.WARNING)

Transport = httpx.BaseTransport
_REDIRECTS = (301, 302, 303, 307, 308)
_UNPROVEN = "the server's certificate is not trusted here: set SSL_CERT_FILE to your authority's certificate"
# No kind of zlib.error; its stub takes the class for an instance.
_BROKEN: type[Exception] = isal_zlib.error  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Way:
    """How an address is reached, which whoever builds the client decides: no variable of the machine is read here.

    *proxy*: http(s)://host:port without its *login*, None for a direct connection; *by*: what names it. *trust*: None for
    the authorities that come with certifi. *unproven*: the remedy where a certificate is not trusted.
    """

    proxy: str | None = None
    login: tuple[str, str] | None = field(default=None, repr=False)
    by: str = ""
    trust: ssl.SSLContext | None = None
    unproven: str = _UNPROVEN


Ways = Callable[[str], Way]
"""The way to an address."""


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

    def __init__(
        self, host: str, key: str, *, agent: str, transport: Transport | None, ways: Ways = lambda address: Way()
    ) -> None:
        self._key = key
        self._agent = agent
        self._transport = transport
        self._ways = ways
        self.received_bytes = 0
        self._way = ways(host)
        self._http = self._to(host.rstrip("/"), self._way)

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
                _reaching(str(self._http.base_url.host), self._way),
                self._http.stream(
                    request.method,
                    address,
                    params=list(request.params) or None,
                    content=request.body,
                    headers=headers,
                    timeout=_timeout(request.policy.answer_s),
                ) as response,
            ):
                yield self._coming(response, self._way)
        except errors.SourceUnavailable as exc:
            if self._http.is_closed:  # by the run's end, while the reading thread still waits: nobody is to hear of it
                raise errors.SourceError("the run has ended") from exc
            raise

    @contextmanager
    def ask_elsewhere(
        self, address: str, headers: Mapping[str, str], *, host: str, answer_s: float
    ) -> Iterator[Coming]:
        """The answer of *address*, which lies at *host* and gets no key."""
        way = self._ways(address)
        with self._to("", way) as store, _reaching(host, way):
            asked = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
            with store.stream("GET", address, headers=asked, timeout=_timeout(answer_s)) as response:
                yield self._coming(response, way)

    def _to(self, host: str, way: Way) -> httpx.Client:
        return httpx.Client(
            base_url=host,
            headers={"User-Agent": self._agent, "Accept-Encoding": "gzip"},
            follow_redirects=False,
            trust_env=False,
            proxy=_proxy(way),
            verify=way.trust or True,
            transport=self._transport,
        )

    def _coming(self, response: httpx.Response, way: Way) -> Coming:
        if way.proxy and response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise httpx.ProxyError("407 Proxy Authentication Required")
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
        except (httpx.RemoteProtocolError, httpx.ReadError, _BROKEN, EOFError) as exc:
            raise errors.BodyCut(f"the answer was cut: {_cause(exc)}") from exc


def _proxy(way: Way) -> httpx.Proxy | None:
    if not way.proxy:
        return None
    return httpx.Proxy(way.proxy, auth=way.login, ssl_context=way.trust if way.proxy.startswith("https:") else None)


def _timeout(answer_s: float) -> httpx.Timeout:
    return httpx.Timeout(30.0, connect=10.0, read=answer_s)


@contextmanager
def _reaching(host: str, way: Way) -> Iterator[None]:
    """Transport failures in our words. Of a proxy only what names it is said: its address may hold a password."""
    try:
        yield
    except httpx.ReadTimeout as exc:
        raise errors.RangeTooHeavy(f"no answer in time from {host}") from exc
    except (httpx.TransportError, httpx.InvalidURL) as exc:
        hint, through = "check POSTHOG_HOST and the network", ""
        if way.proxy:
            hint, through = f"check {way.by}, or add {host} to NO_PROXY", f" through the proxy of {way.by}"
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            hint = way.unproven
        unsent = isinstance(
            exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.InvalidURL | httpx.ProxyError
        )
        kind = errors.Unreached if unsent else errors.SourceUnavailable
        raise kind(f"cannot reach {host}{through}: {_cause(exc)}", hint=hint) from exc


def _cause(exc: Exception) -> str:
    """The error's own words on one line."""
    return " ".join(str(exc).split())[:200] or type(exc).__name__
