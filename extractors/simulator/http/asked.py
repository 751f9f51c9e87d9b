"""What is asked of the simulator, and how it may behave: values, and what an address means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from extractors.simulator import responses
from extractors.simulator.assets import lists
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.assets.lists import KINDS, ListStore
from extractors.simulator.data.listing import Found
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.http import accounts
from extractors.simulator.profiles import Profile


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
    """A running server. *damaged*: (kind, uuid) of each row that was shown damaged.

    *exports*, *evaluations* and *lists* are those of the first project; tests change them while it runs.
    """

    url: str
    key: str
    exports: ExportStore = field(default_factory=ExportStore)
    evaluations: EvaluationStore = field(default_factory=EvaluationStore)
    lists: Mapping[str, ListStore] = field(default_factory=lists.stores)
    requests: list[RequestSeen] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    damaged: list[tuple[str, str]] = field(default_factory=list)

    def count(self, endpoint: str) -> int:
        """Requests of *endpoint*: list, detail, values, query, exports, export, content, evaluations, evaluation, or one of
        accounts.SCOPES or lists.KINDS."""
        return sum(request.endpoint == endpoint for request in self.requests)

    @property
    def refused(self) -> int:
        """Requests answered with 429."""
        return sum(count for (_, status), count in self.statuses.items() if status == 429)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a server does beside answering: its kind, its faults, its clock, and who hears of requests."""

    profile: Profile
    faults: Faults
    now: Callable[[], datetime]
    on_request: Callable[[RequestSeen], None]
    on_hook: Callable[[str], None]
    scopes: frozenset[str] = frozenset({"*"})
    foreign_projects: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, taken apart."""

    request: Request
    params: Mapping[str, str]
    body: bytes
    parts: tuple[str, ...]
    endpoint: str
    fault: Fault | None

    @property
    def csv(self) -> bool:
        """Whether the answer is to be CSV, by the parameter or else by the header."""
        accepted = self.request.headers.get("accept", "")
        return self.params.get("format", "csv" if accepted == "text/csv" else "json") == "csv"


def scope_of(endpoint: str, method: str) -> str:
    """The scope that a request needs (§5.2), empty for none."""
    if endpoint in accounts.SCOPES:
        return accounts.SCOPES[endpoint]
    if endpoint in KINDS:
        return KINDS[endpoint].scope
    kind = {"exports": "export", "export": "export", "content": "export"}.get(endpoint, "query")
    if endpoint.startswith("evaluation"):
        kind = "evaluation"
    return f"{kind}:{'read' if method == 'GET' or endpoint == 'query' else 'write'}"


def negotiated(asked: Asked) -> Response | None:
    """The refusal of a format that is unknown, or that the Accept header does not allow."""
    wanted = asked.params.get("format", "json")
    if wanted not in ("json", "csv"):
        return responses.not_found("Not found.")
    kind = "text/csv" if asked.csv else "application/json"
    accepted = {part.partition(";")[0].strip() for part in asked.request.headers.get("accept", "*/*").split(",")}
    if not accepted & {"*/*", kind, f"{kind.partition('/')[0]}/*"}:
        detail = "Could not satisfy the request Accept header."
        return responses.error(406, "invalid_request", "not_acceptable", detail)
    return None


def person_asked(asked: Asked) -> bool:
    return asked.params.get("include_person", "") in ("true", "1")


def next_address(found: Found, asked: Asked) -> str | None:
    """The address of `next`: all parameters stay, also offset and a key in the query; only one bound moves (§1.5)."""
    if found.cursor is None:
        return None
    request, params = asked.request, dict(asked.params)
    kind = asked.fault.kind if asked.fault else ""
    if kind != "next-repeating":
        params[found.cursor[0]] = found.cursor[1]
    host = FOREIGN if kind == "next-foreign" else request.headers.get("host", "")
    return f"{request.url.scheme}://{host}{request.url.path}?{urlencode(params)}"


def endpoint_of(parts: Sequence[str]) -> str:
    """What `/api/<prefix>/<project>/…` leads to, in the words of Simulator.count, or unknown."""
    if len(parts) < 4 or parts[0] != "api":
        return "unknown"
    tail = parts[3:]
    if tail[0] == "query" and len(tail) == 1:
        return "query"
    if tail[0] in KINDS and len(tail) == 1:
        return tail[0]
    if tail[0] in ("exports", "evaluations") and len(tail) <= 2:
        return tail[0] if len(tail) == 1 else tail[0].removesuffix("s")
    if tail[0] == "exports" and len(tail) == 3 and tail[2] == "content":
        return "content"
    if tail[0] != "events" or len(tail) > 2:
        return "unknown"
    if len(tail) == 1:
        return "list"
    return "values" if tail[1] == "values" else "detail"


FOREIGN = "elsewhere.invalid"
METHODS: Mapping[str, tuple[str, ...]] = {
    "query": ("POST",),
    "exports": ("GET", "POST"),
    "evaluations": ("GET", "POST"),
    "evaluation": ("GET", "PUT", "PATCH", "DELETE"),
}
