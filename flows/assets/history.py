"""Lists landed with their history: evaluations and whatever else the table of streams has of them."""

from __future__ import annotations

from collections.abc import Sequence

from extractors.http.client import Client
from extractors.lists import history
from extractors.lists.history import Reading
from flows.assets.synced import Synced
from flows.landing.crossing import until_done
from flows.report.words import counted
from flows.runs.catalog import Stream
from flows.runs.wiring import now
from sinks.destination import Destination, Table
from transforms import history as histories
from transforms.history import Merged, Shown

NAMED = 5  # ids of a difference that are named


def land_history(
    host: str, client: Client, sink: Destination, done: Synced, stream: Stream, *, accept_deletions: bool
) -> None:
    """Read the table, then the list, then put the table back; all of it again, if another run was faster.

    In this order what is read is newer than all that the table holds, so that no clock is needed to tell which is.
    """
    assert stream.resource is not None
    assert stream.shape is not None
    resource, shape, project_id, version = stream.resource, stream.shape, done.project_id, ""

    def attempt() -> tuple[Reading, Merged]:
        nonlocal version
        old = sink.table(stream.table)
        reading = history.read(client, project_id, resource)
        version = old.version if old else ""
        # Only now, when the source has let us in.
        sink.prepare(project_id, stream.name, host=host, event_filter="", rebuild=False)
        shown = Shown(
            reading.rows,
            client.served_at or now(),
            complete=reading.complete,
            deleted=reading.twin.deleted if reading.twin else frozenset(),
            living=reading.twin.living if reading.twin else frozenset(),
        )
        found = histories.merged(
            old.rows if old else None, shown, shape=shape, project_id=project_id, accept_deletions=accept_deletions
        )
        if old is None or found:
            _put(sink, old, found, stream)
        return reading, found

    reading, found = until_done(attempt, landed=lambda: version)
    done.new, done.changed, done.deleted = found.new, found.changed, found.deleted
    done.problems += unproven(reading, stream)
    if found.unwritten:
        done.problems.append(
            f"{counted(len(found.unwritten), stream.singular)} cannot be written, and are left as they were: "
            f"{_ids(found.unwritten)}"
        )
    if found.missing:
        (done.problems if found.doubtful else done.notes).append(_missing(found, stream))
    if reading.unanswered:
        done.notes.append(f"{stream.name} were not compared with a query: {reading.unanswered}")


def unproven(reading: Reading, stream: Stream) -> list[str]:
    """What of a reading is not proven, in words."""
    problems = []
    if not reading.complete:
        problems.append(
            f"the list of {stream.name} counts {reading.count:,}, and {len(reading.rows):,} came: "
            "what is missing of it is not taken for deleted; run again later"
        )
    if reading.disagreement and stream.resource and stream.resource.twin:
        said = [f"{_ids(ids)} only {where}" for ids, where in _sides(reading, stream.resource.twin.table) if ids]
        problems.append(f"the list of {stream.name} and what a query shows are not the same: {', '.join(said)}")
    return problems


def _sides(reading: Reading, table: str) -> Sequence[tuple[tuple[int, ...], str]]:
    return (reading.disagreement.listed, "in the list"), (reading.disagreement.twin, f"in {table}")


def _ids(ids: Sequence[object]) -> str:
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"{', '.join(map(str, ids[:NAMED]))}{more}"


def _missing(found: Merged, stream: Stream) -> str:
    said = (
        f"the source does not show {len(found.missing):,} of {counted(found.current, stream.singular)} any more: kept"
    )
    if found.hidden:
        said += f"; {found.hidden:,} of these are there by a query: hidden with what they hang on"
    if found.hidden < len(found.missing):
        said += "; if they were deleted on purpose, run with --accept-deletions"
    return said


def _put(sink: Destination, old: Table | None, found: Merged, stream: Stream) -> None:
    assert stream.shape is not None
    version, json = old.version if old else "", histories.json_columns(stream.shape)
    sink.replace(stream.table, found.table, version=version, json=json, views=stream.shape.views)
