"""What is not served: whether the server answers at all, and what is done before one microsecond is given up.

The rules: docs/decisions/0007.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from extractors import errors
from extractors.filters import Narrowing
from extractors.http.client import Client
from extractors.http.decode import Page
from extractors.reading.page import NotServed, PageSource
from extractors.request import QUIET, WHOLE
from extractors.window import MICROSECOND, Range, iso

UNREAD_IN_A_ROW = (
    4  # microseconds that are not served, with nothing served between them nor soon behind: no row's fault
)
SOON = timedelta(seconds=1)
MAX_UNREAD = 100  # in a run, and the window under way: that one lands, and the next run goes on behind it


class Unserved:
    """Tells one row's fault from a server's, and counts the microseconds of a run that are not served."""

    def __init__(self, client: Client, pages: PageSource) -> None:
        self._client = client
        self._pages = pages
        self._unread = self._in_a_row = 0

    @property
    def too_many(self) -> bool:
        """Whether the run ends with the window under way."""
        return self._unread > MAX_UNREAD

    def too_many_before(self, cursor: datetime) -> errors.SourceUnavailable:
        """The error that ends the run then."""
        return errors.SourceUnavailable(
            f"more than {MAX_UNREAD} microseconds before {iso(cursor)} hold events that cannot be served",
            hint="what was read is landed, and the next run goes on from there",
        )

    def answers(self, asked: Range, failure: errors.SourceError) -> bool:
        """Whether the server answers a question that finds no row, at once. Raises SourceUnavailable if not within a minute."""
        if not isinstance(self._pages.ask(QUIET, 1), NotServed):
            return True
        answer = self._pages.ask(QUIET, 1, policy=WHOLE)
        if isinstance(answer, NotServed):
            raise errors.SourceUnavailable(
                f"{failure} for the range {asked}, and {answer.error} to a question that finds nothing",
                hint="run again later",
            ) from answer.error
        return False

    def page_or_none(self, asked: Range, limit: int, narrowing: Narrowing | None = None) -> Page | None:
        """The page of what cannot be divided, or None as again() says."""
        answer = self._pages.ask(asked, limit, narrowing)
        return self.again(asked, limit, answer, narrowing) if isinstance(answer, NotServed) else answer

    def again(self, asked: Range, limit: int, failed: NotServed, narrowing: Narrowing | None = None) -> Page | None:
        """The page of what has just failed and cannot be divided: one bad answer is no end.

        None if it fails again while the server answers other questions; if it does not, it is waited for.
        """
        self._client.wait((*self._client.patience.server_error_waits_s, 0.0)[0], failed.error)
        answer = self._pages.ask(asked, limit, narrowing)
        if not isinstance(answer, NotServed):
            return answer
        if self.answers(asked, answer.error):
            return None
        answer = self._pages.ask(asked, limit, narrowing, policy=WHOLE)
        if isinstance(answer, NotServed):
            raise errors.SourceUnavailable(
                f"{answer.error} for the range {asked}", hint="run again later"
            ) from answer.error
        return answer

    def was_served(self) -> None:
        """A page came."""
        self._in_a_row = 0

    def give_up(self, asked: Range, end: datetime, failure: errors.SourceError) -> None:
        """Count *asked*, one microsecond. Raises SourceUnavailable where there are too many to be single rows' fault."""
        self._unread += 1
        self._in_a_row += 1
        if self._in_a_row == UNREAD_IN_A_ROW:
            if not self._serves_soon(asked.end, end):
                raise errors.SourceUnavailable(
                    f"{failure}: nothing of the range from {iso(asked.start)} on is served", hint="run again later"
                )
            self._in_a_row = 0

    def _serves_soon(self, cursor: datetime, end: datetime) -> bool:
        """Whether something behind *cursor* is served: one client's events may lie a microsecond apart, and all be bad."""
        span, last = MICROSECOND, min(end, cursor + SOON)
        while cursor < last:
            asked = Range(cursor, min(last, cursor + span))
            if not isinstance(self._pages.ask(asked, 1), NotServed):
                return True
            cursor, span = asked.end, span * 16
        return False
