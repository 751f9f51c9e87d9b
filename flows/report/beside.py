"""What people and scripts get to see of the streams beside events: held, copied, checked. Decides no work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from flows.assets.copying import Backup, Carried
from flows.assets.held import Held
from flows.assets.verifying import Checked
from flows.report.documents import as_json
from flows.report.terminal import note, say
from flows.report.words import counted, day, sized
from flows.runs.catalog import BY_NAME, Mechanism


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
        if one.runs_left and not quiet:
            note(
                f"project {one.project_id}: {counted(one.runs_left, 'older run')} left: a lake keeps the last of each stream"
            )
        for problem in one.problems:
            note(f"incomplete: project {one.project_id}: {problem}", style="yellow")


def _document(one: Backup) -> dict[str, object]:
    """The JSON of a project's copy: that of its events, and a list of the streams beside them."""
    streams = [asdict(other) for other in one.others]
    return asdict(one.events) | {
        "problems": one.problems,
        "streams": streams,
        "runs": one.runs,
        "runs_left": one.runs_left,
    }


def _carried(one: Carried) -> Iterator[str]:
    yield f"{one.stream}: {counted(one.rows, 'row')} copied"
    if one.contents:
        yield f"{counted(one.contents, 'content')} of {sized(one.bytes)}"
    if one.tables:
        yield f"{counted(one.tables, 'table')} compared"
    if one.kept:
        yield f"{one.kept:,} there already"


def held_lines(stream: str, held: Held) -> Iterator[tuple[str, str]]:
    """What there is to say of what is held of a stream beside events."""
    one = BY_NAME[stream].singular
    yield "rows", f"{held.rows:,} of {counted(held.current + held.deleted, one)}"
    if held.deleted:
        yield "deleted", f"{held.deleted:,}"
    if held.missing:
        yield "missing", f"{held.missing:,}: {MISSING[BY_NAME[stream].mechanism]}"
    if held.contents or held.tables:
        yield "contents", f"{held.contents:,} of {sized(held.bytes)}, {counted(held.tables, 'table')}"
    yield "read", f"last on {day(held.read_at)}" if held.read_at else "by no sync to the end yet"
    if held.changed_at:
        yield "changed", f"last on {day(held.changed_at)}"


MISSING = {
    Mechanism.HISTORY: "the source does not show them any more",
    Mechanism.CONTENTS: "their content is not kept; the next sync tries again",
}
"""What is missing of a stream, in words."""


def say_checked(found: Sequence[Checked], *, quiet: bool) -> None:
    """What a verification found of the streams beside events; differences also on stderr."""
    for one in found:
        if not quiet:
            say(f"project {one.project_id}: {', '.join(_checked(one))}")
        for difference in one.differences:
            left = f": {difference.left}" if difference.left else " · mended"
            note(f"project {one.project_id}: {difference.what}{left}", style="yellow" if difference.left else "")
        if not quiet and one.good:
            mended = "all differences are mended" if one.differences else "no difference"
            say(f"project {one.project_id}: {one.stream}: {mended}")


def _checked(one: Checked) -> Iterator[str]:
    yield f"{one.stream}: {counted(one.rows, 'row')}"
    if one.contents:
        yield f"{counted(one.contents, 'content')} of {sized(one.bytes)}"
    if one.tables:
        yield counted(one.tables, "table")
