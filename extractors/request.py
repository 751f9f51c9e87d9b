"""Pure construction of every request hedgerow sends: no I/O, no clock, no key."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from extractors.filters import EventFilter, Filters, Narrowing
from extractors.window import EPOCH, MICROSECOND, Range

# The engine numbers days with 16 bits: a bound before 1970, or behind 2149-06-06, makes it leave events out, status 200
# (docs/decisions/0008). No such bound is sent.
LAST_BOUND = datetime(2149, 6, 6, tzinfo=UTC)
ALL_TIME = Range(datetime.min.replace(tzinfo=UTC), LAST_BOUND)
# A microsecond in which nothing happened: a server that answers at all answers what is asked of it.
QUIET = Range(datetime(1971, 3, 4, 5, 6, 7, 891_011, tzinfo=UTC), datetime(1971, 3, 4, 5, 6, 7, 891_012, tzinfo=UTC))


class Bucket(StrEnum):
    """Which of the source's rate limits a request counts against (facts/posthog-api.md §5.4)."""

    LIST = "list"
    QUERY = "query"
    VALUES = "values"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a request's failure is answered with (the table in http/retry.py), and whose fault a refusal is.

    *divisible*: the caller can ask for less, so a heavy range and a cut body go back to it at once. *faults*: how often
    a bare 500 is asked again; None: as often as the client's patience says, and alone. *once*: a write, which is sent
    again only where it was surely not done. *resumed*: a content, which is taken up where it ended. *by_user*: a 400 is
    about what the user gave. *answer_s*: how long to wait for an answer, seconds.
    """

    divisible: bool = False
    faults: int | None = None
    once: bool = False
    resumed: bool = False
    by_user: bool = False
    answer_s: float = 100.0


WHOLE = Policy()
"""Nothing less can be asked: every transient failure is retried as it is."""

PAGE = Policy(divisible=True)
HASTY_PAGE = Policy(divisible=True, faults=0)
"""A page where a bare 500 says that less is to be asked, or nothing that matters."""

TRIAL_PAGE = Policy(divisible=True, faults=1)
"""A page that tells whether a question is what the server fails of."""

SAMPLE = Policy(faults=0)
"""A page that may be another one."""

QUERY = Policy(divisible=True)
LOOKUP = Policy(by_user=True)
WRITE = Policy(once=True, by_user=True)
CONTENT = Policy(resumed=True)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, without host, prefix and key.

    *resource* is the part after `/api/<prefix>/<project>/`. *entry*: what the address names, such as "export 7": a 404
    then is about that.
    """

    project_id: int
    resource: str
    bucket: Bucket
    params: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    method: str = "GET"
    accept: str = "application/json"
    entry: str = ""
    policy: Policy = WHOLE

    @property
    def collection(self) -> str:
        """The first part of the resource: what a server has, or does not."""
        return self.resource.partition("/")[0]

    @property
    def newer(self) -> str:
        """What is asked for, in words, where older servers do not have it; else empty."""
        collection, _, rest = self.resource.partition("/")
        if collection == "exports":
            return "the list of exports" if self.method == "GET" and not rest else "exports"
        return {"evaluations": "evaluations", "query": "queries (POST /query)"}.get(collection, "")


def instant(at: datetime) -> str:
    """UTC with microseconds and an explicit zone: the one form every server version reads alike (§1.3)."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def events_page(
    project_id: int,
    rng: Range,
    *,
    limit: int,
    events: EventFilter,
    hogql: bool = True,
    narrowing: Narrowing | None = None,
    filters: Filters | None = None,
    policy: Policy = PAGE,
) -> Request:
    """One ascending page of the events list over *rng*. A group in *filters* takes no further HogQL condition.

    Both bounds of the endpoint are exclusive, hence `after` = start − 1 µs (§0.3); ascending order switches the lying
    window probe off (§0.2). Without *hogql* only a filter of one name is sent; the reader drops the rest. A range that
    begins before 1970 is asked without `after`, and no `before` lies before 1970 or behind LAST_BOUND: the page may bring
    rows of other times.
    """
    narrowing = narrowing or Narrowing()
    filters = filters or Filters()
    params = [("orderBy", '["timestamp"]')]
    if rng.start >= EPOCH:
        params.append(("after", instant(rng.start - MICROSECOND)))
    params += [("before", instant(min(max(rng.end, EPOCH), LAST_BOUND))), ("limit", str(limit))]
    params += [(name, value) for name, value in filters.params if getattr(narrowing, name, None) is None]
    conditions = []
    event = narrowing.event if narrowing.event is not None else events.single
    if event is not None:
        params.append(("event", event))
    if hogql and events.single is None and events.hogql:
        conditions.append(events.hogql)
    if narrowing.hogql:
        conditions.append(narrowing.hogql)
    if narrowing.distinct_id is not None:
        params.append(("distinct_id", narrowing.distinct_id))
    given = filters.conditions()
    if isinstance(given, list):
        given = [*given, *({"type": "hogql", "key": key} for key in conditions)]
    if given:
        params.append(("properties", json.dumps(given)))
    by_user = policy.by_user or bool(filters.properties)
    return Request(project_id, "events/", Bucket.LIST, tuple(params), policy=replace(policy, by_user=by_user))


def newest_event(project_id: int) -> Request:
    """The newest event, asked for as the page of events in PostHog does: cheap on every server."""
    return Request(project_id, "events/", Bucket.LIST, (("limit", "1"),), policy=HASTY_PAGE)
