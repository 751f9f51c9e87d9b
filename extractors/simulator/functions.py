"""HogQL functions that servers allow and the simulator runs, each with its least and most arguments.

A server has hundreds more; what is not simulated is refused here like what does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

from extractors.simulator.errors import BadInput

TOKEN = re.compile(r"'(?:[^'\\]|\\.|'')*'|[A-Za-z_]\w*|\d[\w.]*|\s+|.", re.DOTALL)
KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "all and as between by case distinct else exists from group having in is join like not on or order over select"
        " then union using when where with",
    )
)
"""What may stand before a bracket without being a function."""
AGGREGATION = re.compile(r"(argM(ax|in)|avg|count|max|min|sum|uniqExact)(If)?")


@dataclass(frozen=True, slots=True)
class Function:
    """One allowed function; *most* None is any number of arguments."""

    name: str
    least: int
    most: int | None


def _allowed(*lines: str) -> frozenset[Function]:
    """Functions from lines of `least most names…`; `-` is no most."""
    found = set()
    for line in lines:
        least, most, *names = line.split()
        found |= {Function(name, int(least), None if most == "-" else int(most)) for name in names}
    return frozenset(found)


OF_2023 = _allowed(
    "0 1 count",
    "1 1 avg max min sum uniqExact",
    "1 2 countIf",
    "2 2 argMax argMin maxIf minIf sumIf avgIf",
    "2 2 intDiv modulo multiply plus minus divide equals notEquals less greater lessOrEquals greaterOrEquals",
    "1 1 abs toDateTime toDate toString toUUID toInt toFloat length lower upper toStartOfHour",
    "1 2 toStartOfDay",
    "2 2 least greatest ifNull nullIf startsWith bitAnd bitOr bitXor bitShiftLeft bitShiftRight",
    "2 3 position",
    "3 3 if substring dateDiff",
    "1 - coalesce",
)
"""What servers of 2023 allow: no `toDateTime64`, no hash, `uniqExact` of one argument, which may be a tuple."""

OF_2026 = _allowed(
    "1 - uniqExact",
    "1 2 toDate toDateTime toStartOfHour",
    "1 3 toDateTime64",
    "2 3 substring",
    "1 1 sumWithOverflow groupBitXor",
) | frozenset(
    one for one in OF_2023 if one.name not in ("uniqExact", "toDate", "toDateTime", "toStartOfHour", "substring")
)
"""What servers of 2026 allow."""


def check(hogql: str, allowed: frozenset[Function]) -> None:
    """Raises BadInput for a call of what is not *allowed*, or with too few or too many arguments."""
    known = {function.name: function for function in allowed}
    for name, given in calls(hogql):
        function = known.get(name)
        if function is None:
            close = get_close_matches(name, sorted(known), 1)
            meant = f". Perhaps you meant '{close[0]}(...)'?" if close else ""
            raise BadInput(f"Unsupported function call '{name}(...)'{meant}")
        if given < function.least or (function.most is not None and given > function.most):
            term = "Aggregation" if AGGREGATION.fullmatch(name) else "Function"
            raise BadInput(f"{term} '{name}' expects {_expected(function)}, found {given}")


def _expected(function: Function) -> str:
    if function.least == function.most:
        return f"{function.least} argument{'' if function.least == 1 else 's'}"
    bound = f"at least {function.least}" if function.most is None else f"at most {function.most}"
    return f"{bound} arguments"


def calls(hogql: str) -> Iterator[tuple[str, int]]:
    """(name, number of arguments) of every call in *hogql*, in order of its end; texts are not looked into."""
    words = [word for word in TOKEN.findall(hogql) if not word.isspace()]
    # Of each open bracket: the name before it, commas in it, and whether anything stands in it.
    opened: list[tuple[str, int, bool]] = []
    for before, word in pairwise(["", *words]):
        if opened and word != ")":
            name, commas, _ = opened[-1]
            opened[-1] = (name, commas + (word == ","), True)
        if word == "(":
            named = re.fullmatch(r"[A-Za-z_]\w*", before) and before.lower() not in KEYWORDS
            opened.append((before if named else "", 0, False))
        elif word == ")" and opened:
            name, commas, filled = opened.pop()
            if name:
                yield name, commas + 1 if filled else 0
