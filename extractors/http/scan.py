"""Where the values of a JSON text begin and end, without reading them: no recursion, no numbers, no Python objects.

For pages with a row that no parser takes (nested too deeply, wrong UTF-8, NaN): the rows beside it must not be lost.
Words: `Infinity`, `-Infinity` and `NaN`, which Python's JSON writes for numbers and JSON does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A quote that opens no whole string is a token too: it must end the scan, or a cut body could pass for a whole one.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(_STRING + r'|["\[\]{}]', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\[\]{}\":]+")
_TEXT_OR_SCALAR = re.compile(rf"{_STRING}|{_SCALAR.pattern}", re.DOTALL)
_WORDS = frozenset(("Infinity", "-Infinity", "NaN"))
_BLANK = re.compile(r"[ \t\r\n]*")
_CLOSING = {"{": "}", "[": "]"}


class Broken(ValueError):
    """The text is no JSON value, or ends early."""


def without_words(text: str) -> str:
    """*text* with 0 for each word: JSON if the words are all that is wrong, and they stand where a number may."""
    return _TEXT_OR_SCALAR.sub(lambda found: "0" if found[0] in _WORDS else found[0], text)


def quoted_words(text: str) -> str:
    """*text* with each word as a text, everything else to the letter: what is printed as JSON must be JSON."""
    return _TEXT_OR_SCALAR.sub(lambda found: f'"{found[0]}"' if found[0] in _WORDS else found[0], text)


def members(text: str) -> dict[str, str]:
    """Name → text of the value, of the JSON object that *text* is; of names that repeat the last one. Raises Broken."""
    found: dict[str, str] = {}
    at = _open(text, "{")
    while (at := _blank(text, at)) < len(text) and text[at] != "}":
        name, at = _value(text, at)
        at = _blank(text, at)
        if name[:1] != '"' or text[at : at + 1] != ":":
            raise Broken(f"no member of an object at {at}")
        value, at = _value(text, _blank(text, at + 1))
        found[name[1:-1]] = value
        at = _comma(text, at, "}")
    _close(text, at)
    return found


def elements(text: str) -> Iterator[str]:
    """The texts of the elements of the JSON array that *text* is. Raises Broken."""
    at = _open(text, "[")
    while (at := _blank(text, at)) < len(text) and text[at] != "]":
        value, at = _value(text, at)
        yield value
        at = _comma(text, at, "]")
    _close(text, at)


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that starts at *at*, and the position after it."""
    if text[at : at + 1] not in ("[", "{", '"'):
        scalar = _SCALAR.match(text, at)
        if scalar is None:
            raise Broken(f"no value at {at}")
        return scalar[0], scalar.end()
    closing: list[str] = []
    for token in _TOKEN.finditer(text, at):
        if token[0] in _CLOSING:
            closing.append(_CLOSING[token[0]])
        elif token[0] == '"' or (token[0] in ("]", "}") and closing.pop() != token[0]):
            raise Broken(f"no end of the value at {at}")
        if not closing:
            return text[at : token.end()], token.end()
    raise Broken(f"no end of the value at {at}")


def _open(text: str, bracket: str) -> int:
    at = _blank(text, 0)
    if text[at : at + 1] != bracket:
        raise Broken(f"expected {bracket}")
    return at + 1


def _blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _comma(text: str, at: int, bracket: str) -> int:
    """The position of the next value, or of the closing *bracket*."""
    at = _blank(text, at)
    if text[at : at + 1] == ",":
        return at + 1
    if text[at : at + 1] != bracket:
        raise Broken(f"expected a comma at {at}")
    return at


def _close(text: str, at: int) -> None:
    """*at* is the closing bracket, and nothing follows it."""
    if at >= len(text) or text[at + 1 :].strip(" \t\r\n"):
        raise Broken("the text does not end where its value does")
