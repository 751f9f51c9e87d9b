"""One HTTP request and one HTTP answer as values, and PostHog's errors (posthog-api.md §1.9, §5). Knows no sockets."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. *cut*: announce the whole body, send half, close."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    cut: bool = False


class ApiError(Exception):
    """An error that PostHog answers in words (§1.9, §5). *attr*: the field that is wrong, if one is."""

    def __init__(self, status: int, kind: str, code: str, detail: str, *, attr: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.code = code
        self.attr = attr

    def answer(self, *headers: tuple[str, str]) -> Answer:
        """The error object of §1.9."""
        shown = {"type": self.kind, "code": self.code, "detail": str(self), "attr": self.attr}
        return Answer(self.status, to_json(shown), headers)


def invalid(detail: str, *, code: str = "invalid_input", attr: str | None = None) -> ApiError:
    """400: what was sent is wrong."""
    return ApiError(400, "validation_error", code, detail, attr=attr)


def not_found(detail: str = "Not found.") -> ApiError:
    """404 in PostHog's words."""
    return ApiError(404, "invalid_request", "not_found", detail)


@dataclass(frozen=True, slots=True)
class Request:
    """What the project needs of one HTTP request. *params*: the last of repeated ones wins."""

    method: str
    target: str
    host: str
    authorization: str
    body: bytes = b""
    accept: str = "*/*"

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def wants_csv(self) -> bool:
        return self.params.get("format") == "csv" or self.accept == "text/csv"

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def every(self, name: str) -> list[str]:
        """All values of a repeatable parameter, empty ones left out."""
        return parse_qs(urlsplit(self.target).query).get(name, [])


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
