"""POST /query (facts/posthog-api.md §10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from extractors.simulator.dataset import Dataset
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import FREE, NOW, QUERY, ago, ask, client_of, event, every, served


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
        client = client_of(simulator)
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


REFUSALS = [
    pytest.param(403, "permission_denied", "API key missing required scope 'query:read'", id="no scope"),
    pytest.param(404, "not_found", "Endpoint not found.", id="no endpoint"),
    pytest.param(500, "error", "A server error occurred.", id="broken"),
]


@pytest.mark.parametrize(("status", "code", "detail"), REFUSALS)
def test_query_that_is_switched_off_says_so_in_three_ways(status, code, detail):
    """A key without `query:read`, a server without the endpoint, and one where it fails are told apart."""
    with served(profile=replace(FREE, query_allowed=False, query_refused_with=status)) as client:
        answer = ask(client, "SELECT 1")

    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (status, code, detail)


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

    assert by_utc_hour == [["2026-07-01T02:00:00Z", 1], ["2026-07-01T03:00:00Z", 1]]
    assert by_own_hour == [["2026-07-01T08:00:00+05:30", 2]]
    assert by_utc_day == [["2026-07-01", 2]]


def test_query_answer_has_the_keys_of_a_real_one(shared):
    """Beside rows and columns an answer tells types, the query as asked, and as run with its implicit limit."""
    answer = ask(shared, "SELECT event, count() AS n FROM events GROUP BY event ORDER BY event").json()

    assert set(answer) == {"clickhouse", "columns", "hasMore", "hogql", "is_cached", "query", "results", "types"}
    assert answer["query"] == "SELECT event, count() AS n FROM events GROUP BY event ORDER BY event"
    assert answer["hogql"] == f"{answer['query']} LIMIT 100"
    assert answer["types"] == [["event", "String"], ["n", "UInt64"]]


def test_query_of_an_old_server_has_no_envelope():
    """In 2023 a HogQL answer told neither of more rows nor of a cache, and came from none."""
    with served(event(1, ago(hours=1)), profile=OLD_2023) as client:
        answers = [ask(client, "SELECT count() FROM events").json() for _ in range(2)]

    assert set(answers[0]) == {"clickhouse", "columns", "hogql", "query", "results", "types"}
    assert answers[0] == answers[1]


TYPED = [
    pytest.param("uuid", "UUID", id="uuid"),
    pytest.param("toString(uuid)", "String", id="text"),
    pytest.param("properties.$os", "Nullable(String)", id="property"),
    pytest.param("uniqExact((uuid, event, distinct_id))", "UInt64", id="distinct"),
    pytest.param(
        "dateDiff('microsecond', toDateTime64('1970-01-01 00:00:00', 6, 'UTC'), timestamp)", "Int64", id="number"
    ),
    pytest.param("timestamp", "DateTime64(6, 'Asia/Kolkata')", id="timestamp in the project's zone"),
    pytest.param("max(created_at)", "DateTime64(6, 'Asia/Kolkata')", id="latest"),
    pytest.param("toStartOfHour(timestamp, 'UTC')", "DateTime('UTC')", id="hour of a named zone"),
    pytest.param("toStartOfDay(timestamp)", "DateTime('Asia/Kolkata')", id="day of the project's zone"),
    pytest.param("toDate(timestamp, 'UTC')", "Date", id="date"),
    pytest.param("toFloat('1.5')", "Float64", id="float"),
]


@pytest.fixture(scope="module")
def kolkata() -> Iterator[httpx.Client]:
    with served(event(1, ago(hours=1)), profile=replace(FREE, project_timezone="Asia/Kolkata")) as client:
        yield client


@pytest.mark.parametrize(("expression", "expected"), TYPED)
def test_query_tells_the_types_of_its_columns(expression, expected, kolkata):
    """Each column has ClickHouse's type, also through the alias of an inner query."""
    plain = ask(kolkata, f"SELECT {expression} FROM events GROUP BY ALL").json()
    nested = ask(kolkata, f"SELECT x FROM (SELECT {expression} AS x FROM events GROUP BY ALL)").json()

    assert plain["types"] == [[expression, expected]]
    assert nested["types"] == [["x", expected]]


DATETIMES = [
    pytest.param("timestamp", "2026-07-01T16:30:00+05:30", id="column"),
    pytest.param("min(timestamp)", "2026-07-01T16:30:00+05:30", id="aggregate"),
    pytest.param("toStartOfHour(timestamp)", "2026-07-01T16:00:00+05:30", id="hour"),
    pytest.param("toStartOfHour(timestamp, 'UTC')", "2026-07-01T11:00:00Z", id="hour in UTC"),
    pytest.param("toDateTime('2026-07-01 16:30:00')", "2026-07-01T16:30:00+05:30", id="constant without a zone"),
    pytest.param("toDateTime64('2026-07-01 11:00:00', 6, 'UTC')", "2026-07-01T11:00:00Z", id="constant in UTC"),
]


@pytest.mark.parametrize(("expression", "expected"), DATETIMES)
def test_query_shows_datetimes_in_the_project_s_zone(expression, expected, kolkata):
    """What names no zone is read and shown in the project's; what names UTC is shown with a Z."""
    assert ask(kolkata, f"SELECT {expression} AS x FROM events GROUP BY ALL").json()["results"] == [[expected]]


def test_query_compares_with_constants_in_the_project_s_zone(kolkata):
    """A constant without a zone is the project's wall clock, one with UTC is not."""
    own = ask(kolkata, "SELECT count() FROM events WHERE timestamp = toDateTime('2026-07-01 16:30:00')")
    utc = ask(kolkata, "SELECT count() FROM events WHERE timestamp = toDateTime64('2026-07-01 11:00:00', 6, 'UTC')")

    assert (own.json()["results"], utc.json()["results"]) == ([[1]], [[1]])


def test_events_query_answers_rows_columns_and_types(kolkata):
    """An EventsQuery selects columns of the events after a relative date, newest first."""
    query = {"kind": "EventsQuery", "select": ["event", "timestamp"], "where": ["event = 'seen'"], "after": "-2h"}

    answer = kolkata.post(QUERY, json={"query": query}).json()

    assert answer["columns"] == ["event", "timestamp"]
    assert answer["results"] == [["seen", "2026-07-01T16:30:00+05:30"]]
    assert answer["types"] == ["String", "DateTime64(6, 'Asia/Kolkata')"]
    assert answer["hasMore"] is False
