"""Rows of a window: one per event, and the sums always account for every row the source showed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.http.decode import RAW_ROWS
from sinks.entries import Tally
from transforms import digest
from transforms.events import STAGED, Settled, from_page, settled, superseded
from transforms.schema import EVENTS

DAY = datetime(2026, 1, 31, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

# One event as the tests write it: number of the uuid, event, minute of the day, content.
Short = tuple[int, str, int, int]


def staged(found: list[Short]) -> pa.Table:
    """The rows as a page brings them."""
    raw = pa.Table.from_pylist(
        [
            {
                "uuid": f"00000000-0000-4000-8000-{number:012x}",
                "event": event,
                "distinct_id": "d",
                "timestamp": DAY + minute * MINUTE,
                "properties": f'{{"content":{content}}}',
                "elements_chain": "",
            }
            for number, event, minute, content in found
        ],
        RAW_ROWS,
    )
    return from_page(raw, project_id=7, loaded_at=DAY)


def short(rows: pa.Table) -> list[Short]:
    """Landed rows as the tests write them."""
    return [
        (int(row["uuid"][-12:], 16), row["event"], (row["timestamp"] - DAY) // MINUTE, int(row["properties"][11:-1]))
        for row in rows.to_pylist()
    ]


def sums(found: Settled) -> tuple[int, int, int]:
    return found.source.count, found.landed_rows, found.copies


def test_page_has_every_column_and_says_null_where_the_list_has_nothing():
    """The columns of a batch export, each row as read; what the events list cannot supply is null, never made up."""
    found = staged([(1, "é", 5, 0), (2, "b", 6, 0)])

    assert found.schema == STAGED
    assert found.slice(0, 1).select(EVENTS.names).to_pylist() == [
        {
            "project_id": 7,
            "uuid": "00000000-0000-4000-8000-000000000001",
            "event": "é",
            "distinct_id": "d",
            "person_id": None,
            "properties": '{"content":0}',
            "person_properties": None,
            "elements_chain": "",
            "timestamp": DAY + 5 * MINUTE,
            "created_at": None,
            "_loaded_at": DAY,
        }
    ]
    assert found["_n"].to_pylist() == [2 + 31, 1 + 31]


def test_empty_page_has_the_schema_too():
    """A page without rows can be joined to any other, and settles to nothing."""
    found = settled(staged([]))

    assert found.rows.schema == EVENTS
    assert (sums(found), found.landed_digest, found.unmerged) == ((0, 0, 0), 0, False)


COPIES = [
    pytest.param([(1, "a", 0, 0), (2, "a", 0, 0)], [0, 1], (2, 2, 0), False, id="no copies"),
    pytest.param([(1, "a", 0, 0)] * 3, [0], (1, 1, 0), False, id="equal copies are one row of the source"),
    pytest.param([(1, "a", 0, 0), (1, "a", 3, 0)], [1], (2, 1, 1), True, id="the later copy stays"),
    pytest.param([(1, "a", 3, 0), (1, "a", 0, 1)], [0], (2, 1, 1), True, id="the later copy stays, read first"),
    pytest.param([(1, "a", 0, 0), (1, "b", 0, 0)], [0, 1], (2, 2, 0), False, id="one uuid, two events"),
    pytest.param(
        [(2, "a", 1, 0), (1, "a", 0, 0), (2, "a", 1, 0)], [0, 1], (2, 2, 0), False, id="order of reading stays"
    ),
    pytest.param(
        [(1, "a", 0, 0), (2, "b", 1, 1), (1, "a", 2, 2), (3, "c", 3, 3), (1, "a", 2, 2)],
        [1, 2, 3],
        (4, 3, 1),
        True,
        id="equal and different copies among others",
    ),
]


@pytest.mark.parametrize(("found", "kept", "expected", "unmerged"), COPIES)
def test_settled_window_has_each_event_once(found, kept, expected, unmerged):
    """Copies become one row; a window whose copies differ is called unmerged."""
    result = settled(staged(found))

    assert short(result.rows) == [found[number] for number in kept]
    assert (sums(result), result.unmerged) == (expected, unmerged)


def test_of_copies_with_one_time_the_greatest_hash_stays():
    """Two readings of the same unmerged copies land the same row, whatever order the source gave."""
    pair = [(1, "a", 0, content) for content in (1, 2)]
    hashes = dict(zip(staged(pair)["_h"].to_pylist(), pair, strict=True))

    results = [settled(staged(order)) for order in (pair, pair[::-1])]

    assert [short(each.rows) for each in results] == [[hashes[max(hashes)]]] * 2
    assert {(sums(each), each.unmerged) for each in results} == {((1, 1, 0), True)}


few_rows = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", "c"]), st.integers(0, 2), st.integers(0, 1)), max_size=12
)
checked = settings(derandomize=True, max_examples=100, deadline=None)


@checked
@given(few_rows)
def test_source_is_always_landed_and_copies(found):
    """No row of the source goes unaccounted for, whatever copies there are."""
    result = settled(staged(found))

    source, landed, copies = sums(result)
    Tally(source, str(result.source), landed, str(result.landed_digest), copies=copies)
    assert source == len({(number, event, minute) for number, event, minute, _ in found})
    assert landed == len({(number, event) for number, event, _, _ in found})
    assert landed == result.rows.num_rows


@checked
@given(few_rows, st.randoms(use_true_random=False))
def test_settled_window_is_free_of_the_order_of_reading(found, rng):
    """The same rows in any order land the same events under the same digests, and the digest is that of the rows."""
    result = settled(staged(found))

    again = settled(staged(rng.sample(found, len(found))))

    assert sorted(short(again.rows)) == sorted(short(result.rows))
    assert (sums(again), again.source, again.landed_digest) == (sums(result), result.source, result.landed_digest)
    assert again.landed_digest == digest.landed(digest.row_hashes(pl.DataFrame(pl.from_arrow(again.rows))))


@checked
@given(few_rows)
def test_latest_copy_of_every_event_stays(found):
    """The row that lands of an event is none earlier than any other copy."""
    latest: dict[tuple[int, str], int] = {}
    for number, event, minute, _ in found:
        latest[number, event] = max(minute, latest.get((number, event), 0))

    result = settled(staged(found))

    assert {(number, event): minute for number, event, minute, _ in short(result.rows)} == latest


IDENTITY = ["uuid", "event", "distinct_id", "timestamp"]


def test_superseded_rows_are_all_but_the_latest():
    """Of an event found in two windows the earlier ones go; other events of the same uuid are none of them."""
    twice = staged([(1, "a", 0, 0), (1, "a", 9, 0), (1, "a", 5, 0), (1, "b", 1, 0), (1, "b", 2, 0)]).select(IDENTITY)

    found = superseded(twice)

    assert [(row["event"], row["timestamp"] - DAY) for row in found.to_pylist()] == [
        ("a", 0 * MINUTE),
        ("a", 5 * MINUTE),
        ("b", 1 * MINUTE),
    ]


OLDER = [
    pytest.param([(1, "a", 0, 0)], [1], (2, 1, 1), True, id="here"),
    pytest.param([(1, "a", 9, 0)], [0, 1], (2, 2, 0), False, id="at another time"),
    pytest.param([(1, "b", 0, 0)], [0, 1], (2, 2, 0), False, id="another event of the uuid"),
    pytest.param([], [0, 1], (2, 2, 0), False, id="none"),
]


@pytest.mark.parametrize(("older", "kept", "expected", "unmerged"), OLDER)
def test_row_whose_later_copy_is_landed_elsewhere_counts_as_copy(older, kept, expected, unmerged):
    """An event that the source moved to another window lands there only, and is accounted for here."""
    found = [(1, "a", 0, 0), (2, "a", 0, 0)]

    result = settled(staged(found), older=staged(older).select(IDENTITY))

    assert short(result.rows) == [found[number] for number in kept]
    assert (sums(result), result.unmerged) == (expected, unmerged)
