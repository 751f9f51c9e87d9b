"""PostHog Cloud of late 2026, as far as the facts go: events, values, exports, evaluations, POST query; request in,
answer out. An *older* server differs in HogQL's functions, bounds, persons, page size, prefix, values and what it has
of exports and evaluations, as those of 2023 do.

Knows limits, windows, errors, throttles and faults. Knows no sockets (server.py), no SQL tables (rows.py), no HogQL
(engine.py), no CSV (as_csv.py) and no fields of exports and evaluations (assets.py). Not modelled: CSV but of the
list, `personal_api_key` outside the header, `Start`/`End` in relative dates, the slow-down of `offset`, the cache of
values and their `custom_event` of today, throttles of values, exports and evaluations. Section marks (§) are
posthog-api.md's; "seen" points at posthog-observed.md or a sample.
"""

import json
import math
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from . import as_csv
from .answers import Answer, ApiError, Request, invalid, not_found, to_json
from .assets import KINDS, Evaluations, Exports, Objects
from .engine import IMPLICIT_LIMIT, Engine, QueryError
from .rows import Condition, Row, Store, filters, index_day, isoformat, micros

DEFAULT_LIMIT = 100  # §1.2
MAX_LIMIT = 1000  # §0.4: larger is clamped without a word
OLDER_CSV_LIMIT = 3_500  # seen on a server of 2023
OLDER_MAX_LIMIT = 10_000  # seen on servers of 2023
MAX_OFFSET = 50_000  # §1.2: what the code says; the OpenAPI text says 100,000
MAX_RANGE = timedelta(days=366)  # §0.5
PROBES_S = (60, 300, 900, 3600, 21_600, 86_400)  # §1.5
REMEMBERED = timedelta(hours=24)  # §1.5: how long a window that worked is tried first
RUNNING_AT_ONCE = 2  # §5.4

VALUES_MOST = 10  # §2.2
COMMON_EVENTS = frozenset(
    {"$pageview", "$pageleave", "$identify", "$screen", "$autocapture"}
)  # seen: values_custom_event.json
VALUES_BACK = timedelta(days=7)  # §2.2
DEFAULT_PAGE = 100  # §3.4, §4: lists of exports and evaluations

ADDRESS = re.compile(
    r"/api/(?:projects|environments)/([^/]+)/"
    rf"({'|'.join(('query', *KINDS))}|events(?:/[^/]+)?|exports(?:/[^/]+(?:/content)?)?|evaluations(?:/[^/]+)?)/?"
)
RELATIVE = re.compile(r"-?(\d+)?([hdwmMsqy])")  # §1.3: searched anywhere in the text
FAULTS = frozenset({"429", "500", "502html", "503", "504", "cut"})
HTML_502 = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class Throttled(Exception):
    """Too many requests; the oldest leaves its window in *wait_s* whole seconds."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"throttled for {wait_s} s")
        self.wait_s = wait_s

    def answer(self) -> Answer:
        """429 in the words of samples/server-1.43/error_429_throttled.json."""
        detail = f"Request was throttled. Expected available in {self.wait_s} second{'' if self.wait_s == 1 else 's'}."
        return ApiError(429, "throttled_error", "throttled", detail).answer(("Retry-After", str(self.wait_s)))


def server_error() -> ApiError:
    """The bare 500 that any plain exception becomes (§1.9)."""
    return ApiError(500, "server_error", "error", "A server error occurred.")


class Throttle:
    """Sliding windows as Django REST framework counts them: refused requests do not count (§5.4)."""

    def __init__(self, *, per_minute: int | None, per_hour: int | None) -> None:
        limits = ((per_minute, timedelta(minutes=1)), (per_hour, timedelta(hours=1)))
        self._limits = [(most, length) for most, length in limits if most is not None]
        self._seen: deque[datetime] = deque()

    def admit(self, now: Callable[[], datetime]) -> None:
        """Count one request, or raise Throttled. Reads the clock only when a limit is set."""
        if not self._limits:
            return
        at = now()
        while self._seen and self._seen[0] <= at - timedelta(hours=1):
            self._seen.popleft()
        waits = []
        for most, length in self._limits:
            inside = [one for one in self._seen if one > at - length]
            if len(inside) >= most:
                waits.append(length - (at - inside[-most]))
        if waits:
            raise Throttled(math.ceil(max(waits).total_seconds()))
        self._seen.append(at)


def moment(text: str, *, zone: ZoneInfo, now: datetime, older: bool) -> datetime:
    """Instant of an `after` or `before`; never an error: what cannot be read is now, or relative to it (§1.3).

    An *older* server drops an offset and takes the wall clock for UTC (seen: list_offset_timezone_dropped.json of 1.43).
    """
    plain_day = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text)
    if plain_day:  # `2021-1-1` is accepted too
        text = f"{plain_day[1]}-{plain_day[2]:0>2}-{plain_day[3]:0>2}"
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo and older:
            return at.replace(tzinfo=UTC)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except ValueError:
        pass
    found = RELATIVE.search(text)
    if found is None or found[1] is None:
        return now
    amount, unit = int(found[1]), found[2]
    seconds = {"h": 3600, "d": 86_400, "w": 604_800, "M": 60, "s": 1}.get(unit)
    if seconds is not None:
        return now - timedelta(seconds=seconds * amount)
    return _months_before(now, amount * {"m": 1, "q": 3, "y": 12}[unit])


def _months_before(at: datetime, months: int) -> datetime:
    year, month0 = divmod(at.year * 12 + at.month - 1 - months, 12)
    first_of_next = datetime(year + month0 // 11, (month0 + 1) % 12 + 1, 1, tzinfo=UTC)
    last_day = (first_of_next - timedelta(days=1)).day
    return at.replace(year=year, month=month0 + 1, day=min(at.day, last_day))


@dataclass(frozen=True, slots=True)
class Settings:
    """What second_server() was asked for."""

    key: str
    project_id: int
    zone: ZoneInfo
    now: Callable[[], datetime]
    query_allowed: bool
    hogql_filter_allowed: bool
    faults: Mapping[int, str]
    older: bool
    most_rows: int
    foreign: frozenset[int]
    before_answer: Callable[[str, int], None]

    def __post_init__(self) -> None:
        unknown = set(self.faults.values()) - FAULTS
        if unknown:
            raise ValueError(f"faults: expected of {sorted(FAULTS)}, found {sorted(unknown)}")


@dataclass(slots=True)
class SecondServer:
    """A running server: where it is, and what it has been asked. *errors* tells what is behind each bare 500.

    *hold* exchanges all rows of the project for others.
    """

    url: str
    key: str
    hold: Callable[[Iterable[Row]], None]
    list_requests: int = 0
    query_requests: int = 0
    statuses: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Project:
    """Requests in, answers out, for one project and one key."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        seen: SecondServer,
        *,
        throttles: Mapping[str, Throttle],
        exports: Exports,
        evaluations: Evaluations,
        lists: Mapping[str, Objects],
    ) -> None:
        self._store = store
        self._settings = settings
        self._exports = exports
        self._evaluations = evaluations
        self._lists = lists
        self._seen = seen
        self._throttles = throttles
        self._engine = Engine(zone=settings.zone.key, project_id=settings.project_id, older=settings.older)
        self._lock = threading.Lock()
        self._running = threading.Semaphore(RUNNING_AT_ONCE)
        self._windows: dict[tuple[bool, bool, bool], tuple[int, int, datetime]] = {}
        self._cached: dict[str, dict[str, Any]] = {}

    def respond(self, request: Request) -> Answer:
        """The answer to *request*, whatever happens."""
        try:
            answer = self._routed(request)
        except ApiError as exc:
            where = f'Bearer resource_metadata="http://{request.host}/.well-known/oauth-protected-resource"'
            answer = exc.answer(*([("WWW-Authenticate", where)] if exc.status == 401 else []))  # §5.3
        except Throttled as exc:
            answer = exc.answer()
        except Exception as exc:  # as in PostHog: every plain exception is a bare 500 (§1.9)
            with self._lock:
                self._seen.errors.append(f"{request.method} {request.target}: {exc!r}")
            answer = server_error().answer()
        with self._lock:
            self._seen.statuses.append(answer.status)
        return answer

    def hold(self, rows: Iterable[Row]) -> None:
        """Have *rows* and no others. What was answered from the cache stays there, as in PostHog."""
        self._store.hold(rows)
        self._engine.forget()

    def close(self) -> None:
        """Free both copies of the events."""
        self._engine.close()
        self._store.close()

    def _routed(self, request: Request) -> Answer:
        found = ADDRESS.fullmatch(request.path)
        if found is None or (self._settings.older and request.path.startswith("/api/environments/")):
            # Seen: environments_csv_404.json; the format is looked at first.
            raise not_found("Not found." if request.wants_csv else "Endpoint not found.")
        endpoint, *name = found[2].split("/")
        fault = self._counted(request, found[2])
        if fault not in (None, "cut"):
            return _fault(fault)
        if request.wants_csv and "json" in request.accept:  # seen: list_csv_accept_json_406.json
            raise ApiError(406, "invalid_request", "not_acceptable", "Could not satisfy the request Accept header.")
        self._authorize(request, found[1])
        if endpoint == "query" and not self._settings.query_allowed:
            raise ApiError(
                403, "authentication_error", "permission_denied", "API key missing required scope 'query:read'"
            )
        if endpoint in self._throttles and name != ["values"]:
            with self._lock:
                self._throttles[endpoint].admit(self._settings.now)
        match request.method, endpoint, name:
            case "POST", "query", []:
                return self._query(request)
            case "GET", "events", []:
                return self._list(request, cut=fault == "cut")
            case "GET", "events", ["values"]:
                return self._values(request)
            case "GET", "events", [event_uuid]:
                return self._detail(event_uuid, request)
            case "GET", "exports", [] if self._settings.older:
                raise not_allowed(request)  # seen: exports_list_405.json
            case "GET", listed, [] if listed in KINDS:
                if request.path.split("/")[2] != KINDS[listed].prefix:
                    raise not_found("Endpoint not found.")
                return _paged(request, self._lists[listed].visible(), page=KINDS[listed].page)
            case _, "exports", _:
                with self._lock:
                    return self._export(request, name)
            case _, "evaluations", _ if self._settings.older:
                raise not_found("Endpoint not found.")  # seen: evaluations_404.json
            case _, "evaluations", _:
                with self._lock:
                    return self._evaluation(request, name)
        raise not_allowed(request)

    def _export(self, request: Request, name: list[str]) -> Answer:
        match request.method, name:
            case "GET", []:
                return _paged(request, self._exports.visible())
            case "POST", []:
                return Answer(201, to_json(self._exports.create(json.loads(request.body))))
            case "GET", [number]:
                return Answer(200, to_json(self._exports.one(number)))
            case "GET", [number, "content"]:
                download = request.params.get("download") == "true"
                return self._exports.content(number, download=download)
        raise not_allowed(request)

    def _evaluation(self, request: Request, name: list[str]) -> Answer:
        match request.method, name:
            case "GET", []:
                return _paged(request, self._evaluations.visible())
            case "GET", [one]:
                return Answer(200, to_json(self._evaluations.one(one)))
            case "PATCH", [one]:
                return Answer(200, to_json(self._evaluations.change(one, json.loads(request.body))))
            case "DELETE", [_]:
                return Answer(405, b"")  # not even an error object (§4)
        raise not_allowed(request)

    def _counted(self, request: Request, place: str) -> str | None:
        with self._lock:
            listed = place == "events" and request.method == "GET"
            self._seen.list_requests += listed
            self._seen.query_requests += place == "query"
            number = self._seen.list_requests if listed else self._seen.query_requests
        if listed or place == "query":
            self._settings.before_answer(place, number)
        return self._settings.faults.get(number) if listed else None

    def _authorize(self, request: Request, project: str) -> None:
        scheme, _, key = request.authorization.partition(" ")
        if scheme != "Bearer" or not key.strip():
            detail = "Authentication credentials were not provided."
            raise ApiError(401, "authentication_error", "not_authenticated", detail)
        if key.strip() != self._settings.key:
            detail = "Personal API key found in request Authorization header is invalid."
            raise ApiError(401, "authentication_error", "authentication_failed", detail)
        if project in map(str, self._settings.foreign):  # seen: error_other_organization.json
            detail = "You don't have access to the project."
            raise ApiError(403, "authentication_error", "permission_denied", detail)
        if project not in ("@current", str(self._settings.project_id)):
            raise not_found("Project not found.")

    def _list(self, request: Request, *, cut: bool) -> Answer:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("more events lists at once than allowed")  # a 500 (§5.4)
        try:
            return self._listed(request, cut=cut)
        finally:
            self._running.release()

    def _listed(self, request: Request, *, cut: bool) -> Answer:
        params, now = request.params, self._settings.now()
        order = json.loads(params.get("orderBy") or '["-timestamp"]')
        descending = order == ["-timestamp"]
        asked = int(params.get("limit") or self._default_limit(request))
        limit = min(asked, self._settings.most_rows) if asked > 0 else DEFAULT_LIMIT
        with_persons = self._settings.older or _persons_wanted(request)
        offset = _offset(params.get("offset", ""))
        after, before = self._bounds(params, now)
        conditions = self._conditions(params, (micros(after), micros(before)), now)

        def page(start: datetime) -> list[tuple[int, bytes]]:
            low, high = micros(start), micros(before)
            bounds = [Condition("us > ? AND us < ?", (low, high))]
            if self._settings.older:
                bounds.append(Condition("index_day(us) BETWEEN ? AND ?", (index_day(low), index_day(high))))
            return self._store.page(
                [*bounds, *conditions],
                descending=descending,
                limit=limit + 1,
                offset=offset,
                with_persons=with_persons,
            )

        rows = None
        if descending and not self._settings.older:
            open_range = not (params.get("after") and params.get("before"))
            windows = [s for s in PROBES_S if open_range or timedelta(seconds=s) < before - after]
            shape = ("event" in params, "distinct_id" in params, limit < self._settings.most_rows)
            half = max(min(asked, self._settings.most_rows) // 2, 1)
            rows = self._probed(windows, shape, half, lambda s: page(max(after, before - timedelta(seconds=s))))
        if rows is None:
            rows = page(after)

        if request.wants_csv:
            text = as_csv.written([body for _, body in rows[:limit]])
            return Answer(200, text.encode(), content_type="text/csv; charset=utf-8", cut=cut)
        following = None
        if len(rows) > limit:
            # `["-timestamp", "x"]` sorts upwards and yet moves `before` (§1.4).
            moved = "before" if order[:1] == ["-timestamp"] else "after"
            following = f"http://{request.host}{request.path}?" + urlencode(
                {**params, moved: isoformat(rows[limit - 1][0])}
            )
        shown = b",".join(body for _, body in rows[:limit])
        body = b'{"next":%b,"results":[%b]}' % (to_json(following), shown)
        return Answer(200, body, (("X-PostHog-Warn", "https://posthog.com/docs/api/events"),), cut=cut)

    def _default_limit(self, request: Request) -> int:
        """Rows of a list that does not say how many (§1.2)."""
        if not request.wants_csv:
            return DEFAULT_LIMIT
        return OLDER_CSV_LIMIT if self._settings.older else MAX_LIMIT

    def _bounds(self, params: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
        """(after, before), both exclusive, with the defaults of §1.2."""

        def given(name: str) -> datetime | None:
            if not params.get(name):
                return None
            return moment(params[name], zone=self._settings.zone, now=now, older=self._settings.older)

        before = given("before") or now + timedelta(seconds=5)
        after = given("after") or before - timedelta(hours=24)
        if before - after > MAX_RANGE and not self._settings.older:
            raise ValueError(f"range of {before - after} is too long")
        return after, before

    def _conditions(self, params: Mapping[str, str], bounds_us: tuple[int, int], now: datetime) -> list[Condition]:
        conditions = []
        if params.get("event"):
            conditions.append(Condition("event = ?", (params["event"],)))
        if "distinct_id" in params:  # an empty one filters for an empty id (§1.4)
            conditions.append(Condition("distinct_id = ?", (params["distinct_id"],)))
        if params.get("person_id"):
            if not params["person_id"].isdigit():
                uuid.UUID(params["person_id"])
            conditions.append(Condition("0"))  # nobody is known: an unknown person is an empty answer (§1.4)
        if params.get("action_id"):
            int(params["action_id"])
            conditions.append(Condition("0"))
        if params.get("properties"):
            try:
                decoded = json.loads(params["properties"])
            except ValueError as exc:
                raise invalid("Properties are unparsable!") from exc

            def matching(expression: str) -> list[int]:
                if not self._settings.hogql_filter_allowed:
                    raise QueryError("hogql filters are switched off")
                return self._engine.matching(expression, bounds_us, lines=self._store.json_lines(), now=now)

            conditions.append(filters(decoded, matching))
        return conditions

    def _probed(
        self,
        windows: list[int],
        shape: tuple[bool, bool, bool],
        half: int,
        page: Callable[[int], list[tuple[int, bytes]]],
    ) -> list[tuple[int, bytes]] | None:
        """Rows of the first window, in seconds back, that holds *half* a page; None if none does (§1.5)."""
        now = self._settings.now()
        with self._lock:
            window_s, returned, at = self._windows.get(shape, (0, 0, now))
        if window_s in windows and returned >= half and now - at < REMEMBERED:
            windows = [window_s, *windows]
        for window_s in windows:
            rows = page(window_s)
            if len(rows) >= half:
                with self._lock:
                    self._windows[shape] = (window_s, len(rows), now)
                return rows
        return None

    def _detail(self, event_uuid: str, request: Request) -> Answer:
        try:
            canonical = str(uuid.UUID(event_uuid))
        except ValueError:
            # Without `attr` (§2.1, seen: error_retrieve_bad_id.json).
            return Answer(400, to_json({"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}))
        body = self._store.one(canonical, with_person=_persons_wanted(request))
        if body is None:
            raise not_found(f"No events exist for event UUID {event_uuid}")
        return Answer(200, body)

    def _values(self, request: Request) -> Answer:
        """Up to ten texts that a property or a column had lately, in events of the names given (§2.2).

        An older server names all events, wants neither name nor key, and knows a key that names the events themselves
        (seen: values_*.json of 1.43).
        """
        params, now = request.params, self._settings.now()
        key, names, part = params.get("key", ""), request.every("event_name"), params.get("value", "").lower()
        older = self._settings.older
        if older and key == "custom_event":
            found = self._store.values([Condition("1")], "event", column=True)
            return Answer(200, to_json([{"name": name} for name in found if name not in COMMON_EVENTS]))
        if not key and not older:
            raise invalid("You must provide a key")
        if not names and not older:
            raise invalid("You must provide event_name with a personal API key, or use the query endpoint")
        midnight = now.astimezone(self._settings.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        wanted = [
            {"key": name.removeprefix("properties_"), "value": _decoded(text)}
            for name, text in params.items()
            if name.startswith("properties_")
        ]
        conditions = [
            Condition("us >= ? AND us <= ?", (micros(midnight - VALUES_BACK), micros(now))),
            *([] if older else [Condition("event IN (SELECT value FROM json_each(?))", (json.dumps(names),))]),
            filters(wanted, lambda expression: []),
        ]
        found = self._store.values(conditions, key, column=params.get("is_column") == "true")
        matching = [text for text in found if part in text.lower()]
        shown = sorted(matching, key=len) if part else matching
        suggested = [{"name": text} for text in shown[:VALUES_MOST]]
        if older:
            return Answer(200, to_json(suggested))
        body = {"results": suggested, "refreshing": False}
        return Answer(200, to_json(body), (("Cache-Control", "max-age=10"),))

    def _query(self, request: Request) -> Answer:
        try:
            asked = json.loads(request.body)
            kind, sql = asked["query"]["kind"], asked["query"]["query"]
        except (ValueError, KeyError, TypeError) as exc:
            raise invalid("query.kind and query.query are needed") from exc
        if kind != "HogQLQuery":
            raise invalid(f"Query kind {kind} is not understood.")
        fresh = asked.get("refresh") in ("force_blocking", True)  # `true` is the older spelling (§10)
        with self._lock:
            known = None if fresh else self._cached.get(sql)
        if known is not None:
            return Answer(200, to_json({**known, "is_cached": True}))
        try:
            tables = {} if self._settings.older else {name: one.table() for name, one in self._lists.items()}
            table = self._engine.select(sql, lines=self._store.json_lines(), now=self._settings.now(), objects=tables)
        except QueryError as exc:
            raise invalid(str(exc)) from exc
        found: dict[str, Any] = {"query": sql, "columns": table.columns, "types": table.types, "results": table.results}
        if self._settings.older:  # neither (seen: query_hogql.json)
            return Answer(200, to_json(found))
        if table.has_more is not None:
            found |= {"hasMore": table.has_more, "limit": IMPLICIT_LIMIT}
        with self._lock:
            self._cached[sql] = found
        return Answer(200, to_json({**found, "is_cached": False}))


def _persons_wanted(request: Request) -> bool:
    return request.params.get("include_person") in ("true", "1")


def not_allowed(request: Request) -> ApiError:
    """405 in the words of samples/server-1.43/error_post_not_allowed.json."""
    detail = f'Method "{request.method}" not allowed.'
    return ApiError(405, "invalid_request", "method_not_allowed", detail)


def _paged(request: Request, rows: list[dict[str, Any]], *, page: int = DEFAULT_PAGE) -> Answer:
    """The part of *rows* that `limit` and `offset` ask for, with the addresses of its neighbours (§3.4)."""

    def number(name: str, least: int, default: int) -> int:
        text = request.params.get(name, "")
        return int(text) if text.isdecimal() and int(text) >= least else default

    limit, offset = number("limit", 1, page), number("offset", 0, 0)

    def address(start: int) -> str:
        query = {**request.params, "limit": limit, "offset": max(start, 0)}
        return f"http://{request.host}{request.path}?{urlencode(query)}"

    body = {
        "count": len(rows),
        "next": address(offset + limit) if offset + limit < len(rows) else None,
        "previous": address(offset - limit) if offset > 0 else None,
        "results": rows[offset : offset + limit],
    }
    return Answer(200, to_json(body))


def _decoded(text: str) -> Any:
    """JSON, or the text itself (§2.2)."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _offset(text: str) -> int:
    """Rows to skip: what is no number, and less than 0, counts as 0 (§1.2; -1 seen accepted)."""
    found = int(text) if re.fullmatch(r"-?\d+", text) else 0
    if found > MAX_OFFSET:
        detail = f"Offset is deprecated. Max supported offset value is {MAX_OFFSET}"
        raise invalid(detail)
    return max(found, 0)


def _fault(name: str) -> Answer:
    match name:
        case "429":
            return Throttled(1).answer()
        case "500":
            return server_error().answer()
        case "502html":
            return Answer(502, HTML_502, content_type="text/html")
        case "503":
            return ApiError(503, "server_error", "error", "Queries are a little too busy right now.").answer()
        case _:
            return ApiError(504, "server_error", "error", "Query has hit the max execution time.").answer()
