"""The simulated PostHog as an ASGI application: addresses, keys, limits and endpoints (facts/posthog-api.md §1 to §5)."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from extractors.simulator import faults, responses
from extractors.simulator.assets import evaluations, exports, lists, paging
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.assets.lists import KINDS, ListStore
from extractors.simulator.data import tabular
from extractors.simulator.data.dataset import Dataset, Event, Person
from extractors.simulator.data.hogql import Engine
from extractors.simulator.data.listing import Found, Listing
from extractors.simulator.data.query import Query
from extractors.simulator.data.rows import integer_id, row, unservable
from extractors.simulator.data.values import suggestions
from extractors.simulator.errors import BadField, BadInput, BareFault
from extractors.simulator.faults import Fault
from extractors.simulator.http import accounts, damage
from extractors.simulator.http.asked import (
    METHODS,
    Asked,
    Behaviour,
    RequestSeen,
    Simulator,
    endpoint_of,
    negotiated,
    next_address,
    person_asked,
    scope_of,
)
from extractors.simulator.http.limits import BUCKETS, RateLimits
from extractors.simulator.profiles import Profile

EVENTS = ("list", "detail", "values")


@dataclass(slots=True)
class _Project:
    dataset: Dataset
    listing: Listing
    query: Query
    exports: ExportStore
    evaluations: EvaluationStore
    lists: Mapping[str, ListStore]
    running: int = 0


class App:
    """Answers requests over several projects; *connections* are those that a fault may reset."""

    def __init__(self, datasets: Mapping[int, Dataset], behaviour: Behaviour, simulator: Simulator) -> None:
        self._behaviour, self._profile, self._simulator = behaviour, behaviour.profile, simulator
        self.connections = responses.Connections()
        self._limits = RateLimits()
        self._lock = threading.Lock()
        first = next(iter(datasets), None)
        self._projects = {
            number: _project(
                dataset,
                behaviour.profile,
                exports=simulator.exports if number == first else ExportStore(),
                evaluations=simulator.evaluations if number == first else EvaluationStore(),
                held=simulator.lists if number == first else lists.stores(),
            )
            for number, dataset in datasets.items()
        }

    def asgi(self) -> Starlette:
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
            await run_in_threadpool(self._behaviour.on_hook, name)
            return responses.json_answer({"ok": True})
        stats = {f"{endpoint} {status}": count for (endpoint, status), count in self._simulator.statuses.items()}
        return responses.json_answer({"requests": stats})

    async def _handle(self, request: Request) -> Response:
        body = await request.body()
        response, endpoint = await run_in_threadpool(self._answer, request, body)
        self._simulator.statuses[endpoint, response.status_code] += 1
        response.headers["Date"] = format_datetime(self._behaviour.now().astimezone(UTC), usegmt=True)
        return response

    def _answer(self, request: Request, body: bytes) -> tuple[Response, str]:
        params = dict(request.query_params.items())
        parts = tuple(part for part in request.url.path.split("/") if part)
        endpoint = accounts.endpoint(parts, self._profile) or endpoint_of(parts)
        with self._lock:
            seen = RequestSeen(self._simulator.count(endpoint) + 1, endpoint, request.method, request.url.path, params)
            self._simulator.requests.append(seen)
        self._behaviour.on_request(seen)
        fault = self._behaviour.faults.pick(endpoint, seen.number)
        if fault and fault.kind in faults.STATUS_KINDS:
            return responses.instead(fault.kind, wait_s=fault.seconds), endpoint
        asked = Asked(request, params, body, parts, endpoint, fault)
        response = self._refusal(asked) or self._endpoint_answer(asked)
        exists = endpoint in EVENTS and parts[1] in self._profile.prefixes
        if response.status_code >= 400 and response.status_code != 406 and asked.csv and exists:
            response = Response(b"", response.status_code)  # the renderer knows rows only (§1.8)
        if fault and fault.kind in faults.BODY_KINDS:
            response = responses.delivered(response, fault, self.connections)
        return response, endpoint

    def _refusal(self, asked: Asked) -> Response | None:
        """What stops a request before it is run: address, key, project, limits (§5.3, §5.4)."""
        profile, request, endpoint = self._profile, asked.request, asked.endpoint
        missing = endpoint.startswith("evaluation") and not profile.evaluations
        of_project = endpoint not in accounts.SCOPES
        if endpoint in KINDS:
            missing = profile.lists is not None and endpoint not in profile.lists
            missing = missing or asked.parts[1] not in KINDS[endpoint].prefixes
        if endpoint == "unknown" or missing or (of_project and asked.parts[1] not in profile.prefixes):
            # What stands in for absent endpoints renders JSON only, so another `format` is not found there first.
            other = asked.params.get("format", "json") != "json"
            return responses.not_found("Not found." if other else "Endpoint not found.")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = bearer or asked.params.get("personal_api_key", "")
        if given != self._simulator.key:
            return self._unauthorized(given)
        if of_project:
            if asked.parts[2].isdecimal() and int(asked.parts[2]) in self._behaviour.foreign_projects:
                detail = "You don't have access to the project."
                return responses.error(403, "authentication_error", "permission_denied", detail)
            if self._project(asked.parts[2]) is None:
                return responses.not_found("Project not found.")
        listless = endpoint == "exports" and request.method == "GET" and not profile.exports_listed
        if listless or request.method not in METHODS.get(endpoint, ("GET",)):
            detail = f'Method "{request.method}" not allowed.'
            return responses.error(405, "invalid_request", "method_not_allowed", detail)
        scope = scope_of(endpoint, request.method)
        if scope and not self._behaviour.scopes & {"*", scope, scope.replace(":read", ":write")}:
            detail = f"API key missing required scope '{scope}'"
            return responses.error(403, "authentication_error", "permission_denied", detail)
        bucket = BUCKETS.get(endpoint, "list")
        per_minute, per_hour = {
            "query": (profile.query_per_minute, profile.query_per_hour),
            "values": (profile.values_per_minute, profile.values_per_hour),
            "rest": (profile.rest_per_minute, profile.rest_per_hour),
            "list": (profile.per_minute, profile.per_hour),
        }[bucket]
        wait_s = self._limits.refused_for_s(given, bucket, per_minute=per_minute, per_hour=per_hour)
        return responses.throttled(wait_s) if wait_s else None

    def _unauthorized(self, given: str) -> Response:
        code, detail = (
            ("authentication_failed", "Personal API key found in request Authorization header is invalid.")
            if given
            else ("not_authenticated", "Authentication credentials were not provided.")
        )
        response = responses.error(401, "authentication_error", code, detail)
        if self._profile.challenges:
            response.headers["WWW-Authenticate"] = f'Bearer resource_metadata="{self._simulator.url}"'
        return response

    def _project(self, name: str) -> _Project | None:
        """The project of an address; `@current` is the key's first."""
        first = next(iter(self._projects.values()), None)
        if name == "@current":
            return first
        known = self._projects.get(int(name)) if name.isdecimal() else None
        return first if known is None and name.isdecimal() and self._profile.any_project else known

    def _endpoint_answer(self, asked: Asked) -> Response:
        if asked.endpoint in accounts.SCOPES:
            key, scopes, zone = self._simulator.key, self._behaviour.scopes, self._profile.project_timezone
            account = accounts.Account(tuple(self._projects), key, scopes, zone)
            return account.answer(asked.endpoint, asked.parts, self._paged(asked))
        project = self._project(asked.parts[2])
        assert project is not None, "refused before"
        if asked.endpoint in EVENTS and (refused := negotiated(asked)):
            return refused
        try:
            if asked.endpoint == "query":
                return self._query(asked, project)
            if asked.endpoint == "detail":
                return self._detail(asked, project)
            if asked.endpoint == "values":
                return self._values(asked, project)
            if BUCKETS.get(asked.endpoint) == "rest":
                return self._asset_answer(asked, project)
            return self._list(asked, project)
        except BadField as exc:
            return responses.error(400, "validation_error", exc.code, str(exc), exc.attr)
        except BadInput as exc:
            return responses.error(400, "validation_error", "invalid_input", str(exc))
        except BareFault:
            return responses.server_error()

    def _asset_answer(self, asked: Asked, project: _Project) -> Response:
        """Exports, evaluations and plain lists."""
        profile, method, one = self._profile, asked.request.method, self._paged(asked)
        if asked.endpoint == "exports":
            return (exports.create if method == "POST" else exports.listed)(project.exports, one, profile)
        if asked.endpoint in ("export", "content"):
            answer = exports.one if asked.endpoint == "export" else exports.content
            return answer(project.exports, asked.parts[4], one, profile)
        if asked.endpoint in KINDS:
            return project.lists[asked.endpoint].listed(one)
        text = asked.parts[4] if asked.endpoint == "evaluation" else None
        return evaluations.answer(project.evaluations, method, text, one, profile)

    def _paged(self, asked: Asked) -> paging.Asked:
        request = asked.request
        address = f"{request.url.scheme}://{request.headers.get('host', '')}{request.url.path}"
        return paging.Asked(asked.params, asked.body, self._behaviour.now(), address)

    def _list(self, asked: Asked, project: _Project) -> Response:
        with self._lock:
            project.running += 1
            crowded = self._profile.in_flight is not None and project.running > self._profile.in_flight
        try:
            if crowded:
                raise BareFault("too many queries at once")
            default = {"limit": str(self._profile.csv_limit)} if asked.csv else {}
            found = project.listing.answer(default | dict(asked.params), self._behaviour.now())
        finally:
            with self._lock:
                project.running -= 1
        if found.offset:
            time.sleep(self._profile.offset_wait_s)
        looked_up = self._profile.person_always or person_asked(asked)
        if unservable(found.rows, found.fetched, persons=looked_up):
            raise BareFault("a row cannot be served")
        persons = project.dataset.persons if looked_up else {}
        rows = self._rows(found, persons, project.dataset, asked.fault)
        if asked.csv:
            text = tabular.csv_text(rows)
            return Response(text, media_type="text/csv" if text else None)
        following = json.dumps(next_address(found, asked)).encode()
        body = b'{"next":%s,"results":[%s]}' % (following, b",".join(rows))
        response = responses.plain(body, gzip="gzip" in asked.request.headers.get("accept-encoding", ""))
        if self._profile.warns:
            response.headers["X-PostHog-Warn"] = "https://posthog.com/docs/api/events"
        return response

    def _rows(
        self, found: Found, persons: Mapping[str, Person], dataset: Dataset, fault: Fault | None
    ) -> Sequence[bytes]:
        """The rows' texts, one of them strayed or damaged if the fault is of that sort."""
        events = list(found.rows)
        one = damage.stray(dataset, found, fault) if fault and fault.kind == "stray-row" else None
        if one is not None:
            self._simulator.damaged.append(("stray-row", one.uuid))
            # Where time puts it, as from a server that lost one bound.
            events = sorted([*events, one], key=lambda event: event.micros, reverse=found.descending)
        rows = [row(event, persons.get(event.distinct_id), self._profile) for event in events]
        at = damage.victim(events, fault)
        if at is not None:
            rows[at] = self._damaged(fault, events[at], persons)
        return rows

    def _damaged(self, fault: Fault | None, event: Event, persons: Mapping[str, Person]) -> bytes:
        assert fault is not None, "a victim has its fault"
        self._simulator.damaged.append((fault.kind, event.uuid))
        return damage.damaged(fault.kind, event, persons.get(event.distinct_id), self._profile)

    def _detail(self, asked: Asked, project: _Project) -> Response:
        text, missing = asked.parts[4], "Not found."
        if self._profile.integer_rows:
            wanted = [event for event in project.dataset.events if str(integer_id(event.uuid)) == text]
        else:
            try:
                name = str(uuid.UUID(text))
            except ValueError:
                body = {"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}
                return responses.json_answer(body, status=400)
            wanted = [event for event in project.dataset.events if event.uuid == name]
            missing = f"No events exist for event UUID {name}"
        if not wanted:
            return responses.not_found(missing)
        if unservable(wanted[:1], wanted[:1], persons=self._profile.person_always or person_asked(asked)):
            raise BareFault("the row cannot be served")
        if asked.csv:
            return Response(b"", media_type="text/csv")  # one event has no `results`, which the renderer looks for
        persons = project.dataset.persons if person_asked(asked) else {}
        if damage.victim(wanted[:1], asked.fault) is not None:
            return responses.plain(self._damaged(asked.fault, wanted[0], persons))
        return responses.plain(row(wanted[0], persons.get(wanted[0].distinct_id), self._profile))

    def _values(self, asked: Asked, project: _Project) -> Response:
        names = asked.request.query_params.getlist("event_name")
        found = suggestions(project.dataset, asked.params, names, self._behaviour.now(), self._profile)
        rows = [{"name": text} for text in found]
        if asked.csv:
            return Response(tabular.csv_text(json.dumps(row).encode() for row in rows), media_type="text/csv")
        if self._profile.values_bare:
            return responses.json_answer(rows)
        response = responses.json_answer({"results": rows, "refreshing": False})
        response.headers["Cache-Control"] = "max-age=10"
        return response

    def _query(self, asked: Asked, project: _Project) -> Response:
        if self._profile.query_allowed:
            if heavy := project.query.too_heavy(asked.body, self._behaviour.faults.heavy):
                self._behaviour.faults.met[heavy] += 1
                return responses.instead(heavy.kind)
            return responses.json_answer(project.query.answer(asked.body, self._behaviour.now()))
        if self._profile.query_refused_with == 404:
            return responses.not_found("Endpoint not found.")
        if self._profile.query_refused_with == 500:
            return responses.server_error()
        detail = "API key missing required scope 'query:read'"
        return responses.error(403, "authentication_error", "permission_denied", detail)


def _project(
    dataset: Dataset,
    profile: Profile,
    *,
    exports: ExportStore,
    evaluations: EvaluationStore,
    held: Mapping[str, ListStore],
) -> _Project:
    engine = Engine(dataset, profile, twins=lambda name: held[name].twin() if name in held else None)

    def matching(expression: str, events: Sequence[Event]) -> frozenset[int]:
        try:
            return engine.matching(expression, events)
        except BadInput as exc:
            raise BareFault(str(exc)) from exc

    return _Project(dataset, Listing(dataset, profile, matching), Query(engine, profile), exports, evaluations, held)
