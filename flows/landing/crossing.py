"""Two runs at once: the slower one is planned anew, for as long as either of them comes on (docs/ledger.md).

Decides how often and after what pause; knows neither windows nor tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from extractors.errors import ClockJumped
from sinks.errors import GenerationConflict

STANDSTILLS = 5  # attempts in a row that fail although nobody has landed anything between them; then a run gives up
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Before the next attempt, by how many in a row landed nothing themselves: who is always second would only ask the source
for what the other run lands anyway."""
T = TypeVar("T")
Retried = Callable[[Exception, float], None]


@dataclass(slots=True)
class Crossings:
    """Counts the attempts of one run. *landed*: what shows that anybody has landed something; *own*: that this run has."""

    landed: object = None
    own: object = None
    still: int = 0
    second: int = 0

    def pause_s(self, *, landed: object, own: object) -> float | None:
        """How long to wait before the next attempt; None where nothing moves any more."""
        self.still = 1 if landed != self.landed else self.still + 1
        self.second = 1 if own != self.own else self.second + 1
        self.landed, self.own = landed, own
        if self.still >= STANDSTILLS:
            return None
        return PAUSES_S[min(self.second, len(PAUSES_S)) - 1]


def until_done(
    work: Callable[[], T],
    *,
    landed: Callable[[], object],
    own: Callable[[], object] = lambda: None,
    on_retry: Retried = lambda error, wait_s: None,
) -> T:
    """Do *work*; again where another run was faster, or one answer had the wrong time.

    *landed*, *own*: as Crossings compares them. *on_retry* hears of pauses.
    Raises the last GenerationConflict or ClockJumped where nothing moves any more.
    """
    crossings = Crossings()
    while True:
        try:
            return work()
        except (GenerationConflict, ClockJumped) as exc:
            wait_s = crossings.pause_s(landed=landed(), own=own())
            if wait_s is None:
                raise
            if wait_s:
                on_retry(exc, wait_s)
                time.sleep(wait_s)
