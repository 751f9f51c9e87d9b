"""Everything that is asked through POST /query: counts for planning, and the source side of the proof.

Optional by nature: a server or a key may refuse it, and then hedgerow lands all the same (design.md, Probe). What was
refused once is not asked again in the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby

from extractors import decode, errors, queries
from extractors.client import Client
from extractors.queries import EPOCH, QUERY_MAX_ROWS, EventFilter, Grid, Request
from extractors.window import DAY, MICROSECOND, Range, Window, midnight
from extractors.zone import HourCount

MODULUS = 2**64
MAX_SPAN = timedelta(days=365)
BATCH_ROWS = 2_000_000  # one request's share of the source's patience (design.md, Probe)
BATCH_WINDOWS = QUERY_MAX_ROWS - 1  # an answer with as many rows as its LIMIT may be cut
MAX_HALVINGS = 4
BATCH_PIECES = 40  # ranges and changes of step in one query's text

Row = tuple[int | float | str | None, ...]


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


@dataclass(frozen=True, slots=True)
class Part:
    """One window to probe: its place on the grid, the covered part that is asked, and how many rows to expect there."""

    window: Window
    covers: Range
    expected: int

    def __post_init__(self) -> None:
        if not self.window.covers(self.covers):
            raise ValueError(f"part {self.covers} is not inside its window {self.window}")


@dataclass(frozen=True, slots=True)
class Outside:
    """Rows of the source in none of the ranges asked about: *where* is before, between or after them."""

    where: str
    rows: int
    first: datetime
    last: datetime


class Probe:
    """Asks /query about one project's events.

    *refusal*: what the server said when it refused, empty until then; *missing*: it has no such endpoint.
    """

    def __init__(self, client: Client, project_id: int, *, events: EventFilter) -> None:
        self._client, self._project_id, self._events = client, project_id, events
        self.refusal = ""
        self.missing = False

    def hour_counts(self, rng: Range) -> Mapping[datetime, HourCount] | None:
        """Rows per UTC hour of *rng*, only hours that have any; None where the server refuses the query."""
        counts: dict[datetime, HourCount] = {}
        start = rng.start
        while start < rng.end:
            part = Range(start, min(rng.end, start + MAX_SPAN))
            rows = self._ask(queries.hour_counts(self._project_id, part, events=self._events))
            if rows is None:
                return None
            for hour, count, least in rows:
                counts[start + int(hour or 0) * timedelta(hours=1)] = HourCount(int(count or 0), str(least))
            start = part.end
        return counts

    def first_time(self) -> tuple[datetime | None] | None:
        """Time of the first event, itself None for an empty project; None where the server refuses the query."""
        rows = self._ask(queries.earliest(self._project_id, events=self._events))
        if rows is None:
            return None
        micros, count = rows[0]
        return (_time(micros) if count else None,)

    def identities(self, rng: Range) -> int | None:
        """How many distinct (uuid, event, distinct_id, timestamp) *rng* holds; None where the server refuses the query."""
        rows = self._ask(queries.identity_count(self._project_id, rng, events=self._events))
        return None if rows is None else int(rows[0][0] or 0)

    def windows(self, parts: Sequence[Part], *, halvings: int = MAX_HALVINGS) -> Mapping[datetime, Seen] | None:
        """What the source holds of *parts*, one batch, by window start; a window without events is `Seen()`.

        A batch that is too heavy is halved; what stays too heavy is left out. None where the server refuses the query.
        """
        try:
            return self._windows(parts)
        except (errors.RangeTooHeavy, errors.BodyCut):
            if len(parts) == 1 or not halvings:
                return {}
        half = len(parts) // 2
        found: dict[datetime, Seen] = {}
        for some in (parts[:half], parts[half:]):
            seen = self.windows(some, halvings=halvings - 1)
            if seen is None:
                return None
            found |= seen
        return found

    def outside(self, ranges: Iterable[Range]) -> list[Outside] | None:
        """What the source holds in none of *ranges*; None where the server refuses the query."""
        merged = list(joined(ranges))
        if not merged:
            return []
        rows = self._ask(queries.outside(self._project_id, _few(merged), events=self._events))
        if rows is None:
            return None
        places = ("before", "between", "after")
        return [Outside(places[int(w or 0)], int(k or 0), _time(a), _time(b)) for w, k, a, b in rows]

    def _windows(self, parts: Sequence[Part]) -> Mapping[datetime, Seen] | None:
        ordered = sorted(parts, key=lambda part: part.window.start)
        grid = grid_of(ordered)
        ranges = list(joined(part.covers for part in ordered))
        limit = len(ordered) + 1
        request = queries.probe(self._project_id, grid, ranges, limit=limit, events=self._events)
        rows = self._ask(request, divisible=len(ordered) > 1)
        if rows is None:
            return None
        if len(rows) >= limit:
            raise errors.UnusableAnswer(f"POST /query names {len(rows)} windows where {len(ordered)} were asked for")
        found = {part.window.start: Seen() for part in ordered}
        durations = {part.window.start.date(): part.window.duration for part in ordered}
        for row in rows:
            d, s, k, sx, st, sxt, sxn, sm, lm = (int(value or 0) for value in row)
            day = grid.first + d * DAY
            start = day + s * durations.get(day.date(), DAY)
            if start not in found:
                raise errors.UnusableAnswer(f"POST /query names a window that was not asked for: {start}")
            digest = ":".join(str(number % MODULUS) for number in (k, sx, st, sxt, sxn))
            found[start] = Seen(k, digest, f"{sm % MODULUS}:{lm}")
        return found

    def _ask(self, request: Request, *, divisible: bool = False) -> tuple[Row, ...] | None:
        """Rows of a query, or None where this server or key does not answer queries.

        *divisible*: raises RangeTooHeavy and BodyCut at once, for less to be asked; else they count as refusal in the end.
        """
        if self.refusal:
            return None
        try:
            return decode.query_rows(self._client.send(replace(request, divisible=divisible)).body)
        except errors.LimitsExhausted:
            raise
        except errors.SourceError as exc:
            if divisible and isinstance(exc, errors.RangeTooHeavy | errors.BodyCut):
                raise
            self.refusal, self.missing = str(exc), isinstance(exc, errors.EndpointMissing)
            return None


def batches(parts: Iterable[Part], *, rows: int = BATCH_ROWS) -> Iterator[list[Part]]:
    """Groups of *parts*, in the order given, each small enough for one request."""
    batch: list[Part] = []
    expected = pieces = 0
    for part in parts:
        touches = bool(batch) and _same_run(batch[-1], part)
        if batch and (
            expected + part.expected > rows or len(batch) == BATCH_WINDOWS or (not touches and pieces == BATCH_PIECES)
        ):
            yield batch
            batch, expected, pieces, touches = [], 0, 0, False
        batch.append(part)
        expected += part.expected
        pieces += not touches
    if batch:
        yield batch


def _same_run(one: Part, other: Part) -> bool:
    """Whether the two need no further range and no further step in the query's text."""
    touch = one.covers.end == other.covers.start or other.covers.end == one.covers.start
    return touch and one.window.duration == other.window.duration


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


def _few(ranges: list[Range]) -> list[Range]:
    """At most BATCH_PIECES ranges: the smallest gaps between them are passed over."""
    while len(ranges) > BATCH_PIECES:
        gap = min(range(len(ranges) - 1), key=lambda i: ranges[i + 1].start - ranges[i].end)
        ranges = [*ranges[:gap], ranges[gap].hull(ranges[gap + 1]), *ranges[gap + 2 :]]
    return ranges


def _time(micros: int | float | str | None) -> datetime:
    return EPOCH + int(micros or 0) * MICROSECOND
