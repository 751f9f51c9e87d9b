"""Exported assets: list, look, make, wait until they are ready (facts/posthog-api.md §3, facts/posthog-observed.md).

A POST is not repeatable and may lose its answer: a mark of ours in `export_context` finds the asset again. The
content's address is never asked before the asset says that it is there: on older servers too early a look ends the
asset's time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from extractors import errors
from extractors.http.client import Client
from extractors.lists import exact, lookups
from extractors.request import WRITE, Bucket, Request, instant

FORMATS: Mapping[str, str] = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "png": "image/png",
    "pdf": "application/pdf",
    "json": "application/json",
    "webm": "video/webm",
    "mp4": "video/mp4",
    "gif": "image/gif",
}
"""What users call a format → what PostHog calls it (§3.2)."""

MARK = "hedgerow"
"""The key of our mark in `export_context`."""

STUCK = (
    "Export failed without throwing an exception"  # made up by the server and not stored: a success may follow (§3.4)
)
SEARCHED_ROWS = 1_000
LONGEST_WORK = timedelta(minutes=36)  # the server's own limit is 35
LOOK_WAITS_S = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0)
SEARCH_WAITS_S = (0.0, 1.0, 3.0, 10.0)


@dataclass(frozen=True, slots=True)
class Asset:
    """One export; *row* is all that PostHog showed."""

    id: int
    export_format: str
    filename: str
    has_content: bool
    exception: str | None
    created_at: datetime | None
    expires_after: datetime | None
    row: Mapping[str, Any]

    @property
    def mark(self) -> str | None:
        context = self.row.get("export_context")
        return context.get(MARK) if isinstance(context, dict) else None


@dataclass(frozen=True, slots=True)
class NewExport:
    """What to export and how. *context*: the text of a JSON object. Raises ValueError if nothing is to be exported."""

    export_format: str
    insight: int | None = None
    dashboard: int | None = None
    context: str | None = None
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        if self.insight is None and self.dashboard is None and self.context is None:
            raise ValueError("nothing to export: expected an insight, a dashboard or a context")
        if self.context is not None and not isinstance(exact.loads(self.context.encode()), dict):
            raise ValueError("the context is no JSON object")

    @property
    def identity(self) -> str:
        """Text that is equal for two orders of the same thing; when it is to expire does not count."""
        return json.dumps([self.export_format, self.insight, self.dashboard, self.context])

    def body(self, mark: str) -> bytes:
        """The POST's body, with our mark."""
        given: dict[str, object] = {"export_format": self.export_format}
        given |= {name: getattr(self, name) for name in ("insight", "dashboard") if getattr(self, name) is not None}
        given["export_context"] = (exact.loads(self.context.encode()) if self.context else {}) | {MARK: mark}
        if self.expires_after is not None:
            given["expires_after"] = instant(self.expires_after)
        return exact.dumps(given).encode()


def asset_of(row: Mapping[str, Any]) -> Asset:
    """An asset as PostHog shows it; keys may be missing or new. Raises UnusableAnswer."""
    if type(row.get("id")) is not int or not 0 <= row["id"] < 2**63:
        raise errors.UnusableAnswer("an export without a number as its id")
    return Asset(
        id=row["id"],
        export_format=str(row.get("export_format") or ""),
        filename=str(row.get("filename") or ""),
        has_content=str(row.get("has_content")).lower() == "true",  # a string in the OpenAPI text, a boolean in fact
        exception=None if row.get("exception") is None else str(row["exception"]),
        created_at=_time(row.get("created_at")),
        expires_after=_time(row.get("expires_after")),
        row=row,
    )


def assets(client: Client, project_id: int, *, on_unusable: Callable[[str], object] | None = None) -> Iterator[Asset]:
    """Every export of the key's owner once, newest first. *on_unusable* hears of those that cannot be read, which are left
    out; without it they raise UnusableAnswer."""
    rows = lookups.every(
        lambda limit, offset: lookups.listed(client, project_id, "exports/", limit=limit, offset=offset)
    )
    for row in rows:
        try:
            made = asset_of(row)
        except errors.UnusableAnswer as exc:
            if on_unusable is None:
                raise
            on_unusable(f"export {str(row['id'])[:50]} cannot be read: {exc}")
        else:
            yield made


def asset(client: Client, project_id: int, asset_id: int) -> Asset:
    """One export. Raises NotFound; another user's is not found either."""
    request = Request(project_id, f"exports/{asset_id}/", Bucket.REST, entry=f"export {asset_id}")
    return asset_of(lookups.document(client.send(request).body))


def create(client: Client, project_id: int, order: NewExport, *, mark: str, answer_s: float) -> Asset:
    """Order an export, once. Raises AnswerLost where it may have been made all the same: look for the mark.

    PostHog answers when the work has ended, up to 35 minutes later; we listen for *answer_s* seconds.
    """
    request = Request(
        project_id,
        "exports/",
        Bucket.REST,
        body=order.body(mark),
        method="POST",
        policy=replace(WRITE, answer_s=answer_s),
    )
    body = client.send(request).body
    try:
        return asset_of(lookups.document(body))
    except errors.UnusableAnswer as exc:
        raise errors.AnswerLost(f"{exc}: whether the export was made is not known") from exc


def marked(client: Client, project_id: int, mark: str) -> Asset | None:
    """The newest of our exports that bears *mark*, among the last thousand."""
    recent = islice(assets(client, project_id), SEARCHED_ROWS)
    return next((one for one in recent if one.mark == mark), None)


def found_again(client: Client, project_id: int, mark: str, *, pause: Callable[[float], object]) -> Asset | None:
    """The export that bears *mark*, looked for a few times: it may not be listed at once."""
    for wait_s in SEARCH_WAITS_S:
        pause(wait_s)
        found = marked(client, project_id, mark)
        if found is not None:
            return found
    return None


def failure(one: Asset) -> str | None:
    """Why the work has failed; None while it goes on and when it is done. A made-up exception is no failure."""
    if one.has_content or one.exception is None or one.exception.startswith(STUCK):
        return None
    return one.exception


def finished(
    client: Client,
    project_id: int,
    one: Asset,
    *,
    pause: Callable[[float], object],
    longest: timedelta = LONGEST_WORK,
    on_look: Callable[[Asset], None] = lambda one: None,
) -> Asset:
    """*one* once it has a content. Looks at the asset alone, seldom in the end.

    Raises RequestRefused with PostHog's reason if the work failed, SourceUnavailable if it goes on after *longest*.
    """
    waited_s, looks = 0.0, 0
    while not one.has_content:
        reason = failure(one)
        if reason is not None:
            raise errors.RequestRefused(f"export {one.id} failed: {' '.join(reason.split())[:300]}")
        if waited_s > longest.total_seconds():
            raise errors.SourceUnavailable(
                f"export {one.id} is not ready after {longest.total_seconds() / 60:.0f} minutes",
                hint=f"it may still become so: hedgerow exports get {one.id}",
            )
        wait_s = LOOK_WAITS_S[min(looks, len(LOOK_WAITS_S) - 1)]
        pause(wait_s)
        waited_s, looks = waited_s + wait_s, looks + 1
        one = asset(client, project_id, one.id)
        on_look(one)
    return one


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
        return at if at.tzinfo and at.astimezone(UTC) else None
    except (ValueError, OverflowError):  # of the year 0, or 10000, in UTC
        return None
