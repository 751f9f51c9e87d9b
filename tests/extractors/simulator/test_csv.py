"""Answers as CSV (facts/posthog-api.md §1.8)."""

from __future__ import annotations

import pytest

from tests.extractors.simulator.asking import LIST, ago, event

ACCEPTS = {"Accept": "text/csv"}


def test_csv_is_flat_sorted_and_has_no_next(shared):
    """Columns over the page's keys, booleans as Python says them, CRLF."""
    answer = shared.get(LIST, params={"format": "csv", "event": "buy"}, headers=ACCEPTS)

    header, first, *_ = answer.text.split("\r\n")
    assert answer.headers["Content-Type"].startswith("text/csv")
    names = header.split(",")
    assert names == sorted(names)
    assert dict(zip(names, first.split(","), strict=True))["properties.ok"] == "True"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        pytest.param(LIST, {"event": "none"}, id="no rows, not even a header"),
        pytest.param(LIST, {"properties": "{"}, id="an error"),
        pytest.param(f"{LIST}{event(1, ago(hours=1)).uuid}/", {}, id="one event"),
    ],
)
def test_csv_without_rows_is_an_empty_body(path, params, shared):
    """The renderer knows rows only."""
    assert shared.get(path, params={"format": "csv"} | params, headers=ACCEPTS).content == b""


@pytest.mark.parametrize(
    ("params", "accept", "status"),
    [
        pytest.param({"format": "csv"}, "application/json", 406, id="format and header disagree"),
        pytest.param({"format": "xml"}, "*/*", 404, id="unknown format"),
        pytest.param({}, "text/csv", 200, id="by the header alone"),
    ],
)
def test_format_is_negotiated(params, accept, status, shared):
    """What the header does not allow is refused."""
    assert shared.get(LIST, params=params, headers={"Accept": accept}).status_code == status
