"""Ledger entries for tests, by the state that people see."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from sinks.entries import NO_FACTS, Facts, State


class Own(TypedDict):
    """An entry's own state, and what stands beside it."""

    state: State
    facts: Facts


def own(shown: State, at: datetime) -> Own:
    """What an entry that shows as *shown* is itself; a fact stands since *at*."""
    facts = {
        State.UNMERGED: Facts(unmerged=at),
        State.DISPUTED: Facts(disputed=at),
        State.HELD: Facts(held=at),
    }
    return {"state": State.LANDED if shown in facts else shown, "facts": facts.get(shown, NO_FACTS)}
