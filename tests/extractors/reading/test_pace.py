"""What each kind of answer does to what is asked next, without requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.reading.pace import ASK_WHETHER_IT_ANSWERS, HALVES, LIMIT, MAX_CUTS, MAX_SPAN, Pace
from extractors.window import DAY, EPOCH, MICROSECOND, Range, window_at

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = START + 1000 * DAY
FRESH = Pace(START, END, DAY)
FAILED = replace(FRESH, failures=3, cuts=2, limit=100, ceiling=HOUR, before=DAY, failing=START + 2 * HOUR, served=1)


def day_end(at: datetime) -> datetime:
    return window_at(at, DAY).end


def hours(count: float) -> Range:
    return Range(START, START + count * HOUR)


TABLE = [
    pytest.param(
        FRESH, lambda pace: pace.short(hours(24)), {"cursor": START + DAY, "span": 2 * DAY, "served": 1}, id="short"
    ),
    pytest.param(
        replace(FRESH, span=300 * DAY),
        lambda pace: pace.short(hours(300 * 24)),
        {"cursor": START + 300 * DAY, "span": MAX_SPAN, "served": 1},
        id="short: a year at most",
    ),
    pytest.param(
        FRESH,
        lambda pace: pace.full(hours(24), START + 6 * HOUR, day_end),
        {"cursor": START + 6 * HOUR, "span": 18 * HOUR, "ceiling": MAX_SPAN, "served": 1},
        id="full: the rest of the window",
    ),
    pytest.param(
        FRESH,
        lambda pace: pace.full(hours(24), START + 20 * HOUR, day_end),
        {"cursor": START + 20 * HOUR, "span": 40 * HOUR, "served": 1},
        id="full: twice the page's time where that is more",
    ),
    pytest.param(
        FRESH,
        lambda pace: pace.one_microsecond(hours(24), START + HOUR, day_end),
        {"cursor": START + HOUR + MICROSECOND, "span": 23 * HOUR - MICROSECOND, "served": 1},
        id="one microsecond",
    ),
    pytest.param(
        FRESH,
        lambda pace: pace.one_microsecond(Range(START, END), END - MICROSECOND, day_end),
        {"cursor": END, "span": 2000 * DAY - 2 * MICROSECOND, "served": 1},
        id="one microsecond: the last one",
    ),
    pytest.param(FRESH, lambda pace: pace.cut(None), {"cuts": 1, "limit": LIMIT // 2}, id="cut"),
    pytest.param(
        FRESH, lambda pace: pace.cut(70), {"cuts": 1, "limit": 35}, id="cut: half of what the server gives at most"
    ),
    pytest.param(
        replace(FRESH, limit=1, most=1), lambda pace: pace.cut(70), {"cuts": 1, "limit": 1}, id="cut: a row at least"
    ),
    pytest.param(
        FRESH,
        lambda pace: pace.heavy(hours(24)),
        {"failures": 1, "ceiling": 12 * HOUR, "failing": START + DAY},
        id="heavy",
    ),
    pytest.param(
        FAILED,
        lambda pace: pace.heavy(hours(1)),
        {"failures": 4, "ceiling": HOUR / 2, "failing": START + HOUR, "served": 0},
        id="heavy: again, within what failed",
    ),
    pytest.param(
        FAILED,
        lambda pace: pace.short(hours(1)),
        {"cursor": START + HOUR, "ceiling": 2 * HOUR, "served": 2, "failures": 0, "cuts": 0, "limit": 200},
        id="short: the first half of what failed, and its second half is known to",
    ),
    pytest.param(
        FAILED,
        lambda pace: pace.short(hours(2)),
        {
            "cursor": START + 2 * HOUR,
            "ceiling": 4 * HOUR,
            "failing": None,
            "served": 2,
            "failures": 0,
            "cuts": 0,
            "limit": 200,
        },
        id="short: all of what failed",
    ),
    pytest.param(
        FAILED,
        lambda pace: pace.recovered(),
        {"ceiling": DAY, "failing": None, "served": 0, "failures": 0},
        id="recovered",
    ),
    pytest.param(
        FAILED,
        lambda pace: pace.passed_over(Range(START, START + MICROSECOND)),
        {"cursor": START + MICROSECOND, "ceiling": DAY, "failing": None, "served": 0, "failures": 0, "cuts": 0},
        id="passed over",
    ),
]


@pytest.mark.parametrize(("pace", "told", "changes"), TABLE)
def test_answer_changes_what_the_table_says_and_nothing_else(
    pace: Pace, told: Callable[[Pace], Pace], changes: dict[str, object]
):
    """Each kind of answer, after none and after failures; everything else of the pace stays as it was."""
    assert told(pace) == replace(pace, **changes)


ASKED = [
    pytest.param(FRESH, hours(24), id="as much as answers suggest"),
    pytest.param(replace(FRESH, end=START + HOUR), hours(1), id="no more than the end"),
    pytest.param(replace(FRESH, ceiling=HOUR), hours(1), id="no more than the ceiling"),
    pytest.param(FAILED, hours(1), id="half of what is known to fail"),
    pytest.param(replace(FAILED, served=HALVES), hours(2), id="all of it after halves that were served"),
    pytest.param(replace(FAILED, failing=START + MICROSECOND), Range(START, START + MICROSECOND), id="one at least"),
]


@pytest.mark.parametrize(("pace", "asked"), ASKED)
def test_range_asked_next_is_what_is_known_of_failures(pace, asked):
    """One range for each state; it begins where everything is read."""
    assert pace.asked == asked


@pytest.mark.parametrize(("cuts", "fewer"), [(0, True), (MAX_CUTS - 1, True), (MAX_CUTS, False)])
def test_rows_are_halved_a_bounded_number_of_times(cuts, fewer):
    """Then the time is halved, as for every range that is not served."""
    assert replace(FRESH, cuts=cuts).takes_fewer_rows == fewer


def test_failures_in_a_row_are_doubted_once():
    """The question whether the server answers at all is asked at the eighth, and not at each one after it."""
    pace, doubted = FRESH, []
    for _ in range(3 * ASK_WHETHER_IT_ANSWERS):
        pace = pace.heavy(pace.asked)
        doubted.append(pace.is_doubtful)

    assert [n for n, doubtful in enumerate(doubted, 1) if doubtful] == [ASK_WHETHER_IT_ANSWERS]


ANSWERS = st.lists(st.tuples(st.sampled_from(("short", "full", "tie", "cut", "heavy", "recovered")), st.floats(0, 1)))
SPANS = st.sampled_from((MICROSECOND, 5 * MICROSECOND, HOUR, DAY, 400 * DAY, 9000 * DAY))


@settings(max_examples=300, deadline=None)
@given(answers=ANSWERS, length=SPANS, first=SPANS)
def test_sweep_goes_on_and_asks_neither_too_much_nor_past_the_end(answers, length, first):
    """After any answers: what is asked begins at the cursor, ends by the end and a year, and an answer moves the cursor on."""
    pace = Pace(EPOCH, EPOCH + length, first)
    for kind, where in answers:
        if pace.cursor >= pace.end:
            break
        asked, cursor = pace.asked, pace.cursor
        last = asked.start + (asked.duration - MICROSECOND) * where
        if kind == "cut" and pace.takes_fewer_rows:
            pace = pace.cut(None)
        elif kind in ("cut", "heavy"):
            pace = pace.passed_over(asked) if asked.duration == MICROSECOND else pace.heavy(asked)
        elif kind == "recovered":
            pace = pace.recovered()
        elif kind == "short":
            pace = pace.short(asked)
        elif kind == "full" and last > asked.start:
            pace = pace.full(asked, last, day_end)
        else:
            pace = pace.one_microsecond(asked, last, day_end)
        moves = kind not in ("cut", "heavy", "recovered") or (kind == "heavy" and asked.duration == MICROSECOND)
        assert asked.start == cursor
        assert asked.end <= min(pace.end, cursor + MAX_SPAN)
        assert cursor < pace.cursor <= asked.end if moves else pace.cursor in (cursor, asked.end)
        assert 1 <= pace.limit <= pace.most


def swept(pace: Pace, fails: Callable[[Range], bool]) -> tuple[list[Range], list[Range]]:
    """What is asked, and which microseconds are passed over, where ranges are served whole or not at all."""
    asked: list[Range] = []
    lost: list[Range] = []
    while pace.cursor < pace.end:
        asked.append(pace.asked)
        if not fails(asked[-1]):
            pace = pace.short(asked[-1])
        elif asked[-1].duration > MICROSECOND:
            pace = pace.heavy(asked[-1])
        else:
            lost.append(asked[-1])
            pace = pace.passed_over(asked[-1])
    return asked, lost


@settings(max_examples=200, deadline=None)
@given(micros=st.integers(0, DAY // MICROSECOND - 1), span=st.sampled_from((HOUR, DAY, 7 * DAY)))
def test_one_bad_microsecond_costs_about_a_request_for_each_halving(micros, span):
    """It is passed over, and nothing else; what follows it costs no more than without it."""
    bad = START + micros * MICROSECOND
    pace = Pace(START, START + 30 * DAY, span)

    asked, lost = swept(pace, lambda rng: rng.start <= bad < rng.end)

    longest = max(rng.duration for rng in asked)
    halvings = (longest // MICROSECOND).bit_length()
    without, _ = swept(pace, lambda rng: False)
    assert lost == [Range(bad, bad + MICROSECOND)]
    assert len(asked) <= 1.5 * halvings + len(without) + HALVES


def test_what_is_asked_grows_back_after_success():
    """A year at a time again, soon after a failure that has passed."""
    pace = Pace(START, START + 4000 * DAY, MAX_SPAN)
    for _ in range(20):
        pace = pace.heavy(pace.asked)
    asked, _ = swept(pace, lambda rng: False)

    assert MAX_SPAN in [rng.duration for rng in asked]
    assert len(asked) < 45
