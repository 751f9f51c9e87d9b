"""The only HTTP: sends one request, paced and retried, and returns the whole body of a 200.

One pooled httpx client; bodies are read raw and gunzipped with isal (facts/performance.md §3: a third of httpx's own
cost). The key goes in one header, to the configured host only, and redirects are refused. Each kind of failure is
retried in one layer: here what is transient whatever is asked; in the sweep what a smaller question may cure.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import httpx
import stamina
from isal import isal_zlib

from extractors import decode, errors
from extractors.pacing import Pacing, Wait
from extractors.queries import Request

MAX_BODY_BYTES = 64 * 2**20  # design.md, reading rule 4
PREFIXES = ("environments", "projects")

# Retries are told through on_retry; stamina's own logging would say them twice.
stamina.instrumentation.set_on_retry_hooks(())


@dataclass(frozen=True, slots=True)
class Source:
    """Where to ask, and the personal API key, which no repr shows."""

    host: str
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"host must be an http(s) address: {self.host!r}")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on after transient failures: attempts and total seconds, both bounded, with jitter."""

    attempts: int = 8
    total_s: float = 300.0
    first_s: float = 0.5
    longest_s: float = 30.0
    server_error_waits_s: tuple[float, ...] = (5.0, 20.0, 35.0)  # three times over 60 s (design.md, reading rule 4)
    foreign_answer_waits_s: tuple[float, ...] = (1.0, 2.0)  # a proxy's page with status 200
    first_contact_attempts: int = 3  # a host that has never answered is more likely mistyped than busy


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, lower-case headers and the plain body of one answer, and when the server says it sent it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    served_at: datetime | None


class Client:
    """Sends requests of one source. Not thread-safe; one per reading thread.

    *on_retry(error, wait_s)* hears what is tried again. *prefixes*: resource → address prefix that this server has.
    *received_bytes*: bodies as they came over the wire, compressed where the server compresses.
    """

    def __init__(
        self,
        source: Source,
        pacing: Pacing,
        *,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
        on_retry: Callable[[errors.SourceError, float], None] = lambda error, wait_s: None,
        sleep: Callable[[float], object] = time.sleep,
        user_agent: str = "hedgerow",
    ) -> None:
        self._pacing = pacing
        self.patience = patience or Patience()
        self._on_retry = on_retry
        self._sleep = sleep
        self.prefixes: dict[str, str] = {}
        self.requests: dict[str, int] = {}
        self.received_bytes = 0
        self.served_at: datetime | None = None
        self._answered = False
        self.host = source.host
        self._key = source.key
        self._http = httpx.Client(
            base_url=source.host.rstrip("/"),
            headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip"},
            timeout=httpx.Timeout(30.0, connect=10.0, read=100.0),
            follow_redirects=False,
            trust_env=True,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def send(self, request: Request) -> Answer:
        """The answer of *request* once it is a 200; otherwise the error that decode.checked names.

        Transient failures are retried within the patience; 429, and 503 with a Retry-After, wait what that says within
        --max-wait and do not count as an attempt. A bare 500 may be a neighbour's concurrency: it is asked again alone,
        three times over a minute. RangeTooHeavy and BodyCut of a divisible request are raised at once.
        """
        try:
            return self._send(request, alone=False)
        except errors.ServerFault as exc:
            fault = exc
        for wait_s in self.patience.server_error_waits_s:
            self.wait(wait_s, fault)
            try:
                return self._send(request, alone=True)
            except errors.ServerFault as exc:
                fault = exc
        raise errors.ServerFault(f"{fault}, four times in a row") from fault

    def wait(self, seconds: float, error: errors.SourceError) -> None:
        """Pause before the caller asks again after *error*."""
        self._on_retry(error, seconds)
        self._sleep(seconds)

    def _send(self, request: Request, *, alone: bool) -> Answer:
        patience = self.patience
        attempts = patience.attempts if self._answered else min(patience.first_contact_attempts, patience.attempts)
        hook = _Backoff(divisible=request.divisible, on_retry=self._on_retry, attempts=attempts)
        for attempt in stamina.retry_context(
            on=hook,
            attempts=attempts,
            timeout=patience.total_s,
            wait_initial=patience.first_s,
            wait_max=patience.longest_s,
            wait_jitter=patience.first_s,
        ):
            with attempt:
                return self._send_within_limits(request, alone=alone)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _send_within_limits(self, request: Request, *, alone: bool) -> Answer:
        """Ask by the prefix known for the resource; the first 404 `Endpoint not found.` switches it (design.md, Address)."""
        resource = request.resource.split("/")[0]
        told_to_wait = 0
        untried = [prefix for prefix in PREFIXES if prefix != self.prefixes.get(resource, PREFIXES[0])]
        while True:
            prefix = self.prefixes.get(resource, PREFIXES[0])
            with self._pacing.turn(request.bucket, request.project_id, alone=alone):
                answer = self._exchange(prefix, request)
            try:
                decode.checked(answer.status, answer.headers, answer.body)
            except errors.LimitsExhausted as exc:
                self._pacing.pause(self._pacing.block(request.bucket, exc.retry_after_s or 1.0))
                continue
            except errors.SourceUnavailable as exc:
                # How long, the server says itself: as with a limit, but not for ever.
                told_to_wait += 1
                if exc.retry_after_s is None or told_to_wait == self.patience.attempts:
                    raise
                self._on_retry(exc, exc.retry_after_s)
                self._pacing.pause(Wait(exc.retry_after_s, f"{exc}, with Retry-After"))
                continue
            except errors.EndpointMissing:
                if not untried:
                    raise
                self.prefixes[resource] = untried.pop()
                continue
            return answer

    def _exchange(self, prefix: str, request: Request) -> Answer:
        address = f"/api/{prefix}/{request.project_id}/{request.resource}"
        headers = {"Authorization": f"Bearer {self._key}"}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        self.requests[request.bucket] = self.requests.get(request.bucket, 0) + 1
        method = "GET" if request.body is None else "POST"
        try:
            with self._http.stream(
                method, address, params=list(request.params) or None, content=request.body, headers=headers
            ) as response:
                return self._whole(response)
        except httpx.ReadTimeout as exc:
            raise errors.RangeTooHeavy(f"no answer in time from {self._http.base_url.host}") from exc
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            if self._http.is_closed:  # by the run's end, while the reading thread still waits: nobody is to hear of it
                raise errors.SourceError("the run has ended") from exc
            hint = "check POSTHOG_HOST and the network"
            if "CERTIFICATE_VERIFY_FAILED" in str(exc):
                hint = "the server's certificate is not trusted here: set SSL_CERT_FILE to your authority's certificate"
            raise errors.SourceUnavailable(
                f"cannot reach {self._http.base_url.host}: {_plain(exc)}", hint=hint
            ) from exc

    def _whole(self, response: httpx.Response) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._answered = True
        served_at = decode.served_at(headers)
        self.served_at = served_at or self.served_at
        try:
            body = self._body(response, gzipped=headers.get("content-encoding", "") == "gzip")
        except (httpx.RemoteProtocolError, httpx.ReadError, zlib.error, EOFError) as exc:
            raise errors.BodyCut(f"the answer was cut: {_plain(exc)}") from exc
        return Answer(response.status_code, headers, body, served_at)

    def _body(self, response: httpx.Response, *, gzipped: bool) -> bytes:
        """The plain body; raises BodyCut over 64 MiB and zlib.error or EOFError for a broken gzip stream."""
        inflate = isal_zlib.decompressobj(wbits=31) if gzipped else None
        parts: list[bytes] = []
        total = 0
        for piece in response.iter_raw():
            self.received_bytes += len(piece)
            plain = inflate.decompress(piece) if inflate else piece
            total += len(plain)
            if total > MAX_BODY_BYTES:
                raise errors.BodyCut(f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB")
            parts.append(plain)
        if inflate and not inflate.eof:
            raise EOFError("gzip stream ends early")
        return b"".join(parts)


def _plain(exc: Exception) -> str:
    """The error's own words on one line."""
    return " ".join(str(exc).split())[:200] or type(exc).__name__


@dataclass(slots=True)
class _Backoff:
    """stamina's hook: False gives up, True waits with exponential back-off. Hears no more than *attempts* failures."""

    divisible: bool
    on_retry: Callable[[errors.SourceError, float], None]
    attempts: int
    failed: int = 0

    def __call__(self, exc: Exception) -> bool:
        if not isinstance(exc, errors.SourceError) or not exc.transient or isinstance(exc, errors.ServerFault):
            return False
        if self.divisible and isinstance(exc, errors.RangeTooHeavy | errors.BodyCut):
            return False
        self.failed += 1
        if self.failed < self.attempts:
            self.on_retry(exc, 0.0)
        return True
