"""The only HTTP: sends one request, paced and retried, and returns the whole body of a 200.

One pooled httpx client; bodies are read raw and gunzipped with isal (facts/performance.md §3: a third of httpx's own
cost). The key goes in one header, to the configured host only, and redirects are refused; only a content is fetched
from where it lies, without the key. Each kind of failure is retried in one layer: here what is transient whatever is
asked; in the sweep what a smaller question may cure. A write is sent once.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urljoin, urlsplit

import httpx
import stamina
from isal import isal_zlib

from extractors import errors
from extractors.http import decode
from extractors.http.pacing import Pacing, Wait
from extractors.request import Bucket, Request

MAX_BODY_BYTES = 64 * 2**20  # design.md, reading rule 4
PREFIXES = ("environments", "projects")
# A Date has whole seconds, and the servers behind one address keep their clocks within seconds of each other. A minute of
# error is well within the settle time, so that no window is closed by it before its events have come.
CLOCKS_APART_S = 60.0
MAX_HOPS = 3  # redirects from the content's address to where the content lies

# Retries are told through on_retry; stamina's own logging would say them twice.
stamina.instrumentation.set_on_retry_hooks(())
# httpx logs addresses, httpcore the headers of answers: where a content lies is said there with what opens it.
for _library in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_library).addFilter(lambda record: record.levelno >= logging.WARNING)


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


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer's Date, and when it was asked for and received, by this machine's monotonic clock."""

    served_at: datetime | None
    asked_s: float
    received_s: float


def one_clock(earlier: Heard, later: Heard) -> bool:
    """Whether two Dates lie as far apart as the answers; each was written between question and answer. Pure.

    False where one has no Date.
    """
    if earlier.served_at is None or later.served_at is None:
        return False
    passed_s = (later.served_at - earlier.served_at).total_seconds()
    least_s, most_s = later.asked_s - earlier.received_s, later.received_s - earlier.asked_s
    return least_s - CLOCKS_APART_S <= passed_s <= most_s + CLOCKS_APART_S


@dataclass(frozen=True, slots=True)
class Content:
    """A content as it comes: status 200, 206 or 416, lower-case headers, and its plain bytes, which can be read once.

    *packed*: the bytes came compressed, so that their number and place are not those of the headers.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]
    packed: bool


class Client:
    """Sends requests of one source. Not thread-safe; one per reading thread.

    *on_retry(error, wait_s)* hears what is tried again. *sleep*: as in Pacing. *prefixes*: resource → address prefix
    that has answered there. *heard*: the latest answer's times.
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
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        user_agent: str = "hedgerow",
    ) -> None:
        self._pacing = pacing
        self.patience = patience or Patience()
        self._on_retry = on_retry
        self._sleep = sleep or pacing.nap
        self.prefixes: dict[str, str] = {}
        self.requests: dict[str, int] = {}
        self.received_bytes = 0
        self.heard = Heard(None, 0.0, 0.0)
        self._clock = Heard(None, 0.0, 0.0)
        self._monotonic = monotonic
        self._answered = False
        self.host = source.host
        self._key = source.key
        self._agent = user_agent
        self._transport = transport
        self._http = self._connections(source.host.rstrip("/"))

    def _connections(self, host: str) -> httpx.Client:
        return httpx.Client(
            base_url=host,
            headers={"User-Agent": self._agent, "Accept-Encoding": "gzip"},
            follow_redirects=False,
            trust_env=True,
            transport=self._transport,
        )

    def close(self) -> None:
        self._http.close()

    def interrupted(self) -> AbstractContextManager[None]:
        """Within the block, which another thread enters, waits end at once and the next request raises Stopped."""
        return self._pacing.interrupted()

    def send(self, request: Request) -> Answer:
        """The answer of *request* once it is a 200; otherwise the error that decode.checked names.

        Transient failures are retried within the patience; 429, and 503 with a Retry-After, wait what that says within
        --max-wait and do not count as an attempt. A bare 500 may be a neighbour's concurrency: it is asked again alone,
        three times over a minute, unless the request is not `patient`. RangeTooHeavy and BodyCut of a divisible request
        are raised at once. A write (`once`) is not repeated: AnswerLost where it may have been done.
        """
        if request.once:
            return self._send_once(request)
        try:
            return self._send(request, alone=False)
        except errors.ServerFault as exc:
            if not request.patient:
                raise
            fault = exc
        for wait_s in self.patience.server_error_waits_s:
            self.wait(wait_s, fault)
            try:
                return self._send(request, alone=True)
            except errors.ServerFault as exc:
                fault = exc
        raise errors.ServerFault(f"{fault}, four times in a row") from fault

    def used(self, bucket: Bucket) -> int:
        """How many requests of *bucket* were sent within an hour, by every process of the key."""
        return self._pacing.used(bucket)[1]

    def wait(self, seconds: float, error: errors.SourceError) -> None:
        """Pause before the caller asks again after *error*: *seconds*, or as long as the server said, within --max-wait."""
        if error.retry_after_s is None:
            self._on_retry(error, seconds)
            self._sleep(seconds)
            return
        told_s = max(seconds, error.retry_after_s)
        self._on_retry(error, told_s)
        self._pacing.pause(Wait(told_s, f"{error}, with Retry-After"))

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

    def _send_once(self, request: Request) -> Answer:
        try:
            return self._send_within_limits(request, alone=False)
        except errors.Unreached:
            raise
        except (errors.SourceUnavailable, errors.RangeTooHeavy, errors.ServerFault, errors.BodyCut) as exc:
            raise errors.AnswerLost(f"{exc}: whether it was done is not known") from exc

    @contextmanager
    def content(self, request: Request, *, headers: Mapping[str, str]) -> Iterator[Content]:
        """What *request* leads to, as it comes. Redirects are followed, and the key stays with the configured host.

        Asked once, but for 429. *headers*: Range and If-Range. Raises what decode.checked names for PostHog's refusals;
        SourceUnavailable for those of the store; BodyCut while reading, where the content ends early.
        """
        while True:
            try:
                with ExitStack() as held:
                    with self._pacing.turn(request.bucket, request.project_id):
                        response = held.enter_context(self._asked(self._prefix(request), request, headers))
                    ours, hops = response, 0
                    while response.has_redirect_location and hops < MAX_HOPS:
                        response = held.enter_context(self._elsewhere(response, headers, request.answer_s))
                        hops += 1
                    yield self._content(response, request, stored=response is not ours)
                    return
            except errors.LimitsExhausted as exc:
                if exc.retry_after_s is None:  # our own: the run may not wait any longer
                    raise
                self._pacing.pause(self._pacing.block(request.bucket, exc.retry_after_s))

    @contextmanager
    def _elsewhere(
        self, redirect: httpx.Response, headers: Mapping[str, str], answer_s: float
    ) -> Iterator[httpx.Response]:
        """The answer of the address that *redirect* names, asked by connections that know no key and no cookie."""
        try:
            address = urljoin(str(redirect.url), redirect.headers["Location"])
            parts = urlsplit(address)
        except ValueError:  # whose words quote the address
            raise errors.UnusableAnswer("PostHog sends the content to what is no address") from None
        if parts.scheme not in ("http", "https") or (parts.scheme == "http" and redirect.url.scheme == "https"):
            raise errors.UnusableAnswer(
                f"PostHog sends the content to {parts.scheme}://{parts.hostname}, expected https",
                hint="the content would travel unencrypted: mend the object store's address in PostHog",
            )
        with self._connections("") as store, _reaching(parts.hostname or "the store"):
            asked = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
            with store.stream("GET", address, headers=asked, timeout=_timeout(answer_s)) as response:
                yield response

    def _content(self, response: httpx.Response, request: Request, *, stored: bool) -> Content:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._answered = True
        if response.status_code not in (200, 206, 416):
            if not stored:
                decode.checked(
                    response.status_code,
                    headers,
                    self._whole(response).body,
                    entry=request.entry,
                    by_user=request.by_user,
                    newer=request.newer,
                )
            raise errors.SourceUnavailable(
                f"the store of contents, {response.url.host}, answered {response.status_code}",
                hint="run again later",
                retry_after_s=decode.retry_after_s(headers),
            )
        packed = headers.get("content-encoding", "identity") == "gzip"
        return Content(response.status_code, headers, self._pieces(response, gzipped=packed), packed)

    def _send_within_limits(self, request: Request, *, alone: bool) -> Answer:
        """Ask by the prefix known for the resource; where it is missing, by the other, each at most once."""
        resource = request.resource.split("/")[0]
        told_to_wait = 0
        prefix = self.prefixes.get(resource, PREFIXES[0])
        untried = [other for other in PREFIXES if other != prefix]
        while True:
            with self._pacing.turn(request.bucket, request.project_id, alone=alone):
                answer = self._exchange(prefix, request)
            if answer.status < 500 and answer.status != 404:
                self.prefixes[resource] = prefix
            known = not untried or self.prefixes.get(resource) == prefix
            try:
                decode.checked(
                    answer.status,
                    answer.headers,
                    answer.body,
                    entry=request.entry,
                    by_user=request.by_user,
                    newer=request.newer,
                    address_known=known,
                )
            except errors.LimitsExhausted as exc:
                self._pacing.pause(self._pacing.block(request.bucket, exc.retry_after_s or 1.0))
                continue
            except errors.SourceUnavailable as exc:
                # How long, the server says itself: as with a limit, but not for ever.
                told_to_wait += 1
                if request.once or exc.retry_after_s is None or told_to_wait == self.patience.attempts:
                    raise
                self.wait(0.0, exc)
                continue
            except errors.EndpointMissing:
                if not untried:
                    raise
                prefix = untried.pop()
                continue
            return answer

    def _prefix(self, request: Request) -> str:
        return self.prefixes.get(request.resource.split("/")[0], PREFIXES[0])

    def _exchange(self, prefix: str, request: Request) -> Answer:
        asked_s = self._monotonic()
        with self._asked(prefix, request, {}) as response:
            received_s = self._monotonic()
            answer = self._whole(response)
        before, self.heard = self.heard, Heard(answer.served_at, asked_s, received_s)
        if self._clock.served_at is None or one_clock(self._clock, self.heard) or one_clock(before, self.heard):
            self._clock = self.heard
        return answer

    @property
    def served_at(self) -> datetime | None:
        """The server's clock: the latest Date that an answer before it agrees with, or the first.

        One answer alone says nothing, as a server or a proxy behind the address may have a clock of its own.
        """
        return self._clock.served_at

    @contextmanager
    def _asked(self, prefix: str, request: Request, more: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The answer to *request* at the configured host, with the key; its body is not read yet."""
        address = f"/api/{prefix}/{request.project_id}/{request.resource}"
        headers = {"Authorization": f"Bearer {self._key}", "Accept": request.accept, **more}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        self.requests[request.bucket] = self.requests.get(request.bucket, 0) + 1
        try:
            with (
                _reaching(str(self._http.base_url.host)),
                self._http.stream(
                    request.method,
                    address,
                    params=list(request.params) or None,
                    content=request.body,
                    headers=headers,
                    timeout=_timeout(request.answer_s),
                ) as response,
            ):
                yield response
        except errors.SourceUnavailable as exc:
            if self._http.is_closed:  # by the run's end, while the reading thread still waits: nobody is to hear of it
                raise errors.SourceError("the run has ended") from exc
            raise

    def _whole(self, response: httpx.Response) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._answered = True
        parts: list[bytes] = []
        total = 0
        for piece in self._pieces(response, gzipped=headers.get("content-encoding", "") == "gzip"):
            total += len(piece)
            if total > MAX_BODY_BYTES:
                raise errors.BodyCut(f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB")
            parts.append(piece)
        return Answer(response.status_code, headers, b"".join(parts), decode.served_at(headers))

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
