"""Histories of many hands that were lost once, written down: each must end with the source's rows, and honestly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from sinks.entries import State
from tests.flows import hands
from tests.flows.hands import ThreadWorker
from tests.flows.hands_history import History, Setting
from tests.flows.hands_source import Source, serving

DAY_M = 24 * 60


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    source = Source()
    with hands.small(), serving(source):
        yield source


def copy_of_a_part(history: History) -> None:
    """A newer destination that covers a part of a date is copied over the whole date."""
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    history.pass_time(61, 3)
    history.colleague_syncs(20 * 60, fresh=True)
    history.whole("copy")


def copy_over_a_gap(history: History) -> None:
    """A newer destination whose mark lies beyond a gap of this one is copied, and the next sync goes on."""
    history.whole("sync")
    history.pass_time(3 * DAY_M, 60)
    history.colleague_syncs(120, fresh=True)
    history.whole("copy")
    history.whole("sync")


def sync_beside_verify(history: History) -> None:
    """A sync has compared a window and not noted it when `verify` notes damage there."""
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    history.whole("sync")
    slow = history.start("sync")
    assert slow is not None
    history.go_before(slow, "note")
    history.damage("delete")
    history.whole("verify")
    history.go(slow)
    history.whole("sync")


def damage_found_without_query(history: History) -> None:
    """Damage is noticed while the source answers no queries, and is still told when it answers again."""
    history.grant(False)
    history.whole("sync")
    history.damage("delete")
    history.whole("verify")
    history.whole("sync")
    history.grant(True)
    history.whole("sync")


def damage_noted_by_a_clock_behind(history: History) -> None:
    """`verify` runs on a machine whose clock is behind."""
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    history.whole("sync", skew_h=1)
    history.damage("delete")
    history.whole("verify", skew_h=-1)
    history.whole("sync")


def damage_noted_before_journals_are_merged(history: History, syncs: int) -> None:
    """`verify` notes damage between another run's last look and its merging of journals; then they are merged again.

    *syncs* before it: whether the other run merges at all depends on how long the journal is by then.
    """
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    for _ in range(syncs):
        history.whole("sync")
    slow = history.start("sync")
    assert slow is not None
    history.go_before(slow, "record")
    history.damage("delete", State.VERIFIED)
    history.whole("verify")
    history.go(slow)
    for _ in range(6):
        history.whole("sync")


def one_window_too_heavy(history: History) -> None:
    """/query cannot count one window; all others are compared."""
    history.weigh(20 * 60)
    history.whole("sync")
    history.come_late(3, 40 * 60, 30 * 60)
    history.whole("sync")


def outage_in_steps(history: History) -> None:
    """An outage grows by a twentieth of all events every quarter of an hour."""
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    for _ in range(8):
        history.pass_time(15, 0)
        history.hide(0.05)
        history.whole("sync")


def date_a_day_ahead(history: History) -> None:
    """One answer's date is wrong by a day, and events come meanwhile."""
    history.whole("sync")
    history.wrong_date(24)
    history.whole("sync")
    history.pass_time(16 * 60, 40)
    history.whole("sync")


def late_into_an_open_window(history: History) -> None:
    """An event comes late into the part of an open window that is not read again."""
    history.whole("sync")
    history.pass_time(61, 5)
    history.whole("sync")
    history.come_late(4, 20, 12)
    history.whole("sync")


def damage_in_an_open_window(history: History) -> None:
    """A row of an open window is deleted by hand, and noticed; later syncs read the window's tail."""
    history.whole("sync")
    history.pass_time(25, 9)
    history.pass_time(11, 0)
    history.whole("sync")
    history.damage("delete", State.OPEN)
    history.whole("verify")
    history.pass_time(5, 2)
    history.whole("sync")


def changed_before_it_was_compared(history: History) -> None:
    """An event changes in place between a landing without /query and the first comparison."""
    history.grant(False)
    history.whole("sync")
    history.pass_time(61, 0)
    history.change()
    history.grant(True)
    history.whole("sync")


def copies_merged_later(history: History) -> None:
    """The source holds two copies of an event for a while."""
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    history.copies()
    history.whole("sync")


def moved_while_a_date_is_searched(history: History) -> None:
    """An event moves to another window of its day after a run has searched the day and before it says so."""
    history.whole("sync")
    history.move()
    first = history.start("sync")
    assert first is not None
    history.go_before(first, "mark_searched")
    for _ in range(3):
        history.move()
    history.whole("sync")
    history.go(first)


def listing_takes_long(history: History) -> None:
    """Two runs cross over a lake whose listing counts for a while."""
    history.whole("sync")
    history.list_slowly(1.0)
    history.pass_time(8 * 60, 40)
    slow = history.start("sync")
    assert slow is not None
    history.go_before(slow, "land")
    history.whole("sync")
    history.go(slow)


def sync_over_a_gap(history: History) -> None:
    """A sync of the last two hours leaves three days out: the next one goes on from before them."""
    history.whole("sync")
    history.pass_time(3 * DAY_M, 60)
    history.whole("sync", since_m=120)


def answer_that_met_a_stop(history: History) -> None:
    """A run is about to note that the source agrees with what it landed first, when another one's removal is stopped."""
    first = history.start("sync")
    assert first is not None
    history.go_before(first, "note")
    history.hide(1.0)
    history.whole("sync")
    history.end_outage()
    history.go(first)


def mark_for_a_target_that_covers_more(history: History) -> None:
    """A backfill has no mark: a copy of a part brings none over time that it did not read."""
    history.whole("backfill", since_m=2 * DAY_M, until_m=0)
    history.colleague_syncs(7, fresh=True)
    history.whole("copy")


SCRIPTS: dict[str, Callable[[History], None]] = {
    script.__name__: script
    for script in (
        sync_over_a_gap,
        answer_that_met_a_stop,
        mark_for_a_target_that_covers_more,
        copy_of_a_part,
        copy_over_a_gap,
        sync_beside_verify,
        damage_found_without_query,
        damage_noted_by_a_clock_behind,
        one_window_too_heavy,
        outage_in_steps,
        date_a_day_ahead,
        late_into_an_open_window,
        damage_in_an_open_window,
        changed_before_it_was_compared,
        copies_merged_later,
        moved_while_a_date_is_searched,
        listing_takes_long,
    )
}
SCRIPTS |= {
    f"damage_noted_before_journals_are_merged_{syncs}": partial(damage_noted_before_journals_are_merged, syncs=syncs)
    for syncs in (1, 2, 3)
}


LAKES = {name for name in SCRIPTS if "journal" in name or "clock" in name or "listing" in name}
"""What only a lake can get wrong."""


def cases() -> Iterator[object]:
    """Every script on every sink; the fast suite has each on one."""
    for script in SCRIPTS:
        for kind in ("memory", "duckdb", "lake"):
            fast = kind == ("lake" if script in LAKES else "memory")
            yield pytest.param(script, kind, id=f"{script}-{kind}", marks=[] if fast else pytest.mark.long)


@pytest.mark.parametrize(("script", "kind"), list(cases()))
def test_script(script, kind, source):
    history = History(Setting(source, kind, ThreadWorker), events=120, page_rows=25, seed=3)
    try:
        SCRIPTS[script](history)
        history.finish()
    finally:
        history.close()
