"""What `hedgerow check` advises: a scope only where a scope helps, and the clock where it is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from extractors.errors import LimitsExhausted
from extractors.filters import EventFilter
from extractors.reading.events import EventsReader
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from extractors.window import Range
from flows.runs import check
from flows.runs.check import Verdict, listing
from flows.settings.load import load
from tests.extractors.http.test_client import body, client, server
from tests.flows.harness import UNLIMITED

MINUTE = timedelta(minutes=1)

ANSWERS = [
    pytest.param(200, "", "", Verdict.OK, "", id="answers"),
    pytest.param(
        403, "permission_denied", "missing scope 'export:read'", Verdict.WARN, "scope export:read", id="scope"
    ),
    pytest.param(403, "permission_denied", "No membership.", Verdict.WARN, "access to this project", id="no access"),
    pytest.param(404, "not_found", "Endpoint not found.", Verdict.SKIP, "", id="no such address"),
    pytest.param(405, "method_not_allowed", 'Method "GET" not allowed.', Verdict.SKIP, "", id="no list"),
    pytest.param(400, "invalid_input", "Unsupported call.", Verdict.WARN, "no scope helps", id="not understood"),
    pytest.param(302, "", "", Verdict.WARN, "POSTHOG_HOST", id="a redirect"),
]


@pytest.mark.parametrize(("status", "code", "detail", "verdict", "mend"), ANSWERS)
def test_list_that_does_not_answer_is_mended_by_what_helps(status, code, detail, verdict, mend, tmp_path):
    """A missing scope, a missing membership, an old server and a refused question are four things."""
    said = {"results": []} if status == 200 else {"type": "x", "code": code, "detail": detail, "attr": None}
    with server(lambda handler: body(handler, json.dumps(said).encode(), status=status)) as (url, _):
        finding = listing(client(url, tmp_path), 1, "exports", scope="export:read")

    assert finding.verdict is verdict
    assert mend in finding.mend
    assert bool(mend) == bool(finding.mend)
    assert ("too old" in finding.found) == (verdict is Verdict.SKIP)
    assert finding.error is None  # exports and evaluations decide no exit status


def used_up(rng: Range) -> None:
    raise LimitsExhausted("no query is left of this hour", retry_after_s=1)


def test_a_query_that_fails_only_warns(tmp_path, monkeypatch):
    """Without an answer to a count everything can be loaded: no exit status is decided by it."""
    with server(lambda handler: body(handler, b"{}")) as (url, _):
        reader = EventsReader(client(url, tmp_path), 1, events=EventFilter())
        monkeypatch.setattr(reader.probe, "hour_counts", used_up)
        finding = check._query(reader, 1)

    assert (finding.verdict, finding.error) == (Verdict.WARN, None)


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        pytest.param(5 * MINUTE, Verdict.WARN, "ahead of", id="ahead"),
        pytest.param(-5 * MINUTE, Verdict.WARN, "behind", id="behind"),
        pytest.param(-MINUTE, Verdict.OK, "behind", id="a minute behind"),
    ],
)
def test_clock_that_is_wrong_either_way_is_told(ahead, verdict, words, tmp_path):
    """Relative times are taken from it: by how much it is wrong is said, and what sets it."""
    with serve(Dataset(), profile=UNLIMITED, now=lambda: datetime.now(UTC) - ahead) as source:
        flags = {"source.host": source.url, "source.key": source.key, "source.state_dir": tmp_path}
        settings = load(flags | {"destination.address": f"file:{tmp_path / 'lake'}"}, directory=tmp_path).settings
        (clock,) = [one for one in check.check(settings, 1) if one.name == "clock"]

    assert (clock.verdict, words in clock.found, "NTP" in clock.mend) == (verdict, True, verdict is Verdict.WARN)
