"""How long a run still takes, from what it has done so far and what the source's limits allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from extractors.http.pacing import Limit, Pacing, finished_in_s
from extractors.request import Bucket
from flows.landing.session import Progress

FORESEEN_EVERY_S = 1.0
MOST_REQUESTS = 20_000  # reckoned one by one; what is beyond goes at the hour's pace


def remaining_s(at: Progress, *, busy_s: float, ages_s: Sequence[float], limit: Limit, before: int = 0) -> float | None:
    """Seconds until all planned windows are landed; None before the first is. Pure.

    The windows to come cost as many requests each, and each request as long, as those until now. *busy_s*: how long the
    run has been at it, waits for limits apart; *ages_s*: how long ago each request of the last hour was, oldest first;
    *before*: requests of the run before it read the first window, which no window to come costs.
    """
    if not at.windows_done or not at.requests:
        return None
    left = max(1, at.requests - before) * (at.windows_planned - at.windows_done) / at.windows_done
    reckoned = min(MOST_REQUESTS, round(left))
    seconds = finished_in_s(ages_s, limit, requests=reckoned, each_s=busy_s / at.requests)
    return seconds + (round(left) - reckoned) * max(3600 / limit.per_hour, busy_s / at.requests)


def foreseeing(
    listener: Callable[[Progress], None],
    budget: Pacing,
    limit: Limit,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> Callable[[Progress], None]:
    """*listener*, told as well how long is left; reckoned at most once in FORESEEN_EVERY_S, and when all is landed."""
    begun_s = monotonic()
    due_s = begun_s
    ends_s: float | None = None
    before: int | None = None

    def told(at: Progress) -> None:
        nonlocal due_s, ends_s, before
        if before is None:
            before = max(0, at.requests - min(1, at.windows_done))  # one answer brought the first windows
        now_s = monotonic()
        if now_s >= due_s or at.windows_done >= at.windows_planned:
            busy_s = max(0.0, now_s - begun_s - budget.waited_s)
            left_s = remaining_s(at, busy_s=busy_s, ages_s=budget.ages_s(Bucket.LIST), limit=limit, before=before)
            due_s, ends_s = now_s + FORESEEN_EVERY_S, None if left_s is None else now_s + left_s
        listener(replace(at, left_s=None if ends_s is None else max(0.0, ends_s - now_s)))

    return told
