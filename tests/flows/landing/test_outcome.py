"""What the facts of a run add up to: a later one of a window takes the place of the earlier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from extractors.window import Range
from flows.landing.outcome import Agreed, Doubled, Fact, Landed, Log, Moving, Outcome, Planned, Standing, Unasked
from sinks.entries import Changes

A = datetime(2026, 3, 1, tzinfo=UTC)
B = A + timedelta(hours=1)
CHANGED = Changes(late=2)

CASES: dict[str, tuple[list[Fact], dict[str, Any]]] = {
    "nothing": ([], {"windows": 0, "rows": 0, "wanted": None, "complete": True}),
    "every landing counts, each window once": (
        [Landed(A, 3), Landed(B, 1), Landed(A, 2)],
        {"windows": 3, "rows": 6, "landed": {A, B}},
    ),
    "what the latest reading left out": (
        [Landed(A, 3, copies=2, quarantined=1), Landed(A, 3, copies=1)],
        {"copies": 1, "quarantined": 0, "left_out": {A: (1, 0)}},
    ),
    "what the latest reading could not tell": (
        [Landed(A, 3, unproven=(A,), unserved=(B,), undecided=2), Landed(A, 3)],
        {"unproven": {}, "unserved": {}, "undecided": {}, "complete": True},
    ),
    "what it still cannot": (
        [Landed(A, 3), Landed(A, 3, unproven=(A,), unserved=(B,), undecided=2)],
        {"unproven": {A: [A]}, "unserved": {A: [B]}, "undecided": {A: 2}, "complete": False},
    ),
    "a count confirms what could not be told apart": (
        [Landed(A, 3, unproven=(A,)), Agreed(A, whole=True)],
        {"unproven": {}, "agreed": {A}, "complete": True},
    ),
    "with different copies nothing is verified": (
        [Landed(A, 3, unproven=(A,)), Agreed(A, whole=False)],
        {"unproven": {}, "agreed": set(), "verified": 0},
    ),
    "a landing after the answer is not confirmed by it": (
        [Landed(A, 3), Agreed(A, whole=True), Landed(A, 4, unproven=(B,))],
        {"agreed": set(), "unproven": {A: [B]}},
    ),
    "a landing after it moved was read anew": ([Landed(A, 3), Moving(A), Landed(A, 3)], {"moving": set()}),
    "what moved and then agreed": ([Landed(A, 3), Moving(A), Agreed(A, whole=True)], {"moving": set(), "agreed": {A}}),
    "what agreed and then moved": ([Landed(A, 3), Agreed(A, whole=True), Moving(A)], {"moving": {A}, "agreed": set()}),
    "changes found once are told": ([Landed(A, 3, changes=CHANGED), Landed(A, 3)], {"changes": {A: CHANGED}}),
    "an attempt that is planned anew": (
        [Planned(Range(A, B), (Range(A, B),), 5), Planned(Range(A, B))],
        {"wanted": Range(A, B), "unreachable": [], "in_quarantine": 0},
    ),
    "the latest search and look-back": (
        [Doubled((A.date(),)), Unasked(7), Doubled(()), Unasked(3)],
        {"doubled": [], "unasked": 3},
    ),
    "what stands in the end": (
        [Standing({"held": [A]}, (A,), (A,)), Standing({"damaged": [B]}, (B,), ())],
        {"held": [], "damaged": [B], "heavy": [B], "unconfirmed": [], "complete": False},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_later_fact_takes_the_place_of_the_earlier(case):
    """In every field of an outcome."""
    facts, expected = CASES[case]
    log = Log()
    for fact in facts:
        log.append(fact)

    outcome = log.outcome()
    assert {name: getattr(outcome, name) for name in expected} == expected
    assert (log.windows, log.rows) == (outcome.windows, outcome.rows)
    assert Outcome.of(facts) == outcome
