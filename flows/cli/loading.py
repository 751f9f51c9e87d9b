"""`hedgerow sync` and `backfill`: the streams of the command line, brought up to date one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    ENDS,
    INCOMPLETE,
    STARTS,
    AcceptDeletions,
    Destination,
    Json,
    MaxWait,
    Project,
    Quiet,
    RequireProof,
    Since,
    Until,
    Verbose,
    fail_first,
    longest_wait,
    offered,
    settings_of,
)
from flows.runs.catalog import BY_DEFAULT, BY_NAME, STREAMS, Stream, chosen
from flows.settings.parse import SettingsError, near

if TYPE_CHECKING:
    from flows.assets.synced import Synced
    from flows.runs.run import Report
    from flows.runs.wiring import Listener
    from flows.settings.model import Settings


def _spoken(streams: Sequence[Stream]) -> str:
    return ", ".join(stream.name for stream in streams)


RANGED = tuple(stream for stream in STREAMS if stream.ranged)
SYNCED = f"{_spoken(STREAMS)}; without a name those of [streams] include: {_spoken(BY_DEFAULT)}."
BACKFILLED = f"{_spoken(RANGED)}: what lies in time."


@dataclass(frozen=True, slots=True)
class _Load:
    """What a command is to load, and how."""

    command: str
    streams: tuple[Stream, ...]
    named: bool
    since: str | None
    until: str | None
    rebuild: bool
    accept_deletions: bool
    require_proof: bool
    max_wait: timedelta | None


def sync(
    streams: Annotated[list[str] | None, typer.Argument(help=SYNCED, autocompletion=offered(*BY_NAME))] = None,
    since: Since = None,
    until: Until = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Land everything again, after a change of the filter; make tables of exports anew."
        ),
    ] = False,
    accept_deletions: AcceptDeletions = False,
    require_proof: RequireProof = False,
    max_wait: MaxWait = None,
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Bring the destination up to date from its ledger. At first: the last 30 days, or those before --until."""
    from flows.settings.model import StreamsSettings

    named, settings = _known(streams), settings_of(destination, project).settings
    wanted = chosen(named or settings.streams.include)
    if (since or until) and not any(stream.ranged for stream in wanted):
        raise SettingsError(
            f"--since and --until say nothing of {_spoken(wanted)}: a sync lands all of them",
            hint=f"leave them out, or name {_spoken(RANGED)} too",
        )
    if rebuild and not any(stream.rebuilt for stream in wanted):
        raise SettingsError(
            f"--rebuild says nothing of {_spoken(wanted)}: their history cannot be read again",
            hint=f"leave it out, or name one of {_spoken(tuple(stream for stream in STREAMS if stream.rebuilt))} too",
        )
    longest = longest_wait(max_wait)
    asked = bool(named) or settings.streams.include != StreamsSettings().include  # written down is as good as named
    load = _Load("sync", wanted, asked, since, until, rebuild, accept_deletions, require_proof, longest)
    _run(settings, load, json_output=json_output, quiet=quiet, verbose=verbose)


def backfill(
    since: Annotated[
        str, typer.Option(help="Start: ISO 8601 (no zone = UTC), 90d, or earliest.", autocompletion=STARTS)
    ],
    streams: Annotated[
        list[str] | None,
        typer.Argument(help=BACKFILLED, autocompletion=offered(*(stream.name for stream in RANGED))),
    ] = None,
    until: Annotated[str, typer.Option(help="End, not included: ISO 8601, 1h, or now.", autocompletion=ENDS)] = "now",
    accept_deletions: AcceptDeletions = False,
    require_proof: RequireProof = False,
    max_wait: MaxWait = None,
    destination: Destination = None,
    project: Project = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fill what is not landed of a past range. Safe beside a sync; resumes."""
    for name in _known(streams):
        if not BY_NAME[name].ranged:
            raise SettingsError(
                f"{name} have no range of time to fill: the source shows them as they are now",
                hint=f"hedgerow sync {name} lands all of them, and what changes from then on",
            )
    wanted, settings = chosen(streams or [stream.name for stream in RANGED]), settings_of(destination, project).settings
    longest = longest_wait(max_wait)
    load = _Load("backfill", wanted, True, since, until, False, accept_deletions, require_proof, longest)
    _run(settings, load, json_output=json_output, quiet=quiet, verbose=verbose)


def _known(names: Sequence[str] | None) -> Sequence[str]:
    """*names*, each of which is a stream. Raises SettingsError."""
    for name in names or ():
        if name not in BY_NAME:
            meant = near(name, BY_NAME)
            hint = f"did you mean {meant}?" if meant else f"expected {_spoken(STREAMS)}"
            raise SettingsError(f"unknown stream {name!r}", hint=hint)
    return names or ()


def _run(settings: Settings, load: _Load, *, json_output: bool, quiet: bool, verbose: bool) -> None:
    """Load the streams of every project, and say what came of it."""
    from flows.report import results, terminal
    from flows.runs import projects, wiring

    reports: list[Report] = []
    synced: list[Synced] = []

    def load_project(project_id: int) -> None:
        for stream in load.streams:
            # A bar of each: that of events would stand there as done while contents of exports come.
            with terminal.progress(project_id, quiet=quiet, verbose=verbose, what=stream.name) as listener:
                _load_stream(settings, project_id, stream, load, listener, reports, synced)

    wanted, failures = wiring.projects(settings), dict[int, Exception]()
    try:
        failures = projects.each(wanted, load_project)
    finally:  # also of a run that is interrupted: what it landed stays
        results.loaded(reports, failures, synced=synced, json_output=json_output, quiet=quiet)
    fail_first(failures, of=wanted)
    if any(done.problems for done in reports) or any(done.problems for done in synced):
        raise typer.Exit(INCOMPLETE)


def _load_stream(
    settings: Settings,
    project_id: int,
    stream: Stream,
    load: _Load,
    listener: Listener,
    reports: list[Report],
    synced: list[Synced],
) -> None:
    """Load one stream of a project; what was done goes to *reports* or *synced*."""
    from flows.assets import streams as assets
    from flows.runs import loads

    if stream.ranged:
        loads.load_events(
            settings,
            project_id,
            command=load.command,
            since=load.since,
            until=load.until,
            rebuild=load.rebuild,
            accept_deletions=load.accept_deletions,
            require_proof=load.require_proof,
            max_wait=load.max_wait,
            listener=listener,
            on_report=reports.append,
        )
        return
    synced.append(
        assets.sync(
            settings,
            project_id,
            stream.name,
            named=load.named,
            accept_deletions=load.accept_deletions,
            rebuild=load.rebuild,
            max_wait=load.max_wait,
            listener=listener,
        )
    )
