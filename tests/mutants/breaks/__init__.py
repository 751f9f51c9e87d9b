"""Deliberate breaks of the product, one for a promise each, and the tests that must go red."""

from __future__ import annotations

from tests.mutants.breaks import (
    architecture,
    asked,
    assets,
    cli,
    duckdb_file,
    http,
    lake,
    landing,
    lists,
    objects,
    orchestration,
    ranges,
    reading,
    report,
    requests,
    runs,
    sinks,
    stand_ins,
    transforms,
    verify,
)
from tests.mutants.breaks.kind import Break

ROOMS = (
    architecture,
    asked,
    assets,
    cli,
    duckdb_file,
    http,
    lake,
    landing,
    lists,
    objects,
    orchestration,
    ranges,
    reading,
    report,
    requests,
    runs,
    sinks,
    stand_ins,
    transforms,
    verify,
)
BREAKS: list[Break] = [one for room in ROOMS for one in room.BREAKS]
DECIDES_NOTHING = {
    "extractors/errors.py": "names of errors",
    "flows/landing/session.py": "values",
    "flows/annotations.py": "names a stream to Prefect",
    "flows/evaluations.py": "names a stream to Prefect",
    "flows/exports.py": "names a stream to Prefect",
}
