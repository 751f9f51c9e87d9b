"""Texts of settings as values."""

import pytest

from flows.settings.parse import size, sized

SIZES = [
    ("350MB", 350_000_000),
    ("350 mb", 350_000_000),
    ("1GiB", 2**30),
    ("1.5GB", 1_500_000_000),
    (400_000_000, 400_000_000),
]
SIZES += [("512MiB", 512 * 2**20), ("300000001", 300_000_001), ("64k", 64_000)]


@pytest.mark.parametrize(("text", "expected"), SIZES)
def test_size_is_bytes(text, expected):
    """Decimal and binary units, any case, a number alone; and it can be written down again."""
    assert size(text) == expected
    assert size(sized(expected)) == expected


@pytest.mark.parametrize("text", ["", "much", "-1MB", "1 XB", "1,5GB", True, "MB"])
def test_what_is_no_size_is_said(text):
    """With what was expected."""
    with pytest.raises(ValueError, match="such as 350MB"):
        size(text)
