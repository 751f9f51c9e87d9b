"""What the rows of each list with history become: columns, views, and what is neither compared nor written.

Values only, without Arrow: the table of streams is read before anything heavy is (flows/runs/catalog.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a column holds. WHOLE: a number of 64 bits; JSON: any value, as its text."""

    TEXT = "text"
    WHOLE = "whole"
    FLAG = "flag"
    TIME = "time"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Shape:
    """A table with a row per object per change (docs/streams.md).

    *columns*: what is taken out of a row, by the row's own names and in the table's order; `deleted` is one of them.
    *key*: what an id is. *volatile*: keys that move although nobody has changed the object: they do not make a change.
    *written_of*: keys of which only these parts are ever written; none means that the key is never written.
    *vanished_is_deleted*: what the list does not show any more is deleted; else it is missing, until somebody says so.
    *views*: name → SELECT in DuckDB's SQL, made with the table.
    """

    columns: Mapping[str, Kind]
    key: Kind = Kind.TEXT
    volatile: frozenset[str] = frozenset()
    written_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vanished_is_deleted: bool = False
    views: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.columns.get("deleted") is not Kind.FLAG:
            raise ValueError("a table with history has a column `deleted`")
        if self.key not in (Kind.TEXT, Kind.WHOLE):
            raise ValueError(f"an id is a text or a whole number, not {self.key}")

    def written(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """*row* as it may be written: without what is left out, in its own order."""
        kept = {}
        for name, value in row.items():
            parts = self.written_of.get(name)
            if parts is None:
                kept[name] = value
            elif parts:
                kept[name] = {part: value[part] for part in parts if part in value} if isinstance(value, dict) else None
        return kept


EVALUATIONS = Shape(
    columns={
        "name": Kind.TEXT,
        "description": Kind.TEXT,
        "enabled": Kind.FLAG,
        "deleted": Kind.FLAG,
        "evaluation_type": Kind.TEXT,
        "evaluation_config": Kind.JSON,
        "conditions": Kind.JSON,
    },
    vanished_is_deleted=True,
    views={
        "evaluations_current": "SELECT * FROM evaluations WHERE valid_to IS NULL AND NOT deleted",
        # By JSON pointers, because a leading $ would begin a path.
        "evaluation_results": """SELECT v.id AS evaluation_id, v.name, v.enabled, v.deleted, v.evaluation_type,
    e.properties->>'/$ai_evaluation_result' AS result, e.properties->>'/$ai_evaluation_reasoning' AS reasoning,
    e.properties->>'/$ai_target_event_id' AS target_event_id, e."timestamp", e.uuid, e.distinct_id, e.project_id, e.properties
FROM events e JOIN evaluations v ON v.project_id = e.project_id AND v.id = e.properties->>'/$ai_evaluation_id'
WHERE e.event = '$ai_evaluation' AND v.valid_to IS NULL""",
    },
)
"""Current evaluations, and what came of them in `evaluation_results`: properties as PostHog's own events have them."""

ANNOTATIONS = Shape(
    key=Kind.WHOLE,
    columns={
        "content": Kind.TEXT,
        "date_marker": Kind.TIME,
        "creation_type": Kind.TEXT,
        "scope": Kind.TEXT,
        "dashboard_item": Kind.WHOLE,
        "dashboard_id": Kind.WHOLE,
        "insight_short_id": Kind.TEXT,
        "tags": Kind.JSON,
        "created_by": Kind.JSON,
        "created_at": Kind.TIME,
        "deleted": Kind.FLAG,
    },
    volatile=frozenset({"dashboard_name", "insight_name", "insight_derived_name"}),
    written_of={"created_by": ("id", "uuid")},
    views={"annotations_current": "SELECT * FROM annotations WHERE valid_to IS NULL AND NOT deleted"},
)
"""Names of what an annotation hangs on are others' to change; of who made it no name and no address is kept."""
