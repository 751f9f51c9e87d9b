"""Evaluations: only what differs is sent, once, and a lost answer is looked up."""

from __future__ import annotations

from uuid import UUID

import pytest

from extractors import errors
from extractors.lists import evaluations
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import serve
from tests.extractors.lists.test_lookups import NOW, UNLIMITED, client_of

CHANGED = [
    pytest.param({"name": "a", "enabled": True}, {"name": "a", "enabled": True}, {}, id="nothing"),
    pytest.param({"name": "a", "enabled": True}, {"name": "b", "enabled": True}, {"name": "b"}, id="one of two"),
    pytest.param({"name": "a"}, {"description": ""}, {"description": ""}, id="a key the row lacks"),
]


@pytest.mark.parametrize(("row", "wanted", "expected"), CHANGED)
def test_only_what_differs_is_sent(row, wanted, expected):
    """Keys that are so already are left out."""
    assert evaluations.changed(row, wanted) == expected


PROMPTS = [
    pytest.param(
        {"evaluation_config": {"prompt": "old", "more": 1}},
        {"evaluation_config": {"prompt": "new", "more": 1}},
        id="in the config, beside other keys",
    ),
    pytest.param({"prompt": "old"}, {"prompt": "new"}, id="on top"),
]


@pytest.mark.parametrize(("row", "expected"), PROMPTS)
def test_prompt_goes_where_the_row_keeps_it(row, expected):
    """Servers keep it in different places."""
    assert evaluations.with_prompt(row, "new") == expected


@pytest.mark.parametrize("row", [{"evaluation_type": "hog", "evaluation_config": {"source": "x"}}, {}])
def test_prompt_of_what_has_none_is_refused(row):
    """A prompt is not written where none belongs."""
    with pytest.raises(ValueError, match="has no prompt"):
        evaluations.with_prompt(row, "new")


def store_of(count: int) -> EvaluationStore:
    store = EvaluationStore()
    for number in range(count):
        store.add(f"number {number}", NOW)
    return store


def test_every_evaluation_comes_once(tmp_path):
    """More than a page, all of one moment; unknown keys are kept."""
    store = store_of(230)
    for row in store.rows:
        row["brand_new"] = {"a": 1}
    with serve(Dataset(), profile=UNLIMITED, evaluations=store) as simulator:
        found = list(evaluations.evaluations(client_of(simulator, tmp_path), 1))

    assert {row["name"] for row in found} == {f"number {number}" for number in range(230)}
    assert len(found) == 230
    assert found[0]["brand_new"] == {"a": 1}


LOST = ["reset", "done-504", "cut", "html-200"]


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("changes", [{"name": "new"}, {"deleted": True}], ids=["change", "delete"])
def test_lost_answer_is_looked_up(kind, changes, tmp_path):
    """One PATCH; the row tells whether it was done."""
    done = kind != "html-200"  # the only one that did not get through
    store = store_of(1)
    name = UUID(store.rows[0]["id"])
    with serve(
        Dataset(),
        profile=UNLIMITED,
        evaluations=store,
        faults=Faults([Fault(kind, endpoint="evaluation", at=(1,))]),
    ) as simulator:
        client = client_of(simulator, tmp_path)
        if done:
            after = evaluations.change(client, 1, name, changes)
            assert after == (None if "deleted" in changes else store.rows[0])
            assert store.rows[0].items() >= changes.items()
        else:
            with pytest.raises(errors.AnswerLost, match="does not show the change"):
                evaluations.change(client, 1, name, changes)

    assert [seen.method for seen in simulator.requests] == ["PATCH", "GET"]
    assert all((store.rows[0][key] == value) == done for key, value in changes.items())
