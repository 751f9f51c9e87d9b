"""Requests as they leave: bounds, filters and quoting; names are data, whatever they contain."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.filters import EventFilter, Narrowing, quoted, uuid_between
from extractors.hogql import Dialect, Grid, earliest, hour_counts, identity_count, outside, probe
from extractors.request import ALL_TIME, PAGE, Bucket, Request, events_page, instant
from extractors.window import Range
from flows.report.words import in_words

START = datetime(2024, 2, 29, tzinfo=UTC)
DAY = Range(START, START + timedelta(days=1))
ALL = EventFilter()
ODD = ["it's", "'; DROP TABLE events; --", "back\\slash", "\\'", "\\", "a\nb", "naïve \U0001f994", ""]


def literal(text: str) -> str:
    """What a HogQL or ClickHouse parser reads in a quoted literal; fails where the literal ends early."""
    inside = re.fullmatch(r"'((?:[^'\\]|\\['\\])*)'", text, re.DOTALL)
    assert inside, f"not one literal: {text}"
    return re.sub(r"\\(['\\])", r"\1", inside[1])


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.one_of(st.sampled_from(ODD), st.text(alphabet="'\\a; ", max_size=8), st.text(max_size=8)))
def test_quoted_name_is_one_literal(text):
    """No name can end its literal, and it is read back as it was."""
    assert literal(quoted(text)) == text


def conditions(request: Request) -> list[str]:
    """HogQL conditions in the request's `properties`."""
    filters = json.loads(dict(request.params).get("properties", "[]"))
    assert {each["type"] for each in filters} <= {"hogql"}
    return [each["key"] for each in filters]


BOUNDS = [
    pytest.param(START, "2024-02-28T23:59:59.999999+00:00", id="midnight"),
    pytest.param(START.replace(microsecond=1), "2024-02-29T00:00:00.000000+00:00", id="one microsecond"),
    pytest.param(START.replace(hour=7), "2024-02-29T06:59:59.999999+00:00", id="whole hour"),
]


@pytest.mark.parametrize(("start", "after"), BOUNDS)
def test_events_page_asks_from_a_microsecond_before_the_start(start, after):
    """The endpoint's bounds are exclusive: `after` is start - 1 µs, `before` the end; both UTC with microseconds."""
    request = events_page(1, Range(start, DAY.end), limit=7, events=ALL)

    assert dict(request.params) == {
        "orderBy": '["timestamp"]',
        "after": after,
        "before": "2024-03-01T00:00:00.000000+00:00",
        "limit": "7",
    }
    assert (request.resource, request.bucket, request.policy) == ("events/", Bucket.LIST, PAGE)


FILTERS = [
    pytest.param(ALL, True, None, [], id="no filter"),
    pytest.param(EventFilter(("it's",)), True, "it's", [], id="one name goes as event="),
    pytest.param(EventFilter(("b", "a", "b")), True, None, ["event IN ('a', 'b')"], id="names, sorted once"),
    pytest.param(EventFilter((), ("x'",)), True, None, ["event NOT IN ('x\\'')"], id="excluded name"),
    pytest.param(EventFilter(("a",), ("b",)), True, None, ["event IN ('a') AND event NOT IN ('b')"], id="both"),
    pytest.param(EventFilter(("a", "b")), False, None, [], id="no HogQL on this server"),
    pytest.param(EventFilter(("a",)), False, "a", [], id="one name needs no HogQL"),
]


@pytest.mark.parametrize(("events", "hogql", "event", "expected"), FILTERS)
def test_events_page_sends_the_filter_as_far_as_the_server_takes_it(events, hogql, event, expected):
    """A filter is never sent in a form that lets fewer events pass than it says."""
    request = events_page(1, DAY, limit=7, events=events, hogql=hogql)

    assert dict(request.params).get("event") == event
    assert conditions(request) == expected


def test_events_page_narrows_within_the_filter():
    """A narrowed page still has the stream's own condition."""
    narrowing = Narrowing(hogql="u < 'a'", event="a", distinct_id="")

    request = events_page(1, DAY, limit=7, events=EventFilter(("a", "b")), narrowing=narrowing)

    assert conditions(request) == ["event IN ('a', 'b')", "u < 'a'"]
    assert dict(request.params)["event"] == "a"
    assert dict(request.params)["distinct_id"] == ""


IDENTITIES = [
    pytest.param(EventFilter(("a", "b")), EventFilter(("b", "a", "a")), True, id="order and repetition"),
    pytest.param(EventFilter(("a",)), EventFilter((), ("a",)), False, id="include is not exclude"),
    pytest.param(EventFilter(("a, b",)), EventFilter(("a", "b")), False, id="a comma in a name"),
    pytest.param(EventFilter(("a",)), ALL, False, id="a filter and none"),
]


@pytest.mark.parametrize(("one", "other", "same"), IDENTITIES)
def test_filter_identity_is_equal_for_equal_filters_only(one, other, same):
    """The destination refuses a changed filter by this text."""
    assert (one.identity == other.identity) is same


WORDS = [
    pytest.param(ALL, "none", id="no filter"),
    pytest.param(EventFilter(("b", "a"), ("c",)), "include 'a', 'b' and exclude 'c'", id="both"),
    pytest.param(EventFilter(exclude=tuple("gfedcba")), "exclude 'a', 'b', 'c', 'd', 'e' and 2 more", id="many"),
    pytest.param(EventFilter(('"]}',)), "include '\"]}'", id="odd name"),
]


@pytest.mark.parametrize(("events", "words"), WORDS)
def test_filter_is_said_in_words(events, words):
    """Whatever stands around its identity stays; two in one text are both replaced."""
    text = f"was {events.identity or 'none'}, is {events.identity or 'none'}"

    assert in_words(text) == f"was {words}, is {words}"


SLICES = [
    pytest.param(None, None, "", id="open"),
    pytest.param("4", None, "toString(uuid) >= '4'", id="from"),
    pytest.param(None, "8", "toString(uuid) < '8'", id="to"),
    pytest.param("4", "8", "toString(uuid) >= '4' AND toString(uuid) < '8'", id="between"),
]


@pytest.mark.parametrize(("low", "high", "expected"), SLICES)
def test_uuid_slice_is_half_open(low, high, expected):
    """Slices that share a bound share no row."""
    assert uuid_between(low, high) == expected


@pytest.mark.parametrize("events", [ALL, EventFilter(tuple(ODD)), EventFilter((), tuple(ODD))])
@pytest.mark.parametrize("ask", [hour_counts, identity_count], ids=lambda ask: ask.__name__)
def test_query_has_limit_bounds_and_filter(ask, events):
    """Every /query carries its own LIMIT (without one the server answers 100 rows), the exact range and the filter."""
    request = ask(1, DAY, events=events, dialect=Dialect.DATETIME64)
    sent = json.loads(request.body)

    hogql = sent["query"]["query"]
    assert re.search(r" LIMIT (1|50000)$", hogql)
    assert "timestamp >= toDateTime64('2024-02-29 00:00:00.000000', 6, 'UTC')" in hogql
    assert "timestamp < toDateTime64('2024-03-01 00:00:00.000000', 6, 'UTC')" in hogql
    assert events.hogql in hogql
    assert (sent["refresh"], request.bucket, request.resource) == ("force_blocking", Bucket.QUERY, "query/")


@pytest.mark.parametrize(("events", "where"), [(ALL, ""), (EventFilter(("a'",)), " WHERE event IN ('a\\'')")])
def test_earliest_has_limit_and_filter(events, where):
    """The first event of the stream, not of the project."""
    hogql = json.loads(earliest(1, events=events, dialect=Dialect.DATETIME64).body)["query"]["query"]

    assert hogql.endswith(f"FROM events{where} LIMIT 1")


HOURS = ((1, timedelta(hours=1)),)
PROBED = (
    "SELECT d, intDiv(t, 3600000000) AS s, count() AS k, sum(x) AS sx, sum(t) AS st, "
    "sum(modulo(x, 1000003) * modulo(t, 1000003)) AS sxt, sum(modulo(x, 1000003) * n) AS sxn, "
    "sum(modulo(m, 86400000000)) AS sm, max(m) AS lm FROM (SELECT intDiv(o, 86400000000) AS d, "
    "modulo(o, 86400000000) AS t, … AS x, n, m FROM (SELECT "
    "dateDiff('microsecond', toDateTime64('2024-02-29 00:00:00.000000', 6, 'UTC'), ts) AS o, "
    "dateDiff('microsecond', toDateTime64('1970-01-01 00:00:00.000000', 6, 'UTC'), c) AS m, toString(u) AS h, "
    "length(e) + 31 * length(di) AS n FROM (SELECT uuid AS u, event AS e, distinct_id AS di, timestamp AS ts, "
    "max(created_at) AS c FROM events WHERE timestamp >= toDateTime64('2024-02-29 00:00:00.000000', 6, 'UTC') "
    "AND timestamp < toDateTime64('2024-03-01 00:00:00.000000', 6, 'UTC') GROUP BY u, e, di, ts))) "
    "GROUP BY d, s ORDER BY d, s LIMIT 25"
)


def probed(*splits: datetime) -> str:
    """The HogQL of a probe of one day's hours, without the ten digits of the uuid."""
    request = probe(1, Grid(START, HOURS, splits), [DAY], limit=25, events=ALL, dialect=Dialect.DATETIME64)
    text: str = json.loads(request.body)["query"]["query"]
    return re.sub(r"\(position\(.*\* 1 AS x", "… AS x", text)


def test_probe_without_splits_is_a_known_text():
    """What several servers were seen to answer stays what is asked."""
    assert probed() == PROBED


def test_probe_counts_the_splits_before_each_event():
    """How many are at or before the event: by the microseconds that are there already, as a further group."""
    text = probed(START + timedelta(hours=1), START + timedelta(hours=2, microseconds=1))

    expected = PROBED.replace("n, m FROM", "n, m, if(o >= 3600000000, 1, 0) + if(o >= 7200000001, 1, 0) AS p FROM")
    expected = expected.replace("max(m) AS lm", "max(m) AS lm, p")
    assert text == expected.replace("GROUP BY d, s ORDER BY d, s", "GROUP BY d, s, p ORDER BY d, s, p")


@pytest.mark.parametrize("splits", [(START, START), (DAY.end, START)], ids=["twice the same", "descending"])
def test_splits_ascend(splits):
    """Their number before an event tells the part that it is in."""
    with pytest.raises(ValueError, match="splits"):
        Grid(START, HOURS, splits)


def test_instants_are_utc_whatever_zone_they_came_in():
    """No constant depends on the zone of the project or of the caller."""
    moment = datetime(2024, 2, 29, 1, 0, 0, 5, timezone(timedelta(hours=2)))

    assert instant(moment) == "2024-02-28T23:00:00.000005+00:00"
    assert Dialect.DATETIME64.instant(moment) == "toDateTime64('2024-02-28 23:00:00.000005', 6, 'UTC')"
    assert Dialect.DATETIME.instant(moment) == "toDateTime('2024-02-28 23:00:00.000005Z')"


FAR_AWAY = [
    pytest.param(Range(datetime(1960, 1, 1, tzinfo=UTC), datetime(1971, 1, 1, tzinfo=UTC)), id="since 1960"),
    pytest.param(Range(datetime(2026, 1, 1, tzinfo=UTC), datetime(2150, 1, 1, tzinfo=UTC)), id="until 2150"),
    pytest.param(ALL_TIME, id="all time"),
]


@pytest.mark.parametrize("rng", FAR_AWAY)
@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("ask", [hour_counts, identity_count, lambda n, r, **more: outside(n, [r], **more)])
def test_query_of_times_far_away_does_not_compare_timestamps(ask, dialect, rng):
    """The engine would look in its index of days, where days start over: microseconds are compared instead."""
    hogql = json.loads(ask(1, rng, events=EventFilter(), dialect=dialect).body)["query"]["query"]

    assert re.findall(r"(?:timestamp|ts) *[<>]", hogql) == []
    assert set(re.findall(r"'(\d{4})-", hogql)) <= {"1970", "2026"}
