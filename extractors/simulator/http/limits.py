"""Rate limits as the server keeps them: sliding windows per key, refused requests do not count (§5.4)."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

from extractors.simulator.assets.lists import KINDS
from extractors.simulator.http import accounts

BUCKETS = {
    "query": "query",
    "values": "values",
    "exports": "rest",
    "export": "rest",
    "content": "rest",
    "evaluations": "rest",
    "evaluation": "rest",
    **dict.fromkeys((*accounts.SCOPES, *KINDS), "rest"),
}


class RateLimits:
    """Counts requests per (key, bucket). *clock*: seconds, ascending."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def refused_for_s(self, key: str, bucket: str, *, per_minute: int | None, per_hour: int | None) -> int:
        """Whole seconds until the oldest request leaves the full window, or 0: then the request is counted."""
        with self._lock:
            now, times = self._clock(), self._times[key, bucket]
            while times and times[0] <= now - 3600:
                times.popleft()
            for allowed, span in ((per_minute, 60.0), (per_hour, 3600.0)):
                recent = [at for at in times if at > now - span]
                if allowed is not None and len(recent) >= allowed:
                    return max(1, math.ceil(recent[-allowed] + span - now))
            times.append(now)
            return 0
