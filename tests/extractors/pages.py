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

from extractors.client import Client, Patience, Source
from extractors.events import EventsReader
from extractors.pacing import Limit, Pacing
from extractors.queries import Bucket, EventFilter
from extractors.simulator.dataset import Event

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
    what an answer takes, really. *cut*: numbers of requests whose answer ends early.
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
    ) -> None:
        self._events = list(events)
        self._cap, self._zone, self._shows, self._date = cap, ZoneInfo(zone), shows, date
        self._answer_s, self._cut = answer_s, cut
        self._random = random.Random(7)
        self._lock = threading.Lock()
        self._in_flight = self.most_in_flight = 0
        self.asked: list[dict[str, str]] = []
        self.before_answer: Callable[[int], object] = lambda number: None

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
        found = list(self._events)
        if "after" in params:
            after, before = (datetime.fromisoformat(params[name]) for name in ("after", "before"))
            found = [event for event in found if after < event.timestamp < before]
        self._random.shuffle(found)  # ties come in any order
        found.sort(key=lambda event: event.timestamp, reverse="orderBy" not in params)
        shown = found[: self._shows(number, min(int(params["limit"]), self._cap))]
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
    pages: httpx.BaseTransport, directory: Path, *, budget: Pacing | None = None, **more: object
) -> EventsReader:
    """A reader of project 1."""
    client = Client(Source(HOST, KEY), budget or budget_of(directory), patience=PATIENCE, transport=pages, **more)
    return EventsReader(client, 1, events=EventFilter())
