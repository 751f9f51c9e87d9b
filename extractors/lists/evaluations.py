"""Evaluations: list, look, change, delete softly and bring back (facts/posthog-api.md §4).

Rows are taken as they are: newer servers have more keys, older ones fewer. A change is idempotent, so one whose answer
was lost is looked up and told from one that did not happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from extractors import errors
from extractors.http.client import Client
from extractors.lists import exact, lookups
from extractors.lists.lookups import Row
from extractors.request import LOOKUP, WRITE, Bucket, Request


def evaluations(client: Client, project_id: int) -> Iterator[Row]:
    """Every evaluation once, newest first; deleted ones are not shown by PostHog."""
    return lookups.every(
        lambda limit, offset: lookups.listed(client, project_id, "evaluations/", limit=limit, offset=offset)
    )


def evaluation(client: Client, project_id: int, name: UUID) -> Row:
    """One evaluation. Raises NotFound, also for a deleted one."""
    return lookups.document(client.send(_request(project_id, name)).body)


def with_prompt(row: Row, prompt: str) -> dict[str, Any]:
    """The change that sets the prompt where *row* keeps it. Raises ValueError where it keeps none."""
    config = row.get("evaluation_config")
    if isinstance(config, dict) and "prompt" in config:
        return {"evaluation_config": {**config, "prompt": prompt}}
    if "prompt" in row:
        return {"prompt": prompt}
    raise ValueError(f"an evaluation of type {row.get('evaluation_type')!r} has no prompt")


def changed(row: Row, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of *wanted* differs from *row*: only that is sent."""
    return {name: value for name, value in wanted.items() if name not in row or row[name] != value}


def change(client: Client, project_id: int, name: UUID, changes: Mapping[str, Any]) -> Row | None:
    """PATCH *changes*, once; the row as it then is, None if it is deleted then.

    Raises AnswerLost if the answer was lost and the row does not show the changes.
    """
    request = _request(project_id, name, body=exact.dumps(changes).encode())
    try:
        row: Row = lookups.document(client.send(request).body)
    except (errors.AnswerLost, errors.UnusableAnswer) as exc:
        try:
            row = evaluation(client, project_id, name)
        except errors.NotFound:
            if changes.get("deleted") is True:
                return None
            raise
        if changed(row, changes):
            raise errors.AnswerLost(
                f"{exc}; evaluation {name} does not show the change", hint="run the same command again"
            ) from exc
    return None if row.get("deleted") is True else row


def _request(project_id: int, name: UUID, *, body: bytes | None = None) -> Request:
    return Request(
        project_id,
        f"evaluations/{name}/",
        Bucket.REST,
        body=body,
        method="GET" if body is None else "PATCH",
        entry=f"evaluation {name}",
        policy=LOOKUP if body is None else WRITE,
    )
