"""The sweep against answers that are not what they should be, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors import errors
from extractors.http.client import Heard, one_clock
from extractors.http.retry import Patience
from extractors.reading.events import EventsReader
from extractors.reading.pace import LEAST, LIMIT
from extractors.reading.rows import Passage
from extractors.window import DAY, MICROSECOND, Range, iso, window_at
from tests.extractors.pages import Pages, at_times, reader_of, spread

START, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC)


def swept(reader: EventsReader, rng: Range) -> list[Passage]:
    return list(reader.sweep(rng, window_end=lambda at: window_at(at, DAY).end))


def uuids(passages: Sequence[Passage]) -> list[str]:
    return [uuid for passage in passages for uuid in passage.rows["uuid"].to_pylist()]


@pytest.mark.parametrize("short", [(3,), (3, 4), (1, 2), (5, 9, 10)])
def test_short_pages_cost_no_more_than_themselves(short, tmp_path):
    """A page of 20 rows that says there are more, or two of them in a row, make none of the others shorter."""
    events = spread(20_000, START, END)
    pages = Pages(events, shows=lambda number, rows: 20 if number in short else rows)

    found = swept(reader_of(pages, tmp_path), Range(START, END))

    assert uuids(found) == [event.uuid for event in events]
    assert len(pages.asked) <= 20 + len(short) + 4  # the last page, and the time-zone check of three rows


def test_cap_is_what_two_pages_agree_on(tmp_path):
    """It is told in the report, and asked no less for: the server may give more some day."""
    pages = Pages(spread(1_000, START, END), cap=70)
    reader = reader_of(pages, tmp_path)
    passages = reader.sweep(Range(START, END), window_end=lambda at: END)
    next(passages)
    after_one = reader.learned.page_cap
    list(passages)

    assert (after_one, reader.learned.page_cap) == (None, 70)
    assert {asked["limit"] for asked in pages.asked} == {str(LIMIT)}


def test_cap_of_pages_that_disagree_is_unknown(tmp_path):
    """Sizes that come and go are no cap."""
    pages = Pages(spread(1_000, START, END), shows=lambda number, rows: 50 + number)
    reader = reader_of(pages, tmp_path)
    swept(reader, Range(START, END))

    assert reader.learned.page_cap is None


def test_cap_that_is_lifted_is_learned_anew(tmp_path):
    """Pages of more rows than the cap say that it is one no longer."""
    pages = Pages(spread(1_000, START, END), shows=lambda number, rows: 20 if number < 4 else 100)
    reader = reader_of(pages, tmp_path)
    swept(reader, Range(START, END))

    assert reader.learned.page_cap == 100


@pytest.mark.parametrize(("page_bytes", "most"), [(20_000, 300), (1, LEAST), (None, 2_000), (10**9, 2_000)])
def test_page_is_as_large_as_memory_allows(page_bytes, most, tmp_path):
    """Once the size of rows is known so many are asked for, some at least; that is no cap of the server's."""
    pages = Pages(spread(5_000, START, END), cap=2_000)
    reader = reader_of(pages, tmp_path, page_bytes=page_bytes)
    rows = [passage.rows.num_rows for passage in reader.sweep(Range(START, END), window_end=lambda at: END)]

    assert sum(rows) == 5_000
    assert most * 0.9 < rows[1] <= most
    assert reader.learned.page_cap in (None, 2_000)


def test_next_sweep_knows_the_size_of_rows(tmp_path):
    """Its first page, too, is as large as memory allows."""
    reader = reader_of(Pages(spread(5_000, START, END), cap=2_000), tmp_path, page_bytes=20_000)
    for _ in range(2):
        rows = [passage.rows.num_rows for passage in reader.sweep(Range(START, END), window_end=lambda at: END)]

    assert sum(rows) == 5_000
    assert max(rows) <= 300


def test_page_cut_off_is_halved_from_what_the_server_gives(tmp_path):
    """Not from what was asked in vain: 70 rows a page that are too many become 35."""
    pages = Pages(spread(1_000, START, END), cap=70, cut=(6,))
    swept(reader_of(pages, tmp_path), Range(START, END))

    limits = [int(asked["limit"]) for asked in pages.asked]
    assert limits[5:9] == [LIMIT, 35, 70, 140]


def test_empty_page_that_claims_more_is_an_error(tmp_path):
    """The sweep would not come forward."""
    pages = Pages(spread(100, START, END), shows=lambda number, rows: 0)

    with pytest.raises(errors.UnusableAnswer, match="empty page"):
        swept(reader_of(pages, tmp_path), Range(START, END))


@pytest.mark.parametrize("number", [2, 3])
def test_question_that_cannot_be_divided_outlives_a_proxy_s_page(number, tmp_path):
    """What came whole and is no list is asked for again, as every passing failure is."""
    pages = Pages(spread(10, START, END), cut=(number,))

    assert len(uuids(swept(reader_of(pages, tmp_path), Range(START, END)))) == 10
    assert len(pages.asked) == 2 + 3 + 1


class Clocks:
    """The server's clock and this machine's monotonic one, which go alike; *ahead*: by request, how wrong a Date is, or None."""

    def __init__(self, *, ahead: dict[int, timedelta | None] | None = None, late_s: float = 0.0) -> None:
        self.passed_s = 0.0
        self._ahead, self._late_s = ahead or {}, late_s

    def date(self, number: int) -> datetime | None:
        ahead = self._ahead.get(number, timedelta(0))
        at = None if ahead is None else START + timedelta(seconds=self.passed_s) + ahead
        self.passed_s += self._late_s  # the Date is older than the answer
        return at

    def monotonic(self) -> float:
        self.passed_s += 0.25
        return 5_000.0 + self.passed_s


def timed(clocks: Clocks, directory) -> EventsReader:
    pages = Pages(spread(2_500, START - DAY, START), date=clocks.date)
    return reader_of(pages, directory, monotonic=clocks.monotonic)


JUMPS = [
    pytest.param(1, DAY, id="ahead at the first look"),
    pytest.param(2, DAY, id="ahead at the first page"),
    pytest.param(1, -DAY, id="behind at the first look"),
    pytest.param(2, timedelta(minutes=-2), id="two minutes behind at the first page"),
]


@pytest.mark.parametrize(("number", "ahead"), JUMPS)
def test_clock_counts_only_if_two_answers_agree(number, ahead, tmp_path):
    """One Date that is wrong ends the sweep before its first passage, for the caller to plan anew; both times are named."""
    clocks = Clocks(ahead={number: ahead})
    reader = timed(clocks, tmp_path)
    told = reader.now()
    clocks.passed_s += 30

    with pytest.raises(errors.ClockJumped) as raised:
        next(reader.sweep(Range(START - DAY, START), window_end=lambda at: START))

    assert raised.value.transient
    assert iso(told) in str(raised.value)
    assert iso(reader.served_at) in str(raised.value)
    assert reader.now() - START < timedelta(minutes=1)
    assert len(list(reader.sweep(Range(START - DAY, START), window_end=lambda at: START))) == 3


@pytest.mark.parametrize("late_s", [0.0, 95.0], ids=["at once", "95 s an answer"])
@pytest.mark.parametrize("pause_s", [0, 20_000], ids=["at once", "hours later"])
def test_slow_answers_are_no_jump(pause_s, late_s, tmp_path):
    """Neither a wait for the limits between the two, nor an answer whose Date is older than its arrival."""
    clocks = Clocks(late_s=late_s)
    reader = timed(clocks, tmp_path)
    reader.now()
    clocks.passed_s += pause_s

    assert len(list(reader.sweep(Range(START - DAY, START), window_end=lambda at: START))) == 3


def test_second_witness_is_asked_once(tmp_path):
    """Later answers are not compared: a run is planned by the clock of its beginning."""
    clocks = Clocks(ahead=dict.fromkeys((3, 4, 5), DAY))
    reader = timed(clocks, tmp_path)
    reader.now()

    assert len(list(reader.sweep(Range(START - DAY, START), window_end=lambda at: START))) == 3


@pytest.mark.parametrize(
    ("ahead", "dated"),
    [
        pytest.param({3: DAY}, [False, False, False], id="one"),
        pytest.param({3: DAY, 4: -DAY}, [False, False, False], id="two that do not agree"),
        pytest.param({3: DAY, 4: DAY}, [False, True, True], id="two that agree"),
        pytest.param({3: None}, [False, False, False], id="none"),
    ],
)
def test_one_answer_s_clock_dates_no_page(ahead, dated, tmp_path):
    """What was read would be of a time that has not been; the clock before it stays, which claims less."""
    reader = timed(Clocks(ahead=ahead), tmp_path)
    reader.now()
    served = [passage.served_at for passage in reader.sweep(Range(START - DAY, START), window_end=lambda at: START)]

    assert [at > START + DAY / 2 for at in served] == dated
    assert served == sorted(served)


def test_page_without_a_date_is_no_witness(tmp_path):
    """The clock would be that of one answer."""
    reader = timed(Clocks(ahead={2: None}), tmp_path)
    reader.now()

    with pytest.raises(errors.UnusableAnswer, match="no Date header"):
        next(reader.sweep(Range(START - DAY, START), window_end=lambda at: START))


def test_passage_knows_when_its_page_was_served(tmp_path):
    """Not when the time-zone check asked, and for a split microsecond the time of its first page."""
    events = [*spread(100, START - DAY, START - DAY / 2), *at_times(*[START - DAY / 4] * 150)]
    seen: list[datetime] = []

    def date(number: int) -> datetime:
        seen.append(START + timedelta(seconds=number))
        return seen[-1]

    pages = Pages(
        [replace(event, uuid=f"{n:08x}{event.uuid[8:]}") for n, event in enumerate(events)], cap=100, date=date
    )
    reader = reader_of(pages, tmp_path)
    served = [passage.served_at for passage in reader.sweep(Range(START - DAY, START), window_end=lambda at: START)]

    ties = iso(START - DAY / 4 - MICROSECOND)
    pages_of_it = [n for n, asked in enumerate(pages.asked) if iso(datetime.fromisoformat(asked["after"])) == ties]
    page, split, *_ = pages_of_it
    assert served == [seen[0], seen[2], seen[split], seen[-1]]
    assert (page + 1, len(pages_of_it) > 3, reader.served_at) == (split, True, seen[-1])


AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
AGREE = [
    pytest.param(Heard(AT, 10, 11), Heard(AT + timedelta(seconds=100), 110, 111), True, id="to the second"),
    pytest.param(Heard(AT, 10, 11), Heard(AT + timedelta(seconds=161), 110, 111), True, id="a minute off"),
    pytest.param(Heard(AT, 10, 11), Heard(AT + timedelta(seconds=162), 110, 111), False, id="more than that"),
    pytest.param(Heard(AT, 10, 11), Heard(AT + timedelta(seconds=39), 110, 111), True, id="a minute behind"),
    pytest.param(Heard(AT, 10, 11), Heard(AT + timedelta(seconds=38), 110, 111), False, id="behind"),
    pytest.param(Heard(AT, 10, 110), Heard(AT, 110, 310), True, id="two slow answers"),
]


@pytest.mark.parametrize(("earlier", "later", "agree"), AGREE)
def test_dates_agree_with_the_time_between(earlier, later, agree):
    """Each was written at some moment between the question and its answer."""
    assert one_clock(earlier, later) == agree


class Waits:
    """Sleeps of a client, in the order they were asked for; none is slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def impeded(bad: Sequence[datetime], directory, events, **more) -> tuple[EventsReader, Pages, Waits]:
    """A reader with the patience of a real run, of a server that fails where an event of *bad* is shown."""
    pages, waits = Pages(events, fails=lambda rng, shown: any(e.timestamp in bad for e in shown), **more), Waits()
    return reader_of(pages, directory, patience=Patience(), sleep=waits), pages, waits


def test_five_rows_that_cannot_be_served_cost_one_full_wait_and_forty_requests_each(tmp_path):
    """A 500 is waited out once in a run; then halving goes on at once, and each microsecond is tried again after 5 s."""
    events = spread(2_000, START, END)
    bad = [events[n].timestamp for n in (3, 400, 401, 1_100, 1_999)]
    reader, pages, waits = impeded(bad, tmp_path, events)

    passages = swept(reader, Range(START, END))

    assert uuids(passages) == [event.uuid for event in events if event.timestamp not in bad]
    assert [at for passage in passages for at in passage.unread] == bad
    assert waits.seconds == [5, 20, 35, *[5] * 5]
    assert len(pages.asked) < 20 + 5 * 50


def test_longest_span_is_asked_again_after_a_row_that_cannot_be_served(tmp_path):
    """Its neighbourhood is not halved anew: what comes after it is asked as if nothing had been."""
    start = datetime(2000, 1, 1, tzinfo=UTC)
    bad = datetime(2020, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    reader, pages, _ = impeded([bad], tmp_path, at_times(bad))

    assert [at for passage in swept(reader, Range(start, END)) for at in passage.unread] == [bad]
    assert len(pages.asked) < 36 + 65  # twenty-six years, and a row


PASSING = [
    pytest.param({1, 2, 3, 4}, 30, id="answered by halves after the wait"),
    pytest.param({*range(1, 5), *range(6, 14)}, 40, id="only what finds no row is answered for a while"),
    pytest.param(range(1, 8), 30, id="nothing is answered for a minute and more"),
    pytest.param({*range(1, 5), *range(6, 80, 2)}, 150, id="every second question"),
]


@pytest.mark.parametrize(("failing", "most"), PASSING)
def test_fault_that_passes_loses_nothing_and_marks_nothing_unread(failing, most, tmp_path):
    """Halves that are served again and again show it: what is left is asked whole."""
    events = spread(500, START, END)
    pages, waits = Pages(events), Waits()
    pages.fails_at = failing
    reader = reader_of(pages, tmp_path, patience=Patience(), sleep=waits)

    passages = swept(reader, Range(START, END))

    assert uuids(passages) == [event.uuid for event in events]
    assert not any(passage.unread for passage in passages)
    assert len(pages.asked) < most


@pytest.mark.parametrize("failing", [range(1, 5), {1, 2, 3, 4, 6}], ids=["the wait", "and once more"])
def test_microsecond_is_asked_again_before_it_is_called_unread(failing, tmp_path):
    """A full wait in vain is one bad answer to what cannot be divided: it is waited for once more, not counted as a bad row."""
    pages, waits, asked = Pages(at_times(START)), Waits(), Range(START, START + MICROSECOND)
    pages.fails_at = failing
    reader = reader_of(pages, tmp_path, patience=Patience(), sleep=waits)
    if 6 in failing:
        asked = Range(START, START + 2 * MICROSECOND)

    passages = swept(reader, asked)

    assert waits.seconds == [5.0, 20.0, 35.0, 5.0]
    assert len(uuids(passages)) == 1
    assert not any(passage.unread for passage in passages)


OUTAGES = [
    pytest.param(0, Range(START, END), id="from the start"),
    pytest.param(3, Range(START, END), id="later"),
    pytest.param(0, Range(START, START + MICROSECOND), id="while a microsecond is asked for"),
]


@pytest.mark.parametrize(("answers_first", "rng"), OUTAGES)
def test_outage_is_no_row_s_fault_and_ends_the_run_soon(answers_first, rng, tmp_path):
    """A 500 on everything is no row's fault: one question that finds no row tells, after two waits of a minute at most."""
    pages, waits = Pages(spread(5_000, START, END)), Waits()
    pages.fails_at = range(answers_first + 1, 10**6)
    reader = reader_of(pages, tmp_path, patience=Patience(), sleep=waits)

    with pytest.raises(errors.SourceUnavailable, match="a question that finds nothing"):
        swept(reader, rng)

    assert len(pages.asked) <= answers_first + 11
    assert sum(waits.seconds) <= 125


def test_range_in_which_nothing_is_served_is_named(tmp_path):
    """A microsecond without a single event fails as well: no row can be it, so the range ends the run."""
    broken = Range(START + timedelta(hours=5), START + timedelta(hours=6))
    pages = Pages(spread(300, START, END), fails=lambda rng, shown: rng.overlap(broken) is not None)
    waits = Waits()
    reader, found = reader_of(pages, tmp_path, patience=Patience(), sleep=waits), []

    with pytest.raises(errors.SourceUnavailable, match="nothing of the range from 2026-03-02T05:00:00"):
        found.extend(reader.sweep(Range(START, END), window_end=lambda at: window_at(at, DAY).end))

    assert len(pages.asked) < 250
    assert sum(waits.seconds) < 120


def test_bad_events_a_microsecond_apart_are_each_named_and_all_else_is_read(tmp_path):
    """A batch of one client: something behind it is served, so it is no broken range, and no run ends with it."""
    events = spread(300, START, END)
    first = START + timedelta(hours=5, minutes=1)
    bad = [first + n * MICROSECOND for n in range(9)]
    named = [replace(one, uuid=one.uuid.replace("00000000-", "ffffffff-")) for one in at_times(*bad)]
    reader, pages, _ = impeded(bad, tmp_path, sorted([*events, *named], key=lambda event: event.timestamp))

    passages = swept(reader, Range(START, END))

    assert uuids(passages) == [event.uuid for event in events]
    assert [at for passage in passages for at in passage.unread] == bad
    assert len(pages.asked) < 20 + 9 * 50


def test_window_with_more_bad_events_than_a_run_takes_is_read_to_its_end(tmp_path, monkeypatch):
    """Else every run would begin it anew. Then the run ends, and the next one goes on behind that window."""
    monkeypatch.setattr("extractors.reading.unserved.MAX_UNREAD", 3)
    first, later = spread(6, START, START + DAY), spread(20, START + DAY, END)
    bad = [event.timestamp for event in first]
    reader, _, _ = impeded(bad, tmp_path, [*first, *later])
    passages: list[Passage] = []

    with pytest.raises(errors.SourceUnavailable, match="more than 3 microseconds before 2026-03-03"):
        passages.extend(reader.sweep(Range(START, END), window_end=lambda at: window_at(at, DAY).end))

    assert [at for passage in passages for at in passage.unread] == bad
    assert passages[-1].passed >= START + DAY


def test_sample_waits_for_no_row_that_cannot_be_served(tmp_path):
    """Planning takes what lies before it, at once: a minute of waiting would be longer than most plans."""
    events = spread(500, START, END)
    reader, pages, waits = impeded([events[200].timestamp], tmp_path, events)

    assert reader.sample(Range(START, END)).rows > 0
    assert (waits.seconds, len(pages.asked)) == ([], 2)


@pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), START], ids=["at the epoch", "later"])
def test_earliest_is_found_where_the_first_row_cannot_be_served(at, tmp_path):
    """It is the first all the same; neither the clock nor the search is stopped by it."""
    reader, pages, waits = impeded([at], tmp_path, at_times(at, START + DAY))

    assert reader.earliest() == at
    assert sum(waits.seconds) <= 65
    assert len(pages.asked) < 130


def test_time_zone_is_checked_beside_a_row_that_cannot_be_served(tmp_path):
    """That a row's neighbour is not served says nothing against its time."""
    events = spread(40, START, END)
    bad = events[1].timestamp
    reader, _, _ = impeded([bad], tmp_path, events)
    pages_rows = uuids(swept(reader, Range(START, END)))
    assert len(pages_rows) == 39
    assert reader.uuids(Range(bad, bad + MICROSECOND)) is None
