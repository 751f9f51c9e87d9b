"""Simulators that whole tables of questions share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.extractors.simulator.asking import ago, event, served

FILTERED = (
    event(1, ago(hours=1), name="buy", distinct_id="ann", properties='{"price":5,"plan":"Pro","ok":true}'),
    event(2, ago(hours=2), name="buy", distinct_id="bob", properties='{"price":15}'),
    event(3, ago(hours=3), name="look", distinct_id="ann", properties='{"plan":null}'),
    event(4, ago(hours=4), name="look", distinct_id="", properties='{"plan":"free"}'),
)


@pytest.fixture(scope="session")
def shared() -> Iterator[httpx.Client]:
    """FILTERED, served once for all tables that leave nothing behind."""
    with served(*FILTERED) as client:
        yield client
