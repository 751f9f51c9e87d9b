"""The command line: reads flags, runs the pipeline without Prefect, turns outcomes into exit statuses (contract.md §3)."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import evaluations, exports, landed, loading
from flows.cli import events as cli_events
from flows.cli import sql as cli_sql
from flows.cli.ending import explained, fail, fall_silent
from flows.cli.options import (
    BUG,
    DONE,
    HELP,
    INCOMPLETE,
    INTERRUPTED,
    USAGE,
    AcceptDeletions,
    Commands,
    Destination,
    Json,
    MaxWait,
    Project,
    Quiet,
    QuietResult,
    Since,
    Until,
    Verbose,
    fail_first,
    longest_wait,
    settings_of,
)
from flows.report import documents
from flows.report.failures import Failure, Kind
from flows.report.words import visible
from flows.settings.load import drop_sizes
from flows.settings.parse import SettingsError

app = typer.Typer(
    name="hedgerow",
    cls=Commands,
    help="Moves PostHog events into DuckDB or S3 Parquet: none lost, none doubled, proven.",
    no_args_is_help=True,
    context_settings=HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_events.app, name="events")
app.add_typer(exports.app, name="exports")
app.add_typer(evaluations.app, name="evaluations")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"hedgerow {version('hedgerow')}\n")
        raise typer.Exit(DONE)


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Moves PostHog events into DuckDB or S3 Parquet: none lost, none doubled, proven."""


app.command()(loading.sync)
app.command()(loading.backfill)


@app.command()
def verify(
    since: Since = None,
    until: Until = None,
    repair: Annotated[bool, typer.Option("--repair", help="Read again and replace the windows that differ.")] = False,
    accept_deletions: AcceptDeletions = False,
    detail: Annotated[bool, typer.Option("--detail", help="Name the events that differ; reads their windows.")] = False,
    max_wait: MaxWait = None,
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Name every difference between source, ledger and destination (exit 3); with --repair read only those windows again."""
    from flows.assets import verified
    from flows.report import results, terminal
    from flows.runs import projects, wiring

    settings = settings_of(destination, project).settings
    longest = longest_wait(max_wait)
    found: dict[int, verified.Verified] = {}

    def verify_project(project_id: int) -> None:
        with terminal.progress(project_id, quiet=quiet, verbose=verbose) as listener:
            found[project_id] = verified.verify(
                settings,
                project_id,
                since=since,
                until=until,
                repair=repair,
                accept_deletions=accept_deletions,
                detail=detail,
                max_wait=longest,
                listener=listener,
            )

    failures = projects.each(wiring.projects(settings), verify_project)
    results.verified(found, failures, repair=repair, json_output=json_output, quiet=quiet)
    fail_first(failures, of=wiring.projects(settings))
    if not all(one.good for one in found.values()):
        raise typer.Exit(INCOMPLETE)


@app.command()
def plan(
    since: Since = None,
    until: Until = None,
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: QuietResult = False,
    verbose: Verbose = False,
) -> None:
    """Say what a sync would ask and land, and how long. Windows, rows, requests, hours under the limits, bytes; lands nothing."""
    from flows.report import results, terminal
    from flows.runs import estimate, wiring

    settings = settings_of(destination, project).settings
    found: list[estimate.Estimate] = []
    for project_id in wiring.projects(settings):
        queued = sum(one.list_requests or 0 for one in found)
        with terminal.waits(quiet=quiet, verbose=verbose) as listener:
            found.append(
                estimate.of_project(settings, project_id, since=since, until=until, listener=listener, queued=queued)
            )
    notes = estimate.notes(settings)
    if json_output:
        documents.as_json({"plans": [results.planned(one) for one in found], "notes": notes})
    else:
        results.show_plans(found)
    for remark in () if quiet else notes:
        terminal.note(remark)


@app.command()
def check(
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Try settings, key and destination, and say mends. Lands nothing."""
    from flows.report import results, terminal
    from flows.runs import check as checks
    from flows.runs import wiring
    from flows.settings.load import shown

    loaded = settings_of(destination, project)
    settings, found = loaded.settings, dict[int, list[checks.Finding]]()
    if verbose and not (json_output or quiet):
        for name, value, origin in shown(loaded):
            if origin != "default":
                terminal.say(f"{name} = {_in_words(value)} ({origin})")
    for project_id in wiring.projects(settings):
        with terminal.waits(quiet=quiet, verbose=verbose) as listener:
            lines = checks.check(settings, project_id, listener=listener)
            if not (json_output or quiet):
                terminal.say(f"project {project_id} at {settings.source.host}")
                lines = results.shown_findings(lines, verbose=verbose)
            found[project_id] = list(lines)
    if json_output:
        documents.as_json(
            {
                "projects": [
                    {"project_id": one, "checks": [results.checked(line) for line in found[one]]} for one in found
                ]
            }
        )
    errors = {one: line.error for one, findings in found.items() for line in reversed(findings) if line.error}
    if quiet or json_output:
        fail_first(errors, of=tuple(found))
    for project_id in errors:
        names = ", ".join(line.name for line in found[project_id] if line.error)
        whose = f"project {project_id} is " if len(found) > 1 else ""
        terminal.note(f"hedgerow: {whose}not ready: {names}", style="red")
    for error in errors.values():
        raise typer.Exit(explained(error)[0])


app.command()(landed.status)
app.command()(cli_sql.sql)
app.command()(landed.attach)
app.command()(landed.copy)


@app.command()
def settings(
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: QuietResult = False,
    verbose: Verbose = False,
) -> None:
    """Show what is in force and where it came from. Secrets are masked."""
    from flows.report import terminal
    from flows.settings.load import shown

    lines = shown(settings_of(destination, project))
    if json_output:
        documents.as_json({name: {"value": value, "from": origin} for name, value, origin in lines})
    else:
        terminal.show_table(
            ["setting", "value", "from"], [(name, _in_words(value), origin) for name, value, origin in lines]
        )


def _in_words(value: object) -> object:
    """A setting for people, as hedgerow.toml has it."""
    if isinstance(value, list):
        return ", ".join(str(_in_words(one)) for one in value) or "–"
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else value


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="File to write; an old one is replaced.")] = Path("demo.duckdb"),
    quiet: Quiet = False,
) -> None:
    """See the main job, without PostHog. Syncs simulated events over real HTTP into a DuckDB file, compares, queries."""
    from flows.cli.demo import demo as run_demo

    if output.is_dir() or not output.absolute().parent.is_dir():
        raise SettingsError(f"cannot write {output}", hint="give the path of a file in a directory that exists")
    if not run_demo(output, quiet=quiet):
        raise typer.Exit(INCOMPLETE)


def _profiles() -> list[str]:
    from extractors.simulator.profiles import PROFILES

    return list(PROFILES)


@app.command()
def simulator(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.", min=0, max=65535)] = 8765,
    events: Annotated[int, typer.Option(help="Events to make, over the last 30 days.", min=0)] = 50_000,
    profile: Annotated[
        str, typer.Option(help="Which server to act as: cloud, self_hosted, old_2023, …", autocompletion=_profiles)
    ] = "cloud",
    seed: Annotated[int, typer.Option(help="The same seed makes the same events.")] = 1,
) -> None:
    """Run the bundled PostHog simulator for your tests. Until Ctrl-C; prints the settings to use."""
    from extractors.simulator.data.dataset import generate
    from extractors.simulator.profiles import PROFILES
    from extractors.simulator.server import run
    from flows.runs import wiring

    if profile not in PROFILES:
        raise SettingsError(f"unknown profile {profile!r}", hint=f"expected one of {', '.join(PROFILES)}")
    end = wiring.now()
    made = generate(events=events, start=end - timedelta(days=30), end=end, seed=seed)
    try:
        run(port=port, profile=PROFILES[profile], dataset=made, key="phx_simulator")
    except OSError as exc:
        raise SettingsError(f"cannot listen on port {port}: {exc.strerror}", hint="choose another --port") from exc


def main() -> None:
    """Entry point: every known error is one or two lines on stderr and its exit status; the rest is a bug here."""
    documents.begin(False)
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    # Asked to stop by systemd, Docker or Prefect: the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.umask(0o077)  # whatever is written is the user's alone
    drop_sizes()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")  # no event name may end a command
    try:
        status = app(standalone_mode=False, prog_name="hedgerow") or DONE
        if status == INTERRUPTED:  # typer swallows the KeyboardInterrupt and its message
            raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.exit(status)
    except SystemExit as exc:
        # For a reader that has gone, typer and rich end with 1.
        if not isinstance(exc.__context__, BrokenPipeError):
            raise
        fall_silent()
    except (KeyboardInterrupt, typer.Abort):
        fail(Failure(Kind.INTERRUPTED, "interrupted; everything committed stays, the next run goes on from there"))
    except BrokenPipeError:
        fall_silent()
    except Exception as exc:
        if type(exc).__name__ == "NoArgsIsHelpError":  # typer exports neither the class nor its base
            sys.stdout.write(f"{exc.format_message()}\n")  # type: ignore[attr-defined]
            sys.exit(USAGE)
        code, failure = explained(exc)
        if verbose or code == BUG:
            sys.stderr.write(visible(traceback.format_exc()))
        fail(failure)


if __name__ == "__main__":
    main()
