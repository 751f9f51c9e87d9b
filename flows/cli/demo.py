"""`hedgerow demo`: the main job against the bundled simulator, over real HTTP into a real DuckDB file, checked row by row."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.profiles import CLOUD
from extractors.simulator.server import serve
from extractors.window import Range
from flows.landing.session import STREAM
from flows.report import rows, terminal
from flows.report.words import counted
from flows.runs import loads, wiring
from flows.runs.run import Report
from flows.settings.model import Settings
from flows.settings.parse import SettingsError, loopback
from sinks.destination import Destination
from sinks.errors import DestinationUnusable

EVENTS = 20_000
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC)
# A laptop's demo must not wait for the cloud's minute: the limits stay on, ten times as wide.
PROFILE = replace(CLOUD, per_minute=2400, per_hour=12_000)
QUERIES = {
    "most frequent": "SELECT event, count(*) AS events FROM events GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5",
    "by day": "SELECT timestamp::DATE AS day, count(*) AS events FROM events GROUP BY 1 ORDER BY 1",
    "30 digits, kept": "SELECT properties->>'$.big' AS big, count(*) AS n FROM events GROUP BY 1 HAVING big IS NOT NULL",
}
COLUMNS = ["uuid", "event", "distinct_id", "timestamp", "properties", "elements_chain"]


def demo(path: Path, *, quiet: bool) -> bool:
    """Sync the simulated events into a new file at *path*, compare, query; True if the file equals the source.

    Only an older demo's file is replaced. Raises SettingsError for any other, SourceError, SinkError.
    """
    _make_way(path)
    dataset = generate(events=EVENTS, start=START, end=END, tie_sizes=(1_500,))
    terminal.say(
        f"simulated PostHog: {len(dataset):,} events of a week, 1,500 of them in one microsecond; pages are cut at 1,000 rows"
    )
    with tempfile.TemporaryDirectory() as state, serve(dataset, profile=PROFILE) as simulator:
        source = {
            "host": simulator.url,
            "key": simulator.key,
            "project_id": 1,
            "requests_per_minute": PROFILE.per_minute,
            "requests_per_hour": PROFILE.per_hour,
            "state_dir": state,
        }
        # The user's own settings are for the user's own PostHog.
        settings = Settings.model_validate({"source": source, "destination": {"address": f"duckdb:{path}"}})
        sink = wiring.sink_of(settings)
        reports: list[Report] = []
        for _ in range(2):
            with terminal.progress(1, quiet=quiet, verbose=False) as listener:
                reports.append(
                    loads.load_events(
                        settings, 1, command="sync", since=START.isoformat(), until=END.isoformat(), listener=listener
                    )
                )
        first, second = reports
        terminal.say(
            f"first sync: {counted(first.rows, 'event')} landed in {counted(first.requests, 'request')}, {first.seconds:.1f} s"
        )
        terminal.say(f"second sync: {counted(second.rows, 'event')} landed in {counted(second.requests, 'request')}")
        same = equal(dataset, sink)
    terminal.say(
        f"row by row, {path.name} {'equals' if same else 'DIFFERS FROM'} the source: {first.rows:,} of {len(dataset):,}"
    )
    _answer_queries(sink)
    terminal.say(f'\nnow ask yourself: {sys.argv[0]} sql --destination duckdb:{path.name} "SELECT …"')
    return same


def _answer_queries(sink: Destination) -> None:
    for title, query in QUERIES.items():
        with sink.query(query) as result:
            terminal.say(f"\n{title}: {query}")
            rows.show(rows.Columns.of(result.description or []), rows.batches(result.fetchmany), limit=None)


def _make_way(path: Path) -> None:
    """Remove an older demo's file. Raises SettingsError for a file that holds, or may hold, anything else."""
    files = [one for one in (path, path.with_name(path.name + ".wal")) if one.exists()]
    with terminal.waits() as listener:
        ours = not files or _is_demo(path, listener)
    if not ours:
        raise SettingsError(
            f"{files[0]} is there, and hedgerow demo did not make it",
            hint="name another file: hedgerow demo --output FILE",
        )
    for file in files:
        file.unlink()


def _is_demo(path: Path, listener: wiring.Listener) -> bool:
    """Whether the file holds nothing but the demo's week of one project, read from this machine."""
    sink = wiring.sink_of(Settings.model_validate({"destination": {"address": f"duckdb:{path}"}}), listener)
    try:
        origin = sink.origin(1, STREAM)
        windows = sink.ledger(1, STREAM).entries.values()
        others = set(sink.projects()) - {1}
    except DestinationUnusable:
        return False
    week = Range(START, END)
    here = origin is not None and loopback(urlsplit(origin[0]).hostname or "")
    return here and not others and all(week.covers(Range(one.start, one.end)) for one in windows)


def equal(dataset: Dataset, sink: Destination) -> bool:
    """Whether the destination holds the source's events, each once, every column to the letter."""
    order = [(name, "ascending") for name in ("timestamp", "uuid", "event", "distinct_id")]
    landed = sink.rows(1, START - timedelta(days=1), END + timedelta(days=1)).select(COLUMNS).sort_by(order)
    return bool(landed.equals(dataset.truth().cast(landed.schema)))
