"""A clock that several threads share and that jumps to the next one's wake-up as soon as all sleep."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable


class VirtualTime:
    """One thread runs at a time, in the order of wake-ups, so a run of hours takes seconds and repeats exactly."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._turn = threading.Condition()
        self._running = 0
        self._asleep: list[tuple[float, int]] = []
        self._woken: set[int] = set()
        self._tickets = 0

    def clock(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._turn:
            self._tickets += 1
            ticket = self._tickets
            heapq.heappush(self._asleep, (self._now + max(0.0, seconds), ticket))
            self._running -= 1
            self._wake_next()
            self._turn.wait_for(lambda: ticket in self._woken)
            self._woken.discard(ticket)

    def run(self, works: list[Callable[[], None]]) -> None:
        """Run *works* side by side until all have ended; raises the first error of any."""
        errors: list[BaseException] = []

        def body(work: Callable[[], None]) -> None:
            try:
                self.sleep(0)
                work()
            except BaseException as exc:
                errors.append(exc)
            finally:
                with self._turn:
                    self._running -= 1
                    self._wake_next()

        self._running = len(works)
        threads = [threading.Thread(target=body, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _wake_next(self) -> None:
        if self._running == 0 and self._asleep:
            at, ticket = heapq.heappop(self._asleep)
            self._now = max(self._now, at)
            self._woken.add(ticket)
            self._running += 1
            self._turn.notify_all()
