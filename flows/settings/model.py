"""Settings: flag, then environment, then `.env`, then `hedgerow.toml`, then default (contract.md §2).

The only place that reads the environment. Unknown keys of the file are errors; each value remembers where it came from.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from flows.runs.catalog import BY_DEFAULT, BY_NAME, RESERVED
from flows.settings.parse import (
    aws_text,
    duration,
    endpoint_address,
    event_names,
    host_address,
    is_number,
    json_object,
    personal_key,
    project_ids,
    size,
    user_path,
)

Duration = Annotated[timedelta, BeforeValidator(duration)]
AwsSecret = Annotated[SecretStr | None, BeforeValidator(aws_text)]
Names = Annotated[tuple[str, ...], BeforeValidator(event_names)]


LEAST_MEMORY = 300_000_000


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(_Table):
    """Whom to ask. *allow_http*: send the key to *host* without encryption; this machine needs no leave."""

    allow_http: bool = False  # before host, which is judged by it
    host: Annotated[str, BeforeValidator(host_address)] = "https://us.posthog.com"
    project_id: Annotated[tuple[int, ...], BeforeValidator(project_ids)] = ()
    key: Annotated[SecretStr | None, BeforeValidator(personal_key)] = None
    requests_per_minute: int = Field(default=240, ge=1)
    requests_per_hour: int = Field(default=1200, ge=1)
    in_flight: int = Field(default=2, ge=1, le=16)
    state_dir: Annotated[Path, BeforeValidator(user_path)] = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir("hedgerow"))
    )


class DestinationSettings(_Table):
    """Where to land. The AWS settings are the usual ones; *addressing*: where the bucket's name stands in S3 addresses."""

    address: str = "duckdb:posthog.duckdb"
    access_key_id: AwsSecret = None
    secret_access_key: AwsSecret = None
    session_token: AwsSecret = None
    region: str | None = None
    endpoint: Annotated[str | None, BeforeValidator(endpoint_address)] = None
    addressing: Literal["auto", "path", "virtual"] = "auto"

    @model_validator(mode="after")
    def _named(self) -> DestinationSettings:
        if self.addressing == "virtual" and self.endpoint and is_number(self.endpoint):
            raise ValueError('an endpoint that is a number has no host for a bucket: expected addressing = "path"')
        return self


class EventsSettings(_Table):
    include: Names = ()
    exclude: Names = ()
    settle: Duration = timedelta(minutes=10)
    lookback: Duration = timedelta(days=30)
    require_proof: bool = False
    reread_at: tuple[Duration, ...] = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 72))

    @field_validator("reread_at")
    @classmethod
    def _ascending(cls, ages: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        """In whatever order they were given: the last age is the one after which a day follows another."""
        return tuple(sorted(ages))

    @model_validator(mode="after")
    def _not_both(self) -> EventsSettings:
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"{both[0]!r} stands in include and in exclude")
        return self


class StreamsSettings(_Table):
    """*include*: the streams that are landed when none is named."""

    include: Names = tuple(stream.name for stream in BY_DEFAULT)

    @model_validator(mode="after")
    def _known(self) -> StreamsSettings:
        for name in self.include or ("",):
            if name not in BY_NAME:
                raise ValueError(f"{name!r} is no stream: expected {', '.join(BY_NAME)}")
        return self


class DuckDBSettings(_Table):
    """*storage_version*: the DuckDB that can read a file which is made; one that is there keeps its own. Older ones than
    1.2 cannot hold our columns; the others are those that DuckDB tells apart."""

    storage_version: Literal["v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0", "v2.0.0", "latest"] = "v1.2.0"
    lock_timeout: Duration = timedelta(seconds=60)


class RunSettings(_Table):
    """*memory*: bytes that a run aims at in all, its program and libraries included."""

    memory: Annotated[int, BeforeValidator(size)] = 350_000_000

    @field_validator("memory")
    @classmethod
    def _enough(cls, memory: int) -> int:
        if memory < LEAST_MEMORY:
            raise ValueError(
                f"{memory / 1e6:.0f} MB is too little: hedgerow and its libraries take {LEAST_MEMORY / 1e6:.0f} MB"
            )
        return memory


class Snapshot(_Table):
    """An export that each sync makes anew and lands into the growing table *name*: of an insight, a dashboard or a context
    (a JSON object as text, or a table of the file)."""

    name: str
    format: Literal["csv", "xlsx", "json"] = "csv"
    insight: int | None = None
    dashboard: int | None = None
    context: Annotated[str | None, BeforeValidator(json_object)] = None

    @model_validator(mode="after")
    def _usable(self) -> Snapshot:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", self.name) or self.name.startswith("export_"):
            raise ValueError(f"{self.name!r} is no name of a table: expected small letters, digits and _, not export_…")
        if self.name in RESERVED:
            raise ValueError(f"{self.name!r} is a table of hedgerow's own: choose another name")
        if self.insight is None and self.dashboard is None and self.context is None:
            raise ValueError(f"snapshot {self.name!r} exports nothing: expected insight, dashboard or context")
        return self


class ExportsSettings(_Table):
    snapshot: tuple[Snapshot, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> ExportsSettings:
        names = [one.name for one in self.snapshot]
        if len(set(names)) < len(names):
            raise ValueError("two snapshots have the same name: each has a table of its own")
        return self


class Settings(_Table):
    """Everything in force."""

    source: SourceSettings = Field(default_factory=SourceSettings)
    destination: DestinationSettings = Field(default_factory=DestinationSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    streams: StreamsSettings = Field(default_factory=StreamsSettings)
    exports: ExportsSettings = Field(default_factory=ExportsSettings)
    duckdb: DuckDBSettings = Field(default_factory=DuckDBSettings)
    run: RunSettings = Field(default_factory=RunSettings)
