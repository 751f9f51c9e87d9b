"""Contents of exports: fetched to a file, whole or not at all, whatever their name (facts/posthog-api.md §3.5, §3.6)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from extractors import errors, files
from extractors.http.client import Client
from extractors.http.content import Content
from extractors.http.retry import RESUMED_ATTEMPTS
from extractors.lists.exports import FORMATS, Asset
from extractors.request import CONTENT, Bucket, Request

ROW_CAPS = (300_000, 50_000, 10_000)  # today's, and those of older servers; the file is cut there without a word (§3.6)
NAME_BYTES = 150
SHEET_BYTES = 4 * 2**30  # how much of a sheet is unpacked to count its rows
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")
_KEPT = frozenset("._-()+=@ ")


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A content in its file. *rows*: of a CSV or XLSX without its header, if they could be counted.

    *possibly_cut*: there are exactly as many rows as a server's cap.
    """

    path: Path
    sha256: str
    bytes: int
    rows: int | None
    possibly_cut: bool


def safe_name(one: Asset) -> str:
    """A file name out of what the server calls the asset, which may be anything: one plain name of at most 150 bytes.

    No separators, control or invisible characters, no dot or dash in front; the extension is that of the format, so
    that no name can pass for a file of another kind.
    """
    extension = next((short for short, long in FORMATS.items() if long == one.export_format), "bin")
    plain = unicodedata.normalize("NFC", one.filename)
    kept = "".join(sign if sign in _KEPT or unicodedata.category(sign)[0] in "LN" else "-" for sign in plain)
    stem = re.sub(rf"\.{extension}$", "", kept, flags=re.IGNORECASE)
    stem = re.sub(r"-{2,}", "-", stem).strip(" .-")
    stem = stem.encode()[: NAME_BYTES - len(extension) - 1].decode(errors="ignore").rstrip(" .-")
    return f"{stem or f'export-{one.id}'}.{extension}"


def download(
    client: Client,
    project_id: int,
    one: Asset,
    path: Path,
    *,
    on_bytes: Callable[[int, int | None], None] = lambda done, total: None,
) -> Downloaded:
    """Fetch the content of *one*, which must have one, to *path*; a file that is there is replaced when all has come.

    A connection that is cut is taken up where it ended, where the store can (If-Range by ETag), else from the start.
    *on_bytes* hears what has come and how much there is. Memory: one piece.
    Raises SourceUnavailable when it is cut again and again, RequestRefused and NotFound as PostHog says, files.Busy and
    OSError for the file.
    """
    # DRF negotiates before the view runs: a content is neither JSON nor CSV to it.
    request = Request(
        project_id,
        f"exports/{one.id}/content/",
        Bucket.REST,
        accept="*/*",
        entry=f"content of export {one.id}",
        policy=CONTENT,
    )
    counted = one.export_format == FORMATS["csv"]
    with files.arriving(path) as file:
        coming = _Coming(file, on_bytes, CsvRows() if counted else None)
        try:
            client.fetch(request, coming)
        except (errors.BodyCut, errors.RangeTooHeavy, errors.ServerFault, errors.SourceUnavailable) as exc:
            raise errors.SourceUnavailable(
                f"{exc}, {RESUMED_ATTEMPTS} times in a row, at byte {coming.size:,} of the content of export {one.id}",
                hint="run again later",
            ) from exc
        file.flush()
        rows = coming.csv.rows if coming.csv else sheet_rows(file) if one.export_format == FORMATS["xlsx"] else None
    return Downloaded(path, coming.digest.hexdigest(), coming.size, rows, rows in ROW_CAPS)


@dataclass(slots=True)
class _Coming:
    """What has come of a content so far. *total*: its length, if the store has said so."""

    file: BinaryIO
    on_bytes: Callable[[int, int | None], None]
    csv: CsvRows | None
    size: int = 0
    etag: str = ""
    total: int | None = None
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def range_headers(self) -> Mapping[str, str]:
        """Asks for the rest where what has come can be told to be of the same content."""
        return {"Range": f"bytes={self.size}-", "If-Range": self.etag} if self.size and self.etag else {}

    def take(self, content: Content) -> None:
        """Write what comes. Raises BodyCut if it is less than was announced, or not the rest that was asked."""
        if content.status == 200:
            self._start_over()
            length = content.headers.get("content-length", "")
            self.total = int(length) if length.isdecimal() and not content.packed else None
        else:
            self.total = self._total_by_rest(content)
            if self.total is None:
                self._start_over()
                raise errors.BodyCut("the store answered with another range than was asked")
        etag = content.headers.get("etag", "")
        self.etag = etag if etag.startswith('"') and not content.packed else ""  # weak ones do not tell bytes apart
        for piece in content.pieces:
            self.file.write(piece)
            self.digest.update(piece)
            if self.csv:
                self.csv.take(piece)
            self.size += len(piece)
            self.on_bytes(self.size, self.total)
        if self.total is not None and self.size != self.total:
            raise errors.BodyCut(f"the content ended after {self.size:,} of {self.total:,} bytes")

    def _total_by_rest(self, content: Content) -> int | None:
        """The length of the whole, where *content* goes on at the byte reached and is of the same whole; else None.

        A store may send less of the rest than was asked, so the length of its answer is not what is left.
        """
        placed = _RANGE.match(content.headers.get("content-range", ""))
        if content.status != 206 or content.packed or placed is None or int(placed[1]) != self.size:
            return None
        if self.size and content.headers.get("etag", self.etag) != self.etag:
            return None
        total = self.total if placed[2] == "*" else int(placed[2])
        return total if self.total in (None, total) else None

    def _start_over(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size, self.etag, self.total, self.digest = 0, "", None, hashlib.sha256()
        self.csv = CsvRows() if self.csv else None


@dataclass(slots=True)
class CsvRows:
    """Counts the rows of a CSV that comes in pieces: line ends outside of quotes, less the header."""

    _quoted: bool = False
    _ends: int = 0
    _last: bytes = b""

    def take(self, piece: bytes) -> None:
        for number, part in enumerate(piece.split(b'"')):
            # Each quote opens or closes; a doubled one does both.
            self._quoted ^= number > 0
            if not self._quoted:
                self._ends += part.count(b"\n")
        self._last = piece[-1:] or self._last

    @property
    def rows(self) -> int:
        lines = self._ends + (self._last not in (b"", b"\n"))
        return max(0, lines - 1)


def sheet_rows(file: BinaryIO) -> int | None:
    """Rows of an XLSX's first sheet less its header; None if it is none, or too large to be counted."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("xl/worksheets/sheet1.xml") as sheet:
            rows, tail, unpacked = 0, b"", 0
            while piece := sheet.read(1 << 20):
                unpacked += len(piece)
                if unpacked > SHEET_BYTES:
                    return None
                text = tail + piece
                rows += len(re.findall(rb"<row[\s/>]", text))
                tail = text[-4:]
            return max(0, rows - 1)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError, ValueError):
        return None
