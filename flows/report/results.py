"""What a person or a script gets to see of a run, a plan, a check, a copy, a status. Decides no work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from rich.console import Console

from extractors.window import iso
from flows.assets.synced import Synced
from flows.assets.verified import Verified
from flows.landing.verification import Verification
from flows.report import beside
from flows.report.beside import held_lines
from flows.report.differences import SHOWN, lines_of
from flows.report.documents import as_json
from flows.report.failures import failure_of
from flows.report.status import LATENESS, Day, Kind, Summary, cells
from flows.report.terminal import TOLD_S, note, say
from flows.report.words import counted, day, percent, sized, spoken, step_spoken, visible
from flows.runs import findings
from flows.runs.catalog import BY_NAME
from flows.runs.check import Finding, Verdict
from flows.runs.estimate import Estimate
from flows.runs.run import Report


def shown_findings(lines: Iterable[Finding], *, verbose: bool) -> Iterator[Finding]:
    """The lines of `hedgerow check`, each shown as it comes; a mend stands under what it mends. *verbose*: what each took."""
    styles = {Verdict.OK: "green", Verdict.SKIP: "dim", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for finding in lines:
        console.print(f"  [{styles[finding.verdict]}]{finding.verdict:<4}[/] {finding.name:<12}", end=" ")
        asked = verbose and (finding.requests or finding.seconds >= TOLD_S)
        took = f" · {counted(finding.requests, 'request')} · {finding.seconds:.2f} s" if asked else ""
        console.print(visible(finding.found) + took, markup=False)
        if finding.mend and finding.verdict is not Verdict.OK:
            console.print(visible(f"{'':19} → {finding.mend}"), markup=False)
        yield finding


def checked(finding: Finding) -> dict[str, str]:
    """The JSON of one line of a check."""
    return {"check": finding.name, "result": finding.verdict, "found": finding.found, "mend": finding.mend}


def planned(one: Estimate) -> dict[str, Any]:
    """The JSON of one project's plan."""
    return {
        **asdict(one),
        "windows": {step_spoken(step): count for step, count in one.windows.items()},
        "fits": one.fits,
    }


def show_plans(found: Sequence[Estimate]) -> None:
    """Plans for people, and the time of all projects, which share the key's limits."""
    for one in found:
        span = f" {day(one.since)} .. {day(one.until)}" if one.since else ""
        say(f"project {one.project_id}{span}")
        for name, text in _plan_lines(one):
            say(f"  {name:<9} {text}")
        if not one.fits:
            note(f"project {one.project_id}: the destination's disk may not hold this", style="yellow")
    known = [one.seconds for one in found if one.seconds is not None]
    if len(known) > 1:
        say(f"all projects: {spoken(timedelta(seconds=sum(known)))}")


def _plan_lines(one: Estimate) -> Iterator[tuple[str, str]]:
    """What a plan says, line by line."""
    if not one.windows:
        yield (
            "windows",
            f"nothing to do: all {one.landed_windows:,} are landed"
            if one.landed_windows
            else f"nothing to do{f': {findings.idle(one.idle)}' if one.idle else ''}",
        )
        return
    steps = ", ".join(f"{count:,} of {step_spoken(step)}" for step, count in sorted(one.windows.items(), reverse=True))
    cut = " (of 1 h in dates that have events)" if one.if_empty else ""
    yield "windows", f"{steps}{cut} · {one.landed_windows:,} landed already"
    told = "counted by the source" if one.rows_counted else "guessed: the source refuses queries"
    yield "rows", f"{one.rows:,} ({told})" if one.rows is not None else "unknown: the source refuses queries"
    pages = f"{one.list_requests:,} pages" if one.list_requests is not None else "one page per 1,000 rows"
    queries = "no queries: the source refuses them" if one.queries_refused else f"{one.query_requests:,} queries"
    yield "requests", f"about {pages}, {queries}"
    limits = f"{one.requests_per_minute:,} a minute and {one.requests_per_hour:,} an hour"
    taken = "unknown" if one.seconds is None else f"about {spoken(timedelta(seconds=one.seconds))}"
    yield "time", f"{taken} under {limits} ({one.used_last_hour:,} used in the last hour)"
    if one.download_bytes is not None and one.disk_bytes is not None:
        yield "download", f"about {sized(one.download_bytes)}"
        free = f", {sized(one.free_bytes)} are free" if one.free_bytes is not None else ""
        yield "disk", f"about {sized(one.disk_bytes)}{free}"


def loaded(
    reports: Sequence[Report],
    failures: Mapping[int, Exception],
    *,
    synced: Sequence[Synced] = (),
    json_output: bool,
    quiet: bool,
) -> None:
    """The result of a sync or backfill. *failures*: by project, in the JSON document with what was landed before."""
    if json_output:
        ended = {report.project_id: asdict(report) for report in reports if report.project_id in failures}
        runs = [asdict(report) for report in reports if report.project_id not in ended]
        failed = [one | {"landed": ended.get(project_id)} for project_id, one in _failed(failures).items()]
        as_json({"runs": [*runs, *map(asdict, synced)], "failed": failed})
    for report in reports:
        said = report.windows or report.project_id not in failures  # a run that failed at once has nothing to say
        if said and not json_output and not quiet:
            span = f" of {day(report.since)} .. {day(report.until)}" if report.since else ""
            say(
                f"project {report.project_id}: {counted(report.rows, 'event')} landed "
                f"in {counted(report.windows, 'window')}{span} · {counted(report.requests, 'request')} · {report.seconds:.1f} s"
                + (f" (waited {spoken(timedelta(seconds=report.waited_s))})" if report.waited_s >= 1 else "")
            )
            if report.verified:
                say(f"  {counted(report.verified, 'window')} verified: the source counts what is landed")
        if not quiet:
            for remark in report.notes:
                note(f"project {report.project_id}: {remark}")
        for problem in report.problems:
            note(f"incomplete: project {report.project_id}: {problem}", style="yellow")
    for done in synced:
        if done.skipped:
            if not quiet:
                note(f"project {done.project_id}: no {done.stream}: {done.skipped}")
            continue
        if not json_output and not quiet:
            say(f"project {done.project_id}: {', '.join(synced_in_words(done))} · {counted(done.requests, 'request')}")
        for remark in () if quiet else done.notes:
            note(f"project {done.project_id}: {remark}")
        for problem in done.problems:
            note(f"incomplete: project {done.project_id}: {problem}", style="yellow")


def _failed(failures: Mapping[int, Exception]) -> dict[int, dict[str, object]]:
    """What each project failed by, for --json."""
    told = {project_id: failure_of(exc) for project_id, exc in failures.items()}
    return {
        project_id: {"project_id": project_id, "error": one.message, "kind": str(one.kind), "remedy": one.remedy}
        for project_id, one in told.items()
    }


def synced_in_words(done: Synced) -> Iterator[str]:
    """What a run over a stream beside events did."""
    yield f"{counted(done.new, f'new {BY_NAME[done.stream].singular}')}"
    yield f"{done.changed:,} changed"
    if done.deleted:
        yield f"{done.deleted:,} deleted"
    if done.contents:
        yield f"{counted(done.contents, 'content')} of {sized(done.bytes)}"
    if done.snapshots:
        yield counted(done.snapshots, "snapshot")
    if done.rebuilt:
        yield f"{counted(done.rebuilt, 'table')} made anew"


def verified(
    found: Mapping[int, Verified],
    failures: Mapping[int, Exception],
    *,
    repair: bool,
    json_output: bool,
    quiet: bool,
) -> None:
    """The result of a verification; problems also on stderr. *failures*: by project, also part of the JSON document."""
    if json_output:
        projects = [_verified(one) for one in found.values()]
        as_json({"projects": projects, "failed": list(_failed(failures).values())})
        for project_id, one in found.items():
            for problem in one.problems:
                note(f"incomplete: project {project_id}: {problem}", style="yellow")
        return
    for project_id, one in found.items():
        if one.events is not None:
            _say_verified(project_id, *one.events, repair=repair, quiet=quiet)
        beside.say_checked(one.others, quiet=quiet)


def _verified(one: Verified) -> dict[str, Any]:
    """The JSON of one project's verification: that of its events, and a list of the streams beside them."""
    done, run = one.events or (Verification(), None)
    return {
        "project_id": one.project_id,
        **asdict(done),
        "good": one.good,
        "problems": one.problems,
        "requests": (run.requests if run else 0) + sum(other.requests for other in one.others),
        "verified": run.verified if run else 0,
        "streams": [asdict(other) | {"good": other.good, "problems": other.problems} for other in one.others],
    }


def _say_verified(project_id: int, done: Verification, run: Report, *, repair: bool, quiet: bool) -> None:
    """What was found of a project's events, for people."""
    if not quiet:
        say(
            f"project {project_id}: {counted(done.windows, 'window')}, {done.compared:,} compared with the source "
            f"· {counted(run.requests, 'request')} · {run.seconds:.1f} s"
        )
        for part in (one for one in done.outside if one.where != "between"):
            span = f"{day(part.first)} .. {day(part.last)}"
            note(
                f"project {project_id}: outside what is landed the source holds "
                f"{counted(part.rows, 'row')} {part.where} it ({span})"
            )
    for line in lines_of(done, repair=repair):
        note(f"project {project_id}: {line}", style="" if done.good else "yellow")
    if not quiet and done.good:
        mended = "all differences are mended" if done.differences else "no difference"
        say(f"project {project_id}: {mended}{' but the copies named above' if done.unmerged else ''}")


def as_status(one: Summary) -> dict[str, Any]:
    """The JSON of one stream's status."""
    told = {
        name: getattr(one, name)
        for name in (
            "project_id",
            "stream",
            "windows",
            "rows",
            "quarantined",
            "suppressed",
            "copies",
            "unmerged",
            "mark",
            "compared_at",
            "compared_until",
            "uncompared",
            "late",
            "deleted",
            "changed",
        )
    }
    return told | {
        "states": {str(state): count for state, count in one.states.items()},
        "covered": [{"since": start, "until": end} for start, end in one.covered],
        "coverage": [asdict(segment) for segment in one.segments],
        "gaps": [{"since": gap.start, "until": gap.end} for gap in one.gaps],
        "freshness_s": one.freshness.total_seconds() if one.freshness is not None else None,
        "lateness_s": one.latest.total_seconds(),
        "lateness": {name: count for count, (name, _) in zip(one.lateness, LATENESS, strict=True)},
        "days": [asdict(day) for day in one.days],
        "budget": [asdict(used) for used in one.budget],
        "runs": [asdict(run) for run in one.runs],
        "held": asdict(one.held) if one.held else None,
    }


CELLS = {
    Kind.VERIFIED: ("█", "green"),
    Kind.LANDED: ("▓", "blue"),
    Kind.OPEN: ("░", "yellow"),
    Kind.GAP: ("·", "red"),
    Kind.DIFFERS: ("!", "bold red"),
}
_BAR_WIDTH, _BAR_DAYS = 60, 30
_LEVELS = "▁▂▃▄▅▆▇█"


def show_status(one: Summary) -> None:
    """The status of one stream for people."""
    say(f"project {one.project_id} · {one.stream}")
    if not one.windows and one.held is None:
        say(f"  nothing landed yet: run hedgerow sync {one.stream}")
    else:
        for name, text in _status_lines(one) if one.held is None else held_lines(one.stream, one.held):
            Console(highlight=False, soft_wrap=True).print(f"  [dim]{name:<10}[/] {text}")
    for run in one.runs[:1] if one.held else one.runs:  # those of all streams stand with the events
        command = run.command if run.stream == one.stream else f"{run.command} {run.stream}"
        what = f"{day(run.started_at)} {command}: {run.outcome}"
        did = f"{counted(run.rows, 'row')}, {counted(run.requests, 'request')}"
        line = f"  {what}, {did}, {spoken(run.finished_at - run.started_at)}"
        say(line + (f" · {run.error}" if run.error else ""))


def _status_lines(one: Summary) -> Iterator[tuple[str, str]]:
    """What there is to say of a stream, with rich's mark-up."""
    states = ", ".join(f"{count:,} {state}" for state, count in one.states.items())
    yield "rows", f"{one.rows:,} in {counted(one.windows, 'window')} ({states})"
    kinds = cells(one.segments, _BAR_WIDTH)
    yield "coverage", "".join(f"[{CELLS[kind][1]}]{CELLS[kind][0]}[/]" for kind in kinds)
    shares = [(kind, one.share(kind)) for kind in Kind]
    told = " · ".join(f"{CELLS[kind][0]} {kind} {percent(share)}" for kind, share in shares if share)
    yield "", f"{day(one.segments[0].start)} .. {day(one.segments[-1].end)} · {told}"
    for gap in one.gaps[:SHOWN]:
        yield "gap", f"hedgerow backfill --since {iso(gap.start)} --until {iso(gap.end)} fills it"
    yield "per day", _per_day(one.days)
    if one.late or one.deleted or one.changed:
        late = f"{one.late:,} late" + (
            f", the latest at least {spoken(one.latest)} after its time" if one.latest else ""
        )
        yield "found since", f"{late} · {one.deleted:,} deleted · {one.changed:,} changed"
    if one.unmerged:
        yield "copies", findings.unmerged(one.unmerged)
    if one.quarantined or one.suppressed:
        yield "left out", f"{one.quarantined:,} in quarantine, {one.suppressed:,} suppressed"
    fresh = f"{day(one.mark)} ({spoken(one.freshness)} ago)" if one.mark and one.freshness is not None else "–"
    yield "up to date", f"as of {fresh}" if one.mark else "no sync has finished yet"
    yield "compared", compared(one)
    for used in one.budget:
        left = f"{max(0, used.per_hour - used.last_hour):,} of {used.per_hour:,} requests left this hour"
        yield "budget", f"{used.bucket}: {left}, {used.last_minute:,} of {used.per_minute:,} used in the last minute"


def _per_day(days: Sequence[Day]) -> str:
    """The rows of the last days as bars; where there are none, since when."""
    recent = days[-_BAR_DAYS:]
    most = max(day.rows for day in recent)
    if not most:
        last = max((day.date for day in days if day.rows), default=None)
        since = f", none since {last}" if last else ""
        return f"no rows in the last {counted(len(recent), 'day')}{since}"
    bars = "".join(_LEVELS[min(7, day.rows * 8 // (most + 1))] if day.rows else " " for day in recent)
    return f"{bars} last {counted(len(recent), 'day')}, at most {counted(most, 'row')}"


def compared(one: Summary) -> str:
    """Up to when, and when, the source was asked what it holds."""
    left = f"{counted(one.uncompared, 'settled window')} not compared" if one.uncompared else ""
    if one.compared_at is None:
        return f"never: {left or 'no window has settled yet'}"
    told = f"up to {day(one.compared_until)}, last on {day(one.compared_at)}"
    return f"{told}; {left}" if left else told
