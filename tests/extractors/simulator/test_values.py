"""Suggestions of values (facts/posthog-api.md §2.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.data.values import suggestions
from extractors.simulator.profiles import CLOUD, OLD_2023
from tests.extractors.simulator.asking import LIST, NOW, ago, event, served


def test_values_are_at_most_ten_suggestions():
    """Values are ten distinct texts of one event at most, filtered by a part in any case."""
    events = [event(number, ago(minutes=number), properties=f'{{"n":"V{number % 15}"}}') for number in range(30)]

    with served(*events) as client:
        some = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen"})
        one = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen", "value": "v14"})
        without_key = client.get(f"{LIST}values", params={"event_name": "seen"})
        without_event = client.get(f"{LIST}values", params={"key": "n"})

    assert len({row["name"] for row in some.json()["results"]}) == 10
    assert some.headers["Cache-Control"] == "max-age=10"
    assert one.json() == {"results": [{"name": "V14"}], "refreshing": False}
    assert (without_key.status_code, without_key.json()["detail"]) == (400, "You must provide a key")
    assert without_event.status_code == 400


@pytest.mark.parametrize(
    ("text", "expected"), [("Pro", ["V1"]), ('"Pro"', ["V1"]), ('["Pro","Free"]', ["V1", "V2"]), ("none", [])]
)
def test_values_are_those_of_events_that_pass_the_filters(text, expected):
    """`properties_<name>`, plain or JSON, narrows the events."""
    rows = [
        event(number, ago(minutes=number), properties=f'{{"n":"V{number}","plan":"{plan}"}}')
        for number, plan in ((1, "Pro"), (2, "Free"), (3, "Trial"))
    ]
    with served(*rows) as client:
        answer = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen", "properties_plan": text})

    assert sorted(row["name"] for row in answer.json()["results"]) == expected


def test_values_of_more_than_seven_days_ago_are_not_suggested():
    """The seventh day back still counts, as the project counts days; the day before it does not."""
    first = datetime(2026, 6, 24, 4, 0, tzinfo=UTC)  # midnight in New York
    young, old = (
        event(1, first, properties='{"n":"young"}'),
        event(2, first - timedelta(microseconds=1), properties='{"n":"old"}'),
    )

    with served(young, old) as client:
        answer = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen"})

    assert answer.json()["results"] == [{"name": "young"}]


SHAPES = [
    pytest.param('{"n":["a","b"]}', ["a", "b"], id="a list gives its items"),
    pytest.param('{"n":true}', ["true"], id="boolean"),
    pytest.param('{"n":{"a": [1, null]}}', ['{"a": [1, null]}'], id="object"),
    pytest.param('{"n":null}', [], id="null"),
]


@pytest.mark.parametrize(("properties", "expected"), SHAPES)
def test_values_are_texts(properties, expected):
    """Whatever its type, a value is suggested as text."""
    dataset = Dataset([event(1, ago(hours=1), properties=properties)])

    assert suggestions(dataset, {"key": "n"}, ["seen"], NOW, CLOUD) == expected


def test_shorter_matches_come_first():
    """With `value` the shortest match is the first suggestion."""
    dataset = Dataset(event(n, ago(minutes=n), properties=f'{{"n":"{"x" * (9 - n)}"}}') for n in range(1, 9))

    found = suggestions(dataset, {"key": "n", "value": "xx"}, ["seen"], NOW, CLOUD)

    assert found == ["x" * n for n in range(2, 9)]


def test_custom_events_are_the_names_that_are_your_own():
    """`custom_event` lists names without a time limit: today without PostHog's own, in 2023 without the five common."""
    names = ("b", "$exception", "$pageview", "a")
    dataset = Dataset(event(n, ago(days=n * 10), name=name) for n, name in enumerate(names))

    assert suggestions(dataset, {"key": "custom_event"}, [], NOW, CLOUD) == ["a", "b"]
    assert suggestions(dataset, {"key": "custom_event"}, [], NOW, OLD_2023) == ["b", "$exception", "a"]


def test_event_name_may_be_repeated():
    """Values of several events are asked for by repeating the name."""
    events = [event(n, ago(minutes=n), name=name, properties=f'{{"n":"{name}"}}') for n, name in enumerate("abc")]

    with served(*events) as client:
        answer = client.get(f"{LIST}values?key=n&event_name=a&event_name=c")

    assert answer.json()["results"] == [{"name": "a"}, {"name": "c"}]
