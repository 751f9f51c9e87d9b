"""JSON of lists to the letter: what is read and written again is the same text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.errors import UnusableAnswer
from extractors.lists import exact, lookups
from transforms import texts

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = ["1.10", "1e400", "-0.0", "1E5", "0.1234567890123456789", "1" * 30, "9" * 5_000, "1.5", "-0"]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(VALUES)
def test_both_write_as_json_does(value):
    """Requests and columns have the JSON that they had, but for what is kept to the letter."""
    assert exact.dumps(value) == json.dumps(value)
    assert exact.dumps(value, indent=2, ensure_ascii=False) == json.dumps(value, indent=2, ensure_ascii=False)
    assert texts.dumps(value) == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_keep_their_digits(number):
    """In a column, and in what is sent back to PostHog."""
    read = exact.loads(f'{{"a":[{number}]}}'.encode())

    assert texts.dumps(read) == exact.dumps(read) == f'{{"a": [{number}]}}'
    assert isinstance(read["a"][0], int | float)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d"', r"\ud83d"),
        (r'"\ude00\ud83d"', r"\ude00\ud83d"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\\ud83d"', r"\ud83d"),
        (r'"\\\ud83d"', r"\\ud83d"),
        (r'"\ud83d\ud83d\ude00"', "\\ud83d\U0001f600"),
    ],
)
def test_half_a_pair_is_its_escape(text, value):
    """Whole pairs and escaped backslashes are what they are; in both readers alike."""
    assert exact.loads(text.encode()) == value
    assert json.loads(texts.escaped(text)) == value


def test_a_name_that_stands_twice_is_written_twice():
    """Nothing of an answer is lost, however odd it is; whoever looks a name up has the last, as everywhere."""
    text = '{"a": 1, "b": {"k": 1.10, "k": [{"x": 1, "x": 2}]}, "a": 3}'
    found = exact.loads(text.encode())

    assert exact.dumps(found) == text
    assert (found["a"], found["b"]["k"]) == (3, [{"x": 2}])


def test_what_is_deep_stays_text():
    """Only the value that is too deep: its row and the rows beside it are read."""
    deep = "[" * 100_000 + "1.10" + "]" * 100_000
    read = exact.loads(f'{{"count":2,"results":[{{"id":1,"é\\n":{deep}}},{{"id":2}}]}}'.encode())

    assert (read["count"], read["results"][1], read["results"][0]["id"]) == (2, {"id": 2}, 1)
    assert texts.dumps(read["results"][0]) == f'{{"id": 1, "é\\n": {deep}}}'


@pytest.mark.parametrize("levels", [300, 600, 900, 5_000])
def test_whatever_can_be_read_can_be_written(levels):
    """What Python reads is deeper than what it goes into again."""
    text = '{"a": [' * levels + "1.10" + "]}" * levels

    assert exact.dumps(exact.loads(f'{{"row": {text}}}'.encode())) == f'{{"row": {text}}}'


@pytest.mark.parametrize("body", [b"", b"\xff", b"{", b"[" * 100_000, b'{"a":' + b"[" * 100_000])
def test_what_is_no_json_is_refused(body):
    """Also where it is deep and cut."""
    with pytest.raises(UnusableAnswer):
        lookups.document(body)
