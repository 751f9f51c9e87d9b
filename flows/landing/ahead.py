"""Reading ahead: what comes next is asked for in a thread while this one lands the last.

What comes fast is handed over together: a small page costs the next step about as much as a large one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

BATCHES_AHEAD = 1
JOINED_S = 0.5
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Joining(Generic[T, U]):
    """How items are joined: *join* makes one of several, in the reading thread; *size_of*: bytes of one.

    They are handed over as soon as they weigh *most* bytes, or when the first has waited for JOINED_S; and before every wait:
    within *resting* the function that is given is called ahead of each.
    """

    join: Callable[[list[T]], U]
    size_of: Callable[[T], int]
    most: int
    resting: Callable[[Callable[[], None]], AbstractContextManager[None]] = lambda before: nullcontext()
    clock: Callable[[], float] = time.monotonic


class _Handover(Generic[T, U]):
    """Hands what one thread reads to another, some of it ahead, and the error that ends it."""

    def __init__(self, joining: Joining[T, U]) -> None:
        self._joining = joining
        self._held: list[T] = []
        self._held_bytes, self._held_since = 0, 0.0
        self._ready: queue.Queue[tuple[U | None, BaseException | None]] = queue.Queue(maxsize=BATCHES_AHEAD)
        self.stopped = threading.Event()

    def fill(self, items: Iterator[T]) -> None:
        """The work of the thread that reads."""
        error: BaseException | None = None
        try:
            try:
                with self._joining.resting(self._hand_over):
                    for item in items:
                        self._hold(item)
                        if self.stopped.is_set():
                            return
            finally:
                self._hand_over()  # what came before an error was read
        except BaseException as exc:
            error = exc
        self._put(None, error)

    def _hold(self, item: T) -> None:
        now = self._joining.clock()
        if not self._held:
            self._held_since = now
        self._held.append(item)
        self._held_bytes += self._joining.size_of(item)
        if self._held_bytes >= self._joining.most or now - self._held_since >= JOINED_S:
            self._hand_over()

    def _hand_over(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and not self.stopped.is_set():
            self._put(self._joining.join(held), None)

    def _put(self, item: U | None, error: BaseException | None) -> None:
        while not self.stopped.is_set():
            try:
                self._ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def items(self) -> Iterator[U]:
        """What was handed over; raises the error of the other thread."""
        while True:
            item, error = self._ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item


@contextmanager
def ahead(
    items: Iterator[T],
    joining: Joining[T, U],
    *,
    interrupted: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Iterator[U]]:
    """Iterate *items* in another thread, some ahead and joined; its error is raised here, after what came before it.

    However the block is left, the thread has ended, or what comes next would meet it in the client: *interrupted* ends
    its waits meanwhile. Only Ctrl-C and what else ends the whole run wait for nobody.
    """
    handover = _Handover(joining)
    # A daemon: Ctrl-C must not wait for an answer or for a limit; a request under way changes nothing at the source.
    thread = threading.Thread(target=handover.fill, args=(items,), name="reader", daemon=True)
    thread.start()
    hurried = False
    try:
        yield handover.items()
    except BaseException as exc:
        hurried = not isinstance(exc, Exception)
        raise
    finally:
        handover.stopped.set()
        if not hurried:
            with interrupted():
                thread.join()
