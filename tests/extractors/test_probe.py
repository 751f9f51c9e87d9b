"""The probe: the same numbers from HogQL in DuckDB, in the real ClickHouse engine and in polars; no answer that may be cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from extractors import decode, errors, probe, queries
from extractors.client import Client, Source
from extractors.pacing import Limit, Pacing
from extractors.probe import Part, Probe, Seen
from extractors.queries import Bucket, EventFilter
from extractors.simulator.dataset import Dataset, Event
from extractors.simulator.faults import Faults, Heavy
from extractors.simulator.rows import row
from extractors.simulator.server import serve
from extractors.window import MICROSECOND, Range, Window
from tests.flows.harness import IMPATIENT, UNLIMITED
from tests.second_server.rows import Row
from tests.second_server.server import second_server
from transforms import events as rows_of
from transforms import privacy

LEAP = datetime(2024, 2, 29, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANY = EventFilter()


def event(number: int, at: datetime, name: str = "näme 🦔", who: str = "d", *, age: timedelta = HOUR) -> Event:
    uuid = f"01890a5d-ac96-774b-bcce-{number * 0x10000001:012x}"
    return Event(uuid, name, who, at, f'{{"n":{number}}}', "", at + age)


# Both edges of windows, a tie, an unmerged copy, one uuid on two events, letters of several bytes, an empty id, a leap
# day, midnight.
EVENTS = [
    event(1, LEAP),
    event(2, LEAP + HOUR - MICROSECOND),
    event(3, LEAP + HOUR),
    event(4, LEAP + HOUR, who=""),
    event(4, LEAP + HOUR, name='it\'s \\ "data"', who="ünï"),
    event(5, LEAP + 5 * HOUR),
    event(5, LEAP + 5 * HOUR, age=2 * HOUR),
    event(6, LEAP + DAY - MICROSECOND, age=DAY),
    event(7, LEAP + DAY),
    event(0xFFFFF, LEAP + DAY + 6 * HOUR + MICROSECOND),
]
HOURS = [
    Part(Window(LEAP + n * HOUR, LEAP + (n + 1) * HOUR), Range(LEAP + n * HOUR, LEAP + (n + 1) * HOUR), 9)
    for n in range(24)
]
QUARTERS = [
    Part(Window(at, at + 6 * HOUR), Range(at, at + 6 * HOUR), 9) for at in (LEAP + DAY + n * 6 * HOUR for n in range(4))
]
PARTS = [*HOURS, *QUARTERS]
VECTOR = "3:2952790027:10800000000:1761942664322:143934598/21600000000:1709172000000000"
"""What the source says of the hour of three events: docs/ledger.md tells the sums."""


def client(url: str, key: str, directory: Path, transport: httpx.BaseTransport | None = None) -> Client:
    plenty = Limit(10**6, 10**6)
    budget = Pacing(directory, host=url, key=key, limits=dict.fromkeys(Bucket, plenty))
    return Client(Source(url, key), budget, patience=IMPATIENT, transport=transport)


@pytest.fixture(params=["simulator", "ClickHouse"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Probe]:
    """A probe of EVENTS at a server whose project is not in UTC."""
    with ExitStack() as stack:
        if request.param == "simulator":
            kolkata = replace(UNLIMITED, project_timezone="Asia/Kolkata")
            server = stack.enter_context(serve(Dataset(EVENTS), profile=kolkata))
        else:
            rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, "", e.created_at) for e in EVENTS]
            server = stack.enter_context(second_server(rows))
        made = client(server.url, server.key, tmp_path)
        stack.callback(made.close)
        yield Probe(made, 1, events=ANY)


def expected(part: Part) -> Seen:
    """The source side of *part* by transforms, from the list's own bytes."""
    inside = [e for e in EVENTS if part.covers.start <= e.timestamp < part.covers.end]
    body = b'{"next":null,"results":[%s]}' % b",".join(row(e, None, UNLIMITED) for e in inside)
    page = decode.page(body)
    staged = rows_of.from_page(page.rows, project_id=1, loaded_at=LEAP, rules=privacy.Rules())
    latest: dict[tuple[object, ...], int] = {}
    for e in inside:
        assert e.created_at is not None
        key = (e.uuid, e.event, e.distinct_id, e.timestamp)
        latest[key] = max(latest.get(key, 0), (e.created_at - queries.EPOCH) // MICROSECOND)
    digest = rows_of.settled(staged).source
    created = (
        f"{sum(micros % (DAY // MICROSECOND) for micros in latest.values()) % 2**64}:{max(latest.values(), default=0)}"
    )
    return Seen(digest.count, str(digest), created)


def test_probe_is_the_same_in_hogql_clickhouse_and_polars(asked):
    """Two steps in one question, a project zone that is not UTC: count, digest and created_at of every window agree."""
    found = asked.windows(PARTS)

    assert found == {part.window.start: expected(part) for part in PARTS}
    assert not asked.refusal


def test_probe_of_a_known_window_is_a_known_text(asked):
    """The vector, fixed for all versions: what is in ledgers stays comparable."""
    found = asked.windows(HOURS)

    assert str(found[LEAP + HOUR]) == VECTOR


def test_part_of_a_window_is_counted_as_far_as_it_is_covered(asked):
    """A range that cuts a window is asked for as it is."""
    window = Window(LEAP, LEAP + DAY)
    part = Part(window, Range(LEAP + HOUR - MICROSECOND, LEAP + HOUR), 1)

    assert asked.windows([part])[LEAP].rows == 1


def test_filter_is_part_of_the_question(asked):
    """What the stream leaves out is not counted, whatever its name."""
    named = EventFilter(exclude=('it\'s \\ "data"',))
    filtered = Probe(asked._client, 1, events=named)

    assert asked.windows(HOURS)[LEAP + HOUR].rows == 3
    assert filtered.windows(HOURS)[LEAP + HOUR].rows == 2


def test_what_lies_outside_is_counted_and_dated(asked):
    """Before, between and after the ranges asked about, to the microsecond."""
    found = asked.outside([Range(LEAP + HOUR, LEAP + 2 * HOUR), Range(LEAP + DAY, LEAP + DAY + HOUR)])

    assert [(part.where, part.rows, part.first, part.last) for part in found] == [
        ("before", 2, LEAP, LEAP + HOUR - MICROSECOND),
        ("between", 3, LEAP + 5 * HOUR, LEAP + DAY - MICROSECOND),
        ("after", 1, LEAP + DAY + 6 * HOUR + MICROSECOND, LEAP + DAY + 6 * HOUR + MICROSECOND),
    ]


def answering(body: Callable[[int], dict[str, object]], directory: Path) -> tuple[Probe, list[str]]:
    """A probe of a server that answers *body*, which gets the LIMIT; and the queries sent."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        assert asked["refresh"] == "force_blocking"
        sent.append(asked["query"]["query"])
        text = json.dumps(body(int(sent[-1].rsplit("LIMIT", 1)[1])))
        return httpx.Response(200, stream=httpx.ByteStream(text.encode()))

    made = client("http://source.example", "phx_1", directory, httpx.MockTransport(answer))
    return Probe(made, 1, events=ANY), sent


ROW = [0, 0, 1, 1, 1, 1, 1, 1, 1]
REFUSED = [
    pytest.param(lambda limit: {"results": [ROW], "is_cached": True}, id="cached"),
    pytest.param(lambda limit: {"results": [ROW], "hasMore": True}, id="has more"),
]


@pytest.mark.parametrize("body", REFUSED)
def test_answer_that_may_be_old_or_cut_proves_nothing(body, tmp_path):
    """It counts as no answer, and is said to be one."""
    asked, _ = answering(body, tmp_path)

    assert asked.windows(HOURS) is None
    assert asked.refusal


def test_answer_as_long_as_its_limit_is_refused(tmp_path):
    """The LIMIT is above the windows asked, so an answer that fills it may be cut."""
    asked, sent = answering(lambda limit: {"results": [[0, n, *ROW[2:]] for n in range(limit)]}, tmp_path)

    with pytest.raises(errors.UnusableAnswer, match="25 windows where 24"):
        asked.windows(HOURS)
    assert sent[0].endswith("LIMIT 25")


def test_window_that_was_not_asked_for_is_refused(tmp_path):
    """A probe that answers another question is no proof."""
    asked, _ = answering(lambda limit: {"results": [[3, 0, *ROW[2:]]]}, tmp_path)

    with pytest.raises(errors.UnusableAnswer, match="not asked for"):
        asked.windows(HOURS)


def test_every_date_function_names_utc(tmp_path):
    """No constant and no function is left to the project's time zone."""
    asked, sent = answering(lambda limit: {"results": []}, tmp_path)
    asked.windows(PARTS)
    asked.outside([PARTS[0].covers])
    asked.hour_counts(PARTS[0].covers)

    assert len(sent) == 3
    for text in sent:
        assert text.count("toDateTime64(") == text.count(", 6, 'UTC')") > 0
        assert not any(name in text for name in ("toStartOf", "toDate(", "toDateTime(", "now(", "today("))
        assert "LIMIT" in text


def test_batches_hold_few_rows_few_windows_and_few_pieces():
    """2M expected rows, fewer windows than the server's largest LIMIT, and a query's text of bounded length."""
    many = [replace(HOURS[0], expected=500_000)] * 9
    gaps = [part for part in PARTS * 9 if part.window.start.hour % 2]

    assert [len(batch) for batch in probe.batches(many)] == [4, 4, 1]
    assert max(len(list(probe.joined(part.covers for part in batch))) for batch in probe.batches(gaps)) <= 40


HEAVY = [
    pytest.param(Heavy(rows=7), (True, False), id="more rows than that"),
    pytest.param(Heavy(rows=8), (False, False), id="as many rows"),
    pytest.param(Heavy("512", start=LEAP + HOUR, end=LEAP + HOUR + MICROSECOND), (True, False), id="rows of a µs"),
    pytest.param(Heavy("513", start=LEAP + 2 * HOUR, end=LEAP + 3 * HOUR), (False, False), id="no row of that hour"),
    pytest.param(Heavy("504-html", start=LEAP), (True, True), id="rows since"),
]


@pytest.mark.parametrize(("heavy", "refused"), HEAVY)
def test_simulated_query_is_too_heavy_by_the_rows_it_reads(heavy, refused, tmp_path):
    """Eight rows of a day and one of its last hours are read, whatever the query then makes of them."""
    odd = EventFilter(exclude=("'OR(1) -- GROUP BY",))
    asked = [Range(LEAP, LEAP + DAY), Range(LEAP + 20 * HOUR, LEAP + DAY)]
    found: list[str] = []
    with serve(Dataset(EVENTS), profile=UNLIMITED, faults=Faults((), heavy=(heavy,))) as server:
        sender = client(server.url, server.key, tmp_path)
        for rng in asked:
            try:
                sender.send(replace(queries.identity_count(1, rng, events=odd), divisible=True))
                found.append("")
            except errors.RangeTooHeavy as exc:
                found.append(str(exc))
        sender.close()

    assert [heavy.kind[:3] in text for text in found] == list(refused)
