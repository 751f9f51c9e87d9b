"""Objects under names, in S3 or in a local directory: put, get, list, delete. Nothing here knows what they hold.

A PUT is atomic and durable when it returns. Conditions: `create` (nobody has put this name) holds on every store that
`check` accepts; *match* (the object is still the one read) where the store honours If-Match (`conditional`), which
`check` finds out. Facts: facts/stack.md §3; obstore's documentation for the client.
"""

from __future__ import annotations

import io
import mmap
import re
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, S3Store

from sinks import errors

if TYPE_CHECKING:
    pass

MULTIPART_BYTES = 64 * 2**20
"""Larger objects go up in parts where no condition is asked (obstore: a mode makes one request of the upload)."""
SINGLE_BYTES = 5 * 2**30  # S3's limit of one PUT: a larger window is looked at before it goes up in parts
PART_BYTES = 16 * 2**20
READ_AHEAD_BYTES = 2**20
SCRATCH = "_hedgerow/tmp"
_CHECK = "check the address and the credentials of the destination"
_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN"


_NO_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
_MACHINE = re.compile(r"169\.254\.|/latest/(api/token|meta-data)|instance\W.*credential", re.IGNORECASE | re.DOTALL)


class Exists(Exception):
    """Somebody has put the name before."""


class Changed(Exception):
    """The object is not the one that was read, or gone."""


class Missing(Exception):
    """There is no such object."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a listing shows it: its name below the root, its version, and its length in bytes."""

    path: str
    etag: str
    size: int


class Objects:
    """A store with a root. *name*: what people call it. *conditional*: it refuses a PUT whose *match* is not current."""

    def __init__(self, store: S3Store | LocalStore, name: str) -> None:
        self._store, self.name = store, name
        self.conditional = False

    def _there(self) -> bool:
        """Whether the root exists, which every use asks first; a bucket that does not says so itself."""
        return True

    def put(self, path: str, data: bytes | Path, *, create: bool = False, match: str | None = None) -> str:
        """Put *data* (bytes or a file) and give its version.

        Raises Exists (with *create*), Changed (with *match*), DestinationUnusable, DestinationBusy. After an error other
        than Exists and Changed the object may have been put all the same.
        """
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        conditional = create or (match is not None and self.conditional)
        if conditional and isinstance(data, Path) and MULTIPART_BYTES < size <= SINGLE_BYTES:
            with data.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return self._put(path, mapped, size, create=create, match=match)
        return self._put(path, data, size, create=create, match=match)

    def _put(self, path: str, data: bytes | Path | mmap.mmap, size: int, *, create: bool, match: str | None) -> str:
        conditional = create or (match is not None and self.conditional)
        with self._translated(path):
            if size > (SINGLE_BYTES if conditional else MULTIPART_BYTES):
                self._compare(path, create=create, match=match)
                result = obstore.put(self._store, path, data, chunk_size=PART_BYTES, max_concurrency=4)
            elif create:
                result = obstore.put(self._store, path, data, mode="create", use_multipart=False)
            elif match is not None and self.conditional:
                result = obstore.put(self._store, path, data, mode={"e_tag": match}, use_multipart=False)
            else:
                self._compare(path, create=False, match=match)
                result = obstore.put(self._store, path, data, use_multipart=False)
        return result["e_tag"] or ""

    def _compare(self, path: str, *, create: bool, match: str | None) -> None:
        """What a store without conditions can do: look before the PUT."""
        if create or match is not None:
            found = self.head(path)
            if create and found is not None:
                raise Exists(path)
            if match is not None and (found is None or found.etag != match):
                raise Changed(path)

    def get(self, path: str) -> tuple[bytes, str]:
        """An object's bytes and version. Raises Missing."""
        if not self._there():
            raise Missing(path)
        with self._translated(path):
            result = obstore.get(self._store, path)
            return bytes(result.bytes()), result.meta["e_tag"] or ""

    def tail(self, path: str, *, size: int, length: int) -> bytes:
        """The last *length* bytes of an object of *size* bytes; all of a shorter one. Raises Missing."""
        return self.part(path, max(0, size - length), size) if size else b""

    def open(self, path: str) -> io.BufferedReader:
        """An object to be read in parts, wherever the reader wants to. Raises Missing."""
        found = self.head(path)
        if found is None:
            raise Missing(path)
        return io.BufferedReader(_Parts(self, found), buffer_size=READ_AHEAD_BYTES)

    def part(self, path: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of an object. Raises Missing."""
        if not self._there():
            raise Missing(path)
        with self._translated(path):
            return bytes(obstore.get_range(self._store, path, start=start, end=end))

    def head(self, path: str) -> Found | None:
        """The object as it is now; None where there is none."""
        if not self._there():
            return None
        try:
            with self._translated(path):
                meta = obstore.head(self._store, path)
        except Missing:
            return None
        return Found(path, meta["e_tag"] or "", meta["size"])

    def list(self, prefix: str = "") -> Iterator[Found]:
        """All objects below *prefix* but those aside, in any order."""
        if not self._there():
            return
        with self._translated(prefix):
            for chunk in obstore.list(self._store, prefix or None, chunk_size=1000):
                for meta in chunk:
                    if not meta["path"].startswith(SCRATCH):
                        yield Found(meta["path"], meta["e_tag"] or "", meta["size"])

    def among(self, places: Collection[str]) -> Iterator[Found]:
        """All objects below the folders *places*, in any order."""
        for place in places:
            yield from self.list(place)

    def delete(self, path: str) -> None:
        """Remove an object, if it is there."""
        if not self._there():
            return
        with suppress(Missing), self._translated(path):
            obstore.delete(self._store, path)

    def check(self) -> None:
        """Learn what the store honours. Raises DestinationUnusable for one that overwrites what `create` must not."""
        path = f"{SCRATCH}/probe-{uuid.uuid4().hex}"
        self.conditional = False
        self._try_create(path)
        try:
            try:
                self.put(path, b"2", create=True)
            except Exists:
                pass
            else:
                raise self._unfit("overwrites an object in spite of")
            self.conditional = True
            try:
                self._try_put(path, match='"0123456789abcdef0123456789abcdef"')
            except Changed:
                pass
            except errors.SinkError:  # some answer 501: not implemented
                self.conditional = False
            else:
                self.conditional = False
        finally:
            self.delete(path)

    def _try_create(self, path: str) -> None:
        """The first PUT with a condition. What refuses it and takes the same PUT without one cannot hold a lake."""
        try:
            self._try_put(path, create=True)
        except Exists:  # our own, whose answer was lost
            if self.head(path) is None:
                raise self._unfit("refuses even new objects with") from None
        except errors.DestinationBusy:
            raise
        except errors.DestinationUnusable:
            self.put(path, b"1")
            self.delete(path)
            raise self._unfit("does not take") from None

    def _try_put(self, path: str, *, create: bool = False, match: str | None = None) -> None:
        """A PUT that is not tried again where the store answers that it does not know it."""
        try:
            self._hasty().put(path, b"1", create=create, match=match)
        except errors.DestinationBusy:
            self.put(path, b"1", create=create, match=match)

    def _hasty(self) -> Objects:
        """The same store, asked without a retry: whatever may pass is DestinationBusy."""
        return self

    def _unfit(self, does: str) -> errors.DestinationUnusable:
        return errors.DestinationUnusable(
            f"{self.name} {does} If-None-Match, so two writers could lose rows there",
            hint="use a store that honours conditional writes (docs/lake.md has a list)",
        )

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """The store's errors in our terms; without their cause, which would show the whole answer in a traceback."""
        try:
            yield
        except AlreadyExistsError:
            raise Exists(path) from None
        except PreconditionError:
            raise Changed(path) from None
        except FileNotFoundError as exc:
            if "NoSuchBucket" in str(exc):
                raise self._unusable(
                    "there is no such bucket", "make it, or correct the name; hedgerow makes none"
                ) from None
            raise Missing(path) from None
        except (BaseError, OSError, ValueError) as exc:
            raise self._said(str(exc)) from None

    def _said(self, text: str) -> errors.SinkError:
        """The store's error in our terms. Of its answer only status and code are shown: the rest may hold what was signed."""
        if _MACHINE.search(text):  # the keys were asked for where a machine's role has them
            return self._unusable("there are no AWS credentials", _NO_KEYS)
        coded = re.search(r"<Code>(\w+)</Code>", text)
        code = coded[1] if coded else ""
        if code in ("ExpiredToken", "TokenRefreshRequired", "RequestExpired"):
            return self._unusable("the credentials have expired", "renew them and run again; everything landed stays")
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure"):
            return self._unusable(f"the credentials are refused ({code})", _CREDENTIALS)
        if code in ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException") or (
            "redirect without LOCATION" in text or "301 Moved" in text or "incorrect region" in text
        ):
            return self._unusable(
                "the bucket lies in another region or behind another endpoint", "set AWS_REGION (or AWS_ENDPOINT_URL)"
            )
        if code == "NoSuchBucket":
            return self._unusable("there is no such bucket", "make it, or correct the name; hedgerow makes none")
        if code in ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout") or re.search(
            r"status code: 50[^1]", text
        ):
            return errors.DestinationBusy(
                f"{self.name} does not keep up ({code or 'server error'}), also after several tries",
                hint="run again later; everything landed stays",
            )
        if (
            code in ("AccessDenied", "AllAccessDisabled", "AccountProblem")
            or "403 Forbidden" in text
            or "Permission denied" in text
        ):
            return self._unusable(
                "access is denied", "the policy needs List, Get, Put and Delete below the prefix (docs/lake.md)"
            )
        if answered := re.search(r"status code: (\d{3})", text):
            return self._unusable(code or f"it answered {answered[1]}", _CHECK)
        if "error sending request" in text or "dns error" in text or "onnect" in text:
            return self._unusable("the store cannot be reached", "check AWS_ENDPOINT_URL, AWS_REGION and the network")
        first = " ".join(re.split(r"\n\nDebug source|(?<=response): ", text)[0].split())
        return self._unusable(code or first[:200], _CHECK)

    def _unusable(self, what: str, hint: str) -> errors.DestinationUnusable:
        return errors.DestinationUnusable(f"cannot use {self.name}: {what}", hint=hint)


class _Parts(io.RawIOBase):
    """An object as a file that can be read anywhere; every read is a request."""

    def __init__(self, objects: Objects, found: Found) -> None:
        self._objects, self._found, self._at = objects, found, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._found.size)
        if end <= self._at:
            return 0
        data = self._objects.part(self._found.path, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
