"""Reading ahead: the next page is asked for in a thread while this one lands the last."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, TypeVar

PAGES_AHEAD = 2
T = TypeVar("T")


class _Handover(Generic[T]):
    """Hands the items of one thread to another, a few at a time, and the error that ends them."""

    def __init__(self) -> None:
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=PAGES_AHEAD)
        self.stopped = threading.Event()

    def fill(self, items: Iterator[T]) -> None:
        """The work of the thread that reads."""
        try:
            for item in items:
                self._put(item, None)
                if self.stopped.is_set():
                    return
            self._put(None, None)
        except BaseException as exc:
            self._put(None, exc)

    def _put(self, item: T | None, error: BaseException | None) -> None:
        while not self.stopped.is_set():
            try:
                self._ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def items(self) -> Iterator[T]:
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
    items: Iterator[T], *, interrupted: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[Iterator[T]]:
    """Iterate *items* in another thread, a few ahead; its error is raised here.

    However the block is left, the thread has ended, or what comes next would meet it in the client: *interrupted* ends
    its waits meanwhile. Only Ctrl-C and what else ends the whole run wait for nobody.
    """
    handover: _Handover[T] = _Handover()
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
