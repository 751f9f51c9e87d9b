"""Everything that is asked through POST /query: counts for planning, and the source side of the proof.

Optional by nature: a server or a key may refuse it, and then hedgerow lands all the same (design.md, Probe). What was
refused once is not asked again in the run. A question that is too heavy, or fails for a while, says nothing about others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from extractors import errors, hogql
from extractors.filters import EventFilter
from extractors.hogql import Dialect
from extractors.http import decode
from extractors.http.client import Client
from extractors.reading.questions import (
    MODULUS,
    Answers,
    Outside,
    Part,
    Seen,
    around,
    grid_of,
    joined,
    pieces_of,
    time_of,
)
from extractors.reading.zone import HourCount
from extractors.request import QUERY, QUIET, WHOLE, Policy, Request
from extractors.window import DAY, MICROSECOND, Range

MAX_SPAN = timedelta(days=365)
FAILURES = 2  # in a row: the source is left alone for the rest of the run
HEAVY_IN_A_ROW = 5  # then a question without rows tells whether the source answers anything
TOO_HEAVY = (errors.RangeTooHeavy, errors.BodyCut)
UNANSWERABLE = (errors.UnusableAnswer, errors.RequestRefused)  # may be a matter of one question
UNKNOWN_FUNCTION = "Unsupported function call"  # what a 400 says of HogQL that is too new for the server
PLACES = ("before", "between", "after")  # as hogql.outside numbers them
CONTENTS_EVENTS = 500  # in one question about contents: their uuids stand in its text
CONTENTS_BYTES = 8 * 2**20  # that its answer may have, as far as it is known
CONTENTS_ROWS = 9_999  # two real servers gave 10,000 rows at most, whatever was asked, and did not say so

STORED = pa.schema(
    [
        pa.field("uuid", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("properties", pa.string(), nullable=False),
        pa.field("elements_chain", pa.string(), nullable=False),
        pa.field("created", pa.int64(), nullable=False),
    ]
)
"""Contents of events as stored; *created*: the latest created_at of each, µs since 1970."""

Row = tuple[int | float | str | None, ...]


class Question(Protocol):
    """A query, once it is told in which dialect."""

    def __call__(self, *, dialect: Dialect) -> Request: ...


class Probe:
    """Asks /query about one project's events.

    *refusal*: what the server said when it refused, *remedy*: what would help. *unavailable*: what it failed of again and
    again. Empty until then; afterwards nothing is asked any more. *failure*: why the last question has no
    answer.
    """

    def __init__(self, client: Client, project_id: int, *, events: EventFilter) -> None:
        self._client, self._project_id, self._events = client, project_id, events
        self.refusal = self.remedy = self.unavailable = self.failure = ""
        self._dialects = tuple(Dialect)
        self._told_contents = True
        self._failed = self._heavy = 0  # questions in a row

    def hour_counts(self, rng: Range) -> Mapping[datetime, HourCount] | None:
        """Rows per UTC hour of *rng*, only hours that have any; None without an answer.

        A range that is too heavy is counted in halves, down to a day.
        """
        counts: dict[datetime, HourCount] = {}
        start = rng.start
        while start < rng.end:
            part = Range(start, min(rng.end, start + MAX_SPAN))
            found = self._hour_counts(part)
            if found is None:
                return None
            counts |= found
            start = part.end
        return counts

    def first_time(self) -> tuple[datetime | None] | None:
        """Time of the first event, itself None for an empty project; None without an answer."""
        rows = self._undivided(partial(hogql.earliest, self._project_id, events=self._events))
        if rows is None:
            return None
        micros, count = rows[0]
        return (time_of(micros) if count else None,)

    def identities(self, rng: Range) -> int | None:
        """How many distinct (uuid, event, distinct_id, timestamp) *rng* holds; None without an answer."""
        rows = self._undivided(partial(hogql.identity_count, self._project_id, rng, events=self._events))
        return None if rows is None else int(rows[0][0] or 0)

    def contents(self, rows: pa.Table) -> pa.Table:
        """What the source stores of the events in *rows*, in the schema STORED; what has no answer is missing.

        *rows*: uuid, timestamp, properties and elements_chain, by which the answer's size is foreseen. A refusal is one of
        this question only, which then is not asked again in the run.
        """
        found = [STORED.empty_table()]
        todo = list(_portions(rows.sort_by("timestamp")))
        while todo and self._told_contents:
            portion = todo.pop(0)
            try:
                answer = self._contents(portion)
            except UNANSWERABLE:
                self._told_contents = False
            except TOO_HEAVY:
                half = portion.num_rows // 2
                todo[:0] = [portion.slice(0, half), portion.slice(half)] if half else []
            else:
                if answer is None:
                    break
                found.append(answer)
        return pa.concat_tables(found)

    def _contents(self, rows: pa.Table) -> pa.Table | None:
        """The answer about *rows*, which ascend; None without one. Raises BodyCut where it may be cut."""
        first, last = rows["timestamp"][0].as_py(), rows["timestamp"][-1].as_py()
        uuids, rng = sorted(set(rows["uuid"].to_pylist())), Range(first, last + MICROSECOND)
        question = partial(hogql.contents, self._project_id, rng, uuids, limit=CONTENTS_ROWS, events=self._events)
        answer = self._ask(question, alone=True)
        if answer is None:
            return None
        if len(answer) >= CONTENTS_ROWS:
            raise errors.BodyCut(f"POST /query names {len(answer)} contents, and may have more")
        u, e, di, t, p, x, m = zip(*answer, strict=True) if answer else ((),) * 7
        times = pa.array([int(at or 0) for at in t], pa.int64()).cast(pa.timestamp("us", "UTC"))
        texts = [pa.array([str(value or "") for value in column], pa.string()) for column in (u, e, di, p, x)]
        created = pa.array([int(at or 0) for at in m], pa.int64())
        return pa.table([*texts[:3], times, *texts[3:], created], schema=STORED)

    def windows(self, parts: Sequence[Part]) -> Answers | None:
        """What the source holds of *parts*, one batch; a window without events is `Seen()`.

        What is too heavy is asked for in halves: a batch down to one window, a window down to a second, so that one heavy
        window costs no other its answer. None where this server or key refuses queries.
        """
        if not parts:
            return Answers({}, {})
        answers = self._windows(sorted(parts, key=lambda part: part.window.start))
        return None if self.refusal else answers

    def outside(self, ranges: Iterable[Range]) -> list[Outside] | None:
        """What the source holds in none of *ranges*; None without an answer.

        One question for each 39 of them; what questions.around passes over is not told.
        """
        merged = list(joined(ranges))
        found: dict[str, Outside] = {}
        for some, within in around(merged) if merged else []:
            rows = self._undivided(partial(hogql.outside, self._project_id, some, within=within, events=self._events))
            if rows is None:
                return None
            for w, k, a, b in rows:
                place = PLACES[int(w or 0)] if within is None else "between"
                one = Outside(place, int(k or 0), time_of(a), time_of(b))
                found[place] = found[place] + one if place in found else one
        return [found[place] for place in PLACES if place in found]

    def _hour_counts(self, rng: Range) -> Mapping[datetime, HourCount] | None:
        question = partial(hogql.hour_counts, self._project_id, rng, events=self._events)
        try:
            rows = self._ask(question) if rng.duration > DAY else self._undivided(question)
        except TOO_HEAVY:
            cut = rng.start + max(DAY, rng.duration // (2 * DAY) * DAY)
            first = self._hour_counts(Range(rng.start, cut))
            second = self._hour_counts(Range(cut, rng.end)) if first is not None else None
            return None if first is None or second is None else {**first, **second}
        if rows is None:
            return None
        return {
            rng.start + int(hour or 0) * timedelta(hours=1): HourCount(int(count or 0), str(least))
            for hour, count, least in rows
        }

    def _windows(self, parts: Sequence[Part]) -> Answers:
        """Of *parts*, which ascend."""
        if len(parts) == 1:
            try:
                return self._window(parts[0])
            except TOO_HEAVY:
                return Answers({}, {}, heavy=frozenset({parts[0].window.start}))
        try:
            return self._batch(parts)
        except TOO_HEAVY:
            half = len(parts) // 2
            return self._windows(parts[:half]) | self._windows(parts[half:])

    def _window(self, part: Part) -> Answers:
        """Of one window, in halves as far as needed. Raises RangeTooHeavy or BodyCut: a second of it is too heavy."""
        try:
            return self._batch([part])
        except TOO_HEAVY:
            if not part.divisible:
                return self._batch([part])  # one bad answer is no end
        start, (first, second) = part.window.start, part.halves()
        one = self._window(first)
        if one.unanswered:
            return one
        other = self._window(second)
        if other.unanswered:
            return other
        early = {} if part.split is None else {start: one.seen[start]}
        return Answers({start: one.seen[start] + other.seen[start]}, early)

    def _batch(self, parts: Sequence[Part]) -> Answers:
        """Of *parts*, which ascend, by one question. Raises RangeTooHeavy and BodyCut."""
        splits = tuple(part.split for part in parts if part.split is not None)
        grid = replace(grid_of(parts), splits=splits)
        ranges = list(joined(part.covers for part in parts))
        limit = len(parts) + 1 + len(splits)
        rows = self._ask(partial(hogql.probe, self._project_id, grid, ranges, limit=limit, events=self._events))
        if rows is None:
            return Answers({}, {}, unanswered=frozenset(part.window.start for part in parts))
        if len(rows) >= limit:
            raise errors.UnusableAnswer(f"POST /query names {len(rows)} windows where {limit - 1} were asked for")
        seen = {part.window.start: Seen() for part in parts}
        early = {part.window.start: Seen() for part in parts if part.split is not None}
        pieces = pieces_of(parts, splits)
        durations = {part.window.start.date(): part.window.duration for part in parts}
        for row in rows:
            d, s, k, sx, st, sxt, sxn, sm, lm, *p = (int(value or 0) for value in row)
            day = grid.first + d * DAY
            start = day + s * durations.get(day.date(), DAY)
            is_early = pieces.pop((start, sum(p)), None)
            if is_early is None:
                raise errors.UnusableAnswer(f"POST /query names a window that was not asked for: {start}")
            digest = ":".join(str(number % MODULUS) for number in (k, sx, st, sxt, sxn))
            piece = Seen(k, digest, f"{sm % MODULUS}:{lm}")
            seen[start] += piece
            if is_early:
                early[start] = piece
        return Answers(seen, early)

    def _undivided(self, question: Question) -> tuple[Row, ...] | None:
        """Rows of a query that asks for no less where it is too heavy, but once more; None without an answer."""
        for _ in range(2):
            try:
                return self._ask(question)
            except TOO_HEAVY as exc:
                self.failure = str(exc)
        return None

    def _ask(self, question: Question, *, policy: Policy = QUERY, alone: bool = False) -> tuple[Row, ...] | None:
        """Rows of a query, or None: refused, or failed for a while.

        *alone*: raises RequestRefused and UnusableAnswer, which then say nothing of other questions.

        QUERY: raises RangeTooHeavy and BodyCut at once, for less to be asked; else they are failures in the end.
        Where one follows another, the source may answer nothing at all, which then is the failure.
        """
        if self.refusal or self.unavailable:
            return None
        try:
            rows = self._rows(question, policy)
        except (errors.AccessDenied, errors.EndpointMissing, errors.RequestRefused, errors.UnusableAnswer) as exc:
            if alone and isinstance(exc, UNANSWERABLE):
                raise
            self.refusal, self.remedy = str(exc), _remedy(exc)
            return None
        except TOO_HEAVY as exc:
            if policy.divisible:
                self._heavy += 1
                if self._heavy % HEAVY_IN_A_ROW or self._answers():
                    raise
            else:
                self._fail(exc)
            return None
        except (errors.ServerFault, errors.SourceUnavailable) as exc:
            self._fail(exc)
            return None
        self._failed = self._heavy = 0
        self.failure = ""
        return rows

    def _rows(self, question: Question, policy: Policy) -> tuple[Row, ...]:
        """Rows of a query in the newest dialect that this server knows, which its answers teach once."""
        while True:
            request = question(dialect=self._dialects[0])
            try:
                return decode.query_rows(self._client.send(replace(request, policy=policy)).body)
            except errors.RequestRefused as exc:
                if UNKNOWN_FUNCTION not in str(exc) or len(self._dialects) == 1:
                    raise
                self._dialects = self._dialects[1:]

    def _answers(self) -> bool:
        """Whether the source answers a question that reads no row; asked patiently."""
        question = partial(hogql.identity_count, self._project_id, QUIET, events=self._events)
        return self._ask(question, policy=WHOLE) is not None

    def _fail(self, exc: errors.SourceError) -> None:
        self.failure = str(exc)
        self._failed += 1
        if self._failed == FAILURES:
            self.unavailable = self.failure


def _portions(rows: pa.Table) -> Iterator[pa.Table]:
    """*rows*, in their order, in parts small enough for one question about contents."""
    sizes = pc.add(pc.binary_length(rows["properties"]), pc.binary_length(rows["elements_chain"])).to_pylist()
    start, held, uuids = 0, 0, set[str]()
    for number, (size, uuid) in enumerate(zip(sizes, rows["uuid"].to_pylist(), strict=True)):
        full = uuid not in uuids and len(uuids) == CONTENTS_EVENTS
        if uuids and (full or held + size > CONTENTS_BYTES):
            yield rows.slice(start, number - start)
            start, held, uuids = number, 0, set()
        held += size
        uuids.add(uuid)
    if start < rows.num_rows:
        yield rows.slice(start)


def _remedy(exc: errors.SourceError) -> str:
    """What would make the server answer queries, in words; a 400 or a missing endpoint is no matter of the key."""
    if isinstance(exc, errors.AccessDenied):
        return exc.hint or "give the key the scope query:read"
    if isinstance(exc, errors.EndpointMissing):
        return "upgrade PostHog: newer servers have POST /query"
    return (
        "this server does not run hedgerow's queries, whatever the key may do: upgrade PostHog, or report what it said"
    )
