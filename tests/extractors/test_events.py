"""The sweep against answers that are not what they should be, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extractors import errors
from extractors.client import Heard, one_clock
from extractors.events import LIMIT, EventsReader, Passage
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
