"""What POST /query answers about a data set, out of prefix sums: the questions of hedgerow's proof, told by their text.

The server runs no HogQL. It knows the forms of `extractors/hogql.py`, and a question that has another form is an error
that the benchmark reports: a changed question needs a changed answer here.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bench.data import CREATED_US, DAY_US, HOUR_US, SUMS, DataSet, Numbers

WRAP = 2**64
INSTANT = r"toDateTime64\('([^']+)', 6, 'UTC'\)"
BETWEEN = re.compile(rf"timestamp >= {INSTANT} AND timestamp < {INSTANT}")
FIRST = re.compile(rf"dateDiff\('microsecond', {INSTANT}, ts\) AS o")
HOURS_FROM = re.compile(rf"intDiv\(dateDiff\('microsecond', {INSTANT}, timestamp\), {HOUR_US}\) AS h")
SLOT = re.compile(r"SELECT d, intDiv\(t, (.+?)\) AS s, count")
STEP = re.compile(r"if\(d < (\d+), (\d+), ")
SPLIT = re.compile(r"if\(o >= (\d+), 1, 0\)")
PLACES = re.compile(r"ts\) < (\d+), 0, if\(.*?ts\) < (\d+), 1, 2\)\) AS w")
Row = list[Any]


class UnknownQuestion(Exception):
    """HogQL of a form that is not known here."""


def answer(data: DataSet, hogql: str) -> list[Row]:
    """The rows of the answer. Raises UnknownQuestion."""
    for start, method in FORMS.items():
        if hogql.startswith(start):
            return method(data, hogql)
    raise UnknownQuestion(hogql)


def _ranges(hogql: str) -> list[tuple[int, int]]:
    return sorted((_micros(first), _micros(last)) for first, last in BETWEEN.findall(hogql))


def _micros(text: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (at.days * 86_400 + at.seconds) * 1_000_000 + at.microseconds


def _found(pattern: re.Pattern[str], hogql: str) -> re.Match[str]:
    found = pattern.search(hogql)
    if found is None:
        raise UnknownQuestion(hogql)
    return found


def _placed(data: DataSet, *micros: int) -> list[int]:
    """How many rows are before each time."""
    return [int(at) for at in np.searchsorted(data.micros, micros, "left")]


def _hours(data: DataSet, hogql: str) -> list[Row]:
    first, ((start, end),) = _micros(_found(HOURS_FROM, hogql)[1]), _ranges(hogql)
    begin, stop = _placed(data, start, end)
    if first % HOUR_US:
        raise UnknownQuestion(hogql)
    hours, counts = np.unique(data.micros[begin:stop] // HOUR_US, return_counts=True)
    least = data.facts["least"]
    return [
        [hour - first // HOUR_US, count, least[str(hour)]]
        for hour, count in zip(hours.tolist(), counts.tolist(), strict=True)
    ]


def _identities(data: DataSet, hogql: str) -> list[Row]:
    return [[sum(stop - begin for begin, stop in (_placed(data, *one) for one in _ranges(hogql)))]]


def _earliest(data: DataSet, hogql: str) -> list[Row]:
    del hogql
    return [[int(data.micros[0]), len(data.micros)]]


def _probe(data: DataSet, hogql: str) -> list[Row]:
    """Count and sums of each (day, slot, piece) that has any row."""
    first = _micros(_found(FIRST, hogql)[1])
    slots = _found(SLOT, hogql)[1]
    steps = [(int(until), int(step)) for until, step in STEP.findall(slots)]
    steps.append((2**31, int(re.findall(r"\d+", slots)[-1])))
    splits = sorted({int(split) for split in SPLIT.findall(hogql)})
    found: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0] * 7)
    for start, end in _ranges(hogql):
        edges = _edges(start, end, first, steps, splits)
        rows = np.searchsorted(data.micros, edges, "left")
        filled = np.flatnonzero(np.diff(rows))
        for at in filled.tolist():
            begin, stop, offset = int(rows[at]), int(rows[at + 1]), int(edges[at]) - first
            day, time = divmod(offset, DAY_US)
            step = next((step for until, step in steps if day < until), steps[-1][1])
            piece = sum(1 for split in splits if offset >= split)
            sums = found[day, time // step, piece]
            sums[0] += stop - begin
            for place, name in enumerate(SUMS, 1):
                prefix = data.sums[name]
                sums[place] = (sums[place] + int(prefix[stop]) - int(prefix[begin])) % WRAP
            sums[6] = max(sums[6], int(data.micros[stop - 1]) + CREATED_US)
    return [[d, s, *sums, *([p] if splits else [])] for (d, s, p), sums in sorted(found.items())]


def _edges(start: int, end: int, first: int, steps: list[tuple[int, int]], splits: list[int]) -> Numbers:
    """Where [start, end) is cut: at days, slots and splits; µs since 1970."""
    cuts = [np.array([start, end, *(first + split for split in splits)], np.int64)]
    for day in range((start - first) // DAY_US, (end - 1 - first) // DAY_US + 1):
        step = next((step for until, step in steps if day < until), steps[-1][1])
        cuts.append(first + day * DAY_US + np.arange(0, DAY_US, step, dtype=np.int64))
    edges = np.unique(np.concatenate(cuts))
    return edges[(edges >= start) & (edges <= end)]


def _outside(data: DataSet, hogql: str) -> list[Row]:
    """Rows in none of the ranges that are negated, by place: before, between and after them."""
    places = _found(PLACES, hogql)
    bounds = [int(places[1]), int(places[2])]
    excluded = sorted((_micros(a), _micros(b)) for a, b in re.findall(rf"NOT \({BETWEEN.pattern}\)", hogql))
    within = [one for one in _ranges(hogql) if one not in excluded]
    start, end = within[0] if within else (0, 2**62)
    free, at = [], start
    for low, high in [*excluded, (end, end)]:
        free += [(at, min(low, end))] if at < min(low, end) else []
        at = max(at, high)
    found: dict[int, Row] = {}
    for low, high in free:
        cuts = [low, *(bound for bound in bounds if low < bound < high), high]
        for one, other in itertools.pairwise(cuts):
            begin, stop = _placed(data, one, other)
            if begin < stop:
                place = sum(1 for bound in bounds if one >= bound)
                row = found.setdefault(place, [place, 0, int(data.micros[begin]), 0])
                row[1], row[3] = row[1] + stop - begin, int(data.micros[stop - 1])
    return [found[place] for place in sorted(found)]


FORMS = {
    "SELECT h, count() AS n, min(u) AS m FROM (": _hours,
    "SELECT count() AS n FROM (SELECT DISTINCT": _identities,
    "SELECT dateDiff('microsecond', toDateTime64('1970-01-01 00:00:00.000000', 6, 'UTC'), min(timestamp)) AS m": _earliest,
    "SELECT d, intDiv(": _probe,
    "SELECT if(dateDiff(": _outside,
}
