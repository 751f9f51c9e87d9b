"""What the commands share: exit statuses, flags, and how a run of several projects ends (README, exit statuses)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.settings.load import Loaded, load
from flows.settings.parse import SettingsError, duration

DONE, BUG, USAGE, INCOMPLETE, ACCESS, SOURCE, DESTINATION, INTERRUPTED = 0, 1, 2, 3, 10, 11, 12, 130
HELP = {"help_option_names": ["-h", "--help"]}


class Commands(TyperGroup):
    """Commands under a name. A usage error is that of the command whose arguments were read, where typer forgets whose."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as exc:
            name = ctx.invoked_subcommand
            command = self.get_command(ctx, name) if name and getattr(exc, "ctx", exc) is None else None
            if command is not None:
                exc.ctx = type(ctx)(command, info_name=name, parent=ctx)  # type: ignore[attr-defined]
            raise


def offered(*words: str) -> Callable[[], list[str]]:
    """What a shell completes to."""
    return lambda: list(words)


PLACES = offered("duckdb:", "file:", "s3://")
Destination = Annotated[
    str | None,
    typer.Option("--destination", help="duckdb:PATH, s3://bucket/prefix or file:DIR.", autocompletion=PLACES),
]
Project = Annotated[str | None, typer.Option("--project", help="Project id; several, separated by commas.")]
OneProject = Annotated[str | None, typer.Option("--project", help="Project id; one, where several are set.")]
AnyProject = Annotated[
    str | None, typer.Option("--project", help="Without effect: all projects are there. Put project_id into queries.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary.")]
QuietResult = Annotated[
    bool, typer.Option("-q", "--quiet", help="No notes; the output is the result and is printed all the same.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more; a traceback for errors.")]
STARTS, ENDS = offered("earliest", "24h", "7d", "30d"), offered("now", "1h", "1d")
Since = Annotated[
    str | None, typer.Option(help="Start: ISO 8601 (no zone = UTC), 7d, 36h, or earliest.", autocompletion=STARTS)
]
Until = Annotated[str | None, typer.Option(help="End, not included: ISO 8601, 1h, or now.", autocompletion=ENDS)]
AcceptDeletions = Annotated[
    bool,
    typer.Option(
        "--accept-deletions",
        help="Remove rows, and mark as deleted objects of lists, that the source does not show any more, however many "
        "(else held, exit 3).",
    ),
]
MaxWait = Annotated[
    str | None,
    typer.Option("--max-wait", help="Longest wait for the source's limits in sum, such as 10m; then exit 11."),
]
RequireProof = Annotated[
    bool,
    typer.Option(
        "--require-proof", help="End with 3 unless the source confirmed by a query what was landed of events."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before writing to PostHog.")]


def settings_of(destination: str | None = None, project: str | None = None) -> Loaded:
    """The settings in force under these flags. Raises SettingsError."""
    return load({"destination.address": destination, "source.project_id": project})


def longest_wait(max_wait: str | None) -> timedelta | None:
    """What --max-wait says. Raises SettingsError."""
    try:
        return duration(max_wait) if max_wait else None
    except ValueError as exc:
        raise SettingsError(f"--max-wait: {exc}") from None


def fail_first(failures: Mapping[int, Exception], *, of: Sequence[int]) -> None:
    """End with the first failure, if there is one; where there are several projects, each is named with its own before."""
    from flows.report import terminal

    for project_id, failure in failures.items() if len(of) > 1 else ():
        terminal.note(f"project {project_id}: {failure}", style="red")
    for failure in failures.values():
        raise failure
