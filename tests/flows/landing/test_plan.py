"""The plan: what is not landed as wanted is read, nothing else is, and no part of a range is forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.window import DAY, STEPS, Range, Window, midnight, window_at, windows_of
from flows.landing import due, groups, plan
from flows.landing.plan import WINDOW_ROWS, Target
from sinks.entries import HEAVY, Base, Entry, Facts, Probed, State, Tally
from sinks.ledger import Ledger
from tests.entries import own

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TODAY = date(2024, 3, 1)
START = midnight(date(2024, 2, 29))  # a leap day, with its neighbour
SETTLE = 2 * HOUR
LATER = START + 30 * DAY
NOTHING = Tally(0, "", 0, "")

checked = settings(derandomize=True, max_examples=100, deadline=None)
states = st.sampled_from(State)
hours = st.integers(0, 47)


def at(hour: float) -> datetime:
    return START + hour * HOUR


def rng(first: float, last: float) -> Range:
    return Range(at(first), at(last))


def entry(
    window: Window, state: State = State.LANDED, covered: Range | None = None, base: float | None = None
) -> Entry:
    part = covered or window
    kept = None if base is None else Base(at(base), NOTHING)
    edges = (window.start, window.end, part.start, part.end)
    return Entry(1, "events", *edges, read_at=LATER, tally=NOTHING, generation=1, base=kept, **own(state, LATER))


def ledger(*entries: Entry, step: timedelta = 6 * HOUR) -> Ledger:
    steps = {each.start.date(): step for each in entries}
    return Ledger(entries={each.start: each for each in entries}, steps=steps)


def targets(known: Ledger, wanted: Range, *, step: timedelta = 6 * HOUR, now: datetime = LATER) -> list[Target]:
    steps = {day: step for day in (START.date(), TODAY) if day not in known.steps}
    return plan.targets(known, steps, wanted, now=now, settle=SETTLE)


RANGES = [
    pytest.param(None, None, None, (midnight(date(2024, 1, 31)), at(30)), id="first run: from midnight 30 days ago"),
    pytest.param(None, None, at(-48), (midnight(date(2024, 1, 28)), at(-48)), id="first run: 30 days before its end"),
    pytest.param(at(20), None, None, (at(18), at(30)), id="from the mark less the settle time"),
    pytest.param(at(20), at(3), None, (at(3), at(30)), id="since beats the mark"),
    pytest.param(at(20), None, at(25), (at(18), at(25)), id="until"),
    pytest.param(at(20), at(3), at(99), (at(3), at(30)), id="until in the future is now"),
    pytest.param(at(20), None, at(18), None, id="nothing before until"),
    pytest.param(None, at(40), None, None, id="since in the future"),
]


@pytest.mark.parametrize(("mark", "since", "until", "expected"), RANGES)
def test_wanted_range_goes_on_from_the_mark(mark, since, until, expected):
    """Without bounds a run takes up where the last one ended; it never asks beyond now."""
    known = Ledger(marks=(mark,) if mark else ())
    found = plan.bounds(known, since=since, until=until, now=at(30), settle=SETTLE)

    assert found.range == (expected and Range(*expected))
    assert found.goes_on == (mark is not None and since is None)


def busy(per_hour: int, *, first: float = 0, count: int = 24) -> dict[datetime, int]:
    return {at(first + number): per_hour for number in range(count)}


DATES = [
    pytest.param(START.date(), {}, DAY, id="empty date"),
    pytest.param(START.date(), busy(50_000, count=1), DAY, id="just fits the day"),
    pytest.param(START.date(), busy(2_084), 6 * HOUR, id="a few more than fit the day"),
    pytest.param(START.date(), busy(30_000, first=5, count=2), 6 * HOUR, id="neighbouring hours in two windows"),
    pytest.param(START.date(), busy(30_000), HOUR, id="an hour"),
    pytest.param(START.date(), busy(200_000), 15 * MINUTE, id="a quarter"),
    pytest.param(START.date(), busy(50_000_000), MINUTE, id="never below a minute"),
    pytest.param(TODAY, busy(10, first=24, count=3), DAY, id="a quiet day that is not over"),
    pytest.param(TODAY, busy(40_000, first=-140, count=1), HOUR, id="today as busy as last week's busiest hour"),
    pytest.param(TODAY, busy(40_000, first=-170, count=1), DAY, id="what was more than a week ago does not count"),
]


@pytest.mark.parametrize(("day", "hour_rows", "expected"), DATES)
def test_step_is_the_longest_that_holds_a_window_of_rows(day, hour_rows, expected):
    """At most 50,000 rows are expected in a window; a date that is not over is judged by the week before it."""
    assert plan.steps_for([day], hour_rows, now=at(27)) == {day: expected}


UNCOUNTED = [
    pytest.param((0, 72), 99, [DAY, DAY, DAY], id="dates that are over and wanted whole"),
    pytest.param((5, 48), 99, [HOUR] * 19 + [DAY], id="the first in part"),
    pytest.param((0, 30), 99, [DAY] + [HOUR] * 6, id="the last in part"),
    pytest.param((0, 48), 48, [DAY] + [HOUR] * 24, id="the last over, and not settled"),
]


@pytest.mark.parametrize(("wanted", "now", "lengths"), UNCOUNTED)
def test_date_that_nobody_counted_is_one_window_if_it_proves_empty(wanted, now, lengths):
    """Such a date is over, settled and read whole; else, and once its events come, its windows are an hour long."""
    found = plan.targets(Ledger(), {}, rng(*wanted), now=at(now), settle=SETTLE)

    assert [each.window.duration for each in found] == lengths
    assert [each.window.duration for each in found if each.if_empty] == [one for one in lengths if one == DAY]
    cut = [part for each in found for part in plan.cut_if_rows(each, {START.date()})]
    assert {part.window.duration for part in cut if part.window.start.date() == START.date()} == {HOUR}
    assert sum(part.if_empty for part in cut) == sum(each.window.start >= at(24) for each in found if each.if_empty)
    assert [part.covers for part in cut] == [part.reads for part in cut]
    assert tiles([part.covers for part in cut], rng(*wanted))


def test_date_with_a_step_keeps_it():
    """A ledger that was begun in windows of an hour goes on in them."""
    known = replace(Ledger(), steps={START.date(): HOUR})

    found = plan.targets(known, {}, rng(0, 48), now=LATER, settle=SETTLE)

    assert [(each.window.duration, each.if_empty) for each in found] == [(HOUR, False)] * 24 + [(DAY, True)]


@checked
@given(st.dictionaries(st.integers(0, 23), st.integers(0, 60_000), max_size=24))
def test_no_longer_step_than_chosen_would_hold(rows_by_hour):
    """The step keeps every window of the date within its rows, and the next longer one would not."""
    step = plan.steps_for([START.date()], {at(h): n for h, n in rows_by_hour.items()}, now=LATER)[START.date()]

    def fullest(length: timedelta) -> float:
        each = [
            sum(n for h, n in rows_by_hour.items() if w.start <= at(h) < w.end) for w in windows_of(TODAY - DAY, length)
        ]
        return max(each) if length >= HOUR else max(rows_by_hour.values(), default=0) * (length / HOUR)

    assert fullest(step) <= WINDOW_ROWS
    assert all(fullest(longer) > WINDOW_ROWS for longer in STEPS if longer > step)


FINER = [
    pytest.param(DAY, 100_000, DAY, 6 * HOUR, id="spread over a day"),
    pytest.param(DAY, 100_000, HOUR, 15 * MINUTE, id="all in an hour"),
    pytest.param(6 * HOUR, 50_000, 6 * HOUR, HOUR, id="shorter even where the rows would fit"),
    pytest.param(DAY, 10**9, HOUR, MINUTE, id="a minute at least"),
    pytest.param(MINUTE, 10**9, MINUTE, None, id="no shorter one"),
]


@pytest.mark.parametrize(("step", "rows", "span", "expected"), FINER)
def test_finer_step_fits_the_rows_seen(step, rows, span, expected):
    """The longest shorter step that holds a window at the density seen."""
    assert plan.finer_step(step, rows, span) == expected


def tiles(parts: list[Range], whole: Range) -> bool:
    """The parts follow one another without gap or overlap, from the whole's start to its end."""
    met = all(one.end == other.start for one, other in pairwise(parts))
    return bool(parts) and met and (parts[0].start, parts[-1].end) == (whole.start, whole.end)


@checked
@given(hours, st.integers(1, 2_000), st.sampled_from(STEPS), st.integers(-10, 60))
def test_targets_of_an_unknown_range_tile_it(first, minutes, step, now_hour):
    """Nothing of a new range is left out or read twice; each target lies in its grid window and knows if it is settled."""
    wanted = Range(at(first), min(at(48), at(first) + minutes * MINUTE))

    found = targets(Ledger(), wanted, step=step, now=at(now_hour))

    assert tiles([each.reads for each in found], wanted)
    assert all(each.window == window_at(each.reads.start, step) and each.covers == each.reads for each in found)
    assert all((each.state is State.LANDED) == (each.window.end <= at(now_hour) - SETTLE) for each in found)


@checked
@given(hours, st.integers(1, 48), st.sets(st.integers(0, 7)))
def test_targets_are_exactly_what_is_not_landed(first, count, landed):
    """What the ledger has whole is not read again; everything else of the range is, once."""
    wanted = rng(first, min(48, first + count))
    grid = [*windows_of(START.date(), 6 * HOUR), *windows_of(TODAY, 6 * HOUR)]
    known = ledger(*(entry(grid[number]) for number in landed))

    found = targets(known, wanted)

    read = [h for h in range(48) for each in found if each.reads.start <= at(h) < each.reads.end]
    assert read == [h for h in range(48) if wanted.start <= at(h) < wanted.end and h // 6 not in landed]


@checked
@given(states, st.integers(0, 22), st.integers(1, 23), st.integers(0, 23), st.integers(1, 24), st.booleans())
def test_target_never_gives_up_what_is_covered(state, start, length, first, count, settled):
    """A window read again covers what it covered and what is wanted, an open one that has settled all from there on.

    A settled one that covers what is wanted is left alone.
    """
    day = Window(at(0), at(24))
    covered, wanted = rng(start, min(24, start + length)), rng(first, min(24, first + count))
    known = ledger(entry(day, state, covered), step=DAY)

    found = targets(known, wanted, now=LATER if settled else at(24))

    left_alone = state not in (State.OPEN, State.STALE) and covered.covers(wanted)
    owed = rng(start, 24) if settled and state is State.OPEN else covered
    assert [each.covers for each in found] == ([] if left_alone else [owed.hull(wanted)])
    assert all(each.reads == each.covers and each.previous is known.entries[at(0)] for each in found)


TAILS = [
    pytest.param(State.OPEN, (0, 10), 8, (0, 12), 11, (8, 12), id="open: from its base on"),
    pytest.param(State.OPEN, (0, 10), 8, (0, 12), 99, (0, 24), id="settled meanwhile: whole, to its end"),
    pytest.param(State.OPEN, (0, 10), None, (0, 12), 11, (0, 12), id="no base: whole"),
    pytest.param(State.OPEN, (4, 10), 8, (0, 12), 11, (0, 12), id="more is wanted at the front: whole"),
    pytest.param(State.OPEN, (0, 10), 8, (15, 16), 15, (8, 16), id="a gap between is read too"),
    pytest.param(State.STALE, (0, 10), 8, (0, 12), 11, (0, 12), id="stale: whole"),
]


@pytest.mark.parametrize(("state", "covered", "base", "wanted", "now", "reads"), TAILS)
def test_only_the_tail_of_an_open_window_is_read_again(state, covered, base, wanted, now, reads):
    """The part before the base is kept where the window is open still and the base still fits."""
    known = ledger(entry(Window(at(0), at(24)), state, rng(*covered), base), step=DAY)

    (found,) = targets(known, rng(*wanted), now=at(now))

    assert found.reads == rng(*reads)


@pytest.mark.parametrize(("covers", "reads"), [((0, 5), (0, 6)), ((0, 7), (0, 6)), ((3, 4), (1, 2))])
def test_target_that_does_not_nest_cannot_be_built(covers, reads):
    """The part read lies in the part claimed, and that in the window."""
    with pytest.raises(ValueError, match="nest"):
        Target(Window(at(0), at(6)), rng(*covers), rng(*reads), State.LANDED, 6 * HOUR, True, None)


LEFT = [
    pytest.param(State.LANDED, 99, None, None, id="landed"),
    pytest.param(State.DISPUTED, 99, None, None, id="disputed is not read without a reason"),
    pytest.param(State.OPEN, 99, None, (1, 6), id="open and settled: to its end"),
    pytest.param(State.OPEN, 7, None, None, id="open and not settled"),
    pytest.param(State.STALE, 99, None, (1, 4), id="stale: the range it covered"),
    pytest.param(State.STALE, 99, (5, 9), None, id="inside the range wanted"),
    pytest.param(State.STALE, 99, (6, 9), (1, 4), id="touching the range wanted"),
]


@pytest.mark.parametrize(("state", "now", "wanted", "reads"), LEFT)
def test_unfinished_finds_what_earlier_runs_left(state, now, wanted, reads):
    """Outside the range wanted, stale windows and open ones that have settled are read."""
    known = ledger(entry(Window(at(0), at(6)), state, rng(1, 4)))

    found = plan.unfinished(known, wanted and rng(*wanted), now=at(now), settle=SETTLE)

    assert [each.reads for each in found] == ([rng(*reads)] if reads else [])


def test_again_reads_each_window_that_holds_a_moment_once():
    """Moments outside what is landed, or of dates that are not known, ask for nothing."""
    known = ledger(entry(Window(at(0), at(6)), covered=rng(1, 4)), entry(Window(at(12), at(18))))

    found = plan.again(known, [at(13), at(2), at(3), at(7), at(30)], now=LATER, settle=SETTLE)

    assert [each.reads for each in found] == [rng(1, 4), rng(12, 18)]


@pytest.mark.parametrize(("now", "state", "reads"), [(7, State.OPEN, (1, 4)), (8, State.LANDED, (1, 6))])
def test_again_reads_an_open_window_to_its_end_once_it_has_settled(now, state, reads):
    """Before that as far as it is covered, and it stays open: what comes in the settle time is read by a later run."""
    known = ledger(entry(Window(at(0), at(6)), State.OPEN, rng(1, 4), base=2))

    (found,) = plan.again(known, [at(2)], now=at(now), settle=SETTLE)

    assert (found.state, found.covers, found.reads) == (state, rng(*reads), rng(*reads))


def test_again_keeps_what_a_settled_window_covers():
    """A part of a window that was landed as one is read as that part."""
    known = ledger(entry(Window(at(0), at(6)), State.LANDED, rng(1, 4)))

    assert [one.covers for one in plan.again(known, [at(2)], now=LATER, settle=SETTLE)] == [rng(1, 4)]


GAPS = [
    pytest.param([], (3, 20), [(3, 20)], id="nothing landed"),
    pytest.param([(0, 6), (6, 12), (12, 24)], (3, 20), [], id="all landed"),
    pytest.param([(0, 6), (12, 24)], (3, 20), [(6, 12)], id="a hole"),
    pytest.param([(6, 12)], (3, 20), [(3, 6), (12, 20)], id="before and behind"),
    pytest.param([(0, 6), (6, 12)], (3, 12), [], id="to its very end"),
    pytest.param([(0, 3), (20, 24)], (3, 20), [(3, 20)], id="only what touches it"),
    pytest.param([(0, 6), (6, 9)], (0, 12), [(9, 12)], id="a window that is not read to its end"),
    pytest.param([(12, 18), (0, 6)], (0, 24), [(6, 12), (18, 24)], id="in order, whatever the ledger's"),
]


@pytest.mark.parametrize(("covered", "asked", "expected"), GAPS)
@pytest.mark.parametrize("state", State)
def test_gaps_are_what_no_landed_window_covers(state, covered, asked, expected):
    """In order; a stale window is still to be landed, every other one is landed, whatever stands against it."""
    known = ledger(
        *(entry(window_at(at(low), 6 * HOUR), state, rng(low, high)) for low, high in covered if high - low <= 6),
        *(entry(Window(at(12), at(24)), state) for low, high in covered if high - low > 6),
    )

    found = plan.gaps(known, rng(*asked))

    assert found == ([rng(*asked)] if state is State.STALE else [rng(*one) for one in expected])


@checked
@given(
    st.integers(0, 1438), st.integers(1, 1440), st.sampled_from(STEPS[1:]), st.sampled_from([State.OPEN, State.LANDED])
)
def test_recut_tiles_the_same_part(first, minutes, step, state):
    """Shorter windows claim exactly what the longer one would have claimed."""
    covers = Range(at(0) + first * MINUTE, min(at(24), at(0) + (first + minutes) * MINUTE))

    parts = plan.recut(Target(Window(at(0), at(24)), covers, covers, state, DAY, False, None), step)

    assert tiles([each.covers for each in parts], covers)
    assert all((each.state, each.step, each.window.duration) == (state, step, step) for each in parts)


@checked
@given(st.sets(st.integers(0, 47)))
def test_sweeps_are_contiguous_and_as_long_as_possible(numbers):
    """Every target is in one sweep, in order; a sweep has no gap, and a gap lies between two sweeps."""
    one = [Window(at(n), at(n + 1)) for n in sorted(numbers)]
    found = [Target(window, window, window, State.LANDED, HOUR, True, None) for window in one]

    groups = list(plan.sweeps(found))

    assert [each for group in groups for each in group.targets] == found
    assert all(tiles([each.reads for each in group.targets], group.range) for group in groups)
    assert all(group.range.end < after.range.start for group, after in pairwise(groups))


@checked
@given(
    days=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 500_000)), min_size=1, max_size=30),
    count=st.integers(1, 9),
)
def test_parts_cover_everything_once_and_weigh_about_the_same(days, count):
    """Cut at midnights, in order, without a hole; none outweighs an equal part by more than a day's rows."""
    found, rows, start = [], {}, START
    for gap, weight in days:
        start += gap * DAY
        window = Window(start, start + DAY)
        rows[start] = weight
        found.append(Target(window, window, window, State.LANDED, DAY, False, None))
    parts = groups.parts(found, lambda target: rows[target.window.start], count=count)

    assert 1 <= len(parts) <= count
    assert (parts[0].start, parts[-1].end) == (found[0].covers.start, found[-1].covers.end)
    assert all(one.end == other.start == midnight(other.start.date()) for one, other in pairwise(parts))
    weights = [sum(weight for at, weight in rows.items() if part.start <= at < part.end) for part in parts]
    assert max(weights) <= sum(rows.values()) / count + 1.5 * max(rows.values()) + len(days)


def test_nothing_to_do_has_no_parts():
    """What is landed already is not cut."""
    assert groups.parts([], lambda target: 1, count=4) == []


# --- reading again what the source cannot be asked about

AGES = tuple(hour * HOUR for hour in (1, 6, 24, 72))
PASSED = [
    pytest.param(0.9, 0, False, None, id="no age yet"),
    pytest.param(1, 0, False, 1, id="at the age itself"),
    pytest.param(5, 0.5, False, 1, id="after it"),
    pytest.param(5, 1, False, None, id="tried at the age"),
    pytest.param(5, 2, False, None, id="tried after it"),
    pytest.param(30, 2, False, 24, id="the latest of several"),
    pytest.param(500, 30, False, 72, id="the last age"),
    pytest.param(500, 73, False, None, id="no age after the last"),
    pytest.param(50, 26, True, None, id="daily only after the last age"),
    pytest.param(95, 73, True, None, id="the day is not over"),
    pytest.param(96, 73, True, 96, id="a day after the last age"),
    pytest.param(500, 73, True, 72 + 17 * 24, id="the latest of many days"),
]


@pytest.mark.parametrize(("now", "last", "daily", "expected"), PASSED)
def test_age_that_has_passed_counts_until_it_was_tried(now, last, daily, expected):
    """The latest age since then, if nothing was tried from it on; daily after the last one where that is wanted."""
    found = due.passed_age(at(0), at(last), AGES, now=at(now), daily=daily)

    assert found == (None if expected is None else at(expected))


def reread(known: Entry, now: datetime) -> Entry:
    """The window after it was read again, and what stood stood still."""
    tried = now if known.facts.held or known.facts.disputed else known.tried_at
    base = known.base and replace(known.base, whole_at=now)
    return replace(known, read_at=now, tried_at=tried, base=base)


DAY_OF_IT = Window(at(0), at(24))
WHOLE = replace(entry(DAY_OF_IT), read_at=at(24))
ASKED = Probed(at(24), "1:1:1:1:1/1:1")
OPENED = replace(entry(DAY_OF_IT, State.OPEN, rng(0, 20)), read_at=at(24), base=Base(at(19), NOTHING, at(24)))
FOUND_AT = at(24)
DUE = [
    pytest.param(WHOLE, False, [], id="settled, and the source answers"),
    pytest.param(WHOLE, True, [1, 6, 24, 72], id="settled, and the source refuses"),
    pytest.param(replace(WHOLE, probed=Probed(at(24), HEAVY)), False, [1, 6, 24, 72], id="too heavy to count"),
    pytest.param(WHOLE.known_as(Facts(unmerged=FOUND_AT)), False, [1, 6, 24, 72, 96, 120], id="different copies"),
    pytest.param(WHOLE.known_as(Facts(unread=FOUND_AT)), False, [1, 6, 24, 72, 96, 120], id="unread microseconds"),
    pytest.param(WHOLE.known_as(Facts(held=FOUND_AT)), False, [1, 6, 24, 72], id="held without an answer"),
    pytest.param(WHOLE.known_as(Facts(disputed=FOUND_AT)), False, [1, 6, 24, 72], id="disputed without an answer"),
    pytest.param(replace(WHOLE.known_as(Facts(held=FOUND_AT)), probed=ASKED), False, [], id="held, and answered"),
    pytest.param(
        replace(WHOLE.known_as(Facts(held=FOUND_AT)), probed=ASKED), True, [1, 6, 24, 72], id="held, now refused"
    ),
    pytest.param(WHOLE.known_as(Facts(damaged=FOUND_AT)), True, [], id="damaged: by a repair only"),
    pytest.param(OPENED, False, [], id="open, and the source answers"),
    pytest.param(OPENED, True, list(range(1, 133)), id="open, and the source refuses"),
    pytest.param(replace(WHOLE, state=State.STALE), True, [], id="stale: to be landed anyway"),
]


@pytest.mark.parametrize(("known", "refused", "expected"), DUE)
def test_window_is_due_at_its_ages(known, refused, expected):
    """By the hour from its landing or note on, each time read as soon as it is due."""
    found = []
    for hour in range(133):
        if due.due_again(ledger(known, step=DAY), AGES, now=at(24 + hour), refused=refused):
            found.append(hour)
            known = reread(known, at(24 + hour))

    assert found == expected


def test_longest_due_comes_first():
    """Due since then, whatever the time of the window."""
    read = {0: 8, 6: 11, 12: 19}
    known = [replace(entry(Window(at(first), at(first + 6))), read_at=at(hour)) for first, hour in read.items()]

    found = due.due_again(ledger(*known), AGES, now=at(20), refused=True)

    # The first is 14 hours old and was read after one, the second became due 18 hours after the first's end.
    assert [(one.entry.start, one.at) for one in found] == [(at(0), at(12)), (at(6), at(18))]


def costing(*pages: int) -> list[due.Due]:
    """Windows that cost so many pages, the longest due first."""
    found = []
    for number, cost in enumerate(pages):
        tally = Tally((cost - 1) * due.PAGE_ROWS, "", (cost - 1) * due.PAGE_ROWS, "")
        known = replace(entry(Window(at(number), at(number + 1))), tally=tally)
        found.append(due.Due(at(30 + number), known))
    return found


BUDGETS = [
    pytest.param((), 10, 5, [], 0, id="nothing due: nothing saved"),
    pytest.param((4, 3, 3), 10, 0, [0, 1, 2], 0, id="all"),
    pytest.param((8,), 5, 3, [0], 0, id="by what was saved"),
    pytest.param((40,), 10, 0, [], 10, id="too dear: all is saved"),
    pytest.param((40, 3, 2, 1), 10, 0, [1, 2], 5, id="half for the others"),
    pytest.param((40, 3, 2, 1), 10, 32, [0, 2], 0, id="paid at last, and others with the rest"),
    pytest.param((2, 40, 3), 10, 0, [0, 2], 5, id="the first is cheap"),
    pytest.param((40, 50), 10, 39, [0], 9, id="then the next dear one"),
    pytest.param((40, 1), 0, 20, [], 20, id="no allowance: what is saved stays"),
]


@pytest.mark.parametrize(("pages", "allowance", "saved", "taken", "left"), BUDGETS)
def test_budget_of_reading_again(pages, allowance, saved, taken, left):
    """The longest due first; a dear one is saved for with half of the allowance, the others have the rest."""
    found, kept = due.affordable(costing(*pages), allowance=allowance, saved=saved)

    assert ([one.start for one in found], kept) == ([at(number) for number in taken], left)


@checked
@given(st.lists(st.integers(1, 60), max_size=9), st.integers(0, 40), st.integers(0, 60))
def test_budget_is_never_overdrawn(pages, allowance, saved):
    """What is read and what is saved is not more than there was."""
    costs = {one.entry.start: one.pages for one in costing(*pages)}
    found, kept = due.affordable(costing(*pages), allowance=allowance, saved=saved)

    assert sum(costs[one.start] for one in found) + kept <= allowance + saved


@pytest.mark.parametrize("allowance", [2, 5, 10])
def test_dear_window_is_neither_passed_over_nor_in_the_way(allowance):
    """Two cheap windows come due with every run: one at least is read in each, and the dear one after a while."""
    waiting, saved, runs = costing(60), 0, 0
    dear = waiting[0].entry.start
    while dear in {one.entry.start for one in waiting}:
        runs += 1
        taken, saved = due.affordable([*waiting, *costing(60, 1, 1)[1:]], allowance=allowance, saved=saved)
        assert taken
        waiting = [one for one in waiting if one.entry not in taken]

    assert runs <= 2 * 60 / allowance + 1


# --- what is asked about again


def compared(first: float, *, last: float | None = None, **more: Any) -> Entry:
    """A settled window of six hours from *first* on that was compared at *last*."""
    found = replace(entry(Window(at(first), at(first + 6))), **more)
    return found if last is None else replace(found, probed=Probed(at(last), "1:1:1:1:1/1:1"))


NEVER, LONG_AGO, LATELY = compared(12), compared(6, last=24), compared(18, last=40)
DIFFERED = compared(0, last=30, facts=Facts(disputed=at(30)))
TOO_HEAVY = replace(compared(0), probed=Probed(at(24), HEAVY), tried_at=at(24))
OPEN_NOW = replace(compared(18, last=40), state=State.OPEN, base=Base(at(20), NOTHING, at(24)))
COMPARED = [
    pytest.param([LATELY, LONG_AGO, NEVER], None, 0, {}, [12, 6, 18], id="never, then longest ago"),
    pytest.param([compared(6), compared(12), compared(0)], None, 0, {}, [12, 6, 0], id="of those the newest first"),
    pytest.param([LATELY, LONG_AGO], None, 18, {}, [18], id="within the look-back"),
    pytest.param([LATELY, LONG_AGO], None, 12, {}, [18], id="that ends where the look-back begins: not"),
    pytest.param([NEVER, DIFFERED, LONG_AGO], None, 99, {}, [12, 0], id="never compared or differing: wherever"),
    pytest.param([NEVER, DIFFERED, LONG_AGO], (0, 6), None, {}, [0], id="of a backfill: inside its range"),
    pytest.param([LATELY, LONG_AGO], (0, 24), None, {}, [], id="of a backfill: not what was compared"),
    pytest.param([LATELY, LONG_AGO, NEVER], None, 0, {6, 12}, [18], id="not what was asked already"),
    pytest.param([LONG_AGO, OPEN_NOW], None, 0, {}, [18, 6], id="open ones first"),
    pytest.param([OPEN_NOW], None, 99, {}, [], id="open, and before the look-back"),
    pytest.param([OPEN_NOW], (0, 24), None, {}, [], id="open, and no look-back"),
    pytest.param([replace(OPEN_NOW, base=None)], None, 0, {}, [], id="open without a part that stays"),
    pytest.param([TOO_HEAVY, compared(6, last=26)], None, 0, {}, [6, 0], id="too heavy comes last"),
    pytest.param([replace(TOO_HEAVY, tried_at=at(49))], None, 0, {}, [], id="too heavy, tried at its age"),
]


@pytest.mark.parametrize(("known", "range_", "since", "asked", "expected"), COMPARED)
def test_what_is_compared_again_and_in_which_order(known, range_, since, asked, expected):
    """The look-back of a sync, what was never compared or differed, each once and the most urgent first."""
    found = due.compared_again(
        ledger(*known),
        AGES,
        rng=range_ and rng(*range_),
        since=None if since is None else at(since),
        now=at(50),
        asked={at(first) for first in asked},
    )

    assert [(one.start - START) // HOUR for one in found] == expected
