"""Hours under the source's limits in virtual time: nothing refused, next to nothing unused, fairly shared.

The transport is a fake with the server's limiter (facts/posthog-api.md §5.4): 240 a minute and 1,200 an hour per key as
sliding windows, refused requests not counted, two at a time per project.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from extractors.errors import LimitsExhausted
from extractors.filters import EventFilter
from extractors.http.client import Client, Source
from extractors.http.content import Content
from extractors.http.pacing import QUERY, REST, VALUES, Limit, Pacing
from extractors.request import CONTENT, Bucket, Request, events_page
from extractors.window import Range
from tests.extractors.http.virtual_time import VirtualTime

LIMIT = Limit(240, 1200)
HOUR = 3600.0
LATENCY_S = 0.35
PAGE = Range(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


class Server(httpx.BaseTransport):
    """Accepts, refuses or faults as PostHog's limiter would; knows who asked by the User-Agent.

    *always*: the one status and Retry-After that it ever answers.
    """

    def __init__(self, time: VirtualTime, *, first_wait_s: int = 0, always: tuple[int, str] | None = None) -> None:
        self._time = time
        self._first_wait_s = first_wait_s
        self._always = always
        self.accepted: list[float] = []
        self.by: Counter[str] = Counter()
        self.refused = 0
        self.crowded = 0
        self._in_flight: Counter[str] = Counter()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        project = request.url.path.split("/")[3]
        self._in_flight[project] += 1
        try:
            self._time.sleep(LATENCY_S / 2)
            if self._in_flight[project] > 2:
                self.crowded += 1
                return self._answer(500)
            if self._always is not None:
                self.refused += 1
                return self._answer(self._always[0], {"Retry-After": self._always[1]})
            wait_s = self.take(request.headers["User-Agent"])
            if wait_s:
                self.refused += 1
                return self._answer(429, {"Retry-After": str(wait_s)})
            self._time.sleep(LATENCY_S / 2)
            return self._answer(200)
        finally:
            self._in_flight[project] -= 1

    def take(self, who: str) -> int:
        """Count one request, or the whole seconds until the oldest leaves its window."""
        now = self._time.clock()
        if self._first_wait_s:
            wait_s, self._first_wait_s = self._first_wait_s, 0
            return wait_s
        for allowed, span in ((LIMIT.per_minute, 60.0), (LIMIT.per_hour, HOUR)):
            recent = [at for at in self.accepted[-allowed:] if at > now - span]
            if len(recent) >= allowed:
                return max(1, math.ceil(recent[0] + span - now))
        self.accepted.append(now)
        self.by[who] += 1
        return 0

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> httpx.Response:
        date = format_datetime(datetime.fromtimestamp(self._time.clock(), UTC), usegmt=True)
        return httpx.Response(
            status, headers={"Date": date} | (headers or {}), stream=httpx.ByteStream(b'{"next":null,"results":[]}')
        )


def worker(
    server: Server,
    time: VirtualTime,
    directory: Path,
    *,
    name: str,
    until: float,
    project_id: int = 1,
    restart_s: float = math.inf,
    max_wait_s: float | None = None,
) -> Callable[[], None]:
    """A backfill that asks as fast as it may, started anew every *restart_s* seconds."""

    def start() -> Client:
        budget = Pacing(
            directory,
            host="https://a",
            key="phx_a",
            limits={Bucket.LIST: LIMIT, Bucket.QUERY: QUERY, Bucket.VALUES: VALUES, Bucket.REST: REST},
            max_wait_s=max_wait_s,
            clock=time.clock,
            sleep=time.sleep,
        )
        return Client(Source("https://a", "phx_a"), budget, transport=server, sleep=time.sleep, user_agent=name)

    def page() -> Request:
        return events_page(project_id, PAGE, limit=1000, events=EventFilter())

    def work() -> None:
        client, since = start(), time.clock()
        while time.clock() < until:
            if time.clock() - since >= restart_s:
                client, since = start(), time.clock()
            client.send(page())

    return work


def used(server: Server, begin: float, hours: int) -> float:
    """Accepted requests of the hours, as a share of what the limits allow."""
    return sum(begin <= at < begin + hours * HOUR for at in server.accepted) / (hours * LIMIT.per_hour)


def test_backfill_uses_the_budget_and_is_never_refused(tmp_path):
    """Three hours: no 429, no third request at once, at least 97 % of the budget."""
    time = VirtualTime()
    server, begin = Server(time), time.clock()
    time.run([worker(server, time, tmp_path, name="a", until=begin + 3 * HOUR)])

    assert (server.refused, server.crowded) == (0, 0)
    assert used(server, begin, 3) >= 0.97


def test_processes_and_projects_of_one_key_share_the_budget_fairly(tmp_path):
    """Two processes with three projects each: together within the limits, each its share, none starved."""
    time = VirtualTime()
    server, begin = Server(time), time.clock()
    names = [(f"{process} {project}", project) for process in "ab" for project in (1, 2, 3)]
    time.run(
        [
            worker(server, time, tmp_path, name=name, project_id=project, until=begin + 3 * HOUR)
            for name, project in names
        ]
    )

    assert (server.refused, server.crowded) == (0, 0)
    assert used(server, begin, 3) >= 0.97
    mean = sum(server.by.values()) / len(names)
    assert all(0.8 * mean <= server.by[name] <= 1.2 * mean for name, _ in names), server.by


def test_project_never_has_three_requests_in_flight(tmp_path):
    """Four processes on one project: two at a time."""
    time = VirtualTime()
    server, begin = Server(time), time.clock()
    time.run([worker(server, time, tmp_path, name=name, until=begin + 60) for name in "abcd"])

    assert server.crowded == 0
    assert used(server, begin, 1) > 0.1


@pytest.mark.long
def test_restarts_every_minute_keep_the_budget(tmp_path):
    """The state file and not the process remembers."""
    time = VirtualTime()
    server, begin = Server(time), time.clock()
    time.run([worker(server, time, tmp_path, name="a", until=begin + 2 * HOUR, restart_s=60)])

    assert (server.refused, server.crowded) == (0, 0)
    assert used(server, begin, 2) >= 0.97


@pytest.mark.long
def test_neighbour_with_half_of_the_budget_slows_without_failing(tmp_path):
    """Another tool of the same key, which we do not see, asks every six seconds: 429s are waited for, the rest is ours."""
    time = VirtualTime()
    server, begin = Server(time), time.clock()

    def neighbour() -> None:
        while time.clock() < begin + 3 * HOUR:
            time.sleep(6)
            server.take("neighbour")

    time.run([neighbour, worker(server, time, tmp_path, name="a", until=begin + 3 * HOUR)])

    assert server.by["a"] >= 0.4 * 3 * LIMIT.per_hour
    assert server.refused < 0.05 * server.by["a"]


def test_long_retry_after_is_waited_for_exactly(tmp_path):
    """3,600 s are 3,600 s, once for the whole key."""
    time = VirtualTime()
    server, begin = Server(time, first_wait_s=3600), time.clock()
    time.run([worker(server, time, tmp_path, name="a", until=begin + 3590)])

    assert server.refused == 1
    assert server.accepted[0] == pytest.approx(begin + 3600, abs=1)


def test_longer_wait_than_allowed_ends_the_run(tmp_path):
    """With a longest wait the same answer ends as LimitsExhausted, naming both."""
    time = VirtualTime()
    server, begin = Server(time, first_wait_s=3600), time.clock()

    with pytest.raises(LimitsExhausted, match=r"come to 1 h, .* 1 min allowed"):
        time.run([worker(server, time, tmp_path, name="a", until=begin + 10, max_wait_s=60)])


def run_of(time: VirtualTime, directory: Path, server: Server, *, max_wait_s: float) -> tuple[Client, Pacing]:
    """One run's client in virtual time, with its budget."""
    limits = dict.fromkeys(Bucket, Limit(10**6, 10**6))
    budget = Pacing(
        directory,
        host="https://a",
        key="phx_a",
        limits=limits,
        max_wait_s=max_wait_s,
        clock=time.clock,
        sleep=time.sleep,
    )
    return Client(Source("https://a", "phx_a"), budget, transport=server, sleep=time.sleep), budget


EXPORT = Request(1, "exports/7/content/", Bucket.REST, accept="*/*", entry="content of export 7", policy=CONTENT)


@dataclass(slots=True)
class Nowhere:
    """Takes a content, and keeps nothing."""

    size: int = 0
    range_headers: Mapping[str, str] = field(default_factory=dict)

    def take(self, content: Content) -> None:
        self.size += sum(map(len, content.pieces))


def content(client: Client) -> None:
    client.fetch(EXPORT, Nowhere())


SHORT_WAITS = [
    pytest.param(429, lambda client: client.send(events_page(1, PAGE, limit=1, events=EventFilter())), id="list"),
    pytest.param(429, content, id="content"),
]


@pytest.mark.parametrize(("status", "ask"), SHORT_WAITS)
def test_short_waits_without_end_are_bounded_in_sum(status, ask, tmp_path):
    """`Retry-After: 5` for ever ends a run that may wait ten minutes after ten minutes, and the message says both."""
    time = VirtualTime()
    server, begin = Server(time, always=(status, "5")), time.clock()
    client, budget = run_of(time, tmp_path, server, max_wait_s=600)

    with pytest.raises(LimitsExhausted, match=r"10 min 5 s, .* 10 min") as raised:
        time.run([lambda: ask(client)])

    assert budget.waited_s == 600
    assert server.refused == 121
    assert time.clock() - begin == pytest.approx(600 + 121 * LATENCY_S / 2)
    assert "--max-wait" in raised.value.hint


def test_pauses_that_a_503_names_count(tmp_path):
    """A pause that the server names with a 503 counts as any wait."""
    time = VirtualTime()
    client, budget = run_of(time, tmp_path, Server(time, always=(503, "50")), max_wait_s=600)

    with pytest.raises(LimitsExhausted, match=r"10 min 50 s, .* 10 min"):
        time.run([lambda: client.send(events_page(1, PAGE, limit=1, events=EventFilter()))])

    assert budget.waited_s == 600
