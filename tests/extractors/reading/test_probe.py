"""The probe: the same numbers from HogQL in DuckDB, in the real ClickHouse engine and in polars; no answer that may be cut.

One window's weight is no other's, and what passes is no refusal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from extractors import errors, hogql
from extractors.filters import EventFilter
from extractors.hogql import Dialect
from extractors.http import decode
from extractors.http.client import Client, Source
from extractors.http.pacing import Limit, Pacing
from extractors.reading import questions
from extractors.reading.probe import Probe
from extractors.reading.questions import Answers, Part, Seen
from extractors.request import Bucket
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.data.rows import row
from extractors.simulator.faults import Fault, Faults, Heavy
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import Simulator, serve
from extractors.window import EPOCH, MICROSECOND, Range, Window
from tests.flows.harness import IMPATIENT, UNLIMITED
from tests.second_server.rows import Row
from tests.second_server.server import second_server
from transforms import events as rows_of

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


PROFILES = {"simulator of 2026": UNLIMITED, "simulator of 2023": OLD_2023}


@pytest.fixture(params=[*PROFILES, "ClickHouse"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Probe]:
    """A probe of EVENTS at a server whose project is not in UTC; its dialect is known."""
    with ExitStack() as stack:
        if request.param in PROFILES:
            kolkata = replace(PROFILES[request.param], project_timezone="Asia/Kolkata")
            server = stack.enter_context(serve(Dataset(EVENTS), profile=kolkata))
        else:
            rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, "", e.created_at) for e in EVENTS]
            server = stack.enter_context(second_server(rows))
        made = client(server.url, server.key, tmp_path)
        stack.callback(made.close)
        probe = Probe(made, 1, events=ANY)
        assert probe.first_time() == (LEAP,)
        made.requests.clear()
        yield probe


def expected(part: Part, events: Sequence[Event] = EVENTS, *, until: datetime | None = None) -> Seen:
    """The source side of *part*, or of what of it lies before *until*, by transforms, from the list's own bytes."""
    inside = [e for e in events if part.covers.start <= e.timestamp < (until or part.covers.end)]
    body = b'{"next":null,"results":[%s]}' % b",".join(row(e, None, UNLIMITED) for e in inside)
    page = decode.page(body)
    staged = rows_of.from_page(page.rows, project_id=1, loaded_at=LEAP)
    latest: dict[tuple[object, ...], int] = {}
    for e in inside:
        assert e.created_at is not None
        key = (e.uuid, e.event, e.distinct_id, e.timestamp)
        latest[key] = max(latest.get(key, 0), (e.created_at - EPOCH) // MICROSECOND)
    digest = rows_of.settled(staged).source
    created = (
        f"{sum(micros % (DAY // MICROSECOND) for micros in latest.values()) % 2**64}:{max(latest.values(), default=0)}"
    )
    return Seen(digest.count, str(digest), created)


def test_probe_is_the_same_in_hogql_clickhouse_and_polars(asked):
    """Two steps in one question, a project zone that is not UTC: count, digest and created_at of every window agree."""
    found = asked.windows(PARTS)

    assert found == Answers({part.window.start: expected(part) for part in PARTS}, {})
    assert not asked.refusal


def test_probe_of_a_known_window_is_a_known_text(asked):
    """The vector, fixed for all versions: what is in ledgers stays comparable."""
    found = asked.windows(HOURS)

    assert str(found.seen[LEAP + HOUR]) == VECTOR


def test_part_of_a_window_is_counted_as_far_as_it_is_covered(asked):
    """A range that cuts a window is asked for as it is."""
    window = Window(LEAP, LEAP + DAY)
    part = Part(window, Range(LEAP + HOUR - MICROSECOND, LEAP + HOUR), 1)

    assert asked.windows([part]).seen[LEAP].rows == 1


def test_filter_is_part_of_the_question(asked):
    """What the stream leaves out is not counted, whatever its name."""
    named = EventFilter(exclude=('it\'s \\ "data"',))
    filtered = Probe(asked._client, 1, events=named)

    assert asked.windows(HOURS).seen[LEAP + HOUR].rows == 3
    assert filtered.windows(HOURS).seen[LEAP + HOUR].rows == 2


SPLITS = {
    HOURS[0]: LEAP + HOUR - MICROSECOND,  # the microsecond of its last event
    HOURS[1]: LEAP + HOUR + MICROSECOND,  # behind all its events
    HOURS[2]: LEAP + 2 * HOUR + HOUR / 3,  # it has no event
    HOURS[5]: LEAP + 5 * HOUR + HOUR / 2,
    HOURS[23]: LEAP + DAY - MICROSECOND,  # the last microsecond of the day
    QUARTERS[1]: LEAP + DAY + 6 * HOUR + MICROSECOND,  # the microsecond of its only event
}


def test_one_question_also_tells_what_lies_before_the_splits(asked):
    """Six windows of two steps, each split elsewhere, among others that are not split: whole and first part agree."""
    parts = [replace(part, split=SPLITS.get(part)) for part in PARTS]

    found = asked.windows(parts)

    assert found.seen == {part.window.start: expected(part) for part in PARTS}
    assert found.early == {part.window.start: expected(part, until=split) for part, split in SPLITS.items()}
    assert [seen.rows for seen in found.early.values()] == [1, 3, 0, 1, 0, 0]
    assert asked._client.requests == {"query": 1}


def test_parts_of_a_window_add_up(asked):
    """Counts and sums of two parts are those of both, the latest creation is the later; nothing adds nothing."""
    window = Window(LEAP, LEAP + 6 * HOUR)
    cuts = [LEAP, LEAP + HOUR, LEAP + 2 * HOUR, window.end]
    parts = [Part(window, Range(start, end), 9) for start, end in pairwise(cuts)]
    one, other, last = (asked.windows([part]).seen[LEAP] for part in parts)

    assert one + other + last == last + one + other == expected(Part(window, window, 9))
    assert one + Seen() == Seen() + one == one


def test_sums_of_parts_stay_within_64_bits():
    """As they do in the ledger, where both are compared as text."""
    most = Seen(1, f"1:{2**64 - 1}:2:3:4", f"{2**64 - 1}:5")

    assert most + most == Seen(2, f"2:{2**64 - 2}:4:6:8", f"{2**64 - 2}:5")


def test_latest_creation_is_a_time(asked):
    """Of a window without events there is none."""
    found = asked.windows(HOURS).seen

    assert found[LEAP + 5 * HOUR].latest == LEAP + 7 * HOUR
    assert found[LEAP + 2 * HOUR].latest is None


@pytest.mark.parametrize("split", [LEAP, LEAP + HOUR, LEAP - HOUR])
def test_split_lies_inside_what_is_asked(split):
    """At an edge there are no two parts."""
    with pytest.raises(ValueError, match="split"):
        replace(HOURS[0], split=split)


def test_what_lies_outside_is_counted_and_dated(asked):
    """Before, between and after the ranges asked about, to the microsecond."""
    found = asked.outside([Range(LEAP + HOUR, LEAP + 2 * HOUR), Range(LEAP + DAY, LEAP + DAY + HOUR)])

    assert [(part.where, part.rows, part.first, part.last) for part in found] == [
        ("before", 2, LEAP, LEAP + HOUR - MICROSECOND),
        ("between", 3, LEAP + 5 * HOUR, LEAP + DAY - MICROSECOND),
        ("after", 1, LEAP + DAY + 6 * HOUR + MICROSECOND, LEAP + DAY + 6 * HOUR + MICROSECOND),
    ]


def test_the_smallest_gaps_are_passed_over(monkeypatch):
    """Of more gaps than are asked about: a month is, an hour is not."""
    hours = [Range(LEAP + 2 * number * HOUR, LEAP + (2 * number + 1) * HOUR) for number in range(60)]
    late = [Range(one.start + 30 * DAY, one.end + 30 * DAY) for one in hours]
    monkeypatch.setattr(questions, "GAPS", 39)
    ((found, within),) = questions.around([*hours, *late])

    assert (len(found), within) == (39, None)
    assert any(later.start - earlier.end > 20 * DAY for earlier, later in pairwise(found))
    assert (found[0].start, found[-1].end) == (hours[0].start, late[-1].end)


@pytest.mark.parametrize("ranges", [1, 39, 40, 78, 79, 200])
def test_every_gap_is_asked_about_once(ranges, tmp_path):
    """However many there are: each row in a gap is counted once, by one question for each 39 ranges."""
    landed = [Range(LEAP + 2 * number * HOUR, LEAP + (2 * number + 1) * HOUR) for number in range(ranges)]
    moments = [one.end for one in landed] + [one.start for one in landed] + [LEAP - HOUR]
    dataset = Dataset(event(number, at) for number, at in enumerate(moments))
    with serve(dataset, profile=UNLIMITED) as source, closing(client(source.url, source.key, tmp_path)) as made:
        found = Probe(made, 1, events=ANY).outside(landed)
        sent = made.requests[Bucket.QUERY]

    told = {part.where: (part.rows, part.first, part.last) for part in found}
    last = landed[-1].end
    between = {"between": (ranges - 1, landed[0].end, landed[-2].end)} if ranges > 1 else {}
    assert told == {"before": (1, LEAP - HOUR, LEAP - HOUR), **between, "after": (1, last, last)}
    assert sent == -(-ranges // 39)


def test_end_of_the_last_range_lies_behind_it(asked):
    """Ranges are half-open: an event at the last one's end comes after all of them."""
    last = LEAP + DAY + 6 * HOUR + MICROSECOND
    found = asked.outside([Range(LEAP, LEAP + HOUR), Range(LEAP + HOUR, last)])

    assert [(part.where, part.rows, part.first) for part in found] == [("after", 1, last)]


def answering(
    body: Callable[[int], dict[str, object]], directory: Path, *, unknown: frozenset[str] = frozenset()
) -> tuple[Probe, list[str]]:
    """A probe of a server that answers *body*, which gets the LIMIT; and the queries sent. *unknown*: functions it lacks."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        assert asked["refresh"] == "force_blocking"
        sent.append(asked["query"]["query"])
        for name in unknown.intersection(re.findall(r"(\w+)\(", sent[-1])):
            refused = {"type": "validation_error", "detail": f"Unsupported function call '{name}(...)'."}
            return httpx.Response(400, stream=httpx.ByteStream(json.dumps(refused).encode()))
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


MISPLACED = [
    pytest.param([[0, 0, *ROW[2:], 1]], id="behind the split of a window before it"),
    pytest.param([[0, 1, *ROW[2:], 2]], id="behind two splits of one"),
    pytest.param([[0, 1, *ROW[2:], 1], [0, 1, *ROW[2:], 1]], id="twice"),
]


@pytest.mark.parametrize("rows", MISPLACED)
def test_piece_that_was_not_asked_for_is_refused(rows, tmp_path):
    """A row belongs to one piece of one window, once."""
    asked, sent = answering(lambda limit: {"results": rows}, tmp_path)

    with pytest.raises(errors.UnusableAnswer, match="not asked for"):
        asked.windows([HOURS[0], replace(HOURS[1], split=LEAP + HOUR + HOUR / 2), HOURS[2]])
    assert sent[0].endswith("LIMIT 5")


DIALECTS = [
    pytest.param(frozenset(), r"toDateTime64\('[\d :.-]{26}', 6, 'UTC'\)", id="2026"),
    pytest.param(frozenset({"toDateTime64"}), r"toDateTime\('[\d :.-]{26}Z'\)", id="2023"),
]


@pytest.mark.parametrize(("unknown", "constant"), DIALECTS)
def test_every_statement_is_in_the_server_s_dialect_and_in_utc(unknown, constant, tmp_path):
    """No constant and no function is left to the project's time zone, on either kind; the dialect is learned once."""
    asked, sent = answering(lambda limit: {"results": []}, tmp_path, unknown=unknown)
    asked.windows(PARTS)
    asked.outside([PARTS[0].covers])
    for ask in QUESTIONS.values():
        with suppress(IndexError):  # of those that one row answers
            ask(asked)

    refused, answered = sent[: len(unknown)], sent[len(unknown) :]
    assert all("toDateTime64(" in text for text in refused)
    assert len(answered) == 2 + len(QUESTIONS)
    for text in answered:
        rest = re.sub(constant, "", text)
        assert rest != text
        assert not any(name in rest for name in ("toStartOf", "toDate", "now(", "today("))
        assert "LIMIT" in text


def test_query_in_no_dialect_is_refused_and_no_scope_is_blamed(tmp_path):
    """A 400 is about the query; only a 403 is about the key."""
    asked, sent = answering(lambda limit: {"results": []}, tmp_path, unknown=frozenset({"toDateTime64", "toDateTime"}))

    assert asked.hour_counts(PARTS[0].covers) is None
    assert len(sent) == 2
    assert "Unsupported function call 'toDateTime(...)'" in asked.refusal
    assert "scope" not in asked.remedy


def test_batches_hold_few_rows_few_windows_and_few_pieces():
    """2M expected rows, fewer windows than the server's largest LIMIT, and a query's text of bounded length."""
    many = [replace(HOURS[0], expected=500_000)] * 9
    gaps = [part for part in PARTS * 9 if part.window.start.hour % 2]

    assert [len(batch) for batch in questions.batches(many)] == [4, 4, 1]
    assert max(len(list(questions.joined(part.covers for part in batch))) for batch in questions.batches(gaps)) <= 40


def test_split_is_a_piece_of_a_batch(monkeypatch):
    """It lengthens the query's text, and the answer by a row."""
    halved = [replace(part, split=part.covers.start + HOUR / 2) for part in HOURS]

    assert [len(batch) for batch in questions.batches(halved * 4)] == [38, 37, 21]

    monkeypatch.setattr(questions, "BATCH_WINDOWS", 10)
    assert [len(batch) for batch in questions.batches([*halved[:8], *HOURS[8:20]])] == [5, 7, 8]


HEAVY = [
    pytest.param(Heavy(rows=7), (True, False), id="more rows than that"),
    pytest.param(Heavy(rows=8), (False, False), id="as many rows", marks=pytest.mark.chance),
    pytest.param(Heavy("512", start=LEAP + HOUR, end=LEAP + HOUR + MICROSECOND), (True, False), id="rows of a µs"),
    pytest.param(
        Heavy("513", start=LEAP + 2 * HOUR, end=LEAP + 3 * HOUR),
        (False, False),
        id="no row of that hour",
        marks=pytest.mark.chance,
    ),
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
                sender.send(hogql.identity_count(1, rng, events=odd, dialect=Dialect.DATETIME64))
                found.append("")
            except errors.RangeTooHeavy as exc:
                found.append(str(exc))
        sender.close()

    assert [heavy.kind[:3] in text for text in found] == list(refused)


MARCH = datetime(2024, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def daily(count: int, *, every: timedelta = 2 * HOUR) -> tuple[list[Part], list[Event]]:
    """Daily windows from March on, and their events, each a little later in its hour than the one before."""
    parts = [
        Part(Window(at, at + DAY), Range(at, at + DAY), DAY // every) for at in (MARCH + n * DAY for n in range(count))
    ]
    return parts, [event(n, MARCH + n * every + n * timedelta(milliseconds=7)) for n in range(count * DAY // every)]


def truth(parts: Sequence[Part], events: Sequence[Event]) -> dict[datetime, Seen]:
    return {part.window.start: expected(part, events) for part in parts}


@contextmanager
def simulated(
    events: Sequence[Event], directory: Path, *, heavy: Sequence[Heavy] = (), faults: Sequence[Fault] = ()
) -> Iterator[tuple[Probe, Simulator]]:
    with serve(Dataset(events), profile=UNLIMITED, faults=Faults(faults, heavy=heavy)) as server:
        sender = client(server.url, server.key, directory)
        yield Probe(sender, 1, events=ANY), server
        sender.close()


def asked_nothing_more(asked: Probe) -> bool:
    """Whether a further question is not sent."""
    before = asked._client.requests["query"]
    return asked.first_time() is None and asked._client.requests["query"] == before


HEAVY_SECONDS = [
    pytest.param(12, 0, 33, id="first second"),
    pytest.param(12, 43_200, 33, id="noon"),
    pytest.param(12, 86_399, 45, id="last second"),
    pytest.param(1, 30_000, 30, id="one window"),
    pytest.param(30, 30_000, 40, id="thirty windows"),
]


@pytest.mark.parametrize(("count", "second", "most"), HEAVY_SECONDS)
def test_one_heavy_second_leaves_every_other_window_answered(count, second, most, tmp_path):
    """That window alone is too heavy, at a bounded price, wherever the second lies."""
    parts, events = daily(count)
    at = parts[count * 2 // 3].window.start
    start = at + second * SECOND
    events.append(event(9_999, start + SECOND / 2))
    with simulated(events, tmp_path, heavy=[Heavy(start=start, end=start + SECOND)]) as (asked, server):
        found = asked.windows(parts)

        assert found.heavy == {at}
        assert found.seen == {start: seen for start, seen in truth(parts, events).items() if start != at}
        assert (found.early, found.unanswered) == ({}, frozenset())
        assert server.count("query") <= most, server.count("query")
        assert asked.identities(Range(at - DAY, at)) is not None
    assert (asked.refusal, asked.unavailable) == ("", "")


def test_heavy_windows_are_summed_from_parts_that_are_not(tmp_path):
    """No question may read more than three rows: every window is told all the same, and its part before a split."""
    parts, events = daily(4, every=3 * HOUR)
    parts[1] = replace(parts[1], split=parts[1].covers.start + 7 * HOUR)
    parts[2] = replace(parts[2], split=parts[2].covers.start + MICROSECOND)
    parts[3] = replace(parts[3], split=events[3 * 8 + 5].timestamp)
    with simulated(events, tmp_path, heavy=[Heavy("512", rows=3)]) as (asked, server):
        found = asked.windows(parts)

        assert server.statuses["query", 512] > 0
    assert found == Answers(
        truth(parts, events),
        {p.window.start: expected(p, events, until=p.split) for p in parts if p.split is not None},
    )


def test_heavy_batch_is_halved_down_to_one_window(tmp_path):
    """However many windows it has: 32 of which no two may be asked for together."""
    parts, events = daily(32, every=12 * HOUR)
    with simulated(events, tmp_path, heavy=[Heavy(rows=2)]) as (asked, server):
        found = asked.windows(parts)

        assert server.statuses["query", 504] == 31
    assert found == Answers(truth(parts, events), {})


def test_part_of_a_second_is_not_divided(tmp_path):
    """It is asked once more, because one bad answer is no end."""
    part = Part(HOURS[0].window, Range(LEAP, LEAP + SECOND), 1)
    with simulated(EVENTS, tmp_path, heavy=[Heavy()]) as (asked, server):
        assert asked.windows([part]) == Answers({}, {}, heavy=frozenset({LEAP}))
        assert server.count("query") == 2
    with simulated(EVENTS, tmp_path / "b", faults=[Fault("504", endpoint="query", at=(1,))]) as (asked, server):
        assert asked.windows([part]) == Answers({LEAP: expected(part)}, {})


def answering_with(statuses: Callable[[], int], directory: Path, body: bytes = b"{}") -> tuple[Probe, list[int]]:
    """A probe of a server that answers with the status given, a 200 with one row that suits any question; and the statuses."""
    sent: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(statuses())
        question = json.loads(request.content)["query"]["query"]
        columns = (
            9 if question.startswith("SELECT d, ") else question.split(" FROM ")[0].count(" AS ") + (" h, " in question)
        )
        content = json.dumps({"results": [[0] * columns]}).encode() if sent[-1] == 200 else body
        return httpx.Response(sent[-1], stream=httpx.ByteStream(content))

    return Probe(client("http://source.example", "phx_1", directory, httpx.MockTransport(answer)), 1, events=ANY), sent


QUESTIONS: Mapping[str, Callable[[Probe], object]] = {
    "hour_counts": lambda asked: asked.hour_counts(Range(LEAP, LEAP + DAY)),
    "first_time": lambda asked: asked.first_time(),
    "identities": lambda asked: asked.identities(Range(LEAP, LEAP + DAY)),
    "outside": lambda asked: asked.outside([Range(LEAP, LEAP + DAY)]),
}
REFUSALS = [
    (400, b"{}"),
    (401, b"{}"),
    (402, b"{}"),
    (403, b"{}"),
    (404, b'{"detail":"Endpoint not found."}'),
    (405, b"{}"),
]


@pytest.mark.parametrize(("status", "body"), REFUSALS, ids=[str(status) for status, _ in REFUSALS])
def test_refusal_is_one_of_the_key_or_the_server(status, body, tmp_path):
    """It is told in the server's words, and nothing more is asked in the run."""
    asked, sent = answering_with(lambda: status, tmp_path, body)

    assert asked.windows(HOURS) is None
    assert str(status) in asked.refusal
    assert asked.unavailable == ""
    remedies = {400: "upgrade", 401: "KEY", 402: "upgrade", 403: "key", 404: "upgrade", 405: "upgrade"}
    assert remedies[status] in asked.remedy
    assert len(sent) == (2 if status == 404 else 1)
    assert asked_nothing_more(asked)
    assert asked.windows(HOURS) is None


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("status", [500, 502, 504, 512, 513])
def test_failure_that_passes_is_no_refusal(status, question, tmp_path):
    """That question gets no answer; the next one is asked, and windows are told."""
    states = [status]
    asked, sent = answering_with(lambda: states[0], tmp_path)

    assert QUESTIONS[question](asked) is None
    assert str(status) in asked.failure
    assert (asked.refusal, asked.unavailable) == ("", "")
    assert status in (500, 502) or len(sent) == 2

    states[0] = 200
    assert QUESTIONS[question](asked) is not None
    assert asked.windows(HOURS).seen.keys() == {part.window.start for part in HOURS}
    assert asked.failure == ""


@pytest.mark.parametrize("status", [500, 502])
def test_source_that_fails_twice_in_a_row_is_left_alone(status, tmp_path):
    """Windows are unanswered, which is no refusal; an answer between two failures is a new start."""
    states = [status]
    asked, sent = answering_with(lambda: states[0], tmp_path)
    unanswered = Answers({}, {}, unanswered=frozenset(part.window.start for part in HOURS))

    assert asked.windows(HOURS) == unanswered
    states[0] = 200
    assert asked.windows(HOURS).seen
    states[0] = status
    assert asked.windows(HOURS) == unanswered
    assert (asked.refusal, asked.unavailable) == ("", "")

    assert asked.windows(HOURS) == unanswered
    assert str(status) in asked.unavailable
    assert asked.refusal == ""
    before = len(sent)
    assert asked.windows(HOURS) == unanswered
    assert asked_nothing_more(asked)
    assert len(sent) == before


def test_source_that_finds_everything_too_heavy_is_no_heavy_window(tmp_path):
    """Not even a question without rows is answered: after few requests the windows are left to the next run."""
    parts, events = daily(30)
    with simulated(events, tmp_path, faults=[Fault("504", endpoint="query", rate=1.0)]) as (asked, server):
        found = asked.windows(parts)

        assert found == Answers({}, {}, unanswered=frozenset(part.window.start for part in parts))
        assert "504" in asked.unavailable
        assert server.count("query") <= 10 + 2 * IMPATIENT.attempts
        assert asked_nothing_more(asked)


def test_limits_that_are_used_up_end_the_asking_as_everywhere(tmp_path):
    """A run that may not wait ends with what it has; that is neither refusal nor failure."""
    asked, _ = answering_with(lambda: 429, tmp_path)
    asked._client._pacing.max_wait_s = 0.5

    with pytest.raises(errors.LimitsExhausted):
        asked.windows(HOURS)
    assert (asked.refusal, asked.unavailable) == ("", "")


def test_hours_of_a_heavy_range_are_counted_in_parts(tmp_path):
    """Down to a day, on the same hours; where a day is too heavy there is no answer, and no refusal."""
    parts, events = daily(30)
    rng = Range(MARCH, parts[-1].window.end - HOUR / 2)
    with simulated(events, tmp_path) as (asked, _):
        whole = asked.hour_counts(rng)
    assert whole
    with simulated(events, tmp_path / "b", heavy=[Heavy(rows=20)]) as (asked, server):
        assert asked.hour_counts(rng) == whole
        assert server.statuses["query", 504] > 0
    with simulated(events, tmp_path / "c", heavy=[Heavy(rows=11)]) as (asked, server):
        assert asked.hour_counts(rng) is None
        assert server.count("query") <= 10
        assert asked.hour_counts(Range(MARCH, MARCH + DAY / 2))
    assert (asked.refusal, asked.unavailable) == ("", "")


# --- what is stored of events whose copies differ


def asked_for(events: Sequence[Event]) -> pa.Table:
    """The events as a list shows them."""
    body = b'{"next":null,"results":[%s]}' % b",".join(row(one, None, UNLIMITED) for one in events)
    return decode.page(body).rows


def test_contents_are_those_of_the_events_asked_for(asked):
    """Each content once, with its latest created_at, to the microsecond, whatever the project's zone; no other uuid's."""
    found = asked.contents(asked_for(EVENTS[3:7])).to_pylist()

    assert {(one["uuid"], one["event"], one["distinct_id"]) for one in found} == {
        (one.uuid, one.event, one.distinct_id) for one in EVENTS[3:7]
    }
    (five,) = [one for one in found if one["uuid"] == EVENTS[5].uuid]
    assert (five["timestamp"], five["properties"]) == (LEAP + 5 * HOUR, EVENTS[5].properties)
    assert five["created"] == (LEAP + 7 * HOUR - EPOCH) // MICROSECOND


def test_contents_are_asked_for_in_small_questions(tmp_path):
    """At most 500 events and 8 MiB in one, each with a LIMIT of its own."""
    sizes = []
    for text in ("{}", '{"x":"%s"}' % ("x" * 2**20)):
        count = 1_201 if text == "{}" else 20
        events = [replace(event(n, LEAP + n * MICROSECOND), properties=text) for n in range(count)]
        asked, sent = answering(lambda limit: {"results": []}, tmp_path / str(count))
        asked.contents(asked_for(events))
        sizes.append([text.count("-774b-") for text in sent])

    assert sizes == [[500, 500, 201], [7, 7, 6]]
    assert all(text.endswith("LIMIT 9999") for text in sent)


def test_contents_that_may_be_cut_are_asked_for_in_halves(tmp_path):
    """An answer as long as its LIMIT may miss some; what one event alone overflows is not told."""
    text = [EVENTS[0].uuid, "e", "d", 0, "{}", "", 1]
    asked, sent = answering(lambda limit: {"results": [text] * (limit if EVENTS[0].uuid in sent[-1] else 1)}, tmp_path)
    found = asked.contents(asked_for([EVENTS[0], EVENTS[1], EVENTS[2]]))

    assert (found.num_rows, len(sent)) == (1, 3)


@pytest.mark.parametrize(("status", "questions"), [(400, 1), (504, 3)])
def test_contents_that_are_refused_say_nothing_of_other_questions(status, questions, tmp_path):
    """Not asked again in the run; windows are told all the same."""
    states = [status]
    asked, sent = answering_with(lambda: states[0], tmp_path)
    found = [asked.contents(asked_for(EVENTS[:2])).num_rows for _ in range(2 if status == 400 else 1)]
    states[0] = 200

    assert set(found) == {0}
    assert (len(sent), asked.refusal, asked.unavailable) == (questions, "", "")
    assert asked.windows(HOURS) is not None
