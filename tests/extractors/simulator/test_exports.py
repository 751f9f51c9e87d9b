"""Exported assets and the store of their contents (facts/posthog-api.md §3, posthog-observed.md, Exports)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.exports import STUCK, ExportStore
from extractors.simulator.profiles import OLD_2023
from tests.extractors.simulator.asking import FREE, NOW, ago, served

EXPORTS = "/api/projects/1/exports/"
OLD = replace(OLD_2023, per_minute=None)

CREATED = [
    pytest.param({"export_format": "text/csv", "insight": 1}, "2026-07-08T00:00:00Z", id="a table lives a week"),
    pytest.param({"export_format": "image/png", "dashboard": 1}, "2026-12-28T00:00:00Z", id="a picture half a year"),
    pytest.param(
        {"export_format": "video/mp4", "export_context": {"session_recording_id": "r"}},
        "2027-07-01T00:00:00Z",
        id="a video a year",
    ),
    pytest.param(
        {"export_format": "text/csv", "insight": 1, "expires_after": "2030-01-01T00:00:00Z"},
        "2026-07-08T00:00:00Z",
        id="a sent expiry is ignored",
    ),
]


@pytest.mark.parametrize(("body", "expires_after"), CREATED)
def test_create_gives_an_asset_with_its_own_expiry(body, expires_after):
    """201 with the row; how long it lives depends on its format."""
    with served(exports=ExportStore()) as client:
        answer = client.post(EXPORTS, json=body)

    assert (answer.status_code, answer.json()["expires_after"]) == (201, expires_after)
    assert (answer.json()["has_content"], answer.json()["exception"]) == (True, None)


REFUSED = [
    pytest.param({}, "export_format", "required", id="no format"),
    pytest.param({"export_format": "text/csv"}, None, "invalid_input", id="no target"),
    pytest.param({"export_format": "x", "insight": 1}, "export_format", "invalid_choice", id="bad format"),
    pytest.param({"export_format": "text/csv", "dashboard": 54321}, "dashboard", "does_not_exist", id="unknown"),
    pytest.param({"export_format": "text/csv", "insight": 99}, "insight", "invalid_input", id="of another team"),
    pytest.param(
        {"export_format": "text/csv", "export_context": {"path": "/x", "method": "POST"}},
        "export_context",
        "invalid_input",
        id="not a GET",
    ),
    pytest.param(
        {"export_format": "video/mp4", "insight": 1, "export_context": {}},
        "export_context",
        "invalid_input",
        id="a video of no recording",
    ),
]


@pytest.mark.parametrize(("body", "attr", "code"), REFUSED)
def test_create_is_refused_with_the_field(body, attr, code):
    """400 names the field and makes no asset."""
    store = ExportStore()
    with served(exports=store) as client:
        answer = client.post(EXPORTS, json=body)

    assert (answer.status_code, answer.json()["attr"], answer.json()["code"]) == (400, attr, code)
    assert store.assets == []


def test_list_is_newest_first_and_the_owners_alone():
    """Pages of 100 with a count; others' assets and expired ones are not there, as in the detail."""
    store = ExportStore()
    for number in range(150):
        store.add("text/csv", ago(minutes=number))
    store.add("text/csv", ago(minutes=1), mine=False)
    store.add("text/csv", ago(days=8))
    with served(exports=store) as client:
        first = client.get(EXPORTS).json()
        second = client.get(first["next"]).json()
        lost = [client.get(f"{EXPORTS}{number}/").status_code for number in (151, 152)]

    assert (first["count"], len(first["results"]), len(second["results"]), second["next"]) == (150, 100, 50, None)
    assert [row["id"] for row in first["results"] + second["results"]] == list(range(1, 151))
    assert lost == [404, 404]


NOT_READY = [
    pytest.param(FREE, 425, "export_not_ready", False, id="425"),
    pytest.param(replace(FREE, export_not_ready=404), 404, "not_found", False, id="404"),
    pytest.param(replace(FREE, export_not_ready=409), 409, "conflict", False, id="409"),
    pytest.param(OLD, 404, "not_found", True, id="1.43: the look ends the asset's time"),
]


@pytest.mark.parametrize(("profile", "status", "code", "ended"), NOT_READY)
def test_content_that_is_not_ready(profile, status, code, ended):
    """Each version has its own status; 1.43 also damages the asset."""
    store = ExportStore()
    asset = store.add("text/csv", NOW, looks_left=1)
    with served(exports=store, profile=profile) as client:
        answer = client.get(f"{EXPORTS}{asset.id}/content/")

    assert (answer.status_code, answer.json()["code"], asset.expires_after == NOW) == (status, code, ended)


def test_asset_becomes_ready_after_some_looks():
    """Looking at the asset is what it takes; a stuck one shows an exception that is not stored."""
    store = ExportStore(looks=2)
    stuck = store.add("image/png", NOW - timedelta(minutes=11), content=None)
    with served(exports=store) as client:
        made = client.post(EXPORTS, json={"export_format": "text/csv", "insight": 1}).json()
        looks = [client.get(f"{EXPORTS}{made['id']}/").json()["has_content"] for _ in range(3)]
        told = client.get(f"{EXPORTS}{stuck.id}/").json()["exception"]

    assert (made["has_content"], looks) == (False, [False, False, True])
    assert (told, stuck.exception) == (STUCK, None)


def test_content_lies_with_another_host_that_refuses_a_key():
    """302 to a signed address elsewhere; Range and If-Range work there; a key on top is refused and noted."""
    store = ExportStore()
    blob = Blob(b"0123456789", 5_000_000)
    asset = store.add("text/csv", NOW, content=blob)
    with served(exports=store) as client:
        answer = client.get(f"{EXPORTS}{asset.id}/content/")
        address = answer.headers["Location"]
        whole = httpx.get(address)
        rest = httpx.get(address, headers={"Range": "bytes=4999990-", "If-Range": whole.headers["ETag"]})
        other = httpx.get(address, headers={"Range": "bytes=4999990-", "If-Range": '"other"'})
        refused = httpx.get(address, headers={"Authorization": "Bearer x"})

    assert answer.status_code == 302
    assert (whole.status_code, len(whole.content)) == (200, 5_000_000)
    assert (rest.status_code, rest.content, rest.headers["Content-Range"]) == (
        206,
        b"0123456789",
        "bytes 4999990-4999999/5000000",
    )
    assert (other.status_code, len(other.content)) == (200, 5_000_000)
    assert (refused.status_code, store.storage.keys_seen) == (400, ["Bearer x"])


def test_content_of_the_database_comes_whole():
    """Servers without a store answer the bytes; `download` names the file."""
    with served(exports=(store := ExportStore()), profile=OLD) as client:
        asset = store.add("text/csv", NOW, export_context={"filename": "My Events!"})
        answer = client.get(f"{EXPORTS}{asset.id}/content/", params={"download": "true"}, headers={"Range": "bytes=5-"})
        listing = client.get(EXPORTS)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/csv")
    assert 'filename="my-events-' in answer.headers["Content-Disposition"]
    assert listing.status_code == 405
