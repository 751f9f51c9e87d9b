"""One event at PostHog, and what is landed of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.settings.parse import SettingsError

if TYPE_CHECKING:
    from extractors.lists.lookups import Values
    from extractors.request import Request
    from flows.cli.asking import Asking

COLUMNS = ("event", "distinct_id", "timestamp", "properties", "elements_chain")


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"


def one_form(json_output: bool, format_: Format | None) -> Format | None:
    """What --json and --format ask for together; None without either. Raises SettingsError for two forms."""
    if json_output and format_ is Format.CSV:
        raise SettingsError("more than one form of output", hint="choose one of --json and --format csv")
    return Format.JSON if json_output else format_


def differences_of(at: Asking, name: UUID, body: bytes) -> Mapping[str, str]:
    """What of the landed row is not as the source shows it; empty if nothing."""
    from extractors.http import decode
    from flows.runs import wiring

    page = decode.page(b'{"next":null,"results":[' + body + b"]}")
    if not page.rows.num_rows:
        raise SettingsError(f"event {name} cannot be read as an event: {page.rejects['reason'][0].as_py()}")
    shown = page.rows.to_pylist()[0]
    columns = ", ".join("properties::VARCHAR" if column == "properties" else column for column in COLUMNS)
    # A uuid and a number: nothing to bind.
    query = f"SELECT {columns} FROM events WHERE uuid = '{name}' AND project_id = {at.project_id}"  # noqa: S608
    with wiring.sink_of(at.settings, at.listener).query(query) as result:
        landed = [dict(zip(COLUMNS, row, strict=True)) for row in result.fetchall()]
    alike = [row for row in landed if all(row[column] == shown[column] for column in ("event", "distinct_id"))]
    if not alike:
        return {"row": f"not landed: {len(landed)} rows have this uuid, none is this event"}
    # One uuid may be on events of several days (§6): the nearest in time is the one meant.
    nearest = min(alike, key=lambda row: abs(row["timestamp"] - shown["timestamp"]))
    return {
        column: f"source {_cut(shown[column])}, landed {_cut(nearest[column])}"
        for column in COLUMNS
        if nearest[column] != shown[column]
    }


def _cut(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def event_rows(body: bytes) -> list[Mapping[str, object]]:
    from extractors.http import scan

    return [{name: _bare(text) for name, text in scan.members(body.decode()).items()}]


def _bare(text: str) -> str:
    """The JSON of a cell: texts bare, everything else as it was sent."""
    return str(json.loads(text)) if text[:1] == '"' else "" if text == "null" else text


def show(at: Asking, request: Request, format_: Format, rows: Any) -> None:
    """An answer as JSON as it came, or as CSV: ours, as PostHog's renderer gives nothing for what is no list (§1.8)."""
    from extractors.http import scan
    from flows.report import files

    body = at.client.send(request).body
    if format_ is Format.JSON:
        raw(scan.quoted_words(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))
        return
    found = rows(body)
    names = list(found[0]) if found else []
    files.write_csv(names, [[row[name] for name in names] for row in found])


def raw(body: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(body if body.endswith(b"\n") or not body else body + b"\n")


def suggested(at: Asking, request: Request, *, of_events: bool) -> Values:
    """The values that PostHog suggests; *of_events*: of events that the user named. Raises SourceError, SettingsError."""
    from extractors.errors import RequestRefused
    from extractors.lists import lookups

    try:
        return lookups.values_of(at.client.send(request).body)
    except RequestRefused as exc:
        if of_events or "event_name" not in str(exc):
            raise
        raise SettingsError(str(exc), hint="add --event NAME, the name of an event that has it") from exc
