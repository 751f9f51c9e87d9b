"""What can go wrong while asking PostHog, sorted by what the caller can do about it.

Messages: lower case, one line, what and which and expected and found; the remedy is `hint`. Never a key, never a whole
body. Exit statuses (contract.md §3): BadQuestion 2, AccessDenied 10, every other SourceError 11.
"""

from __future__ import annotations


class SourceError(Exception):
    """Base of everything an extractor raises. *transient*: the same request may succeed later."""

    transient = False

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.retry_after_s = retry_after_s


class Stopped(Exception):
    """Whoever reads was told to stop. No SourceError, so that nobody takes it for an answer of the source."""


class AccessDenied(SourceError):
    """Key, scope or project is not right (401, 403, 404 of the project): only the user can mend it.

    *about*: which of the three, "key", "scope" or "project".
    """

    def __init__(self, message: str, *, about: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.about = about


class SourceUnavailable(SourceError):
    """The server cannot be reached or keeps failing; everything committed stays and a later run goes on."""

    transient = True


class LimitsExhausted(SourceError):
    """The source's rate limits ask for a longer wait than the run may take."""


class StateUnwritable(SourceError):
    """The requests cannot be written down, so that the limits, which every process of the key shares, cannot be kept."""


class UnusableAnswer(SourceError):
    """An answer that contradicts the question or cannot be read; going on could lose events."""


class ClockJumped(SourceError):
    """Two answers disagree about the server's time; what was planned by the first must be planned anew."""

    transient = True


class TimeZoneFault(UnusableAnswer):
    """The server labels project-local times as UTC (facts/posthog-api.md §1.7)."""


class EndpointMissing(SourceError):
    """404 of the address itself: this server does not have it (another prefix may, or a newer server)."""


class RequestRefused(SourceError):
    """400, 402, 405 and other refusals of this one question; asking again gives the same."""


class NotOffered(RequestRefused):
    """405: this server has the address, but not yet what was asked of it."""


class BadQuestion(RequestRefused):
    """400: something the user gave is refused, in PostHog's words (exit 2)."""


class NotFound(BadQuestion):
    """404 of one entry: the project has none with that id (exit 2)."""


class NotReady(RequestRefused):
    """425 or 409 of a content: it is not there yet (facts/posthog-api.md §3.5)."""


class Unreached(SourceUnavailable):
    """No connection came about: nothing was sent."""


class AnswerLost(SourceError):
    """A write was sent and no answer came that tells whether it was done; it is not sent again blindly."""


class RangeTooHeavy(SourceError):
    """504, 512, 513, or no answer in time: ask for a shorter range (facts/posthog-api.md §5.5)."""

    transient = True


class ServerFault(SourceError):
    """A bare 500: a bad question, a neighbour's concurrency or a passing fault; the status cannot tell (§1.9)."""

    transient = True


class BodyCut(SourceError):
    """The body ended early, was too large, or is not the JSON it claims to be: ask for fewer rows.

    *whole*: it came whole, as a proxy's page does.
    """

    transient = True

    def __init__(self, message: str, *, whole: bool = False) -> None:
        super().__init__(message)
        self.whole = whole
