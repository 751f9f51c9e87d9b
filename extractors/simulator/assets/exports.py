"""Exported assets: create, list, look, content, with their quirks (facts/posthog-api.md §3, posthog-observed.md)."""

from __future__ import annotations

import io
import re
import threading
import time
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from extractors.simulator import responses
from extractors.simulator.assets import paging
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.storage import Storage
from extractors.simulator.errors import BadField
from extractors.simulator.profiles import Profile

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EXTENSIONS = {
    "image/png": "png",
    "application/pdf": "pdf",
    "text/csv": "csv",
    XLSX: "xlsx",
    "video/webm": "webm",
    "video/mp4": "mp4",
    "image/gif": "gif",
    "application/json": "json",
}
VIDEOS = ("video/webm", "video/mp4", "image/gif")
SHORT_LIVED = ("text/csv", XLSX)
STUCK_AFTER = timedelta(seconds=630)
STUCK = "Export failed without throwing an exception. Please try to rerun this export."


@dataclass(slots=True)
class Asset:
    """One export. *looks_left*: how often the asset is shown before it is ready. *mine*: made by the key's owner."""

    id: int
    export_format: str
    created_at: datetime
    filename: str
    export_context: Any = None
    dashboard: int | None = None
    insight: int | None = None
    expires_after: datetime | None = None
    content: Blob | None = None
    exception: str | None = None
    looks_left: int = 0
    mine: bool = True

    @property
    def ready(self) -> bool:
        return self.content is not None and self.exception is None and self.looks_left == 0


@dataclass(slots=True)
class ExportStore:
    """The exports of a project, and how making new ones goes; tests change both while it is served.

    *looks*: how often a new asset is looked at before it is ready. *blocks_s*: how long the POST takes. *fails*: what
    the work ends with instead of a content. *made*: the content of new assets by format, instead of a small one.
    *dashboards*, *insights*: ids that exist; *foreign*: those of another team.
    """

    looks: int = 0
    blocks_s: float = 0.0
    fails: str | None = None
    made: dict[str, Blob] = field(default_factory=dict)
    dashboards: frozenset[int] = frozenset(range(1, 10))
    insights: frozenset[int] = frozenset(range(1, 10))
    foreign: frozenset[int] = frozenset({99})
    storage: Storage = field(default_factory=Storage)
    assets: list[Asset] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last_id: int = 0

    def add(self, export_format: str, created_at: datetime, **more: Any) -> Asset:
        """A new asset; without `content` a small one of its format. The newest are shown first."""
        with self._lock:
            self._last_id += 1
            given: dict[str, Any] = {
                "filename": filename(export_format, more.get("export_context"), f"-{created_at:%Y-%m-%d-%H%M%S}"),
                "expires_after": expiry(export_format, created_at),
                "content": self.made.get(export_format) or small(export_format),
            }
            asset = Asset(self._last_id, export_format, created_at, **(given | more))
            self.assets.append(asset)
            return asset

    def remove(self, asset_id: int) -> None:
        """Let an asset expire."""
        with self._lock:
            self.assets = [asset for asset in self.assets if asset.id != asset_id]

    def seen(self, now: datetime, profile: Profile) -> list[Asset]:
        """What the key's owner sees, newest first."""
        with self._lock:
            visible = [asset for asset in self.assets if asset.mine and not _gone(asset, now, profile)]
        return sorted(visible, key=lambda asset: (asset.created_at, asset.id), reverse=True)

    def find(self, text: str, now: datetime, profile: Profile) -> Asset | None:
        return next((asset for asset in self.seen(now, profile) if str(asset.id) == text), None)


def seeded(now: datetime) -> ExportStore:
    """A store with one export of each format, one failed and one that never ends."""
    store = ExportStore()
    for number, export_format in enumerate(EXTENSIONS):
        store.add(export_format, now - timedelta(hours=number + 1), export_context={"filename": f"Seeded {number}"})
    store.add("text/csv", now - timedelta(hours=20), content=None, exception="Query has hit the max execution time")
    store.add("image/png", now - timedelta(hours=21), content=None, insight=1)
    return store


def filename(export_format: str, context: object, ending: str = "") -> str:
    """The name of a file: what the context says in plain letters, or `export`, with *ending* before the extension."""
    named = context.get("filename") if isinstance(context, dict) else None
    return f"{_slug(str(named)) if named else 'export'}{ending}.{EXTENSIONS.get(export_format, 'bin')}"


def expiry(export_format: str, at: datetime, days: int | None = None) -> datetime:
    """*days* on, else 7 for tables, 365 for videos and 180 for the rest, cut to midnight UTC."""
    days = days or (7 if export_format in SHORT_LIVED else 365 if export_format in VIDEOS else 180)
    return (at + timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)


def small(export_format: str) -> Blob:
    """A content that begins as its format does."""
    if export_format == XLSX:
        return Blob.of(workbook(3))
    return Blob.of(
        {
            "text/csv": b'event,properties.note\r\nseen,plain\r\nseen,"two\r\nlines"\r\n',
            "application/json": b'[{"event":"seen"}]',
            "image/png": b"\x89PNG\r\n\x1a\n" + bytes(64),
            "application/pdf": b"%PDF-1.7\n%%EOF\n",
            "image/gif": b"GIF89a" + bytes(64),
        }.get(export_format, bytes(range(256)))
    )


_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_WORKBOOK = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" Type="{_OFFICE}/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets>'
    '<sheet name="Data" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
    f'Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
}


def workbook(rows: int) -> bytes:
    """An XLSX with a header and *rows* rows of a number and a text."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _WORKBOOK.items():
            archive.writestr(name, text)
        lines: list[tuple[int | str, str]] = [
            ("number", "name"),
            *((number, f"row {number}") for number in range(1, rows + 1)),
        ]
        cells = "".join(f'<row r="{at}">{_cell(a)}{_cell(b)}</row>' for at, (a, b) in enumerate(lines, 1))
        sheet = f'<worksheet xmlns="{_SHEETS}"><sheetData>{cells}</sheetData></worksheet>'
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    return packed.getvalue()


def _cell(value: int | str) -> str:
    if isinstance(value, int):
        return f"<c><v>{value}</v></c>"
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


def listed(store: ExportStore, asked: paging.Asked, profile: Profile) -> Response:
    """GET exports: the filter by format is taken where the format is known, else ignored (§3.4)."""
    assets = store.seen(asked.now, profile)
    wanted = asked.params.get("export_format")
    if wanted in EXTENSIONS:
        assets = [asset for asset in assets if asset.export_format == wanted]
    return paging.page([shown(asset, asked.now, profile) for asset in assets], asked)


def one(store: ExportStore, text: str, asked: paging.Asked, profile: Profile) -> Response:
    """GET exports/:id."""
    asset = store.find(text, asked.now, profile)
    if asset is None:
        return responses.not_found("Not found.")
    answer = responses.json_answer(shown(asset, asked.now, profile))
    asset.looks_left = max(0, asset.looks_left - 1)
    return answer


def create(store: ExportStore, asked: paging.Asked, profile: Profile) -> Response:
    """POST exports: 201 once the work has ended, well or not; videos are only started (§3.3)."""
    given = paging.given(asked.body)
    export_format = given.get("export_format")
    if not export_format:
        raise BadField("export_format", "required", "This field is required.")
    if export_format not in EXTENSIONS:
        raise BadField("export_format", "invalid_choice", f'"{export_format}" is not a valid choice.')
    for name, known in (("dashboard", store.dashboards), ("insight", store.insights)):
        _checked_target(name, given.get(name), known, store.foreign)
    if not any(given.get(name) for name in ("dashboard", "insight", "export_context")):
        detail = "Either dashboard, insight or export_context is required for an export."
        raise BadField(None, "invalid_input", detail)
    _checked_context(given.get("export_context"), export_format)
    more: dict[str, Any] = {name: given.get(name) for name in ("dashboard", "insight", "export_context")}
    more |= {"exception": store.fails, "looks_left": store.looks}
    if store.fails:
        more["content"] = None
    more["expires_after"] = expiry(export_format, asked.now, profile.export_days)
    if not profile.export_names_dated:
        more["filename"] = filename(export_format, given.get("export_context"))
    if profile.export_expiry_given and given.get("expires_after"):
        more["expires_after"] = datetime.fromisoformat(given["expires_after"]).astimezone(UTC)
    asset = store.add(export_format, asked.now, **more)
    if export_format not in VIDEOS:
        time.sleep(store.blocks_s)
    return responses.json_answer(shown(asset, asked.now, profile), status=201)


def content(store: ExportStore, text: str, asked: paging.Asked, profile: Profile) -> Response:
    """GET exports/:id/content: the bytes, or a redirect to the store; not ready and failed by version (§3.5)."""
    asset = store.find(text, asked.now, profile)
    if asset is None:
        return responses.not_found("Not found.")
    if asset.exception is not None and profile.export_failed == 400:
        return responses.error(400, "validation_error", "export_failed", asset.exception)
    if not asset.ready or asset.content is None:
        return _not_ready(asset, asked.now, profile)
    if profile.exports_stored:
        address = store.storage.address(str(asset.id), asset.content, asked.now)
        return Response(status_code=302, headers={"Location": address})
    body = b"".join(asset.content.pieces())
    response = Response(body, 200, {"Cache-Control": "max-age=86400"}, asset.export_format)
    response.headers["Content-Type"] = asset.export_format
    if asked.params.get("download") == "true":
        response.headers["Content-Disposition"] = f'attachment; filename="{asset.filename}"'
    return response


def _not_ready(asset: Asset, now: datetime, profile: Profile) -> Response:
    if profile.export_early_look_expires:
        asset.expires_after = now
    if profile.export_not_ready == 404:
        return responses.not_found("Not found.")
    if profile.export_not_ready == 409:
        answer = responses.error(409, "invalid_request", "conflict", "The export is not ready.")
        answer.headers["Location"] = asset.filename
        answer.headers["Retry-After"] = "5"
        return answer
    return responses.error(425, "invalid_request", "export_not_ready", "The export is not ready yet.")


def shown(asset: Asset, now: datetime, profile: Profile) -> dict[str, object]:
    """An asset as the server shows it; an old one with neither content nor exception gets a made-up exception."""
    exception = asset.exception
    if exception is None and not asset.ready and now - asset.created_at > STUCK_AFTER:
        exception = STUCK
    row: dict[str, object] = {
        "id": asset.id,
        "dashboard": asset.dashboard,
        "insight": asset.insight,
        "export_format": asset.export_format,
        "created_at": paging.stamp(asset.created_at),
        "has_content": asset.ready,
        "export_context": asset.export_context,
        "filename": asset.filename,
        "expires_after": None if asset.expires_after is None else paging.stamp(asset.expires_after),
    }
    if profile.export_exception_shown:
        row |= {"exception": exception, "user_access_level": "editor"}
    return row


def _gone(asset: Asset, now: datetime, profile: Profile) -> bool:
    """Expired assets vanish at once; servers of 2023 go on showing them."""
    expired = asset.expires_after is not None and asset.expires_after <= now
    return expired and not profile.export_early_look_expires


def _checked_target(name: str, value: object, known: frozenset[int], foreign: frozenset[int]) -> None:
    if value is None:
        return
    if value in foreign:
        raise BadField(name, "invalid_input", f"This {name} does not belong to your team.")
    if value not in known:
        raise BadField(name, "does_not_exist", f'Invalid pk "{value}" - object does not exist.')


def _checked_context(context: object, export_format: str) -> None:
    if context is None:
        return
    if not isinstance(context, dict):
        raise BadField("export_context", "invalid_input", "Value must be valid JSON object.")
    if "path" in context and (str(context.get("method", "GET")).upper() != "GET" or context.get("body")):
        raise BadField("export_context", "invalid_input", "Only GET requests can be exported.")
    if export_format in VIDEOS and not context.get("session_recording_id"):
        raise BadField("export_context", "invalid_input", "Only session recordings can be exported as video.")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
