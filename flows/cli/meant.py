"""What a mistyped command line meant: the next command, option or value, where one is near."""

from __future__ import annotations

import re

from flows.report.failures import Failure, Kind
from flows.settings.parse import near

COMMANDS = {
    "query": "sql",
    "config": "settings",
    "run": "sync",
    "load": "sync",
    "import": "sync",
    "extract": "sync",
    "validate": "verify",
    "diff": "verify",
    "backup": "copy",
    "views": "attach",
    "doctor": "check",
    "test": "check",
    "version": "--version",
    "dry-run": "plan",
    "estimate": "plan",
    "repair": "verify --repair",
    "rebuild": "sync --rebuild",
}
"""What other tools call our commands."""
OPTIONS = {
    "--from": "--since",
    "--start": "--since",
    "--start-date": "--since",
    "--begin": "--since",
    "--after": "--since",
    "--to": "--until",
    "--end": "--until",
    "--end-date": "--until",
    "--before": "--until",
    "--full": "--rebuild",
    "--full-refresh": "--rebuild",
    "--force": "--rebuild",
    "--dest": "--destination",
    "--out": "--output",
    "-o": "--output",
    "--format": "--json",
    "--fix": "--repair",
    "--details": "--detail",
    "--help-all": "--help",
}
"""What other tools call our options."""
DRY_RUN = ("--dry-run", "--dry", "--plan", "--check")


def failure_of(exc: Exception) -> Failure:
    """The failure of a command line that typer refused with *exc*, with what it may have meant."""
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else "hedgerow"
    message = re.sub(r"\.? \(?(Did you mean|Possible options:).*", "", exc.format_message())  # type: ignore[attr-defined]
    message = message.replace("Value error, ", "").removesuffix(".")
    meant = _meant(exc, message)
    shows = "commands and options" if path == "hedgerow" else "its commands" if _is_group(context) else "its options"
    return Failure(
        Kind.USAGE, f"{message}; did you mean {meant}?" if meant else message, f"{path} --help shows {shows}"
    )


def _meant(exc: Exception, message: str) -> str | None:
    context = getattr(exc, "ctx", None)
    option = getattr(exc, "option_name", None)
    if context is None:
        return None
    if option is not None and message.startswith("No such option"):
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("-")]
        bare = {name.lstrip("-"): name for name in known}  # the dashes make all of them alike
        if option in DRY_RUN and context.command.name in ("sync", "backfill"):
            return "hedgerow plan"
        other = OPTIONS.get(option)
        return other if other in known else bare.get(near(option.lstrip("-"), bare) or "")
    if found := re.match(r"No such command '(.*)'", message):
        known = context.command.list_commands(context)
        other = COMMANDS.get(found[1]) if context.parent is None else None
        return f"hedgerow {other}" if other else near(found[1], known)
    if found := re.search(r"'([^']*)' is not one of (.*)", message):
        return near(found[1], re.findall(r"'([^']*)'", found[2]))
    return None


def _is_group(context: object) -> bool:
    return hasattr(getattr(context, "command", None), "list_commands")
