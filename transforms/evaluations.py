"""Evaluations as a history: a row per evaluation per change, `valid_to` null for the current one (contract.md §4)."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

TIME = pa.timestamp("us", "UTC")
EVALUATIONS = pa.schema(
    [
        pa.field("project_id", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("description", pa.string()),
        pa.field("enabled", pa.bool_()),
        pa.field("deleted", pa.bool_(), nullable=False),
        pa.field("evaluation_type", pa.string()),
        pa.field("evaluation_config", pa.string()),
        pa.field("conditions", pa.string()),
        pa.field("raw", pa.string(), nullable=False),
        pa.field("updated_at", TIME),
        pa.field("valid_from", TIME, nullable=False),
        pa.field("valid_to", TIME),
        pa.field("missing_since", TIME),
    ]
)
JSON = ("evaluation_config", "conditions", "raw")
RESULTS_VIEW = """SELECT v.id AS evaluation_id, v.name, v.enabled, v.deleted, v.evaluation_type,
    e.properties->>'/$ai_evaluation_result' AS result, e.properties->>'/$ai_evaluation_reasoning' AS reasoning,
    e.properties->>'/$ai_target_event_id' AS target_event_id, e."timestamp", e.uuid, e.distinct_id, e.project_id, e.properties
FROM events e JOIN evaluations v ON v.project_id = e.project_id AND v.id = e.properties->>'/$ai_evaluation_id'
WHERE e.event = '$ai_evaluation' AND v.valid_to IS NULL"""
"""Current evaluations and what came of them: the view `evaluation_results` (properties as PostHog's own events have them;
by JSON pointers, because a leading $ would begin a path)."""


MANY = 10
"""From so many evaluations on, a list that lacks more than half of them is not believed."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The new history, and how many evaluations were new, changed and gone.

    *missing*: ids that the source does not show and that are kept all the same, out of *current* ones. *differs*: the
    table is another than before.
    """

    table: pa.Table
    new: int
    changed: int
    deleted: int
    missing: tuple[str, ...]
    current: int
    differs: bool

    def __bool__(self) -> bool:
        return self.differs


def merged(
    history: pa.Table | None,
    rows: Iterable[Mapping[str, Any]],
    *,
    project_id: int,
    at: datetime,
    accept_deletions: bool = False,
) -> Merged:
    """The history after the source showed *rows*, all of a project, at *at*. An evaluation that it does not show is
    deleted, but for those that kept_back names, unless *accept_deletions*.

    *rows* were read after *history* was: the reading is the newer one, whatever the clocks say. Where *at* is not after
    every time of the project's history, the next microsecond takes its place. A change is any key that differs, also one
    that hedgerow does not know: `raw` has the row whole.
    """
    held: list[dict[str, Any]] = history.to_pylist() if history is not None else []
    ours = [row for row in held if row["project_id"] == project_id]
    current = {row["id"]: row for row in ours if row["valid_to"] is None}
    shown = {str(row["id"]): row for row in rows}
    missing = frozenset[str]() if accept_deletions else kept_back(current, shown)
    at = _after(ours, at)
    now: dict[str, dict[str, Any]] = {}  # what the current row of an id becomes
    added, new, changed, deleted = [], 0, 0, 0
    for name, row in shown.items():
        before = current.get(name)
        if before is not None and not _differs(row, before):
            now[name] = before | {"missing_since": None}
            continue
        new += before is None
        changed += before is not None
        if before is not None:
            now[name] = before | {"valid_to": at, "missing_since": None}
        added.append(_row(row, project_id=project_id, at=at))
    for name, before in current.items():
        if name in missing:
            now[name] = before | {"missing_since": before.get("missing_since") or at}
        elif name not in shown and not before["deleted"]:
            deleted += 1
            now[name] = before | {"valid_to": at, "missing_since": None}
            added.append(before | {"deleted": True, "valid_from": at, "missing_since": None})
    kept = [now.get(row["id"], row) if row is current.get(row["id"]) else row for row in held]
    return Merged(
        table=pa.Table.from_pylist([*kept, *added], schema=EVALUATIONS),
        new=new,
        changed=changed,
        deleted=deleted,
        missing=tuple(sorted(missing)),
        current=sum(not row["deleted"] for row in current.values()),
        differs=bool(added)
        or any(
            row.get("missing_since") != now[name].get("missing_since") for name, row in current.items() if name in now
        ),
    )


def kept_back(current: Mapping[str, Mapping[str, Any]], shown: Container[str]) -> frozenset[str]:
    """Ids of *current* rows that the source does not show and that are not taken for deleted.

    All that it does not show, where that is every one, or more than half of many: a source that has lost its list, or a
    key that no longer sees it, looks the same. Those kept back before stay so, whatever has been added meanwhile.
    """
    living = {name: row for name, row in current.items() if not row["deleted"]}
    gone = frozenset(name for name in living if name not in shown)
    if len(gone) == len(living) or (len(living) >= MANY and 2 * len(gone) > len(living)):
        return gone
    return frozenset(name for name in gone if living[name].get("missing_since") is not None)


def _after(history: Iterable[Mapping[str, Any]], at: datetime) -> datetime:
    """*at*, or the first microsecond after the last change of *history*."""
    times = [time for row in history for time in (row["valid_from"], row["valid_to"]) if time is not None]
    latest = max(times, default=None)
    return at if latest is None or latest < at else latest.astimezone(UTC) + timedelta(microseconds=1)


def _differs(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the source shows another thing than the current row, or again what was deleted."""
    deleted = row.get("deleted") is True
    return bool(before["deleted"] != deleted or json.loads(before["raw"]) != _as_decoded(row))


def _row(row: Mapping[str, Any], *, project_id: int, at: datetime) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "id": str(row["id"]),
        "name": _text(row.get("name")),
        "description": _text(row.get("description")),
        "enabled": row.get("enabled") if isinstance(row.get("enabled"), bool) else None,
        "deleted": row.get("deleted") is True,
        "evaluation_type": _text(row.get("evaluation_type")),
        "evaluation_config": _json(row.get("evaluation_config")),
        "conditions": _json(row.get("conditions")),
        "raw": json.dumps(row, ensure_ascii=False),
        "updated_at": _time(row.get("updated_at")),
        "valid_from": at,
        "valid_to": None,
        "missing_since": None,
    }


def _as_decoded(row: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(row))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
