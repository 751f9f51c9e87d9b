"""POST /query (facts/posthog-api.md §10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from extractors.simulator.data.dataset import EPOCH, MICROSECOND, Dataset, Person
from extractors.simulator.profiles import OLD_2023, PROFILES
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


OF_THE_YEARS = [("old_2023", 400), ("server_2023_12", 400), ("cloud", 200), ("self_hosted", 200)]


@pytest.mark.parametrize(("name", "status"), OF_THE_YEARS)
@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("toDateTime64('2026-07-01 11:00:00', 6, 'UTC')", id="toDateTime64"),
        pytest.param("uniqExact(uuid, event, distinct_id)", id="uniqExact of several"),
        pytest.param("toStartOfHour(timestamp, 'UTC')", id="zone of an hour"),
        pytest.param("sumWithOverflow(length(event))", id="sumWithOverflow"),
    ],
)
def test_functions_are_those_of_the_server(expression, name, status):
    """What servers of 2026 allow, those of 2023 refuse with 400: functions, and numbers of arguments."""
    with served(event(1, ago(hours=1)), profile=PROFILES[name]) as client:
        assert ask(client, f"SELECT {expression} AS x FROM events LIMIT 1").status_code == status


NOWHERE = (
    "cityHash64",
    "sipHash64",
    "MD5",
    "hex",
    "reinterpretAsUInt64",
    "toUnixTimestamp64Micro",
    "xxHash64",
    "crc32",
)


@pytest.mark.parametrize("name", ["old_2023", "server_2023_12"])
@pytest.mark.parametrize("function", NOWHERE)
def test_functions_that_a_real_server_of_2023_refused_are_refused(function, name):
    """Every function that was tried on a real server and is not on its list."""
    with served(profile=PROFILES[name]) as client:
        answer = ask(client, f"SELECT {function}(event) FROM events LIMIT 1")

    assert (answer.status_code, answer.json()["detail"][: 27 + len(function)]) == (
        400,
        f"Unsupported function call '{function}",
    )


def test_refused_function_is_answered_in_the_server_s_words():
    """The refusal names the closest allowed function, and too many arguments are counted."""
    with served(profile=OLD_2023) as client:
        unknown = ask(client, "SELECT toDateTime64('2026-07-01', 6, 'UTC') LIMIT 1").json()
        several = ask(client, "SELECT uniqExact(uuid, event, distinct_id) FROM events LIMIT 1").json()

    detail = "Unsupported function call 'toDateTime64(...)'. Perhaps you meant 'toDateTime(...)'?"
    assert unknown == {"type": "validation_error", "code": "invalid_input", "detail": detail, "attr": None}
    assert several["detail"] == "Aggregation 'uniqExact' expects 1 argument, found 3"


ZONED = [
    pytest.param("2026-10-25 01:00:00.123456Z", "2026-10-25T01:00:00.123456", id="Z is UTC"),
    pytest.param("2026-10-25 01:00:00.123456", "2026-10-24T23:00:00.123456", id="no Z is the project's zone"),
]


@pytest.mark.parametrize("name", ["old_2023", "server_2023_12", "cloud"])
@pytest.mark.parametrize(("text", "expected"), ZONED)
def test_text_is_read_as_a_time_to_the_microsecond(text, expected, name):
    """`toDateTime('…Z')` is exact and free of the project's zone; without Z the text is the project's wall clock."""
    moment = datetime.fromisoformat(f"{expected}+00:00")
    berlin = replace(PROFILES[name], project_timezone="Europe/Berlin")
    micros = f"dateDiff('microsecond', toDateTime('1970-01-01 00:00:00.000000Z'), toDateTime('{text}'))"

    with served(event(1, moment), profile=berlin) as client:
        answer = ask(
            client, f"SELECT countIf(timestamp = toDateTime('{text}')) AS n, {micros} AS us FROM events"
        ).json()

    assert answer["results"] == [[1, (moment - EPOCH) // MICROSECOND]]
    assert answer["types"] == [["n", "UInt64"], ["us", "Nullable(Int64)"]]


@pytest.mark.parametrize(("profile", "micros"), [(OLD_2023, -1_999_999), (FREE, -1)])
def test_fraction_of_a_constant_before_1970_is_subtracted_by_old_engines(profile, micros):
    """The engine of 2023 reads 1969-12-31 23:59:59.999999 as almost a second too early."""
    first, last = "toDateTime('1970-01-01 00:00:00.000000Z')", "toDateTime('1969-12-31 23:59:59.999999Z')"

    with served(event(1, ago(hours=1)), profile=profile) as client:
        answer = ask(client, f"SELECT dateDiff('microsecond', {first}, {last}) AS us FROM events")

    assert answer.json()["results"] == [[micros]]


@pytest.mark.parametrize(("name", "shown"), [("old_2023", "11:00:00.123Z"), ("cloud", "07:00:00.123456-04:00")])
def test_datetimes_of_old_servers_are_cut_to_milliseconds(name, shown):
    """What servers of 2023 show of a time has three digits, so microseconds must be asked for as numbers."""
    with served(event(1, ago(hours=1) + timedelta(microseconds=123456)), profile=PROFILES[name]) as client:
        assert ask(client, "SELECT timestamp FROM events").json()["results"] == [[f"2026-07-01T{shown}"]]


CAPS = [
    pytest.param("old_2023", 9_999, 9_999, True, id="1.43, less than its maximum"),
    pytest.param("old_2023", 10_000, 10_000, False, id="1.43, its maximum"),
    pytest.param("server_2023_12", 49_999, 10_000, False, id="2023-12, more than its maximum"),
    pytest.param("cloud", 10_000, 10_000, True, id="cloud"),
]


@pytest.mark.parametrize(("name", "limit", "rows", "more"), CAPS)
def test_events_query_at_the_server_s_maximum_says_that_nothing_follows(name, limit, rows, more):
    """Asked for 10,000 rows or more a server of 2023 gives 10,000 and a false `hasMore: false`."""
    query = {"kind": "EventsQuery", "select": ["toString(uuid)"], "after": "all", "limit": limit}

    with served(*every(timedelta(milliseconds=1), 10_001), profile=PROFILES[name]) as client:
        answer = client.post(QUERY, json={"query": query}).json()

    assert (len(answer["results"]), answer["hasMore"]) == (rows, more)
    echo = {key: answer[key] for key in ("limit", "offset") if key in answer}
    assert echo == ({"limit": rows, "offset": 0} if name == "server_2023_12" else {})


def test_events_query_knows_the_person_of_an_event():
    """`poe.id` and `poe.properties` are the person's; nobody has the nil uuid and no properties."""
    person = Person("ann", '{"email":"ann@example.org"}', uuid="0187f9ad-d5d5-4000-9a52-000000000001")
    dataset = Dataset([event(1, ago(hours=2)), event(2, ago(hours=1), distinct_id="bob")], {"ann": person})
    query = {"kind": "EventsQuery", "select": ["poe.id", "poe.properties"], "orderBy": ["timestamp ASC"]}

    with serve(dataset, profile=OLD_2023, now=lambda: NOW) as simulator, client_of(simulator) as client:
        answer = client.post(QUERY, json={"query": query}).json()

    assert answer["results"] == [[person.id, person.properties], ["00000000-0000-0000-0000-000000000000", "{}"]]
    assert answer["types"] == ["UUID", "String"]
