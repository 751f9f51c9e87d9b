"""What a test plans must come about: a fault that no request met, or a hook that never acted, proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from extractors.simulator.faults import Fault, Faults, Heavy
from extractors.simulator.http.asked import RequestSeen

_faults: list[Faults] = []
_hooks: list[AtRequest] = []


@dataclass(slots=True)
class AtRequest:
    """A hook for the simulator that acts once, before request *number* (from 1) of *endpoint* is answered."""

    number: int
    act: Callable[[], object]
    endpoint: str = "list"
    acted: bool = False

    def __post_init__(self) -> None:
        _hooks.append(self)

    def __call__(self, seen: RequestSeen) -> None:
        if (seen.endpoint, seen.number) == (self.endpoint, self.number):
            self.acted = True
            self.act()


def missed() -> list[Fault | Heavy | AtRequest]:
    """What was planned since the block began and has not come about; faults by chance may stay away."""
    found: list[Fault | Heavy | AtRequest] = [hook for hook in _hooks if not hook.acted]
    for faults in _faults:
        found += [one for one in faults.planned if not faults.met[one] and not (isinstance(one, Fault) and not one.at)]
    return found


@contextmanager
def noted() -> Iterator[None]:
    """Inside the block every Faults and AtRequest is noted; what others noted before is forgotten."""
    real = Faults.__init__
    _faults.clear()
    _hooks.clear()

    def noting(self: Faults, *args: object, **more: object) -> None:
        real(self, *args, **more)  # type: ignore[arg-type]
        _faults.append(self)

    Faults.__init__ = noting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Faults.__init__ = real  # type: ignore[method-assign]
