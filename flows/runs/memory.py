"""The memory that a run may use, divided among those who hold rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flows.landing.session import Held
from flows.settings.model import Settings

MIB = 2**20
BASE_BYTES = 230 * MIB  # the program with its libraries, once each was used
LEAST_BYTES = 60 * MIB  # that rows need, whatever the setting says


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes: of a page to ask for, of pages joined before they are typed, of a window's rows before they wait on disk, and
    of DuckDB's own."""

    page: int
    joined: int
    spool: int
    database: int


def shares(memory_bytes: int) -> Shares:
    """What a process of *memory_bytes* in all leaves to each."""
    rows = max(LEAST_BYTES, memory_bytes - BASE_BYTES)
    # A page is there as text, as rows and as typed rows, some of it twice; DuckDB compresses what it holds.
    return Shares(page=rows // 30, joined=rows // 30, spool=rows // 8, database=rows * 45 // 100)


def held(settings: Settings) -> Held:
    """What a run over events may hold."""
    found = shares(settings.run.memory)
    return Held(joined=found.joined, spool=found.spool)
