"""Settings: flag, then environment, then `.env`, then `hedgerow.toml`, then default (contract.md §2).

The only place that reads the environment. Unknown keys of the file are errors; each value remembers where it came from.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

TOML_FILE = "hedgerow.toml"
BLOCK = "a Secret block"
ENVIRONMENT = {
    "POSTHOG_HOST": "source.host",
    "POSTHOG_PROJECT_ID": "source.project_id",
    "POSTHOG_PERSONAL_API_KEY": "source.key",
    "HEDGEROW_DESTINATION": "destination.address",
    "HEDGEROW_STATE_DIR": "source.state_dir",
    "HEDGEROW_ALLOW_HTTP": "source.allow_http",
    "AWS_ACCESS_KEY_ID": "destination.access_key_id",
    "AWS_SECRET_ACCESS_KEY": "destination.secret_access_key",
    "AWS_SESSION_TOKEN": "destination.session_token",
    "AWS_REGION": "destination.region",
    "AWS_ENDPOINT_URL": "destination.endpoint",
}
OTHERS = ("HEDGEROW_SECRET", "HEDGEROW_HOME", "HEDGEROW_SOAK_SECONDS")  # hedgerow's, and no settings
NEAR = 0.9  # POSTHOG_PROJECT is meant as POSTHOG_PROJECT_ID; POSTHOG_API_KEY is another program's
FLAGS = {"source.project_id": "--project", "destination.address": "--destination"}
_AWS = ("access_key_id", "secret_access_key", "session_token")
SECRETS = frozenset({"source.key", *(f"destination.{name}" for name in _AWS)})
KEY_HELP = "make a personal API key in PostHog (Settings → Personal API keys) with the scope query:read"
_ELSEWHERE = "set it in the environment or in .env"
_SECRETIVE = re.compile("key|token|secret|password", re.IGNORECASE)
RESERVED = frozenset({"events", "exports", "evaluations", "evaluation_results", "hedgerow"})
LONGEST = timedelta(days=36_500)
FIRST_YEAR, LAST_YEAR = 1900, 2299  # the bounds of ClickHouse's DateTime64
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class SettingsError(Exception):
    """Something the user gave is wrong or missing (exit status 2)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def duration(value: object) -> timedelta:
    """`10m`, `36h`, `7d`, `90s`, or a timedelta. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", str(value))
    if not match:
        raise ValueError(f"{value!r} is no duration: expected a number and a unit, such as 90s, 10m, 36h or 7d")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{value!r} is too long a duration: at most {LONGEST.days}d")
    return timedelta(seconds=seconds)


def written(span: timedelta) -> str:
    """*span* as duration() reads it, in the largest unit that keeps it whole: 30d, 36h, 90s."""
    seconds = span.total_seconds()
    unit, length = next(
        ((unit, length) for unit, length in (("d", 86400), ("h", 3600), ("m", 60)) if seconds and not seconds % length),
        ("s", 1),
    )
    return f"{seconds / length:.6f}".rstrip("0").rstrip(".") + unit


def instant(text: str, *, now: datetime) -> datetime:
    """ISO 8601 (no zone = UTC, a bare date = midnight), `7d` or `36h` ago, or `now`. Raises SettingsError."""
    cleaned = text.strip()
    if cleaned == "now":
        return now
    try:
        if re.fullmatch(r"\d+(\.\d+)?[smhdw]", cleaned):
            return now - duration(cleaned)
        at = datetime.fromisoformat(cleaned)
    except (ValueError, OverflowError) as exc:
        # What is no ISO 8601 at all has nothing more to say than that.
        why = "" if str(exc).startswith("Invalid isoformat") else f": {exc}"
        raise SettingsError(
            f"{text!r} is no time{why}",
            hint="give ISO 8601 such as 2026-01-31 or 2026-01-31T06:00Z, or 7d, 36h, now; a start may also be the word "
            "earliest",
        ) from exc
    if not FIRST_YEAR < at.year < LAST_YEAR:
        raise SettingsError(
            f"{text!r} is no time that PostHog can hold", hint=f"expected a year between {FIRST_YEAR} and {LAST_YEAR}"
        )
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _project_ids(value: object) -> object:
    """A number, several separated by commas, or a list."""
    parts = value if isinstance(value, list) else str(value).split(",")
    ids = []
    for part in parts:
        text = str(part).strip()
        if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**63:
            raise ValueError(f"{text!r} is no project id: expected a number (PostHog: Settings → Project ID)")
        ids.append(int(text))
    return list(dict.fromkeys(ids))


def loopback(host: str) -> bool:
    """Whether *host*, a name or a number, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host(value: object, given: ValidationInfo) -> object:
    text = str(value).strip().rstrip("/")
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    # What stands before an @ may be a password.
    shown = text.rpartition("@")[2] if "@" in text else text
    if not usable or not parts.hostname:
        raise ValueError(f"{shown!r} is no address: expected https://… such as https://us.posthog.com")
    if parts.hostname.endswith(".i.posthog.com"):
        raise ValueError(
            f"{shown!r} is PostHog's ingestion host: the app is {shown.replace('.i.posthog.com', '.posthog.com')}"
        )
    if parts.path or parts.query or parts.username:
        raise ValueError(f"{shown!r} has more than a host: expected {parts.scheme}://{parts.hostname}")
    if parts.scheme == "http" and not loopback(parts.hostname) and not given.data.get("allow_http"):
        raise ValueError(
            f"{shown!r} would send the key unencrypted: expected https://, "
            "or HEDGEROW_ALLOW_HTTP=true ([source] allow_http) in a network you trust"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _endpoint(value: object) -> object:
    text = str(value).strip().rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.path:
        raise ValueError("this is no address of an S3 store: expected http(s)://host:port")
    return text


def _json_object(value: object) -> object:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise ValueError(f"the context is no JSON: {exc}") from None
    if found is not None and not isinstance(found, dict):
        raise ValueError("the context is no JSON object")
    return None if found is None else json.dumps(found)


def _key(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value).strip()
    if text.startswith("phc_"):
        raise ValueError("this is a project token (phc_…), which cannot read; " + KEY_HELP)
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("this is no API key: expected phx_…")
    return text


Duration = Annotated[timedelta, BeforeValidator(duration)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(_Table):
    """Whom to ask. *allow_http*: send the key to *host* without encryption; this machine needs no leave."""

    allow_http: bool = False  # before host, which is judged by it
    host: Annotated[str, BeforeValidator(_host)] = "https://us.posthog.com"
    project_id: Annotated[tuple[int, ...], BeforeValidator(_project_ids)] = ()
    key: Annotated[SecretStr | None, BeforeValidator(_key)] = None
    requests_per_minute: int = Field(default=240, ge=1)
    requests_per_hour: int = Field(default=1200, ge=1)
    in_flight: int = Field(default=2, ge=1, le=16)
    state_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_state_dir("hedgerow")))


class DestinationSettings(_Table):
    """Where to land. The AWS settings are the usual ones; *addressing*: where the bucket's name stands in S3 addresses."""

    address: str = "duckdb:posthog.duckdb"
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    region: str | None = None
    endpoint: Annotated[str | None, BeforeValidator(_endpoint)] = None
    addressing: Literal["auto", "path", "virtual"] = "auto"


class EventsSettings(_Table):
    include: Names = ()
    exclude: Names = ()
    settle: Duration = timedelta(minutes=10)
    lookback: Duration = timedelta(days=30)
    require_proof: bool = False
    reread_at: tuple[Duration, ...] = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 72))

    @model_validator(mode="after")
    def _not_both(self) -> EventsSettings:
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"{both[0]!r} stands in include and in exclude")
        return self


class DuckDBSettings(_Table):
    lock_timeout: Duration = timedelta(seconds=60)


class Snapshot(_Table):
    """An export that each sync makes anew and lands into the growing table *name*: of an insight, a dashboard or a context
    (a JSON object as text, or a table of the file)."""

    name: str
    format: Literal["csv", "xlsx", "json"] = "csv"
    insight: int | None = None
    dashboard: int | None = None
    context: Annotated[str | None, BeforeValidator(_json_object)] = None

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
    exports: ExportsSettings = Field(default_factory=ExportsSettings)
    duckdb: DuckDBSettings = Field(default_factory=DuckDBSettings)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and, by dotted name, where each given one came from."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    flags: Mapping[str, object] | None = None,
    *,
    directory: Path | None = None,
    blocks: Mapping[str, object] | None = None,
) -> Loaded:
    """Settings of *directory* (default: the working one) and the environment, overridden by *flags* (dotted names).

    *blocks*: secrets that were found elsewhere, for what is not set (dotted names).

    Raises SettingsError naming the key, where it came from, and what was expected.
    """
    directory = directory or Path.cwd()
    try:
        dotenv = dotenv_values(directory / ".env")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"cannot read .env: {exc}", hint="expected UTF-8 text, NAME=value per line") from exc
    _check_names(dotenv, ".env")
    _check_names(os.environ, "environment")
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    layers: list[tuple[str, Mapping[str, object | None]]] = [
        (BLOCK, blocks or {}),
        (TOML_FILE, _file_values(directory / TOML_FILE)),
        (".env", {key: dotenv.get(name) for name, key in ENVIRONMENT.items()}),
        ("environment", {key: os.environ.get(name) for name, key in ENVIRONMENT.items()}),
        ("flag", flags or {}),
    ]
    for origin, layer in layers:
        for key, value in layer.items():
            if value is not None and value != "":
                values[key], origins[key] = value, origin
    tables: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = value
    try:
        return Loaded(Settings.model_validate(tables), origins)
    except ValidationError as exc:
        raise _explained(exc, origins) from None


def environment(more: Mapping[str, str], *, without: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a process of ours: this one's, but for names that begin as in *without*, and *more*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(without))}
    return kept | dict(more)


def _check_names(names: Iterable[str], origin: str) -> None:
    """Refuse a variable that is meant for hedgerow and would be passed over. Raises SettingsError."""
    known = [name for name in (*ENVIRONMENT, *OTHERS) if name.startswith(("POSTHOG_", "HEDGEROW_"))]
    for name in sorted(set(names) - set(known)):
        ours = name.upper().startswith("HEDGEROW_")
        close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8 if ours else NEAR)
        if ours or close:
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
            raise SettingsError(f"unknown variable {name} in {_of(origin)}", hint=hint)


def _of(origin: str) -> str:
    return "the environment" if origin == "environment" else origin


def _file_values(file: Path) -> dict[str, object]:
    """Dotted names and values of hedgerow.toml; empty where there is none."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"cannot read {file.name}: {exc}", hint="see docs/settings.md for an example") from exc
    values: dict[str, object] = {}
    for table, content in tables.items():
        if not isinstance(content, dict):
            _check_secret(file, table, table)
            raise SettingsError(f"{file.name}: unknown key {table!r}", hint=f"expected the tables {_tables()}")
        for name, value in content.items():
            if f"{table}.{name}" not in open_keys():
                _check_secret(file, name, f"[{table}] {name}")
            values[f"{table}.{name}"] = value
    return values


def _check_secret(file: Path, name: str, shown: str) -> None:
    """Refuse a name that says its value is a secret. Raises SettingsError."""
    if _SECRETIVE.search(name):
        raise SettingsError(f"{file.name}: no secret belongs in this file: {shown}", hint=_ELSEWHERE)


def _tables() -> str:
    return ", ".join(f"[{name}]" for name in Settings.model_fields)


def known_keys() -> list[str]:
    """All settings by dotted name."""
    keys = []
    for table, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        keys += [f"{table}.{name}" for name in field.annotation.model_fields]
    return keys


def open_keys() -> list[str]:
    """The settings that hedgerow.toml may hold: all but the secrets."""
    return [key for key in known_keys() if key not in SECRETS]


def _explained(exc: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    """The first fault in our words; never the value of a secret."""
    fault = exc.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"][:2])
    whole = ".".join(part for part in fault["loc"] if isinstance(part, str))
    origin = origins.get(key, TOML_FILE)
    if fault["type"] == "extra_forbidden":
        known = open_keys() if whole == key else [f"{key}.{name}" for name in Snapshot.model_fields]
        close = difflib.get_close_matches(whole, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
        return SettingsError(f"unknown setting {whole} in {origin}", hint=hint)
    name = whole
    if origin == "flag":
        name = FLAGS.get(key, key)
    elif origin != TOML_FILE:
        name = next(name for name, dotted in ENVIRONMENT.items() if dotted == key)
    hint = f"give another {name}" if origin == "flag" else f"change {name} in {_of(origin)}"
    return SettingsError(f"{name} (from {origin}): {_expected(fault)}", hint=hint)


def _expected(fault: ErrorDetails) -> str:
    """What should have been there: our own words, or ours for pydantic's."""
    context = fault.get("ctx", {})
    words = {
        "bool": "expected true or false",
        "int": "expected a whole number",
        "float": "expected a number",
        "string": "expected text",
        "tuple": 'expected a list, such as ["1h", "6h"]' if "reread_at" in fault["loc"] else "expected a list",
        "path": "expected a path",
        "model": "expected a table",
        "missing": "this is missing",
        "literal": f"expected {context.get('expected')}",
        "greater": f"expected {context.get('ge')} or more",
        "less": f"expected {context.get('le')} or less",
        "value": str(context.get("error")),
    }
    return words.get(fault["type"].partition("_")[0], "this cannot be used; see docs/settings.md")


def shown(loaded: Loaded) -> list[tuple[str, object, str]]:
    """(name, value, origin) of every setting, as JSON can say it; durations as they are written, secrets masked."""
    lines: list[tuple[str, object, str]] = []
    for key in known_keys():
        table, _, name = key.partition(".")
        value = getattr(getattr(loaded.settings, table), name)
        if key in SECRETS:
            value = None if value is None else "set (hidden)"
        lines.append((key, _simple(value), loaded.origins.get(key, "default")))
    return lines


def _simple(value: object) -> object:
    if isinstance(value, timedelta):
        return written(value)
    if isinstance(value, tuple):
        return [_simple(one) for one in value]
    if isinstance(value, BaseModel):
        return {name: _simple(one) for name, one in value if one is not None}
    return str(value) if isinstance(value, Path) else value
