"""What `hedgerow check` says and advises: a scope only where one helps, the clock where it is wrong, limits above the cloud's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from extractors.errors import LimitsExhausted
from extractors.filters import EventFilter
from extractors.reading.events import EventsReader
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from extractors.window import Range
from flows.report import results
from flows.runs import check, estimate, wiring
from flows.runs.check import Finding, Verdict, listing
from flows.settings.load import load
from flows.settings.model import Settings
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


SIZES = [
    ((1_000, "an address"), "pages of 1,000 rows at most"),
    ((check.PAGE, "an address"), "pages of 1,001 rows or more"),
    ((700, None), "700 rows in the last 1 day"),
]


@pytest.mark.parametrize(("page", "said"), SIZES)
def test_size_of_a_page_says_whether_it_is_a_cap(page, said):
    """Fewer rows than asked and more to come is the server's cap; as many as asked is none; without more it is all."""
    received, more = page
    found: Any = SimpleNamespace(received=received, more=more)

    assert check._size(found, timedelta(days=1)) == said


CLOUD, OWN = "https://eu.posthog.com", "https://posthog.example.com"
LIMITS = [
    ({"host": CLOUD}, False),
    ({"host": CLOUD, "requests_per_minute": 100, "requests_per_hour": 1200}, False),
    ({"host": CLOUD, "requests_per_hour": 1201}, True),
    ({"host": CLOUD, "requests_per_minute": 241}, True),
    ({"host": OWN, "requests_per_hour": 5000}, False),
]


@pytest.mark.parametrize(("source", "told"), LIMITS)
def test_limits_above_the_cloud_s_are_told(source, told):
    """Whoever sets them waits all the same; a server of one's own has limits of its own. A plan's time is told, too."""
    settings = Settings.model_validate({"source": source})

    assert bool(wiring.beyond_cloud(settings)) is told
    assert [note for note in estimate.notes(settings) if "PostHog Cloud answers" in note] == (
        estimate.notes(settings) if told else []
    )


def test_a_line_is_shown_as_it_comes(capsys):
    """With what it took where more is to be said, and not when all are tried."""

    def tried() -> Iterator[Finding]:
        yield Finding("host", Verdict.OK, "answers", requests=1, seconds=0.5)
        pytest.fail("the second is tried before the first is shown")

    next(results.shown_findings(tried(), verbose=True))

    assert capsys.readouterr().out == "  ok   host         answers · 1 request · 0.50 s\n"
