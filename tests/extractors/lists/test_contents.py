"""Contents: hostile names, whole files or none, and where the key goes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import unicodedata
from dataclasses import replace
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler

import pytest

from extractors import errors, files
from extractors.lists import contents, exports
from extractors.lists.contents import CsvRows, download, safe_name, sheet_rows
from extractors.lists.exports import FORMATS, asset_of
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.exports import ExportStore, workbook
from extractors.simulator.assets.storage import Storage
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import serve
from tests.extractors.http.test_client import body, client, server
from tests.extractors.lists.test_lookups import NOW, UNLIMITED, client_of


def called(filename: str, export_format: str = "text/csv"):
    return asset_of({"id": 7, "export_format": export_format, "filename": filename})


NAMES = [
    pytest.param("export-example-2021-08-25.csv", "export-example-2021-08-25.csv", id="as PostHog makes it"),
    pytest.param("../../etc/passwd", "etc-passwd.csv", id="path"),
    pytest.param("..\\..\\x.csv", "x.csv", id="backslashes"),
    pytest.param("/abs/x.csv", "abs-x.csv", id="absolute"),
    pytest.param(".bashrc", "bashrc.csv", id="hidden"),
    pytest.param("hedgerow.toml", "hedgerow.toml.csv", id="a file of ours"),
    pytest.param("-rf.csv", "rf.csv", id="an option"),
    pytest.param("a\x00b\x1b[31m\r\n.csv", "a-b-31m.csv", id="control characters"),
    pytest.param("a\u202egnp.csv", "a-gnp.csv", id="right-to-left override"),
    pytest.param("", "export-7.csv", id="empty"),
    pytest.param("...", "export-7.csv", id="dots"),
    pytest.param("Verkäufe Q1 – 漢字.csv", "Verkäufe Q1 - 漢字.csv", id="letters of all scripts"),
    pytest.param("a.CSV", "a.csv", id="extension in capitals"),
    pytest.param("x" * 1_000 + ".csv", "x" * 146 + ".csv", id="1,000 characters"),
    pytest.param("漢" * 1_000, "漢" * 48 + ".csv", id="1,000 wide characters"),
    pytest.param("$(rm -rf ~);`x`|y&z.csv", "(rm -rf -)-x-y-z.csv", id="a shell's words"),
]


@pytest.mark.parametrize(("given", "expected"), NAMES)
def test_name_from_the_server_becomes_a_plain_one(given, expected):
    """One name in this directory, of the format's own kind."""
    assert safe_name(called(given)) == expected


def test_no_name_is_unsafe():
    """Every character there is, alone and in a row: one component, visible, no dot or dash in front, short."""
    signs = [chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000]
    for name in [*signs, *(sign + "/x" for sign in signs[:300]), "".join(signs), "".join(reversed(signs))]:
        safe = safe_name(called(name))
        assert safe == os.path.basename(safe)
        assert len(safe.encode()) <= 150
        assert safe[0] not in ".- "
        assert safe.endswith(".csv")
        assert not [sign for sign in safe if unicodedata.category(sign)[0] == "C"]


@pytest.mark.parametrize(("short", "long"), FORMATS.items())
def test_extension_is_that_of_the_format(short, long):
    """Whatever the name says."""
    assert safe_name(called("a.exe", long)) == f"a.exe.{short}"


ROWS = [
    pytest.param(b"", 0, id="empty"),
    pytest.param(b"a,b\r\n", 0, id="header alone"),
    pytest.param(b"a\r\n1\r\n2\r\n", 2, id="two"),
    pytest.param(b"a\n1\n2", 2, id="no last line end"),
    pytest.param(b'a\r\n"x\r\ny"\r\n"p""q\n"\r\n', 2, id="line ends and quotes in cells"),
]


@pytest.mark.parametrize(("text", "rows"), ROWS)
def test_rows_of_a_csv_are_counted_however_it_is_cut(text, rows):
    """The same count for the whole and for every way to cut it in two, and byte by byte."""
    cuts = [[text], [text[i : i + 1] for i in range(len(text))], *([text[:at], text[at:]] for at in range(len(text)))]
    for pieces in cuts:
        counted = CsvRows()
        for piece in pieces:
            counted.take(piece)
        assert counted.rows == rows


def test_rows_of_a_workbook_are_counted():
    """An XLSX is unpacked as it is read; what is none has no count."""
    assert sheet_rows(io.BytesIO(workbook(50_000))) == 50_000
    assert sheet_rows(io.BytesIO(b"PK no zip")) is None


def served(store: ExportStore, **more):
    return serve(Dataset(), now=lambda: NOW, exports=store, **{"profile": UNLIMITED} | more)


def blob_of(size: int) -> Blob:
    return Blob(b"0123456789abcdef\n", size)


HURDLES = [
    pytest.param(Storage, 1, id="none"),
    pytest.param(partial(Storage, cuts=[400_000, 300_000]), 3, id="cut twice, resumed"),
    pytest.param(partial(Storage, cuts=[400_000], ranges=False), 2, id="cut, no ranges"),
    pytest.param(partial(Storage, cuts=[400_000], etags=False), 2, id="cut, no ETag"),
    pytest.param(partial(Storage, statuses=[503, 403]), 3, id="refused at first"),
    pytest.param(partial(Storage, cuts=[400_000], longest_range=250_000), 4, id="less of the rest than was asked"),
    pytest.param(partial(Storage, hop=True), 2, id="redirected on"),
]


@pytest.mark.parametrize(("storage_of", "asked"), HURDLES)
def test_content_arrives_whole_and_the_key_stays(storage_of, asked, tmp_path):
    """Byte for byte under its name, for the user alone; the store never sees the key or a cookie."""
    storage = storage_of()
    store = ExportStore(storage=storage)
    blob = blob_of(1_000_000)
    asset = store.add("text/csv", NOW, content=blob)
    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, asset.id)
        done = download(client, 1, one, tmp_path / "a.csv")

    content = (tmp_path / "a.csv").read_bytes()
    assert (done.sha256, done.bytes, done.rows) == (blob.sha256, blob.size, 58_823)
    assert hashlib.sha256(content).hexdigest() == blob.sha256
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600
    assert len(storage.requests) == asked
    assert storage.keys_seen == []
    assert not [seen for seen in storage.requests if seen.cookie]
    assert {file.name for file in tmp_path.iterdir()} == {"a.csv", "state"}


def test_only_the_rest_is_asked_after_a_cut(tmp_path):
    """Range from the byte where it ended, tied to the ETag."""
    store = ExportStore(storage=Storage(cuts=[400_000]))
    asset = store.add("text/csv", NOW, content=blob_of(1_000_000))
    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        download(client, 1, exports.asset(client, 1, asset.id), tmp_path / "a.csv")

    assert [seen.range for seen in store.storage.requests] == ["", "bytes=400000-"]


def test_content_that_changes_between_two_parts_is_fetched_anew(tmp_path):
    """Another ETag: nothing of the old content stays, and the store, told which was meant, sends all at once."""
    store = ExportStore(storage=Storage(cuts=[400_000]))
    asset = store.add("text/csv", NOW, content=blob_of(1_000_000))
    fresh = Blob(b"other\n", 900_000, version=2)

    def change(sent: int) -> None:
        asset.content = fresh

    store.storage.on_piece = change
    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        done = download(client, 1, exports.asset(client, 1, asset.id), tmp_path / "a.csv")

    assert done.sha256 == fresh.sha256 == hashlib.sha256((tmp_path / "a.csv").read_bytes()).hexdigest()
    assert len(store.storage.requests) == 2


WHOLE, CUT_AT = bytes(range(97, 122)) * 40, 400
HONEST = {"Content-Range": f"bytes {CUT_AT}-999/1000", "ETag": '"1"'}
LIES = [
    pytest.param(206, HONEST, WHOLE[CUT_AT:], None, id="the rest"),
    pytest.param(
        206, HONEST | {"Content-Range": "bytes 400-499/*"}, WHOLE[400:500], "bytes=500-", id="some of the rest"
    ),
    pytest.param(200, {"ETag": '"2"'}, WHOLE, None, id="the whole, no range"),
    pytest.param(206, HONEST | {"Content-Range": "bytes 390-999/1000"}, WHOLE[390:], "", id="another offset"),
    pytest.param(206, HONEST | {"Content-Range": "bytes 400-899/900"}, WHOLE[400:900], "", id="another length"),
    pytest.param(206, HONEST | {"Content-Range": "lines 4-9/10"}, WHOLE[390:], "", id="another unit"),
    pytest.param(206, {"ETag": '"1"'}, WHOLE[390:], "", id="no place"),
    pytest.param(206, HONEST | {"ETag": '"2"'}, WHOLE[:600], "", id="another content"),
    pytest.param(206, HONEST | {"Content-Encoding": "gzip"}, gzip.compress(WHOLE[:600]), "", id="packed"),
    pytest.param(416, {"Content-Range": "bytes */1000"}, b"", "", id="no such range"),
]


@pytest.mark.parametrize(("status", "headers", "sent", "then"), LIES)
def test_what_is_not_the_rest_is_not_joined(status, headers, sent, then, tmp_path):
    """After a cut only what goes on at that byte of the same content is taken; otherwise all of it is fetched anew."""
    ranges: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-") or 0)
        if len(ranges) == 1:
            body(handler, WHOLE[:CUT_AT], Content_Length="1000", ETag='"1"')
            handler.close_connection = True
        elif len(ranges) == 2:
            body(handler, sent, status=status, **headers)
        else:
            place = {"Content-Range": f"bytes {start}-999/1000"} if start else {}
            body(handler, WHOLE[start:], status=206 if start else 200, ETag='"1"', **place)

    one = asset_of({"id": 7, "export_format": "image/png", "filename": "a", "has_content": True})
    with server(answer) as (url, _):
        done = download(client(url, tmp_path / "state"), 1, one, tmp_path / "a.png")

    assert (tmp_path / "a.png").read_bytes() == WHOLE
    assert done.sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert ranges[1:] == ["bytes=400-", *([] if then is None else [then])]


FAILURES = [
    pytest.param(partial(Storage, cuts=[10] * 99, ranges=False), id="cut again and again"),
    pytest.param(partial(Storage, statuses=[403] * 99), id="refused again and again"),
    pytest.param(partial(Storage, declared_extra=5), id="shorter than announced"),
]


@pytest.mark.parametrize("storage_of", FAILURES)
def test_content_that_does_not_arrive_leaves_nothing(storage_of, tmp_path):
    """Bounded, and no file under any name; an old one stays what it was."""
    (tmp_path / "a.csv").write_text("old")
    store = ExportStore(storage=storage_of())
    asset = store.add("text/csv", NOW, content=blob_of(100_000))
    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, asset.id)
        with pytest.raises(errors.SourceUnavailable, match="times in a row"):
            download(client, 1, one, tmp_path / "a.csv")

    assert (tmp_path / "a.csv").read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"a.csv", "state"}


NOT_THERE = [
    pytest.param(replace(UNLIMITED, export_not_ready=425), errors.NotReady, id="425"),
    pytest.param(replace(UNLIMITED, export_not_ready=404), errors.NotFound, id="404"),
    pytest.param(replace(UNLIMITED, export_not_ready=409), errors.NotReady, id="409"),
    pytest.param(replace(UNLIMITED, export_failed=400), errors.RequestRefused, id="400 failed"),
    pytest.param(replace(UNLIMITED, export_failed=404, export_not_ready=404), errors.NotFound, id="404 failed"),
]


@pytest.mark.parametrize(("profile", "error"), NOT_THERE)
def test_every_way_of_not_being_ready_is_understood(profile, error, tmp_path, monkeypatch):
    """Whatever the server's version says, it is an error of its own and no file."""
    monkeypatch.setattr("extractors.http.client.Client.wait", lambda self, seconds, error: None)
    store = ExportStore()
    failed = "the work failed" if error is errors.RequestRefused or profile.export_failed == 404 else None
    asset = store.add("text/csv", NOW, content=None, exception=failed)
    one = asset_of({"id": asset.id, "export_format": "text/csv", "filename": "a", "has_content": True})
    with served(store, profile=profile) as simulator, pytest.raises(error):
        download(client_of(simulator, tmp_path), 1, one, tmp_path / "a.csv")

    assert {file.name for file in tmp_path.iterdir()} == {"state"}


def test_content_that_is_there_a_moment_later_is_fetched(tmp_path, monkeypatch):
    """The asset says it has a content, its address does not know it yet: asked again."""
    monkeypatch.setattr(
        "extractors.http.client.Client.wait", lambda self, seconds, error: setattr(asset, "looks_left", 0)
    )
    store = ExportStore()
    asset = store.add("text/csv", NOW, looks_left=1)
    one = asset_of({"id": asset.id, "export_format": "text/csv", "filename": "a", "has_content": "true"})
    with served(store) as simulator:
        assert download(client_of(simulator, tmp_path), 1, one, tmp_path / "a.csv").rows == 2


def test_content_of_the_database_is_fetched_too(tmp_path):
    """Servers without a store answer the bytes themselves."""
    store = ExportStore()
    blob = blob_of(300_000)
    asset = store.add("text/csv", NOW, content=blob)
    with served(store, profile=OLD_2023) as simulator:
        client = client_of(simulator, tmp_path)
        assert download(client, 1, exports.asset(client, 1, asset.id), tmp_path / "a").sha256 == blob.sha256


CAPS = [(9_999, False), (10_000, True), (10_001, False), (50_000, True), (300_000, True)]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize(("rows", "cut"), CAPS)
def test_exactly_a_cap_of_rows_may_be_cut(kind, rows, cut, tmp_path):
    """The server cuts without a word; one row less or more is whole."""
    content = Blob.of(workbook(rows)) if kind == "xlsx" else Blob(b"a,b\r\n", 5 * (rows + 1))
    store = ExportStore()
    asset = store.add(FORMATS[kind], NOW, content=content)
    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        done = download(client, 1, exports.asset(client, 1, asset.id), tmp_path / "a")

    assert (done.rows, done.possibly_cut) == (rows, cut)


LOCATIONS = [
    pytest.param("ftp://store.example/a", errors.UnusableAnswer, id="no http"),
    pytest.param("http://[broken", errors.UnusableAnswer, id="no address"),
    pytest.param("file:///etc/passwd", errors.UnusableAnswer, id="a file"),
]


@pytest.mark.parametrize(("location", "error"), LOCATIONS)
def test_redirect_to_what_is_no_store_is_refused(location, error, tmp_path, monkeypatch):
    """Only http and https lead to a content."""
    store = ExportStore()
    asset = store.add("text/csv", NOW)
    monkeypatch.setattr("extractors.simulator.assets.storage.Storage.address", lambda *arguments: location)
    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, asset.id)
        with pytest.raises(error):
            download(client, 1, one, tmp_path / "a.csv")


def test_file_that_another_process_writes_is_left_alone(tmp_path):
    """Two downloads to one name do not mix."""
    with files.locked(tmp_path / ".a.csv.part"), pytest.raises(files.Busy), files.arriving(tmp_path / "a.csv"):
        raise AssertionError("not reached")


def test_part_of_a_killed_process_is_taken_over(tmp_path):
    """What it left is neither kept nor in the way."""
    (tmp_path / ".a.csv.part").write_bytes(b"half of something else")
    with files.arriving(tmp_path / "a.csv") as file:
        file.write(b"new")

    assert (tmp_path / "a.csv").read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_part_that_is_a_link_is_not_followed(tmp_path):
    """A planted link does not lead the bytes elsewhere."""
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / ".a.csv.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), files.arriving(tmp_path / "a.csv"):
        raise AssertionError("not reached")

    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_expired_address_is_asked_anew(tmp_path):
    """Each try asks PostHog for a fresh address."""
    store = ExportStore(storage=Storage(valid=timedelta(0)))
    asset = store.add("text/csv", NOW)

    with served(store) as simulator:
        client = client_of(simulator, tmp_path)
        one = exports.asset(client, 1, asset.id)
        client._on_retry = lambda error, wait_s: setattr(store.storage, "valid", timedelta(hours=1))
        done = contents.download(client, 1, one, tmp_path / "a.csv")

    assert done.rows == 2
    assert simulator.count("content") == 2
