"""`elements` of a row, parsed from its `elements_chain` (facts/event-shapes.md, facts/posthog-api.md §1.7).

A chain is elements joined by `;`, innermost first, each `tag.class.class:name="value"name="value"`. Quotes inside a value
are escaped by a backslash, so a `;` or a dot in a text ends nothing. Escapes stay as they are: a real server shows
`Buy \\"now\\"; ok` with its backslashes (facts/samples, server 1.43).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

ELEMENT = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
ATTRIBUTE = re.compile(r'([^="\s]+)="((?:[^"\\]|\\.)*)"', re.DOTALL)
HEAD = re.compile(r'([^:"=]*)(?::|$)')
NUMBERS = {"nth-child": "nth_child", "nth-of-type": "nth_of_type"}
TEXTS = {"text": "text", "href": "href", "attr_id": "attr_id"}


@lru_cache(maxsize=4096)
def elements_text(chain: str) -> str:
    """The JSON text of `elements` for *chain*; `[]` for an empty one."""
    return json.dumps(elements(chain), ensure_ascii=False, separators=(",", ":"))


def elements(chain: str) -> list[dict[str, object]]:
    """One object per element of *chain*, in the server's keys and order."""
    return [_element(text, order) for order, text in enumerate(ELEMENT.findall(chain))]


def _element(text: str, order: int) -> dict[str, object]:
    head = HEAD.match(text)
    tag, *classes = head[1].split(".") if head else [""]
    found: dict[str, object] = {
        "event": None,
        "text": None,
        "tag_name": tag or None,
        "attr_class": [name for name in classes if name] or None,
        "href": None,
        "attr_id": None,
        "nth_child": None,
        "nth_of_type": None,
        "attributes": {},
        "order": order,
    }
    attributes: dict[str, str] = {}
    for name, value in ATTRIBUTE.findall(text[head.end() :] if head else text):
        if name in NUMBERS and value.isdigit():
            found[NUMBERS[name]] = int(value)
        elif name in TEXTS:
            found[TEXTS[name]] = value
        elif name.startswith("attr__"):
            attributes[name] = value
    found["attributes"] = attributes
    return found
