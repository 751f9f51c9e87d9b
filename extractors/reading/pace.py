"""How much of a sweep to ask next: half of what failed, down to a microsecond, and all of it again once that is passed.

Pure: knows neither requests nor why one failed (docs/decisions/0007).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from extractors.window import MICROSECOND, Range

MAX_SPAN = timedelta(days=365)  # over 366 days the cloud answers a bare 500
HALVES = 3  # served in a row: what is left of a range that failed is asked whole, as the failure may have passed


@dataclass(slots=True)
class Pace:
    """What to ask from the cursor on. *span*: as much as the answers so far suggest.

    A range that failed and whose first half is served fails by its second half: that one is halved without being asked,
    so that finding one microsecond takes about one request for each halving, not two.
    """

    span: timedelta
    failures: int = 0
    _ceiling: timedelta = MAX_SPAN
    _failing: datetime | None = None
    _served: int = 0
    _before: timedelta = MAX_SPAN

    def asked(self, cursor: datetime, end: datetime) -> Range:
        """The range to ask next."""
        whole = min(end, cursor + min(self.span, self._ceiling))
        if self._failing is None or self._failing <= cursor:
            return Range(cursor, whole)
        if self._served >= HALVES:
            return Range(cursor, min(end, self._failing))
        return Range(cursor, min(end, cursor + _half(self._failing - cursor)))

    def failed(self, asked: Range) -> None:
        """*asked* was not served, and is longer than a microsecond."""
        if self._failing is None:
            self._before = self._ceiling
        self.failures += 1
        self._failing, self._served = asked.end, 0
        self._ceiling = _half(asked.duration)

    def served(self, asked: Range, cursor: datetime, span: timedelta) -> None:
        """*asked* was served, and everything before *cursor* is read. *span*: how much to ask next, if nothing fails."""
        self.failures = 0
        if self._failing is None:
            self.span = span
        self._served += 1
        self._ceiling = min(MAX_SPAN, max(self._ceiling, asked.duration) * 2)
        if self._failing is not None and self._failing <= cursor:
            self._failing = None

    def passed_over(self) -> None:
        """The microsecond that failed is found and left: what comes after it is asked as before."""
        self.failures = self._served = 0
        self._ceiling, self._failing = max(self._ceiling, self._before), None


def _half(span: timedelta) -> timedelta:
    return max(MICROSECOND, span // 2)
