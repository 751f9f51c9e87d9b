"""Transport faults by plan: which request of which endpoint fails how. Seeded, so a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("429", "500", "502", "503", "503-after", "504", "504-html", "cut", "cut-gzip")


@dataclass(frozen=True, slots=True)
class Fault:
    """*kind* happens at the requests numbered *at* (from 1, per endpoint), and at others with probability *rate*."""

    kind: str
    endpoint: str = "list"
    at: tuple[int, ...] = ()
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}, expected one of {', '.join(KINDS)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is a probability: {self.rate}")


class Faults:
    """Picks at most one fault per request."""

    def __init__(self, faults: Sequence[Fault], *, seed: int = 1) -> None:
        self._faults = tuple(faults)
        self._random = random.Random(seed)

    def pick(self, endpoint: str, number: int) -> str | None:
        """Kind of the fault that request *number* of *endpoint* meets."""
        for fault in self._faults:
            if fault.endpoint not in (endpoint, "any"):
                continue
            if number in fault.at or (fault.rate and self._random.random() < fault.rate):
                return fault.kind
        return None
