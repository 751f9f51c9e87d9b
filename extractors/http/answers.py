"""What status and headers of an answer say: the body, or a typed error by what can be done about it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from extractors import errors

_NO_ENDPOINT = "Endpoint not found"
_UNNAMED = ("Not found.", "")  # a 404 of PostHog's framework, of the project's look-up, or of a proxy
_UPGRADE = "upgrade PostHog; hedgerow check says what this server offers"


class _Error(msgspec.Struct):
    type: str | None = None
    code: str | None = None
    detail: str | None = None
    attr: str | None = None


_error_decoder = msgspec.json.Decoder(_Error)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What an answer that is none says; *detail* and *code* are empty for proxies' HTML and everything else."""

    status: int
    detail: str
    code: str

    @property
    def what(self) -> str:
        return f"PostHog answered {self.status}" + (f" ({self.detail})" if self.detail else "")


def checked(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    entry: str = "",
    by_user: bool = False,
    newer: str = "",
    address_known: bool = True,
) -> bytes:
    """The body of a 200 or 201; any other status raises the error that says what the user or the caller can do.

    Headers: lower-case names. *entry* and *newer*: as in Request, *by_user*: as in Policy. Until the *address_known* a
    404 that does not say what is missing is taken for the address: to `format=csv` an absent one answers a bare
    `Not found.`.
    """
    if status in (200, 201):
        return body
    refusal = _refusal(status, body)
    error = (
        _denied(refusal)
        or _missing(refusal, entry=entry, newer=newer, address_known=address_known)
        or _passing(refusal, headers)
    )
    if error is not None:
        raise error
    if 300 <= status < 400:
        raise errors.UnusableAnswer(
            f"PostHog answered {status}, a redirect, which an API call never follows",
            hint="check POSTHOG_HOST (https, no path)",
        )
    if status == 400 and by_user:
        raise errors.BadQuestion(refusal.what)
    raise errors.RequestRefused(refusal.what)


def _denied(refusal: _Refusal) -> errors.SourceError | None:
    """401 and 403: what only the user can mend."""
    if refusal.status == 401:
        return errors.AccessDenied(
            refusal.what,
            about="key",
            hint="check POSTHOG_PERSONAL_API_KEY: a personal API key (phx_…) of a user of this project, on this host",
        )
    if refusal.status == 403:
        scope = re.search(r"scope '?([a-z_]+:[a-z]+)", refusal.detail)
        return errors.AccessDenied(
            refusal.what,
            about="scope" if scope else "project",
            hint=f"give the personal API key the scope {scope[1]}"
            if scope
            else "give the personal API key, and its user, access to this project",
        )
    return None


def _missing(refusal: _Refusal, *, entry: str, newer: str, address_known: bool) -> errors.SourceError | None:
    """404 and 405: the address, the method, the project or the entry."""
    status, detail, code, what = refusal.status, refusal.detail, refusal.code, refusal.what
    if status == 404 and newer and detail.startswith(_NO_ENDPOINT):
        return errors.EndpointMissing(f"this server is too old for {newer}: {what}", hint=_UPGRADE)
    if status == 405 and newer and code == "method_not_allowed":
        return errors.NotOffered(f"this server is too old for {newer}: {what}", hint=_UPGRADE)
    if status == 404 and (detail.startswith(_NO_ENDPOINT) or (not address_known and detail in _UNNAMED)):
        return errors.EndpointMissing(what, hint="is POSTHOG_HOST the address of the PostHog app?")
    if status == 404 and entry and detail and not detail.startswith("Project not found"):
        return errors.NotFound(
            f"no {entry} in this project: {what}", hint=f"hedgerow {entry.split()[0]}s list shows what there is"
        )
    if status == 404 and (code == "not_found" or not detail):
        return errors.AccessDenied(
            what, about="project", hint="check POSTHOG_PROJECT_ID and POSTHOG_HOST: this host has no such project"
        )
    return None


def _passing(refusal: _Refusal, headers: Mapping[str, str]) -> errors.SourceError | None:
    """What may be otherwise after a while, or for a smaller question."""
    status, what = refusal.status, refusal.what
    if status == 429:
        return errors.LimitsExhausted(what, retry_after_s=retry_after_s(headers) or 1.0)
    if status in (504, 512, 513):
        return errors.RangeTooHeavy(what)
    if status in (502, 503):
        return errors.SourceUnavailable(what, retry_after_s=retry_after_s(headers), hint="run again later")
    if status >= 500:
        return errors.ServerFault(what)
    if status in (409, 425):
        return errors.NotReady(what, retry_after_s=retry_after_s(headers))
    return None


def _refusal(status: int, body: bytes) -> _Refusal:
    try:
        error = _error_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Refusal(status, "", "")
    named = f"{error.attr}: " if error.attr else ""
    return _Refusal(status, (named + (error.detail or ""))[:200], error.code or "")


LONGEST_WAIT_S = 3600.0  # the longest of PostHog's limits is by the hour


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header (whole seconds or an HTTP date, RFC 9110 §10.2.3), an hour at most: then we ask."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(text) if text else None
        sent = served_at(headers)
    except ValueError:
        return None
    return min(max(0.0, (at - sent).total_seconds()), LONGEST_WAIT_S) if at and at.tzinfo and sent else None


def served_at(headers: Mapping[str, str]) -> datetime | None:
    """The server's clock, from the `Date` header, in whole seconds."""
    try:
        at = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None
