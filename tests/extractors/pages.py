"""The events list without a network: a transport that gives pages of rows, as wrongly as a test wants them."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Container, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx

from extractors.filters import EventFilter
from extractors.http.client import Client, Source
from extractors.http.pacing import Limit, Pacing
from extractors.http.retry import Patience
from extractors.reading.events import EventsReader
from extractors.request import Bucket
from extractors.simulator.data.dataset import Event
from extractors.window import MICROSECOND, Range

HOST, KEY = "https://source.example", "phx_a"
PATIENCE = Patience(
    attempts=3, total_s=5, first_s=0.001, longest_s=0.002, server_error_waits_s=(), foreign_answer_waits_s=(0.001,)
)


def at_times(*times: datetime, name: str = "e") -> list[Event]:
    """One event at each of *times*."""
    return [Event(f"00000000-0000-4000-8000-{n:012x}", name, "d", at, "{}") for n, at in enumerate(times)]


def spread(count: int, start: datetime, end: datetime) -> list[Event]:
    """*count* events, evenly over [start, end)."""
    return at_times(*(start + (end - start) * n / count for n in range(count)))


class Pages(httpx.BaseTransport):
    """Answers list requests of *events*; there is no /query, and no HogQL in filters.

    *cap*: rows a page at most. *zone*: rows show this zone's wall clock labelled as UTC, cursors stay right. *shows(number,
    rows)*: how many rows the page of that request, counted from 1, has at most. *date(number)*: its Date. *answer_s*:
    what an answer takes, really. *cut*: numbers of requests whose answer ends early. *fails(range, shown)*: whether the
    answer to that range, with these rows, is a bare 500; *fails_at*: numbers of requests that are answered so.
    """

    def __init__(
        self,
        events: Sequence[Event],
        *,
        cap: int = 1000,
        zone: str = "UTC",
        shows: Callable[[int, int], int] = lambda number, rows: rows,
        date: Callable[[int], datetime | None] = lambda number: datetime.now(UTC),
        answer_s: float = 0.0,
        cut: Container[int] = (),
        fails: Callable[[Range, Sequence[Event]], bool] = lambda rng, shown: False,
    ) -> None:
        self._events = list(events)
        self._cap, self._zone, self._shows, self._date = cap, ZoneInfo(zone), shows, date
        self._answer_s, self._cut, self._fails = answer_s, cut, fails
        self._random = random.Random(7)
        self._lock = threading.Lock()
        self._in_flight = self.most_in_flight = 0
        self.asked: list[dict[str, str]] = []
        self.before_answer: Callable[[int], object] = lambda number: None
        self.fails_at: Container[int] = ()

    def delete(self, uuids: Container[str]) -> None:
        """Show the events of *uuids* no longer."""
        self._events = [event for event in self._events if event.uuid not in uuids]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            time.sleep(self._answer_s)
            if "/query/" in request.url.path:
                return httpx.Response(404, stream=httpx.ByteStream(b'{"detail":"Endpoint not found."}'))
            params = dict(request.url.params.items())
            if "properties" in params:
                return httpx.Response(500, stream=httpx.ByteStream(b"{}"))
            return self._listed(params)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _listed(self, params: dict[str, str]) -> httpx.Response:
        self.asked.append(params)
        number = len(self.asked)
        self.before_answer(number)
        latest = max((event.timestamp for event in self._events), default=datetime.now(UTC))
        before = datetime.fromisoformat(params["before"]) if "before" in params else latest + MICROSECOND
        after = datetime.fromisoformat(params["after"]) if "after" in params else before - timedelta(hours=24)
        found = [event for event in self._events if after < event.timestamp < before]
        self._random.shuffle(found)  # ties come in any order
        found.sort(key=lambda event: event.timestamp, reverse="orderBy" not in params)
        shown = found[: self._shows(number, min(int(params["limit"]), self._cap))]
        if number in self.fails_at or self._fails(Range(after + MICROSECOND, before), shown):
            return httpx.Response(500, stream=httpx.ByteStream(b"{}"))
        last = (shown or found)[-1].timestamp.isoformat() if found else ""
        cursor = f"{HOST}/?{httpx.QueryParams(after=last)}" if len(found) > len(shown) else None
        body = json.dumps({"next": cursor, "results": [self._row(event) for event in shown]}).encode()
        body = body[: len(body) // 2] if number in self._cut else body
        date = self._date(number)
        headers = {"Date": format_datetime(date.astimezone(UTC), usegmt=True)} if date is not None else {}
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(body))

    def _row(self, event: Event) -> dict[str, object]:
        shift = event.timestamp.astimezone(self._zone).utcoffset() or timedelta(0)
        return {
            "id": event.uuid,
            "event": event.event,
            "distinct_id": event.distinct_id,
            "timestamp": (event.timestamp + shift).isoformat(),
            "properties": {},
            "elements_chain": "",
        }


def budget_of(directory: Path, **more: object) -> Pacing:
    """Limits that nobody reaches."""
    return Pacing(directory, host=HOST, key=KEY, limits=dict.fromkeys(Bucket, Limit(10**6, 10**6)), **more)


def reader_of(
    pages: httpx.BaseTransport,
    directory: Path,
    *,
    budget: Pacing | None = None,
    page_bytes: int | None = None,
    **more: object,
) -> EventsReader:
    """A reader of project 1."""
    more = {"patience": PATIENCE, **more}
    client = Client(Source(HOST, KEY), budget or budget_of(directory), transport=pages, **more)
    return EventsReader(client, 1, events=EventFilter(), page_bytes=page_bytes)
