"""What a sweep asks next: one table of what each kind of answer does to it.

| answer | read up to | asked next |
|---|---|---|
| `short`: the last page of the range | the range's end | twice the time, and twice the rows |
| `full`: more follow | the last row's time | the rest of the window, or twice the time of this page where that is more |
| `one_microsecond`: a full page of one time, which is read by itself | the next microsecond | as after a full page |
| `cut`: the body ended early | – | half the rows; MAX_CUTS times, then it is not served |
| `heavy`: not served | – | its first half; where that is served its second half, which fails, is halved unasked |
| `recovered`: it failed in an outage, or is served at the second try | – | as much as before it failed |
| `passed_over`: one microsecond that is not served | the next microsecond | as much as before it failed |

Halving without asking finds one microsecond by about one request for each halving, not two. HALVES served in a row say
that the failure may have passed: what is left of the range is asked whole.

Pure: knows neither requests nor why one failed (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from extractors.window import MICROSECOND, Range

LIMIT = 10_000  # servers of 2023 give that many at a time; today's clamp to 1,000, silently, so asking for more is free
LEAST = 100
MAX_SPAN = timedelta(days=365)  # over 366 days the cloud answers a bare 500
HALVES = 3
MAX_CUTS = 8
ASK_WHETHER_IT_ANSWERS = 8  # failures in a row after which a question without rows tells a fault from an outage


@dataclass(frozen=True, slots=True)
class Pace:
    """Everything before *cursor* is read; *asked* and *limit* say what to ask of the rest, up to *end*.

    *span*: as much time as the answers so far suggest; *ceiling*: no more than this after a failure, and *before*: what
    it was until then. *failing*: where the range ends that is known to fail, and *served*: how many parts of it were
    served since. *failures*, *cuts*: in a row. *most*: rows to ask for where nothing was cut.
    """

    cursor: datetime
    end: datetime
    span: timedelta
    limit: int = LIMIT
    most: int = LIMIT
    failures: int = 0
    cuts: int = 0
    ceiling: timedelta = MAX_SPAN
    before: timedelta = MAX_SPAN
    failing: datetime | None = None
    served: int = 0

    @property
    def asked(self) -> Range:
        """The range to ask next."""
        if self.failing is None:
            return Range(self.cursor, min(self.end, self.cursor + min(self.span, self.ceiling)))
        if self.served >= HALVES:
            return Range(self.cursor, min(self.end, self.failing))
        return Range(self.cursor, min(self.end, self.cursor + _half(self.failing - self.cursor)))

    @property
    def takes_fewer_rows(self) -> bool:
        """Whether a body that was cut is to be asked for with fewer rows."""
        return self.cuts < MAX_CUTS

    @property
    def is_doubtful(self) -> bool:
        """Whether so much failed in a row that the server may answer nothing at all."""
        return self.failures == ASK_WHETHER_IT_ANSWERS

    def at_most(self, rows: int) -> Pace:
        """As many *rows* fit into a page from here on; LEAST at least, LIMIT at most."""
        most = max(LEAST, min(LIMIT, rows))
        return replace(self, most=most, limit=min(self.limit, most))

    def short(self, asked: Range) -> Pace:
        """The page of *asked* was the last one of it."""
        return self._served(asked, asked.end, min(MAX_SPAN, asked.duration * 2))

    def full(self, asked: Range, last: datetime, window_end: Callable[[datetime], datetime]) -> Pace:
        """The page of *asked* ends at *last*, which is not read whole. *window_end(t)*: of the window that holds t."""
        return self._full(asked, last, last, window_end)

    def one_microsecond(self, asked: Range, at: datetime, window_end: Callable[[datetime], datetime]) -> Pace:
        """The page of *asked* was full of rows of one time, *at*, which is read whole by other questions."""
        return self._full(asked, at, at + MICROSECOND, window_end)

    def cut(self, page_cap: int | None) -> Pace:
        """The body ended early. *page_cap*: rows that the server gives at most, if that is known."""
        return replace(self, cuts=self.cuts + 1, limit=max(1, min(self.limit, page_cap or self.limit) // 2))

    def heavy(self, asked: Range) -> Pace:
        """*asked* was not served, and is longer than a microsecond."""
        return replace(
            self,
            failures=self.failures + 1,
            before=self.ceiling if self.failing is None else self.before,
            ceiling=_half(asked.duration),
            failing=asked.end,
            served=0,
        )

    def recovered(self) -> Pace:
        """What failed is no fault of its range: it is to be asked as before, or was served at the second try."""
        return replace(self, failures=0, served=0, ceiling=max(self.ceiling, self.before), failing=None)

    def passed_over(self, asked: Range) -> Pace:
        """*asked*, one microsecond, is not served, and left."""
        return replace(self.recovered(), cursor=asked.end, cuts=0)

    def _full(self, asked: Range, last: datetime, cursor: datetime, window_end: Callable[[datetime], datetime]) -> Pace:
        # A window at least, so that the server can prune; more where a window holds less than a page, so that the
        # partial page at a window's end is not wasted.
        window = window_end(cursor) - cursor if cursor < self.end else MICROSECOND
        return self._served(asked, cursor, max(window, 2 * (last - asked.start)))

    def _served(self, asked: Range, cursor: datetime, span: timedelta) -> Pace:
        """*asked* was served and is read up to *cursor*. *span*: how much to ask next, if nothing fails."""
        return replace(
            self,
            cursor=cursor,
            span=span if self.failing is None else self.span,
            limit=min(self.most, self.limit * 2),
            failures=0,
            cuts=0,
            ceiling=min(MAX_SPAN, max(self.ceiling, asked.duration) * 2),
            failing=None if self.failing is not None and self.failing <= cursor else self.failing,
            served=self.served + 1,
        )


def _half(span: timedelta) -> timedelta:
    return max(MICROSECOND, span // 2)
