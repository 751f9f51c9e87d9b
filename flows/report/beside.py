"""What people and scripts get to see of every stream of a copy. Decides no work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from flows.assets.copying import Backup, Carried
from flows.report.documents import as_json
from flows.report.terminal import note, say
from flows.report.words import counted, sized


def copied(found: Sequence[Backup], *, json_output: bool, quiet: bool) -> None:
    """What was copied, per project; problems also on stderr."""
    if json_output:
        as_json({"copies": [_document(one) for one in found]})
    for one in found:
        if not json_output and not quiet:
            events = one.events
            left = f"; {counted(events.kept, 'window')} there already" if events.kept else ""
            if events.windows or events.kept or not one.others:
                say(
                    f"project {one.project_id}: {events.rows:,} events in {counted(events.windows, 'window')} copied{left}"
                )
            for other in one.others:
                say(f"project {one.project_id}: {', '.join(_carried(other))}")
        for problem in one.problems:
            note(f"incomplete: project {one.project_id}: {problem}", style="yellow")


def _document(one: Backup) -> dict[str, object]:
    """The JSON of a project's copy: that of its events, and a list of the streams beside them."""
    streams = [asdict(other) for other in one.others]
    return asdict(one.events) | {"problems": one.problems, "streams": streams, "runs": one.runs}


def _carried(one: Carried) -> Iterator[str]:
    yield f"{one.stream}: {counted(one.rows, 'row')} copied"
    if one.contents:
        yield f"{counted(one.contents, 'content')} of {sized(one.bytes)}"
    if one.tables:
        yield f"{counted(one.tables, 'table')} compared"
    if one.kept:
        yield f"{one.kept:,} there already"
