"""What a list request answers: bounds, order, pages, `next` and rows (facts/posthog-api.md §0, §1)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from extractors.simulator.data.dataset import Dataset, Person
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import (
    ASCENDING,
    FREE,
    LIST,
    NOW,
    SERVER_ERROR,
    ago,
    client_of,
    event,
    every,
    numbers,
    served,
)

BIG = '{"big":123456789012345678901234567890,"a":1,"a":2,"zero":-0.0,"e":1E5,"nul":"a\\u0000b","ü": [ 1 ]}'


@pytest.fixture(scope="module")
def hourly() -> Iterator[httpx.Client]:
    """An event at each half past from 00:30 to 12:30 of NOW's day, numbered by the hour."""
    midnight = NOW.replace(hour=0)
    with served(*(event(hour, midnight + timedelta(hours=hour, minutes=30)) for hour in range(13))) as client:
        yield client


@pytest.mark.parametrize("order", [ASCENDING, '["-timestamp"]'])
def test_bounds_are_exclusive_at_both_ends(order):
    """An event at the very microsecond of `after` or `before` is not in the answer."""
    events = [event(number, ago(hours=1) + timedelta(microseconds=number)) for number in range(4)]
    bounds = {"after": events[0].timestamp.isoformat(), "before": events[3].timestamp.isoformat()}

    with served(*events) as client:
        answer = client.get(LIST, params=bounds | {"orderBy": order})

    assert sorted(numbers(answer)) == [1, 2]


MOMENTS = [
    pytest.param("2026-07-01T10:00:00.000000+00:00", 10.0, id="utc"),
    pytest.param("2026-07-01T15:00:00+05:00", 10.0, id="another offset is converted"),
    pytest.param("2026-07-01T06:00:00", 10.0, id="naive is in the project's zone"),
    pytest.param("2026-07-01", 4.0, id="a date is midnight in the project's zone"),
    pytest.param("2026-7-1", 4.0, id="a date without zeros"),
    pytest.param("-3h", 9.0, id="relative"),
    pytest.param("no date", 12.0, id="garbage acts as now"),
    pytest.param("2026-07-01T10:00:00 00:00", 12.0, id="a plus that became a space acts as now"),
]


@pytest.mark.parametrize(("after", "hour"), MOMENTS)
def test_after_is_read_without_ever_an_error(after, hour, hourly):
    """`after` in any spelling is a moment: with its zone, in the project's zone, relative, or else now."""
    params = {"after": after, "before": "2026-07-01T13:00:00+00:00", "orderBy": ASCENDING}

    found = numbers(hourly.get(LIST, params=params))

    assert found == list(range(int(hour), 13))


def test_before_defaults_to_five_seconds_from_now():
    """Events dated into the future are hidden unless a later `before` is sent."""
    with served(event(1, NOW + timedelta(seconds=4)), event(2, NOW + timedelta(seconds=6))) as client:
        assert numbers(client.get(LIST)) == [1]
        assert numbers(client.get(LIST, params={"before": "2026-07-02T00:00:00+00:00"})) == [2, 1]


def test_after_defaults_to_a_day_before_before():
    """Without `after` the answer starts 24 hours before `before`, wherever that is."""
    with served(event(1, ago(hours=23)), event(2, ago(hours=25)), event(3, ago(hours=49))) as client:
        assert numbers(client.get(LIST)) == [1]
        assert numbers(client.get(LIST, params={"before": ago(hours=24).isoformat()})) == [2]


@pytest.mark.parametrize(("days", "status"), [(366, 200), (367, 500)])
def test_range_over_366_days_is_a_bare_500(days, status, shared):
    """A range of more than 366 days fails without a reason."""
    answer = shared.get(LIST, params={"after": ago(days=days).isoformat(), "before": NOW.isoformat()})

    assert answer.status_code == status
    assert status == 200 or answer.json() == SERVER_ERROR


def test_ties_come_in_another_order_each_time():
    """Events of one microsecond have no order: two equal requests differ, the set does not."""
    with served(*(event(number, ago(hours=1)) for number in range(50))) as client:
        first, second = (numbers(client.get(LIST)) for _ in range(2))

    assert first != second
    assert sorted(first) == sorted(second) == list(range(50))


LIMITS = [({}, 100), ({"limit": 7}, 7), ({"limit": 1000}, 1000), ({"limit": 5000}, 1000), ({"limit": 0}, 100)]


@pytest.mark.parametrize(("params", "rows"), LIMITS)
def test_limit_defaults_to_100_and_is_clamped_to_1000(params, rows):
    """A page has 100 rows unless asked otherwise and never more than 1,000, silently."""
    with served(*every(timedelta(milliseconds=10), 1001)) as client:
        assert len(numbers(client.get(LIST, params=params))) == rows


def test_newest_first_ends_with_a_null_next_though_older_events_exist():
    """The first probed window with half a page is the answer, and its `next` is null while older events exist."""
    near, far = every(timedelta(seconds=1), 40), event(99, ago(hours=3))
    bounds = {"after": ago(hours=6).isoformat(), "before": NOW.isoformat()}

    with served(*near, far) as client:
        lying = client.get(LIST, params=bounds | {"limit": 60})
        honest = client.get(LIST, params=bounds | {"limit": 90})

    assert (len(numbers(lying)), lying.json()["next"]) == (40, None)
    assert 99 in numbers(honest)


@pytest.mark.parametrize(("count", "more"), [(10, False), (11, True)])
def test_oldest_first_tells_the_truth_about_more(count, more):
    """In ascending order `next` is null exactly when the whole range was answered."""
    bounds = {"after": ago(days=2).isoformat(), "orderBy": ASCENDING, "limit": 10}

    with served(*every(timedelta(hours=1), count)) as client:
        answer = client.get(LIST, params=bounds)

    assert numbers(answer) == list(range(count, count - 10, -1))
    assert (answer.json()["next"] is not None) == more


def test_following_next_loses_the_ties_at_the_boundary():
    """`next` moves past the last row's microsecond, so what shared it and did not fit is lost."""
    params = {"limit": 2, "orderBy": ASCENDING}

    with served(*(event(number, ago(hours=1)) for number in range(3)), event(9, ago(minutes=1))) as client:
        first = client.get(LIST, params=params).json()
        second = client.get(first["next"])

    assert len(first["results"]) == 2
    assert numbers(second) == [9]


MOVED = [
    pytest.param(ASCENDING, "after", 2, id="ascending"),
    pytest.param('["-timestamp"]', "before", 3, id="descending"),
    pytest.param('["-timestamp", "x"]', "before", 2, id="two columns sort ascending and move before"),
]


@pytest.mark.parametrize(("order", "moved", "last"), MOVED)
def test_next_keeps_every_parameter_and_replaces_the_bound(order, moved, last):
    """`next` is the request again, offset, unknown names and a key in the query included, with one bound moved."""
    events = every(timedelta(minutes=1), 4)
    params = {
        "orderBy": order,
        "limit": "1",
        "offset": "2",
        "after": ago(hours=1).isoformat(),
        "before": NOW.isoformat(),
        "distinct_id": "ann",
        "personal_api_key": "phx_simulator",
        "unknown": "ä&b",
    }

    with served(*events) as client:
        found = client.get(LIST, params=params).json()["next"]
        address = f"{client.base_url}"

    assert found.startswith(f"{address}{LIST}?")
    assert dict(parse_qsl(urlsplit(found).query)) == params | {moved: events[last - 1].timestamp.isoformat()}


def test_repeated_parameters_collapse_to_the_last():
    """Of a parameter sent twice the last counts, and only that is in `next`."""
    with served(*every(timedelta(seconds=1), 5)) as client:
        answer = client.get(f"{LIST}?limit=3&limit=2")

    assert numbers(answer) == [1, 2]
    assert parse_qs(urlsplit(answer.json()["next"]).query)["limit"] == ["2"]


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "2026-07-01T11:00:00+00:00"), (40, "2026-07-01T11:00:00.000040+00:00")]
)
def test_timestamp_has_six_digits_or_none(micros, text):
    """A whole second is written without a fraction, anything else with six digits."""
    with served(event(1, ago(hours=1) + timedelta(microseconds=micros))) as client:
        assert client.get(LIST).json()["results"][0]["timestamp"] == text


@pytest.mark.parametrize("path", [LIST, f"{LIST}00000000-0000-4000-8000-000000000001/"])
def test_properties_come_to_the_letter(path):
    """The text of the properties is not parsed on its way: long integers, doubled keys and spaces stay."""
    with served(event(1, ago(hours=1), properties=BIG)) as client:
        assert f'"properties":{BIG},' in client.get(path).text


def test_row_has_its_keys_in_order():
    """A body is `next`, `results`; a row has eight keys in the server's order and no person."""
    keys = ["id", "distinct_id", "properties", "event", "timestamp", "person", "elements", "elements_chain"]

    with served(event(1, ago(hours=1))) as client:
        answer = client.get(LIST)

    assert list(answer.json()) == ["next", "results"]
    assert list(answer.json()["results"][0]) == keys
    assert answer.json()["results"][0]["person"] is None
    assert answer.headers["X-PostHog-Warn"] == "https://posthog.com/docs/api/events"


def test_list_is_compressed_only_when_asked():
    """`Accept-Encoding: gzip` gives a gzip body, `identity` the same body plain."""
    with served(*every(timedelta(minutes=1), 20)) as client:
        with client.stream("GET", LIST, headers={"Accept-Encoding": "gzip"}) as answer:
            packed = b"".join(answer.iter_raw())
        plain = client.get(LIST, headers={"Accept-Encoding": "identity"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content


@pytest.mark.parametrize(
    ("params", "known"), [({}, False), ({"include_person": "true"}, True), ({"include_person": "1"}, True)]
)
def test_person_is_null_unless_asked_for(params, known):
    """`person` is filled on request only, with the first distinct id, and null for an id that nobody knows."""
    persons = {"ann": Person("ann@first", '{"email":"ann@example.com"}')}
    filled = {"is_identified": True, "distinct_ids": ["ann@first"], "properties": {"email": "ann@example.com"}}
    dataset = Dataset([event(1, ago(hours=1)), event(2, ago(hours=2), distinct_id="nobody")], persons)

    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator, client_of(simulator) as client:
        listed = client.get(LIST, params=params).json()["results"]
        detail = client.get(f"{LIST}{listed[0]['id']}", params=params).json()

    assert [row["person"] for row in (*listed, detail)] == ([filled, None, filled] if known else [None] * 3)


def test_elements_are_parsed_from_the_chain():
    """A row with a chain shows its elements, one object each, beside the chain itself."""
    chained = replace(event(1, ago(hours=1)), elements_chain='a.btn:href="/x"text="Go";body:nth-child="2"')

    with served(chained) as client:
        row = client.get(LIST).json()["results"][0]

    assert row["elements_chain"] == chained.elements_chain
    assert [(one["tag_name"], one["text"], one["order"]) for one in row["elements"]] == [
        ("a", "Go", 0),
        ("body", None, 1),
    ]


def test_offset_costs_its_wait():
    """Any offset makes the server pause; without one, or with zero, it does not."""
    with served(*every(timedelta(minutes=1), 3), profile=replace(FREE, offset_wait_s=0.3)) as client:
        waits = [client.get(LIST, params={"offset": offset}).elapsed.total_seconds() > 0.3 for offset in (0, 1)]

    assert waits == [False, True]
