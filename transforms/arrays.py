"""JSON arrays, one element after the other: whatever their length, a piece of the text and one element are in memory."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, NoReturn

from transforms import blocks, texts
from transforms.blocks import NotTabular, check_row
from transforms.texts import Written

PIECE_SIGNS = 2**18
_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(
    parse_float=Written, parse_int=Written, parse_constant=Written, object_pairs_hook=texts.object_of
)


def elements(file: BinaryIO) -> Iterator[tuple[object, int]]:
    """The elements of the array that *file* holds, each with the length of its text. Numbers are Written; half of a
    surrogate pair is its escape; no name of an object is lost (texts.object_of).

    Raises NotTabular, ValueError, RecursionError.
    """
    head = file.read(4)
    file.seek(0)
    reading = _Reading(io.TextIOWrapper(file, json.detect_encoding(head), newline=""))
    if reading.sign() != "[":
        _check_other(reading)
    reading.at += 1
    number = 0
    while number or reading.sign() != "]":
        number += 1
        yield reading.value(number)
        sign = reading.sign()
        if sign == "]":
            break
        if sign != ",":
            raise ValueError(f"there is no comma behind element {number:,}")
        reading.at += 1
    reading.at += 1
    _check_end(reading)


def _check_other(reading: _Reading) -> NoReturn:
    """What is no array is looked at where it is short enough: it may be no JSON."""
    with suppress(NotTabular):
        reading.value(1)
        _check_end(reading)
    raise NotTabular("the JSON is no array of objects", broken=False)


def _check_end(reading: _Reading) -> None:
    if reading.sign():
        raise ValueError("there is something behind its end")


class _Reading:
    """A window on the text: what has been read and is not yet used up, from *at* on."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file, self._text, self.at = file, "", 0

    def _more(self) -> bool:
        """Read as much again as waits, so that a long element is not tried too often; whether there was any."""
        waiting = self._text[self.at :]
        piece = self._file.read(min(max(PIECE_SIGNS, len(waiting)), blocks.LARGEST_ROW + PIECE_SIGNS - len(waiting)))
        self._text, self.at = waiting + piece, 0
        return bool(piece)

    def sign(self) -> str:
        """The next sign that is no blank; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self._text) or not self._more():
                return self._text[self.at : self.at + 1]

    def value(self, number: int) -> tuple[object, int]:
        """The value that begins here, and the length of its text."""
        self.sign()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self.at)
            except (ValueError, RecursionError):
                check_row(len(self._text) - self.at, number)
                if not self._more():
                    raise
                continue
            if end < len(self._text) or not self._more():  # a number may go on
                break
        check_row(end - self.at, number)
        text, self.at = self._text[self.at : end], end
        whole = texts.escaped(text) if "\\u" in text else text
        return (found if whole == text else _DECODER.decode(whole)), len(text)
