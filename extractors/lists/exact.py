"""JSON of lists as PostHog wrote it: numbers keep their digits, values that are nested too deeply keep their text.

A number or value that Python has no equal of is an object whose repr is its text; whoever writes JSON writes that repr. Half of
a surrogate pair, which no UTF-8 has, is the six characters of its escape (docs/assets.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from extractors.http import scan

_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_LEVELS = 3  # a page, its rows, a row: what is in a row may be as deep as it likes


class Number(float):
    """A number that Python would write otherwise: `1.10`, `1e400`."""

    def __new__(cls, text: str) -> Number:
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str

    def __repr__(self) -> str:
        return self.text


class Repeated(dict[str, Any]):
    """An object in which a name stands more than once: to be looked up the last counts, *items* has all."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Any:
        return self._pairs


class Deep:
    """A value that is nested too deeply to be read."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _Written(str):
    """A piece of JSON that stands as it is."""

    __slots__ = ()


def loads(body: bytes) -> Any:
    """The value of a JSON text. Raises ValueError."""
    text = body.decode(json.detect_encoding(body))
    return _read(_ESCAPES.sub(lambda found: f"\\{found[0]}" if found["half"] else found[0], text), _LEVELS)


def dumps(
    value: Any, *, simple: Callable[[Any], Any] = lambda one: one, indent: int = 0, ensure_ascii: bool = True
) -> str:
    """JSON as json.dumps writes it, of any depth, but for what loads has kept as its text.

    *simple*: makes of each value one that JSON has, or one of loads'. *indent*: spaces of a level; 0: all on one line.
    """
    encoded, out = json.JSONEncoder(ensure_ascii=ensure_ascii).encode, list[str]()
    todo: list[tuple[int, Any]] = [(0, value)]
    while todo:
        depth, one = todo.pop()
        if type(one) is _Written:
            out.append(one)
            continue
        one = simple(one)
        if isinstance(one, Mapping):
            parts = [(encoded(name) + ": ", member) for name, member in one.items()]
        elif isinstance(one, list | tuple):
            parts = [("", member) for member in one]
        else:
            kept = isinstance(one, float | Deep) and type(one) is not float  # settings have numbers of their own
            out.append(repr(one) if kept else encoded(one))
            continue
        first, last = "{}" if isinstance(one, Mapping) else "[]"
        inner, outer = (f"\n{' ' * indent * level}" if indent and parts else "" for level in (depth + 1, depth))
        between = f",{inner}" if indent else ", "
        out.append(first)
        todo.append((depth, _Written(outer + last)))
        for number in reversed(range(len(parts))):
            named, member = parts[number]
            todo += [(depth + 1, member), (depth, _Written((between if number else inner) + named))]
    return "".join(out)


def _read(text: str, levels: int) -> Any:
    try:
        return json.loads(text, parse_float=_float, parse_int=_int, object_pairs_hook=_object)
    except RecursionError:
        if not levels:
            return Deep(text)
    if text.lstrip()[:1] == "{":
        return {json.loads(f'"{name}"'): _read(one, levels - 1) for name, one in scan.members(text).items()}
    return [_read(one, levels - 1) for one in scan.elements(text)]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeated(pairs)


def _float(text: str) -> float:
    value = float(text)
    return value if repr(value) == text else Number(text)


def _int(text: str) -> float:
    try:
        value = int(text)
    except ValueError:  # of thousands of digits
        return Number(text)
    return value if text != "-0" else Number(text)
