"""The simulated PostHog over HTTP: addresses, keys, limits, faults and rendering (facts/posthog-api.md §1, §2, §5, §8)."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import urlencode

import uvicorn
from isal import igzip
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from extractors.simulator.dataset import Dataset
from extractors.simulator.faults import Faults
from extractors.simulator.hogql import Engine
from extractors.simulator.limits import RateLimits
from extractors.simulator.listing import BadInput, BareFault, Listing
from extractors.simulator.profiles import CLOUD, Profile

CACHED_S = 60.0


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """One request as it came in; *number* counts those of its endpoint from 1."""

    number: int
    endpoint: str
    method: str
    path: str
    params: Mapping[str, str]


@dataclass(slots=True)
class Simulator:
    """A running server."""

    url: str
    key: str
    requests: list[RequestSeen] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    def count(self, endpoint: str) -> int:
        """Requests of *endpoint*: list, detail, values or query."""
        return sum(request.endpoint == endpoint for request in self.requests)

    @property
    def refused(self) -> int:
        """Requests answered with 429."""
        return sum(count for (_, status), count in self.statuses.items() if status == 429)


@dataclass(slots=True)
class _Project:
    listing: Listing
    engine: Engine
    running: int = 0
    cache: dict[str, tuple[float, bytes]] = field(default_factory=dict)


class _Server:
    def __init__(
        self,
        datasets: Mapping[int, Dataset],
        *,
        profile: Profile,
        faults: Faults,
        simulator: Simulator,
        now: Callable[[], datetime],
        on_request: Callable[[RequestSeen], None],
        on_hook: Callable[[str], None],
    ) -> None:
        self._profile, self._faults, self._simulator, self._now = profile, faults, simulator, now
        self._on_request, self._on_hook = on_request, on_hook
        self._limits = RateLimits()
        self._lock = threading.Lock()
        self._projects: dict[int, _Project] = {}
        for project_id, dataset in datasets.items():
            engine = Engine(dataset)

            def matching(expression: str, events: object, engine: Engine = engine) -> frozenset[int]:
                try:
                    return engine.matching(expression, events, profile.project_timezone)  # type: ignore[arg-type]
                except BadInput as exc:
                    raise BareFault(str(exc)) from exc

            self._projects[project_id] = _Project(Listing(dataset, profile, matching), engine)

    def app(self) -> Starlette:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(
            routes=[
                Route("/_simulator/{what}", self._control, methods=["GET", "POST"]),
                Route("/{path:path}", self._handle, methods=methods),
            ]
        )

    async def _control(self, request: Request) -> Response:
        if request.path_params["what"] == "hook":
            name = str(json.loads(await request.body() or b"{}").get("name", ""))
            await run_in_threadpool(self._on_hook, name)
            return self._json({"ok": True})
        stats = {f"{endpoint} {status}": count for (endpoint, status), count in self._simulator.statuses.items()}
        return self._json({"requests": stats})

    async def _handle(self, request: Request) -> Response:
        body = await request.body()
        params = dict(request.query_params.items())
        response, endpoint = await run_in_threadpool(self._answer, request, params, body)
        self._simulator.statuses[endpoint, response.status_code] += 1
        response.headers["Date"] = format_datetime(self._now().astimezone(UTC), usegmt=True)
        return response

    def _answer(self, request: Request, params: dict[str, str], body: bytes) -> tuple[Response, str]:
        parts = [part for part in request.url.path.split("/") if part]
        endpoint = _endpoint(parts)
        with self._lock:
            seen = RequestSeen(self._simulator.count(endpoint) + 1, endpoint, request.method, request.url.path, params)
            self._simulator.requests.append(seen)
        self._on_request(seen)
        fault = self._faults.pick(endpoint, seen.number)
        if fault and not fault.startswith("cut"):
            return self._faulty(fault), endpoint
        refusal = self._refusal(request, params, parts, endpoint)
        if refusal is not None:
            return refusal, endpoint
        project = self._projects[int(parts[2])]
        try:
            response = self._endpoint_answer(request, params, body, parts, endpoint, project)
        except BadInput as exc:
            response = self._error(400, "validation_error", "invalid_input", str(exc))
        except BareFault:
            response = self._error(500, "server_error", "error", "A server error occurred.")
        return (_Cut(response, gzip=fault == "cut-gzip") if fault else response), endpoint

    def _refusal(self, request: Request, params: Mapping[str, str], parts: list[str], endpoint: str) -> Response | None:
        """What stops a request before it is run: address, key, project, limits (§5.3, §5.4)."""
        if endpoint == "unknown" or parts[1] not in self._profile.prefixes:
            return self._error(404, "invalid_request", "not_found", "Endpoint not found.")
        given = request.headers.get("authorization", "").removeprefix("Bearer ") or params.get("personal_api_key", "")
        if not given:
            detail = "Authentication credentials were not provided."
            return self._error(401, "authentication_error", "not_authenticated", detail)
        if given != self._simulator.key:
            detail = "Personal API key found in request Authorization header is invalid."
            return self._error(401, "authentication_error", "authentication_failed", detail)
        if not parts[2].isdigit() or int(parts[2]) not in self._projects:
            return self._error(404, "invalid_request", "not_found", "Project not found.")
        if request.method != ("POST" if endpoint == "query" else "GET"):
            return self._error(405, "invalid_request", "method_not_allowed", f'Method "{request.method}" not allowed.')
        profile = self._profile
        bucket, per_minute, per_hour = {
            "query": ("query", profile.query_per_minute, profile.query_per_hour),
            "values": ("values", profile.values_per_minute, profile.values_per_hour),
        }.get(endpoint, ("list", profile.per_minute, profile.per_hour))
        wait_s = self._limits.refused_for_s(given, bucket, per_minute=per_minute, per_hour=per_hour)
        return self._throttled(wait_s) if wait_s else None

    def _endpoint_answer(
        self, request: Request, params: dict[str, str], body: bytes, parts: list[str], endpoint: str, project: _Project
    ) -> Response:
        if endpoint == "query":
            return self._query(body, project)
        if endpoint == "detail":
            return self._detail(parts[4], project)
        if endpoint == "values":
            return self._values(params, project)
        with self._lock:
            project.running += 1
            crowded = self._profile.in_flight is not None and project.running > self._profile.in_flight
        try:
            if crowded:
                raise BareFault("too many queries at once")
            return self._list(request, params, project)
        finally:
            with self._lock:
                project.running -= 1

    def _list(self, request: Request, params: dict[str, str], project: _Project) -> Response:
        found = project.listing.answer(params, self._now())
        next_address = None
        if found.cursor is not None:
            name, value = found.cursor
            # All parameters stay, also offset and a key in the query; only the bound is replaced (§1.5).
            host = request.headers.get("host", "")
            next_address = f"{request.url.scheme}://{host}{request.url.path}?{urlencode(params | {name: value})}"
        rows = b",".join(event.rendered() for event in found.rows)
        body = b'{"next":%s,"results":[%s]}' % (json.dumps(next_address).encode(), rows)
        response = self._raw(body, gzip="gzip" in request.headers.get("accept-encoding", ""))
        response.headers["X-PostHog-Warn"] = "https://posthog.com/docs/api/events"
        return response

    def _detail(self, text: str, project: _Project) -> Response:
        try:
            wanted = str(uuid.UUID(text))
        except ValueError:
            return self._json({"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}, status=400)
        for event in project.listing.dataset.events:
            if event.uuid == wanted:
                return self._raw(event.rendered())
        return self._error(404, "invalid_request", "not_found", f"No events exist for event UUID {wanted}")

    def _values(self, params: Mapping[str, str], project: _Project) -> Response:
        """Suggestions: at most ten distinct values (§2.2); the seven-day bound is not simulated."""
        if not params.get("key"):
            raise BadInput("You must provide a key")
        if not params.get("event_name"):
            raise BadInput("You must provide an event_name; use the query endpoint for more")
        found: dict[str, None] = {}
        for event in reversed(project.listing.dataset.events):
            if event.event != params["event_name"]:
                continue
            value = (
                event.distinct_id
                if params.get("is_column") == "true"
                else json.loads(event.properties).get(params["key"])
            )
            text = value if isinstance(value, str) else json.dumps(value)
            if value is not None and params.get("value", "").lower() in text.lower():
                found.setdefault(text)
            if len(found) == 10:
                break
        response = self._json({"results": [{"name": name} for name in found], "refreshing": False})
        response.headers["Cache-Control"] = "max-age=10"
        return response

    def _query(self, body: bytes, project: _Project) -> Response:
        if not self._profile.query_allowed:
            detail = "API key missing required scope 'query:read'"
            return self._error(403, "authentication_error", "permission_denied", detail)
        try:
            asked = json.loads(body)
            hogql, refresh = str(asked["query"]["query"]), asked.get("refresh")
        except (ValueError, KeyError, TypeError) as exc:
            raise BadInput("query is not a HogQLQuery") from exc
        cached = project.cache.get(hogql)
        if cached and refresh not in ("force_blocking", True) and time.monotonic() < cached[0] + CACHED_S:
            return self._json(json.loads(cached[1]) | {"is_cached": True})
        names, rows, more = project.engine.query(hogql, self._profile.project_timezone)
        answer = {"results": rows, "columns": names, "hasMore": more, "is_cached": False}
        project.cache[hogql] = (time.monotonic(), json.dumps(answer).encode())
        return self._json(answer)

    def _faulty(self, kind: str) -> Response:
        if kind == "429":
            return self._throttled(1)
        if kind == "502":
            return Response("<html><body><h1>502 Bad Gateway</h1></body></html>", 502, media_type="text/html")
        if kind == "504-html":
            return Response("<html>504 Gateway Time-out</html>", 504, media_type="text/html")
        status = int(kind[:3])
        response = self._error(status, "server_error", "error", "A server error occurred.")
        if kind == "503-after":
            response.headers["Retry-After"] = "1"
        return response

    def _throttled(self, wait_s: int) -> Response:
        unit = "second" if wait_s == 1 else "seconds"
        detail = f"Request was throttled. Expected available in {wait_s} {unit}."
        response = self._error(429, "throttled_error", "throttled", detail)
        response.headers["Retry-After"] = str(wait_s)
        return response

    def _error(self, status: int, kind: str, code: str, detail: str) -> Response:
        response = self._json({"type": kind, "code": code, "detail": detail, "attr": None}, status=status)
        if status == 401:
            response.headers["WWW-Authenticate"] = f'Bearer resource_metadata="{self._simulator.url}"'
        return response

    def _json(self, value: object, *, status: int = 200) -> Response:
        return self._raw(json.dumps(value, ensure_ascii=False).encode(), status=status)

    @staticmethod
    def _raw(body: bytes, *, status: int = 200, gzip: bool = False) -> Response:
        headers = {"Content-Encoding": "gzip"} if gzip else {}
        return Response(igzip.compress(body, compresslevel=0) if gzip else body, status, headers, "application/json")


class _Cut(Response):
    """Declares the whole length and sends the first half; the server then closes the connection."""

    def __init__(self, whole: Response, *, gzip: bool) -> None:
        body = bytes(whole.body)
        super().__init__(body[: len(body) // 2], whole.status_code, dict(whole.headers))
        if not gzip:
            self.headers["Content-Length"] = str(len(body))
        else:
            self.headers["Content-Length"] = str(len(body) // 2)


def _endpoint(parts: list[str]) -> str:
    """`/api/<prefix>/<project>/…` → list, detail, values, query or unknown."""
    if len(parts) < 4 or parts[0] != "api":
        return "unknown"
    tail = parts[3:]
    if tail == ["events"]:
        return "list"
    if tail == ["query"]:
        return "query"
    if len(tail) == 2 and tail[0] == "events":
        return "values" if tail[1] == "values" else "detail"
    return "unknown"


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def serve(
    datasets: Dataset | Mapping[int, Dataset],
    *,
    profile: Profile = CLOUD,
    faults: Faults | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    key: str = "phx_simulator",
    now: Callable[[], datetime] | None = None,
    on_request: Callable[[RequestSeen], None] = lambda seen: None,
    on_hook: Callable[[str], None] = lambda name: None,
) -> Iterator[Simulator]:
    """Serve *datasets* (one means project 1) until the block ends.

    *now*: the server's clock for the `Date` header and relative times. *on_request* is called before each answer,
    *on_hook* for each `POST /_simulator/hook {"name": …}`: tests end a client there.
    """
    with socket.create_server((host, port)) as listener:
        simulator = Simulator(f"http://{host}:{listener.getsockname()[1]}", key)
        server = _Server(
            {1: datasets} if isinstance(datasets, Dataset) else datasets,
            profile=profile,
            faults=faults or Faults(()),
            simulator=simulator,
            now=now or _now,
            on_request=on_request,
            on_hook=on_hook,
        )
        config = uvicorn.Config(
            server.app(), log_level="critical", date_header=False, lifespan="off", timeout_graceful_shutdown=1
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not running.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.01)
        try:
            yield simulator
        finally:
            running.should_exit = True
            thread.join(timeout=10)


def run(*, port: int, profile: Profile, dataset: Dataset, key: str) -> None:
    """Serve in the foreground until interrupted, telling address, key and project."""
    with serve(dataset, profile=profile, port=port, key=key) as simulator:
        sys.stdout.write(
            f"POSTHOG_HOST={simulator.url}\nPOSTHOG_PERSONAL_API_KEY={simulator.key}\nPOSTHOG_PROJECT_ID=1\n"
            f"# {len(dataset):,} events\n"
        )
        sys.stdout.flush()
        threading.Event().wait()
