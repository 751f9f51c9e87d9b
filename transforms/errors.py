"""What can go wrong while shaping rows."""

from __future__ import annotations


class TransformError(Exception):
    """Base of everything a transform raises; never transient."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
