"""What the simulator promises of PostHog Cloud, asked over HTTP (facts/posthog-api.md §0-§2, §5, §10)."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from extractors.simulator.dataset import Dataset, Event
from extractors.simulator.faults import KINDS, Fault, Faults
from extractors.simulator.limits import RateLimits
from extractors.simulator.profiles import CLOUD
from extractors.simulator.server import serve

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
LIST = "/api/projects/1/events/"
QUERY = "/api/projects/1/query/"
ASCENDING = '["timestamp"]'
SERVER_ERROR = {"type": "server_error", "code": "error", "detail": "A server error occurred.", "attr": None}
BIG = '{"big":123456789012345678901234567890,"a":1,"a":2,"zero":-0.0,"e":1E5,"nul":"a\\u0000b","ü": [ 1 ]}'
# Limits are off where they are not the subject.
FREE = replace(CLOUD, per_minute=None, per_hour=None, query_per_minute=None, query_per_hour=None)


def event(number: int, at: datetime, *, name: str = "seen", distinct_id: str = "ann", properties: str = "{}") -> Event:
    return Event(f"00000000-0000-4000-8000-{number:012}", name, distinct_id, at, properties)


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def every(step: timedelta, count: int) -> list[Event]:
    """*count* events, the newest *step* old, numbered from the newest."""
    return [event(number, NOW - step * number) for number in range(1, count + 1)]


@contextmanager
def served(*events: Event, **options: Any) -> Iterator[httpx.Client]:
    """A client with key and address of a simulator that serves *events* at NOW."""
    with (
        serve(Dataset(events), **{"profile": FREE, "now": lambda: NOW} | options) as simulator,
        httpx.Client(base_url=simulator.url, headers={"Authorization": f"Bearer {simulator.key}"}) as client,
    ):
        yield client


def numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [int(row["id"][-12:]) for row in answer.json()["results"]]


def ask(client: httpx.Client, hogql: str, **more: Any) -> httpx.Response:
    return client.post(QUERY, json={"query": {"kind": "HogQLQuery", "query": hogql}} | more)


FILTERED = (
    event(1, ago(hours=1), name="buy", distinct_id="ann", properties='{"price":5,"plan":"Pro","ok":true}'),
    event(2, ago(hours=2), name="buy", distinct_id="bob", properties='{"price":15}'),
    event(3, ago(hours=3), name="look", distinct_id="ann", properties='{"plan":null}'),
    event(4, ago(hours=4), name="look", distinct_id="", properties='{"plan":"free"}'),
)


@pytest.fixture(scope="module")
def shared() -> Iterator[httpx.Client]:
    """FILTERED, served once for all tables that leave nothing behind."""
    with served(*FILTERED) as client:
        yield client


@pytest.fixture(scope="module")
def hourly() -> Iterator[httpx.Client]:
    """An event at each half past from 00:30 to 12:30 of NOW's day, numbered by the hour."""
    midnight = NOW.replace(hour=0)
    with served(*(event(hour, midnight + timedelta(hours=hour, minutes=30)) for hour in range(13))) as client:
        yield client


# Bounds and times ---------------------------------------------------------------------------------------------------


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


# Order, pages, next -------------------------------------------------------------------------------------------------


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


# Rows ---------------------------------------------------------------------------------------------------------------


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


# Filters ------------------------------------------------------------------------------------------------------------


def where(**condition: Any) -> dict[str, str]:
    return {"properties": json.dumps([condition])}


FILTERS = [
    pytest.param({"event": "buy"}, [1, 2], id="event"),
    pytest.param({"event": ""}, [1, 2, 3, 4], id="empty event is ignored"),
    pytest.param({"distinct_id": "ann"}, [1, 3], id="distinct id"),
    pytest.param({"distinct_id": ""}, [4], id="empty distinct id filters"),
    pytest.param({"event": "buy", "distinct_id": "ann"}, [1], id="both"),
    pytest.param(where(key="price", value=5), [1], id="exact"),
    pytest.param(where(key="plan", value=["Pro", "free"], operator="exact"), [1, 4], id="one of"),
    pytest.param(where(key="plan", value="None", operator="exact"), [], id="null is no text"),
    pytest.param(where(key="plan", value="Pro", operator="is_not"), [2, 3, 4], id="is not"),
    pytest.param(where(key="plan", value="pr", operator="icontains"), [1], id="contains"),
    pytest.param(where(key="price", value=9, operator="gt"), [2], id="greater"),
    pytest.param(where(key="price", value=9, operator="lt", type="event"), [1], id="less"),
    pytest.param(where(key="plan", value="is_set", operator="is_set"), [1, 4], id="set"),
    pytest.param(where(key="ok", value="true"), [1], id="boolean"),
    pytest.param(
        where(type="AND", values=[{"key": "price", "value": 5}, {"key": "plan", "value": "Pro"}]), [1], id="and"
    ),
    pytest.param(where(type="hogql", key="event = 'look' and distinct_id = 'ann'"), [3], id="hogql"),
    pytest.param(
        where(type="hogql", key="uuid > toUUID('00000000-0000-4000-8000-000000000002')"), [3, 4], id="hogql on uuid"
    ),
    pytest.param({"select": '["count()"]', "where": '["1=0"]'}, [1, 2, 3, 4], id="select and where have no effect"),
]


def test_filters_keep_what_matches(subtests, shared):
    """Each filter keeps the matching events, newest first."""
    for case in FILTERS:
        params, expected = case.values
        with subtests.test(case.id):
            assert numbers(shared.get(LIST, params=params)) == expected


REFUSED = [
    pytest.param({"properties": "[{"}, 400, "Properties are unparsable!", id="bad properties"),
    pytest.param({"offset": "50001"}, 400, "Offset is deprecated. Max supported offset value is 50000", id="offset"),
    pytest.param({"limit": "x"}, 500, "A server error occurred.", id="limit is no number"),
    pytest.param({"orderBy": "timestamp"}, 500, "A server error occurred.", id="order is not JSON"),
    pytest.param(where(type="hogql", key="nonsense("), 500, "A server error occurred.", id="bad HogQL"),
]


@pytest.mark.parametrize(("params", "status", "detail"), REFUSED)
def test_bad_parameters_are_refused_as_the_server_does(params, status, detail, shared):
    """What the server checks is a 400 with a reason, what it does not check a 500 without."""
    kind = ("validation_error", "invalid_input") if status == 400 else ("server_error", "error")

    answer = shared.get(LIST, params=params)

    assert answer.status_code == status
    assert answer.json() == {"type": kind[0], "code": kind[1], "detail": detail, "attr": None}


# One event, values --------------------------------------------------------------------------------------------------


def test_event_by_uuid_is_the_row_of_the_list():
    """The detail answers the same row as the list, whatever the event's age."""
    with served(event(1, ago(hours=1))) as client:
        listed = client.get(LIST).json()["results"][0]
        assert client.get(f"{LIST}{listed['id']}").json() == listed


def test_event_by_uuid_fails_in_two_shapes(shared):
    """What is no UUID is a 400 without `attr`, an unknown UUID a 404."""
    unknown = "00000000-0000-4000-8000-00000000ffff"

    bad, missing = shared.get(f"{LIST}zz"), shared.get(f"{LIST}{unknown}")

    assert (bad.status_code, missing.status_code) == (400, 404)
    assert bad.json() == {"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}
    detail = f"No events exist for event UUID {unknown}"
    assert missing.json() == {"type": "invalid_request", "code": "not_found", "detail": detail, "attr": None}


def test_values_are_at_most_ten_suggestions():
    """Values are ten distinct texts of one event at most, filtered by a part in any case."""
    events = [event(number, ago(minutes=number), properties=f'{{"n":"V{number % 15}"}}') for number in range(30)]

    with served(*events) as client:
        some = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen"})
        one = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen", "value": "v14"})
        without_key = client.get(f"{LIST}values", params={"event_name": "seen"})
        without_event = client.get(f"{LIST}values", params={"key": "n"})

    assert len({row["name"] for row in some.json()["results"]}) == 10
    assert some.headers["Cache-Control"] == "max-age=10"
    assert one.json() == {"results": [{"name": "V14"}], "refreshing": False}
    assert (without_key.status_code, without_key.json()["detail"]) == (400, "You must provide a key")
    assert without_event.status_code == 400


# Keys, addresses, limits --------------------------------------------------------------------------------------------

KEYS = [
    pytest.param("", "not_authenticated", "Authentication credentials were not provided.", id="none"),
    pytest.param(
        "Bearer phx_wrong",
        "authentication_failed",
        "Personal API key found in request Authorization header is invalid.",
        id="wrong",
    ),
]


@pytest.mark.parametrize(("header", "code", "detail"), KEYS)
def test_without_the_key_everything_is_401(header, code, detail, shared):
    """A missing and a wrong key are told apart, both as 401 with a challenge."""
    answer = shared.get(LIST, headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json() == {"type": "authentication_error", "code": code, "detail": detail, "attr": None}
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("path", ["/api/projects/2/events/", "/api/projects/x/events/"])
def test_another_project_is_404(path, shared):
    """A project that is not there, or no number, is a 404 that says so."""
    answer = shared.get(path)

    assert answer.status_code == 404
    assert answer.json() == {
        "type": "invalid_request",
        "code": "not_found",
        "detail": "Project not found.",
        "attr": None,
    }


def test_both_prefixes_answer_with_or_without_a_slash():
    """`environments` and `projects` are the same list; the slash at the end is optional."""
    paths = [f"/api/{prefix}/1/events{slash}" for prefix in ("environments", "projects") for slash in ("", "/")]

    with served(event(1, ago(hours=1))) as client:
        assert [numbers(client.get(path)) for path in paths] == [[1]] * 4


def test_wrong_method_is_405(shared):
    """The list only answers GET."""
    answer = shared.post(LIST)

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_rate_limit_tells_when_to_come_again_and_forgets_refused_requests(monkeypatch):
    """Over the limit is 429 with the seconds until the oldest counted request leaves; refused ones never count."""
    clock = [1000.0]
    monkeypatch.setattr("extractors.simulator.server.RateLimits", partial(RateLimits, clock=lambda: clock[0]))
    seen = []

    with served(profile=replace(CLOUD, per_minute=2)) as client:
        for at in (0.0, 10.0, 22.5, 59.0, 60.0, 61.0, 70.0):
            clock[0] = 1000.0 + at
            answer = client.get(LIST)
            seen.append((answer.status_code, answer.headers.get("Retry-After")))
            if at == 22.5:
                body = answer.json()
        values_bucket = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen"})

    assert seen == [(200, None), (200, None), (429, "38"), (429, "1"), (200, None), (429, "9"), (200, None)]
    detail = "Request was throttled. Expected available in 38 seconds."
    assert body == {"type": "throttled_error", "code": "throttled", "detail": detail, "attr": None}
    assert values_bucket.status_code == 200


class Gated(Dataset):
    """Answers nothing until the gate opens; tells how many requests wait at it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Semaphore(0), threading.Event()

    def between(self, after: int | None, before: int | None) -> tuple[Event, ...]:
        self.entered.release()
        assert self.gate.wait(10)
        return super().between(after, before)


def test_third_list_request_at_once_is_a_500():
    """Two list requests may run at once in a project; a third fails, and after them all is well."""
    dataset = Gated()
    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator, ThreadPoolExecutor(2) as pool:
        get = partial(httpx.get, simulator.url + LIST, headers={"Authorization": f"Bearer {simulator.key}"})
        running = [pool.submit(get) for _ in range(2)]
        try:
            assert all(dataset.entered.acquire(timeout=10) for _ in running)
            third = get()
        finally:
            dataset.gate.set()
        statuses = [future.result().status_code for future in running]
        later = get()

    assert (third.status_code, third.json()) == (500, SERVER_ERROR)
    assert (statuses, later.status_code) == ([200, 200], 200)


# Query --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "rows", "more"), [("", 100, True), (" LIMIT 120", 120, False), (" LIMIT 999", 150, False)]
)
def test_query_without_a_limit_has_100_rows(limit, rows, more):
    """A query that names no LIMIT answers 100 rows and says that there are more."""
    with served(*every(timedelta(minutes=1), 150)) as client:
        answer = ask(client, f"SELECT uuid FROM events{limit}").json()

    assert (len(answer["results"]), answer["hasMore"], answer["columns"]) == (rows, more, ["uuid"])


def test_query_is_cached_unless_blocking_is_forced():
    """The same query again answers from the cache, also after new events; `force_blocking` reads anew."""
    dataset, hogql = Dataset(every(timedelta(minutes=1), 3)), "SELECT count() FROM events"
    seen = []

    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator:
        client = httpx.Client(base_url=simulator.url, headers={"Authorization": f"Bearer {simulator.key}"})
        for more in ({}, {}, {"refresh": "force_blocking"}, {}):
            answer = ask(client, hogql, **more).json()
            seen.append((answer["results"][0][0], answer["is_cached"]))
            dataset.add([event(10 + len(seen), ago(hours=1))])
        client.close()

    assert seen == [(3, False), (3, True), (5, False), (5, True)]


FORBIDDEN = [
    pytest.param("SELECT cityHash64(uuid) FROM events", id="function"),
    pytest.param("SELECT count() FROM read_csv('x')", id="function of the engine"),
    pytest.param("SELECT uuid FROM events LIMIT 1 OFFSET 1", id="offset"),
    pytest.param("SELECT nothing FROM events", id="unknown column"),
]


@pytest.mark.parametrize("hogql", FORBIDDEN)
def test_query_that_is_not_allowed_is_400(hogql, shared):
    """Functions outside HogQL's list, OFFSET and unknown columns are refused with a reason."""
    answer = ask(shared, hogql)

    assert (answer.status_code, answer.json()["type"], answer.json()["attr"]) == (400, "validation_error", None)


def test_query_without_the_scope_is_403():
    """A key without `query:read` is told which scope is missing."""
    with served(profile=replace(FREE, query_allowed=False)) as client:
        answer = ask(client, "SELECT 1")

    assert (answer.status_code, answer.json()["detail"]) == (403, "API key missing required scope 'query:read'")


def test_query_counts_by_hour_of_the_named_zone():
    """Hours and days are UTC's when the query names UTC, and the project's when it names none."""
    events = [event(1, datetime(2026, 7, 1, 2, 40, tzinfo=UTC)), event(2, datetime(2026, 7, 1, 3, 10, tzinfo=UTC))]
    zoned = replace(FREE, project_timezone="Asia/Kolkata")

    def counted(client: httpx.Client, bucket: str) -> list[list[object]]:
        return ask(client, f"SELECT {bucket} AS b, count() FROM events GROUP BY b ORDER BY b").json()["results"]

    with served(*events, profile=zoned) as client:
        by_utc_hour, by_own_hour = (
            counted(client, "toStartOfHour(timestamp, 'UTC')"),
            counted(client, "toStartOfHour(timestamp)"),
        )
        by_utc_day = counted(client, "toDate(timestamp, 'UTC')")

    assert by_utc_hour == [["2026-07-01 02:00:00+00:00", 1], ["2026-07-01 03:00:00+00:00", 1]]
    assert [count for _, count in by_own_hour] == [2]
    assert by_utc_day == [["2026-07-01", 2]]


# Faults -------------------------------------------------------------------------------------------------------------

STATUSES = [
    ("429", 429, "application/json", "1"),
    ("500", 500, "application/json", None),
    ("502", 502, "text/html", None),
    ("503", 503, "application/json", None),
    ("503-after", 503, "application/json", "1"),
    ("504", 504, "application/json", None),
    ("504-html", 504, "text/html", None),
]


@pytest.mark.parametrize(("kind", "status", "content_type", "retry_after"), STATUSES)
def test_fault_fails_the_planned_request_only(kind, status, content_type, retry_after):
    """The second request meets the fault in its form; the first and the third do not."""
    with served(faults=Faults([Fault(kind, at=(2,))])) as client:
        first, second, third = (client.get(LIST) for _ in range(3))

    assert (first.status_code, second.status_code, third.status_code) == (200, status, 200)
    assert second.headers["Content-Type"].split(";")[0] == content_type
    assert second.headers.get("Retry-After") == retry_after


def test_cut_ends_the_connection_within_the_body():
    """A cut answer declares its whole length and ends half way."""
    with served(*every(timedelta(minutes=1), 20), faults=Faults([Fault("cut", at=(1,))])) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(LIST)
        assert len(numbers(client.get(LIST))) == 20


def test_cut_gzip_is_whole_for_http_and_broken_for_gzip():
    """A cut gzip body has the length it declares, so that only its checksum tells."""
    with (
        served(*every(timedelta(minutes=1), 20), faults=Faults([Fault("cut-gzip", at=(1,))])) as client,
        client.stream("GET", LIST, headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        packed = b"".join(answer.iter_raw())

    assert len(packed) == int(answer.headers["Content-Length"])
    with pytest.raises(EOFError):
        gzip.decompress(packed)


def test_every_fault_has_its_test():
    """No kind of fault is left out above."""
    assert {kind for kind, *_ in STATUSES} | {"cut", "cut-gzip"} == set(KINDS)


def test_fault_of_another_endpoint_does_not_touch_the_list():
    """A fault names its endpoint; `any` means all."""
    plan = Faults([Fault("500", endpoint="query", at=(1,)), Fault("503", endpoint="any", at=(2,))])

    with served(faults=plan) as client:
        listed = [client.get(LIST).status_code for _ in range(2)]
        queried = [ask(client, "SELECT 1").status_code for _ in range(2)]

    assert (listed, queried) == ([200, 503], [500, 503])
