"""Settings from their layers: flag, then environment, then `.env`, then `hedgerow.toml`, then default (docs/settings.md)."""

from __future__ import annotations

import os
import re
import tomllib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.settings.model import Settings, Snapshot
from flows.settings.parse import SettingsError, decimal, near, sized, written

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
    # Of several names for one setting the last that is set counts, as in AWS's own programs.
    "AWS_DEFAULT_REGION": "destination.region",
    "AWS_REGION": "destination.region",
    "AWS_ENDPOINT": "destination.endpoint",
    "AWS_ENDPOINT_URL": "destination.endpoint",
    "AWS_ENDPOINT_URL_S3": "destination.endpoint",
}
OTHERS = ("HEDGEROW_HOME",)  # hedgerow's, and no setting
TESTS = ("HEDGEROW_SOAK_SECONDS",)  # of hedgerow's own tests, which nobody else is told of
NEAR = 0.9  # POSTHOG_PROJECT is meant as POSTHOG_PROJECT_ID; POSTHOG_API_KEY is another program's
FLAGS = {"source.project_id": "--project", "destination.address": "--destination"}
_AWS = ("access_key_id", "secret_access_key", "session_token")
SECRETS = frozenset({"source.key", *(f"destination.{name}" for name in _AWS)})
SIZES = frozenset({"run.memory"})
_ELSEWHERE = "set it in the environment or in .env"
_SECRETIVE = re.compile("key|token|secret|password", re.IGNORECASE)


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
    dotenv = _dotenv(directory / ".env")
    _check_names(dotenv, ".env")
    _check_names(os.environ, "environment")
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    by = {key: name for name, key in ENVIRONMENT.items()}
    layers: list[tuple[str, Mapping[str, object | None]]] = [
        (BLOCK, blocks or {}),
        (TOML_FILE, _file_values(directory / TOML_FILE)),
        (".env", _by_key(dotenv, by)),
        ("environment", _by_key(os.environ, by)),
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
        raise _explained(exc, origins, by) from None


def _by_key(variables: Mapping[str, str | None], by: dict[str, str]) -> dict[str, str]:
    """Settings by dotted name; *by* learns which variable each came from."""
    found: dict[str, str] = {}
    for name, key in ENVIRONMENT.items():
        if value := variables.get(name):
            found[key], by[key] = value, name
    return found


def drop_sizes() -> None:
    """Take a size of the terminal that is none out of the environment: output for 0 columns would be none."""
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch(r"[1-9]\d{0,3}", os.environ.get(name, "")):
            os.environ.pop(name, None)


def environment(more: Mapping[str, str], *, without: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a process of ours: this one's, but for names that begin as in *without*, and *more*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(without))}
    return kept | dict(more)


def _check_names(names: Iterable[str], origin: str) -> None:
    """Refuse a variable that is meant for hedgerow and would be passed over. Raises SettingsError."""
    set_by_users = [name for name in (*ENVIRONMENT, *OTHERS) if name.startswith(("POSTHOG_", "HEDGEROW_"))]
    for name in sorted(set(names).difference(set_by_users, TESTS)):
        ours = name.upper().startswith("HEDGEROW_")
        close = near(name.upper(), set_by_users, cutoff=0.8 if ours else NEAR)
        if ours or close:
            hint = f"did you mean {close}?" if close else f"expected one of {', '.join(set_by_users)}"
            raise SettingsError(f"unknown variable {name} in {_of(origin)}", hint=hint)


def _of(origin: str) -> str:
    return "the environment" if origin == "environment" else origin


def _text(file: Path, hint: str) -> str:
    """The text of a file that a person wrote: UTF-8 or, with the mark that Windows sets, UTF-16; empty where there is none.

    Raises SettingsError, which shows nothing of the text: it may hold a secret.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise SettingsError(f"cannot read {file.name}: {exc.strerror}", hint=hint) from exc
    try:
        text = data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise SettingsError(f"cannot read {file.name}: line {line} is no UTF-8", hint=hint) from None
    if "\0" in text:
        raise SettingsError(f"cannot read {file.name}: it is no text in UTF-8", hint=hint)
    return text


def _dotenv(file: Path) -> dict[str, str | None]:
    """Names and values of .env. Raises SettingsError, also for a line meant for hedgerow that says nothing."""
    hint = "expected UTF-8 text, NAME=value per line"
    text = _text(file, hint)
    for binding in parse_stream(StringIO(text)):
        meant = re.match(r"\s*(?:export\s+)?((?:HEDGEROW|POSTHOG|AWS)_\w+)", binding.original.string)
        if meant and binding.value is None:
            raise SettingsError(f"cannot read {meant[1]} in {file.name}, line {binding.original.line}", hint=hint)
    return dotenv_values(stream=StringIO(text))


def _file_values(file: Path) -> dict[str, object]:
    """Dotted names and values of hedgerow.toml; empty where there is none."""
    hint = "see docs/settings.md for an example"
    try:
        tables = tomllib.loads(_text(file, hint), parse_float=decimal)
    except (ValueError, RecursionError) as exc:  # of tomllib, or of a number of thousands of digits
        raise SettingsError(f"cannot read {file.name}: {exc}", hint=hint) from exc
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


def _explained(exc: ValidationError, origins: Mapping[str, str], by: Mapping[str, str]) -> SettingsError:
    """The first fault in our words; never the value of a secret."""
    fault = exc.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"][:2])
    whole = ".".join(part for part in fault["loc"] if isinstance(part, str))
    origin = origins.get(key, TOML_FILE)
    if fault["type"] == "extra_forbidden":
        known = open_keys() if whole == key else [f"{key}.{name}" for name in Snapshot.model_fields]
        close = near(whole, known)
        hint = f"did you mean {close}?" if close else f"expected one of {', '.join(known)}"
        return SettingsError(f"unknown setting {whole} in {origin}", hint=hint)
    name = whole
    if origin == "flag":
        name = FLAGS.get(key, key)
    elif origin != TOML_FILE:
        name = by[key]
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
        if key in SIZES:
            value = sized(value)
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
