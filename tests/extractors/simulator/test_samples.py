"""List requests recorded on a real server (1.43), asked of the simulator: the same form, the same rows, the same `next`.

Left out: the request whose `after` carries another offset than UTC, because 1.43 dropped the offset and Cloud converts it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from extractors.simulator.dataset import Dataset, Event
from extractors.simulator.profiles import CLOUD
from extractors.simulator.server import Simulator, serve

SAMPLES = {
    path.stem: json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "samples").glob("*.json"))
}
RECORDED_AT = datetime(2026, 11, 23, 15, 40, tzinfo=UTC)
RECORDED_HOST = "http://127.0.0.1:8143"
# The recorded server was self-hosted: its requests start in the year 2000, which Cloud refuses.
PROFILE = replace(CLOUD, max_range_days=None)
# 1.43 always filled `person` and parsed the chain into `elements`; the simulator answers null and [].
KNOWN_DIFFERENCES = {"person": None, "elements": []}


def _unseen(number: int, event: str, timestamp: str) -> Event:
    return Event(f"00000000-0000-4000-8000-{number:012}", event, "unseen", datetime.fromisoformat(timestamp), "{}")


# The recorded server held more rows than the samples show: these stand for the ones behind a `next`.
UNSEEN = (
    _unseen(1, "$autocapture", "2026-11-23T15:38:54.730999+00:00"),
    _unseen(2, "purchase", "2026-11-23T15:38:54.776999+00:00"),
    _unseen(3, "tied", "2026-11-06T15:21:36.123456+00:00"),
)


def _recorded_events() -> list[Event]:
    rows = {row["id"]: row for sample in SAMPLES.values() for row in sample["response"]["body"]["results"]}
    return [
        Event(
            row["id"],
            row["event"],
            row["distinct_id"],
            datetime.fromisoformat(row["timestamp"]),
            json.dumps(row["properties"], ensure_ascii=False),
            row["elements_chain"],
        )
        for row in rows.values()
    ]


EVENTS = (*_recorded_events(), *UNSEEN)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serve({2: Dataset(EVENTS)}, profile=PROFILE, now=lambda: RECORDED_AT) as running:
        yield running


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def exchange(request: pytest.FixtureRequest, simulator: Simulator) -> tuple[Mapping[str, Any], httpx.Response]:
    """A recorded answer and the simulator's to the same request."""
    sample = request.param
    headers = {"Authorization": f"Bearer {simulator.key}"}
    return sample["response"], httpx.get(simulator.url + sample["request"]["url"], headers=headers)


def _ids_by_moment(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    moments = defaultdict(set)
    for row in rows:
        moments[row["timestamp"]].add(row["id"])
    return dict(moments)


def test_answer_has_the_recorded_form(exchange):
    """Status, content type, keys of the body and of each row come as recorded, in the recorded order."""
    recorded, answer = exchange

    assert answer.status_code == recorded["status"]
    assert answer.headers["content-type"] == recorded["headers"]["content-type"]
    assert list(answer.json()) == list(recorded["body"])
    assert [list(row) for row in answer.json()["results"]] == [list(row) for row in recorded["body"]["results"]]


def test_answer_has_the_recorded_timestamps(exchange):
    """The timestamps' text and their order are the recorded ones, exclusive bounds included."""
    recorded, answer = exchange

    assert [row["timestamp"] for row in answer.json()["results"]] == [
        row["timestamp"] for row in recorded["body"]["results"]
    ]


def test_answer_has_the_recorded_events(exchange):
    """The same uuids come for each moment; where the page cuts through ties, as many of them, whichever they are."""
    recorded, answer = exchange
    known = defaultdict(set)
    for event in EVENTS:
        known[event.timestamp.isoformat()].add(event.uuid)
    expected, found = _ids_by_moment(recorded["body"]["results"]), _ids_by_moment(answer.json()["results"])

    for moment, uuids in expected.items():
        if len(uuids) == len(known[moment]):
            assert found[moment] == uuids
        else:
            assert len(found[moment]) == len(uuids)
            assert found[moment] <= known[moment]


def test_answer_has_the_recorded_values(exchange):
    """Every value of an event is the recorded one, but for the two keys with a known difference."""
    recorded, answer = exchange
    found = {row["id"]: row for row in answer.json()["results"]}

    for row in recorded["body"]["results"]:
        if row["id"] in found:
            assert found[row["id"]] == row | KNOWN_DIFFERENCES


def test_next_is_the_recorded_address(exchange, simulator):
    """`next` is null or the recorded address to the letter: same parameters, same order, same escapes, same bound."""
    recorded, answer = exchange
    address = recorded["body"]["next"]

    assert answer.json()["next"] == (address and address.replace(RECORDED_HOST, simulator.url))
