"""Both stand-ins, each with a list of its own, say the same of every function that hedgerow sends."""

import inspect
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from extractors import hogql
from extractors.filters import EventFilter
from extractors.hogql import Dialect, Grid
from extractors.lists import resources
from extractors.simulator.assets import lists
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.profiles import CLOUD, OLD_2023, SERVER_2023_12
from extractors.simulator.server import serve
from extractors.window import Range

from . import Row, second_server

START = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)
UUID = "0192f0c4-7a3e-7b11-8c52-9d1e6f2a3b4c"
QUERY = "/api/projects/1/query/"
CALL = re.compile(r"([A-Za-z_]\w*)\(")
# A value for every parameter that a builder of statements has; one with a new parameter fails until it is named here.
VALUES: dict[str, Any] = {
    "project_id": 1,
    "rng": Range(START, START + DAY),
    "ranges": [Range(START, START + DAY), Range(START + 2 * DAY, START + 3 * DAY)],
    "within": Range(START - DAY, START + 4 * DAY),
    "grid": Grid(START, ((1, timedelta(hours=1)), (9, DAY)), (START + timedelta(hours=5),)),
    "limit": 10,
    "events": EventFilter(include=("it's",), exclude=("b\\c",)),
    "uuids": [UUID],
}
BUILDERS = {
    name: builder
    for name, builder in inspect.getmembers(hogql, inspect.isfunction)
    if not name.startswith("_") and "dialect" in inspect.signature(builder).parameters
}


def statement(name: str, dialect: Dialect) -> bytes:
    """The body that hedgerow sends."""
    given = {key: VALUES[key] for key in inspect.signature(BUILDERS[name]).parameters if key != "dialect"}
    body: bytes = BUILDERS[name](**given, dialect=dialect).body
    return body


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, httpx.Client]]:
    """Clients of both stand-ins, as of now and as of 2023, over one event."""
    at, made = START + timedelta(hours=3), START + timedelta(hours=3, seconds=20)
    event = Event(UUID, "it's", "ann", at, '{"a":1}', created_at=made)
    row = Row(UUID, "it's", "ann", at, event.properties, created_at=made)
    with ExitStack() as stack:

        def client(server: Any) -> httpx.Client:
            headers = {"Authorization": f"Bearer {server.key}"}
            return stack.enter_context(httpx.Client(base_url=server.url, headers=headers, timeout=60))

        yield {
            "now": client(stack.enter_context(serve(Dataset([event]), profile=CLOUD))),
            "1.43": client(stack.enter_context(serve(Dataset([event]), profile=OLD_2023))),
            "2023-12": client(stack.enter_context(serve(Dataset([event]), profile=SERVER_2023_12))),
            "second": client(stack.enter_context(second_server([row]))),
            "older second": client(stack.enter_context(second_server([row], older=True))),
        }


def said(answer: httpx.Response) -> tuple[int, Any]:
    """What must be the same: rows, or the refusal."""
    body = answer.json()
    return answer.status_code, body.get("results", body.get("detail"))


PAIRS = [("now", "second"), ("1.43", "older second"), ("2023-12", "older second")]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("dialect", list(Dialect), ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_statement_of_hedgerow_s_is_answered_alike(name, dialect, one, other, servers):
    """Every statement, in every dialect: the same rows or the same refusal, and rows in the dialect of that server."""
    body = statement(name, dialect)

    first, second = (said(servers[server].post(QUERY, content=body)) for server in (one, other))

    assert first == second
    assert first[0] == (400 if dialect is Dialect.DATETIME64 and one != "now" else 200)


OBJECTS: list[dict[str, Any]] = [
    {},
    {"deleted": True},
    {"scope": "organization"},
    {"scope": "it's", "dashboard_id": 7},
    {"dashboard_item": 8},
]
TWINS = [one for one in vars(resources).values() if isinstance(one, resources.Resource) and one.twin]


@pytest.mark.parametrize("after", [-1, 2])
@pytest.mark.parametrize("resource", TWINS, ids=lambda resource: resource.path)
def test_objects_of_a_list_are_answered_alike(resource, after):
    """The table beside a list: the same rows of both, ascending, and on servers of 2023 a refusal."""
    store = lists.stores()[resource.path]
    for given in OBJECTS:
        store.add(START, **given)
    columns = ("id", "deleted", *resource.twin.parents)
    body = hogql.objects(1, resource.twin.table, columns, after=after, but=resource.twin.beyond, limit=9).body
    found = []
    for older in (False, True):
        profile = OLD_2023 if older else CLOUD
        with (
            serve(Dataset(), profile=profile, lists={resource.path: store}) as first,
            second_server([], lists={resource.path: OBJECTS}, older=older) as second,
        ):
            for server in (first, second):
                headers = {"Authorization": f"Bearer {server.key}"}
                found.append(said(httpx.post(f"{server.url}{QUERY}", content=body, headers=headers, timeout=60)))

    expected = [[1, 0, None, None], [2, 1, None, None], [4, 0, None, 7], [5, 0, 8, None]]
    assert found[:2] == [(200, [row for row in expected if row[0] > after])] * 2
    assert [status for status, _ in found[2:]] == [400, 400]


def functions() -> set[str]:
    """The name of every function in any statement."""
    texts = [statement(name, dialect).decode() for name in BUILDERS for dialect in Dialect]
    return {name for text in texts for name in CALL.findall(text) if name.lower() not in ("in", "not")}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_each_function_that_hedgerow_sends_is_known_to_both_or_to_neither(one, other, servers):
    """Whether a function exists is the same on both, asked for each alone; so is what real servers refused."""
    refused = (
        "cityHash64",
        "sipHash64",
        "MD5",
        "hex",
        "reinterpretAsUInt64",
        "toUnixTimestamp64Micro",
        "xxHash64",
        "crc32",
    )
    of_2023 = () if one == "now" else refused
    unknown: dict[str, set[str]] = {one: set(), other: set()}

    for name in (*functions(), *of_2023):
        for server, found in unknown.items():
            answer = servers[server].post(
                QUERY, json={"query": {"kind": "HogQLQuery", "query": f"SELECT {name}(event) AS x FROM events"}}
            )
            if f"Unsupported function call '{name}(" in answer.text:
                found.add(name)

    assert unknown[one] == unknown[other] == {*of_2023, *(() if one == "now" else ("toDateTime64",))}
