"""What a run over a stream beside events did."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field


@dataclass(slots=True)
class Synced:
    """What a run over one stream of one project did. *new*, *changed*, *deleted*: of its objects; *contents*:
    fetched, and their *bytes*; *snapshots*: by which a table has grown; *rebuilt*: tables made anew; *skipped*: why the
    source has nothing for this key."""

    project_id: int
    stream: str
    new: int = 0
    changed: int = 0
    deleted: int = 0
    contents: int = 0
    bytes: int = 0
    snapshots: int = 0
    rebuilt: int = 0
    requests: int = 0
    seconds: float = 0.0
    skipped: str = ""
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
