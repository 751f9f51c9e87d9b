"""What a run leaves for people to see in Prefect: the rows of its table, the page with its coverage, its event. Pure.

Put there by flows.orchestration.adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from extractors.window import iso
from flows.assets.synced import Synced
from flows.assets.verifying import Checked
from flows.landing import audit
from flows.landing.verification import Verification
from flows.report import results, words
from flows.report.status import Kind, Segment, Summary, cells
from flows.report.words import counted, spoken
from flows.runs.history import in_history
from flows.runs.run import Report
from sinks.sink import Run

DIFFERENCE, GAP = "hedgerow.difference", "hedgerow.gap"
_PICTURE = {kind: mark for kind, (mark, _) in results.CELLS.items()}
_WIDTH = 60
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verified:
    """One project's verification and the run that made it."""

    project_id: int
    verification: Verification
    report: Report

    @property
    def problems(self) -> Sequence[str]:
        return self.report.problems


AnyReport = Report | Synced | Verified | Checked


def done(every: Sequence[AnyReport]) -> str:
    """What a run that is complete did, in one line; each project is named where there are several."""
    several = len({one.project_id for one in every}) > 1
    return "; ".join(f"project {one.project_id}: {_done(one)}" if several else _done(one) for one in every)


def _done(told: AnyReport) -> str:
    if isinstance(told, Synced):
        return f"no {told.stream}: {told.skipped}" if told.skipped else ", ".join(results.synced_in_words(told))
    if isinstance(told, Checked):
        found = len(told.differences)
        kept = f", {counted(told.contents, 'content')}" if told.contents else ""
        return f"{told.stream}: {counted(told.rows, 'row')}{kept}: {_mended(found)}"
    if isinstance(told, Verified):
        checked, found = told.verification, len(told.verification.differences)
        compared = f"{counted(checked.windows, 'window')}, {checked.compared:,} compared with the source"
        return f"{compared}: {_mended(found)}"
    changes = ((told.late, "late"), (told.deleted, "deleted"), (told.changed, "changed"))
    landed = f"{counted(told.rows, 'event')} landed in {counted(told.windows, 'window')}"
    compared = f"{counted(told.verified, 'window')} verified" if told.compared else "not compared with the source"
    return ", ".join([landed, *(f"{number:,} {what}" for number, what in changes if number), compared])


def _mended(differences: int) -> str:
    return f"{counted(differences, 'difference')} mended" if differences else "no difference"


def _span(told: Report | Verified) -> tuple[datetime | None, datetime | None]:
    """The range of a run; no bound where a verification has none, which it sets as far away as times go."""
    done = told.report if isinstance(told, Verified) else told
    return None if done.since == audit.FIRST else done.since, None if done.until == audit.LAST else done.until


def row(told: AnyReport) -> dict[str, object]:
    """A run over one project as a line of its table."""
    if isinstance(told, Synced):
        return {
            "project": told.project_id,
            "stream": told.stream,
            "new": told.new,
            "changed": told.changed,
            "deleted": told.deleted,
            "contents": told.contents,
            "snapshots": told.snapshots,
            "requests": told.requests,
            "seconds": told.seconds,
            "problems": len(told.problems),
        }
    if isinstance(told, Checked):
        return _checked(told)
    done = told.report if isinstance(told, Verified) else told
    since, until = _span(told)
    found: dict[str, object] = {
        "project": done.project_id,
        "windows": done.windows,
        "rows": done.rows,
        "late": done.late,
        "requests": done.requests,
        "waited (s)": done.waited_s,
        "seconds": done.seconds,
        "problems": len(done.problems),
        "verified": done.verified,
        "deleted": done.deleted,
        "changed": done.changed,
        "quarantined": done.quarantined,
        "since": iso(since) if since else "",
        "until": iso(until) if until else "",
    }
    if isinstance(told, Verified):
        checked = told.verification
        found |= {"windows": checked.windows, "compared": checked.compared, "differences": len(checked.differences)}
    return found


def _checked(told: Checked) -> dict[str, object]:
    """The verification of a stream beside events as a line."""
    return {
        "project": told.project_id,
        "stream": told.stream,
        "rows": told.rows,
        "contents": told.contents,
        "tables": told.tables,
        "requests": told.requests,
        "seconds": told.seconds,
        "problems": len(told.problems),
    }


def page(told: Report, held: Summary, *, run: str) -> str:
    """What is held of a project's events, in Markdown: the coverage as a picture, gaps, and what the run found."""
    return "\n".join(_lines(told, held, run=run))


def _lines(told: Report, held: Summary, *, run: str) -> Iterator[str]:
    yield f"# Project {held.project_id}: {counted(held.rows, 'event')} in {counted(held.windows, 'window')}"
    yield ""
    if held.segments:
        yield "```text"
        yield "".join(_PICTURE[kind] for kind in cells(held.segments, _WIDTH))
        first, last = words.day(held.segments[0].start), words.day(held.segments[-1].end)
        yield f"{first}{last:>{max(1, _WIDTH - len(first))}}"
        yield "```"
        shares = [(kind, held.share(kind)) for kind in Kind]
        yield " · ".join(f"`{_PICTURE[kind]}` {kind} {words.percent(share)}" for kind, share in shares if share)
        yield ""
    if held.mark is not None and held.freshness is not None:
        yield f"Up to date as of {words.day(held.mark)}, {spoken(held.freshness)} ago."
        yield ""
    yield (
        f"This run: {counted(told.rows, 'event')} in {counted(told.windows, 'window')}, " + ", ".join(_did(told)) + "."
    )
    yield ""
    for title, lines in (
        ("Problems", told.problems),
        ("Notes", told.notes),
        ("Gaps", [f"`hedgerow backfill --since {iso(gap.start)} --until {iso(gap.end)}`" for gap in held.gaps]),
    ):
        if lines:
            yield f"## {title}"
            yield ""
            yield from (f"- {line}" for line in lines[:_SHOWN])
            if len(lines) > _SHOWN:
                yield f"- and {len(lines) - _SHOWN:,} more"
            yield ""
    yield f"Run {run}"


def _did(told: Report) -> Iterator[str]:
    yield counted(told.requests, "request")
    yield f"{spoken(timedelta(seconds=told.seconds))}, {spoken(timedelta(seconds=told.waited_s))} of it waiting for limits"
    if told.verified:
        yield f"{counted(told.verified, 'window')} verified"


@dataclass(frozen=True, slots=True)
class Alert:
    """An event that automations listen to: its name, of which project and stream, and what is wrong in words."""

    event: str
    project_id: int
    stream: str
    problems: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None

    def payload(self, run: str) -> dict[str, object]:
        """What a notification can say of it."""
        spans = " .. ".join(words.day(at) for at in (self.since, self.until) if at)
        return {
            "project_id": self.project_id,
            "stream": self.stream,
            "range": spans,
            "problems": list(self.problems),
            "flow_run": run,
        }


def alerts(told: AnyReport, *, gaps: Sequence[Segment] = (), before: Sequence[Run] = ()) -> list[Alert]:
    """What somebody must hear of after a run. *gaps*: of the project's coverage; *before*: the history of runs,
    newest first, in which this one stands, too.

    A scheduled sync says a problem once, not every quarter of an hour; the daily verification says it again.
    """
    done = told.report if isinstance(told, Verified) else told
    since, until = (None, None) if isinstance(told, Synced | Checked) else _span(told)
    found = []
    repeated = not isinstance(told, Verified | Checked) and _known(told, before)
    if told.problems and not repeated:
        found.append(Alert(DIFFERENCE, done.project_id, done.stream, tuple(told.problems), since, until))
    mine = [
        gap for gap in gaps if isinstance(told, Verified) or (since and until and gap.start < until and since < gap.end)
    ]
    if mine:
        problems = tuple(f"nothing is landed of {words.day(gap.start)} .. {words.day(gap.end)}" for gap in mine)
        found.append(Alert(GAP, done.project_id, done.stream, problems, mine[0].start, mine[-1].end))
    return found


def _known(told: Report | Synced, before: Sequence[Run]) -> bool:
    others = (run for run in before if run.run_id != told.run_id)
    last = next((run for run in others if run.stream == told.stream and run.command != "verify"), None)
    return last is not None and last.error == in_history("", told.problems)


def spread(parts: Mapping[str, str]) -> list[dict[str, object]]:
    """The parts of a backfill and how each ended, as lines of a table."""
    return [{"part": name, "ended": ended} for name, ended in parts.items()]
