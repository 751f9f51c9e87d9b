"""What a run is built of, out of the settings."""

from __future__ import annotations

from extractors.http import pacing
from extractors.http.pacing import Limit, Wait
from extractors.request import Bucket
from flows.runs import wiring
from flows.runs.destinations import destination_of
from flows.settings.model import Settings
from sinks.duckdb_file.sink import DuckDBSink


def test_each_kind_of_request_keeps_its_own_limit():
    """The list's are the settings'; those of queries, values and the rest are PostHog's own."""
    settings = Settings.model_validate({"source": {"requests_per_minute": 7, "requests_per_hour": 70}})

    assert wiring.limits_of(settings) == {
        Bucket.LIST: Limit(7, 70),
        Bucket.QUERY: pacing.QUERY,
        Bucket.VALUES: pacing.VALUES,
        Bucket.REST: pacing.REST,
    }
    assert len({pacing.QUERY, pacing.VALUES, pacing.REST}) > 1


def test_a_wait_for_a_file_says_how_long_it_may_last(tmp_path):
    """Nobody knows when its holder lets go, but when hedgerow gives up."""
    (tmp_path / "posthog.duckdb").touch()
    settings = Settings.model_validate(
        {"destination": {"address": f"duckdb:{tmp_path / 'posthog.duckdb'}"}, "duckdb": {"lock_timeout": "30s"}}
    )
    heard: list[Wait | None] = []
    sink = wiring.sink_of(settings, wiring.Listener(busy=heard.append))
    assert isinstance(sink, DuckDBSink)
    sink._file._on_wait("open in another process: cat (PID 7)")
    sink._file._on_wait(None)

    assert heard == [Wait(30, "open in another process: cat (PID 7)"), None]


def test_a_file_is_waited_for_as_long_as_is_set(tmp_path):
    """Days of it count as well."""
    settings = Settings.model_validate(
        {"destination": {"address": f"duckdb:{tmp_path / 'a.duckdb'}"}, "duckdb": {"lock_timeout": "1d"}}
    )
    sink = destination_of(settings)

    assert isinstance(sink, DuckDBSink)
    assert sink._file.lock_timeout_s == 86_400
