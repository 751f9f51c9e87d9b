"""Evaluations of the simulator (facts/posthog-api.md §4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.profiles import OLD_2023
from tests.extractors.simulator.asking import FREE, NOW, ago, served

EVALUATIONS = "/api/projects/1/evaluations/"


def store_of(*names: str) -> EvaluationStore:
    store = EvaluationStore()
    for name in names:
        store.add(name, ago(hours=1))
    return store


def test_delete_is_405_with_an_empty_body():
    """Unlike every other error there is no error object."""
    store = store_of("one")
    with served(evaluations=store) as client:
        answer = client.delete(f"{EVALUATIONS}{store.rows[0]['id']}/")

    assert (answer.status_code, answer.content) == (405, b"")


def test_soft_delete_hides_and_patch_brings_back():
    """GET and list hide a deleted row; PATCH still finds it."""
    store = store_of("one", "two")
    address = f"{EVALUATIONS}{store.rows[0]['id']}/"
    with served(evaluations=store) as client:
        gone = client.patch(address, json={"deleted": True})
        hidden = (client.get(address).status_code, client.get(EVALUATIONS).json()["count"])
        back = client.patch(address, json={"deleted": False})

    assert (gone.status_code, hidden, back.json()["deleted"]) == (200, (404, 1), False)


def test_list_of_one_moment_has_an_order():
    """Equal created_at: by id, so that pages fit together."""
    with served(evaluations=store_of(*"abcde")) as client:
        pages = [client.get(EVALUATIONS, params={"limit": 2, "offset": at}).json() for at in (0, 2, 4)]

    assert [row["name"] for page in pages for row in page["results"]] == list("abcde")
    assert [page["count"] for page in pages] == [5, 5, 5]


FILTERS = [
    pytest.param({"search": "POL"}, ["polite"], id="search"),
    pytest.param({"enabled": "false"}, ["polite"], id="enabled"),
    pytest.param({"order_by": "-name"}, ["short", "polite", "helpful"], id="order"),
    pytest.param({"evaluation_type": "hog"}, [], id="type"),
]


@pytest.mark.parametrize(("params", "names"), FILTERS)
def test_list_is_filtered(params, names):
    """The filters of the list."""
    store = store_of("helpful", "short")
    store.add("polite", ago(hours=1), enabled=False)
    with served(evaluations=store) as client:
        rows = client.get(EVALUATIONS, params=params).json()["results"]

    assert [row["name"] for row in rows] == names


CHANGES = [
    pytest.param({"enabled": False}, "status", "paused", id="enabled drives status"),
    pytest.param({"evaluation_config": {"prompt": "  x "}}, "evaluation_config", {"prompt": "x"}, id="trimmed"),
    pytest.param({"status": "error"}, "status", "active", id="read-only"),
    pytest.param(
        {"output_config": {"true_is_failure": True}},
        "output_config",
        {"allows_na": False, "true_is_failure": True},
        id="merged",
    ),
    pytest.param({"frobnicate": 1}, "name", "one", id="unknown keys are passed over"),
]


@pytest.mark.parametrize(("change", "name", "value"), CHANGES)
def test_patch_changes_what_is_writable(change, name, value):
    """200 with the whole row."""
    store = store_of("one")
    with served(evaluations=store) as client:
        answer = client.patch(f"{EVALUATIONS}{store.rows[0]['id']}/", json=change)

    assert (answer.status_code, answer.json()[name]) == (200, value)


REFUSALS = [
    pytest.param({"evaluation_config": {"prompt": " "}}, "config", id="empty prompt"),
    pytest.param({"name": "x" * 401}, "name", id="long name"),
    pytest.param({"conditions": [{"id": "a", "rollout_percentage": 101}]}, "conditions", id="over 100 percent"),
    pytest.param({"evaluation_type": "hog", "evaluation_config": {"source": "x"}}, "model_configuration", id="model"),
]


@pytest.mark.parametrize(("change", "attr"), REFUSALS)
def test_patch_is_refused_with_the_field_and_changes_nothing(change, attr):
    """400 names the field; the row stays."""
    store = store_of("one")
    before = dict(store.rows[0])
    with served(evaluations=store) as client:
        answer = client.patch(f"{EVALUATIONS}{before['id']}/", json=change)

    assert (answer.status_code, answer.json()["attr"]) == (400, attr)
    assert store.rows[0] == before


def test_create_and_put():
    """The rest of the verbs: 201, and a whole row by PUT."""
    body = {"name": "new", "evaluation_type": "hog", "evaluation_config": {"source": "true"}, "output_type": "boolean"}
    with served(evaluations=EvaluationStore()) as client:
        made = client.post(EVALUATIONS, json=body)
        put = client.put(f"{EVALUATIONS}{made.json()['id']}/", json=body | {"name": "newer"})

    assert (made.status_code, put.status_code, put.json()["name"]) == (201, 200, "newer")
    assert put.json()["updated_at"] == NOW.isoformat().replace("+00:00", "Z")


def test_unknown_and_no_uuid_are_404_in_words():
    """The newer words name the id."""
    with served() as client:
        answers = [client.get(f"{EVALUATIONS}{name}/") for name in ("x", "00000000-0000-4000-8000-00000000ffff")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert "No evaluation 'x' in this project" in answers[0].json()["detail"]


def test_older_servers_have_fewer_fields_or_none():
    """Older ones lack status and have compiled conditions; 1.43 has no evaluations."""
    with served(evaluations=store_of("one"), profile=replace(FREE, evaluations_newer=False)) as client:
        row = client.get(EVALUATIONS).json()["results"][0]
    with served(profile=OLD_2023) as client:
        missing = client.get(EVALUATIONS)

    assert "status" not in row
    assert "bytecode" in row["conditions"][0]
    assert (missing.status_code, missing.json()["detail"]) == (404, "Endpoint not found.")
