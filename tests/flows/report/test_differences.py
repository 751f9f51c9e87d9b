"""What a verification found, as people read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flows.landing.verification import Difference, Verification
from flows.report.differences import lines_of
from sinks.entries import State

START, DAY = datetime(2026, 3, 1, tzinfo=UTC), timedelta(days=1)
FIRST, SECOND, THIRD = (
    Difference(START + n * DAY, START + (n + 1) * DAY, State.LANDED, 10, 9, 8, damaged=n == 1, changed=n != 1)
    for n in range(3)
)
LEFT = [
    pytest.param([], ["mended", "mended", "mended"], id="all mended"),
    pytest.param([FIRST.start], ["still differs", "mended", "mended"], id="the first is left"),
    pytest.param([SECOND.start], ["mended", "still differs", "mended"], id="one between neighbours"),
    pytest.param([THIRD.start], ["mended", "mended", "still differs"], id="the last is left"),
]


def said(left: list[datetime], *, repair: bool) -> list[str]:
    found = Verification(windows=3, differences=[FIRST, SECOND, THIRD], left=left)
    return [line for line in lines_of(found, repair=repair) if "landed 10" in line]


@pytest.mark.parametrize(("left", "words"), LEFT)
def test_repair_says_of_each_window_whether_it_is_mended(left, words):
    """The window that is left is named, not its neighbour."""
    assert [line.rpartition(" · ")[2] for line in said(left, repair=True)] == words


def test_look_without_repair_says_what_differs_and_where():
    """Why, and the rows of ledger, destination and source, each by its name; of a mend not a word."""
    lines = said([FIRST.start, SECOND.start, THIRD.start], repair=False)

    assert [line.partition(": ")[2] for line in lines] == [
        f"{why}: landed 10, held 9, source 8"
        for why in ("changed at the source", "damaged at the destination", "changed at the source")
    ]
