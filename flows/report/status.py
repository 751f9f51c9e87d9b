"""What a destination holds of each stream, told from its ledger, tables and histories. Asks PostHog nothing.

Shown by flows.report.terminal (terminal, JSON) and flows.report.status_page (HTML). States: contract.md §4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from extractors.request import Bucket
from extractors.window import DAY, midnight
from flows.assets.held import Held, held
from flows.landing.session import STREAM
from flows.runs.catalog import STREAMS, Stream
from flows.runs.wiring import Listener, limits_of, now, pacing_of, sink_of
from flows.settings.model import Settings
from sinks.destination import Destination
from sinks.entries import HEAVY, Entry, State
from sinks.ledger import Ledger
from sinks.sink import Change, Run


class Kind(StrEnum):
    """What is known of a stretch of time, the best first."""

    VERIFIED = "verified"
    LANDED = "landed"
    OPEN = "open"
    GAP = "gap"
    DIFFERS = "differs"


KINDS = {
    State.VERIFIED: Kind.VERIFIED,
    State.LANDED: Kind.LANDED,
    State.OPEN: Kind.OPEN,
    State.STALE: Kind.OPEN,
}
"""What an entry's own state counts as, where nothing grave stands beside it."""
_WORSE = {kind: number for number, kind in enumerate(Kind)}
LATENESS = (
    ("< 1 h", timedelta(hours=1)),
    ("1–6 h", timedelta(hours=6)),
    ("6–24 h", timedelta(days=1)),
    ("1–3 d", timedelta(days=3)),
    ("3–7 d", timedelta(days=7)),
    ("7–30 d", timedelta(days=30)),
    ("> 30 d", timedelta.max),
)
"""How late events came: names and upper bounds."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time of one kind, [start, end)."""

    start: datetime
    end: datetime
    kind: Kind


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC date: rows landed, windows, and the worst kind of any part of it."""

    date: date
    rows: int
    windows: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Used:
    """Requests of one of the source's limits, by every process of the key."""

    bucket: str
    last_minute: int
    per_minute: int
    last_hour: int
    per_hour: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One project's stream. *segments* lie between the first and the last moment covered, gaps included, and ascend.

    *compared_at*: the source's time when it was last asked what it holds of a window; *compared_until*: the end of the latest
    time that was compared; *uncompared*: settled windows that it was not asked about since they were landed.
    *unmerged*: windows of which the source holds different copies of one event.
    *lateness*: late events by how late they came at least, in the order of LATENESS; *budget*: empty where no key is set.
    *held*: of a stream beside events, which has no windows and no time that they cover.
    """

    project_id: int
    stream: str
    windows: int
    states: Mapping[State, int]
    rows: int
    quarantined: int
    suppressed: int
    copies: int
    unmerged: int
    segments: tuple[Segment, ...]
    days: tuple[Day, ...]
    mark: datetime | None
    compared_at: datetime | None
    compared_until: datetime | None
    uncompared: int
    freshness: timedelta | None
    late: int
    deleted: int
    changed: int
    latest: timedelta
    lateness: tuple[int, ...]
    budget: tuple[Used, ...]
    runs: tuple[Run, ...]
    held: Held | None = None

    @property
    def gaps(self) -> tuple[Segment, ...]:
        return tuple(segment for segment in self.segments if segment.kind is Kind.GAP)

    @property
    def covered(self) -> list[tuple[datetime, datetime]]:
        """Covered ranges, joined where they touch."""
        ranges: list[tuple[datetime, datetime]] = []
        for segment in self.segments:
            if segment.kind is Kind.GAP:
                continue
            if ranges and ranges[-1][1] == segment.start:
                ranges[-1] = (ranges[-1][0], segment.end)
            else:
                ranges.append((segment.start, segment.end))
        return ranges

    def share(self, kind: Kind) -> float:
        """Share of the time between first and last covered moment that is of *kind*, 0 to 1."""
        total = sum((segment.end - segment.start for segment in self.segments), timedelta(0))
        mine = sum((segment.end - segment.start for segment in self.segments if segment.kind is kind), timedelta(0))
        return mine / total if total else 0.0


def summary(
    project_id: int,
    stream: str,
    ledger: Ledger,
    *,
    now: datetime,
    changes: Sequence[Change] = (),
    runs: Sequence[Run] = (),
    budget: Sequence[Used] = (),
) -> Summary:
    """Everything that `hedgerow status` says of one stream."""
    entries = sorted(ledger.entries.values(), key=lambda entry: entry.start)
    stretches = tuple(segments(entries))
    news = [change.changes for change in changes]
    # By the source's clock, which may be a little ahead of this machine's.
    mark = ledger.mark_at(max([now, *(entry.read_at for entry in entries)]))
    states = Counter(entry.shown for entry in entries)
    compared = [entry for entry in entries if entry.probed is not None and entry.probed.values != HEAVY]
    return Summary(
        project_id=project_id,
        stream=stream,
        windows=len(entries),
        states={state: states[state] for state in State if states[state]},
        rows=sum(entry.tally.landed_rows for entry in entries),
        quarantined=sum(entry.tally.quarantined_rows for entry in entries),
        suppressed=sum(entry.tally.suppressed_rows for entry in entries),
        copies=sum(entry.tally.copies for entry in entries),
        unmerged=sum(entry.facts.unmerged is not None for entry in entries),
        segments=stretches,
        days=tuple(days(entries, stretches)),
        mark=mark,
        compared_at=max((entry.probed.at for entry in compared if entry.probed), default=None),
        compared_until=max((_compared_until(entry) for entry in compared), default=None),
        uncompared=sum(entry.settled for entry in entries) - sum(entry.settled for entry in compared),
        freshness=max(now - mark, timedelta(0)) if mark else None,
        late=sum(found.late for found in news),
        deleted=sum(found.deleted for found in news),
        changed=sum(found.changed for found in news),
        latest=max((found.lateness for found in news if found.late), default=timedelta(0)),
        lateness=tuple(
            sum(found.late for found in news if low <= found.lateness < high) for low, high in _lateness_bounds()
        ),
        budget=tuple(budget),
        runs=tuple(runs),
    )


def _compared_until(entry: Entry) -> datetime:
    return entry.agreed.until if entry.agreed else entry.compared_until


def kind_of(entry: Entry) -> Kind:
    """What is known of the time of a window; it differs exactly where `hedgerow verify` says that it does."""
    return Kind.DIFFERS if entry.facts.grave else KINDS[entry.state]


def segments(entries: Sequence[Entry]) -> Iterator[Segment]:
    """The time that *entries*, which ascend, speak of, joined where neighbours are of one kind; what lies between is a gap."""
    held: Segment | None = None
    for entry in entries:
        kind = kind_of(entry)
        if held is not None and held.kind is kind and held.end == entry.covered_start:
            held = Segment(held.start, entry.covered_end, kind)
            continue
        if held is not None:
            yield held
            if held.end < entry.covered_start:
                yield Segment(held.end, entry.covered_start, Kind.GAP)
        held = Segment(entry.covered_start, entry.covered_end, kind)
    if held is not None:
        yield held


def days(entries: Sequence[Entry], stretches: Sequence[Segment]) -> Iterator[Day]:
    """Every UTC date that *stretches* touch, in order."""
    rows: dict[date, list[int]] = {}
    for entry in entries:
        rows.setdefault(entry.start.date(), []).append(entry.tally.landed_rows)
    for day, kind in _kinds(stretches).items():
        counts = rows.get(day, [])
        yield Day(day, sum(counts), len(counts), kind)


def _kinds(stretches: Sequence[Segment]) -> dict[date, Kind]:
    found: dict[date, Kind] = {}
    for segment in stretches:
        day = segment.start.date()
        while midnight(day) < segment.end:
            found[day] = worst(found.get(day, Kind.VERIFIED), segment.kind)
            day += DAY
    return found


def worst(*kinds: Kind) -> Kind:
    """What must be said first of a time that is of several kinds."""
    return max(kinds, key=lambda kind: _WORSE[kind])


def cells(stretches: Sequence[Segment], width: int) -> list[Kind]:
    """The time of *stretches* in *width* equal parts, each with its worst kind; empty where there is none."""
    if not stretches:
        return []
    start, end = stretches[0].start, stretches[-1].end
    part = (end - start) / width
    found = [Kind.VERIFIED] * width
    for segment in stretches:
        first = min(width - 1, int((segment.start - start) / part))
        last = min(width - 1, max(first, -int(-((segment.end - start) / part) // 1) - 1))
        for number in range(first, last + 1):
            found[number] = worst(found[number], segment.kind)
    return found


def _lateness_bounds() -> Iterator[tuple[timedelta, timedelta]]:
    low = timedelta(0)
    for _, high in LATENESS:
        yield low, high
        low = high


RUNS_SHOWN = 10
RUNS_SEARCHED = 1_000  # for the last ones of a stream that is synced seldom


def summaries(settings: Settings, listener: Listener | None = None) -> list[Summary]:
    """What the destination holds of every project that is set, or else of every project it knows, stream by stream.

    A project of which nothing is landed has one that says so.
    """
    sink = sink_of(settings, listener)
    return [
        one
        for project_id in settings.source.project_id or sink.projects()
        for one in _of_project(settings, sink, project_id)
    ]


def _of_project(settings: Settings, sink: Destination, project_id: int) -> list[Summary]:
    landed = [stream for stream in STREAMS if sink.origin(project_id, stream.name) is not None]
    if not landed:
        return [summary_of(settings, sink, project_id)]
    runs = sink.runs(project_id, limit=RUNS_SEARCHED)
    return [
        summary_of(settings, sink, project_id) if stream.ranged else _beside(sink, project_id, stream, runs)
        for stream in landed
    ]


def _beside(sink: Destination, project_id: int, stream: Stream, runs: Sequence[Run]) -> Summary:
    mine = [run for run in runs if run.stream == stream.name]
    there = held(sink, project_id, stream, mine)
    bare = summary(project_id, stream.name, Ledger(), now=now(), runs=mine[:RUNS_SHOWN])
    return replace(bare, rows=there.rows, held=there)


def summary_of(settings: Settings, sink: Destination, project_id: int) -> Summary:
    """What *sink* holds of one project's events, and what the key has used of its limits. Asks PostHog nothing."""
    return summary(
        project_id,
        STREAM,
        sink.ledger(project_id, STREAM),
        now=now(),
        changes=sink.changes(project_id, STREAM),
        runs=sink.runs(project_id, limit=RUNS_SHOWN),
        budget=_used(settings),
    )


def _used(settings: Settings) -> list[Used]:
    """What the key has used of its limits; empty where no key is set or nothing was asked yet."""
    if settings.source.key is None or not settings.source.state_dir.is_dir():
        return []
    key = settings.source.key.get_secret_value()
    budget, limits = pacing_of(settings, key, listener=Listener(), max_wait=None), limits_of(settings)
    return [
        Used(str(bucket), minute, limits[bucket].per_minute, hour, limits[bucket].per_hour)
        for bucket in (Bucket.LIST, Bucket.QUERY)
        for minute, hour in [budget.used(bucket)]
    ]
