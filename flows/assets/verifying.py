"""`hedgerow verify` of the streams beside events: what is kept against what was landed, a function per mechanism.

Contents against sha256 and size, tables against their exports, histories against themselves. PostHog is asked only by a
repair, for contents that are not whole any more.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from extractors.errors import LimitsExhausted, NotFound, SourceError
from extractors.http.client import Client
from extractors.lists import contents as fetching
from extractors.lists import exports
from flows.assets import contents, derived
from flows.assets.contents import Kept, said
from flows.assets.tables import replaced
from flows.runs.catalog import EXPORTS, Mechanism, Stream
from flows.runs.history import INTERRUPTED, record
from flows.runs.wiring import Listener, client_of, now, sink_of
from flows.settings.model import Settings
from sinks.destination import Destination
from sinks.errors import SinkError, TableUnreadable, writing
from transforms import exports as export_rows
from transforms import history
from transforms.backup import of_project


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was landed. *left*: why it still is not, after a repair or because there was none."""

    what: str
    left: str = ""


@dataclass(slots=True)
class Checked:
    """What was checked of one stream of one project: *rows* of its table, *contents* and their *bytes*, *tables*."""

    project_id: int
    stream: str
    rows: int = 0
    contents: int = 0
    bytes: int = 0
    tables: int = 0
    requests: int = 0
    seconds: float = 0.0
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    differences: list[Difference] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        return [f"{one.what}: {one.left}" for one in self.differences if one.left]

    @property
    def good(self) -> bool:
        return not self.problems


class Repair:
    """Fetches contents again. The source is not asked before the first is wanted."""

    def __init__(self, settings: Settings, *, max_wait: timedelta | None, listener: Listener) -> None:
        self._settings, self._max_wait, self._listener = settings, max_wait, listener
        self._open = ExitStack()
        self._client: Client | None = None

    @contextmanager
    def under_way(self) -> Iterator[Repair]:
        with self._open:
            yield self

    @property
    def requests(self) -> int:
        return sum(self._client.requests.values()) if self._client else 0

    @property
    def client(self) -> Client:
        if self._client is None:
            made = client_of(self._settings, listener=self._listener, max_wait=self._max_wait)
            self._client, _ = self._open.enter_context(made)
        return self._client


@dataclass(frozen=True, slots=True)
class Check:
    """What a check works with. *growing*: names of the snapshots in the settings; *repair*: None where nothing is mended."""

    sink: Destination
    stream: Stream
    done: Checked
    growing: frozenset[str]
    repair: Repair | None

    def found(self, what: str, mend: Callable[[Repair], str], *, hint: str) -> bool:
        """Note a difference, after *mend* where it may be mended: it says why it could not. Whether all is well now."""
        left = hint if self.repair is None else mend(self.repair)
        if Difference(what, left) not in self.done.differences:  # a snapshot is looked at for each of its exports
            self.done.differences.append(Difference(what, left))
        return not left


def verify(
    settings: Settings,
    project_id: int,
    stream: Stream,
    *,
    repair: bool = False,
    max_wait: timedelta | None = None,
    listener: Listener | None = None,
) -> Checked:
    """Check what is landed of *stream*, and with *repair* mend what can be. The run goes into the history.

    Raises SettingsError, SourceError, SinkError; what is mended stays.
    """
    listener = listener or Listener()
    started_at, error = now(), ""
    sink, done = sink_of(settings, listener), Checked(project_id, stream.name)
    growing = frozenset(one.name for one in settings.exports.snapshot)
    with Repair(settings, max_wait=max_wait, listener=listener).under_way() as mending:
        try:
            BESIDE[stream.mechanism](Check(sink, stream, done, growing, mending if repair else None))
        except TableUnreadable as exc:  # of the stream itself, which no content has
            done.differences.append(Difference(f"the table {stream.table}", f"{exc}: {exc.hint}"))
        except Exception as exc:
            error = f"{type(exc).__name__}: {exc}"[:500]
            raise
        except BaseException:
            error = INTERRUPTED
            sink.stop_waiting()
            raise
        finally:
            ended_at = now()
            done.requests = mending.requests
            done.seconds = round((ended_at - started_at).total_seconds(), 3)
            with suppress(SinkError) if error else nullcontext():
                record(sink, done, command="verify", started_at=started_at, finished_at=ended_at, error=error, rows=0)
    return done


# --- lists with history


def _check_history(check: Check) -> None:
    held = check.sink.table(check.stream.table)
    if held is None:
        check.done.differences.append(
            Difference(f"the table {check.stream.table}", f"it is gone: hedgerow sync {check.stream.name}")
        )
        return
    check.done.rows = of_project(held.rows, check.done.project_id).num_rows
    for name, fault in history.broken(held.rows, check.done.project_id).items():
        what = f"the history of {check.stream.singular} {name} has {fault}"
        check.done.differences.append(Difference(what, "bring the table back from a backup"))


# --- exports, their contents and tables


def _check_exports(check: Check) -> None:
    held = check.sink.table(EXPORTS)
    rows = export_rows.known(held.rows if held else None, check.done.project_id)
    there = frozenset(check.sink.tables())
    check.done.rows = len(rows)
    for _, row in sorted(rows.items()):
        wanted = contents.landed(row)
        if wanted is None or not _check_content(check, row, wanted):
            continue
        for table in derived.tables(check.sink, row, growing=check.growing, there=there):
            check.done.tables += 1
            if table.fault:
                hint = "hedgerow verify --repair makes it of its content" if table.mend else table.hint
                check.found(table.fault, partial(_made_again, table), hint=hint)


def _made_again(table: derived.Derived, repair: Repair) -> str:
    """Make a table of its content, which asks the source nothing; why that cannot be, empty where it is done."""
    return table.mended()


def _check_content(check: Check, row: export_rows.Row, wanted: Kept) -> bool:
    """Whether the content of an export is the one that was landed, now."""
    found = contents.read(check.sink, row["content_path"])
    check.done.contents += 1
    check.done.bytes += found.bytes if found else 0
    if found == wanted:
        return True
    return check.found(
        f"the content of export {row['id']}",
        lambda repair: _fetched_again(repair.client, check.sink, row, wanted),
        hint=f"{said(found)}; hedgerow verify --repair fetches it again, if PostHog still has it",
    )


def _fetched_again(client: Client, sink: Destination, row: export_rows.Row, wanted: Kept) -> str:
    """Why the content could not be fetched again and kept; empty where it was."""
    project_id = row["project_id"]
    try:
        one = exports.asset(client, project_id, row["id"])
        with writing(sink.spool_directory), tempfile.TemporaryDirectory(dir=sink.spool_directory) as scratch:
            path = Path(scratch) / fetching.safe_name(one)
            came = fetching.download(client, project_id, one, path)
            if Kept(came.sha256, came.bytes) != wanted:
                return "PostHog has another content of it now, which is left there"
            address = sink.store_content(contents.below(row["content_path"]), path)
    except LimitsExhausted:
        raise
    except NotFound:
        return "PostHog does not have it any more"
    except SourceError as exc:
        return f"PostHog did not give it again: {exc}"
    if address != row["content_path"]:
        moved = row | {"content_path": address}
        replaced(sink, EXPORTS, lambda old: export_rows.updated(old, [moved]), json=export_rows.JSON)
    return ""


BESIDE: Mapping[Mechanism, Callable[[Check], None]] = {
    Mechanism.HISTORY: _check_history,
    Mechanism.CONTENTS: _check_exports,
}
"""How what lies beside windows of time is checked."""
