"""The memory of a run, divided."""

from hypothesis import given
from hypothesis import strategies as st

from flows.runs.memory import BASE_BYTES, LEAST_BYTES, MIB, shares


@given(st.integers(0, 64 * 1024 * MIB))
def test_shares_stay_within_the_memory(memory):
    """Whatever is given: a page is there up to four times, joined pages twice, and each of them has some."""
    found = shares(memory)
    used = 4 * found.page + 2 * found.joined + found.spool + found.database

    assert used <= max(LEAST_BYTES, memory - BASE_BYTES)
    assert min(found.page, found.joined, found.spool, found.database) >= 2 * MIB


def test_more_memory_is_more_for_each():
    """What is given is used."""
    less, more = shares(350 * MIB), shares(500 * MIB)

    assert all(getattr(more, name) > getattr(less, name) for name in less.__dataclass_fields__)
