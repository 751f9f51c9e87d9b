"""Lists that move while somebody pages, and events by filters: none is lost, none comes twice."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extractors import errors
from extractors.filters import EventFilter, Filters
from extractors.http.client import Client, Source
from extractors.http.pacing import Limit, Pacing
from extractors.http.retry import Patience
from extractors.lists import exact, lookups
from extractors.lists.lookups import Listed, every
from extractors.reading.events import EventsReader
from extractors.request import Bucket
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import Dataset, Event, generate
from extractors.simulator.profiles import CLOUD, OLD_2023
from extractors.simulator.server import Simulator, serve
from extractors.window import Range
from tests.second_server.rows import Row
from tests.second_server.server import second_server

UNLIMITED = replace(CLOUD, per_minute=None, per_hour=None, rest_per_minute=None, rest_per_hour=None, offset_wait_s=0.0)
START, END, NOW = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)
FAST = Patience(attempts=4, total_s=20, first_s=0.01, longest_s=0.05, server_error_waits_s=(0.01, 0.01, 0.01))


def client_of(simulator: Simulator, directory: Path) -> Client:
    limits = dict.fromkeys(Bucket, Limit(10**6, 10**6))
    budget = Pacing(directory / "state", host=simulator.url, key=simulator.key, limits=limits)
    return Client(Source(simulator.url, simulator.key), budget, patience=FAST)


class Moving:
    """A list that grows at its head and shrinks anywhere between two pages; *kept* is what was there all along."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._rows = list(range(self._rng.randrange(60), 0, -1))
        self._next, self._moves = 1_000, 8
        self.kept = set(self._rows)

    def page(self, limit: int, offset: int) -> Listed:
        for move in (self._grow, self._shrink):
            if self._moves and self._rng.random() < 0.5:
                self._moves -= 1
                move(self._rng.randrange(12))
        shown = self._rows[offset : offset + limit]
        return Listed(tuple({"id": one} for one in shown), len(self._rows))

    def _grow(self, count: int) -> None:
        self._rows[:0] = range(self._next + count, self._next, -1)
        self._next += count

    def _shrink(self, count: int) -> None:
        for one in self._rng.sample(self._rows, min(len(self._rows), count)):
            self._rows.remove(one)
            self.kept.discard(one)


@pytest.mark.parametrize("seed", range(200))
def test_each_row_comes_once_while_rows_are_added_and_removed(seed):
    """Whatever is added at the head or taken away anywhere between two pages: what stays comes, each once."""
    moving = Moving(seed)

    found = [row["id"] for row in every(moving.page, page_rows=10)]

    assert len(found) == len(set(found))
    assert moving.kept <= set(found)


def test_rows_of_one_moment_that_change_places_all_come():
    """Without an order among ties a walk may miss some: it is walked again until all that are counted have come."""
    rng = random.Random(5)

    def page(limit: int, offset: int) -> Listed:
        rows = rng.sample(range(12), 12)
        return Listed(tuple({"id": one} for one in rows[offset : offset + limit]), 12)

    found = [row["id"] for row in every(page, page_rows=10)]

    assert sorted(found) == list(range(12))


def test_list_that_never_shows_all_is_an_error():
    """A count that is never reached ends with what was counted and what came."""
    with pytest.raises(errors.SourceUnavailable, match="5 rows, of which 1 came"):
        list(every(lambda limit, offset: Listed(({"id": 1},), 5)))


def test_list_whose_pages_never_meet_is_an_error():
    """Other rows at every look: bounded, and told."""
    fresh = iter(range(10**9))

    with pytest.raises(errors.SourceUnavailable, match="faster than it can be read"):
        list(every(lambda limit, offset: Listed(tuple({"id": next(fresh)} for _ in range(limit)), 10**6)))


def test_exports_added_while_paging_do_not_double_rows(tmp_path):
    """Over HTTP: three exports are made between any two pages of 250."""
    store = ExportStore()
    for number in range(250):
        store.add("text/csv", NOW - timedelta(minutes=number))

    def grow(seen) -> None:
        if seen.endpoint == "exports":
            for _ in range(3):
                store.add("image/png", NOW)

    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW, exports=store, on_request=grow) as simulator:
        client = client_of(simulator, tmp_path)
        found = [
            row["id"]
            for row in every(lambda limit, offset: lookups.listed(client, 1, "exports/", limit=limit, offset=offset))
        ]
        asked = simulator.count("exports")

    assert len(found) == len(set(found))
    assert set(range(1, 251)) <= set(found)
    assert asked <= 4


DATASET = generate(events=3_000, start=START, end=END, seed=2, tie_sizes=(1_500,))
FILTERS = [
    pytest.param(Filters(), lambda event: True, id="none"),
    pytest.param(Filters(event="bulk import"), lambda event: event.event == "bulk import", id="event"),
    pytest.param(Filters(distinct_id="user-3"), lambda event: event.distinct_id == "user-3", id="distinct id"),
    pytest.param(
        Filters(event="purchase", properties='[{"type":"hogql","key":"distinct_id = \'user-7\'"}]'),
        lambda event: event.event == "purchase" and event.distinct_id == "user-7",
        id="event and properties",
    ),
    pytest.param(
        Filters(properties='{"key":"i","value":"700","operator":"gte"}'),
        lambda event: event.event == "bulk import" and json.loads(event.properties)["i"] >= 700,
        id="one filter over a tie larger than a page",
    ),
    pytest.param(
        Filters(person_id=DATASET.persons["user-4"].id), lambda event: event.distinct_id == "user-4", id="person"
    ),
]


@pytest.fixture(scope="module")
def simulator():
    with serve(DATASET, profile=UNLIMITED, now=lambda: NOW) as running:
        yield running


def ids(rows) -> list[str]:
    return sorted(rows["uuid"].to_pylist())


@pytest.mark.parametrize(("filters", "passes"), FILTERS)
def test_filtered_events_come_once_each(filters, passes, simulator, tmp_path):
    """Every event that passes, ties larger than a page included, and no other."""
    reader = EventsReader(client_of(simulator, tmp_path), 1, events=EventFilter(), filters=filters)

    found = [uuid for passage in lookups.passages(reader, Range(START, END)) for uuid in ids(passage.rows)]

    expected = [event.uuid for event in DATASET.events if passes(event)]
    assert sorted(found) == sorted(expected)
    assert expected


def test_group_of_filters_splits_a_tie_without_hogql_and_says_so(simulator, tmp_path):
    """A group takes no further condition of ours; what cannot be proven is named."""
    group = '{"type":"OR","values":[{"key":"i","value":"100","operator":"gte"},{"key":"nothing","operator":"is_set"}]}'
    reader = EventsReader(client_of(simulator, tmp_path), 1, events=EventFilter(), filters=Filters(properties=group))
    before = len(simulator.requests)

    passages = list(lookups.passages(reader, Range(START, END)))

    assert sum(passage.rows.num_rows for passage in passages) == 1_400
    asked = {seen.params["properties"] for seen in simulator.requests[before:] if seen.endpoint == "list"}
    assert [json.loads(one) for one in asked] == [json.loads(group)]
    assert sum(len(passage.unproven) for passage in passages) == 1


def test_second_server_lists_the_same_events(tmp_path):
    """Another server, written from the same facts by other hands: the same rows by the same filter."""
    rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain) for e in DATASET.events]
    with second_server(rows, now=lambda: NOW) as server:
        limits = dict.fromkeys(Bucket, Limit(10**6, 10**6))
        budget = Pacing(tmp_path / "state", host=server.url, key=server.key, limits=limits)
        client = Client(Source(server.url, server.key), budget, patience=FAST)
        filters = Filters(event="bulk import", properties='[{"type":"hogql","key":"distinct_id != \'user-3\'"}]')
        reader = EventsReader(client, 1, events=EventFilter(), filters=filters)
        found = [uuid for passage in lookups.passages(reader, Range(START, END)) for uuid in ids(passage.rows)]

    named = [event for event in DATASET.events if event.event == "bulk import" and event.distinct_id != "user-3"]
    assert sorted(found) == sorted(event.uuid for event in named)
    assert len(found) > 1_000


BAD = [
    pytest.param(Filters(properties='[{"type":"hogql","key":"nonsense("}]'), id="broken HogQL"),
    pytest.param(Filters(properties='[{"frobnicate":1}]'), id="unknown key"),
    pytest.param(Filters(person_id="nobody"), id="no uuid of a person"),
]


@pytest.mark.parametrize("filters", BAD)
def test_bare_500_of_the_users_filter_is_told_as_such(filters, simulator, tmp_path):
    """Not retried for minutes: a question that works without the filters is refused as a question."""
    before = simulator.count("list")

    with pytest.raises(errors.BadQuestion, match="without"):
        lookups.tried(client_of(simulator, tmp_path), 1, filters)

    assert simulator.count("list") - before <= 3


@pytest.mark.parametrize("text", ['"x"', "3", "{", "null"])
def test_properties_that_are_no_filters_cannot_be_built(text):
    """Bad JSON and JSON of another kind are refused before anything is asked."""
    with pytest.raises(ValueError, match=r"expected|Expecting"):
        Filters(properties=text)


def test_server_that_ignores_where_and_select_is_found_out(simulator, tmp_path):
    """Rows come although none can pass; ordinary rows come although columns were asked."""
    client, rng = client_of(simulator, tmp_path), Range(START, END)

    page = lookups.page_request(1, rng, Filters(select=("uuid",)), limit=5, offset=None, csv=False)
    assert lookups.ignores_where(client, 1, rng, Filters(where=("event = 'x'",)))
    assert lookups.selected(client, page) is None


VALUES = [
    pytest.param(b'[{"name":"a"},{"name":"b"}]', ("a", "b"), False, id="bare list of older servers"),
    pytest.param(b'{"results":[{"name":"a","n":1}],"refreshing":true}', ("a",), True, id="object"),
    pytest.param(b"[]", (), False, id="none"),
]


@pytest.mark.parametrize(("body", "values", "refreshing"), VALUES)
def test_values_come_in_two_shapes(body, values, refreshing):
    """Newer servers wrap the list and tell when it is old."""
    assert lookups.values_of(body) == lookups.Values(values, refreshing)


@pytest.mark.parametrize("body", [b"<html>", b'{"results":1}', b'[{"no":1}]', b"3"])
def test_values_of_another_shape_are_refused(body):
    """What is no list of names is told, not shown."""
    with pytest.raises(errors.UnusableAnswer):
        lookups.values_of(body)


def test_numbers_of_properties_are_asked_as_they_were_given():
    """With their digits; a text is itself, and no JSON."""
    given = exact.loads(b'{"a": 1.10, "b": [1e400, 7], "c": "1.10"}')
    request = lookups.values_request(1, "k", events=[], value=None, column=False, properties=given, csv=False)

    assert request.params[1:4] == (("properties_a", "1.10"), ("properties_b", "[1e400, 7]"), ("properties_c", "1.10"))


@pytest.mark.parametrize("profile", [UNLIMITED, OLD_2023], ids=["cloud", "1.43"])
def test_values_are_asked_in_their_own_bucket(profile, tmp_path):
    """Both servers' answers are read; the request counts against the values' limit alone."""
    yesterday = NOW - timedelta(days=1)
    wanted = Event("00000000-0000-4000-8000-000000000001", "buy", "ann", yesterday, '{"plan":"Pro","a":"x","b":"y"}')
    another = Event("00000000-0000-4000-8000-000000000002", "buy", "ann", yesterday, '{"plan":"Prime","a":"z","b":"y"}')
    with serve(Dataset([wanted, another]), profile=profile, now=lambda: NOW) as simulator:
        client = client_of(simulator, tmp_path)
        request = lookups.values_request(
            1, "plan", events=["buy"], value="pr", column=False, properties={"a": ["x"], "b": "y"}, csv=False
        )
        found = lookups.values_of(client.send(request).body)
        sent = simulator.requests[-1].params

    assert found.values == ("Pro",)
    assert (sent["properties_a"], sent["properties_b"]) == ('["x"]', "y")
    assert client.requests.keys() == {Bucket.VALUES}
