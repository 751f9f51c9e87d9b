"""Small words for tests that ask the simulator over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.profiles import CLOUD
from extractors.simulator.server import Simulator, serve

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
LIST = "/api/projects/1/events/"
QUERY = "/api/projects/1/query/"
ASCENDING = '["timestamp"]'
SERVER_ERROR = {"type": "server_error", "code": "error", "detail": "A server error occurred.", "attr": None}
# Limits and waits are off where they are not the subject.
FREE = replace(CLOUD, per_minute=None, per_hour=None, query_per_minute=None, query_per_hour=None, offset_wait_s=0.0)


def event(number: int, at: datetime, *, name: str = "seen", distinct_id: str = "ann", properties: str = "{}") -> Event:
    """An event whose uuid ends in *number*."""
    return Event(f"00000000-0000-4000-8000-{number:012}", name, distinct_id, at, properties)


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def every(step: timedelta, count: int) -> list[Event]:
    """*count* events, the newest *step* old, numbered from the newest."""
    return [event(number, NOW - step * number) for number in range(1, count + 1)]


def client_of(simulator: Simulator) -> httpx.Client:
    return httpx.Client(base_url=simulator.url, headers={"Authorization": f"Bearer {simulator.key}"})


@contextmanager
def served(*events: Event, **options: Any) -> Iterator[httpx.Client]:
    """A client with key and address of a simulator that serves *events* at NOW."""
    with (
        serve(Dataset(events), **{"profile": FREE, "now": lambda: NOW} | options) as simulator,
        client_of(simulator) as client,
    ):
        yield client


def numbers(answer: httpx.Response) -> list[int]:
    """The numbers of the events of a list answer, in its order."""
    assert answer.status_code == 200, answer.text
    return [int(row["id"][-12:]) for row in answer.json()["results"]]


def ask(client: httpx.Client, hogql: str, **more: Any) -> httpx.Response:
    """POST /query."""
    return client.post(QUERY, json={"query": {"kind": "HogQLQuery", "query": hogql}} | more)


def where(*conditions: Any, **condition: Any) -> dict[str, str]:
    """The parameter `properties` of a list of *conditions*, or of one."""
    return {"properties": json.dumps([*conditions, *([condition] if condition else [])])}
