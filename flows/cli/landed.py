"""Commands over what is landed: `status`, `attach` and `copy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import (
    INCOMPLETE,
    PLACES,
    AnyProject,
    Destination,
    Json,
    Project,
    Quiet,
    QuietResult,
    Verbose,
    settings_of,
)
from flows.settings.parse import SettingsError


def status(
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with a calendar and charts.")] = None,
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: QuietResult = False,
    verbose: Verbose = False,
) -> None:
    """Show coverage, freshness, lateness, budget, runs. Asks PostHog nothing."""
    from flows.report import documents, files, results, status_page, terminal
    from flows.report import status as status_report
    from flows.runs import wiring
    from flows.runs.destinations import check_output

    settings = settings_of(destination, project).settings
    with terminal.waits(quiet=quiet, verbose=verbose) as listener:
        summaries = status_report.summaries(settings, listener)
    if html is not None:
        check_output(settings, html)
        text = status_page.page(summaries, destination=settings.destination.address, made_at=wiring.now())
        files.write_page(text, html)
        if not quiet:
            terminal.note(f"written to {html}")
    if json_output:
        told = [results.as_status(one) for one in summaries]
        documents.as_json({"destination": settings.destination.address, "streams": told})
    elif html is None:
        if not summaries:
            terminal.say("nothing landed yet: run hedgerow sync")
        for one in summaries:
            results.show_status(one)


def attach(
    output: Annotated[Path, typer.Option(help="The file to write; an old one is replaced.")] = Path("views.duckdb"),
    destination: Destination = None,
    project: AnyProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a DuckDB file with views over a lake. For analysts: many can open it while syncs go on; no credentials in it."""
    from flows.report import documents, terminal
    from flows.runs.destinations import lake_of

    if output.is_dir() or not output.absolute().parent.is_dir():
        raise SettingsError(f"cannot write {output}", hint="give the path of a file in a directory that exists")
    settings = settings_of(destination, project).settings
    statements, damaged = lake_of(settings).attach(output, storage_version=settings.duckdb.storage_version)
    problems = [f"{said}: a view says so until it is mended and attached again" for said in damaged]
    if json_output:
        documents.as_json({"output": str(output), "sql": statements, "problems": problems})
    else:
        if not quiet:
            terminal.note(f"written to {output}: open it, or run this in your own DuckDB")
        terminal.say(statements)
    for problem in problems:
        terminal.note(f"incomplete: {problem}", style="yellow")
    if problems:
        raise typer.Exit(INCOMPLETE)


def copy(
    source: Annotated[
        str, typer.Option("--from", help="Where it is landed: duckdb:PATH, s3://…, file:DIR.", autocompletion=PLACES)
    ],
    target: Annotated[str, typer.Option("--to", help="Where it goes.", autocompletion=PLACES)],
    project: Project = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Copy all that is landed between destinations and verify. Does not ask PostHog; resumes."""
    from flows.assets import copying
    from flows.report import beside, terminal
    from flows.runs.destinations import same
    from flows.runs.wiring import sink_of

    settings, found = settings_of(None, project).settings, []
    with terminal.waits(quiet=quiet, verbose=verbose) as waits:
        origin, goal = (sink_of(settings, waits, address=address) for address in (source, target))
        if same(origin, goal):
            raise SettingsError("--from and --to are the same destination", hint="name two")
        for project_id in settings.source.project_id or origin.projects():
            with terminal.progress(project_id, quiet=quiet, verbose=verbose) as listener:
                found.append(copying.copy(project_id, origin, goal, on_progress=listener.progress))
    if not found:
        raise SettingsError(f"{source} holds nothing yet", hint="run hedgerow sync first, or name another --from")
    beside.copied(found, json_output=json_output, quiet=quiet)
    if any(one.problems for one in found):
        raise typer.Exit(INCOMPLETE)
