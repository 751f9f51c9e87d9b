"""Answers that contradict the question, and servers that answer something else instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pyarrow as pa
import pytest

from extractors import errors
from extractors.filters import Narrowing
from extractors.http.decode import RAW_ROWS, REJECTS, Page
from extractors.reading import ties
from extractors.reading.page import NotServed
from extractors.reading.unserved import Unserved
from extractors.window import DAY, Range, window_at
from tests.extractors.pages import Pages, reader_of, spread

START, END = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC)
ASKED = Range(START, END)


class Otherwise(Pages):
    """Pages whose rows are *shown* otherwise."""

    shown: Callable[[list[Any]], list[Any]]

    def _listed(self, params: dict[str, str]) -> httpx.Response:
        answer = super()._listed(params)
        body = json.loads(answer.read())
        body["results"] = self.shown(body["results"])
        return httpx.Response(200, headers=answer.headers, stream=httpx.ByteStream(json.dumps(body).encode()))


def exchanged(rows: list[Any]) -> list[Any]:
    """Two rows in the middle have changed places: first and last are where they belong."""
    return [*rows[:1], *rows[2:3], *rows[1:2], *rows[3:]]


def timeless(rows: list[Any]) -> list[Any]:
    return [row | {"timestamp": "no time"} for row in rows]


@pytest.mark.parametrize(
    ("shown", "said"), [(exchanged, "do not ascend"), (timeless, "no row that can be read")], ids=["order", "times"]
)
def test_page_from_which_no_one_could_go_on_lands_nothing(shown, said, tmp_path):
    """Rows out of order, or a full page of rows without a time: what lies behind its last row would be skipped."""
    pages = Otherwise(spread(100, START, END), cap=20)
    pages.shown = shown

    with pytest.raises(errors.UnusableAnswer, match=said):
        list(reader_of(pages, tmp_path).sweep(ASKED, window_end=lambda at: window_at(at, DAY).end))


PAGE = Page(
    pa.Table.from_pylist(
        [{"uuid": "1", "event": "e", "distinct_id": "d", "timestamp": START, "properties": "{}", "elements_chain": ""}],
        RAW_ROWS,
    ),
    REJECTS.empty_table(),
    more=False,
    cursor=None,
)
BAD = NotServed(errors.ServerFault("500"))
AGAIN = {
    "served the second time": ([PAGE], PAGE),
    "only this is not served": ([BAD, PAGE], None),
    "nothing is served for a while": ([BAD, BAD, PAGE, PAGE], PAGE),
    "nothing is served, then this is not": ([BAD, BAD, PAGE, BAD], errors.SourceUnavailable),
    "nothing is served": ([BAD, BAD, BAD], errors.SourceUnavailable),
}


@pytest.mark.parametrize(("answers", "expected"), AGAIN.values(), ids=AGAIN)
def test_only_what_fails_while_others_are_served_is_given_up(answers, expected):
    """None stands for one microsecond that is named as unread; an outage ends the run, and names none."""
    left = list(answers)
    client = SimpleNamespace(wait=lambda *given: None, patience=SimpleNamespace(server_error_waits_s=()))
    unserved = Unserved(client, SimpleNamespace(ask=lambda *given, **more: left.pop(0)))

    if expected is errors.SourceUnavailable:
        with pytest.raises(errors.SourceUnavailable):
            unserved.again(ASKED, 1, BAD)
    else:
        assert unserved.again(ASKED, 1, BAD) is expected
    assert not left


def test_name_that_is_not_served_is_lost_and_said():
    """Without HogQL a microsecond is read by names: where one of them fails, what was found is not all there is."""
    found = ties.by_names(lambda asked: PAGE if asked == Narrowing(event="e") else None, PAGE)

    assert (found.lost, found.whole, found.pages) == (True, False, [PAGE])
