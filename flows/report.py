"""What a person or a script gets to see: progress, results, status. Decides no work.

Results go to stdout, everything else to stderr; with --json one document on stdout and nothing else there.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from extractors.errors import SourceError
from extractors.pacing import Wait
from flows import audit, pipeline
from flows.check import Finding, Verdict
from flows.estimate import Estimate
from flows.runs import Report
from flows.settings import SettingsError
from flows.wiring import Listener
from sinks.base import Entry, Ledger, Run, State

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: object) -> object:
    """*value* as JSON can say it."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def as_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=plain, ensure_ascii=False, indent=2) + "\n")


def say(text: str) -> None:
    """A line of result for people."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def note(text: str, *, style: str = "") -> None:
    """A line beside the result, on stderr."""
    errors.print(text, style=style, markup=False)


@contextmanager
def progress(project_id: int, *, quiet: bool, verbose: bool) -> Iterator[Listener]:
    """A listener that shows a bar on a terminal, lines about waits and retries elsewhere too, nothing with *quiet*."""

    def named(problem: str) -> None:
        note(f"incomplete: project {project_id}: {problem}", style="yellow")

    if quiet:
        yield Listener(problem=named)
        return
    # One line of 80 columns: what is landed, or what is waited for.
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(f"project {project_id}", total=None, doing="")

        def moved(at: pipeline.Progress, requests: int) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            speed = f" · {at.rows / elapsed:,.0f}/s" if elapsed > 1 else ""
            doing = f"{at.rows:,} rows{speed} · {requests} requests"
            bar.update(task, completed=at.windows_done, total=at.windows_planned, doing=doing)

        def waited(wait: Wait) -> None:
            text = f"waiting {_span(wait.seconds)}: {wait.reason}"
            bar.update(task, doing=text)
            if verbose or (wait.seconds >= 1 and not errors.is_terminal):
                note(text)

        def retried(error: SourceError, wait_s: float) -> None:
            note(f"trying again{f' in {wait_s:.0f} s' if wait_s else ''}: {error}")

        yield Listener(
            progress=moved,
            wait=waited,
            retry=retried,
            busy=lambda text: note(f"waiting for the file: {text}"),
            problem=named,
        )


def waits(*, verbose: bool) -> Listener:
    """A listener for short work: only what is waited for."""
    return Listener(wait=lambda wait: note(f"waiting {_span(wait.seconds)}: {wait.reason}") if verbose else None)


def show_findings(findings: Iterable[Finding]) -> None:
    """The lines of `hedgerow check`; a mend stands under what it mends."""
    styles = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"  [{styles[finding.verdict]}]{finding.verdict:<4}[/] {finding.name:<12}", end=" ")
        console.print(finding.found, markup=False)
        if finding.mend and finding.verdict is not Verdict.OK:
            console.print(f"{'':19} → {finding.mend}", markup=False)


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def planned(one: Estimate) -> dict[str, Any]:
    """The JSON of one project's plan."""
    return {**asdict(one), "windows": {_step(step): count for step, count in one.windows.items()}, "fits": one.fits}


def show_plans(found: Sequence[Estimate]) -> None:
    """Plans for people, and the time of all projects, which share the key's limits."""
    for one in found:
        span = f" {_day(one.since)} .. {_day(one.until)}" if one.since else ""
        say(f"project {one.project_id}{span}")
        for name, text in _plan_lines(one):
            say(f"  {name:<9} {text}")
        if not one.fits:
            note(f"project {one.project_id}: the destination's disk may not hold this", style="yellow")
    known = [one.seconds for one in found if one.seconds is not None]
    if len(known) > 1:
        say(f"all projects: {_span(sum(known))}")


def _plan_lines(one: Estimate) -> Iterator[tuple[str, str]]:
    """What a plan says, line by line."""
    if not one.windows:
        yield (
            "windows",
            f"nothing to do: all {one.landed_windows:,} are landed" if one.landed_windows else "nothing to do",
        )
        return
    steps = ", ".join(f"{count:,} of {_step(step)}" for step, count in sorted(one.windows.items(), reverse=True))
    yield "windows", f"{steps} · {one.landed_windows:,} landed already"
    told = "counted by the source" if one.rows_counted else "guessed: the source refuses queries"
    yield "rows", f"{one.rows:,} ({told})" if one.rows is not None else "unknown: the source refuses queries"
    pages = f"{one.list_requests:,} pages" if one.list_requests is not None else "one page per 1,000 rows"
    yield "requests", f"about {pages}, {one.query_requests:,} queries"
    limits = f"{one.requests_per_minute:,} a minute and {one.requests_per_hour:,} an hour"
    taken = "unknown" if one.seconds is None else f"about {_span(one.seconds)}"
    yield "time", f"{taken} under {limits} ({one.used_last_hour:,} used in the last hour)"
    if one.download_bytes is not None and one.disk_bytes is not None:
        yield "download", f"about {_size(one.download_bytes)}"
        yield "disk", f"about {_size(one.disk_bytes)}, {_size(one.free_bytes)} are free"


def _step(seconds: int) -> str:
    return (
        f"{seconds // 86400} d"
        if seconds >= 86400
        else f"{seconds // 3600} h"
        if seconds >= 3600
        else f"{seconds // 60} min"
    )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def loaded(reports: Sequence[Report], failures: Mapping[int, Exception], *, json_output: bool, quiet: bool) -> None:
    """The result of a sync or backfill. *failures*: by project, also part of the JSON document."""
    if json_output:
        failed = [{"project_id": project_id, "error": str(exc)} for project_id, exc in failures.items()]
        as_json({"runs": [asdict(report) for report in reports], "failed": failed})
    for report in reports:
        if not json_output and not quiet:
            span = f" of {_day(report.since)} .. {_day(report.until)}" if report.since else ""
            say(
                f"project {report.project_id}: {report.rows:,} events landed in {report.windows:,} windows{span} "
                f"· {report.requests} requests · {report.seconds:.1f} s"
                + (f" (waited {_span(report.waited_s)})" if report.waited_s >= 1 else "")
            )
            if report.verified:
                say(f"  {report.verified:,} windows verified: the source counts what is landed")
        if not quiet:
            for remark in report.notes:
                note(f"project {report.project_id}: {remark}")
        for problem in report.problems:
            note(f"incomplete: project {report.project_id}: {problem}", style="yellow")


def _day(at: datetime | None) -> str:
    if at is None:
        return "–"
    text = at.isoformat(timespec="minutes").replace("+00:00", "Z")
    return text.removesuffix("T00:00Z")


SHOWN = 20  # differences, and uuids of one, that people are shown; --json has them all


def verified(
    found: Mapping[int, tuple[audit.Verification, Report]], *, repair: bool, json_output: bool, quiet: bool
) -> None:
    """The result of a verification."""
    if json_output:
        projects = [
            {
                "project_id": project_id,
                **asdict(done),
                "good": done.good,
                "requests": run.requests,
                "verified": run.verified,
            }
            for project_id, (done, run) in found.items()
        ]
        as_json({"projects": projects})
        return
    for project_id, (done, run) in found.items():
        if not quiet:
            say(
                f"project {project_id}: {done.windows:,} windows, {done.compared:,} compared with the source "
                f"· {run.requests} requests · {run.seconds:.1f} s"
            )
            for part in done.outside:
                span = f"{_day(part.first)} .. {_day(part.last)}"
                note(f"outside what is landed the source holds {part.rows:,} rows {part.where} it ({span})")
        for line in _differences(done, repair=repair):
            note(f"project {project_id}: {line}", style="" if done.good else "yellow")
        if not quiet and done.good:
            say(f"project {project_id}: {'all differences are mended' if done.differences else 'no difference'}")


def _differences(done: audit.Verification, *, repair: bool) -> Iterator[str]:
    """What a verification found, for people."""
    left = set(done.left)
    for difference in done.differences[:SHOWN]:
        source = "unknown" if difference.source_rows is None else f"{difference.source_rows:,}"
        why = " and ".join(
            word
            for word, said in (
                ("damaged at the destination", difference.damaged),
                ("changed at the source", difference.changed),
            )
            if said
        )
        mended = (" · still differs" if difference.start in left else " · mended") if repair else ""
        yield (
            f"{_day(difference.start)} .. {_day(difference.end)}: {why}: landed {difference.ledger_rows:,}, "
            f"held {difference.held_rows:,}, source {source}{mended}"
        )
        for name in ("missing", "extra", "differing"):
            uuids = getattr(difference, name)
            if uuids:
                more = f" and {len(uuids) - SHOWN:,} more" if len(uuids) > SHOWN else ""
                yield f"  {name}: {', '.join(uuids[:SHOWN])}{more}"
    if len(done.differences) > SHOWN:
        yield f"and {len(done.differences) - SHOWN:,} more windows: see --json"
    if done.differences and not repair:
        yield f"{len(done.differences):,} windows differ: hedgerow verify --repair reads them again"
    if done.stray_rows:
        yield f"{done.stray_rows:,} rows lie in no landed window: not hedgerow's, and left alone"
    if done.unknown:
        yield f"{done.unknown:,} windows could not be compared: the source does not answer queries about them"


def status(project_id: int, ledger: Ledger, runs: Sequence[Run]) -> dict[str, Any]:
    """Coverage, freshness and rows of one project's events."""
    entries = sorted(ledger.entries.values(), key=lambda entry: entry.start)
    states = {state.value: sum(entry.state is state for entry in entries) for state in State}
    return {
        "project_id": project_id,
        "stream": pipeline.STREAM,
        "windows": len(entries),
        "states": {state: count for state, count in states.items() if count},
        "rows": sum(entry.tally.landed_rows for entry in entries),
        "quarantined": sum(entry.tally.quarantined_rows for entry in entries),
        "covered": [{"since": start, "until": end} for start, end in covered(entries)],
        "mark": ledger.mark,
        "runs": [asdict(run) for run in runs],
    }


def covered(entries: Iterable[Entry]) -> list[tuple[datetime, datetime]]:
    """Covered ranges, joined where they touch; *entries* in order."""
    ranges: list[tuple[datetime, datetime]] = []
    for entry in entries:
        if ranges and ranges[-1][1] == entry.covered_start:
            ranges[-1] = (ranges[-1][0], entry.covered_end)
        else:
            ranges.append((entry.covered_start, entry.covered_end))
    return ranges


def show_status(summary: Mapping[str, Any]) -> None:
    say(f"project {summary['project_id']} · {summary['stream']}")
    if not summary["windows"]:
        say("  nothing landed yet: run hedgerow sync")
    else:
        states = ", ".join(f"{count:,} {state}" for state, count in summary["states"].items())
        say(f"  {summary['rows']:,} rows in {summary['windows']:,} windows ({states})")
        for part in summary["covered"]:
            say(f"  covered {_day(part['since'])} .. {_day(part['until'])}")
        if summary["quarantined"]:
            say(f"  {summary['quarantined']:,} rows in quarantine")
        say(f"  up to date as of {_day(summary['mark'])}" if summary["mark"] else "  no sync has finished yet")
    for run in summary["runs"]:
        took = (run["finished_at"] - run["started_at"]).total_seconds()
        what = f"{_day(run['started_at'])} {run['command']}: {run['outcome']}"
        line = f"  {what}, {run['rows']:,} rows, {run['requests']} requests, {took:.1f} s"
        say(line + (f" · {run['error']}" if run["error"] else ""))


def show_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A result of SQL for people."""
    table = Table(*names)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(highlight=False, markup=False)
    console.print(table)


def distinct(names: Sequence[str]) -> list[str]:
    """Column names, each once: a query may name two columns alike."""
    found: list[str] = []
    for name in names:
        number, shown = 1, name
        while shown in found:
            number += 1
            shown = f"{name}_{number}"
        found.append(shown)
    return found


def json_value(value: object) -> object:
    """A value of a result as JSON can say it: what is no number is null, bytes are hexadecimal."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.hex() if isinstance(value, bytes) else value


def write_parquet(table: pa.Table, file: Path) -> int:
    """Write *table* to *file*, for the user alone; returns its rows. Raises SettingsError where that cannot be."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            pq.write_table(table.rename_columns(distinct(table.column_names)), out, compression="zstd")
    except OSError as exc:
        raise SettingsError(f"cannot write {file}: {exc.strerror}", hint="give the path of a file") from exc
    return int(table.num_rows)


def write_csv(names: Sequence[str], rows: Iterable[Sequence[object]], file: Path | None = None) -> None:
    """CSV to *file* or stdout; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    import csv

    with file.open("w", newline="", encoding="utf-8") if file else _stdout() as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows([_harmless(value) for value in row] for row in rows)


@contextmanager
def _stdout() -> Iterator[Any]:
    yield sys.stdout


def _harmless(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
