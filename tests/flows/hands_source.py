"""The source that many hands read: the bundled simulator with a clock, moods and a memory of what it showed when.

One server per test process, used by one history after the other. Only one writer is under way at a time, so that each
answer can be put down to the one who asked.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from unittest import mock

from starlette.requests import Request
from starlette.responses import Response

from extractors.simulator import server
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.http import app
from extractors.simulator.profiles import CLOUD, Profile
from extractors.window import Range

NO_LIMITS = {"per_minute": None, "per_hour": None, "query_per_minute": None, "query_per_hour": None}
BOUNDS = re.compile(
    r"timestamp >= toDateTime64\('([^']+)', 6, 'UTC'\) AND timestamp < toDateTime64\('([^']+)', 6, 'UTC'\)"
)
PROBE = "sum(x)"  # what only the question about windows asks
EVENTS = ("view", "click", "buy")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer about windows: who asked, when (Source.tick), of what, and which version of the dataset said it."""

    who: str
    tick: int
    version: int
    ranges: tuple[Range, ...]


class Moods:
    """A profile whose `query_allowed` may change while it is served."""

    def __init__(self, profile: Profile) -> None:
        self.profile, self.query_allowed = profile, True

    def __getattr__(self, name: str) -> object:
        return getattr(self.profile, name)


class Source:
    """What the writers ask. *versions*: what the dataset showed at each of its versions, in this history.

    *granted*: /query is answered. *heavy*: an instant, and the longest range around it that /query counts in time.
    *wrong_date*: added to the Date header of the next list answer. *who* is under way; *refused* were told no;
    *too_heavy*: who met which heavy instant.
    """

    def __init__(self) -> None:
        self.dataset = Dataset()
        self.moods = Moods(replace(CLOUD, **NO_LIMITS))
        self.on_start: Callable[[], None] = lambda: None
        self.url, self.key = "", ""
        self.begin(datetime(2026, 3, 10, 6, tzinfo=UTC), page_rows=20)

    def begin(self, now: datetime, *, page_rows: int) -> None:
        """An empty project, and nothing remembered."""
        self.dataset.delete({event.uuid for event in self.dataset.events})
        self.moods.profile = replace(self.moods.profile, page_cap=page_rows)
        self.now, self.granted, self.heavy, self.wrong_date = now, True, None, timedelta(0)
        self.clock_ahead = timedelta(0)
        self.who, self.tick = "", 0
        self.answers: list[Answer] = []
        self.refused: set[str] = set()
        self.too_heavy: list[tuple[str, datetime]] = []
        self.versions: dict[int, tuple[Event, ...]] = {}
        self.hidden: list[Event] = []
        self._made = 0
        self._rng = random.Random(1)
        self.remember()
        self.on_start()

    def remember(self) -> None:
        self.versions[self.dataset.version] = self.dataset.events

    def shown(self, version: int, rng: Range) -> list[Event]:
        """What the source showed of *rng* at a version."""
        return [event for event in self.versions[version] if rng.start <= event.timestamp < rng.end]

    def since(self, version: int) -> list[int]:
        """Versions from *version* to now."""
        return [number for number in self.versions if number >= version]

    @property
    def granted(self) -> bool:
        return self.moods.query_allowed

    @granted.setter
    def granted(self, value: bool) -> None:
        self.moods.query_allowed = value

    # --- what changes

    def event(self, at: datetime) -> Event:
        """A new event that the source received just now."""
        self._made += 1
        rng = self._rng
        uuid = f"{rng.getrandbits(32):08x}-0000-4000-8000-{self._made:012x}"
        name, user = rng.choice(EVENTS), f"user-{rng.randrange(9)}"
        return Event(uuid, name, user, at, f'{{"n":{self._made}}}', "", self.stamp())

    def stamp(self) -> datetime:
        """The server's clock, never the same twice."""
        self._made += 1
        return self.now + timedelta(microseconds=self._made)

    def pass_time(self, span: timedelta, *, events: int) -> None:
        """The clock goes on, and *events* happen meanwhile."""
        start = self.now
        self.now += span
        self.happen(start, self.now, events)

    def happen(self, start: datetime, end: datetime, events: int) -> None:
        """*events* at moments of [start, end), every fifth at the moment of the one before."""
        micros = (end - start) // timedelta(microseconds=1)
        at, made = start, []
        for number in range(events):
            if number % 5 != 4:
                at = start + timedelta(microseconds=self._rng.randrange(micros))
            made.append(self.event(at))
        self.show(made)

    def show(self, events: list[Event]) -> None:
        if events:
            self.dataset.add(events)
            self.remember()

    def delete(self, uuids: set[str]) -> None:
        if uuids:
            self.dataset.delete(uuids)
            self.remember()

    def move(self, event: Event, to: datetime) -> None:
        """The same event at another time of its day, received anew."""
        self.dataset.delete({event.uuid})
        self.show([replace(event, timestamp=to, created_at=self.stamp())])

    def change(self, event: Event) -> None:
        """The same event with other properties, received anew."""
        stamp = self.stamp()
        self.dataset.add([replace(event, properties=f'{{"changed":{self._made}}}', created_at=stamp)])
        self.dataset.merge()
        self.remember()

    def copy(self, event: Event) -> None:
        """A second, different copy of one event, which is not merged yet."""
        stamp = self.stamp()
        self.show([replace(event, properties=f'{{"copied":{self._made}}}', created_at=stamp)])

    def merge(self) -> None:
        self.dataset.merge()
        self.remember()

    def hide(self, events: list[Event]) -> None:
        """An outage: *events* are not shown until it ends."""
        self.hidden += events
        self.delete({event.uuid for event in events})

    def end_outage(self) -> None:
        hidden, self.hidden = self.hidden, []
        self.show(hidden)

    # --- what is asked

    def query(self, body: bytes, answer: Callable[[], Response]) -> Response:
        """Answers a query as the moods are, and remembers what was told about windows."""
        text = str(json.loads(body)["query"].get("query", ""))
        if not self.granted:
            self.refused.add(self.who)
            return answer()
        if PROBE not in text:
            return answer()
        ranges = tuple(Range(_utc(start), _utc(end)) for start, end in BOUNDS.findall(text))
        if self.heavy is not None:
            at, longest = self.heavy
            if any(rng.start <= at < rng.end and rng.duration > longest for rng in ranges):
                self.too_heavy.append((self.who, at))
                return Response(b"", 504)
        told = answer()
        self.tick += 1
        self.answers.append(Answer(self.who, self.tick, self.dataset.version, ranges))
        return told


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@contextmanager
def serving(source: Source) -> Iterator[None]:
    """The simulator answers for *source* until the block ends."""

    class Answering(app.App):
        """The application, which tells the source of queries and takes its word for the date."""

        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            source.on_start = self.forget

        def forget(self) -> None:
            """What one history must not hand to the next: requests counted, the order of ties."""
            self._simulator.requests.clear()
            for project in self._projects.values():
                project.listing.rng, project.query.cache = random.Random(7), {}

        def _query(self, asked, project) -> Response:  # type: ignore[no-untyped-def]
            return source.query(asked.body, lambda: super(Answering, self)._query(asked, project))

        async def _handle(self, request: Request) -> Response:
            response = await super()._handle(request)
            if source.clock_ahead:
                response.headers["Date"] = format_datetime(source.now + source.clock_ahead, usegmt=True)
            if source.wrong_date and request.method == "GET":
                wrong, source.wrong_date = source.now + source.wrong_date, timedelta(0)
                response.headers["Date"] = format_datetime(wrong, usegmt=True)
            return response

    with (
        mock.patch.object(server, "App", Answering),
        server.serve(source.dataset, profile=source.moods, now=lambda: source.now) as simulator,
    ):
        source.url, source.key = simulator.url, simulator.key
        yield
