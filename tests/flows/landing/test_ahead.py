"""What is read ahead is handed over together, and never held back while the reader waits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from extractors.errors import SourceError
from extractors.request import Bucket
from extractors.window import Range
from flows.landing.ahead import JOINED_S, Joining, ahead
from tests.extractors.pages import Pages, budget_of, reader_of, spread

START, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)


@dataclass
class Hands:
    """A joining of numbers, each *weight* bytes; its clock goes on by *each_s* an item."""

    weight: int
    each_s: float = 0.0
    now_s: float = 0.0
    before: Callable[[], None] = field(default=lambda: None)

    def joining(self) -> Joining[int, list[int]]:
        return Joining(list, lambda item: self.weight, 9, self.resting, self.clock)

    def clock(self) -> float:
        self.now_s += self.each_s
        return self.now_s

    @contextmanager
    def resting(self, before: Callable[[], None]) -> Iterator[None]:
        self.before = before
        yield


TOGETHER = [
    pytest.param(9, 0.0, [[0], [1], [2], [3], [4], [5]], id="large ones each by itself"),
    pytest.param(3, 0.0, [[0, 1, 2], [3, 4, 5]], id="until they are large"),
    pytest.param(1, 0.0, [[0, 1, 2, 3, 4, 5]], id="small ones together"),
    pytest.param(1, JOINED_S / 2, [[0, 1, 2], [3, 4, 5]], id="as long as the first may wait"),
]


@pytest.mark.parametrize(("weight", "each_s", "expected"), TOGETHER)
def test_items_are_handed_over_together(weight, each_s, expected):
    """Every one, in order, as many at once as are large enough or have waited long enough."""
    with ahead(iter(range(6)), Hands(weight, each_s).joining()) as read:
        assert list(read) == expected


def test_nothing_is_held_back_through_a_wait():
    """Whoever is about to wait hands over first what came before."""
    hands, landed = Hands(1), threading.Event()

    def items() -> Iterator[int]:
        yield from (1, 2)
        hands.before()
        assert landed.wait(10), "held back while the reader waits"
        yield 3

    with ahead(items(), hands.joining()) as read:
        assert next(read) == [1, 2]
        landed.set()
        assert list(read) == [[3]]


def test_what_came_before_an_error_comes_first():
    """Rows that were read are landed, whatever the next question meets."""

    def items() -> Iterator[int]:
        yield from (1, 2)
        raise SourceError("gone")

    with ahead(items(), Hands(1).joining()) as read:
        assert next(read) == [1, 2]
        with pytest.raises(SourceError, match="gone"):
            next(read)


def test_error_of_joining_is_raised_once():
    """What cannot be joined is not tried again on the way out."""
    tried = []

    def join(held: list[int]) -> int:
        tried.append(held)
        raise ValueError("no")

    with ahead(iter([1]), Joining(join, lambda item: 1, 1)) as read, pytest.raises(ValueError, match="no"):
        next(read)
    assert tried == [[1]]


@pytest.mark.parametrize("how", ["limit", "slot", "again", "told"])
def test_every_wait_is_told_ahead(how, tmp_path):
    """A limit, a slot that another process holds, a second try, and one whose time the server says."""
    budget = budget_of(tmp_path)
    reader = reader_of(Pages(spread(10, START, END)), tmp_path, budget=budget)
    client, told = reader._client, []
    passages = reader.sweep(Range(START, END), window_end=lambda at: END)
    other = budget_of(tmp_path).turn(Bucket.LIST, 1, alone=True)
    with reader.resting(lambda: told.append(how)):
        if how == "limit":
            budget.block(Bucket.LIST, 0.01)
        if how == "slot":
            other.__enter__()
            threading.Timer(0.1, other.__exit__, (None, None, None)).start()
        if how == "again":
            client.wait(0.01, SourceError("a bare 500"))
        if how == "told":
            client.wait(0.01, SourceError("busy", retry_after_s=0.01))
        assert sum(passage.rows.num_rows for passage in passages) == 10
    assert told
