"""JSON whose numbers stay as they were written, and texts that every destination can hold.

A text may hold half of a surrogate pair, which PostHog cuts names and prompts into: no UTF-8 has it, and no file. It stands
as the six characters of its escape, `\\ud83d`, in a plain text and inside JSON alike (docs/assets.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

_PLAIN = (str, int, float, bool, type(None))
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class Written(str):
    """A number of a JSON text, as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Repeated(dict[str, Any]):
    """An object of a JSON text in which a name stands more than once: to be looked up the last counts, *items* has all."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Any:
        return self._pairs


def object_of(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object that has *pairs*, of which none is lost."""
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeated(pairs)


def writable(text: str) -> str:
    """*text* with each half of a pair as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def escaped(text: str) -> str:
    """The JSON *text* in which each half of a pair is the six characters of its escape."""
    return _ESCAPES.sub(lambda found: f"\\{found[0]}" if found["half"] else found[0], text)


def dumps(value: Any) -> str:
    """JSON as json.dumps writes it; a value of a class of its own is its repr, as numbers are that keep their digits.

    Raises RecursionError.
    """
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {dumps(one)}" for name, one in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if type(value) in _PLAIN else repr(value)


def exactly(text: str) -> Any:
    """The value of a JSON text, to be compared: two numbers are equal that are equal to the last digit."""
    return json.loads(text, parse_float=_number, parse_int=_number, object_pairs_hook=_compared)


def _compared(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; the values of a name that it has more than once are a tuple, which no JSON value is."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    return {name: tuple(value for one, value in pairs if one == name) for name in made}


def _number(text: str) -> object:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Written(text)
