"""The sweep against answers that are not what they should be, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from extractors import errors
from extractors.events import LIMIT, EventsReader, Passage
from extractors.window import DAY, Range, window_at
from tests.extractors.pages import Pages, reader_of, spread

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
