"""Which lists of a project are read whole, and how each is asked (docs/streams.md). Values only, without I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Twin:
    """The table of HogQL that holds the same objects as a list, deleted ones too: a second count, by whole-numbered ids.

    *beyond*: field and value of rows that the list shows of other projects as well; they are not compared. *parents*:
    columns that name what an object hangs on; the list may hide an object with its parent, so such are not missed.
    """

    table: str
    beyond: tuple[str, str] | None = None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """A list with `limit` and `offset`. *path*: below the project. *prefix*: of addresses, asked first; empty for the
    client's own. *numbered*: ids are whole numbers. *page_rows*: how many rows to ask for at once.
    """

    path: str
    prefix: str = ""
    numbered: bool = False
    page_rows: int = 100
    twin: Twin | None = None

    def __post_init__(self) -> None:
        if self.twin is not None and not self.numbered:
            raise ValueError(f"a twin is read by whole-numbered ids, which {self.path} has not")


EVALUATIONS = Resource("evaluations")
ANNOTATIONS = Resource(
    "annotations",
    prefix="projects",  # the only one that has it
    numbered=True,
    page_rows=1000,
    # Those of scope organization are shown in each of its projects, and stored in one.
    twin=Twin("system.annotations", beyond=("scope", "organization"), parents=("dashboard_item_id", "dashboard_id")),
)
