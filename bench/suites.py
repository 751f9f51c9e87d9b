"""What is measured, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.data import Kind
from bench.peers import AIRBYTE_JSONL, DLT
from bench.whole import DUCKDB, LAKE, LIMIT, S3, Case, Contestant


@dataclass(frozen=True, slots=True)
class Suite:
    """*contestants* in one case. *quick*: of `--quick`; *default*: without being named."""

    case: Case
    contestants: tuple[Contestant, ...]
    rounds: int = 3
    quick: bool = False
    default: bool = True

    def of(self, rows: int) -> Suite:
        """The same with *rows*."""
        return replace(self, case=replace(self.case, kind=replace(self.case.kind, rows=rows)))


SMALL, LARGE, SHORT = Kind(200_000), Kind(2_000_000), Kind(2_000_000, 330)

SUITES = {
    "quick-1000": Suite(Case(SMALL, 1_000), (LIMIT, DUCKDB), rounds=1, quick=True),
    "quick-10000": Suite(Case(SMALL, 10_000), (LIMIT, DUCKDB), rounds=1, quick=True),
    "pages-1000": Suite(Case(SMALL, 1_000), (LIMIT, DUCKDB)),
    "pages-10000": Suite(Case(SMALL, 10_000), (LIMIT, DUCKDB, LAKE, S3)),
    "peers": Suite(Case(SMALL, 10_000), (LIMIT, DUCKDB, DLT, AIRBYTE_JSONL), rounds=1),
    "pages-50000": Suite(Case(SMALL, 50_000), (LIMIT, DUCKDB)),
    "peers-1000": Suite(Case(SMALL, 1_000), (LIMIT, DUCKDB, DLT, AIRBYTE_JSONL), rounds=1),
    "latency-50": Suite(Case(SMALL, 1_000, 0.05), (LIMIT, DUCKDB), rounds=1),
    "latency-200": Suite(Case(SMALL, 10_000, 0.2), (LIMIT, DUCKDB), rounds=1),
    "short": Suite(Case(Kind(200_000, 330), 10_000), (LIMIT, DUCKDB)),
    "large": Suite(Case(LARGE, 10_000), (LIMIT, DUCKDB), rounds=1),
    "large-short": Suite(Case(SHORT, 10_000), (LIMIT, DUCKDB), rounds=1, default=False),
    "huge": Suite(Case(Kind(10_000_000), 10_000), (LIMIT, DUCKDB), rounds=1, default=False),
    "huge-short": Suite(Case(Kind(10_000_000, 330), 10_000), (LIMIT, DUCKDB), rounds=1, default=False),
}
