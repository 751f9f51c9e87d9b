"""The table of streams: what each is called, needs, lands as and never writes. Whatever offers streams is made from it.

Values only; what they do is told by flows/runs/loads.py and flows/assets/streams.py. Nothing heavy is imported, as every
command's help needs it. A stream's list and columns are rows of extractors/lists/resources.py and transforms/shapes.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from extractors.lists import resources
from extractors.lists.resources import Resource
from transforms import shapes
from transforms.shapes import Shape


class Mechanism(Enum):
    """How a stream is kept up to date: the modules that read it and that shape its rows."""

    WINDOWS = ("extractors.reading.events", "transforms.events")
    CONTENTS = ("extractors.lists.exports", "transforms.exports")
    HISTORY = ("extractors.lists.history", "transforms.history")

    @property
    def reader(self) -> str:
        return self.value[0]

    @property
    def transform(self) -> str:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream. *name*: of the stream, its table and its command; *singular*: what people call one of it.

    *scope*: what the key needs. *by_default*: landed when none is named, unless the settings say otherwise; else only by
    name. *resource*, *shape*: of a list with history.
    """

    name: str
    singular: str
    scope: str
    mechanism: Mechanism
    by_default: bool = True
    resource: Resource | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if (self.mechanism is Mechanism.HISTORY) != (self.resource is not None and self.shape is not None):
            raise ValueError(f"{self.name}: a list with history has a resource and a shape, and nothing else has")

    @property
    def table(self) -> str:
        return self.name

    @property
    def listed(self) -> str:
        """The list that tells whether the source offers the stream to a key; empty for what has none."""
        return self.resource.path if self.resource else "" if self.ranged else self.name

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(self.shape.views) if self.shape else ()

    @property
    def ranged(self) -> bool:
        """Whether it lies in time, so that a range of it can be asked for."""
        return self.mechanism is Mechanism.WINDOWS

    @property
    def rebuilt(self) -> bool:
        """Whether what is landed of it can be landed, or made, anew."""
        return self.mechanism is not Mechanism.HISTORY

    @property
    def never_written(self) -> tuple[str, ...]:
        """Fields that are not written, or of which only some parts are, in words."""
        parts_of = self.shape.written_of if self.shape else {}
        return tuple(f"{name} (but for {' and '.join(parts)})" if parts else name for name, parts in parts_of.items())

    @property
    def deployment(self) -> str:
        """Prefect's name of its sync."""
        return f"sync-{self.name}"


EVENTS, EXPORTS = "events", "exports"
STREAMS = (
    Stream(EVENTS, "event", "query:read", Mechanism.WINDOWS),
    Stream(EXPORTS, "export", "export:read", Mechanism.CONTENTS),
    Stream(
        "evaluations",
        "evaluation",
        "evaluation:read",
        Mechanism.HISTORY,
        resource=resources.EVALUATIONS,
        shape=shapes.EVALUATIONS,
    ),
    Stream(
        "annotations",
        "annotation",
        "annotation:read",
        Mechanism.HISTORY,
        by_default=False,
        resource=resources.ANNOTATIONS,
        shape=shapes.ANNOTATIONS,
    ),
)
BY_NAME = {stream.name: stream for stream in STREAMS}
BY_DEFAULT = tuple(stream for stream in STREAMS if stream.by_default)

TO_COME = (
    *("persons", "person_distinct_ids", "events_with_person", "sessions", "session_recordings", "groups"),
    *("group_types", "cohorts", "cohort_people", "feature_flags", "actions", "insights", "dashboards", "surveys"),
    *("experiments", "event_definitions", "property_definitions", "projects", "members", "organizations"),
)
"""Tables of streams that are planned, so that no table of a user's stands in their place."""
RESERVED = frozenset(
    {
        "hedgerow",
        *(name for stream in STREAMS for name in (stream.table, *stream.views)),
        *(name for table in TO_COME for name in (table, f"{table}_current")),
    }
)
"""Names that no table of a user's in the destination may have."""


def chosen(names: Iterable[str]) -> tuple[Stream, ...]:
    """The streams of *names*, each once, in the table's order. Raises KeyError."""
    wanted = {BY_NAME[name].name for name in names}
    return tuple(stream for stream in STREAMS if stream.name in wanted)
