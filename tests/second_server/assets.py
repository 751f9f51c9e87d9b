"""Exports and evaluations of one project: what was sent in, rows as the API shows them out.

Knows fields, defaults, expiry and refusals; knows no addresses and no sockets. Not modelled: work that fails or takes
its time, other users' exports, videos' own rules, list filters, POST and PUT of evaluations, their older shape.
Section marks (§) are posthog-api.md's; "seen" points at a sample.
"""

import re
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .answers import Answer, invalid, not_found
from .bucket import Bucket

EXTENSIONS = {  # §3.2
    "image/png": "png",
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "video/webm": "webm",
    "video/mp4": "mp4",
    "image/gif": "gif",
    "application/json": "json",
}
KEPT_DAYS = {"csv": 7, "xlsx": 7, "webm": 365, "mp4": 365, "gif": 365}  # §3.3; 180 for the others
TARGETS = {"dashboard": {1: "Example dashboard"}, "insight": {1: "Example insight"}}  # what exists, with its name

WRITABLE = {  # §4 without what is read-only
    *("name", "description", "enabled", "evaluation_type", "evaluation_config", "output_type", "output_config"),
    *("conditions", "target", "target_config", "model_configuration", "deleted", "directory_id"),
}
NAME_MOST = 400  # §4
OWNER = {  # openapi-subset.json, UserBasic
    "id": 7,
    "uuid": "018f0000-0000-7000-8000-000000000007",
    "distinct_id": "owner",
    "first_name": "Ada",
    "last_name": "Second",
    "email": "ada@example.com",
    "is_email_verified": True,
    "hedgehog_config": None,
    "role_at_organization": None,
}


def moment(at: datetime) -> str:
    """*at* as both show it (seen: export_create.json)."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Exports:
    """The key owner's exports. The work of every one ends at once, with the same *content* (§3.3: POST waits)."""

    def __init__(self, *, content: bytes, bucket: Bucket, now: Callable[[], datetime]) -> None:
        self._content = content
        self._bucket = bucket
        self._now = now
        self._rows: dict[int, tuple[datetime, dict[str, Any]]] = {}

    def create(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A new export; *given*'s `expires_after` is ignored (§3.3). Raises ApiError for what §3.3 refuses."""
        form = given.get("export_format")
        if form is None:
            raise invalid("This field is required.", code="required", attr="export_format")
        if form not in EXTENSIONS:
            raise invalid(f'"{form}" is not a valid choice.', code="invalid_choice", attr="export_format")
        for name, known in TARGETS.items():
            if given.get(name) is not None and given[name] not in known:
                detail = f'Invalid pk "{given[name]}" - object does not exist.'
                raise invalid(detail, code="does_not_exist", attr=name)
        if not any(given.get(name) for name in (*TARGETS, "export_context")):
            raise invalid("Either dashboard, insight or export_context is required for an export.")
        return self._made(given, number=len(self._rows) + 1)

    def _made(self, given: Mapping[str, Any], *, number: int) -> dict[str, Any]:
        at, form = self._now(), given["export_format"]
        extension = EXTENSIONS[form]
        expires_at = _midnight(at + timedelta(days=KEPT_DAYS.get(extension, 180)))
        row = {
            **_told(given, number=number, at=at),
            "has_content": True,
            "export_context": given.get("export_context"),
            "filename": f"{_stem(given)}-{at:%Y-%m-%d-%H%M%S}.{extension}",
            "expires_after": moment(expires_at),
            "exception": None,
            "user_access_level": "editor",
        }
        self._bucket.put(f"exports/{number}", content_type=form, content=self._content)
        self._rows[number] = (expires_at, row)
        return row

    def visible(self) -> list[dict[str, Any]]:
        """Newest first; expired ones are gone (§3.3)."""
        return [row for expires_at, row in reversed(self._rows.values()) if self._now() < expires_at]

    def one(self, number: str) -> dict[str, Any]:
        """The export *number*, or ApiError."""
        found = next((row for row in self.visible() if str(row["id"]) == number), None)
        if found is None:
            raise not_found()
        return found

    def content(self, number: str, *, download: bool) -> Answer:
        """The way to the store that serves the content of export *number*; as an attachment to *download* (§3.5)."""
        row = self.one(number)
        address = self._bucket.presigned(f"exports/{row['id']}", filename=row["filename"] if download else None)
        return Answer(302, b"", (("Location", address),))


class OlderExports(Exports):
    """As servers of 2023 had them (seen: export_*.json): kept for 26 weeks and longer, served by PostHog itself.

    Tables end at once; of the rest nothing ever comes, and whoever asks for its content too early ends its time.
    """

    def visible(self) -> list[dict[str, Any]]:
        return [row for _, row in reversed(self._rows.values())]

    def content(self, number: str, *, download: bool) -> Answer:
        row = self.one(number)
        if not row["has_content"]:
            row["expires_after"] = moment(self._now())
            raise not_found()
        attached = ("Content-Disposition", f'attachment; filename="{row["filename"]}"')
        return Answer(200, self._content, (attached,) if download else (), row["export_format"])

    def _made(self, given: Mapping[str, Any], *, number: int) -> dict[str, Any]:
        at, extension = self._now(), EXTENSIONS[given["export_format"]]
        expires_at = _midnight(at + timedelta(weeks=26))
        row = {
            **_told(given, number=number, at=at),
            "has_content": extension in ("csv", "xlsx"),
            "export_context": given.get("export_context"),
            "filename": f"{_stem(given)}.{extension}",
            "expires_after": moment(expires_at),
        }
        self._rows[number] = (expires_at, row)
        return row


def _told(given: Mapping[str, Any], *, number: int, at: datetime) -> dict[str, Any]:
    """The fields of an export that were always the same, in their order."""
    targets = {name: given.get(name) for name in TARGETS}
    return {"id": number, **targets, "export_format": given["export_format"], "created_at": moment(at)}


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _stem(given: Mapping[str, Any]) -> str:
    """File name without time and extension (§3.6)."""
    asked = (given.get("export_context") or {}).get("filename")
    if asked:
        return _slug(asked)
    for name, known in TARGETS.items():
        if given.get(name):
            return f"export-{_slug(known[given[name]])}"
    return "export"


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()  # as Django's slugs are
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain.lower()).strip())


class Evaluations:
    """Evaluations, deleted ones too. A row starts as an enabled judge; what is *given* of each goes on top."""

    def __init__(self, given: Iterable[Mapping[str, Any]], *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._rows = [_settled({**_judge(moment(now())), **row}) for row in given]

    def visible(self) -> list[dict[str, Any]]:
        """Newest first, then by id; deleted ones are hidden (§4)."""
        shown = sorted((row for row in self._rows if not row["deleted"]), key=lambda row: str(row["id"]))
        return sorted(shown, key=lambda row: datetime.fromisoformat(row["created_at"]), reverse=True)

    def one(self, name: str) -> dict[str, Any]:
        """The evaluation with that id unless it is deleted, or ApiError."""
        return _found(self.visible(), name)

    def change(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """PATCH: finds deleted rows too; unknown and read-only keys are ignored; `output_config` is merged (§4)."""
        row = _found(self._rows, name)
        new = {**row, **{key: value for key, value in given.items() if key in WRITABLE}}
        if "output_config" in given:
            new["output_config"] = {**row["output_config"], **given["output_config"]}
        if not 0 < len(new["name"]) <= NAME_MOST:
            raise invalid(f"Ensure this field has 1 to {NAME_MOST} characters.", code="invalid", attr="name")
        if new["evaluation_type"] == "llm_judge":
            prompt = str(new["evaluation_config"].get("prompt", "")).strip()
            if not prompt:
                raise invalid("Prompt cannot be empty.", attr="config")
            new["evaluation_config"] = {"prompt": prompt}
        row.update(_settled(new), updated_at=moment(self._now()))
        return row


@dataclass(frozen=True, slots=True)
class Kind:
    """What a plain list has of its own: the path's prefix, rows without a `limit`, the key that it is sorted by downwards,
    a row made by (number, moment), and its columns in HogQL beside id and deleted: name → (key of a row, type)."""

    prefix: str
    page: int
    order: str
    made: Callable[[int, str], dict[str, Any]]
    columns: Mapping[str, tuple[str, str]]


def _annotation(number: int, at: str) -> dict[str, Any]:
    on = (
        "dashboard_item",
        "dashboard_id",
        "dashboard_name",
        "insight_short_id",
        "insight_name",
        "insight_derived_name",
    )
    made = {"id": number, "content": "deployed", "date_marker": at, "creation_type": "GIT", **dict.fromkeys(on)}
    made |= {"created_by": OWNER, "created_at": at, "updated_at": at, "deleted": False, "scope": "project"}
    return {**made, "emoji": None, "hidden_in_user_interface": None, "tags": []}


KINDS = {
    "annotations": Kind(
        prefix="projects",
        page=1000,
        order="date_marker",
        made=_annotation,
        columns={
            "scope": ("scope", "String"),
            "dashboard_item_id": ("dashboard_item", "Nullable(Int64)"),
            "dashboard_id": ("dashboard_id", "Nullable(Int64)"),
        },
    )
}


class Objects:
    """A plain list, deleted objects too. A row is what its kind makes; what is *given* of each goes on top."""

    def __init__(self, kind: Kind, given: Iterable[Mapping[str, Any]], *, now: Callable[[], datetime]) -> None:
        self.kind = kind
        self._rows = [{**kind.made(number, moment(now())), **row} for number, row in enumerate(given, 1)]

    def visible(self) -> list[dict[str, Any]]:
        """As PostHog sorts them, which leaves open who comes first among equals: here the older id, then the newer."""
        shown = sorted((row for row in self._rows if not row["deleted"]), key=lambda row: row["id"] % 2)
        return sorted(shown, key=lambda row: str(row[self.kind.order]), reverse=True)

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Columns with their types, and all rows, as HogQL has them."""
        columns = ["id Int64", "deleted UInt8", *(f"{name} {kind}" for name, (_, kind) in self.kind.columns.items())]
        keys = ["id", "deleted", *(key for key, _ in self.kind.columns.values())]
        return columns, [[row[key] for key in keys] for row in self._rows]


def _found(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    try:
        found = next((row for row in rows if uuid.UUID(row["id"]) == uuid.UUID(name)), None)
    except ValueError:  # a 404 too (§4)
        found = None
    if found is None:
        raise not_found(
            f"No evaluation '{name}' in this project. List the project's evaluations to look one up by name."
        )
    return found


def _settled(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with the status that `enabled` drives (§4)."""
    return {**row, "status": "active" if row["enabled"] else "paused"}


def _judge(created_at: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "name": "Judge",
        "description": "",
        "directory_id": None,
        "enabled": True,
        "status": "active",
        "status_reason": None,
        "status_reason_detail": None,
        "evaluation_type": "llm_judge",
        "evaluation_config": {"prompt": "Is it right?"},
        "output_type": "boolean",
        "output_config": {"allows_na": False},
        "conditions": [{"id": "all", "rollout_percentage": 100, "properties": []}],
        "target": "generation",
        "target_config": {},
        "model_configuration": {
            "provider": "openai",
            "model": "gpt-5-mini",
            "provider_key_id": None,
            "provider_key_name": None,
        },
        "created_at": created_at,
        "updated_at": created_at,
        "created_by": OWNER,
        "deleted": False,
        "user_access_level": "editor",
    }
