"""Requests recorded on three real servers, asked of the simulator: the same form, the same rows, the same `next`.

A sample is replayed by a test or listed in NOT_REPLAYED with the reason. The page that a server in debug mode shows for
a 500 counts as a 500.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import EPOCH, Dataset, Event, Person
from extractors.simulator.http.limits import RateLimits
from extractors.simulator.server import Simulator, serve
from tests.extractors.simulator.asking import client_of, event
from tests.extractors.simulator.recorded import (
    BERLIN,
    FOREIGN,
    LATER,
    SAMPLES,
    SERVERS,
    Sample,
    Server,
    event_of,
)

DEBUG_PAGE = "<html debug page>"
ANSWERS_OF_OWN_TESTS = ("_merge", "_beyond_double", "_405", "_406", "_500_nul_in_distinct_id")
NOT_REPLAYED = {
    "server-1.43/probe-exports.txt": "one line of each of many answers, without the requests",
    "server-1.43/probe-list.txt": "one line of each of many answers, without the requests",
    "server-1.43/probe-more.txt": "one line of each of many answers, without the requests",
    "server-1.43/probe-ties.txt": "one line of each of many answers, without the requests",
    "server-1.30/probe-list.txt": "one line of each of many answers, without the requests",
}
"""Samples that no test replays, each with the reason. What these tell is in the tests of profiles and of the list."""
Exchange = tuple[Mapping[str, Any], httpx.Response]


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[tuple[str, bool], Simulator]]:
    """All servers, each with what it held."""
    with ExitStack() as stack:
        yield {
            (server.name, server.anew): stack.enter_context(
                serve(
                    {server.project_id: server.dataset(), BERLIN: server.dataset()},
                    profile=server.profile,
                    now=lambda at=server.at: at,
                    foreign_projects=frozenset({FOREIGN} if server in LATER else ()),
                )
            )
            for server in (*SERVERS, *LATER)
        }


def replayed(simulator: Simulator, sample: Sample) -> httpx.Response:
    """The simulator's answer to a recorded request."""
    asked = sample["request"]
    headers = {"Authorization": f"Bearer {simulator.key}"}
    if "no_auth" in sample["name"]:
        headers = {}
    if "bad_key" in sample["name"]:
        headers = {"Authorization": "Bearer phx_unknown"}
    if "accept" in asked:
        headers["Accept"] = asked["accept"]
    body = asked.get("body") if asked["method"] == "POST" else None
    return httpx.request(asked["method"], simulator.url + asked["url"], headers=headers, json=body)


def recorded(*prefixes: str, but: tuple[str, ...] = (), of: tuple[Server, ...] = (*SERVERS, *LATER)) -> Any:
    """Parameters (server, sample) of every sample whose name has one of the *prefixes*."""
    return pytest.mark.parametrize(
        ("server", "sample"),
        [
            pytest.param(server, sample, id=sample["name"])
            for server in of
            for sample in server.samples(*prefixes, but=but)
        ],
    )


@pytest.fixture
def exchange(server: Server, sample: Sample, simulators: dict[tuple[str, bool], Simulator]) -> Exchange:
    """A recorded answer and the simulator's to the same request."""
    return sample["response"], replayed(simulators[server.name, server.anew], sample)


def _by_moment(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    moments = defaultdict(set)
    for row in rows:
        moments[row["timestamp"]].add(json.dumps(row, sort_keys=True))
    return dict(moments)


LISTS = recorded("list_", "error_other_project", but=("server-1.43 error_other_project", *ANSWERS_OF_OWN_TESTS))


@LISTS
def test_list_has_the_recorded_form(exchange, server):
    """Status, content type, keys of the body and of each row come as recorded, in the recorded order."""
    expected, answer = exchange

    assert answer.status_code == expected["status"]
    assert answer.headers["content-type"] == expected["headers"]["content-type"]
    assert list(answer.json()) == list(expected["body"])
    assert [list(row) for row in answer.json()["results"]] == [list(row) for row in expected["body"]["results"]]


@LISTS
def test_list_has_the_recorded_timestamps(exchange, server):
    """The timestamps' text and their order are the recorded ones, exclusive bounds included."""
    expected, answer = exchange

    assert [row["timestamp"] for row in answer.json()["results"]] == [
        row["timestamp"] for row in expected["body"]["results"]
    ]


@LISTS
def test_list_has_the_recorded_rows(exchange, server):
    """Every value of every row is the recorded one; where the page cuts through ties, as many rows, whichever they are."""
    expected, answer = exchange
    shared = {event.timestamp for event in server.dataset().events if event.event == "tied"}
    rows, found = _by_moment(expected["body"]["results"]), _by_moment(answer.json()["results"])

    for moment, texts in rows.items():
        if datetime.fromisoformat(moment) in shared:
            assert len(found[moment]) == len(texts)
        else:
            assert found[moment] == texts


@LISTS
def test_next_is_the_recorded_address(exchange, server, simulators):
    """`next` is null or the recorded address to the letter: same parameters, same order, same escapes, same bound."""
    expected, answer = exchange
    address = expected["body"]["next"]

    assert answer.json()["next"] == (address and address.replace(server.host, simulators[server.name, server.anew].url))


REFUSALS = (
    "environments_",
    "evaluations_",
    "exports_list",
    "export_error",
    "export_list",
    "query_todatetime64",
    "list_csv",
)


@recorded(
    *("retrieve", "error_", "list_500", *REFUSALS),
    but=("server-1.30 error_other_project", "error_429_throttled"),
)
def test_single_answer_is_the_recorded_one(exchange, server):
    """One event, and each refusal, has the recorded status and body; no old server sent a challenge."""
    expected, answer = exchange

    assert answer.status_code == expected["status"]
    assert "www-authenticate" not in answer.headers
    if expected["body"] == DEBUG_PAGE:
        assert answer.json()["type"] == "server_error"
    else:
        assert answer.json() == expected["body"]
        assert list(answer.json()) == list(expected["body"])


@recorded("error_429_throttled")
def test_241st_request_of_a_minute_is_throttled_as_recorded(server, sample, monkeypatch):
    """With the limits switched on, refused requests counted, the 241st tells when the first one leaves the minute."""
    clock = [1000.0]
    monkeypatch.setattr("extractors.simulator.http.app.RateLimits", partial(RateLimits, clock=lambda: clock[0]))
    limited = replace(server.profile, per_minute=240, per_hour=1200)

    with serve({server.project_id: Dataset()}, profile=limited) as simulator, client_of(simulator) as client:
        counted = [client.get(sample["request"]["url"]).status_code for _ in range(240)]
        clock[0] += 59.5
        answer = client.get(sample["request"]["url"])

    assert set(counted) == {400}
    assert (answer.status_code, answer.json()) == (429, sample["response"]["body"])
    assert answer.headers["retry-after"] == sample["response"]["headers"]["retry-after"]


@recorded("values_")
def test_values_are_the_recorded_ones(exchange, server):
    """A bare list of the same names; 1.43 gave them in no order, 1.30 newest first."""
    expected, answer = exchange
    names, found = ([row["name"] for row in body] for body in (expected["body"], answer.json()))

    assert answer.status_code == expected["status"]
    assert (found if server.name == "server-1.30" else sorted(found)) == (
        names if server.name == "server-1.30" else sorted(names)
    )


@recorded("query_eventsquery", of=SERVERS)
def test_events_query_is_answered_as_recorded(exchange, server):
    """Columns, types, rows and `hasMore` come as recorded, to the letter."""
    expected, answer = exchange

    assert (answer.status_code, answer.json()) == (expected["status"], expected["body"])


@recorded("query_hogql", of=SERVERS)
def test_hogql_query_is_answered_as_recorded(server, sample):
    """The recorded counts are counted again, in the recorded keys, and the implicit LIMIT shows in what was run."""
    expected = sample["response"]["body"]
    names = [name for name, count in expected["results"] for _ in range(count)]
    start = datetime(2026, 11, 1, tzinfo=UTC)
    events = [
        Event(f"00000000-0000-4000-8000-{number:012}", name, "ann", start + timedelta(seconds=number), "{}")
        for number, name in enumerate(names)
    ]

    with serve({server.project_id: Dataset(events)}, profile=server.profile) as simulator:
        answer = replayed(simulator, sample).json()

    assert list(answer) == list(expected)
    assert {name: answer[name] for name in ("columns", "query", "results", "types")} == {
        name: expected[name] for name in ("columns", "query", "results", "types")
    }
    assert "LIMIT 100" in answer["hogql"]
    assert "LIMIT 100" in answer["clickhouse"]


@recorded("query_todatetime_")
def test_constant_times_are_read_as_recorded(server, sample):
    """With Z a text is UTC, without it the wall clock of the project in Berlin, both to the microsecond."""
    expected = sample["response"]["body"]
    tied = [event(number, datetime(2026, 10, 25, 1, tzinfo=UTC)) for number in range(300)]
    berlin = replace(server.profile, project_timezone="Europe/Berlin")

    with serve({BERLIN: Dataset(tied)}, profile=berlin) as simulator:
        answer = replayed(simulator, sample)

    # How the server writes the query that it ran, and how long it took, is its own.
    own = ("clickhouse", "hogql", "timings")
    assert answer.status_code == sample["response"]["status"]
    assert list(answer.json()) == list(expected)
    assert {name: one for name, one in answer.json().items() if name not in own} == {
        name: one for name, one in expected.items() if name not in own
    }


@recorded("query_eventsquery_rows", of=LATER)
def test_events_query_gives_the_recorded_rows(server, sample):
    """Nine columns of events: ids, microseconds, the stored texts and the persons, and that more follow."""
    expected = sample["response"]["body"]
    events, persons = [], {}
    for uuid, name, distinct_id, micros, properties, chain, person_id, person, created in expected["results"]:
        at, made = (EPOCH + timedelta(microseconds=one) for one in (micros, created))
        events.append(Event(uuid, name, distinct_id, at, properties, chain, made))
        persons[distinct_id] = Person(distinct_id, person, uuid=person_id)
    events.append(event(1, events[-1].timestamp + timedelta(days=1)))

    with serve({1: Dataset(events, persons)}, profile=server.profile) as simulator:
        answer = replayed(simulator, sample)

    assert (answer.status_code, answer.json()) == (sample["response"]["status"], expected)


@recorded("query_eventsquery_at_the_cap", of=LATER)
def test_events_query_at_the_cap_is_answered_as_recorded(server, sample):
    """Asked for 49,999 the server gives 10,000 and says that no more follow; the sample keeps the first two."""
    expected = sample["response"]["body"]
    start = datetime(2026, 10, 1, tzinfo=UTC)
    ids = [*(row[0] for row in expected["results"]), *(event(number, start).uuid for number in range(10_000))]
    events = [Event(uuid, "e", "d", start + timedelta(seconds=at), "{}") for at, uuid in enumerate(ids)]

    with serve({1: Dataset(events)}, profile=server.profile) as simulator:
        answer = replayed(simulator, sample).json()

    assert len(answer["results"]) == 10_000
    assert answer | {"results": answer["results"][:2]} == expected


@recorded("list_number_beyond_double")
def test_number_beyond_double_is_shown_as_recorded(server, sample):
    """The answer is the recorded one to the letter, whether or not it is JSON."""
    stored = '{"f":1e400,"g":-0.0,"h":1.0,"i":1e+21,"j":0.1,"k":-0.0,"l":100000.0}'
    text = sample["response"]["body_text"]
    moment = datetime.fromisoformat(json.loads(text)["results"][0]["timestamp"])
    odd = Event(json.loads(text)["results"][0]["id"], "odd", "odd-1", moment, stored)

    with serve({1: Dataset([odd])}, profile=server.profile, now=lambda: server.at) as simulator:
        answer = replayed(simulator, sample)

    assert (answer.status_code, answer.text) == (sample["response"]["status"], text)


COPIES = tuple(
    LATER[0].sample(f"{name}_merge") for name in ("list_copies_before", "query_copies_before", "list_copies_after")
)


def test_copies_are_shown_before_and_after_merging_as_recorded():
    """Both copies, in any order, of which /query tells the later; then this one alone."""
    listed, asked, merged = COPIES
    created = {
        properties: datetime.fromisoformat(at).astimezone(UTC)
        for _, properties, at in asked["response"]["body"]["results"]
    }
    copies = [
        replace(one, created_at=created[one.properties] + timedelta(microseconds=one.properties == '{"copy": "first"}'))
        for one in map(event_of, listed["response"]["body"]["results"])
    ]
    dataset, berlin = Dataset(copies), replace(LATER[0].profile, project_timezone="Europe/Berlin")

    with serve({BERLIN: dataset}, profile=berlin, now=lambda: LATER[0].at) as simulator:
        before, told = replayed(simulator, listed).json(), replayed(simulator, asked).json()
        dataset.merge()
        after = replayed(simulator, merged).json()

    by_text = partial(sorted, key=json.dumps)
    assert by_text(before["results"]) == by_text(listed["response"]["body"]["results"])
    assert list(told) == list(asked["response"]["body"])
    assert [told[name] for name in ("columns", "query", "results", "types")] == [
        asked["response"]["body"][name] for name in ("columns", "query", "results", "types")
    ]
    assert after == merged["response"]["body"]


def _from_csv(row: dict[str, str]) -> Event:
    """An event that gives this row: values are texts, which CSV cannot tell from numbers."""
    properties = {
        path.removeprefix("properties."): text for path, text in row.items() if path.startswith("properties.")
    }
    uuid = row["id"] if "-" in row["id"] else f"00000000-0000-4000-8000-{int(row['id']):012x}"
    moment = datetime.fromisoformat(row["timestamp"]).astimezone(UTC)
    return Event(uuid, row["event"], row["distinct_id"], moment, json.dumps(properties), row.get("elements_chain", ""))


@recorded("csv_")
def test_csv_is_the_recorded_one(server, sample):
    """Columns and their order, empty cells, line ends and quotes are the recorded ones; elements come from the chain."""
    expected = sample["response"]
    rows = list(csv.DictReader(io.StringIO(expected["body"], newline="")))
    persons = {
        row["distinct_id"]: Person(
            row["person.distinct_ids.0"],
            json.dumps({name: row[f"person.properties.{name}"] for name in ("email", "name")}),
            row["person.is_identified"] == "True",
        )
        for row in rows
        if "person.is_identified" in row
    }
    dataset = Dataset([_from_csv(row) for row in rows], persons)

    with serve({server.project_id: dataset}, profile=server.profile, now=lambda: server.at) as simulator:
        answer = replayed(simulator, sample)

    assert answer.status_code == expected["status"]
    assert answer.headers.get("content-type") == expected["headers"].get("content-type")
    assert answer.text == expected["body"]


EXPORTS = (
    *("export_create", "export_retrieve", "export_content", "export_content_download"),
    *(
        "export_create_pending",
        "export_retrieve_pending",
        "export_content_pending",
        "export_retrieve_after_content_404",
    ),
)
RECORDED_EXPORTS = [
    pytest.param(SERVERS[0], [SERVERS[0].sample(name) for name in EXPORTS], 10, id="server-1.43"),
    pytest.param(
        LATER[1], [LATER[1].sample(f"export_{name}_hogql") for name in ("create", "content")], 4, id="server-2023-12"
    ),
]


@pytest.mark.parametrize(("server", "samples", "first_id"), RECORDED_EXPORTS)
def test_exports_are_answered_as_recorded(server, samples, first_id):
    """From create to download, and a content that is looked for too early: each answer with its recorded text and type."""
    contents = [sample["response"] for sample in samples if "content-disposition" in sample["response"]["headers"]]
    text = contents[0].get("body") or contents[0]["body_text"]
    store = ExportStore(made={"text/csv": Blob.of(text.encode())})
    store._last_id = first_id - 1
    clock = [server.at]

    with serve(
        {server.project_id: Dataset()}, profile=server.profile, now=lambda: clock[0], exports=store
    ) as simulator:
        for at, sample in enumerate(samples):
            body = sample["response"].get("body")
            if isinstance(body, dict) and "created_at" in body:
                clock[0] = datetime.fromisoformat(body["created_at"])
            if sample["name"].endswith("content_pending"):
                clock[0] = datetime.fromisoformat(samples[at + 1]["response"]["body"]["expires_after"])
            store.looks = 99 if "pending" in sample["name"] else 0
            answer = replayed(simulator, sample)

            assert answer.status_code == sample["response"]["status"], sample["name"]
            assert (answer.json() if isinstance(body, dict) else answer.text) == (body or text), sample["name"]
            for name in ("content-type", "content-disposition"):
                assert answer.headers.get(name) == sample["response"]["headers"].get(name), sample["name"]


SDK_ROWS = "server-1.43/sdk_events_as_list_rows.jsonl"


def test_events_of_the_sdks_are_listed_as_recorded():
    """What real SDKs sent comes back in the recorded rows, value by value and key by key."""
    expected = [json.loads(line) for line in (SAMPLES / SDK_ROWS).read_text().splitlines()]
    persons = {
        row["distinct_id"]: Person(
            row["person"]["distinct_ids"][0], json.dumps(row["person"]["properties"]), row["person"]["is_identified"]
        )
        for row in expected
        if row["person"]
    }

    dataset = Dataset(map(event_of, expected), persons)

    with serve({2: dataset}, profile=SERVERS[0].profile) as simulator, client_of(simulator) as client:
        rows = client.get("/api/projects/2/events/", params={"after": "2020-01-01", "before": "2030-01-01"}).json()

    found = {row["id"]: json.dumps(row) for row in rows["results"]}
    assert found == {row["id"]: json.dumps(row) for row in expected}


def test_every_sample_is_replayed_or_listed_with_a_reason():
    """A sample that is added and neither replayed nor listed fails here, as does a listed one that is not there."""
    there = {str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*") if path.is_file()}
    replayed_ones = {SDK_ROWS}.union(*(server.replayed for server in (*SERVERS, *LATER)))

    assert there - replayed_ones - set(NOT_REPLAYED) == set(), "neither replayed nor listed"
    assert set(NOT_REPLAYED) - there == set(), "listed and not there"
    assert set(NOT_REPLAYED) & replayed_ones == set(), "listed and replayed"
    assert all(NOT_REPLAYED.values())
