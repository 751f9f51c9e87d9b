"""Requests recorded on real servers, asked of the second server too: it answers as they did, or it is said why not.

What a server held is told by tests/extractors/simulator/recorded.py. The page that a server in debug mode shows for a
500 counts as a 500.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.extractors.simulator import recorded
from tests.extractors.simulator.recorded import BERLIN, FOREIGN, SAMPLES, Sample, Server, event_of

from . import Row, SecondServer, second_server

# Copies, so that what is replayed here is not counted as replayed there.
SERVERS = [replace(server, replayed=set()) for server in (*recorded.SERVERS, *recorded.LATER)]
OF_2023 = [server for server in SERVERS if server.name != "server-1.30"]

NO_EVENTS_QUERY = "hedgerow sends no EventsQuery, and the engine has SQL only"
OF_2021 = "a server on Postgres that numbers its events; hedgerow refuses it, so only the simulator stands for it"
LISTS_OF_2021 = (
    *("after_equal_excluded", "autocapture_seeded", "default_limit3", "default_limit3_following_next"),
    *("offset2_limit2_followed", "offset2_limit2_next_keeps_offset", "offset_timezone_dropped", "orderby_asc"),
    *("pageview_limit1", "properties_filter", "ties_page1", "whole_seconds"),
)
SINGLE_OF_2021 = (
    *("retrieve", "retrieve_include_person", "csv_autocapture", "csv_whole"),
    *("error_other_project", "error_retrieve_bad_id", "error_retrieve_unknown"),
)
NOT_REPLAYED = {
    **{f"server-1.43/probe-{name}.txt": "no requests in it" for name in ("exports", "list", "more", "ties")},
    "server-1.30/probe-list.txt": "no requests in it",
    "server-1.43/query_eventsquery.json": NO_EVENTS_QUERY,
    **{
        f"{server}/query_eventsquery_{name}.json": NO_EVENTS_QUERY
        for server in ("server-1.43", "server-2023-12")
        for name in ("at_the_cap", "rows")
    },
    "server-2023-12/list_number_beyond_double.json": "shown in other words than 1.43 does; an older one stands for that",
    **{f"server-1.30/list_{name}.json": OF_2021 for name in LISTS_OF_2021},
    **{f"server-1.30/{name}.json": OF_2021 for name in SINGLE_OF_2021},
}
"""Samples that are not asked of the second server, each with the reason."""


def row_of(shown: dict[str, Any], **more: Any) -> Row:
    """The row behind a recorded one."""
    one = event_of(shown)
    return Row(one.uuid, one.event, one.distinct_id, one.timestamp, one.properties, one.elements_chain, **more)


def held(server: Server) -> list[Row]:
    """What *server* held."""
    return [
        Row(one.uuid, one.event, one.distinct_id, one.timestamp, one.properties, one.elements_chain)
        for one in server.dataset().events
    ]


def persons(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["distinct_id"]: row["person"] for row in rows if row.get("person")}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[tuple[str, int], SecondServer]]:
    """A second server for each recorded one and each of its projects."""
    with ExitStack() as stack:
        yield {
            (key(server), project): stack.enter_context(
                second_server(
                    held(server),
                    persons=persons(server._rows()),
                    older=True,
                    project_id=project,
                    time_zone="UTC",
                    foreign=[FOREIGN],
                    now=lambda at=server.at: at,
                )
            )
            for server in SERVERS
            for project in {server.project_id, BERLIN}
        }


def key(server: Server) -> str:
    return f"{server.name} seeded anew" if server.anew else server.name


def asked(url: str, known_key: str, sample: Sample) -> httpx.Response:
    """The answer to a recorded request."""
    request = sample["request"]
    keys = {"error_no_auth": None, "error_bad_key": "phx_unknown"}
    sent = keys.get(sample["name"].split()[1], known_key)
    return httpx.request(
        request["method"],
        url + request["url"],
        headers={"Accept": request.get("accept", "*/*")} | ({"Authorization": f"Bearer {sent}"} if sent else {}),
        json=request.get("body") if request["method"] == "POST" else None,
        timeout=60,
    )


def recorded_of(servers: list[Server], *prefixes: str, but: tuple[str, ...] = ()) -> Any:
    """Parameters (server, sample) of the samples with these prefixes that are not listed with a reason."""
    listed = tuple(f"{path.split('/')[0]} {path.split('/')[1].removesuffix('.json')}" for path in NOT_REPLAYED)
    return pytest.mark.parametrize(
        ("server", "sample"),
        [
            pytest.param(server, sample, id=sample["name"])
            for server in servers
            for sample in server.samples(*prefixes, but=but)
            if sample["name"] not in listed
        ],
    )


def in_any_order(rows: list[dict[str, Any]], tied: set[str]) -> Counter[str]:
    """*rows* with all their values; of those in a tie that a page may cut, how many there are."""
    return Counter(row["timestamp"] if row["timestamp"] in tied else json.dumps(row) for row in rows)


@recorded_of(SERVERS, "list_", but=("_merge", "_beyond_double", "_406", "_500_nul_in_distinct_id"))
def test_list_is_the_recorded_one(server, sample, running):
    """Status, keys and their order, every value, the order of times, and `next` to the letter."""
    expected = sample["response"]
    source = running[key(server), server.project_id]
    answer = asked(source.url, source.key, sample)

    assert answer.status_code == expected["status"]
    body = answer.json()
    assert list(body) == list(expected["body"])
    shown, rows = body["results"], expected["body"]["results"]
    tied = {row["timestamp"] for row in rows if row["event"] == "tied"}
    assert [row["timestamp"] for row in shown] == [row["timestamp"] for row in rows]
    assert in_any_order(shown, tied) == in_any_order(rows, tied)
    address = expected["body"]["next"]
    assert body["next"] == (address and address.replace(server.host, source.url))


SINGLE = (
    *("retrieve", "error_", "environments_", "evaluations_", "exports_list", "export_error", "export_list"),
    *("list_csv", "list_500", "query_todatetime64"),
)


@recorded_of(SERVERS, *SINGLE, but=("error_429_throttled",))
def test_single_answer_is_the_recorded_one(server, sample, running):
    """One event, and each refusal, has the recorded status and body."""
    expected = sample["response"]
    berlin = f"/api/projects/{BERLIN}/" in sample["request"]["url"]
    source = running[key(server), BERLIN if berlin else server.project_id]
    answer = asked(source.url, source.key, sample)

    assert answer.status_code == expected["status"]
    if expected["body"] != "<html debug page>":
        assert json.dumps(answer.json()) == json.dumps(expected["body"])


@recorded_of(SERVERS, "values_")
def test_values_are_the_recorded_ones(server, sample, running):
    """A bare list of the same names, in whatever order."""
    source = running[key(server), server.project_id]
    answer = asked(source.url, source.key, sample)

    assert answer.status_code == sample["response"]["status"]
    assert sorted(row["name"] for row in answer.json()) == sorted(row["name"] for row in sample["response"]["body"])


def row_of_csv(cells: dict[str, str]) -> Row:
    """A row that gives these cells: all values are texts, which CSV cannot tell from numbers."""
    inside = "properties."
    properties = {path.removeprefix(inside): text for path, text in cells.items() if path.startswith(inside)}
    at = datetime.fromisoformat(cells["timestamp"])
    ids = (cells["id"], cells["event"], cells["distinct_id"])
    return Row(*ids, at.replace(tzinfo=UTC), json.dumps(properties), cells["elements_chain"])


@recorded_of(SERVERS, "csv_")
def test_csv_is_the_recorded_one(server, sample):
    """Columns and their order, empty cells, line ends and quotes are the recorded ones; elements come from the chain."""
    expected = sample["response"]
    lines = list(csv.DictReader(io.StringIO(expected["body"], newline="")))
    known = {
        cells["distinct_id"]: {
            "is_identified": cells["person.is_identified"] == "True",
            "distinct_ids": [cells["person.distinct_ids.0"]],
            "properties": {name: cells[f"person.properties.{name}"] for name in ("email", "name")},
        }
        for cells in lines
        if "person.is_identified" in cells
    }
    rows = map(row_of_csv, lines)
    with second_server(
        rows, persons=known, older=True, project_id=server.project_id, now=lambda: server.at, time_zone="UTC"
    ) as source:
        answer = asked(source.url, source.key, sample)

    assert answer.status_code == expected["status"]
    assert answer.headers.get("content-type") == expected["headers"].get("content-type")
    assert answer.text == expected["body"]


@recorded_of(OF_2023, "error_429_throttled")
def test_241st_request_of_a_minute_is_throttled_as_recorded(server, sample):
    """Refused requests counted, the 241st is told when the first one leaves the minute."""
    clock = [server.at]
    with second_server([], older=True, project_id=server.project_id, per_minute=240, now=lambda: clock[0]) as source:
        with httpx.Client(base_url=source.url, headers={"Authorization": f"Bearer {source.key}"}) as client:
            counted = {client.get(sample["request"]["url"]).status_code for _ in range(240)}
        clock[0] += timedelta(seconds=59.5)
        answer = asked(source.url, source.key, sample)

    assert counted == {400}
    assert (answer.status_code, answer.json()) == (429, sample["response"]["body"])
    assert answer.headers["retry-after"] == sample["response"]["headers"]["retry-after"]


TOLD = ("columns", "results", "types")


def rows_of_query(sample: Sample) -> list[Row]:
    """Rows that give the recorded answer."""
    if "todatetime" in sample["name"]:
        made = [("tied", datetime(2026, 10, 25, 1, tzinfo=UTC))] * 300
    else:
        names = [name for name, count in sample["response"]["body"]["results"] for _ in range(count)]
        made = [(name, datetime(2026, 11, 1, tzinfo=UTC)) for name in names]
    return [Row(f"00000000-0000-4000-8000-{n:012}", name, "ann", at, "{}") for n, (name, at) in enumerate(made)]


@recorded_of(OF_2023, "query_hogql", "query_todatetime_")
def test_query_is_answered_as_recorded(server, sample):
    """Columns, their types and the rows; how a server runs a query, and in which words it repeats it, is its own."""
    expected = sample["response"]
    project = int(sample["request"]["url"].split("/")[3])
    zone = "Europe/Berlin" if server.anew or server.name == "server-2023-12" else "UTC"
    with second_server(rows_of_query(sample), older=True, project_id=project, time_zone=zone) as source:
        answer = asked(source.url, source.key, sample)

    assert answer.status_code == expected["status"]
    assert {name: answer.json()[name] for name in TOLD} == {name: expected["body"][name] for name in TOLD}


@recorded_of(OF_2023, "list_number_beyond_double")
def test_number_beyond_double_is_shown_as_recorded(server, sample):
    """The answer is the recorded one to the letter, whether or not it is JSON."""
    stored = '{"f":1e400,"g":-0.0,"h":1.0,"i":1e+21,"j":0.1,"k":-0.0,"l":100000.0}'
    text = sample["response"]["body_text"]
    odd = replace(row_of(json.loads(text)["results"][0]), properties=stored)
    with second_server([odd], older=True, now=lambda: server.at) as source:
        answer = asked(source.url, source.key, sample)

    assert (answer.status_code, answer.text) == (sample["response"]["status"], text)


ANEW = next(server for server in SERVERS if server.anew)
COPIES = [ANEW.sample(f"{name}_merge") for name in ("list_copies_before", "query_copies_before", "list_copies_after")]


def test_copies_are_shown_before_and_after_merging_as_recorded():
    """Both copies, in any order, of which /query tells the later; then this one alone, once they have been merged."""
    listed, told, after = COPIES
    made = {
        properties: datetime.fromisoformat(at).astimezone(UTC)
        for _, properties, at in told["response"]["body"]["results"]
    }
    # Milliseconds are shown of what has microseconds, and they are cut.
    copies = [
        row_of(row, created_at=made[text] + timedelta(microseconds=text == '{"copy": "first"}'))
        for row in listed["response"]["body"]["results"]
        if (text := json.dumps(row["properties"]))
    ]
    with second_server(copies, older=True, project_id=BERLIN, time_zone="Europe/Berlin", now=lambda: ANEW.at) as source:
        before = asked(source.url, source.key, listed).json()
        answered = asked(source.url, source.key, told).json()
        source.hold([max(copies, key=lambda row: row.created_at)])
        merged = asked(source.url, source.key, after).json()

    assert in_any_order(before["results"], set()) == in_any_order(listed["response"]["body"]["results"], set())
    assert [answered[name] for name in TOLD] == [told["response"]["body"][name] for name in TOLD]
    assert merged == after["response"]["body"]


MADE_143 = (
    *("create", "retrieve", "content", "content_download"),
    *("create_pending", "retrieve_pending", "content_pending", "retrieve_after_content_404"),
)
MADE_2023_12 = ("create_hogql", "content_hogql")
EXPORTS = [
    pytest.param(server, [server.sample(f"export_{name}") for name in names], id=server.name)
    for server in OF_2023
    if (names := MADE_2023_12 if server.name == "server-2023-12" else () if server.anew else MADE_143)
]


@pytest.mark.parametrize(("server", "samples"), EXPORTS)
def test_exports_are_answered_as_recorded(server, samples):
    """From create to download, and a content that is looked for too early: each answer with its recorded text and type."""
    contents = [one["response"] for one in samples if "content-disposition" in one["response"]["headers"]]
    text = contents[0].get("body") or contents[0]["body_text"]
    clock = [server.at]
    with second_server(
        [], older=True, project_id=server.project_id, now=lambda: clock[0], export_content=text.encode()
    ) as source:
        for _ in range(samples[0]["response"]["body"]["id"] - 1):  # those that the server had made before
            asked(source.url, source.key, samples[0])
        for at, sample in enumerate(samples):
            expected = sample["response"]
            body = expected.get("body")
            if isinstance(body, dict) and "created_at" in body:
                clock[0] = datetime.fromisoformat(body["created_at"])
            if sample["name"].endswith("content_pending"):
                clock[0] = datetime.fromisoformat(samples[at + 1]["response"]["body"]["expires_after"])
            answer = asked(source.url, source.key, sample)

            assert answer.status_code == expected["status"], sample["name"]
            assert (json.dumps(answer.json()) == json.dumps(body)) if isinstance(body, dict) else answer.text == text
            for name in ("content-type", "content-disposition"):
                assert answer.headers.get(name) == expected["headers"].get(name), sample["name"]


SDK_ROWS = "server-1.43/sdk_events_as_list_rows.jsonl"


def test_events_of_the_sdks_are_listed_as_recorded():
    """What real SDKs sent comes back in the recorded rows, value by value and key by key."""
    expected = [json.loads(line) for line in (SAMPLES / SDK_ROWS).read_text().splitlines()]
    with second_server(map(row_of, expected), persons=persons(expected), older=True) as source:
        shown = httpx.get(
            f"{source.url}/api/projects/1/events/",
            params={"after": "2020-01-01", "before": "2030-01-01", "limit": 1000},
            headers={"Authorization": f"Bearer {source.key}"},
        ).json()["results"]

    assert in_any_order(shown, set()) == in_any_order(expected, set())


def test_every_sample_is_replayed_or_listed_with_a_reason():
    """A sample that is added and neither replayed nor listed fails here, as does a listed one that is not there."""
    there = {str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*") if path.is_file()}
    replayed = {SDK_ROWS}.union(*(server.replayed for server in SERVERS)) - NOT_REPLAYED.keys()

    assert there - replayed - NOT_REPLAYED.keys() == set(), "neither replayed nor listed"
    assert NOT_REPLAYED.keys() - there == set(), "listed and not there"
    assert all(NOT_REPLAYED.values())
