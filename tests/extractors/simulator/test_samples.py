"""Requests recorded on two real servers, asked of the simulator: the same form, the same rows, the same `next`.

Left out: CSV and exports, which are not simulated, and the page that a server in debug mode shows for a 500.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from extractors.simulator.dataset import Dataset, Event
from extractors.simulator.limits import RateLimits
from extractors.simulator.server import Simulator, serve
from tests.extractors.simulator.asking import client_of
from tests.extractors.simulator.recorded import SERVERS, Sample, Server

DEBUG_PAGE = "<html debug page>"
Exchange = tuple[Mapping[str, Any], httpx.Response]


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, Simulator]]:
    """Both servers, each with what it held."""
    with ExitStack() as stack:
        yield {
            server.name: stack.enter_context(
                serve({server.project_id: server.dataset()}, profile=server.profile, now=lambda at=server.at: at)
            )
            for server in SERVERS
        }


def replayed(simulator: Simulator, sample: Sample) -> httpx.Response:
    """The simulator's answer to a recorded request."""
    asked = sample["request"]
    headers = {"Authorization": f"Bearer {simulator.key}"}
    if "no_auth" in sample["name"]:
        headers = {}
    if "bad_key" in sample["name"]:
        headers = {"Authorization": "Bearer phx_unknown"}
    body = asked.get("body") if asked["method"] == "POST" else None
    return httpx.request(asked["method"], simulator.url + asked["url"], headers=headers, json=body)


def recorded(*prefixes: str, but: tuple[str, ...] = ()) -> Any:
    """Parameters (server, sample) of every sample whose name has one of the *prefixes*."""
    return pytest.mark.parametrize(
        ("server", "sample"),
        [
            pytest.param(server, sample, id=sample["name"])
            for server in SERVERS
            for prefix in prefixes
            for sample in server.samples(prefix)
            if not sample["name"].endswith(but)
        ],
    )


@pytest.fixture
def exchange(server: Server, sample: Sample, simulators: dict[str, Simulator]) -> Exchange:
    """A recorded answer and the simulator's to the same request."""
    return sample["response"], replayed(simulators[server.name], sample)


def _by_moment(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    moments = defaultdict(set)
    for row in rows:
        moments[row["timestamp"]].add(json.dumps(row, sort_keys=True))
    return dict(moments)


LISTS = recorded("list_", "error_other_project", but=("server-1.43 error_other_project",))


@LISTS
def test_list_has_the_recorded_form(exchange, server):
    """Status, content type, keys of the body and of each row come as recorded, in the recorded order."""
    expected, answer = exchange

    assert answer.status_code == expected["status"]
    assert answer.headers["content-type"] == expected["headers"]["content-type"]
    assert list(answer.json()) == list(expected["body"])
    assert [list(row) for row in answer.json()["results"]] == [list(row) for row in expected["body"]["results"]]


@LISTS
def test_list_has_the_recorded_timestamps(exchange, server):
    """The timestamps' text and their order are the recorded ones, exclusive bounds included."""
    expected, answer = exchange

    assert [row["timestamp"] for row in answer.json()["results"]] == [
        row["timestamp"] for row in expected["body"]["results"]
    ]


@LISTS
def test_list_has_the_recorded_rows(exchange, server):
    """Every value of every row is the recorded one; where the page cuts through ties, as many rows, whichever they are."""
    expected, answer = exchange
    shared = {event.timestamp for event in server.dataset().events if event.event == "tied"}
    rows, found = _by_moment(expected["body"]["results"]), _by_moment(answer.json()["results"])

    for moment, texts in rows.items():
        if datetime.fromisoformat(moment) in shared:
            assert len(found[moment]) == len(texts)
        else:
            assert found[moment] == texts


@LISTS
def test_next_is_the_recorded_address(exchange, server, simulators):
    """`next` is null or the recorded address to the letter: same parameters, same order, same escapes, same bound."""
    expected, answer = exchange
    address = expected["body"]["next"]

    assert answer.json()["next"] == (address and address.replace(server.host, simulators[server.name].url))


@recorded("retrieve", "error_", but=("server-1.30 error_other_project", "error_429_throttled"))
def test_single_answer_is_the_recorded_one(exchange, server):
    """One event, and each refusal, has the recorded status and body; no old server sent a challenge."""
    expected, answer = exchange

    assert answer.status_code == expected["status"]
    assert "www-authenticate" not in answer.headers
    if expected["body"] == DEBUG_PAGE:
        assert answer.json()["type"] == "server_error"
    else:
        assert answer.json() == expected["body"]
        assert list(answer.json()) == list(expected["body"])


@recorded("error_429_throttled")
def test_241st_request_of_a_minute_is_throttled_as_recorded(server, sample, monkeypatch):
    """With the limits switched on, refused requests counted, the 241st tells when the first one leaves the minute."""
    clock = [1000.0]
    monkeypatch.setattr("extractors.simulator.app.RateLimits", partial(RateLimits, clock=lambda: clock[0]))
    limited = replace(server.profile, per_minute=240, per_hour=1200)

    with serve({server.project_id: Dataset()}, profile=limited) as simulator, client_of(simulator) as client:
        counted = [client.get(sample["request"]["url"]).status_code for _ in range(240)]
        clock[0] += 59.5
        answer = client.get(sample["request"]["url"])

    assert set(counted) == {400}
    assert (answer.status_code, answer.json()) == (429, sample["response"]["body"])
    assert answer.headers["retry-after"] == sample["response"]["headers"]["retry-after"]


@recorded("values_")
def test_values_are_the_recorded_ones(exchange, server):
    """A bare list of the same names; 1.43 gave them in no order, 1.30 newest first."""
    expected, answer = exchange
    names, found = ([row["name"] for row in body] for body in (expected["body"], answer.json()))

    assert answer.status_code == expected["status"]
    assert (found if server.name == "server-1.30" else sorted(found)) == (
        names if server.name == "server-1.30" else sorted(names)
    )


@recorded("query_eventsquery")
def test_events_query_is_answered_as_recorded(exchange, server):
    """Columns, types, rows and `hasMore` come as recorded, to the letter."""
    expected, answer = exchange

    assert (answer.status_code, answer.json()) == (expected["status"], expected["body"])


@recorded("query_hogql")
def test_hogql_query_is_answered_as_recorded(server, sample):
    """The recorded counts are counted again, in the recorded keys, and the implicit LIMIT shows in what was run."""
    expected = sample["response"]["body"]
    names = [name for name, count in expected["results"] for _ in range(count)]
    start = datetime(2026, 11, 1, tzinfo=UTC)
    events = [
        Event(f"00000000-0000-4000-8000-{number:012}", name, "ann", start + timedelta(seconds=number), "{}")
        for number, name in enumerate(names)
    ]

    with serve({server.project_id: Dataset(events)}, profile=server.profile) as simulator:
        answer = replayed(simulator, sample).json()

    assert list(answer) == list(expected)
    assert {name: answer[name] for name in ("columns", "query", "results", "types")} == {
        name: expected[name] for name in ("columns", "query", "results", "types")
    }
    assert "LIMIT 100" in answer["hogql"]
    assert "LIMIT 100" in answer["clickhouse"]
