"""What a break is, and where the tests of each promise stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """*old* stands once in *file* and becomes *new*; then *tests* (pytest arguments) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


PIPELINE, SERVERS = "tests/flows/landing/test_pipeline.py", "tests/flows/test_servers.py"
CONFORMANCE, PROOF, VERIFY = (
    "tests/sinks/test_conformance.py",
    "tests/flows/landing/test_proof.py",
    "tests/flows/landing/test_verify.py",
)
TRUTH = "tests/flows/landing/test_verify_truth.py"
LAKE, OBJECTS = "tests/sinks/lake/test_lake.py", "tests/sinks/objects/test_objects.py"
DECODE, PACING, PROBE = (
    "tests/extractors/http/test_decode.py",
    "tests/extractors/http/test_pacing.py",
    "tests/extractors/reading/test_probe.py",
)
CONTENTS, LOOKUPS, ASKING = (
    "tests/extractors/lists/test_contents.py",
    "tests/extractors/lists/test_lookups.py",
    "tests/flows/cli/test_asking.py",
)
ADAPTER, ORDER = "tests/flows/orchestration/test_adapter.py", "tests/flows/assets/test_assets_order.py"
COPIES = "tests/flows/landing/test_copies.py"
LANDS = f"{PIPELINE} -k simulator_source"

ZONE = "tests/extractors/reading/test_zone.py"
SWEEP = "tests/extractors/reading/test_events.py"
PACE = "tests/extractors/reading/test_pace.py"
UNREAD, FAR = "tests/flows/landing/test_unread.py", "tests/flows/landing/test_far_times.py"
ENDS = "tests/flows/landing/test_ends.py"
BESIDE, OPEN, COPY, GUARD, PLAN = (
    "tests/flows/landing/test_beside_landing.py",
    "tests/flows/landing/test_open_windows.py",
    "tests/flows/landing/test_copy.py",
    "tests/flows/landing/test_guard.py",
    "tests/flows/landing/test_plan.py",
)
OUTCOME = "tests/flows/landing/test_outcome.py"
DURABLE = "tests/flows/landing/test_durable.py"
CLIENT = "tests/extractors/http/test_client.py"
RETRY = "tests/extractors/http/test_retry.py"
EXIT, MARKS, QUARANTINE = (
    "tests/flows/cli/test_exit.py",
    "tests/flows/landing/test_marks.py",
    "tests/flows/landing/test_quarantine.py",
)
STRICT = "tests/extractors/simulator/test_strict.py"
WITNESS, SAMPLES = "tests/flows/landing/test_second_witness.py", "tests/second_server/test_samples.py"
ARCHITECTURE = "tests/architecture/test_imports.py"
HISTORY, SHAPES = "tests/extractors/lists/test_history.py", "tests/transforms/test_shapes.py"
CATALOG, ANNOTATED = "tests/flows/runs/test_catalog.py", "tests/flows/assets/test_annotations.py"
