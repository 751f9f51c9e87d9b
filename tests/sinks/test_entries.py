"""Values of the ledger: which cannot be, and what entries of older formats are today."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sinks.entries import NO_FACTS, Agreed, Facts, Probed, State, Tally, of_older
from sinks.lake.window_file import own_state
from tests.sinks.test_conformance import DAY, HOUR, landing

MADE = landing("a", state=State.VERIFIED)
WRONG = {
    "rows that nobody accounts for": (lambda: Tally(3, "0", 1, "0", 1), "does not add up"),
    "covered beyond the window": (lambda: replace(MADE.entry, covered_end=DAY + 2 * HOUR), "not inside the window"),
    "a fact as a state": (lambda: replace(MADE.entry, state=State.DISPUTED), "not a state"),
    "verified and damaged": (lambda: replace(MADE.entry, facts=Facts(damaged=DAY)), "cannot be verified"),
    "replaced before what was read": (lambda: replace(MADE, replace_start=DAY - HOUR), "outside the covered one"),
}


@pytest.mark.parametrize(("build", "said"), WRONG.values(), ids=WRONG)
def test_what_would_claim_too_much_cannot_be_built(build, said):
    """A tally with a rest, a window wider than itself, a proof beside damage: no ledger can be given one."""
    with pytest.raises(ValueError, match=said):
        build()


READ, ASKED = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
END = READ + timedelta(hours=1)
AGREED = Agreed("1:2:3:4:5/6:7", END)
OLDER = {
    "verified": (State.VERIFIED, NO_FACTS, AGREED),
    "landed": (State.LANDED, NO_FACTS, AGREED),
    "open": (State.OPEN, NO_FACTS, None),
    "unmerged": (State.LANDED, Facts(unmerged=READ), AGREED),
    "disputed": (State.LANDED, Facts(damaged=ASKED, disputed=ASKED), None),
    "held": (State.LANDED, Facts(held=ASKED), None),
}


@pytest.mark.parametrize(("state", "expected"), OLDER.items(), ids=OLDER)
def test_what_stood_against_a_window_of_an_older_format_stands(state, expected):
    """A dispute may have been damage, so it is both; no answer that was contradicted counts as agreed."""
    probed = Probed(ASKED, AGREED.values)

    assert of_older(state, read_at=READ, probed=probed, covered_end=END) == expected
    assert own_state(state, {}, older=True, read_at=READ, probed=probed, covered_end=END) == expected
