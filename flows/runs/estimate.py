"""`hedgerow plan`: what a sync of a range would ask and land, before anything is asked in earnest. Lands nothing.

Counts come from POST /query where it answers; bytes from one page. The acting part stands first, the arithmetic below.
"""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from extractors.http.pacing import Limit, finished_in_s
from extractors.reading import questions
from extractors.reading.events import EventsReader, Sample
from extractors.reading.pace import MAX_SPAN
from extractors.reading.questions import Part
from extractors.reading.zone import HourCount
from extractors.request import Bucket
from extractors.window import Range
from flows.landing import groups, pipeline, plan
from flows.landing.due import PAGE_ROWS
from flows.landing.plan import Sweep, Target
from flows.landing.session import STREAM
from flows.runs.run import asked_range
from flows.runs.wiring import Listener, beyond_cloud, filter_of, reader_of, sink_of
from flows.settings.model import Settings
from sinks.entries import State
from sinks.ledger import Ledger

HOUR = timedelta(hours=1)
EACH_S = 0.35  # a page of 1,000 rows, asked and landed; only where no limit is reached does it matter
DISK_FACTOR = 1.1  # a DuckDB file against the same rows in gzip (facts/performance.md §4: 56 MB for 51 MB)
MOST_COUNTS = 8  # ranges counted one by one; more are counted at once, by whole hours


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one project's range would take. None is what nobody said: the source refuses queries, or shows no row.

    *windows*: how many are to be landed, by length in seconds; *landed_windows*: those of the range that are landed
    already. *rows_counted*: whether the source counted the rows, else they are guessed from a sample or unknown.
    *if_empty*: windows of a day that are cut where the date proves to have events, because nobody could count them.
    *queries_refused*: the source answers none, so none are planned. *seconds*: until the last request is through, under the
    limits in force and what the key has used of them. *idle*: the bounds that leave no range.
    """

    project_id: int
    since: datetime | None
    until: datetime | None
    windows: Mapping[int, int]
    if_empty: int
    landed_windows: int
    rows: int | None
    rows_counted: bool
    list_requests: int | None
    query_requests: int
    queries_refused: bool
    used_last_hour: int
    requests_per_minute: int
    requests_per_hour: int
    seconds: float | None
    download_bytes: int | None
    disk_bytes: int | None
    free_bytes: int | None
    idle: plan.Bounds | None = None

    @property
    def fits(self) -> bool:
        return self.disk_bytes is None or self.free_bytes is None or self.disk_bytes <= self.free_bytes


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run would do, and how much the source says there is: *rows* by hour of every sweep, None where it does not."""

    targets: Sequence[Target]
    sweeps: Sequence[Sweep]
    rows: Mapping[datetime, int] | None
    batches: Sequence[Sequence[Target]]


def of_project(
    settings: Settings, project_id: int, *, since: str | None, until: str | None, listener: Listener, queued: int = 0
) -> Estimate:
    """The estimate of one project. *queued*: list requests that go before, of other projects of the same key.

    Asks a handful of requests at most, whatever the range. Raises SettingsError, SourceError, SinkError, and refuses what
    a sync would refuse.
    """
    start, end, from_earliest = asked_range(since, until)
    sink = sink_of(settings, listener)
    sink.check(project_id, STREAM, host=settings.source.host, event_filter=filter_of(settings).identity)
    with reader_of(settings, project_id, listener=listener, max_wait=None) as (reader, client, budget):
        now = reader.now(first=sink.origin(project_id, STREAM) is None)
        ledger = plan.as_of(sink.ledger(project_id, STREAM), now, settle=settings.events.settle)
        start = reader.earliest() if from_earliest else start
        bounds = plan.bounds(ledger, since=start, until=end, now=now, settle=settings.events.settle)
        wanted = pipeline.reached(reader, bounds.range)
        work = _work(reader, ledger, wanted, now=now, settle=settings.events.settle)
        sample = reader.sample(_sampled(work)) if work.targets else Sample(0, 0, 0, whole=True)
        ages = budget.ages_s(Bucket.LIST)
        asked, refused = client.requests, bool(reader.probe.refusal)
    limit = Limit(settings.source.requests_per_minute, settings.source.requests_per_hour)
    rows, counted = _rows(work, sample)
    requests = None if rows is None else 1 + _pages(work, rows)
    return Estimate(
        project_id=project_id,
        since=wanted.start if wanted else None,
        until=wanted.end if wanted else None,
        windows=dict(Counter(int(target.window.duration.total_seconds()) for target in work.targets)),
        if_empty=sum(target.if_empty for target in work.targets),
        landed_windows=_landed(ledger, wanted, again={target.window.start for target in work.targets}),
        rows=rows,
        rows_counted=counted,
        list_requests=requests,
        query_requests=0 if refused else _queries(work, asked.get(Bucket.QUERY, 0)),
        queries_refused=refused,
        used_last_hour=len(ages),
        requests_per_minute=limit.per_minute,
        requests_per_hour=limit.per_hour,
        seconds=_seconds(ages, limit, queued=queued, requests=requests),
        download_bytes=_times(rows, sample.wire_bytes, sample.rows),
        disk_bytes=_times(rows, int(sample.packed_bytes * DISK_FACTOR), sample.rows),
        idle=None if bounds.range else bounds,
        free_bytes=shutil.disk_usage(_nearest(sink.home)).free if sink.home else None,
    )


def notes(settings: Settings) -> list[str]:
    """What is worth knowing of a plan, which is one of events whatever is synced."""
    included, beyond = settings.streams.include, beyond_cloud(settings)
    limits = [f"the time is more than this: {beyond}"] if beyond else []
    if STREAM in included:
        return limits
    return [
        *limits,
        f"events are not in [streams] include ({', '.join(included)}): this is what hedgerow sync events would land, "
        "and hedgerow sync alone does not",
    ]


def _seconds(ages: Sequence[float], limit: Limit, *, queued: int, requests: int | None) -> float | None:
    """How long *requests* last under the limit, after those that are queued."""
    if requests is None:
        return None
    before, after = (finished_in_s(ages, limit, requests=count, each_s=EACH_S) for count in (queued, queued + requests))
    return None if before is None or after is None else round(after - before, 1)


def _work(reader: EventsReader, ledger: Ledger, wanted: Range | None, *, now: datetime, settle: timedelta) -> _Work:
    hours: Mapping[datetime, HourCount] = {}
    targets = plan.unfinished(ledger, wanted, now=now, settle=settle)
    if wanted is not None:
        hours, steps = pipeline.steps(reader, ledger, wanted, now=now)
        targets += plan.targets(ledger, steps, wanted, now=now, settle=settle)
        targets.sort(key=lambda target: target.reads.start)
    if not targets:
        return _Work([], [], {}, [])
    batches = list(pipeline.batches(targets, hours))
    sweeps = [sweep for batch in batches for sweep in plan.sweeps(batch)]
    return _Work(targets, sweeps, _counts(reader, sweeps), batches)


def _counts(reader: EventsReader, sweeps: Sequence[Sweep]) -> Mapping[datetime, int] | None:
    """Rows by hour of all *sweeps*; an hour is named by its start, or by the sweep's where that cuts it."""
    found: dict[datetime, int] = {}
    ranges = list(questions.joined(sweep.range for sweep in sweeps))
    if len(ranges) > MOST_COUNTS:
        hull = Range(ranges[0].start.replace(minute=0, second=0, microsecond=0), ranges[-1].end)
        counts = reader.probe.hour_counts(hull)
        return None if counts is None else {hour: c.rows for hour, c in counts.items() if _inside(hour, ranges)}
    for rng in ranges:
        counts = reader.probe.hour_counts(rng)
        if counts is None:
            return None
        found |= {hour: count.rows for hour, count in counts.items()}
    return found


def _sampled(work: _Work) -> Range:
    """Where to take a page from: the first sweep, from its first rows on where those are known."""
    rng = work.sweeps[0].range
    first = min((hour for hour, rows in (work.rows or {}).items() if rows), default=rng.start)
    return Range(max(rng.start, first), max(rng.end, first + HOUR))


def _inside(hour: datetime, ranges: Sequence[Range]) -> bool:
    return any(rng.overlap(Range(hour, hour + HOUR)) for rng in ranges)


def _rows(work: _Work, sample: Sample) -> tuple[int | None, bool]:
    """Rows to land, and whether they are counted and not guessed."""
    if work.rows is not None:
        return sum(work.rows.values()), True
    if sample.whole and len(work.sweeps) == 1:
        return sample.rows, True
    known = [target.previous.tally.source_rows for target in work.targets if target.previous is not None]
    return (sum(known), False) if len(known) == len(work.targets) else (None, False)


def _pages(work: _Work, rows: int) -> int:
    if work.rows is None:
        return len(work.sweeps) + -(-rows // PAGE_ROWS)
    return sum(pages(sweep, work.rows) for sweep in work.sweeps)


def pages(sweep: Sweep, rows: Mapping[datetime, int], *, page_rows: int = PAGE_ROWS) -> int:
    """Requests that reading *sweep* takes (design.md, Sweep), if the *rows* of every hour are spread evenly over it."""
    line = _Line(rows)
    window_end = plan.window_ends(sweep.targets)
    cursor, end = sweep.range.start, sweep.range.end
    span = window_end(cursor) - cursor
    asked = 0
    while cursor < end:
        until = min(end, cursor + min(span, MAX_SPAN))
        asked += 1
        last = line.after(cursor, page_rows)
        if last is None or last >= until:
            cursor, span = until, min(MAX_SPAN, (until - cursor) * 2)
            continue
        last = max(last, cursor + timedelta(microseconds=1))
        span = max(window_end(last) - last, (last - cursor) * 2)
        cursor = last
    return asked


class _Line:
    """Rows over time, even within each hour."""

    def __init__(self, rows: Mapping[datetime, int]) -> None:
        self._hours = sorted(hour for hour, count in rows.items() if count)
        self._counts = [rows[hour] for hour in self._hours]
        self._before = [0]
        for count in self._counts:
            self._before.append(self._before[-1] + count)

    def after(self, at: datetime, count: int) -> datetime | None:
        """When *count* rows from *at* on have passed; None if there are fewer."""
        target = self._at(at) + count
        index = bisect_right(self._before, target) - 1
        if index >= len(self._hours):
            return None
        return self._hours[index] + HOUR * ((target - self._before[index]) / self._counts[index])

    def _at(self, at: datetime) -> float:
        """Rows before *at*."""
        index = bisect_right(self._hours, at) - 1
        if index < 0:
            return 0.0
        return self._before[index] + self._counts[index] * min(1.0, (at - self._hours[index]) / HOUR)


def _queries(work: _Work, asked: int) -> int:
    """Queries of a run: those that planning asks as this did, and the probe before and after each batch."""
    rows = work.rows or {}
    counts = asked - min(asked, len(list(questions.joined(sweep.range for sweep in work.sweeps))))
    parts = (
        [Part(target.window, target.covers, groups.expected_rows(target, rows)) for target in batch if _settles(target)]
        for batch in work.batches
    )
    return counts + sum(2 * len(list(questions.batches(batch))) for batch in parts)


def _settles(target: Target) -> bool:
    return target.state is State.LANDED


def _landed(ledger: Ledger, wanted: Range | None, *, again: Collection[datetime]) -> int:
    """Windows of the range that are landed and not to be landed *again*, which names their starts."""
    if wanted is None:
        return 0
    return sum(
        wanted.overlap(Range(entry.start, entry.end)) is not None
        for start, entry in ledger.entries.items()
        if start not in again
    )


def _times(rows: int | None, size: int, of: int) -> int | None:
    return None if rows is None else 0 if not rows else None if not of else rows * size // of


def _nearest(directory: Path) -> Path:
    """*directory*, or what exists above it."""
    return next(path for path in (directory, *directory.parents) if path.exists())
