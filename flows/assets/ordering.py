"""Orders an export so that it is made once, whatever happens between the order and its answer.

What is ordered is written down, with its mark, before it is sent, and struck out when the answer has come. A run that
finds such a note, after a kill or a lost answer, looks for the mark first and takes what it finds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from extractors import errors, files
from extractors.http.client import Client
from extractors.lists import exports
from extractors.lists.exports import Asset, NewExport
from flows.settings.parse import SettingsError

REMEMBERED = timedelta(days=1)
"""How long an order without an answer counts as the same: a later one is a new wish."""
_SNAPSHOT_MARK = re.compile(r"([a-z_][a-z0-9_]{0,62}):[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class OrderNotes:
    """Where orders are noted, and for whom: *directory* is hedgerow's state directory, *snapshot* the snapshot's name."""

    directory: Path
    host: str
    project_id: int
    now: datetime
    snapshot: str = ""

    def note_of(self, order: NewExport) -> Path:
        """The file that notes *order*; its name tells neither host nor content."""
        name = [self.snapshot] if self.snapshot else []
        identity = json.dumps([self.host, self.project_id, order.identity, *name])
        return self.directory / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.export"

    def new_mark(self) -> str:
        """A mark that no other order has; that of a snapshot tells its name."""
        mark = uuid.uuid4().hex
        return f"{self.snapshot}:{mark}" if self.snapshot else mark


def snapshot_of(one: Asset) -> str | None:
    """The name of the snapshot that *one* was ordered for, by its mark: also where the run that ordered it is gone."""
    return snapshot_marked(one.mark)


def snapshot_marked(mark: object) -> str | None:
    """The name of the snapshot in *mark*; None where it is no snapshot's."""
    found = _SNAPSHOT_MARK.fullmatch(str(mark))
    return found[1] if found else None


def snapshot_in(context: str | None) -> str | None:
    """The name of the snapshot in the text of an export's context; None where it is no snapshot's."""
    try:
        found = json.loads(context or "null", parse_int=str)  # which may have thousands of digits
    except (ValueError, RecursionError):
        return None
    return snapshot_marked(found.get(exports.MARK)) if isinstance(found, dict) else None


def make(
    client: Client,
    order: NewExport,
    notes: OrderNotes,
    *,
    answer_s: float,
    pause: Callable[[float], object],
    on_note: Callable[[str], None],
) -> Asset:
    """The export that *order* makes, or has made before without an answer.

    Raises AnswerLost where it is not known whether it was made (the note stays); files.Busy where the same is being
    ordered by another process; SettingsError where orders cannot be noted; what the client raises where it surely was not.
    """
    path = notes.note_of(order)
    with _noting(notes.directory), files.locked(path) as file:
        mark = _noted(file, notes.now)
        if mark is not None:
            found = _listed(client, notes.project_id, mark)
            if found is not None:
                on_note(f"an earlier order of the same, whose answer was lost, had made export {found.id}: it is taken")
                path.unlink()
                return found
        mark = mark or notes.new_mark()
        _note(file, mark, notes.now)
        files.sync_directory(notes.directory)  # where the file is new, its name too
        try:
            made = exports.create(client, notes.project_id, order, mark=mark, answer_s=answer_s)
        except errors.AnswerLost as exc:
            on_note(f"{exc}; looking for it in the list")
            made = _again(client, notes.project_id, mark, exc, pause=pause)
        except errors.SourceError:
            path.unlink()
            raise
        path.unlink()
        return made


@contextmanager
def _noting(directory: Path) -> Iterator[None]:
    """What is not noted is not ordered; an order whose note could not be struck out is found by it."""
    try:
        yield
    except OSError as exc:
        raise SettingsError(
            f"cannot note orders in the state directory {directory}: {exc.strerror or exc}",
            hint="set HEDGEROW_STATE_DIR to a directory that can be written",
        ) from exc


def _again(
    client: Client, project_id: int, mark: str, lost: errors.AnswerLost, *, pause: Callable[[float], object]
) -> Asset:
    try:
        found = exports.found_again(client, project_id, mark, pause=pause)
    except errors.RequestRefused as exc:
        raise errors.AnswerLost(
            f"{lost}; this server has no list of exports to look it up",
            hint="the same command again may make a second export",
        ) from exc
    if found is None:
        raise errors.AnswerLost(
            f"{lost}; the list does not show it", hint="the same command again looks for it first, then orders it"
        ) from lost
    return found


def _listed(client: Client, project_id: int, mark: str) -> Asset | None:
    try:
        return exports.marked(client, project_id, mark)
    except errors.RequestRefused:  # servers of 2023 have no list of exports
        return None


def _noted(file: BinaryIO, now: datetime) -> str | None:
    """The mark of an order that had no answer; None if there is none, or it is too old to mean the same."""
    try:
        noted = json.loads(file.read())
        ordered_at = datetime.fromisoformat(noted["at"])
        return str(noted["mark"]) if now - ordered_at < REMEMBERED else None
    except (ValueError, KeyError, TypeError):
        return None


def _note(file: BinaryIO, mark: str, now: datetime) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps({"mark": mark, "at": now.isoformat()}).encode())
    file.flush()
    os.fsync(file.fileno())
