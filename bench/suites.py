"""What is measured, by name."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data import Kind
from bench.whole import DUCKDB, LAKE, LIMIT, Case, Contestant


@dataclass(frozen=True, slots=True)
class Suite:
    """*contestants* in one case. *quick*: of `--quick`; *default*: without being named."""

    case: Case
    contestants: tuple[Contestant, ...]
    rounds: int = 3
    quick: bool = False
    default: bool = True


SMALL, LARGE, SHORT = Kind(200_000), Kind(2_000_000), Kind(2_000_000, 330)

SUITES = {
    "quick-1000": Suite(Case(SMALL, 1_000), (LIMIT, DUCKDB), rounds=1, quick=True),
    "quick-10000": Suite(Case(SMALL, 10_000), (LIMIT, DUCKDB), rounds=1, quick=True),
    "pages-1000": Suite(Case(SMALL, 1_000), (LIMIT, DUCKDB)),
    "pages-10000": Suite(Case(SMALL, 10_000), (LIMIT, DUCKDB, LAKE)),
    "pages-50000": Suite(Case(SMALL, 50_000), (LIMIT, DUCKDB)),
    "latency-50": Suite(Case(SMALL, 1_000, 0.05), (LIMIT, DUCKDB), rounds=1),
    "latency-200": Suite(Case(SMALL, 10_000, 0.2), (LIMIT, DUCKDB), rounds=1),
    "short": Suite(Case(Kind(200_000, 330), 10_000), (LIMIT, DUCKDB)),
    "large": Suite(Case(LARGE, 10_000), (LIMIT, DUCKDB), rounds=1),
    "large-short": Suite(Case(SHORT, 10_000), (LIMIT, DUCKDB), rounds=1, default=False),
    "huge": Suite(Case(Kind(10_000_000), 10_000), (LIMIT, DUCKDB), rounds=1, default=False),
    "huge-short": Suite(Case(Kind(10_000_000, 330), 10_000), (LIMIT, DUCKDB), rounds=1, default=False),
}
