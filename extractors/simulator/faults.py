"""Faults by plan: which request of which endpoint fails how. Seeded, so a run can be repeated."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

STATUS_KINDS = ("429", "500", "502", "503", "503-after", "504", "504-html", "512", "513", "html-200")
"""Another answer instead of the one asked for."""
BODY_KINDS = ("cut", "cut-gzip", "wrong-length", "reset", "done-504", "slow-first-byte", "slow-drip")
"""The answer asked for, badly delivered or not at all: the work is done. done-504: a proxy had no patience."""
NEXT_KINDS = ("next-foreign", "next-repeating")
"""All rows, and a `next` that must not be followed: on another host, or with the bound where it was. A null stays null."""
KINDS = (*STATUS_KINDS, *BODY_KINDS, *NEXT_KINDS)
"""Transport faults: none costs a row once the request is repeated or the answer read with care."""
ROW_KINDS = ("stray-row", "nan", "bad-utf8", "deep", "nanoseconds", "naive")
"""One row of a list or detail answer is not what it should be; other endpoints are not touched.

stray-row adds a row from outside of the range asked; nan, bad-utf8 and deep (1,000 levels) are in the row's properties;
nanoseconds and naive (no zone) are its timestamp.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """*kind* happens at the requests numbered *at* (from 1, per endpoint), and at others with probability *rate*.

    *seconds*: how long a slow answer takes, or a 429 asks to wait (whole ones, one at least). *uuid*: the one row that row
    damage acts on, in every answer that has it; without it the row with the least uuid of the answer.
    """

    kind: str
    endpoint: str = "list"
    at: tuple[int, ...] = ()
    rate: float = 0.0
    seconds: float = 0.3
    uuid: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS + ROW_KINDS:
            raise ValueError(f"unknown fault {self.kind!r}, expected one of {', '.join(KINDS + ROW_KINDS)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is a probability: {self.rate}")
        if self.seconds < 0:
            raise ValueError(f"seconds must not be negative: {self.seconds}")
        if self.uuid and self.kind not in ROW_KINDS:
            raise ValueError(f"only damage of a row takes a uuid, found {self.kind!r}")


@dataclass(frozen=True, slots=True)
class Heavy:
    """HogQL that reads more than *rows* rows with a timestamp in [start, end) is answered with *kind*. None: no bound.

    Without *rows* one event there is too much; a query that reads none of them is answered.
    """

    kind: str = "504"
    rows: int = 0
    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind not in STATUS_KINDS:
            raise ValueError(f"unknown answer {self.kind!r}, expected one of {', '.join(STATUS_KINDS)}")
        if self.rows < 0:
            raise ValueError(f"rows must not be negative: {self.rows}")


class Faults:
    """Picks at most one fault per request; *heavy* is looked at by those who know what a query reads.

    *planned*: all of both. *met*: how often a request met each.
    """

    def __init__(self, faults: Sequence[Fault], *, heavy: Sequence[Heavy] = (), seed: int = 1) -> None:
        self._faults = tuple(faults)
        self.heavy = tuple(heavy)
        self.planned = (*self._faults, *self.heavy)
        self.met: Counter[Fault | Heavy] = Counter()
        self._random = random.Random(seed)

    def pick(self, endpoint: str, number: int) -> Fault | None:
        """The fault that request *number* of *endpoint* meets."""
        for fault in self._faults:
            if fault.endpoint not in (endpoint, "any"):
                continue
            if number in fault.at or (fault.rate and self._random.random() < fault.rate):
                self.met[fault] += 1
                return fault
        return None
