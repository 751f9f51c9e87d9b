"""Runs the real pipeline over real HTTP into a destination; shared by the tests of the rooms' seams."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter, itemgetter
from pathlib import Path

import pyarrow as pa

from extractors.filters import EventFilter
from extractors.http import pacing
from extractors.http.client import Client, Source
from extractors.http.exchange import Way
from extractors.http.pacing import Limit, Pacing
from extractors.http.retry import Patience
from extractors.reading.events import EventsReader
from extractors.request import Bucket
from extractors.simulator.data.dataset import Event
from extractors.simulator.profiles import CLOUD
from flows.landing import audit, pipeline
from flows.landing.outcome import Log, Outcome
from flows.landing.session import STREAM, Held, Order, Session
from flows.landing.verification import Verification
from sinks.sink import Sink

UNLIMITED = replace(CLOUD, per_minute=None, per_hour=None, query_per_minute=None, query_per_hour=None)
IMPATIENT = Patience(
    attempts=6,
    total_s=20,
    first_s=0.01,
    longest_s=0.05,
    server_error_waits_s=(0.01, 0.01, 0.01),
    foreign_answer_waits_s=(0.01, 0.01),
)
SETTLE = timedelta(minutes=10)
COLUMNS = ["uuid", "event", "distinct_id", "timestamp", "properties", "elements_chain"]
DIRECT = Way(trust=ssl.create_default_context())  # read once: authorities, which no test server has, cost 16 ms
ORDER = [(name, "ascending") for name in ("timestamp", "uuid", "event", "distinct_id")]
WHOLE = Held()


def sync(
    url: str,
    key: str,
    sink: Sink,
    directory: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    events: EventFilter | None = None,
    rebuild: bool = False,
    settle: timedelta = SETTLE,
    marks: bool = True,
    accept_deletions: bool = False,
    log: Log | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    held: Held = WHOLE,
) -> tuple[Outcome, dict[str, int]]:
    """One sync of project 1 by the local *clock*.

    Gives the outcome, for which *log* has the facts after an error too, and the requests by bucket.
    """
    events = events or EventFilter()
    sink.prepare(1, STREAM, host=url, event_filter=events.identity, rebuild=rebuild)
    log = log or Log()
    with unhindered(url, key, directory) as client:
        order = Order(1, since, until, settle, marks=marks, accept_deletions=accept_deletions)
        session = Session(order, sink, directory, clock, held=held)
        pipeline.run(session, EventsReader(client, 1, events=events), log)
    return log.outcome(), {str(bucket): count for bucket, count in client.requests.items()}


def verify(
    url: str, key: str, sink: Sink, directory: Path, *, repair: bool = False, accept_deletions: bool = False
) -> Verification:
    """Everything of project 1 that is landed, compared with the destination and the source."""
    sink.prepare(1, STREAM, host=url, event_filter="", rebuild=False)
    with unhindered(url, key, directory) as client:
        order = Order(1, None, None, SETTLE, marks=False, accept_deletions=accept_deletions)
        session = Session(order, sink, directory, lambda: datetime.now(UTC))
        reader = EventsReader(client, 1, events=EventFilter())
        return audit.run(session, reader, Log(), repair=repair, detail=False)


@contextmanager
def unhindered(url: str, key: str, directory: Path) -> Iterator[Client]:
    """A client that no limit holds up and that waits for nothing long."""
    plenty = Limit(10**6, 10**6)
    budget = Pacing(
        directory / "state",
        host=url,
        key=key,
        limits={Bucket.LIST: plenty, Bucket.QUERY: plenty, Bucket.VALUES: pacing.VALUES, Bucket.REST: pacing.REST},
    )
    client = Client(Source(url, key), budget, patience=IMPATIENT, ways=lambda address: DIRECT)
    try:
        yield client
    finally:
        client.close()


def landed(sink: Sink, start: datetime, end: datetime) -> list[tuple[object, ...]]:
    """Landed rows as plain tuples, in the order of the truth."""
    rows = sink.rows(1, start, end)
    return tuples(rows.select(COLUMNS).sort_by(ORDER)) if rows.num_rows else []


_VALUES, _IN_ORDER = attrgetter(*COLUMNS), itemgetter(3, 0, 1, 2)


def tuples(rows: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in COLUMNS), strict=True))


def truth(events: Iterable[Event], start: datetime, end: datetime) -> list[tuple[object, ...]]:
    """What the destination must hold of [start, end), row by row."""
    return sorted((_VALUES(event) for event in events if start <= event.timestamp < end), key=_IN_ORDER)
