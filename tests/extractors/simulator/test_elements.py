"""Elements parsed from a chain (facts/event-shapes.md)."""

from __future__ import annotations

import json

import pytest

from extractors.simulator.data.elements import elements, elements_text

KEYS = [
    "event",
    "text",
    "tag_name",
    "attr_class",
    "href",
    "attr_id",
    "nth_child",
    "nth_of_type",
    "attributes",
    "order",
]

CHAINS = [
    pytest.param(
        'div:nth-child="0"nth-of-type="0"', {"tag_name": "div", "nth_child": 0, "nth_of_type": 0}, id="numbers"
    ),
    pytest.param("body", {"tag_name": "body", "nth_child": None, "attributes": {}}, id="a tag alone"),
    pytest.param('a.b.x:href="/f;o.o"', {"attr_class": ["b", "x"], "href": "/f;o.o"}, id="marks inside a value"),
    pytest.param('a:attr_id="i"attr__id="i"', {"attr_id": "i", "attributes": {"attr__id": "i"}}, id="id and attribute"),
    pytest.param(
        'a:attr__data-x="y"other="z"', {"attributes": {"attr__data-x": "y"}}, id="only attr__ names are attributes"
    ),
    pytest.param(
        'a:text="Buy \\"now\\"; ok"', {"text": 'Buy \\"now\\"; ok'}, id="escaped quotes stay escaped and end nothing"
    ),
    pytest.param('a:text=""', {"text": ""}, id="an empty text"),
    pytest.param('a:text="line\nbreak"', {"text": "line\nbreak"}, id="a line break"),
]


@pytest.mark.parametrize(("chain", "expected"), CHAINS)
def test_element_has_the_server_s_keys(chain, expected):
    """One element has ten keys in the server's order, and what the chain does not say is null."""
    (element,) = elements(chain)

    assert list(element) == KEYS
    assert element | expected == element


def test_elements_are_numbered_from_the_innermost():
    """A chain of several elements keeps its order."""
    found = elements('a:text="x;y";div.c:nth-child="1";body')

    assert [(one["order"], one["tag_name"]) for one in found] == [(0, "a"), (1, "div"), (2, "body")]


def test_empty_chain_has_no_elements():
    """A row without a chain shows an empty list, and the text is JSON in any case."""
    assert elements_text("") == "[]"
    assert json.loads(elements_text('a:text="ü \\" 1"'))[0]["text"] == 'ü \\" 1'
