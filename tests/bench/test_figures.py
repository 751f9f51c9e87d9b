"""How rounds become lines, and lines a page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from bench.data import Kind
from bench.figures import lines
from bench.page import chart
from bench.report import landed
from bench.source import Told
from bench.truth import Landed
from bench.whole import Case, Contestant, Cost, Round, Sample, rounds

CASE = Case(Kind(100), 10)
LIMIT = Sample("limit", 0, 2.0, 1.0, 40.0, 0.1, 10, 0.5, Landed(98, 2, 0))
OURS = Sample("hedgerow → DuckDB", 0, 4.0, 5.0, 300.0, 0.1, 12, 0.5, Landed(100, 0, 0))


def test_lines_are_medians_of_the_rounds_that_count():
    """A void round adds nothing, and ratios are the limit's median by one's own."""
    slow = replace(OURS, wall_s=8.0, cpu_s=10.0)
    found = [Round([LIMIT, OURS]), Round([LIMIT, slow]), Round([LIMIT, OURS]), Round([LIMIT, slow], "too busy")]

    limit, ours = lines("a", CASE, found)

    assert (ours.rounds, ours.wall_s, ours.of_wall, ours.of_cpu) == (3, 4.0, 0.5, 0.2)
    assert (limit.of_wall, landed(limit), landed(ours)) == (1.0, "98 of 100, 2 missing", "100 of 100")


def test_void_rounds_are_shown_where_no_other_is():
    """Figures that do not count are better than none, and their reason is told beside them."""
    assert [line.rounds for line in lines("a", CASE, [Round([LIMIT, OURS], "too busy")])] == [1, 1]


def test_the_chart_is_drawn():
    """An SVG with a bar for every line."""
    tree = ET.fromstring(chart(lines("a", CASE, [Round([LIMIT, OURS])])))

    assert len(tree.findall(".//{*}rect")) == 1 + 2


class Busy:
    """A server that takes *busy_s* of CPU for each run, and may hear what it does not know."""

    url = "http://bench.invalid"

    def __init__(self, busy_s: float, unknown: tuple[str, ...] = ()) -> None:
        self.busy_s, self.unknown, self.cpu_s, self.heard = busy_s, unknown, 0.0, 0

    def told(self, *, cap: int | None = None, latency_s: float | None = None) -> Told:
        if cap is None:
            self.cpu_s += self.busy_s
            self.heard += 1
        return Told(self.cpu_s, 0, self.unknown * self.heard)


def contestant(name: str, landed: Landed, *, ours: bool) -> Contestant:
    return Contestant(name, lambda task: Cost(1.0, 1.0, 1.0, 0, ""), lambda task, cost: landed, ours=ours)


@pytest.mark.parametrize(("busy_s", "void"), [(0.14, False), (0.16, True)])
def test_a_round_is_void_if_the_server_was_busy(busy_s, void):
    """More than 15 % of the limit's wall, and the figures would be the server's."""
    both = [contestant("limit", Landed(100, 0, 0), ours=False), contestant("ours", Landed(100, 0, 0), ours=True)]

    (found,) = rounds(CASE, Busy(busy_s), both, count=1)

    assert bool(found.void) is void


@pytest.mark.parametrize(("missing", "extra", "ours"), [(1, 0, True), (0, 1, True), (1, 0, False)])
def test_a_run_of_ours_that_lands_anything_else_is_a_fault(missing, extra, ours):
    """A lost or a doubled row is no figure. Of a peer it is what it is."""
    both = [
        contestant("limit", Landed(100, 0, 0), ours=False),
        contestant("it", Landed(100, missing, extra), ours=ours),
    ]

    (found,) = rounds(CASE, Busy(0.0), both, count=1)

    assert bool(found.samples[1].fault) is ours


def test_a_question_that_the_server_does_not_know_is_a_fault():
    """hedgerow lands without proof then, which would be a figure of something else."""
    (found,) = rounds(CASE, Busy(0.0, ("SELECT 1",)), [contestant("limit", Landed(1, 0, 0), ours=False)], count=1)

    assert "SELECT 1" in found.samples[0].fault
