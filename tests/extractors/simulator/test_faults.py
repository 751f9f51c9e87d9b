"""Every kind of fault, as a client meets it."""

from __future__ import annotations

import gzip
import json
import time
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import BODY_KINDS, KINDS, NEXT_KINDS, ROW_KINDS, STATUS_KINDS, Fault, Faults
from extractors.simulator.profiles import PROFILES
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import (
    ASCENDING,
    FREE,
    LIST,
    NOW,
    ago,
    ask,
    client_of,
    event,
    every,
    numbers,
    served,
)

STATUSES = [
    ("429", 429, "application/json", "1"),
    ("500", 500, "application/json", None),
    ("502", 502, "text/html", None),
    ("503", 503, "application/json", None),
    ("503-after", 503, "application/json", "1"),
    ("504", 504, "application/json", None),
    ("504-html", 504, "text/html", None),
    ("512", 512, "application/json", None),
    ("513", 513, "application/json", None),
    ("html-200", 200, "text/html", None),
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


@pytest.mark.parametrize("kind", ["504", "512", "513"])
def test_heavy_question_is_told_in_the_error_object(kind):
    """Time and memory that a question would take are refused with type, code and detail."""
    with served(faults=Faults([Fault(kind, at=(1,))])) as client:
        body = client.get(LIST).json()

    assert (list(body), body["type"]) == (["type", "code", "detail", "attr"], "server_error")
    assert body["code"] == ("clickhouse_memory_limit_exceeded" if kind == "513" else "error")


def test_wrong_length_promises_more_than_the_whole_body():
    """All rows come, but the length says that more should: the connection closes and the answer cannot be trusted."""
    with served(*every(timedelta(minutes=1), 3), faults=Faults([Fault("wrong-length", at=(1,))])) as client:
        with client.stream("GET", LIST, headers={"Accept-Encoding": "identity"}) as answer:
            pieces = answer.iter_raw()
            received = next(pieces)
            with pytest.raises(httpx.RemoteProtocolError):
                next(pieces)
        assert len(numbers(client.get(LIST))) == 3

    assert len(json.loads(received)["results"]) == 3
    assert int(answer.headers["Content-Length"]) == len(received) + 10


def test_reset_gives_no_answer_at_all():
    """The connection is reset before any byte; the next request is answered."""
    with served(*every(timedelta(minutes=1), 3), faults=Faults([Fault("reset", at=(1,))])) as client:
        with pytest.raises(httpx.ReadError):
            client.get(LIST)
        assert len(numbers(client.get(LIST))) == 3


def test_done_504_does_the_work_and_loses_the_answer():
    """A proxy gives up while the server goes on: the asset is made all the same."""
    with served(faults=Faults([Fault("done-504", endpoint="exports", at=(1,))]), exports=ExportStore()) as client:
        made = client.post("/api/projects/1/exports/", json={"export_format": "text/csv", "insight": 1})
        listed = client.get("/api/projects/1/exports/").json()

    assert (made.status_code, made.headers["Content-Type"].split(";")[0]) == (504, "text/html")
    assert [asset["insight"] for asset in listed["results"]] == [1]


@pytest.mark.parametrize(("kind", "header_waits"), [("slow-first-byte", True), ("slow-drip", False)])
def test_slow_answer_is_whole_in_the_end(kind, header_waits):
    """Either nothing comes for a while, or the header at once and the body drop by drop; every row is there."""
    fault = Fault(kind, at=(1,), seconds=0.5)
    with served(*every(timedelta(minutes=1), 20), faults=Faults([fault])) as client:
        start = time.monotonic()
        with client.stream("GET", LIST) as answer:
            header_s = time.monotonic() - start
            pieces = list(answer.iter_raw())
        whole_s = time.monotonic() - start

    assert (header_s >= 0.5) == header_waits
    assert whole_s >= 0.5
    assert (len(pieces) > 5) != header_waits


def test_read_timeout_meets_a_slow_first_byte():
    """A client that waits shorter than the fault lasts gets no answer."""
    with (
        served(faults=Faults([Fault("slow-first-byte", at=(1,), seconds=1.0)])) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get(LIST, timeout=0.2)


PAGED = {"orderBy": ASCENDING, "limit": 2, "after": ago(hours=1).isoformat()}


def test_foreign_next_leads_to_another_host():
    """The rows are honest and `next` keeps its cursor, but it points elsewhere."""
    with served(*every(timedelta(minutes=1), 3), faults=Faults([Fault("next-foreign", at=(1,))])) as client:
        foreign, honest = (client.get(LIST, params=PAGED) for _ in range(2))
        address = urlsplit(honest.json()["next"])

    assert numbers(foreign) == numbers(honest) == [3, 2]
    assert urlsplit(foreign.json()["next"]) == address._replace(netloc="elsewhere.invalid")


def test_repeating_next_asks_the_same_question_again():
    """The rows are honest and `next` is the request itself, its bound not moved."""
    with served(*every(timedelta(minutes=1), 3), faults=Faults([Fault("next-repeating", at=(1,))])) as client:
        repeating, honest = (client.get(LIST, params=PAGED) for _ in range(2))

    assert numbers(repeating) == numbers(honest)
    assert parse_qs(urlsplit(repeating.json()["next"]).query)["after"] == [PAGED["after"]]


@pytest.mark.parametrize("kind", NEXT_KINDS)
def test_next_of_a_complete_answer_stays_null(kind):
    """A false `next` replaces a true one and never invents more rows."""
    with served(*every(timedelta(minutes=1), 2), faults=Faults([Fault(kind, at=(1,))])) as client:
        answer = client.get(LIST, params=PAGED)

    assert (numbers(answer), answer.json()["next"]) == ([2, 1], None)


# Damage to one row --------------------------------------------------------------------------------------------------

DAMAGES = [
    pytest.param("nan", b'"properties":{"$damaged":NaN,"n":7}', id="nan"),
    pytest.param("bad-utf8", b'"properties":{"$damaged":"\xff\xfe","n":7}', id="bad-utf8"),
    pytest.param("deep", b'"$damaged":' + b"[" * 1000 + b"]" * 1000 + b',"n":7}', id="deep"),
    pytest.param("nanoseconds", b'"timestamp":"2026-07-01T11:00:00.000000789+00:00"', id="nanoseconds"),
    pytest.param("naive", b'"timestamp":"2026-07-01T11:00:00"', id="naive"),
]


@pytest.mark.parametrize(("kind", "part"), DAMAGES)
@pytest.mark.parametrize("path", [LIST, f"{LIST}00000000-0000-4000-8000-000000000001"], ids=["list", "detail"])
def test_damage_is_in_one_row(kind, part, path):
    """The damaged row carries its fault to the letter; the next answer is honest."""
    only = event(1, ago(hours=1), properties='{"n":7}')
    endpoint = "list" if path == LIST else "detail"
    with served(only, faults=Faults([Fault(kind, endpoint=endpoint, at=(1,))])) as client:
        damaged, honest = (client.get(path).content for _ in range(2))

    assert part in damaged
    assert part not in honest


@pytest.mark.parametrize("kind", [kind for kind in ROW_KINDS if kind != "stray-row"])
def test_damage_keeps_every_other_row(kind):
    """One row of the answer is damaged, and it is told which; the other bytes are those of the honest answer."""
    with (
        serve(
            Dataset(every(timedelta(minutes=1), 5)),
            profile=FREE,
            faults=Faults([Fault(kind, at=(1,))]),
            now=lambda: NOW,
        ) as simulator,
        client_of(simulator) as client,
    ):
        damaged, honest = (client.get(LIST).content for _ in range(2))
        ((told, uuid),) = simulator.damaged

    assert told == kind
    at = honest.index(f'{{"id":"{uuid}"'.encode())
    behind = honest.index(b'{"id"', at + 1) if b'{"id"' in honest[at + 1 :] else len(honest) - 2
    assert damaged.startswith(honest[:at])
    assert damaged.endswith(honest[behind:])
    assert damaged != honest


@pytest.mark.parametrize("kind", [kind for kind in ROW_KINDS if kind != "stray-row"])
def test_damage_hits_the_same_row_every_time(kind):
    """Without a uuid it is the least of the answer; with one that row, in the answers that have it and in no other."""
    events = every(timedelta(minutes=1), 6)
    for pinned, expected in (("", [1, 1, 3]), (events[1].uuid, [2, 2])):
        faults = Faults([Fault(kind, rate=1.0, uuid=pinned)])
        with (
            serve(Dataset(events), profile=FREE, faults=faults, now=lambda: NOW) as simulator,
            client_of(simulator) as client,
        ):
            client.get(LIST)
            client.get(LIST, params={"orderBy": ASCENDING})
            client.get(LIST, params={"before": events[1].timestamp.isoformat()})
            hit = [int(uuid[-12:]) for _, uuid in simulator.damaged]

        assert hit == expected


STRAYS = [
    pytest.param({}, "", [4, 3, 2], id="the last event before the range"),
    pytest.param({"orderBy": '["-timestamp"]'}, "", [2, 3, 4], id="newest first"),
    pytest.param(
        {"after": ago(minutes=9).isoformat()}, "", [5, 4, 3, 2, 1], id="the first behind where none is before"
    ),
    pytest.param({}, event(1, NOW).uuid, [3, 2, 1], id="pinned"),
    pytest.param({}, event(2, NOW).uuid, [3, 2], id="pinned to a row within the range"),
]


@pytest.mark.parametrize(("params", "pinned", "expected"), STRAYS)
def test_stray_row_is_from_outside_of_the_range(params, pinned, expected):
    """A real event that was not asked for comes along, in its place by time; no other row is missing."""
    bounds = {"orderBy": ASCENDING, "after": ago(minutes=4).isoformat(), "before": ago(minutes=1).isoformat()}
    faults = Faults([Fault("stray-row", at=(1,), uuid=pinned)])

    with served(*every(timedelta(minutes=1), 5), faults=faults) as client:
        assert numbers(client.get(LIST, params=bounds | params)) == expected


def test_every_fault_has_its_test():
    """No kind of fault is left out above."""
    tested = {kind for kind, *_ in STATUSES} | {
        "cut",
        "cut-gzip",
        "wrong-length",
        "reset",
        "done-504",
        "slow-first-byte",
        "slow-drip",
    }
    assert tested | {"next-foreign", "next-repeating"} == set(KINDS)
    assert {case.values[0] for case in DAMAGES} | {"stray-row"} == set(ROW_KINDS)
    assert (*STATUS_KINDS, *BODY_KINDS, *NEXT_KINDS) == KINDS
    assert not set(KINDS) & set(ROW_KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("reset", "wrong-length", "cut")])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_fault_of_query_leaves_the_next_answer_whole(kind, profile):
    """Every kind can befall /query, on every server; the request after it is answered as ever."""
    with served(faults=Faults([Fault(kind, endpoint="query", at=(1,), seconds=0.01)]), profile=profile) as client:
        first, second = (ask(client, "SELECT 1") for _ in range(2))

    assert second.status_code == (200 if profile.query_allowed else profile.query_refused_with)
    assert kind not in STATUS_KINDS or first.status_code == int(kind.removeprefix("html-")[:3])


BAD = [
    pytest.param({"kind": "506"}, "unknown fault", id="kind"),
    pytest.param({"kind": "500", "rate": 2}, "probability", id="rate"),
    pytest.param({"kind": "slow-drip", "seconds": -1}, "seconds", id="seconds"),
    pytest.param({"kind": "500", "uuid": "x"}, "damage", id="uuid"),
]


@pytest.mark.parametrize(("parts", "message"), BAD)
def test_fault_that_makes_no_sense_is_refused(parts, message):
    """A fault checks itself when it is made."""
    with pytest.raises(ValueError, match=message):
        Fault(**parts)


def test_fault_of_another_endpoint_does_not_touch_the_list():
    """A fault names its endpoint; `any` means all."""
    plan = Faults([Fault("500", endpoint="query", at=(1,)), Fault("503", endpoint="any", at=(2,))])

    with served(faults=plan) as client:
        listed = [client.get(LIST).status_code for _ in range(2)]
        queried = [ask(client, "SELECT 1").status_code for _ in range(2)]

    assert (listed, queried) == ([200, 503], [500, 503])
