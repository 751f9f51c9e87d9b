"""Plain lists of a project's objects: read by limit and offset, deleted softly, with a twin in HogQL (docs/streams.md).

What a list has of its own is its kind, a row of KINDS; the store and the answers are the same for all.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from starlette.responses import Response

from extractors.simulator.assets import paging
from extractors.simulator.assets.evaluations import OWNER

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ListKind:
    """What one list has of its own.

    *prefixes*: of its addresses. *page*: rows without a `limit`. *order*: what it is sorted by, the latest first; rows that
    are equal there come in any order. *made(id, at)*: a row. *moving(row, count)*: keys that are different in every answer.
    *twin*: columns of its table in HogQL beside id and deleted, by the key of a row.
    """

    scope: str
    prefixes: tuple[str, ...]
    page: int
    order: str
    made: Callable[[int, str], Row]
    moving: Callable[[Row, int], Row]
    twin: Mapping[str, tuple[str, pa.DataType]]


def _annotation(number: int, at: str) -> Row:
    names = ("insight_short_id", "insight_name", "insight_derived_name")
    row = {"id": number, "content": f"Release {number}", "date_marker": at, "creation_type": "USR", "tags": []}
    row |= dict.fromkeys(("dashboard_item", "dashboard_id", "dashboard_name", *names, "emoji"))
    row |= {"created_by": OWNER, "created_at": at, "updated_at": at, "deleted": False, "scope": "project"}
    return row | {"hidden_in_user_interface": False}


def _renamed(row: Row, count: int) -> Row:
    """Somebody renames the dashboard, the insight and herself all the time."""
    names = {"dashboard_name": row["dashboard_id"], "insight_name": row["dashboard_item"]}
    person = row["created_by"] | {"first_name": f"Ann {count}"} if row["created_by"] else None
    return {name: f"{name} {count}" for name, on in names.items() if on} | {"created_by": person}


KINDS: Mapping[str, ListKind] = {
    "annotations": ListKind(
        scope="annotation:read",
        prefixes=("projects",),
        page=1000,
        order="date_marker",
        made=_annotation,
        moving=_renamed,
        twin={
            "scope": ("scope", pa.string()),
            "dashboard_item_id": ("dashboard_item", pa.int64()),
            "dashboard_id": ("dashboard_id", pa.int64()),
        },
    )
}
"""Every list by its name, which is also that of its address, and of its table in HogQL."""


@dataclass(slots=True)
class ListStore:
    """The objects of one list: *rows* as they are stored, deleted ones too; *hidden*: ids that no list shows, because
    what they hang on is deleted; *elsewhere*: ids that belong to other projects of the organization, and are shown here.
    *miscounted*: what is added to `count`."""

    kind: ListKind
    rows: list[Row] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)
    miscounted: int = 0
    answers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, at: datetime, **more: Any) -> Row:
        """A new object; ids follow from the number of rows."""
        with self._lock:
            row = self.kind.made(len(self.rows) + 1, paging.stamp(at)) | more
            self.rows.append(row)
            return row

    def listed(self, asked: paging.Asked) -> Response:
        """One page of what is neither deleted nor hidden."""
        with self._lock:
            self.answers += 1
            shown = [row for row in self.rows if not row["deleted"] and row["id"] not in self.hidden]
            rows = [row | self.kind.moving(row, self.answers) for row in shown]
            random.Random(self.answers).shuffle(rows)
        rows.sort(key=lambda row: str(row[self.kind.order]), reverse=True)
        return paging.page(rows, asked, page=self.kind.page, miscounted=self.miscounted)

    def twin(self) -> pa.Table:
        """All objects of the project as HogQL has them."""
        with self._lock:
            rows = [dict(row) for row in self.rows if row["id"] not in self.elsewhere]
        columns = {"id": pa.array([row["id"] for row in rows], pa.int64())}
        columns["deleted"] = pa.array([int(row["deleted"]) for row in rows], pa.int64())
        for name, (key, kind) in self.kind.twin.items():
            columns[name] = pa.array([row[key] for row in rows], kind)
        return pa.table(columns)


def seeded(now: datetime) -> dict[str, ListStore]:
    """A few annotations; nothing of other lists."""
    made = stores()
    for days, content in ((9, "Pricing page"), (4, "Release 2.0"), (1, "Outage of the queue")):
        made["annotations"].add(now - timedelta(days=days), content=content)
    return made


def stores() -> dict[str, ListStore]:
    """An empty store of every list."""
    return {name: ListStore(kind) for name, kind in KINDS.items()}
