"""The promises of the second server, each over real HTTP."""

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from . import Row, SecondServer, second_server

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIST = "/api/projects/1/events/"
QUERY = "/api/projects/1/query/"
UP = '["timestamp"]'
WIDE = {"after": "2026-11-01T00:00:00Z", "before": "2026-11-30T00:00:00Z", "orderBy": UP, "limit": "1000"}


def row(n: int, at: datetime, event: str = "e", properties: str = "{}", **rest: Any) -> Row:
    return Row(str(uuid.UUID(int=n + 1)), event, rest.pop("distinct_id", f"d{n}"), at, properties, **rest)


def ago(n: int, **span: float) -> list[Row]:
    """*n* rows at the same distance before NOW, 1 µs apart."""
    return [row(int(1e6 * sum(span.values())) + i, NOW - timedelta(**span, microseconds=i)) for i in range(n)]


@contextmanager
def served(rows: list[Row], **options: Any) -> Iterator[tuple[SecondServer, httpx.Client]]:
    options.setdefault("now", lambda: NOW)
    with (
        second_server(rows, **options) as server,
        httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}, timeout=60) as client,
    ):
        yield server, client


def ids(answer: httpx.Response) -> list[int]:
    return [uuid.UUID(one["id"]).int - 1 for one in answer.json()["results"]]


def asked(client: httpx.Client, sql: str, **more: Any) -> httpx.Response:
    return client.post(QUERY, json={"query": {"kind": "HogQLQuery", "query": sql}, **more})


def hogql(expression: str) -> str:
    return json.dumps([{"type": "hogql", "key": expression}])


@pytest.mark.parametrize("prefix", ["projects/1", "environments/1", "projects/@current"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_list_answers_under_both_prefixes(prefix, slash):
    """Both prefixes, `@current` and a missing slash lead to the same list, which carries Cloud's warning header."""
    with served([row(0, NOW)]) as (_, client):
        answer = client.get(f"/api/{prefix}/events{slash}", params=WIDE)

    assert ids(answer) == [0]
    assert answer.json()["next"] is None
    assert answer.headers["X-PostHog-Warn"] == "https://posthog.com/docs/api/events"


def test_row_has_the_keys_in_order_and_its_properties_digit_for_digit():
    """A row shows the eight keys in order, null for the person, and the very text of its properties."""
    properties = '{"big": 12345678901234567890.10, "e": 1E+2, "dup": 1, "dup": 2}'
    at = NOW + timedelta(microseconds=120)
    with served([row(0, at, properties=properties)], now=lambda: at) as (_, client):
        answer = client.get(LIST)

    assert f'"properties":{properties},"event":"e","timestamp":"2026-11-20T12:00:00.000120+00:00"' in answer.text
    found = answer.json()["results"][0]
    assert list(found) == [
        *("id", "distinct_id", "properties", "event", "timestamp", "person", "elements", "elements_chain")
    ]
    assert found["person"] is None


def test_timestamp_without_microseconds_has_no_fraction():
    """The fraction is left out when it is zero."""
    with served([row(0, NOW)]) as (_, client):
        assert client.get(LIST).json()["results"][0]["timestamp"] == "2026-11-20T12:00:00+00:00"


def test_elements_are_parsed_from_the_chain():
    """Elements come out of the chain as recorded from the real server; a `;` inside a text splits nothing."""
    chain = 'a.b.c:attr__id="x"attr_id="x"nth-child="3"text="Buy \\"now\\"; ok";body:nth-of-type="1"'
    with served([row(0, NOW, elements_chain=chain)]) as (_, client):
        first, second = client.get(LIST).json()["results"][0]["elements"]

    assert (first["tag_name"], first["attr_class"], first["nth_child"]) == ("a", ["b", "c"], 3)
    assert (first["text"], first["attributes"]) == ('Buy \\"now\\"; ok', {"attr__id": "x"})
    assert (second["tag_name"], second["nth_of_type"], second["order"]) == ("body", 1, 1)


@pytest.mark.parametrize("order", [UP, '["-timestamp"]'])
def test_both_bounds_are_exclusive_to_the_microsecond(order):
    """A row at exactly `after` or `before` is outside, one microsecond further in is inside."""
    rows = [row(i, NOW + timedelta(microseconds=i)) for i in range(5)]
    params = {"after": rows[0].timestamp.isoformat(), "before": rows[4].timestamp.isoformat(), "orderBy": order}
    with served(rows) as (_, client):
        assert sorted(ids(client.get(LIST, params=params))) == [1, 2, 3]


@pytest.mark.parametrize(
    ("order", "first", "moved"),
    [
        pytest.param('["-timestamp"]', 2, "before", id="newest first"),
        pytest.param(UP, 0, "after", id="oldest first"),
        pytest.param('["event"]', 0, "after", id="other column"),
        pytest.param('["timestamp","uuid"]', 0, "after", id="two columns"),
        pytest.param('["-timestamp","uuid"]', 0, "before", id="the broken cursor"),
    ],
)
def test_next_repeats_the_parameters_and_moves_one_bound(order, first, moved):
    """Only exactly `["-timestamp"]` descends; `next` is the same request from the last row's time on."""
    rows = [row(i, NOW - timedelta(seconds=3 - i)) for i in range(3)]
    with served(rows) as (server, client):
        answer = client.get(LIST, params={"limit": "1", "orderBy": order, "x": "ü"})

    assert ids(answer) == [first]
    following = httpx.URL(answer.json()["next"])
    assert str(following).startswith(server.url + LIST)
    assert following.params["x"] == "ü"
    assert following.params[moved] == rows[first].timestamp.isoformat()


def test_limit_defaults_to_100_and_is_clamped_to_1000():
    """More than 1,000 rows are never given, without a word; 100 without a limit or with a silly one."""
    with served([row(i, NOW - timedelta(microseconds=i)) for i in range(1200)]) as (_, client):
        counts = {limit: len(ids(client.get(LIST, params={"limit": limit}))) for limit in ("", "5000", "0", "-1")}
        refused = client.get(LIST, params={"limit": "x"})

    assert counts == {"": 100, "5000": 1000, "0": 100, "-1": 100}
    assert refused.status_code == 500


def test_ties_overflow_a_page_and_change_their_order():
    """Rows of one instant come in another order each time, and `next` loses those that did not fit."""
    with served([row(i, NOW) for i in range(250)]) as (_, client):
        first, again = (client.get(LIST, params={"orderBy": UP, "after": "2026-11-19"}) for _ in range(2))
        rest = client.get(first.json()["next"])

    assert ids(first) != ids(again)
    assert rest.json() == {"next": None, "results": []}


def test_newest_first_answers_null_next_inside_the_probed_window():
    """Half a page in the last minute ends the search: `next` is null although older rows exist."""
    params = {"after": "2026-11-20T00:00:00Z", "before": NOW.isoformat(), "limit": "100"}
    with served([*ago(50, seconds=30), *ago(400, hours=2)]) as (_, client):
        down = client.get(LIST, params=params)
        up = client.get(LIST, params={**params, "orderBy": UP, "limit": "1000"})

    assert (len(ids(down)), down.json()["next"]) == (50, None)
    assert len(ids(up)) == 450


def test_newest_first_reads_the_whole_range_when_no_window_holds_half_a_page():
    """Fewer rows than half a page are the complete rest of the range."""
    params = {"after": "2026-11-10T00:00:00Z", "before": NOW.isoformat(), "limit": "100"}
    with served([*ago(20, seconds=30), *ago(20, days=5)]) as (_, client):
        assert len(ids(client.get(LIST, params=params))) == 40


def test_newest_first_remembers_the_window_that_worked():
    """The same request can use another window later: the one remembered from a request of its shape."""
    params = {"after": "2026-11-20T00:00:00Z", "before": NOW.isoformat()}
    with served([*ago(10, seconds=30), *ago(90, minutes=50)]) as (_, client):
        counts = [len(ids(client.get(LIST, params={**params, "limit": limit}))) for limit in ("20", "100", "21")]

    # 20: a minute holds half a page. 100: it takes an hour. 21: a minute would do, the hour is tried first.
    assert counts == [10, 100, 21]


def test_without_after_the_last_24_hours_are_listed_and_the_future_is_hidden():
    """The default range is 24 h up to 5 s from now."""
    spans = [timedelta(hours=-25), timedelta(hours=-23), timedelta(seconds=4), timedelta(seconds=6)]
    with served([row(i, NOW + span) for i, span in enumerate(spans)]) as (_, client):
        assert ids(client.get(LIST, params={"orderBy": UP})) == [1, 2]
        assert ids(client.get(LIST, params={"orderBy": UP, "before": "2026-11-19T12:30:00Z"})) == [0]


@pytest.mark.parametrize(("after", "status"), [("2025-11-19", 200), ("2025-11-18", 500)])
def test_range_over_366_days_is_a_bare_500(after, status):
    """A range over 366 days fails without saying why."""
    with served([]) as (server, client):
        answer = client.get(LIST, params={"after": after, "before": "2026-11-20", "orderBy": UP})

    assert answer.status_code == status
    if status == 500:
        detail = "A server error occurred."
        assert answer.json() == {"type": "server_error", "code": "error", "detail": detail, "attr": None}
        assert "too long" in server.errors[0]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        pytest.param("2026-11-20T01:00:00.000001+02:00", "2026-11-19T23:00:00.000001", id="offset"),
        pytest.param("2026-11-19T23:00:00", "2026-11-20T02:30:00", id="project zone"),
        pytest.param("2026-11-1", "2026-11-01T02:30:00", id="day, summer time"),
        pytest.param("2026-11-02", "2026-11-02T03:30:00", id="day, winter time"),
        pytest.param("-3h", "2026-11-20T09:00:00", id="hours"),
        pytest.param("-1m", "2026-10-20T12:00:00", id="month"),
        pytest.param("garbage", "2026-11-20T12:00:00", id="garbage is now"),
        pytest.param("2026-11-19T23:00:00 00:00", "2026-11-20T12:00:00", id="lost plus is now"),
    ],
)
def test_after_is_read_without_ever_failing(text, utc):
    """Naive times are the project's, relative ones count from now, and what cannot be read is silently now."""
    start = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    rows = [row(0, start), row(1, start + timedelta(microseconds=1))]
    with served(rows) as (_, client):
        answer = client.get(LIST, params={"after": text, "before": "2026-11-20T12:00:01Z", "orderBy": UP})

    assert ids(answer) == [1]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({"event": "a"}, [0, 1], id="event"),
        pytest.param({"event": ""}, [0, 1, 2], id="empty event is ignored"),
        pytest.param({"distinct_id": "u"}, [1, 2], id="distinct_id"),
        pytest.param({"distinct_id": ""}, [], id="empty distinct_id filters"),
        pytest.param({"person_id": "7"}, [], id="nobody is known"),
        pytest.param({"select": '["event"]', "where": '["0"]'}, [0, 1, 2], id="not read"),
        pytest.param({"properties": '[{"key":"k","value":"2"}]'}, [1], id="exact"),
        pytest.param({"properties": '[{"key":"k","value":[1,2]}]'}, [0, 1], id="any of"),
        pytest.param({"properties": '[{"key":"k","value":1,"operator":"gt"}]'}, [1], id="gt"),
        pytest.param({"properties": '[{"key":"k","operator":"is_not_set"}]'}, [2], id="not set"),
        pytest.param(
            {"properties": '{"type":"OR","values":[{"key":"k","value":1},{"type":"hogql","key":"event = \'b\'"}]}'},
            [0, 2],
            id="group",
        ),
        pytest.param({"properties": hogql("toInt(properties.k) > 1")}, [1], id="hogql property"),
        pytest.param({"properties": hogql("created_at >= toDateTime('2026-11-21T00:00:00+00:00')")}, [2], id="arrival"),
        pytest.param(
            {"properties": hogql("timestamp > toDateTime('2026-11-20T11:59:59.999999+00:00')")}, [0], id="µs in hogql"
        ),
        pytest.param({"properties": hogql("timestamp > '2026-11-20 08:29:59.5'")}, [0], id="project zone in hogql"),
    ],
)
def test_filters_select(params, expected):
    """Event, distinct id, property and HogQL filters narrow the list; unread parameters do not."""
    rows = [
        row(0, NOW, "a", '{"k": 1}'),
        row(1, NOW - timedelta(seconds=1), "a", '{"k": 2}', distinct_id="u"),
        row(2, NOW - timedelta(seconds=2), "b", distinct_id="u", created_at=NOW + timedelta(days=1)),
    ]
    with served(rows) as (server, client):
        answer = client.get(LIST, params={**WIDE, **params})

    assert sorted(ids(answer)) == expected, server.errors


def test_hogql_slices_part_a_tie():
    """Sixteen slices by hash of the uuid hold every row of one instant exactly once."""
    with served([row(i, NOW) for i in range(300)]) as (_, client):
        slices = [
            ids(client.get(LIST, params={**WIDE, "properties": hogql(f"cityHash64(uuid) % 16 = {i}")}))
            for i in range(16)
        ]

    assert sorted(sum(slices, [])) == list(range(300))  # noqa: RUF017


@pytest.mark.parametrize(
    ("properties", "allowed"),
    [(hogql("nosuch(1)"), True), (hogql("1"), False), ('[{"key":"k","surprise":1}]', True)],
)
def test_refused_property_filters_are_a_bare_500(properties, allowed):
    """A HogQL error, HogQL switched off and an unknown filter key are not explained."""
    with served([row(0, NOW)], hogql_filter_allowed=allowed) as (_, client):
        assert client.get(LIST, params={"properties": properties}).status_code == 500


def test_properties_that_are_not_json_are_a_400():
    """Bad JSON in `properties` is the one parameter error that is explained."""
    with served([]) as (_, client):
        answer = client.get(LIST, params={"properties": "{bad"})

    shown = {"type": "validation_error", "code": "invalid_input", "detail": "Properties are unparsable!", "attr": None}
    assert (answer.status_code, answer.json()) == (400, shown)


@pytest.mark.parametrize(
    ("method", "path", "header", "status", "code"),
    [
        ("GET", LIST, "", 401, "not_authenticated"),
        ("GET", LIST, "Bearer phx_wrong", 401, "authentication_failed"),
        ("GET", "/api/projects/2/events/", "Bearer phx_second", 404, "not_found"),
        ("GET", "/api/projects/x/events/", "Bearer phx_second", 404, "not_found"),
        ("GET", "/api/nothing/", "Bearer phx_second", 404, "not_found"),
        ("POST", LIST, "Bearer phx_second", 405, "method_not_allowed"),
    ],
)
def test_refusals_have_posthogs_error_object(method, path, header, status, code):
    """Who is not let in learns why in type, code, detail and attr."""
    with served([]) as (_, client):
        answer = client.request(method, path, headers={"Authorization": header})

    assert (answer.status_code, answer.json()["code"], answer.json()["attr"]) == (status, code, None)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_detail_shows_one_row_or_says_why_not():
    """One event answers in the list's shape, by any spelling of its uuid; else 404, or 400 without `attr`."""
    with served([row(0, NOW)]) as (server, client):
        found = client.get(f"{LIST}{uuid.UUID(int=1).hex.upper()}/")
        missing = client.get(f"{LIST}{uuid.UUID(int=9)}/")
        bad = client.get(f"{LIST}abc/")
        listed = client.get(LIST)

    assert found.json() == listed.json()["results"][0]
    assert missing.json()["detail"] == f"No events exist for event UUID {uuid.UUID(int=9)}"
    assert bad.json() == {"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}
    assert (server.statuses, server.list_requests) == ([200, 404, 400, 200], 1)


def test_third_list_at_once_is_a_500():
    """Two lists may run at once; a third meanwhile is a bare 500."""
    inside, opened, first_two = threading.Semaphore(0), threading.Event(), threading.Semaphore(2)

    def now() -> datetime:
        if first_two.acquire(blocking=False):
            inside.release()
            assert opened.wait(30)
        return NOW

    with served([row(0, NOW)], now=now) as (_, client), ThreadPoolExecutor() as pool:
        running = [pool.submit(client.get, LIST) for _ in range(2)]
        assert all(inside.acquire(timeout=30) for _ in running)
        third = client.get(LIST)
        opened.set()
        first, second = (one.result() for one in running)

    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 500)


def test_throttle_slides_and_says_when_to_come_back():
    """Refused requests do not count, list and detail share a bucket, POST query has its own."""
    clock = [NOW]
    with served([row(0, NOW)], now=lambda: clock[0], per_minute=2, per_hour=3) as (_, client):
        assert client.get(LIST).status_code == 200
        clock[0] += timedelta(seconds=20.5)
        assert client.get(f"{LIST}abc/").status_code == 400
        refused = client.get(LIST)
        other = asked(client, "SELECT 1")
        clock[0] += timedelta(seconds=40)
        assert client.get(LIST).status_code == 200
        for_an_hour = client.get(LIST)

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "40")
    assert refused.json()["detail"] == "Request was throttled. Expected available in 40 seconds."
    assert other.status_code == 200
    assert for_an_hour.headers["Retry-After"] == "3540"


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ("429", 429, "application/json"),
        ("500", 500, "application/json"),
        ("502html", 502, "text/html"),
        ("503", 503, "application/json"),
        ("504", 504, "application/json"),
    ],
)
def test_fault_hits_the_request_it_was_planned_for(fault, status, content_type):
    """The n-th list request fails as planned, those around it do not."""
    with served([], faults={2: fault}) as (server, client):
        answers = [client.get(LIST) for _ in range(3)]

    assert server.statuses == [200, status, 200]
    assert answers[1].headers["Content-Type"] == content_type
    assert answers[1].headers.get("Retry-After") == ("1" if fault == "429" else None)


def test_cut_answer_ends_before_its_announced_length():
    """A cut answer announces more bytes than it sends, and the next request is served again."""
    with served([row(0, NOW)], faults={1: "cut"}) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(LIST)
        assert ids(client.get(LIST)) == [0]


def test_date_is_the_servers_clock_and_gzip_is_by_request():
    """`Date` follows the given clock; bodies are compressed only for those who accept it."""
    with served([row(i, NOW) for i in range(50)]) as (_, client):
        packed = client.get(LIST)
        plain = client.get(LIST, headers={"Accept-Encoding": "identity"})

    assert packed.headers["Date"] == "Fri, 20 Nov 2026 12:00:00 GMT"
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert sorted(ids(packed)) == sorted(ids(plain))


def test_query_without_limit_answers_100_rows():
    """A forgotten LIMIT cuts silently at 100, a given one is honoured up to 50,000, one inside does not count."""
    with served([row(i, NOW) for i in range(150)]) as (_, client):
        forgotten = asked(client, "SELECT uuid FROM events ORDER BY uuid").json()
        inside = asked(client, "SELECT uuid FROM (SELECT uuid FROM events LIMIT 120)").json()
        given = asked(client, "SELECT uuid FROM events LIMIT 120").json()
        huge = asked(client, "SELECT number FROM numbers(60000) LIMIT 60000").json()

    assert forgotten["results"] == [[str(uuid.UUID(int=i + 1))] for i in range(100)]
    assert (forgotten["hasMore"], len(inside["results"])) == (True, 100)
    assert (len(given["results"]), len(huge["results"])) == (120, 50_000)


def test_query_is_local_where_utc_is_not_named():
    """Days and texts are the project's unless the query names 'UTC'; moments show their column's offset."""
    at = datetime(2026, 11, 20, 1, 0, 0, 5, tzinfo=UTC)
    sql = (
        "SELECT toDate(timestamp), toDate(timestamp, 'UTC'), timestamp, toTimeZone(timestamp, 'UTC'),"
        " timestamp = toDateTime64('2026-11-19 21:30:00.000005', 6),"
        " timestamp = toDateTime64('2026-11-20 01:00:00.000005', 6, 'UTC'), now() FROM events"
    )
    with served([row(0, at)]) as (_, client):
        (found,) = asked(client, sql).json()["results"]

    local, utc = "2026-11-19T21:30:00.000005-03:30", "2026-11-20T01:00:00.000005Z"
    assert found == ["2026-11-19", "2026-11-20", local, utc, 1, 1, "2026-11-20T08:30:00-03:30"]


def test_query_is_answered_from_a_cache_unless_forced():
    """`is_cached` tells; `force_blocking` asks the engine again."""
    with served([row(0, NOW)]) as (server, client):
        answers = [
            asked(client, "SELECT count() FROM events", **more) for more in ({}, {}, {"refresh": "force_blocking"})
        ]

    assert [one.json()["is_cached"] for one in answers] == [False, True, False]
    assert all(one.json()["results"] == [[1]] for one in answers)
    assert (server.query_requests, server.list_requests) == (3, 0)


def test_query_counts_identities_and_shows_only_hogqls_columns():
    """The documented count of distinct identities works, doubled rows count once; row numbers stay hidden."""
    with served([row(0, NOW), row(0, NOW), row(1, NOW)], project_id=7) as (_, client):
        sql = "SELECT count(), uniqExact(uuid, event, distinct_id, toDate(timestamp, 'UTC')), any(team_id) FROM events"
        counts = client.post("/api/environments/7/query", json={"query": {"kind": "HogQLQuery", "query": sql}}).json()
        every = client.post(
            "/api/projects/7/query/", json={"query": {"kind": "HogQLQuery", "query": "SELECT * FROM events"}}
        ).json()

    assert counts["results"] == [[3, 2, 7]]
    assert set(every["columns"]) == {
        *("uuid", "event", "properties", "timestamp", "team_id", "distinct_id", "elements_chain", "created_at")
    }


@pytest.mark.parametrize(
    ("sql", "allowed", "status"),
    [
        ("SELECT nosuch FROM events", True, 400),
        ("SELECT _timestamp FROM events", True, 400),
        ("SELECT 1 LIMIT 1 OFFSET 1", True, 400),
        ("DROP TABLE events", True, 400),
        ("SELECT 1", False, 403),
    ],
)
def test_refused_queries_say_why(sql, allowed, status):
    """What HogQL does not know, OFFSET and keys without the scope are refused in words."""
    with served([row(0, NOW)], query_allowed=allowed) as (_, client):
        answer = asked(client, sql)

    assert (answer.status_code, answer.json()["attr"]) == (status, None)


def test_stopped_server_is_gone_for_kept_connections():
    """After the block nothing answers any more, not even on a connection that was kept alive."""
    with httpx.Client() as client:
        with second_server([]) as server:
            client.get(server.url)
        with pytest.raises(httpx.TransportError):
            client.get(server.url)


EXPORTS = "/api/projects/1/exports/"
JUDGES = "/api/environments/1/evaluations/"
CSV = {"export_format": "text/csv", "insight": 1}


def test_content_lies_in_a_store_that_refuses_the_key():
    """302 to another port; the address alone gives the bytes, the key beside it or another signature an error."""
    with served([], export_content=b"a,b\r\n") as (_, client):
        made = client.post(EXPORTS, json=CSV)
        sent = client.get(f"{EXPORTS}1/content/", params={"download": "true"})
        address = httpx.URL(sent.headers["Location"])
        content = httpx.get(address)
        refused = [httpx.get(address, headers=client.headers), httpx.get(str(address)[:-1] + "x")]
        other = (address.host, address.port) != (client.base_url.host, client.base_url.port)

    assert (made.status_code, made.json()["has_content"], sent.status_code, other) == (201, True, 302, True)
    assert (content.content, content.headers["Content-Type"]) == (b"a,b\r\n", "text/csv")
    assert content.headers["Content-Disposition"] == f'attachment; filename="{made.json()["filename"]}"'
    assert [answer.status_code for answer in refused] == [400, 403]


def test_export_is_named_and_expires_as_the_facts_say():
    """The target's name and the time made; 7 days cut to midnight whatever was asked; then it is gone."""
    clock = [NOW]
    with served([], now=lambda: clock[0]) as (_, client):
        made = client.post(EXPORTS, json={**CSV, "expires_after": "2030-01-01T00:00:00Z"}).json()
        clock[0] = datetime(2026, 11, 27, tzinfo=UTC)
        listed, one = client.get(EXPORTS).json(), client.get(f"{EXPORTS}1/")

    assert made["filename"] == "export-example-insight-2026-11-20-120000.csv"
    assert made["expires_after"] == "2026-11-27T00:00:00Z"
    assert (listed["count"], one.status_code) == (0, 404)


@pytest.mark.parametrize(
    ("body", "attr", "code"),
    [
        pytest.param({}, "export_format", "required", id="no format"),
        pytest.param({"export_format": "x"}, "export_format", "invalid_choice", id="bad format"),
        pytest.param({"export_format": "text/csv"}, None, "invalid_input", id="no target"),
        pytest.param({**CSV, "insight": 77}, "insight", "does_not_exist", id="unknown insight"),
    ],
)
def test_export_that_cannot_be_is_refused(body, attr, code):
    """400 with the field and the code, and nothing is made."""
    with served([]) as (_, client):
        answer = client.post(EXPORTS, json=body)
        count = client.get(EXPORTS).json()["count"]

    assert (answer.status_code, answer.json()["attr"], answer.json()["code"], count) == (400, attr, code, 0)


def test_lists_are_paged_newest_first():
    """Following `next` gives every export once."""
    with served([]) as (_, client):
        for _ in range(5):
            client.post(EXPORTS, json=CSV)
        address, found = f"{EXPORTS}?limit=2", []
        while address:
            page = client.get(address).json()
            found.append([one["id"] for one in page["results"]])
            address = page["next"]

    assert found == [[5, 4], [3, 2], [1]]


def test_evaluation_is_deleted_softly_and_only_so():
    """DELETE: 405 and no body. PATCH hides it from list and detail; PATCH again restores it."""
    name = str(uuid.UUID(int=1))
    with served([], evaluations=[{"id": name}]) as (_, client):
        refused = client.delete(f"{JUDGES}{name}/")
        gone = client.patch(f"{JUDGES}{name}/", json={"deleted": True})
        hidden = client.get(f"{JUDGES}{name}/").status_code, client.get(JUDGES).json()["count"]
        client.patch(f"{JUDGES}{name}/", json={"deleted": False})
        back = client.get(f"{JUDGES}{name}/").status_code

    assert (refused.status_code, refused.content, "Content-Type" in refused.headers) == (405, b"", False)
    assert (gone.status_code, gone.json()["deleted"], hidden, back) == (200, True, (404, 0), 200)


def test_patch_changes_what_may_be_changed():
    """`enabled` drives the status, prompts are trimmed, `output_config` is merged; read-only and unknown keys are not."""
    name = str(uuid.UUID(int=1))
    change = {
        "enabled": False,
        "evaluation_config": {"prompt": " Is it? "},
        "output_config": {"true_is_failure": True},
        "status": "error",
        "created_at": "x",
        "shoe": 43,
    }
    with served([], evaluations=[{"id": name, "created_at": "2026-01-01T00:00:00Z"}]) as (_, client):
        row = client.patch(f"{JUDGES}{name}/", json=change).json()
        empty = client.patch(f"{JUDGES}{name}/", json={"evaluation_config": {"prompt": " "}})

    assert (row["enabled"], row["status"], row["evaluation_config"]) == (False, "paused", {"prompt": "Is it?"})
    assert row["output_config"] == {"allows_na": False, "true_is_failure": True}
    assert (row["created_at"], row["updated_at"], "shoe" in row) == (
        "2026-01-01T00:00:00Z",
        "2026-11-20T12:00:00Z",
        False,
    )
    assert (empty.status_code, empty.json()["attr"]) == (400, "config")


VALUES = [
    row(0, NOW, properties='{"plan":"Pro","tags":["b","a"],"n":33,"ok":true}'),
    row(1, NOW, properties='{"plan":"Enterprise Pro","n":34}'),
    row(2, NOW, event="other", properties='{"plan":"Other"}'),
    row(3, NOW - timedelta(days=9), properties='{"plan":"Old"}'),
]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        pytest.param({"key": "plan"}, ["Enterprise Pro", "Pro"], id="of the event and the last week"),
        pytest.param(
            {"key": "plan", "event_name": ["e", "other"]}, ["Enterprise Pro", "Other", "Pro"], id="two events"
        ),
        pytest.param({"key": "plan", "value": "eNTER"}, ["Enterprise Pro"], id="part, any case"),
        pytest.param({"key": "tags"}, ["a", "b"], id="lists are taken apart"),
        pytest.param({"key": "ok"}, ["true"], id="booleans are texts"),
        pytest.param({"key": "distinct_id", "is_column": "true"}, ["d0", "d1"], id="column"),
        pytest.param({"key": "plan", "properties_n": "33"}, ["Pro"], id="filter"),
        pytest.param({"key": "none"}, [], id="no such property"),
    ],
)
def test_values_are_suggested(asked, names):
    """Distinct texts of the events named."""
    with served(VALUES) as (_, client):
        answer = client.get(f"{LIST}values/", params={"event_name": "e", **asked})

    assert sorted(one["name"] for one in answer.json()["results"]) == names
    assert (answer.json()["refreshing"], answer.headers["Cache-Control"]) == (False, "max-age=10")


@pytest.mark.parametrize("asked", [{"event_name": "e"}, {"key": "plan"}])
def test_values_need_a_key_and_an_event(asked):
    """400 without either."""
    with served(VALUES) as (_, client):
        assert client.get(f"{LIST}values/", params=asked).status_code == 400


def test_values_are_ten_and_shorter_matches_come_first():
    """Never more than ten; with a part, the shorter first."""
    rows = [row(n, NOW, properties=json.dumps({"p": "x" * (20 - n)})) for n in range(15)]
    with served(rows) as (_, client):
        found = client.get(f"{LIST}values/", params={"event_name": "e", "key": "p", "value": "X"}).json()["results"]

    assert [len(one["name"]) for one in found] == list(range(6, 16))


@pytest.mark.parametrize(
    ("sql", "now", "then"),
    [
        pytest.param("toDateTime64('2026-11-20 12:00:00', 6, 'UTC')", 200, 400, id="toDateTime64"),
        pytest.param("dateDiff('microsecond', toDateTime('2026-11-20 12:00:00.5Z'), timestamp)", 200, 200, id="with Z"),
        pytest.param("uniqExact(uuid, event, distinct_id)", 200, 400, id="uniqExact of several"),
        pytest.param("uniqExact((uuid, event, distinct_id))", 200, 200, id="uniqExact of a tuple"),
        pytest.param("cityHash64(event)", 200, 400, id="cityHash64"),
        pytest.param("sipHash64(event)", 400, 400, id="sipHash64"),
        pytest.param("'cityHash64(x)'", 200, 200, id="a text that looks like a call"),
    ],
)
def test_only_hogqls_functions_reach_the_engine(sql, now, then):
    """What ClickHouse knows and HogQL does not is refused, in a query with a reason and in a filter with a bare 500."""
    for older, status in ((False, now), (True, then)):
        with served([row(0, NOW)], older=older) as (_, client):
            answer = asked(client, f"SELECT {sql} AS x FROM events LIMIT 1")
            filtered = client.get(LIST, params={**WIDE, "properties": hogql(f"toString({sql}) != ''")})
        assert (answer.status_code, older) == (status, older), answer.text
        assert filtered.status_code == (500 if status == 400 or "uniq" in sql else 200)


def test_older_server_refuses_a_newer_function_in_its_own_words():
    """The words are those that were recorded."""
    with served([row(0, NOW)], older=True) as (_, client):
        answer = asked(client, "SELECT count() FROM events WHERE timestamp >= toDateTime64('2026-11-20', 6, 'UTC')")

    assert (
        answer.json()["detail"] == "Unsupported function call 'toDateTime64(...)'. Perhaps you meant 'toDateTime(...)'?"
    )


OLD = [row(0, datetime(1970, 1, 1, tzinfo=UTC)), row(1, NOW), row(2, datetime(2150, 6, 1, tzinfo=UTC))]


@pytest.mark.parametrize(
    ("after", "before", "found"),
    [
        pytest.param("1969-12-31T23:59:59.999999Z", "1980-01-01T00:00:00Z", [0], id="recorded: the last microsecond"),
        pytest.param("1969-12-30T00:00:00Z", "1980-01-01T00:00:00Z", [], id="recorded: 1969-12-30"),
        pytest.param("2026-11-01T00:00:00Z", "2149-01-01T00:00:00Z", [1], id="recorded: 2149"),
        pytest.param("2026-11-01T00:00:00Z", "2150-01-01T00:00:00Z", [], id="recorded: 2150"),
        pytest.param("2026-11-01T00:00:00Z", "2149-06-07T00:00:00Z", [], id="the first day too many"),
        pytest.param("2149-12-01T00:00:00Z", "2151-01-01T00:00:00Z", [2], id="both beyond"),
    ],
)
def test_bounds_beyond_the_index_lose_rows_of_an_older_server(after, before, found):
    """The index numbers days with 16 bits, and a bound that overflows hides rows without a word."""
    params = {"after": after, "before": before, "orderBy": UP}
    with served(OLD, older=True) as (_, client):
        assert ids(client.get(LIST, params=params)) == found


POISON = [
    pytest.param(row(1, NOW, distinct_id="a\0b"), True, id="NUL, older"),
    pytest.param(row(1, NOW, properties="[]"), True, id="no object, older"),
    pytest.param(row(1, NOW, properties="[]"), False, id="no object, now"),
]


@pytest.mark.parametrize(("poison", "older"), POISON)
def test_row_that_cannot_be_served_makes_each_page_with_it_a_500(poison, older):
    """Any page that shows the row is a bare 500, as is its detail; others are not, and queries count it."""
    rows = [row(0, NOW - timedelta(hours=1)), poison, row(2, NOW + timedelta(hours=1), event="other")]
    with served(rows, older=older) as (_, client):
        pages = [
            client.get(LIST, params={**WIDE, **more}).status_code
            for more in (
                {},
                {"event": "e"},
                {"event": "other"},
                {"before": NOW.isoformat()},
                {"after": NOW.isoformat()},
            )
        ]
        details = [client.get(f"{LIST}{one.uuid}").status_code for one in rows]
        counted = asked(client, "SELECT count() AS n FROM events").json()["results"]

    assert (pages, details, counted) == ([500, 500, 200, 200, 200], [200, 500, 200], [[3]])


def test_older_server_has_projects_only_and_pages_of_10_000():
    """No prefix of environments, and a larger page than today's."""
    rows = [row(i, NOW - timedelta(microseconds=i)) for i in range(1100)]
    with served(rows, older=True) as (_, client):
        assert client.get("/api/environments/1/events/").status_code == 404
        assert len(ids(client.get(LIST, params={**WIDE, "limit": "5000"}))) == 1100


def test_rows_are_exchanged_while_it_runs():
    """List, detail and query tell of the new rows alone, but for what the cache answers, until the next exchange."""
    count = "SELECT count() FROM events"
    with served([row(0, NOW), row(1, NOW)]) as (server, client):
        told = [ids(client.get(LIST)), asked(client, count).json()["results"]]
        server.hold([row(2, NOW)])
        then = [ids(client.get(LIST)), asked(client, count).json()["results"]]
        fresh = asked(client, count, refresh="force_blocking").json()["results"]
        gone = client.get(f"{LIST}{uuid.UUID(int=1)}").status_code

    assert sorted(told[0]) == [0, 1]
    assert (told[1], then, fresh, gone) == ([[2]], [[2], [[2]]], [[1]], 404)


@pytest.mark.parametrize("older", [False, True])
def test_pages_may_be_smaller_than_anybody_says(older):
    """A larger limit is clamped without a word, and `next` goes on from the last row shown."""
    with served([row(i, NOW - timedelta(seconds=i)) for i in range(9)], older=older, most_rows=4) as (_, client):
        page = client.get(LIST, params=WIDE)
        other = client.get(page.json()["next"])

    assert (ids(page), ids(other)) == ([8, 7, 6, 5], [4, 3, 2, 1])


def test_whoever_is_told_of_a_request_acts_before_it_is_answered():
    """The hook has the endpoint and the number of the list or query; rows that it exchanges are those of the answer."""
    told: list[tuple[str, int]] = []

    def exchange(endpoint: str, number: int) -> None:
        told.append((endpoint, number))
        server.hold([row(number, NOW)])

    with served([], before_answer=exchange) as (server, client):
        shown = [ids(client.get(LIST)) for _ in range(2)]
        counted = asked(client, "SELECT count() FROM events").json()["results"]

    assert (shown, counted, told) == ([[1], [2]], [[1]], [("events", 1), ("events", 2), ("query", 1)])


@pytest.mark.parametrize(
    ("older", "asked_for", "listed"), [(False, {}, False), (False, {"include_person": "true"}, True), (True, {}, True)]
)
def test_persons_are_shown_where_they_are_asked_for(older, asked_for, listed):
    """An older server's list shows them in any case; a detail only when asked; who is not known is null."""
    ann = {"is_identified": True, "distinct_ids": ["ann"], "properties": {"email": "ann@example.com"}}
    rows = [row(0, NOW, distinct_id="ann"), row(1, NOW - timedelta(seconds=1))]
    with served(rows, older=older, persons={"ann": ann}) as (_, client):
        found = client.get(LIST, params=asked_for).json()["results"]
        one = client.get(f"{LIST}{rows[0].uuid}", params=asked_for).json()

    assert [shown["person"] for shown in found] == [ann if listed else None, None]
    assert one["person"] == (ann if asked_for else None)
