"""The program as a user starts it: with few settings around it, and from the tree that is being tested.

Without the tree's path the installed package would run, and a break of the tree would turn no such test red.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[1]


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """The environment of a program whose user lives in *home*, and *more* variables."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(TREE), **more}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]
