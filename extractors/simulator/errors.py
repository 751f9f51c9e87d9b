"""The ways a simulated request fails by itself."""

from __future__ import annotations


class BadInput(Exception):
    """400 validation_error / invalid_input with this detail."""


class BadField(Exception):
    """400 validation_error of one field, or of none."""

    def __init__(self, attr: str | None, code: str, detail: str) -> None:
        super().__init__(detail)
        self.attr = attr
        self.code = code


class BareFault(Exception):
    """A plain exception in the server: 500 without a reason (§1.9)."""
