"""Lists that are read whole: proven by their count, by their twin, and dated by two answers that agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from extractors import errors
from extractors.lists import history, lookups
from extractors.lists.history import Disagreement, Known, disagreement, read
from extractors.lists.lookups import Listed
from extractors.lists.resources import ANNOTATIONS, EVALUATIONS, Resource, Twin
from extractors.simulator.assets.lists import ListStore, stores
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import Simulator, serve
from tests.extractors.lists.test_evaluations import store_of
from tests.extractors.lists.test_lookups import NOW, UNLIMITED, client_of


@pytest.fixture
def store() -> ListStore:
    made = stores()["annotations"]
    for _ in range(5):
        made.add(NOW)
    return made


@pytest.fixture
def simulator(store) -> Iterator[Simulator]:
    with serve(Dataset(), profile=UNLIMITED, lists={"annotations": store}, now=lambda: NOW) as running:
        yield running


# --- dated and counted by two answers


@pytest.mark.parametrize(
    ("rows", "asked"), [pytest.param(3, 2, id="one page"), pytest.param(150, 2, id="two pages that agree")]
)
def test_a_list_of_one_page_is_asked_once_more(rows, asked, tmp_path):
    """Where there were several answers already, nothing is asked beyond them."""
    with serve(Dataset(), profile=UNLIMITED, evaluations=store_of(rows)) as simulator:
        reading = read(client_of(simulator, tmp_path), 1, EVALUATIONS)

    assert (len(reading.rows), reading.complete, simulator.count("evaluations")) == (rows, True, asked)


@pytest.mark.parametrize("wrong", [1, 2, 3])
@pytest.mark.parametrize("ahead", [timedelta(days=-9), timedelta(days=9)], ids=["behind", "ahead"])
def test_one_answer_with_a_wrong_clock_dates_nothing(wrong, ahead, tmp_path):
    """Whichever of the first answers is wrong: the time is that on which two agree."""
    answers: list[Any] = []

    def clock() -> datetime:
        return NOW + (ahead if len(answers) == wrong else timedelta(0))

    with serve(
        Dataset(), profile=UNLIMITED, evaluations=store_of(1), now=clock, on_request=answers.append
    ) as simulator:
        client = client_of(simulator, tmp_path)
        read(client, 1, EVALUATIONS)

    assert client.served_at is not None
    assert abs(client.served_at - NOW) < timedelta(minutes=1)


def test_a_list_that_grows_meanwhile_is_read_again(store, tmp_path):
    """One row more between the walk and the count: the second reading has it."""

    def grow(seen: Any) -> None:
        if (seen.endpoint, seen.number) == ("annotations", 2):
            store.add(NOW)

    with serve(Dataset(), profile=UNLIMITED, lists={"annotations": store}, on_request=grow) as simulator:
        reading = read(client_of(simulator, tmp_path), 1, ANNOTATIONS)

    assert (len(reading.rows), reading.proven) == (6, True)


@pytest.mark.parametrize("miscounted", [-1, 1])
def test_a_count_that_never_agrees_is_told_with_the_rows(miscounted, store, simulator, tmp_path):
    """What came is there, and not called complete."""
    store.miscounted = miscounted
    reading = read(client_of(simulator, tmp_path), 1, ANNOTATIONS)

    assert (len(reading.rows), reading.count, reading.complete) == (5, 5 + miscounted, False)
    assert simulator.count("annotations") <= 10  # five walks, and not several times five


def test_whole_numbers_are_whole_numbers(store, simulator, tmp_path):
    """An id of another kind would be another object, or none: nothing is landed."""
    store.rows[0]["id"] = "1"
    with pytest.raises(errors.UnusableAnswer, match="no whole number"):
        read(client_of(simulator, tmp_path), 1, replace(ANNOTATIONS, twin=None))


def test_the_address_that_every_server_has_is_asked_first(simulator, tmp_path):
    """No request is lost on the other; and where no address has the list, that is said."""
    read(client_of(simulator, tmp_path), 1, ANNOTATIONS)

    assert {seen.path for seen in simulator.requests if seen.endpoint != "query"} == {"/api/projects/1/annotations/"}
    with pytest.raises(errors.EndpointMissing, match="no list of cohorts"):
        read(client_of(simulator, tmp_path), 1, Resource("cohorts", prefix="projects"))


# --- the twin

TWIN = Twin("system.t", beyond=("scope", "organization"), parents=("dashboard_id",))
KNOWN = Known(living=frozenset({1, 2, 3}), deleted=frozenset({9}), hanging=frozenset({3}))
DIFFERENCES = [
    pytest.param([1, 2, 3], {}, Disagreement((), ()), id="the same"),
    pytest.param([1, 2], {}, Disagreement((), ()), id="hidden with its dashboard"),
    pytest.param([1, 3], {}, Disagreement((), (2,)), id="not in the list"),
    pytest.param([1, 2, 3, 4], {}, Disagreement((4,), ()), id="in the list alone"),
    pytest.param([1, 2, 3, 4], {"scope": "organization"}, Disagreement((), ()), id="of another project"),
    pytest.param([1, 2, 9], {}, Disagreement((9,), ()), id="deleted and shown"),
    pytest.param([1, 2, 9], {"deleted": True}, Disagreement((), ()), id="shown as deleted"),
    pytest.param([], {}, Disagreement((), (1, 2)), id="none"),
]


@pytest.mark.parametrize(("ids", "last", "expected"), DIFFERENCES)
def test_list_and_twin_are_compared_both_ways(ids, last, expected):
    """Only what both should show can differ; *last*: what is told of the last row."""
    rows = tuple({"id": one} | (last if one == ids[-1] else {}) for one in ids)

    assert disagreement(rows, TWIN, KNOWN) == expected


def test_a_twin_is_read_to_its_end_whatever_a_page_holds(store, simulator, tmp_path, monkeypatch):
    """Pages that the server cuts, of 2 rows: every id, deleted ones too."""
    monkeypatch.setattr(history, "TWIN_ROWS", 2)
    store.rows[3] |= {"deleted": True}
    store.rows[4] |= {"dashboard_item": 8}
    reading = read(client_of(simulator, tmp_path), 1, ANNOTATIONS)

    assert reading.twin == Known(frozenset({1, 2, 3, 5}), frozenset({4}), frozenset({5}))
    assert (reading.proven, simulator.count("query")) == (True, 4)


def test_a_twin_that_differs_once_is_asked_again(store, tmp_path):
    """A row that is made between list and query is in both at the second reading."""

    def grow(seen: Any) -> None:
        if (seen.endpoint, seen.number) == ("query", 1):
            store.add(NOW)

    with serve(Dataset(), profile=UNLIMITED, lists={"annotations": store}, on_request=grow) as simulator:
        reading = read(client_of(simulator, tmp_path), 1, ANNOTATIONS)

    assert (len(reading.rows), reading.proven) == (6, True)


def test_a_query_that_fails_for_a_while_is_told_and_keeps_nothing_back(store, tmp_path):
    """The list is landed all the same; that nothing was compared is said."""
    faults = Faults([Fault("500", endpoint="query", at=tuple(range(1, 50)))])
    with serve(Dataset(), profile=UNLIMITED, lists={"annotations": store}, faults=faults) as simulator:
        reading = read(client_of(simulator, tmp_path), 1, ANNOTATIONS)

    assert (len(reading.rows), reading.twin, reading.proven) == (5, None, True)
    assert "500" in reading.unanswered


class Answering:
    """A client whose list is empty, and whose queries answer *pages*."""

    def __init__(self, pages: list[list[list[int]]]) -> None:
        self.pages = pages

    def send(self, request: Any) -> Any:
        body = json.dumps({"results": self.pages.pop(0)}).encode()
        return type("Answer", (), {"body": body})


@pytest.mark.parametrize("page", [[[2, 0], [1, 0]], [[1, 0], [1, 0]], [[-1, 0]]], ids=["descending", "twice", "before"])
def test_ids_that_do_not_ascend_are_no_answer(page):
    """Else the walk would not end, or leave some out."""
    with pytest.raises(errors.UnusableAnswer, match="ascending"):
        history._known(Answering([page, []]), 1, Twin("system.t"))  # type: ignore[arg-type]


def test_twin_needs_numbers():
    """Uuids are in another order at each engine."""
    with pytest.raises(ValueError, match="whole-numbered"):
        Resource("evaluations", twin=Twin("system.evaluations"))


def test_a_list_that_never_shows_all_is_an_error_of_its_own():
    """So that what came can be told from a source that is away."""
    with pytest.raises(lookups.NeverWhole):
        list(lookups.every(lambda limit, offset: Listed(({"id": 1},), 2)))
