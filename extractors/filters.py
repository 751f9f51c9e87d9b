"""Which events are asked for: the filter of a stream, what a look-up asks beside its range, and one page's narrowing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which event names belong to the stream; part of the stream's identity (contract.md §2)."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "include", tuple(sorted(set(self.include))))
        object.__setattr__(self, "exclude", tuple(sorted(set(self.exclude))))

    @property
    def identity(self) -> str:
        """Text that is equal exactly when two filters let the same events pass; empty for no filter."""
        if not self.include and not self.exclude:
            return ""
        return json.dumps({"include": self.include, "exclude": self.exclude}, ensure_ascii=False)

    def __str__(self) -> str:
        parts = [(word, names) for word, names in (("include", self.include), ("exclude", self.exclude)) if names]
        return " and ".join(f"{word} {_some(names)}" for word, names in parts) or "none"

    @property
    def hogql(self) -> str:
        """The same condition in HogQL, empty for no filter."""
        parts = []
        if self.include:
            parts.append(f"event IN ({', '.join(map(quoted, self.include))})")
        if self.exclude:
            parts.append(f"event NOT IN ({', '.join(map(quoted, self.exclude))})")
        return " AND ".join(parts)

    def passing(self, rows: pa.Table) -> pa.Table:
        """The rows, by their column event, that the filter lets pass."""
        for names, keeps in ((self.include, True), (self.exclude, False)):
            if names:
                named = pc.is_in(rows["event"], value_set=pa.array(names, pa.string()))
                rows = rows.filter(named if keeps else pc.invert(named))
        return rows

    @property
    def single(self) -> str | None:
        """The one name that `event=` can express, if that is all the filter says."""
        return self.include[0] if len(self.include) == 1 and not self.exclude else None


def quoted(text: str) -> str:
    """A HogQL string literal; names are data, whatever they contain."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _some(names: Sequence[str], *, shown: int = 5) -> str:
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more


@dataclass(frozen=True, slots=True)
class Filters:
    """What a look-up asks for beside the range, as the endpoint documents it (facts/posthog-api.md §1.4).

    *properties*: the JSON of one filter, a list of filters or a group. *select* and *where*: lists of HogQL
    expressions, documented as experimental and not read by the servers known to us.
    """

    event: str | None = None
    distinct_id: str | None = None
    person_id: str | None = None
    properties: str = ""
    select: tuple[str, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.conditions()

    def conditions(self) -> list[object] | dict[str, object]:
        """The filters of *properties* as a list, or the group that they are. Raises ValueError."""
        if not self.properties:
            return []
        given = json.loads(self.properties)
        if isinstance(given, list):
            return given
        if not isinstance(given, dict):
            raise ValueError("expected a filter, a list of filters or a group")
        return given if "values" in given else [given]

    @property
    def params(self) -> list[tuple[str, str]]:
        """All but `properties`, which further conditions are added to."""
        named = (("event", self.event), ("distinct_id", self.distinct_id), ("person_id", self.person_id))
        listed = (("select", self.select), ("where", self.where))
        return [(name, value) for name, value in named if value is not None] + [
            (name, json.dumps(value)) for name, value in listed if value
        ]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Further conditions of one page: a HogQL expression, or one event and one distinct id."""

    hogql: str = ""
    event: str | None = None
    distinct_id: str | None = None


def uuid_between(low: str | None, high: str | None) -> str:
    """HogQL: the uuid's text lies in [low, high); None is open. Slices need no order (facts/posthog-observed.md)."""
    bounds = []
    if low is not None:
        bounds.append(f"toString(uuid) >= {quoted(low)}")
    if high is not None:
        bounds.append(f"toString(uuid) < {quoted(high)}")
    return " AND ".join(bounds)
