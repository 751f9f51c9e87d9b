"""Data that misbehaves: copies, one uuid on two events, moves, late rows (facts/posthog-api.md §6)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import ASCENDING, FREE, LIST, NOW, ago, ask, client_of, event, every, numbers


def uuids(dataset: Dataset) -> list[int]:
    return [int(one.uuid[-12:]) for one in dataset.events]


def test_equal_copies_are_shown_until_they_are_merged():
    """A row that was inserted twice comes twice, in the list and in counts; the truth has it once."""
    dataset = Dataset(every(timedelta(minutes=1), 2))
    dataset.copy([event(1, NOW).uuid], times=2)

    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator, client_of(simulator) as client:
        unmerged = numbers(client.get(LIST)), ask(client, "SELECT count() FROM events").json()["results"]
        dataset.merge()
        merged = numbers(client.get(LIST)), dataset.truth().num_rows

    assert unmerged == ([1, 1, 1, 2], [[4]])
    assert merged == ([1, 2], 2)


def test_of_different_copies_the_last_inserted_is_the_truth():
    """Both versions are shown; after the merge, and in the truth before it, only the last one is."""
    dataset = Dataset([event(1, ago(hours=1), properties='{"v":1}')])
    dataset.copy([event(1, NOW).uuid], properties='{"v":2}')
    before = dataset.truth()["properties"].to_pylist()
    shown = [one.properties for one in dataset.events]

    dataset.merge()

    assert shown == ['{"v":1}', '{"v":2}']
    assert before == [one.properties for one in dataset.events] == ['{"v":2}']


def test_one_uuid_on_two_events_is_two_rows():
    """Name and distinct id belong to the identity: a merge leaves both."""
    twins = [event(1, ago(hours=1), name="a"), event(1, ago(hours=1), name="b")]
    dataset = Dataset([*twins, event(1, ago(hours=1), name="a", distinct_id="bob")])

    dataset.merge()

    assert uuids(dataset) == [1, 1, 1]
    assert dataset.truth().num_rows == 3


def test_moved_event_keeps_its_uuid_and_changes_its_place():
    """An event moved within its day is listed at its new time only."""
    dataset = Dataset(every(timedelta(minutes=1), 3))

    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator, client_of(simulator) as client:
        dataset.move(event(1, NOW).uuid, ago(hours=2))
        rows = client.get(LIST).json()["results"]

    assert [int(row["id"][-12:]) for row in rows] == [2, 3, 1]
    assert rows[-1]["timestamp"] == ago(hours=2).isoformat()


@pytest.mark.parametrize("to", [ago(days=1), datetime(2026, 7, 2, tzinfo=UTC)])
def test_move_to_another_day_is_refused(to):
    """On another day it would be a second event."""
    dataset = Dataset(every(timedelta(minutes=1), 1))

    with pytest.raises(ValueError, match="cannot move"):
        dataset.move(event(1, NOW).uuid, to)
    assert dataset.events == (every(timedelta(minutes=1), 1)[0],)


def test_unknown_event_cannot_be_moved():
    """A uuid that is not there is named."""
    with pytest.raises(ValueError, match="cannot move nobody"):
        Dataset().move("nobody", NOW)


def test_deleted_event_is_gone_with_its_copies():
    """Deletion takes every row of a uuid."""
    dataset = Dataset(every(timedelta(minutes=1), 2))
    dataset.copy([event(1, NOW).uuid])

    dataset.delete([event(1, NOW).uuid])

    assert uuids(dataset) == [2]


def test_late_row_between_two_pages_is_shown_by_the_second():
    """A hook that adds events before the second answer makes them part of it, and of no first page."""
    dataset = Dataset(every(timedelta(minutes=1), 4))
    params = {"orderBy": ASCENDING, "limit": 2}
    late = [event(9, ago(seconds=90)), event(8, ago(minutes=30))]

    def on_request(seen):
        if seen.number == 2:
            dataset.add(late)

    with (
        serve(dataset, profile=FREE, now=lambda: NOW, on_request=on_request) as simulator,
        client_of(simulator) as client,
    ):
        first = client.get(LIST, params=params)
        second = client.get(first.json()["next"])
        again = client.get(LIST, params={"orderBy": ASCENDING})

    assert (numbers(first), numbers(second)) == ([4, 3], [2, 9])
    assert numbers(again) == [8, 4, 3, 2, 9, 1]


def test_generated_events_have_persons_for_two_ids_of_three():
    """Known persons carry the distinct id and properties that are JSON."""
    dataset = generate(events=200, start=ago(days=1), end=NOW)

    assert "user-0" not in dataset.persons
    assert json.loads(dataset.persons["user-1"].properties) == {"email": "user-1@example.com"}
