"""POST /query: HogQLQuery and EventsQuery in, an answer in the server's shape out (§10, samples of server 1.43)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from extractors.simulator.data.dates import moment
from extractors.simulator.data.hogql import STRING, Engine
from extractors.simulator.errors import BadInput
from extractors.simulator.faults import Heavy
from extractors.simulator.profiles import Profile

MAX_ROWS, IMPLICIT_ROWS = 50_000, 100
CACHED_S = 60.0
MODIFIERS = {
    "inCohortVia": "subquery",
    "materializationMode": "legacy_null_as_null",
    "personsArgMaxVersion": "auto",
    "personsOnEventsMode": "disabled",
}
"""What a server that tells them is set to."""
LIMIT = re.compile(r"\bLIMIT\s+(\d+)\s*$", re.IGNORECASE)
FROM_EVENTS = re.compile(r"\bFROM events\b(\s+WHERE\b)?", re.IGNORECASE)
ENDS = re.compile(rf"{STRING.pattern}|[()]|\b(?:GROUP|ORDER)\s+BY\b|\bLIMIT\b", re.IGNORECASE)
"""What may end a condition: where it does, no bracket is open and it is no literal."""


@dataclass(slots=True)
class Query:
    """Answers queries of one project, from a cache unless that is forbidden."""

    engine: Engine
    profile: Profile
    cache: dict[str, tuple[float, bytes]] = field(default_factory=dict)

    def answer(self, body: bytes, now: datetime) -> dict[str, Any]:
        """The body of the answer. Raises BadInput for what is no query and for HogQL that the server does not run."""
        try:
            asked = json.loads(body)
            query, refresh = asked["query"], asked.get("refresh")
            kind = query.get("kind", "HogQLQuery")
            key = json.dumps(query, sort_keys=True)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise BadInput("query is not a query object") from exc
        cached = self.cache.get(key)
        fresh = refresh in ("force_blocking", True) or not self.profile.query_envelope
        if cached and not fresh and time.monotonic() < cached[0] + CACHED_S:
            found: dict[str, Any] = json.loads(cached[1])
            return found | {"is_cached": True}
        if kind == "HogQLQuery":
            answer = self._hogql(query)
        elif kind == "EventsQuery":
            answer = self._events(query, now)
        else:
            raise BadInput(f"{kind} is not simulated")
        self.cache[key] = (time.monotonic(), json.dumps(answer).encode())
        return answer

    def too_heavy(self, body: bytes, heavy: Sequence[Heavy]) -> Heavy | None:
        """Whose answer *body* gets instead of rows, because its HogQL reads too much; None for any other body."""
        try:
            text = str(json.loads(body)["query"]["query"])
        except (ValueError, KeyError, TypeError):
            return None
        condition = _read(text) if heavy else None
        if condition is None:
            return None
        for one in heavy:
            bounds = [f"timestamp >= {_constant(one.start)}"] if one.start else []
            bounds += [f"timestamp < {_constant(one.end)}"] if one.end else []
            where = " AND ".join(f"({part})" for part in [condition, *bounds])
            counted = self.engine.query(f"SELECT count() AS n FROM events WHERE {where}", 1).rows[0][0]
            if isinstance(counted, int) and counted > one.rows:
                return one
        return None

    def _hogql(self, query: Mapping[str, Any]) -> dict[str, Any]:
        text = str(query.get("query", ""))
        given = LIMIT.search(text)
        limit = min(int(given[1]), MAX_ROWS) if given else IMPLICIT_ROWS
        body = (text[: given.start()] if given else text).strip()
        result = self.engine.query(body, limit)
        run = f"{body} LIMIT {limit}"
        answer: dict[str, Any] = {
            "clickhouse": f"{run} SETTINGS readonly=2, max_execution_time=60",
            "columns": [column.name for column in result.columns],
            "hogql": run,
            "query": text,
            "results": result.rows,
            "types": [[column.name, column.type] for column in result.columns],
        }
        if self.profile.query_timed:
            answer |= {
                "query": None,
                "error": None,
                "explain": None,
                "modifiers": MODIFIERS,
                "timings": [{"k": ".", "t": 0.01}],
            }
            answer = dict(sorted(answer.items()))
        # A LIMIT in the query is its own business: only an implicit one is told about.
        return answer | self._envelope(more=result.more and given is None)

    def _envelope(self, *, more: bool) -> dict[str, Any]:
        return {"hasMore": more, "is_cached": False} if self.profile.query_envelope else {}

    def _events(self, query: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        asked, cap = int(query.get("limit") or IMPLICIT_ROWS), self.profile.events_query_cap
        limit = min(asked, cap)
        hogql, echoed = self._events_hogql(query, now)
        result = self.engine.query(hogql, limit)
        columns = [str(item) for item in query["select"]]
        answer: dict[str, Any] = {
            "columns": columns,
            "hasMore": result.more and limit < cap,
            "results": result.rows,
            "types": [column.type for column in result.columns],
        }
        if self.profile.query_timed:
            # The server asks for one row more than it shows, up to its own maximum.
            run = f"{echoed} LIMIT {min(limit + 1, cap)} OFFSET 0"
            answer = dict(sorted((answer | {"hogql": run, "limit": limit, "offset": 0}).items()))
        return answer | ({"is_cached": False} if self.profile.query_envelope else {})

    def _events_hogql(self, query: Mapping[str, Any], now: datetime) -> tuple[str, str]:
        """What is run, and how the server that echoes it writes it."""
        select = query.get("select")
        if not isinstance(select, list) or not select or any("*" in str(item) for item in select):
            raise BadInput("select is not a list of columns")
        conditions = [f"({condition})" for condition in query.get("where") or []]
        echoed = list(conditions)
        after, before = str(query.get("after") or "-24h"), query.get("before")
        for text, sign, word in ((before, "<", "less"), (after if after != "all" else None, ">", "greater")):
            if text:
                constant = _constant(moment(str(text), now, self.profile))
                conditions.append(f"timestamp {sign} {constant}")
                echoed.append(f"{word}(timestamp, {constant.replace('Z', '')})")
        order = [str(item) for item in query.get("orderBy") or []] or (
            ["timestamp DESC"] if "timestamp" in select else []
        )
        head = f"SELECT {', '.join(map(str, select))} FROM events"
        tail = f" ORDER BY {', '.join(order)}" if order else ""
        run = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        joined = f"and({', '.join(echoed)})" if len(echoed) > 1 else "".join(echoed)
        shown = f" WHERE {joined}" if joined else ""
        return f"{head}{run}{tail}", f"{head}{shown}{tail}"


def _read(hogql: str) -> str | None:
    """The condition on the rows of `events` that *hogql* reads; None where it reads none."""
    found = FROM_EVENTS.search(hogql)
    if found is None:
        return None
    if not found[1]:
        return "1 = 1"
    depth = 0
    for match in ENDS.finditer(hogql, found.end()):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth < 0 or (depth == 0 and match[0][0] not in "()'"):
            return hogql[found.end() : match.start()]
    return hogql[found.end() :]


def _constant(at: datetime) -> str:
    return f"toDateTime('{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}Z')"
