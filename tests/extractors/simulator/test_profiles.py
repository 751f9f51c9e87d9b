"""What tells one server from another, asked over HTTP (facts/posthog-api.md §1.2, §8; facts/posthog-observed.md)."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset, Person
from extractors.simulator.profiles import (
    CLOUD,
    OLD_2021,
    OLD_2023,
    PROFILES,
    SELF_HOSTED,
    TIMEZONE_FAULT,
    Profile,
)
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import (
    ASCENDING,
    LIST,
    NOW,
    QUERY,
    ago,
    ask,
    client_of,
    event,
    every,
    numbers,
    served,
)


def test_profiles_have_names():
    """A profile is found by the name that users give, and cannot be changed."""
    assert set(PROFILES) == {"cloud", "self_hosted", "timezone_fault", "old_2023", "server_2023_12", "old_2021"}
    assert PROFILES["cloud"] is CLOUD
    with pytest.raises(FrozenInstanceError):
        CLOUD.page_cap = 1  # type: ignore[misc]


@pytest.mark.parametrize("parts", [{"page_cap": 0}, {"prefixes": ()}, {"project_timezone": "Mars/Base"}])
def test_profile_that_no_server_has_is_refused(parts):
    """A profile checks itself when it is made."""
    with pytest.raises((ValueError, KeyError)):
        Profile(**parts)


CAPS = [("cloud", 1_000), ("self_hosted", 50_000), ("old_2023", 10_000), ("old_2021", 10_000)]


@pytest.mark.parametrize(("name", "cap"), CAPS)
def test_limit_is_clamped_to_the_server_s_cap(name, cap):
    """Each server has its own largest page, silently."""
    with served(*every(timedelta(milliseconds=1), cap + 1), profile=PROFILES[name]) as client:
        answer = client.get(LIST, params={"limit": 100_000, "orderBy": ASCENDING}).json()

    assert len(answer["results"]) == cap
    assert answer["next"]


@pytest.mark.parametrize("name", ["self_hosted", "old_2023", "old_2021"])
def test_self_hosted_server_limits_no_rate(name):
    """More requests than Cloud allows in a minute are all answered."""
    with served(event(1, ago(minutes=1)), profile=PROFILES[name]) as client:
        assert {client.get(LIST, params={"limit": 1}).status_code for _ in range(241)} == {200}


LOWER = [
    pytest.param("cloud", {}, [1], id="cloud"),
    pytest.param("self_hosted", {}, [1, 2, 3], id="self-hosted has no bound"),
    pytest.param("old_2023", {}, [1, 2, 3], id="2023 asks again, the page was not full"),
    pytest.param("old_2023", {"limit": 1}, [1], id="2023 has a full page of the day"),
    pytest.param("old_2023", {"limit": 1, "orderBy": ASCENDING}, [1], id="2023 has it ascending, too"),
    pytest.param("old_2023", {"limit": 2, "orderBy": ASCENDING}, [3, 2], id="2023 asks again ascending"),
    pytest.param("old_2023", {"after": ago(days=30).isoformat()}, [1, 2], id="2023 does not with a given bound"),
    pytest.param("old_2021", {}, [1, 2, 3], id="2021 asks again"),
]


@pytest.mark.parametrize(("name", "params", "expected"), LOWER)
def test_default_range_is_the_server_s_own(name, params, expected):
    """Without `after`: the last day, everything, or the last day first and then everything."""
    events = (event(1, ago(hours=1)), event(2, ago(days=20)), event(3, ago(days=900)))

    with served(*events, profile=PROFILES[name]) as client:
        rows = client.get(LIST, params=params).json()["results"]

    assert [row["timestamp"][:10] for row in rows] == [
        f"{events[number - 1].timestamp:%Y-%m-%d}" for number in expected
    ]


def test_full_day_hides_older_events_in_2023():
    """As many events in the last day as the limit: `next` is null although older ones exist."""
    with served(event(1, ago(hours=1)), event(2, ago(days=3)), profile=OLD_2023) as client:
        answer = client.get(LIST, params={"limit": 1}).json()

    assert (len(answer["results"]), answer["next"]) == (1, None)


@pytest.mark.parametrize(("name", "status"), [("cloud", 500), ("self_hosted", 200), ("old_2023", 200)])
def test_range_of_years_is_only_refused_by_cloud(name, status):
    """Self-hosted servers have no longest range."""
    with served(profile=PROFILES[name]) as client:
        answer = client.get(LIST, params={"after": "2000-01-01"})

    assert answer.status_code == status


BOUNDS = [
    pytest.param("cloud", [1], id="cloud converts"),
    pytest.param("old_2023", [], id="2023 drops"),
    pytest.param("old_2021", [1], id="2021 converts"),
]


@pytest.mark.parametrize(("name", "expected"), BOUNDS)
def test_offset_of_a_bound_is_converted_or_dropped(name, expected):
    """The same instant with another offset asks the same of one server and another of the next."""
    after = (ago(hours=2) + timedelta(hours=5)).replace(tzinfo=None).isoformat() + "+05:00"

    with served(event(1, ago(hours=1)), profile=PROFILES[name]) as client:
        rows = client.get(LIST, params={"after": after}).json()["results"]

    assert len(rows) == len(expected)


LIMITS = [
    pytest.param("cloud", 0, 200, 3, id="cloud, zero"),
    pytest.param("cloud", -1, 200, 3, id="cloud, negative"),
    pytest.param("old_2023", 0, 200, 0, id="2023, zero"),
    pytest.param("old_2023", -1, 500, 0, id="2023, negative"),
    pytest.param("old_2021", 0, 500, 0, id="2021, zero"),
    pytest.param("old_2021", -1, 500, 0, id="2021, negative"),
]


@pytest.mark.parametrize(("name", "limit", "status", "rows"), LIMITS)
def test_limit_that_is_not_positive_is_the_default_nothing_or_a_fault(name, limit, status, rows):
    """Zero and less are read in each server's way."""
    with served(*every(timedelta(minutes=1), 3), profile=PROFILES[name]) as client:
        answer = client.get(LIST, params={"limit": limit})

    assert answer.status_code == status
    assert len(answer.json().get("results", [])) == rows
    assert not answer.json().get("next")


@pytest.mark.parametrize(("name", "expected"), [("cloud", 1), ("old_2023", 1), ("old_2021", 0)])
def test_future_is_capped_in_2021_only(name, expected):
    """1.30 keeps its default upper bound whatever `before` says."""
    with served(event(1, NOW + timedelta(hours=5)), profile=PROFILES[name]) as client:
        rows = client.get(LIST, params={"before": "2026-07-02"}).json()["results"]

    assert len(rows) == expected


OFFSETS = [
    pytest.param("old_2023", 2, [3, 4], "2026-07-01T11:56:00+00:00", id="2023 skips rows"),
    pytest.param("old_2021", 2, [3], "2026-07-01T11:58:00+00:00", id="2021 skips within the page"),
    pytest.param("old_2021", 3, [], "2026-07-01T11:58:00+00:00", id="2021 skips the page"),
]


@pytest.mark.parametrize(("name", "offset", "expected", "before"), OFFSETS)
def test_offset_skips_rows_or_within_the_page(name, offset, expected, before):
    """1.30 slices the limit + 1 rows it fetched, and its `next` goes on from the page."""
    with served(*every(timedelta(minutes=1), 9), profile=PROFILES[name]) as client:
        answer = client.get(LIST, params={"limit": 2, "offset": offset, "after": "2026-01-01"}).json()

    assert [row["timestamp"][11:16] for row in answer["results"]] == [f"11:{60 - number}" for number in expected]
    assert f"before={before}".replace(":", "%3A").replace("+", "%2B") in answer["next"]


def test_rows_of_2021_have_numbers():
    """1.30 has a number as id, no chain, `Z` as zone and its own order of keys; the number finds the event."""
    keys = ["id", "distinct_id", "properties", "elements", "event", "timestamp", "person"]

    with served(event(12, ago(hours=1)), profile=OLD_2021) as client:
        row = client.get(LIST).json()["results"][0]
        detail = client.get(f"{LIST}{row['id']}/").json()
        missing = client.get(f"{LIST}99/")

    assert (list(row), row["id"], row["timestamp"]) == (keys, 0x12, "2026-07-01T11:00:00Z")
    assert detail == row
    assert (missing.status_code, missing.json()["detail"]) == (404, "Not found.")


@pytest.mark.parametrize(
    ("name", "filled"), [("cloud", False), ("self_hosted", False), ("old_2023", True), ("old_2021", True)]
)
def test_person_comes_unasked_from_old_servers(name, filled):
    """Servers of 2023 and before fill `person` in the list, not in the detail."""
    dataset = Dataset([event(1, ago(hours=1))], {"ann": Person("ann")})

    with serve(dataset, profile=PROFILES[name], now=lambda: NOW) as simulator, client_of(simulator) as client:
        row = client.get(LIST).json()["results"][0]
        detail = client.get(f"{LIST}{row['id']}/").json()

    assert (row["person"] is not None, detail["person"]) == (filled, None)


ADDRESSES = [
    pytest.param("cloud", (200, 200), id="cloud has both"),
    pytest.param("self_hosted", (200, 200), id="self-hosted has both"),
    pytest.param("old_2023", (404, 200), id="2023 has projects only"),
    pytest.param("old_2021", (404, 200), id="2021 has projects only"),
]


@pytest.mark.parametrize(("name", "statuses"), ADDRESSES)
def test_prefixes_are_the_server_s(name, statuses):
    """`environments` came late."""
    with served(profile=PROFILES[name]) as client:
        answers = [client.get(f"/api/{prefix}/1/events/") for prefix in ("environments", "projects")]

    assert tuple(answer.status_code for answer in answers) == statuses


def test_unknown_project_answers_as_another_in_2021():
    """1.30 answers an unknown project id with the rows of the key's own project."""
    with served(event(1, ago(hours=1)), profile=OLD_2021) as client:
        unknown, word = client.get("/api/projects/999/events/"), client.get("/api/projects/x/events/")

    assert len(unknown.json()["results"]) == 1
    assert word.status_code == 404


QUERIES = [("cloud", 200), ("self_hosted", 200), ("old_2023", 200), ("old_2021", 404)]


@pytest.mark.parametrize(("name", "status"), QUERIES)
def test_query_came_between_2021_and_2023(name, status):
    """1.30 has no /query."""
    with served(profile=PROFILES[name]) as client:
        assert ask(client, "SELECT count() FROM events").status_code == status


@pytest.mark.parametrize(("name", "status"), [("old_2023", 200), ("old_2021", 500)])
def test_hogql_filter_came_between_2021_and_2023(name, status):
    """1.30 knows no HogQL in `properties`."""
    with served(profile=PROFILES[name]) as client:
        answer = client.get(LIST, params={"properties": '[{"type":"hogql","key":"1 = 1"}]'})

    assert answer.status_code == status


def test_old_server_sends_neither_warning_nor_challenge():
    """The warning of the list is Cloud's, the challenge of a 401 is new."""
    for name, expected in (("cloud", True), ("old_2023", False)):
        with served(profile=PROFILES[name]) as client:
            listed = client.get(LIST)
            refused = client.get(LIST, headers={"Authorization": ""})
        assert ("X-PostHog-Warn" in listed.headers, "WWW-Authenticate" in refused.headers) == (expected, expected)


@pytest.mark.parametrize("path", [LIST, f"{LIST}00000000-0000-4000-8000-000000000002/"], ids=["list", "detail"])
def test_wrong_zone_labels_show_the_project_s_wall_clock_as_utc(path):
    """Rows carry the local wall clock labelled UTC, the cursor in `next` and the bounds are right."""
    with served(*every(timedelta(hours=1), 3), profile=TIMEZONE_FAULT) as client:
        answer = client.get(
            path, params={"orderBy": ASCENDING, "limit": 2, "before": ago(minutes=1).isoformat()}
        ).json()

    (*_, row) = answer.get("results", [answer])
    assert row["timestamp"] == "2026-07-01T15:30:00+00:00"
    assert "next" not in answer or f"after={ago(hours=2):%Y-%m-%dT%H}" in answer["next"]


def test_any_difference_is_a_field():
    """A server that is none of the named is made by replacing fields."""
    capped = replace(SELF_HOSTED, page_cap=7, prefixes=("environments",), query_allowed=False)

    with served(*every(timedelta(minutes=1), 9), profile=capped) as client:
        answer = client.get("/api/environments/1/events/", params={"limit": 100, "orderBy": ASCENDING})
        query = client.post(QUERY.replace("projects", "environments"), json={})

    assert len(numbers(answer)) == 7
    assert query.status_code == 403
    assert datetime.fromisoformat(answer.json()["results"][0]["timestamp"]) == ago(minutes=9)
