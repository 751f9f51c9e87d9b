"""Exports: what is sent, what is read, and waiting without looking at the content too early."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors import errors
from extractors.lists import exports
from extractors.lists.exports import FORMATS, NewExport, asset_of
from extractors.simulator.assets.exports import STUCK, ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import serve
from tests.extractors.lists.test_lookups import NOW, UNLIMITED, client_of

TARGETS = [
    pytest.param({"insight": 1}, id="insight"),
    pytest.param({"dashboard": 2}, id="dashboard"),
    pytest.param({"context": '{"source":{"kind":"HogQLQuery","query":"SELECT 1"}}'}, id="context"),
    pytest.param({"insight": 1, "dashboard": 2, "context": '{"filename":"x"}'}, id="all three"),
    pytest.param({"insight": 1, "context": "{}"}, id="insight and an empty context"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("export_format", FORMATS.values(), ids=FORMATS)
def test_every_order_is_sent_as_documented(export_format, target):
    """Format and targets as given, our mark in the context, nothing else; the user's own keys stay."""
    order = NewExport(export_format, **target, expires_after=datetime(2030, 1, 1, tzinfo=UTC))

    body = json.loads(order.body("m1"))

    assert body.pop("export_format") == export_format
    assert body.pop("export_context") == json.loads(target.get("context", "{}")) | {"hedgerow": "m1"}
    assert body.pop("expires_after") == "2030-01-01T00:00:00.000000+00:00"
    assert body == {name: value for name, value in target.items() if name != "context"}


@pytest.mark.parametrize("given", [{}, {"context": "[]"}, {"context": "{"}], ids=["nothing", "no object", "no JSON"])
def test_order_of_nothing_cannot_be_built(given):
    """Refused before anything is asked."""
    with pytest.raises(ValueError, match=r"nothing to export|no JSON object|Expecting"):
        NewExport("text/csv", **given)


ORDER = NewExport("text/csv", insight=1, dashboard=2, context='{"a":1}')
OTHERS = [{"export_format": "image/png"}, {"insight": 3}, {"dashboard": 3}, {"context": '{"a":2}'}, {"context": None}]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{other}")
def test_order_of_something_else_is_another(other):
    """What is exported and how: an order whose answer was lost is not taken for one of anything else."""
    assert replace(ORDER, **other).identity != ORDER.identity


def test_order_with_another_expiry_is_the_same():
    """The same command an hour later names another time."""
    assert replace(ORDER, expires_after=NOW).identity == ORDER.identity


def test_create_gives_the_asset_with_its_granted_expiry(tmp_path):
    """201: the row; the expiry is the server's."""
    order = NewExport("text/csv", insight=1, expires_after=NOW + timedelta(days=90))
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW, exports=ExportStore()) as simulator:
        made = exports.create(client_of(simulator, tmp_path), 1, order, mark="m1", answer_s=10)

    assert (made.has_content, made.mark, made.expires_after) == (True, "m1", datetime(2026, 3, 27, tzinfo=UTC))


LOST = ["reset", "done-504", "cut", "html-200", "502", "500", "503", "503-after"]


@pytest.mark.parametrize("kind", LOST)
def test_create_is_sent_once_whatever_comes(kind, tmp_path):
    """No answer, half an answer, a proxy's page: one POST, and an error that says it is not known."""
    faults = Faults([Fault(kind, endpoint="exports", at=(1, 2, 3, 4))])
    with serve(Dataset(), profile=UNLIMITED, exports=ExportStore(), faults=faults) as simulator:
        client = client_of(simulator, tmp_path)
        with pytest.raises(errors.AnswerLost, match="not known"):
            exports.create(client, 1, NewExport("text/csv", insight=1), mark="m1", answer_s=10)

    assert [seen.method for seen in simulator.requests] == ["POST"]


def test_create_that_is_refused_for_the_limit_is_sent_again(tmp_path):
    """429 says that nothing was done: it waits as told and asks again."""
    faults = Faults([Fault("429", endpoint="exports", at=(1,))])
    with serve(Dataset(), profile=UNLIMITED, exports=ExportStore(), faults=faults) as simulator:
        made = exports.create(
            client_of(simulator, tmp_path), 1, NewExport("text/csv", insight=1), mark="m1", answer_s=10
        )

    assert (made.id, len(simulator.exports.assets)) == (1, 1)


def test_create_does_not_wait_longer_than_it_listens(tmp_path):
    """The server works on; we look for the mark instead."""
    store = ExportStore(blocks_s=3.0)
    with serve(Dataset(), profile=UNLIMITED, exports=store) as simulator:
        client = client_of(simulator, tmp_path)
        with pytest.raises(errors.AnswerLost, match="no answer in time"):
            exports.create(client, 1, NewExport("text/csv", insight=1), mark="m1", answer_s=0.3)
        found = exports.found_again(client, 1, "m1", pause=lambda seconds: None)

    assert found is not None
    assert found.id == 1


def test_mark_is_found_among_others(tmp_path):
    """Whatever contexts the others have; an unknown mark is not found."""
    store = ExportStore()
    for context in (None, {}, [], "x", {"hedgerow": "m2"}, {"hedgerow": 3}):
        store.add("text/csv", NOW, export_context=context)
    store.add("text/csv", NOW - timedelta(days=1), export_context={"hedgerow": "m1"})
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW, exports=store) as simulator:
        client = client_of(simulator, tmp_path)
        found = exports.marked(client, 1, "m1")
        missing = exports.marked(client, 1, "m9")

    assert (found and found.id, missing) == (7, None)


def test_waiting_looks_at_the_asset_alone(tmp_path):
    """Until it is ready, seldom in the end; the content's address is never asked."""
    store = ExportStore()
    asset = store.add("text/csv", NOW, looks_left=7)
    pauses: list[float] = []
    with serve(Dataset(), profile=replace(OLD_2023, rest_per_minute=None), now=lambda: NOW, exports=store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, asset.id)
        done = exports.finished(client, 1, one, pause=pauses.append)

    assert done.has_content
    assert pauses == [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 15.0]
    assert simulator.count("content") == 0
    assert asset.expires_after != NOW


ENDS = [
    pytest.param({"exception": "Query failed"}, errors.RequestRefused, "export 1 failed: Query failed", id="failed"),
    pytest.param({}, errors.SourceUnavailable, "not ready after 36 minutes", id="never ready"),
]


@pytest.mark.parametrize(("asset", "error", "words"), ENDS)
def test_waiting_ends(asset, error, words, tmp_path):
    """With PostHog's reason, or when the server's own limit is past."""
    store = ExportStore()
    store.add("text/csv", NOW, content=None, **asset)
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW, exports=store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, 1)
        with pytest.raises(error, match=words):
            exports.finished(client, 1, one, pause=lambda seconds: None)


def test_made_up_exception_is_waited_through(tmp_path):
    """A stuck export shows an exception that is not stored: a late success replaces it."""
    store = ExportStore()
    asset = store.add("text/csv", NOW - timedelta(hours=1), looks_left=2)
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW, exports=store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, asset.id)
        done = exports.finished(client, 1, one, pause=lambda seconds: None)

    assert one.exception == STUCK
    assert done.has_content


ROWS = [
    pytest.param({"id": 1}, (1, False, None, None), id="only an id"),
    pytest.param({"id": 1, "has_content": "true", "exception": "x", "new": 1}, (1, True, "x", None), id="a new key"),
    pytest.param(
        {"id": 1, "has_content": False, "expires_after": "2026-01-01T00:00:00Z"},
        (1, False, None, datetime(2026, 1, 1, tzinfo=UTC)),
        id="a time",
    ),
    pytest.param({"id": 1, "expires_after": "soon"}, (1, False, None, None), id="no time"),
]


@pytest.mark.parametrize(("row", "expected"), ROWS)
def test_asset_is_read_whatever_keys_it_has(row, expected):
    """Missing and new keys; `has_content` is a string in the OpenAPI text and a boolean in fact."""
    one = asset_of(row)
    assert (one.id, one.has_content, one.exception, one.expires_after) == expected


def test_another_users_export_is_not_found(tmp_path):
    """404 of the entry, not of the project."""
    store = ExportStore()
    store.add("text/csv", NOW, mine=False)
    with serve(Dataset(), profile=UNLIMITED, now=lambda: NOW, exports=store) as simulator:
        client = client_of(simulator, tmp_path)
        with pytest.raises(errors.NotFound, match="no export 1 in this project"):
            exports.asset(client, 1, 1)
        with pytest.raises(errors.AccessDenied, match="Project not found"):
            exports.asset(client, 2, 1)
