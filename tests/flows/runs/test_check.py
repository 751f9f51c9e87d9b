"""What `hedgerow check` says in words."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from flows.runs import check

SIZES = [
    ((1_000, "an address"), "pages of 1,000 rows at most"),
    ((check.PAGE, "an address"), "pages of 1,001 rows or more"),
    ((700, None), "700 rows in the last 1 day"),
]


@pytest.mark.parametrize(("page", "said"), SIZES)
def test_size_of_a_page_says_whether_it_is_a_cap(page, said):
    """Fewer rows than asked and more to come is the server's cap; as many as asked is none; without more it is all."""
    received, more = page
    found: Any = SimpleNamespace(received=received, more=more)

    assert check._size(found, timedelta(days=1)) == said
