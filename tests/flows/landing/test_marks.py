"""The mark: where a later sync goes on from. It never stands over time that was not read, so that no event is passed over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from sinks.errors import DestinationUnusable
from sinks.memory import MemorySink
from tests.flows.harness import UNLIMITED, landed, sync, truth
from tests.flows.places import steady

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)


def test_sync_that_leaves_days_out_is_followed_by_one_that_reads_them(tmp_path):
    """`sync --since 2h` three days after the last one: the mark stays, and the next plain sync reads the days between."""
    dataset, sink = Dataset(steady(FIRST, FIRST + 6 * DAY, every=HOUR)), MemorySink()
    clock = FIRST + DAY + 6 * HOUR
    with serve(dataset, profile=UNLIMITED, now=lambda: clock) as simulator:

        def run(since: datetime | None) -> None:
            sync(simulator.url, simulator.key, sink, tmp_path, since=since, until=None)

        run(FIRST)
        before = clock
        clock += 3 * DAY
        run(clock - 2 * HOUR)
        between = sink.ledger(1, "events").mark
        run(None)

    assert (between, sink.ledger(1, "events").mark) == (before, clock)
    assert landed(sink, FIRST, clock) == truth(dataset.events, FIRST, clock)


class Full(MemorySink):
    """A destination that has no room from its landing number *room* on."""

    room = 99

    def land(self, *asked: Any, **named: Any) -> Any:
        self.room -= 1
        if self.room < 0:
            raise DestinationUnusable("the disk is full")
        return super().land(*asked, **named)


EARLY = [
    pytest.param(4, None, 2, id="behind the first group of windows"),
    pytest.param(4, None, 3, id="in the midst of the last group"),
    pytest.param(5, 3, 3, id="before a day that was landed long ago"),
]


@pytest.mark.parametrize(("days", "backfilled", "room"), EARLY)
def test_first_sync_that_ends_early_leaves_no_mark(days, backfilled, room, tmp_path, monkeypatch):
    """The sync after it reads from the beginning, and no day is passed over; that one leaves the mark at its end."""
    monkeypatch.setattr("flows.landing.ahead.JOINED_S", 0.0)  # a page at a time
    monkeypatch.setattr("flows.landing.pipeline.BATCH_ROWS", 2 * 24)
    end, sink = FIRST + days * DAY, Full()
    dataset = Dataset(steady(FIRST, end, every=HOUR))
    with serve(dataset, profile=replace(UNLIMITED, page_cap=10), now=lambda: end) as simulator:

        def run(since: datetime, until: datetime | None = None, *, marks: bool = True) -> None:
            sync(simulator.url, simulator.key, sink, tmp_path, since=since, until=until, marks=marks)

        if backfilled is not None:
            run(FIRST + backfilled * DAY, FIRST + (backfilled + 1) * DAY, marks=False)
        sink.room = room
        with pytest.raises(DestinationUnusable):
            run(FIRST)
        early = sink.ledger(1, "events")
        sink.room = 99
        run(FIRST)

    assert (early.mark, len(early.entries)) == (None, room + (backfilled is not None))
    assert sink.ledger(1, "events").mark == end
