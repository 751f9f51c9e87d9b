"""Breaks of the arrows between the rooms."""

from __future__ import annotations

from tests.mutants.breaks.kind import ARCHITECTURE, Break

FUTURE = "from __future__ import annotations\n"
KNOWS = f"{FUTURE}\n\ndef known() -> None:\n    import {{}}\n"  # inside, or some would not even be imported
FORBIDDEN = {
    "flows/events.py": ("flows.cli.options", "flows.report.words", "flows.landing.plan"),
    "flows/orchestration/parameters.py": ("flows.cli.options", "flows.events"),
    "flows/cli/options.py": ("flows.orchestration.parameters", "flows.events"),
    "flows/report/words.py": ("flows.cli.options", "flows.orchestration.parameters", "flows.events"),
    "flows/assets/synced.py": (
        "flows.report.files",
        "flows.cli.options",
        "flows.orchestration.parameters",
        "flows.events",
    ),
    "flows/runs/history.py": (
        *(
            "flows.report.files",
            "flows.assets.synced",
            "flows.cli.options",
            "flows.orchestration.parameters",
            "flows.events",
        ),
    ),
    "flows/landing/crossing.py": (
        *("flows.settings.parse", "flows.report.words", "flows.runs.history", "flows.assets.synced"),
        *("flows.cli.options", "flows.orchestration.parameters", "flows.events"),
    ),
    "flows/settings/parse.py": (
        *("flows.landing.crossing", "flows.report.words", "flows.runs.history", "flows.assets.synced"),
        *("flows.cli.options", "flows.orchestration.parameters", "flows.events", "extractors.window"),
    ),
    "extractors/window.py": ("extractors.http.scan", "sinks.errors", "transforms.errors", "flows.landing.crossing"),
    "extractors/http/scan.py": ("extractors.reading.pace", "extractors.lists.exports", "extractors.simulator.errors"),
    "extractors/reading/rows.py": ("extractors.lists.exports", "extractors.simulator.errors"),
    "extractors/simulator/errors.py": ("extractors.window", "extractors.errors"),
    "extractors/simulator/data/dates.py": ("extractors.simulator.http.limits", "extractors.simulator.assets.blobs"),
    "extractors/simulator/assets/blobs.py": ("extractors.simulator.http.limits", "extractors.simulator.data.dates"),
    "transforms/errors.py": ("extractors.errors", "sinks.errors", "flows.landing.crossing"),
    "sinks/ledger.py": (
        "sinks.lake.journal",
        "sinks.objects.local",
        "extractors.window",
        "transforms.schema",
        "flows.landing.plan",
    ),
    "sinks/objects/s3.py": ("sinks.lake.journal", "sinks.duckdb_file.rows"),
    "sinks/lake/journal.py": ("sinks.duckdb_file.rows",),
    "sinks/duckdb_file/rows.py": ("sinks.lake.journal", "sinks.objects.s3"),
}
"""Arrows that are none: modules, and what of other rooms they may not know."""
BREAKS = [
    Break(f"{file} knows {module}", file, FUTURE, KNOWS.format(module), f"{ARCHITECTURE} -k 'arrows or circle'")
    for file, modules in FORBIDDEN.items()
    for module in modules
]
BREAKS += [
    Break(
        "landing knows Prefect",
        "flows/landing/crossing.py",
        FUTURE,
        KNOWS.format("prefect"),
        f"{ARCHITECTURE} -k arrows",
    ),
    Break(
        "two modules know each other",
        "sinks/errors.py",
        FUTURE,
        KNOWS.format("sinks.sink"),
        f"{ARCHITECTURE} -k circle",
    ),
]

# Files without a break: they hold names, tables and words, or hand on what others decided.
