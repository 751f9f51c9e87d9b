"""Deliberate breaks of the product, one for a promise each, and the tests that must go red."""

from __future__ import annotations

from tests.mutants.breaks import (
    architecture,
    assets,
    cli,
    duckdb_file,
    http,
    lake,
    landing,
    lists,
    objects,
    orchestration,
    reading,
    report,
    requests,
    runs,
    sinks,
    stand_ins,
    transforms,
)
from tests.mutants.breaks.kind import Break

ROOMS = (
    architecture,
    assets,
    cli,
    duckdb_file,
    http,
    lake,
    landing,
    lists,
    objects,
    orchestration,
    reading,
    report,
    requests,
    runs,
    sinks,
    stand_ins,
    transforms,
)
BREAKS: list[Break] = [one for room in ROOMS for one in room.BREAKS]
DECIDES_NOTHING = {
    "extractors/errors.py": "names of errors",
    "flows/landing/session.py": "values",
    "flows/annotations.py": "names a stream to Prefect",
    "flows/evaluations.py": "names a stream to Prefect",
    "flows/exports.py": "names a stream to Prefect",
}
