"""The two ways a simulated request fails by itself."""

from __future__ import annotations


class BadInput(Exception):
    """400 validation_error / invalid_input with this detail."""


class BareFault(Exception):
    """A plain exception in the server: 500 without a reason (§1.9)."""
