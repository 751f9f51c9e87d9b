"""What is done after a failure: one table. Pure: the client acts on it, in one loop.

| error | policy | done |
|---|---|---|
| 429 | any | noted for every process of the key, and waited for as long as it says; counts as no attempt |
| 404, 409, 425 | resumed | not there yet: waited for, UNREADY_ATTEMPTS in all |
| transient | resumed | waited for, twice as long each time, RESUMED_ATTEMPTS in a row without progress |
| 404 of the address | not resumed | asked at once by the other prefix, each once in an attempt |
| anything else | once | raised; AnswerLost where it may have been done |
| bare 500 | | waited for as often as the policy says; by full patience asked alone |
| heavy, cut | divisible | raised at once: the caller asks for less |
| whole, but not what was asked | | waited for: a proxy's page, the question is begun anew |
| 502, 503 with Retry-After | | waited for as long as it says, so many times as there are attempts; counts as none |
| other transient ones | | back-off with jitter, bounded in attempts and in time |
| everything else | | raised |

Each wait for a 500 or a proxy's page begins attempts and time anew. What a smaller question may cure is the sweep's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from extractors import errors
from extractors.request import Policy

UNREADY_ATTEMPTS = 3
RESUMED_ATTEMPTS = 6
_LOST = (errors.SourceUnavailable, errors.RangeTooHeavy, errors.ServerFault, errors.BodyCut)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on after transient failures: attempts and total seconds, both bounded, with jitter."""

    attempts: int = 8
    total_s: float = 300.0
    first_s: float = 0.5
    longest_s: float = 30.0
    server_error_waits_s: tuple[float, ...] = (5.0, 20.0, 35.0)  # three times over 60 s (docs/decisions/0007)
    foreign_answer_waits_s: tuple[float, ...] = (1.0, 2.0)  # a proxy's page with status 200
    first_contact_attempts: int = 3  # a host that has never answered is more likely mistyped than busy


class How(Enum):
    """How to wait before asking again."""

    WAIT = "as long as this, or as the server said"
    BACKOFF = "as long as this and a random part more"
    BLOCK = "as long as this, as every process of the key must"
    ELSEWHERE = "not at all: another prefix is asked"


@dataclass(frozen=True, slots=True)
class Tries:
    """What was tried in vain so far.

    *attempts*: how many may fail; *failed*: how many did; *told*: Retry-Afters of the one under way. *faults*: bare
    500s; *foreign*: proxy's pages; *alone*: nothing else of the project is to be asked meanwhile. *prefixes*: those that
    the attempt under way has still to ask by, the first one now; empty: a new one. *begun_s*: when the first attempt
    began, None: now.
    """

    attempts: int
    prefixes: tuple[str, ...] = ()
    begun_s: float | None = None
    failed: int = 0
    told: int = 0
    faults: int = 0
    foreign: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Ask again after *wait_s* seconds; *tries*: what then was tried."""

    how: How
    wait_s: float
    tries: Tries


def decide(
    error: errors.SourceError,
    policy: Policy,
    tries: Tries,
    patience: Patience,
    *,
    now_s: float,
    progressed: bool = False,
) -> Again | None:
    """What to do about *error*; None: raise what given_up() says.

    *now_s*: by the clock of *tries*. *progressed*: of a content more came than ever before.
    """
    if isinstance(error, errors.LimitsExhausted):
        # Our own says nothing of when: the run may not wait any longer.
        return None if error.retry_after_s is None else Again(How.BLOCK, error.retry_after_s, tries)
    if policy.resumed:
        return _of_content(error, tries, patience, progressed=progressed)
    if isinstance(error, errors.EndpointMissing) and len(tries.prefixes) > 1:
        return Again(How.ELSEWHERE, 0.0, replace(tries, prefixes=tries.prefixes[1:]))
    if policy.once or not error.transient:
        return None
    if isinstance(error, errors.ServerFault):
        waits_s = patience.server_error_waits_s[: policy.faults]
        anew = Tries(patience.attempts, faults=tries.faults + 1, foreign=tries.foreign, alone=policy.faults is None)
        return Again(How.WAIT, waits_s[tries.faults], anew) if tries.faults < len(waits_s) else None
    if policy.divisible and isinstance(error, errors.RangeTooHeavy | errors.BodyCut):
        return None
    if isinstance(error, errors.BodyCut) and error.whole:
        waits_s = patience.foreign_answer_waits_s
        anew = Tries(patience.attempts, foreign=tries.foreign + 1)
        return Again(How.WAIT, waits_s[tries.foreign], anew) if tries.foreign < len(waits_s) else None
    return _of_transient(error, tries, patience, now_s=now_s)


def given_up(error: errors.SourceError, policy: Policy) -> errors.SourceError:
    """What to raise for *error* in the end."""
    if policy.once and isinstance(error, _LOST) and not isinstance(error, errors.Unreached):
        return errors.AnswerLost(f"{error}: whether it was done is not known")
    if isinstance(error, errors.ServerFault) and policy.faults is None and not policy.resumed:
        return errors.ServerFault(f"{error}, four times in a row")
    return error


def _of_content(error: errors.SourceError, tries: Tries, patience: Patience, *, progressed: bool) -> Again | None:
    if isinstance(error, errors.NotReady | errors.NotFound):
        # The asset has a content, its address does not know it yet.
        failed, attempts, wait_s = tries.failed + 1, UNREADY_ATTEMPTS, patience.longest_s / 10
    elif isinstance(error, _LOST):
        failed, attempts = 0 if progressed else tries.failed + 1, RESUMED_ATTEMPTS
        wait_s = min(patience.longest_s, patience.first_s * 2**failed)
    else:
        return None
    return Again(How.WAIT, wait_s, replace(tries, failed=failed)) if failed < attempts else None


def _of_transient(error: errors.SourceError, tries: Tries, patience: Patience, *, now_s: float) -> Again | None:
    told = tries.told + 1
    if isinstance(error, errors.SourceUnavailable) and error.retry_after_s is not None and told < patience.attempts:
        return Again(How.WAIT, 0.0, replace(tries, told=told))
    failed = tries.failed + 1
    late = tries.begun_s is not None and now_s - tries.begun_s >= patience.total_s
    if failed >= tries.attempts or late:
        return None
    wait_s = patience.first_s * 2 ** (failed - 1)
    return Again(How.BACKOFF, wait_s, replace(tries, failed=failed, told=0, prefixes=()))
