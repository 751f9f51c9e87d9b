"""Borders of JSON values are found exactly, and a text that is cut is never taken for a whole one."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extractors.http import scan

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))
TRICKY = st.sampled_from(['"', "\\", "]}", '\\"', "[{", ",", ":", "\n", "ü"])
OBJECTS = st.dictionaries(st.text("ab", min_size=1), VALUES | TRICKY, max_size=4)


@settings(max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(OBJECTS, st.sampled_from([None, 2]))
def test_members_are_those_of_the_object(value, indent):
    """Each name with exactly the text of its value."""
    found = scan.members(json.dumps(value, indent=indent))

    assert {name: json.loads(text) for name, text in found.items()} == value


@settings(max_examples=200, derandomize=True)
@given(st.lists(VALUES | TRICKY, max_size=5), st.sampled_from([None, 2]))
def test_elements_are_those_of_the_array(value, indent):
    """Each element, in order, none lost."""
    assert [json.loads(text) for text in scan.elements(json.dumps(value, indent=indent))] == value


@settings(max_examples=200, derandomize=True)
@given(OBJECTS.filter(bool), st.data())
def test_cut_object_is_broken(value, data):
    """Every beginning of an object, however it ends, is refused."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]

    with pytest.raises(scan.Broken):
        scan.members(cut)


@pytest.mark.parametrize("text", ['{"a":"x}]}', '{"a":[}]}', '{"a":1}{"b":2}', '{"a" 1}', "{a:1}", "[1]", "", '{"a":}'])
def test_text_that_is_no_object_is_broken(text):
    """Strings without an end, brackets that do not match, more than one value."""
    with pytest.raises(scan.Broken):
        scan.members(text)


def test_depth_and_digits_have_no_limit():
    """A hundred thousand levels and a hundred thousand digits are only text."""
    deep, digits = "[" * 100_000 + "]" * 100_000, "9" * 100_000

    assert list(scan.elements(f"[{deep},{digits}]")) == [deep, digits]
