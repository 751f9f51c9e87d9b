"""What one question to /query asks about windows, and what it says of them: values, and how they are grouped. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

from extractors.hogql import QUERY_MAX_ROWS, Grid
from extractors.window import DAY, EPOCH, MICROSECOND, Range, Window, midnight

MODULUS = 2**64
BATCH_ROWS = 2_000_000  # one request's share of the source's patience
BATCH_WINDOWS = QUERY_MAX_ROWS - 1  # an answer with as many rows as its LIMIT may be cut
BATCH_PIECES = 40  # ranges, changes of step and splits in one query's text
GAPS = 1_000  # ranges around which rows are looked for, by some 25 questions
SECOND = timedelta(seconds=1)  # less is not asked for


@dataclass(frozen=True, slots=True)
class Seen:
    """The source side of one window as /query tells it: distinct (uuid, event, distinct_id, timestamp).

    *digest*: as transforms.digest.SourceDigest writes it. *created*: Σ µs of the day of every event's latest created_at
    modulo 2^64, and the latest of all in µs since 1970: they move when an event is inserted anew.
    """

    rows: int = 0
    digest: str = "0:0:0:0:0"
    created: str = "0:0"

    def __str__(self) -> str:
        return f"{self.digest}/{self.created}"

    @staticmethod
    def parse(text: str) -> Seen:
        digest, _, created = text.partition("/")
        return Seen(int(digest.split(":")[0]), digest, created)

    def __add__(self, other: Seen) -> Seen:
        """Both together, of parts that do not overlap."""
        if not (self.rows and other.rows):
            return self if self.rows else other
        sums = zip(_numbers(self.digest), _numbers(other.digest), strict=True)
        digest = ":".join(str((one + another) % MODULUS) for one, another in sums)
        (created, latest), (more, later) = _numbers(self.created), _numbers(other.created)
        return Seen(self.rows + other.rows, digest, f"{(created + more) % MODULUS}:{max(latest, later)}")

    @property
    def latest(self) -> datetime | None:
        """The latest created_at, None without events."""
        return time_of(_numbers(self.created)[1]) if self.rows else None


@dataclass(frozen=True, slots=True)
class Part:
    """One window to probe: its place on the grid, the covered part that is asked, and how many rows to expect there.

    *split*: the answer also tells by itself what of it lies before.
    """

    window: Window
    covers: Range
    expected: int
    split: datetime | None = None

    def __post_init__(self) -> None:
        if not self.window.covers(self.covers):
            raise ValueError(f"part {self.covers} is not inside its window {self.window}")
        if self.split is not None and not self.covers.start < self.split < self.covers.end:
            raise ValueError(f"split {self.split} is not inside the part {self.covers}")

    @property
    def divisible(self) -> bool:
        return self.split is not None or self.covers.duration > SECOND

    def halves(self) -> tuple[Part, Part]:
        """What it covers in two, cut at its split, or else a whole number of seconds from its start."""
        half = max(SECOND, self.covers.duration // (2 * SECOND) * SECOND)
        cut = self.split or self.covers.start + half
        ranges = (Range(self.covers.start, cut), Range(cut, self.covers.end))
        first, second = (Part(self.window, rng, self.expected // 2) for rng in ranges)
        return first, second


@dataclass(frozen=True, slots=True)
class Answers:
    """What the source says of windows, by their start. Each that was asked for is in *seen*, *heavy* or *unanswered*.

    *early*: of windows with a split, what lies before it. *heavy*: even a second of them was too heavy for the source.
    *unanswered*: a failure that passes; to be asked again in the next run.
    """

    seen: Mapping[datetime, Seen]
    early: Mapping[datetime, Seen]
    heavy: frozenset[datetime] = frozenset()
    unanswered: frozenset[datetime] = frozenset()

    def __or__(self, other: Answers) -> Answers:
        """Both together, of different windows."""
        return Answers(
            {**self.seen, **other.seen},
            {**self.early, **other.early},
            self.heavy | other.heavy,
            self.unanswered | other.unanswered,
        )


@dataclass(frozen=True, slots=True)
class Outside:
    """Rows of the source in none of the ranges asked about: *where* is before, between or after them."""

    where: str
    rows: int
    first: datetime
    last: datetime

    def __add__(self, other: Outside) -> Outside:
        """Both together, of one place."""
        return Outside(self.where, self.rows + other.rows, min(self.first, other.first), max(self.last, other.last))


def batches(parts: Iterable[Part], *, rows: int = BATCH_ROWS) -> Iterator[list[Part]]:
    """Groups of *parts*, in the order given, each small enough for one request."""
    batch: list[Part] = []
    expected = pieces = told = 0
    for part in parts:
        halved = part.split is not None
        more = halved + (not (batch and _same_run(batch[-1], part)))
        if batch and (
            expected + part.expected > rows
            or told + 1 + halved > BATCH_WINDOWS
            or (more and pieces + more > BATCH_PIECES)
        ):
            yield batch
            batch, expected, pieces, told, more = [], 0, 0, 0, halved + 1
        batch.append(part)
        expected += part.expected
        pieces += more
        told += 1 + halved
    if batch:
        yield batch


def _same_run(one: Part, other: Part) -> bool:
    """Whether the two need no further range and no further step in the query's text."""
    touch = one.covers.end == other.covers.start or other.covers.end == one.covers.start
    return touch and one.window.duration == other.window.duration


def pieces_of(parts: Sequence[Part], splits: Sequence[datetime]) -> dict[tuple[datetime, int], bool]:
    """What rows may be told of: window and how many *splits* are at or before it, and whether a split follows in it."""
    pieces: dict[tuple[datetime, int], bool] = {}
    for part in parts:
        before = bisect_right(splits, part.covers.start)
        pieces[part.window.start, before] = part.split is not None
        if part.split is not None:
            pieces[part.window.start, before + 1] = False
    return pieces


def grid_of(parts: Sequence[Part]) -> Grid:
    """The grid of *parts*, which ascend."""
    first = midnight(parts[0].window.start.date())
    days: dict[date, timedelta] = {part.window.start.date(): part.window.duration for part in parts}
    steps = []
    for step, run in groupby(days.items(), key=lambda item: item[1]):
        last = max(day for day, _ in run)
        steps.append(((midnight(last) - first) // DAY + 1, step))
    return Grid(first, tuple(steps))


def joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """The same time in as few ranges as possible, ascending."""
    held: Range | None = None
    for rng in sorted(Range(one.start, one.end) for one in ranges):
        if held is not None and rng.start <= held.end:
            held = Range(held.start, max(held.end, rng.end))
            continue
        if held is not None:
            yield held
        held = rng
    if held is not None:
        yield held


def around(ranges: Sequence[Range]) -> list[tuple[list[Range], Range | None]]:
    """What to ask for the rows in none of *ranges*, which ascend and do not touch: ranges, and the time to look at.

    The first question is about all time but what the others look at. The smallest gaps are passed over where there are
    more than GAPS ranges.
    """
    wide = sorted(range(len(ranges) - 1), key=lambda i: ranges[i].end - ranges[i + 1].start)[: GAPS - 1]
    ends = [*sorted(wide), len(ranges) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    kept = [ranges[start].hull(ranges[end]) for start, end in zip(starts, ends, strict=True)]
    groups = [kept[n : n + BATCH_PIECES - 1] for n in range(0, len(kept), BATCH_PIECES - 1)]
    bounds = [*(group[0].start for group in groups[1:]), kept[-1].end]
    rest = [Range(bounds[0], kept[-1].end)] if len(groups) > 1 else []
    others = zip(groups[1:], bounds, bounds[1:], strict=False)
    return [([*groups[0], *rest], None), *((group, Range(start, end)) for group, start, end in others)]


def without(digest: str, part: str, landed: str) -> str:
    """A window's *digest* with what was *landed* of a part of it in the place of what the source holds there."""
    sums = zip(_numbers(digest), _numbers(part), _numbers(landed), strict=True)
    return ":".join(str((whole - there + here) % MODULUS) for whole, there, here in sums)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(":")]


def time_of(micros: int | float | str | None) -> datetime:
    """The instant of microseconds since 1970."""
    return EPOCH + int(micros or 0) * MICROSECOND
