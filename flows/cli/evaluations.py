"""`hedgerow evaluations …`: looks at evaluations and changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import HELP, Commands, Destination, Json, OneProject, Quiet, Verbose, Yes
from flows.settings.parse import SettingsError

if TYPE_CHECKING:
    from uuid import UUID

    from extractors.lists.lookups import Row
    from flows.cli.asking import Asking

app = typer.Typer(
    help="Evaluations: list, change, delete, restore.",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings=HELP,
)
SETTABLE = ("name", "description")
Id = Annotated[str, typer.Argument(help="Uuid of the evaluation.", metavar="UUID")]


@app.command("list")
def list_evaluations(
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the evaluations, newest first. Deleted ones are not shown by PostHog."""
    from extractors.lists import evaluations
    from flows.cli.asking import asking
    from flows.report import documents, terminal

    with asking(project, destination, quiet=quiet) as at:
        found = list(evaluations.evaluations(at.client, at.project_id))
    if json_output:
        documents.as_json({"evaluations": found})
        return
    columns = ("id", "name", "type", "enabled", "updated")
    names = ("id", "name", "evaluation_type", "enabled", "updated_at")
    terminal.show_table(columns, [[_cell(row.get(name)) for name in names] for row in found])


def _cell(value: object) -> str:
    return "" if value is None else str(value)[:60]


@app.command("get")
def get_evaluation(
    name: Id,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print one evaluation as PostHog shows it."""
    from extractors.lists import evaluations
    from flows.cli.asking import asking, uuid_of
    from flows.report import documents

    wanted = uuid_of(name, "evaluations")
    with asking(project, destination, quiet=quiet) as at:
        row = evaluations.evaluation(at.client, at.project_id, wanted)
    documents.as_json(row)


@app.command()
def update(
    name: Id,
    sets: Annotated[list[str] | None, typer.Option("--set", help="name=… or description=…; may be repeated.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The judge's prompt, or @FILE.")] = None,
    conditions: Annotated[str | None, typer.Option("--conditions", help="A JSON array, or @FILE.")] = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch it on or off.")] = None,
    yes: Yes = False,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Change an evaluation. Reads it first and sends only what differs."""
    from extractors.lists import evaluations
    from flows.cli.asking import asking, json_of, text_of, uuid_of

    wanted_id = uuid_of(name, "evaluations")
    wanted = _sets(sets or [])
    if conditions is not None:
        found = json_of("--conditions", conditions)
        if not isinstance(found, list):
            raise SettingsError("--conditions is no JSON array")
        wanted["conditions"] = found
    if enable is not None:
        wanted["enabled"] = enable
    text = None if prompt is None else text_of(prompt).strip()
    if not wanted and text is None:
        raise SettingsError("nothing to change", hint="give --set, --prompt, --conditions, --enable or --disable")
    if text == "":
        raise SettingsError("the prompt is empty")
    with asking(project, destination, quiet=quiet) as at:
        row = evaluations.evaluation(at.client, at.project_id, wanted_id)
        if text is not None:
            try:
                wanted |= evaluations.with_prompt(row, text)
            except ValueError as exc:
                raise SettingsError(str(exc), hint="only judges (llm_judge) have one") from exc
        changes = evaluations.changed(row, wanted)
        if not changes:
            at.note("nothing to change: the evaluation is so already")
            _show(row, json_output=json_output)
            return
        _change(at, wanted_id, row, changes, f"will be changed: {', '.join(changes)}", yes=yes, json_output=json_output)


def _sets(given: list[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for one in given:
        key, sign, value = one.partition("=")
        if not sign or key not in SETTABLE:
            raise SettingsError(f"--set {one!r} is not understood", hint="expected --set name=… or --set description=…")
        wanted[key] = value
    return wanted


@app.command()
def delete(
    name: Id,
    yes: Yes = False,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Delete an evaluation softly. restore brings it back."""
    from extractors.lists import evaluations
    from flows.cli.asking import asking, uuid_of

    wanted = uuid_of(name, "evaluations")
    with asking(project, destination, quiet=quiet) as at:
        row = evaluations.evaluation(at.client, at.project_id, wanted)
        told = "will be deleted (hedgerow evaluations restore brings it back)"
        _change(at, wanted, row, {"deleted": True}, told, yes=yes, json_output=json_output)


@app.command()
def restore(
    name: Id,
    yes: Yes = False,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Bring a deleted evaluation back."""
    from extractors import errors
    from extractors.lists import evaluations
    from flows.cli.asking import asking, uuid_of

    wanted = uuid_of(name, "evaluations")
    with asking(project, destination, quiet=quiet) as at:
        try:
            row = evaluations.evaluation(at.client, at.project_id, wanted)
        except errors.NotFound:
            # PostHog hides deleted ones from GET, and finds them for PATCH (§4).
            _change(at, wanted, {}, {"deleted": False}, "will be restored", yes=yes, json_output=json_output)
            return
        at.note("nothing to restore: the evaluation is not deleted")
        _show(row, json_output=json_output)


def _change(
    at: Asking, name: UUID, row: Row, changes: dict[str, Any], told: str, *, yes: bool, json_output: bool
) -> None:
    """Say it, ask, do it, and show the row as it then is."""
    from extractors.lists import evaluations
    from flows.cli.asking import agreed

    called = f" {row['name']!r}" if row.get("name") else ""
    agreed(f"evaluation {name}{called} in project {at.project_id} of {at.client.host} {told}", yes=yes)
    after = evaluations.change(at.client, at.project_id, name, changes)
    if after is None:
        _show({**row, **changes, "id": str(name)}, json_output=json_output)
    else:
        _show(after, json_output=json_output)


def _show(row: Row, *, json_output: bool) -> None:
    from flows.report import documents, terminal

    if json_output:
        documents.as_json(row)
        return
    state = "deleted" if row.get("deleted") else "enabled" if row.get("enabled") else "disabled"
    terminal.say(f"evaluation {row['id']} {row.get('name') or ''!r}: {state}")
