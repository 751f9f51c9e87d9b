"""What a HogQL query's columns are called and which ClickHouse type they have, read off its text.

Enough for the functions that the simulator knows: no parser, but parentheses, strings and aliases are respected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from zoneinfo import available_timezones

TOKEN = re.compile(r"'(?:[^'\\]|\\.|'')*'|[A-Za-z_]\w*|\s+|.", re.DOTALL)
ALIAS = re.compile(r"^(.*\S)\s+AS\s+([A-Za-z_]\w*)$", re.DOTALL | re.IGNORECASE)
UNSIGNED = re.compile(r"(count|countIf|uniqExact|length|position)\s*\(", re.IGNORECASE)
PARSED = re.compile(r"^dateDiff\(.*toDateTime\(\s*'", re.IGNORECASE | re.DOTALL)
"""A difference from a text that is read as a time, which may be no time."""
NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?)$")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer; *zone* is where its datetimes are shown."""

    name: str
    type: str
    zone: str


def described(hogql: str, native: Sequence[tuple[str, str]], project_timezone: str) -> list[Column]:
    """The columns of *hogql*; *native*: name and type of each in DuckDB."""
    outer, aliases = selected(hogql)
    known = len(outer) == len(native)
    columns = []
    for number, (native_name, native_type) in enumerate(native):
        name, expression = outer[number] if known else (native_name, native_name)
        meaning = _expanded(expression, aliases)
        zone = _zone(meaning) or project_timezone
        columns.append(Column(name, _type(native_type, meaning, zone), zone))
    return columns


def selected(hogql: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(name, expression) of each outer column, and the expression behind each alias at any depth."""
    depth, lists, items = 0, {}, []
    for part in TOKEN.findall(hogql):
        word = part.upper()
        if word == "SELECT":
            lists[depth] = [""]
            continue
        depth += (part == "(") - (part == ")")
        if word in ("FROM", "UNION") or (part == ")" and depth + 1 in lists):
            closing = depth + 1 if part == ")" else depth
            items += [(closing, text) for text in lists.pop(closing, [])]
        for at, texts in lists.items():
            if part == "," and at == depth:
                texts.append("")
            else:
                texts[-1] += part
    items += [(at, text) for at, texts in lists.items() for text in texts]
    aliases: dict[str, str] = {}
    outer = []
    for at, text in items:
        plain = re.sub(r"^\s*DISTINCT\s", "", text, flags=re.IGNORECASE).strip()
        found = ALIAS.match(plain)
        name, expression = (found[2], found[1]) if found else (plain, plain)
        if found:
            aliases.setdefault(name, expression)
        if at == 0:
            outer.append((name, expression))
    return outer, aliases


def _expanded(expression: str, aliases: Mapping[str, str]) -> str:
    """*expression* with aliases replaced by what they stand for, a few levels deep."""
    for _ in range(4):
        expression = re.sub(r"(?<!')\b[A-Za-z_]\w*\b(?!')", lambda word: aliases.get(word[0], word[0]), expression)
    return expression


def _zone(expression: str) -> str | None:
    """The last time zone that *expression* names."""
    named = [text for text in re.findall(r"'([\w/+-]+)'", expression) if text in _zones()]
    return named[-1] if named else None


def _type(native: str, expression: str, zone: str) -> str:
    if native.startswith("TIMESTAMP"):
        return (
            f"DateTime('{zone}')" if re.match(r"toStartOf", expression, re.IGNORECASE) else f"DateTime64(6, '{zone}')"
        )
    if native == "VARCHAR":
        return "Nullable(String)" if re.search(r"\bproperties\.", expression) else "String"
    if NUMBER.match(native) and PARSED.match(expression):
        return "Nullable(Int64)"
    if NUMBER.match(native):
        return "UInt64" if UNSIGNED.match(expression) else "Int64"
    if native == "DOUBLE" or native.startswith("DECIMAL"):
        return "Float64"
    return {"UUID": "UUID", "DATE": "Date", "BOOLEAN": "Bool"}.get(native, "String")


@cache
def _zones() -> frozenset[str]:
    """All names of zones, which zoneinfo reads from disk at each call."""
    return frozenset(available_timezones())
