"""What real servers refuse, lose or cannot serve, so that hedgerow is tested against it (docs/contributing.md)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import EPOCH, MICROSECOND, Dataset
from extractors.simulator.profiles import CLOUD, OLD_2023, PROFILES, SELF_HOSTED, SERVER_2023_12
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import (
    ASCENDING,
    LIST,
    NOW,
    SERVER_ERROR,
    ago,
    ask,
    client_of,
    event,
    every,
    numbers,
    served,
    where,
)

OF_1968, OF_1970, OF_2026, OF_2100, OF_2150 = (
    event(number, datetime(year, 3, 1, tzinfo=UTC)) for number, year in enumerate((1968, 1970, 2026, 2100, 2150), 1)
)
AGES = (OF_1968, OF_1970, OF_2026, OF_2100, OF_2150)
BOUNDS = [
    pytest.param("1970-01-01", "2149-06-06T23:59:59.999999", [2, 3, 4], id="all of the days that have a number"),
    pytest.param("1969-12-31T23:59:59.999999", "1980-01-01", [2], id="the last microsecond of 1969"),
    pytest.param("1969-12-31T23:59:59", "1980-01-01", [], id="the last second of 1969"),
    pytest.param("1969-12-30", "1980-01-01", [], id="1969"),
    pytest.param("1960-01-01", "2100-12-31", [], id="1960"),
    pytest.param("1960-01-01", "1969-12-31", [1], id="both bounds before 1970"),
    pytest.param("2020-01-01", "2149-01-01", [3, 4], id="2149"),
    pytest.param("2020-01-01", "2149-06-07", [], id="the first day without a number"),
    pytest.param("2020-01-01", "2151-01-01", [], id="2151"),
    pytest.param("2149-12-01", "2151-01-01", [5], id="both bounds behind 2149"),
]


@pytest.mark.parametrize("profile", [OLD_2023, SERVER_2023_12], ids=["1.43", "2023-12"])
@pytest.mark.parametrize(("after", "before", "expected"), BOUNDS)
def test_bound_outside_the_engine_s_days_leaves_events_out(after, before, expected, profile):
    """Days have numbers of 16 bits: a bound before 1970 or from 2149-06-07 on excludes what it should not, status 200."""
    with served(*AGES, profile=profile) as client:
        assert numbers(client.get(LIST, params={"after": after, "before": before, "orderBy": ASCENDING})) == expected


def test_bound_outside_the_engine_s_days_does_not_bother_a_query():
    """POST /query compares the times themselves, so it does find what the list leaves out."""
    hogql = "SELECT count() AS n FROM events WHERE timestamp > toDateTime('1960-01-01 00:00:00.000000Z')"

    with served(*AGES, profile=OLD_2023) as client:
        assert ask(client, hogql).json()["results"] == [[5]]


NUL = event(2, ago(hours=2), distinct_id="a\0b")
LISTED = event(2, ago(hours=2), properties='["no","object"]')
POISONED = [
    pytest.param(NUL, OLD_2023, id="NUL in a distinct id, 1.43"),
    pytest.param(NUL, SERVER_2023_12, id="NUL in a distinct id, 2023-12"),
    pytest.param(LISTED, OLD_2023, id="properties no object, 1.43"),
    pytest.param(LISTED, CLOUD, id="properties no object, cloud"),
]
FIRST, THIRD = event(1, ago(hours=3), name="first"), event(3, ago(hours=1), name="third")
ASKED = [
    pytest.param({}, 500, id="everything"),
    pytest.param({"limit": 1, "orderBy": ASCENDING, "after": ago(hours=2, minutes=1).isoformat()}, 500, id="alone"),
    pytest.param({"limit": 1, "orderBy": ASCENDING, "after": ago(hours=1, minutes=1).isoformat()}, 200, id="behind"),
    pytest.param({"before": ago(hours=2).isoformat()}, 200, id="before"),
    pytest.param({"event": "third"}, 200, id="another event"),
    pytest.param({"event": "seen"}, 500, id="its event"),
    pytest.param(where(type="hogql", key="toString(uuid) < '00000000-0000-4000-8000-000000000002'"), 200, id="slice"),
    pytest.param(where(type="hogql", key="toString(uuid) >= '00000000-0000-4000-8000-000000000002'"), 500, id="its"),
    pytest.param({"format": "csv"}, 500, id="as CSV"),
]


@pytest.mark.parametrize(("poisoned", "profile"), POISONED)
@pytest.mark.parametrize(("params", "status"), ASKED)
def test_page_with_a_row_that_cannot_be_served_is_a_bare_500(params, status, poisoned, profile):
    """Whatever range, limit or filter includes the row fails, each time; whatever does not is served."""
    with served(FIRST, poisoned, THIRD, profile=profile) as client:
        answers = [client.get(LIST, params=params) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, status]
    assert status == 200 or "format" in params or answers[0].json() == SERVER_ERROR


@pytest.mark.parametrize(
    ("profile", "poisoned", "status"),
    [(OLD_2023, NUL, 500), (OLD_2023, LISTED, 200), (SELF_HOSTED, NUL, 200), (SELF_HOSTED, LISTED, 200)],
)
def test_row_behind_the_limit_counts_where_its_person_is_looked_up(profile, poisoned, status):
    """Servers of 2023 look up the person of the row that only tells of more; properties are read of shown rows."""
    with served(FIRST, poisoned, profile=profile) as client:
        answer = client.get(LIST, params={"limit": 1, "orderBy": ASCENDING, "after": "2026-01-01"})

    assert answer.status_code == status


@pytest.mark.parametrize(("poisoned", "profile"), POISONED)
def test_look_up_of_a_row_that_cannot_be_served_is_a_bare_500(poisoned, profile):
    """One event by its uuid, too; what queries say of it is not concerned."""
    with served(FIRST, poisoned, profile=profile) as client:
        statuses = [client.get(f"{LIST}{one.uuid}/").status_code for one in (FIRST, poisoned)]
        counted = ask(client, "SELECT count() FROM events WHERE properties.x = 'y' OR 1 = 1").json()["results"]
        values = client.get(f"{LIST}values/", params={"key": "x", "event_name": "seen"}).status_code

    assert (statuses, counted, values) == ([200, 500], [[2]], 200)


def test_either_copy_may_come_first():
    """Unmerged copies of one event come in whatever order, and nothing in the list tells which is the later."""
    dataset = Dataset([event(1, ago(hours=1), properties='{"copy":1}')])
    dataset.copy(["00000000-0000-4000-8000-000000000001"], properties='{"copy":2}')

    with serve(dataset, profile=OLD_2023, now=lambda: NOW) as simulator, client_of(simulator) as client:
        orders = {tuple(row["properties"]["copy"] for row in client.get(LIST).json()["results"]) for _ in range(20)}

    assert orders == {(1, 2), (2, 1)}


@pytest.mark.parametrize("order", ["later last", "later first"])
def test_merged_copies_leave_the_later_created(order):
    """Merging keeps the copy with the later `created_at`, whichever was inserted last."""
    ids = ["00000000-0000-4000-8000-000000000001"]
    dataset = Dataset([event(1, ago(hours=1), properties='{"copy":0}')])
    for copy, age in ((1, 50), (2, 10)) if order == "later last" else ((2, 10), (1, 50)):
        dataset.copy(ids, properties=f'{{"copy":{copy}}}', created_at=ago(minutes=age))
    assert [row["properties"] for row in dataset.truth().to_pylist()] == ['{"copy":2}']

    dataset.merge()

    assert [one.properties for one in dataset.events] == ['{"copy":2}']


def test_created_at_in_a_query_tells_which_copy_is_later():
    """POST /query shows every unmerged copy with its own `created_at`."""
    dataset = Dataset([event(1, ago(hours=1), properties='{"copy":1}')])
    dataset.copy([dataset.events[0].uuid], properties='{"copy":2}', created_at=ago(minutes=5))
    micros = "dateDiff('microsecond', toDateTime('1970-01-01 00:00:00.000000Z'), created_at)"

    with serve(dataset, profile=OLD_2023, now=lambda: NOW) as simulator, client_of(simulator) as client:
        rows = ask(client, f"SELECT properties AS p, {micros} AS c FROM events ORDER BY c").json()["results"]

    created = (ago(hours=1) + timedelta(seconds=2), ago(minutes=5))
    assert rows == [[f'{{"copy":{n}}}', (at - EPOCH) // MICROSECOND] for n, at in enumerate(created, 1)]


HUGE = '{"f":1e400,"deep":{"list":[-1E999]},"text":"1e400","long":' + "9" * 320 + ',"fine":1e300}'
INFINITE = [
    pytest.param("cloud", HUGE, id="to the letter"),
    pytest.param("old_2023", HUGE.replace('f":1e400', 'f":Infinity').replace("-1E999", "-Infinity"), id="a word"),
]


@pytest.mark.parametrize(("name", "expected"), INFINITE)
def test_number_beyond_double_is_shown_in_the_server_s_way(name, expected):
    """A bare word that is no JSON, or untouched; texts, long integers and great numbers that fit stay as they are."""
    with served(event(1, ago(hours=1), properties=HUGE), profile=PROFILES[name]) as client:
        assert f'"properties":{expected},' in client.get(LIST).text


def test_number_beyond_double_is_null_with_a_key_that_tells():
    """The server of 2023-12 shows null, and a key beside it says of what."""
    with served(event(1, ago(hours=1), properties='{"f":1e400,"g":2}'), profile=SERVER_2023_12) as client:
        text = client.get(LIST).text

    assert json.loads(text)["results"][0]["properties"] == {"f": None, "g": 2, "f::inf": True}


@pytest.mark.parametrize("name", ["cloud", "old_2023", "server_2023_12"])
def test_properties_without_such_a_number_are_shown_to_the_letter(name):
    """A text that only looks like a great number changes nothing, not even blanks and repeated keys."""
    text = '{"id": "bbe9efc1e72525a6", "a":1e300, "a": 1E5}'

    with served(event(1, ago(hours=1), properties=text), profile=PROFILES[name]) as client:
        assert f'"properties":{text},' in client.get(LIST).text


@pytest.mark.parametrize("name", ["old_2023", "server_2023_12", "old_2021"])
@pytest.mark.parametrize(
    ("params", "detail"), [({}, "Endpoint not found."), ({"format": "csv"}, "Not found.")], ids=["JSON", "CSV"]
)
def test_absent_prefix_says_so_in_other_words_to_csv(params, detail, name):
    """What stands in for an absent endpoint renders JSON only: `format=csv` is not found there before the endpoint is."""
    with served(profile=PROFILES[name]) as client:
        answer = client.get("/api/environments/1/events/", params=params)

    assert (answer.status_code, answer.json()["detail"]) == (404, detail)


def test_csv_that_the_header_does_not_accept_is_refused_in_json():
    """`format=csv` with `Accept: application/json`: 406, with a body."""
    with served(*every(timedelta(hours=1), 2), profile=OLD_2023) as client:
        answer = client.get(LIST, params={"format": "csv"}, headers={"Accept": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
