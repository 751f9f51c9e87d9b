"""Sends requests, paced and tried again, and returns the whole body of a 200.

What is done after a failure is decided in retry.py, and acted on here, in one loop; the HTTP itself is in exchange.py. A
write is sent once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

from extractors import errors
from extractors.http import answers, content, decode
from extractors.http.exchange import Coming, Connections, Transport, Way, Ways
from extractors.http.pacing import Pacing, Wait
from extractors.http.retry import Again, How, Patience, Tries, decide, given_up
from extractors.request import Bucket, Request

MAX_BODY_BYTES = 64 * 2**20  # of one answer; contents come in pieces
PREFIXES = ("environments", "projects")
# A Date has whole seconds, and the servers behind one address keep their clocks within seconds of each other. A minute of
# error is well within the settle time, so that no window is closed by it before its events have come.
CLOCKS_APART_S = 60.0

T = TypeVar("T")


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


class Client:
    """Sends requests of one source. Not thread-safe; one per reading thread.

    *on_retry(error, wait_s)* hears what is tried again. *sleep*: as in Pacing. *ways*: how addresses are reached.
    *prefixes*: resource → address prefix that has answered there. *heard*: the latest answer's times.
    """

    def __init__(
        self,
        source: Source,
        pacing: Pacing,
        *,
        patience: Patience | None = None,
        transport: Transport | None = None,
        on_retry: Callable[[errors.SourceError, float], None] = lambda error, wait_s: None,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        user_agent: str = "hedgerow",
        ways: Ways = lambda address: Way(),
    ) -> None:
        self._pacing = pacing
        self.patience = patience or Patience()
        self._on_retry = on_retry
        self._sleep = sleep or pacing.nap
        self.prefixes: dict[str, str] = {}
        self.requests: dict[str, int] = {}
        self.heard = Heard(None, 0.0, 0.0)
        self._clock = Heard(None, 0.0, 0.0)
        self._monotonic = monotonic
        self._answered = False
        self.host = source.host
        self._connections = Connections(source.host, source.key, agent=user_agent, transport=transport, ways=ways)

    @property
    def received_bytes(self) -> int:
        """Bodies as they came over the wire, compressed where the server compresses."""
        return self._connections.received_bytes

    @property
    def served_at(self) -> datetime | None:
        """The server's clock: the latest Date that an answer before it agrees with, or the first.

        One answer alone says nothing, as a server or a proxy behind the address may have a clock of its own.
        """
        return self._clock.served_at

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def interrupted(self) -> AbstractContextManager[None]:
        """Within the block, which another thread enters, waits end at once and the next request raises Stopped."""
        return self._pacing.interrupted()

    @contextmanager
    def resting(self, before: Callable[[], None]) -> Iterator[None]:
        """Within the block *before* is called ahead of every wait, in the thread that waits."""
        self._pacing.before_rest = before
        try:
            yield
        finally:
            self._pacing.before_rest = lambda: None

    def send(self, request: Request) -> Answer:
        """The answer of *request* once it is a 200; otherwise the error that answers.checked names.

        Failures are tried again as retry.py says, within the patience and --max-wait.
        """
        return self._insist(request, lambda tries: self._answer(request, tries))

    def page(self, request: Request) -> decode.Page:
        """The page of *request*. What came whole and is none is asked for again, where less cannot be asked.

        Raises as send() does, and BodyCut.
        """
        return self._insist(request, lambda tries: decode.page(self._answer(request, tries).body))

    def fetch(self, request: Request, arriving: content.Arriving) -> None:
        """Give *arriving* what *request* leads to, however often it must be taken up. Redirects are followed.

        Raises what answers.checked names for PostHog's refusals; SourceUnavailable for those of the store; BodyCut where the
        content ends early again and again.
        """

        def attempt(tries: Tries) -> None:
            with self.content(request, headers=arriving.range_headers) as coming:
                arriving.take(coming)

        self._insist(request, attempt, reached=lambda: arriving.size)

    @contextmanager
    def content(self, request: Request, *, headers: Mapping[str, str]) -> Iterator[content.Content]:
        """What *request* leads to, as it comes, asked once. The key stays with the configured host.

        *headers*: Range and If-Range. Raises as fetch() does, and LimitsExhausted; BodyCut while reading.
        """
        with ExitStack() as held:
            with self._pacing.turn(request.bucket, request.project_id):
                ours = held.enter_context(self._asked(request, self._prefixes(request)[0], headers))
            coming = held.enter_context(
                content.followed(ours, self._connections, headers=headers, answer_s=request.policy.answer_s)
            )
            if coming.status not in content.SERVED:
                if coming is ours:
                    self._checked(self._whole(coming), request)
                raise content.refused(coming)
            yield content.Content(coming.status, coming.headers, coming.pieces, coming.packed)

    def used(self, bucket: Bucket) -> int:
        """How many requests of *bucket* were sent within an hour, by every process of the key."""
        return self._pacing.used(bucket)[1]

    def wait(self, seconds: float, error: errors.SourceError) -> None:
        """Pause before the caller asks again after *error*: *seconds*, or as long as the server said, within --max-wait."""
        if error.retry_after_s is None:
            self._on_retry(error, seconds)
            self._back_off(seconds)
            return
        told_s = max(seconds, error.retry_after_s)
        self._on_retry(error, told_s)
        self._pacing.pause(Wait(told_s, f"{error}, with Retry-After"))

    def _insist(self, request: Request, attempt: Callable[[Tries], T], *, reached: Callable[[], int] = lambda: 0) -> T:
        """What *attempt* returns, made again after failures as retry.decide says. *reached*: bytes that have come."""
        attempts = self.patience.attempts
        tries = Tries(attempts if self._answered else min(self.patience.first_contact_attempts, attempts))
        furthest = 0
        while True:
            if tries.begun_s is None:
                tries = replace(tries, begun_s=self._monotonic())
            if not tries.prefixes:
                tries = replace(tries, prefixes=self._prefixes(request))
            try:
                return attempt(tries)
            except errors.SourceError as exc:
                again = decide(
                    exc,
                    request.policy,
                    tries,
                    self.patience,
                    now_s=self._monotonic(),
                    progressed=reached() > furthest,
                )
                if again is None:
                    final = given_up(exc, request.policy)
                    if final is exc:
                        raise
                    raise final from exc
                error = exc
            furthest = max(furthest, reached())
            self._act(again, error, request.bucket)
            tries = again.tries

    def _act(self, again: Again, error: errors.SourceError, bucket: Bucket) -> None:
        """Wait as decided."""
        if again.how is How.BLOCK:
            self._pacing.pause(self._pacing.block(bucket, again.wait_s))
        elif again.how is How.WAIT:
            self.wait(again.wait_s, error)
        elif again.how is How.BACKOFF:
            self._on_retry(error, 0.0)
            jitter_s = random.uniform(0, self.patience.first_s)  # noqa: S311 - no secret
            self._back_off(min(self.patience.longest_s, again.wait_s + jitter_s))

    def _back_off(self, seconds: float) -> None:
        self._pacing.before_rest()
        self._sleep(seconds)

    def _prefixes(self, request: Request) -> tuple[str, ...]:
        """By which prefixes to ask, in order: first the one that has answered for the resource."""
        known = self.prefixes.get(request.collection, PREFIXES[0])
        return (known, *(other for other in PREFIXES if other != known))

    def _answer(self, request: Request, tries: Tries) -> Answer:
        """Ask once, by the prefix whose turn it is."""
        prefix = tries.prefixes[0]
        with self._pacing.turn(request.bucket, request.project_id, alone=tries.alone):
            answer = self._exchanged(request, prefix)
        if answer.status < 500 and answer.status != 404:
            self.prefixes[request.collection] = prefix
        known = len(tries.prefixes) == 1 or self.prefixes.get(request.collection) == prefix
        self._checked(answer, request, address_known=known)
        return answer

    def _exchanged(self, request: Request, prefix: str) -> Answer:
        asked_s = self._monotonic()
        with self._asked(request, prefix, {}) as coming:
            received_s = self._monotonic()
            answer = self._whole(coming)
        before, self.heard = self.heard, Heard(answer.served_at, asked_s, received_s)
        if self._clock.served_at is None or one_clock(self._clock, self.heard) or one_clock(before, self.heard):
            self._clock = self.heard
        return answer

    @contextmanager
    def _asked(self, request: Request, prefix: str, more: Mapping[str, str]) -> Iterator[Coming]:
        """The answer to *request*; its body is not read yet."""
        self.requests[request.bucket] = self.requests.get(request.bucket, 0) + 1
        with self._connections.ask(request, prefix, more) as coming:
            self._answered = True
            yield coming

    @staticmethod
    def _whole(coming: Coming) -> Answer:
        parts: list[bytes] = []
        total = 0
        for piece in coming.pieces:
            total += len(piece)
            if total > MAX_BODY_BYTES:
                raise errors.BodyCut(f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB")
            parts.append(piece)
        return Answer(coming.status, coming.headers, b"".join(parts), answers.served_at(coming.headers))

    @staticmethod
    def _checked(answer: Answer, request: Request, *, address_known: bool = True) -> None:
        """Raises the error that the answer is, if it is one."""
        answers.checked(
            answer.status,
            answer.headers,
            answer.body,
            entry=request.entry,
            by_user=request.policy.by_user,
            newer=request.newer,
            address_known=address_known,
        )
