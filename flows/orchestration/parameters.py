"""Types of the flows' parameters: checked when a run is made, before anything is asked, and a form in Prefect's UI.

The descriptions in the form are those of the flows' docstrings: Prefect takes them from there and from nowhere else.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from flows.runs import wiring
from flows.settings.parse import EARLIEST, SettingsError, instant


def _time(text: str) -> str:
    try:
        instant(text, now=wiring.now())
    except SettingsError as exc:
        raise ValueError(f"{exc}; {exc.hint}") from exc
    return text


def _start(text: str) -> str:
    return text if text.strip() == EARLIEST else _time(text)


_EXAMPLES = ["2026-01-31", "2026-01-31T06:00Z", "7d", "now"]

Since = Annotated[str, AfterValidator(_start), Field(examples=[*_EXAMPLES, EARLIEST])]
Until = Annotated[str, AfterValidator(_time), Field(examples=_EXAMPLES)]
ProjectId = Annotated[int, Field(gt=0, lt=2**63)]
Minutes = Annotated[int, Field(gt=0, le=7 * 24 * 60)]
Workers = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(gt=0, le=1)]
