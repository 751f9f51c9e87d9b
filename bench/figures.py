"""Medians of rounds, and their ratios to the limit of the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.whole import LIMIT, Case, Round, Sample


@dataclass(frozen=True, slots=True)
class Line:
    """A contestant in a case. *of_wall*, *of_cpu*: the limit's figure divided by its own, None without a limit.

    *landed*: of the last round; *fault*: the first one of any round.
    """

    suite: str
    case: str
    contestant: str
    rounds: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    server_s: float = 0.0
    requests: int = 0
    load: float = 0.0
    of_wall: float | None = None
    of_cpu: float | None = None
    source_rows: int | None = None
    landed_rows: int | None = None
    missing: int | None = None
    extra: int | None = None
    fault: str = ""


def lines(suite: str, case: Case, found: Sequence[Round]) -> list[Line]:
    """One for each contestant, over the rounds that count; over all of them where none does."""
    counted = [one for one in found if not one.void] or list(found)
    names = list(dict.fromkeys(sample.contestant for one in counted for sample in one.samples))
    by_name = {name: [s for one in counted for s in one.samples if s.contestant == name] for name in names}
    return [_line(suite, case, name, by_name[name], by_name.get(LIMIT.name, [])) for name in names]


def _line(suite: str, case: Case, name: str, samples: Sequence[Sample], limits: Sequence[Sample]) -> Line:
    wall_s, cpu_s = median(s.wall_s for s in samples), median(s.cpu_s for s in samples)
    last = samples[-1].landed
    return Line(
        suite,
        str(case),
        name,
        len(samples),
        wall_s,
        cpu_s,
        median(s.peak_mb for s in samples),
        median(s.server_s for s in samples),
        round(median(s.requests for s in samples)),
        median(s.load for s in samples),
        median(s.wall_s for s in limits) / wall_s if limits else None,
        median(s.cpu_s for s in limits) / cpu_s if limits else None,
        case.kind.rows,
        last.rows if last else None,
        last.missing if last else None,
        last.extra if last else None,
        next((s.fault for s in samples if s.fault), ""),
    )
