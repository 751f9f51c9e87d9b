"""`hedgerow exports …`: exported assets of the key's owner."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import HELP, INCOMPLETE, Commands, Destination, Json, OneProject, Quiet, Verbose, Yes
from flows.settings.parse import SettingsError, duration, instant

if TYPE_CHECKING:
    from extractors.lists.exports import Asset, NewExport
    from flows.cli.asking import Asking

app = typer.Typer(
    help="Exported assets: list, make, download.",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings=HELP,
)
# Listening to a POST: a proxy may cut it at about a minute or two anyway, and then the asset is found by its mark.
WAITING_ANSWER_S, ANSWER_S = 100.0, 30.0


def _id(given: str) -> int:
    """The id of an export. Raises SettingsError."""
    if not re.fullmatch(r"[0-9]{1,18}", given):
        raise SettingsError(
            f"{given!r} is no id of an export", hint="expected a number, as hedgerow exports list shows them"
        )
    return int(given)


Id = Annotated[int, typer.Argument(help="Id of the export.", parser=_id, metavar="ID")]


class Kind(StrEnum):
    CSV = "csv"
    XLSX = "xlsx"
    PNG = "png"
    PDF = "pdf"
    JSON = "json"
    WEBM = "webm"
    MP4 = "mp4"
    GIF = "gif"


@app.command("list")
def list_exports(
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the newest.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="One page as PostHog gives it.")] = None,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the exports of the key's owner, newest first. Each once, also while others are made."""
    from extractors.lists import exports, lookups
    from flows.cli.asking import asking
    from flows.report import documents, terminal

    with asking(project, destination, quiet=quiet) as at:
        if offset is None:
            found = list(islice(exports.assets(at.client, at.project_id), limit))
        else:
            page = lookups.listed(at.client, at.project_id, "exports/", limit=limit or 100, offset=offset)
            found = [exports.asset_of(row) for row in page.rows]
            at.note(f"--offset: {len(found)} of {page.count}; rows move down while others are made")
    if json_output:
        documents.as_json({"exports": [one.row for one in found]})
        return
    columns = ("id", "format", "file", "created", "state", "expires")
    rows = [
        (one.id, _short(one), one.filename, _minute(one.created_at), _state(one), _minute(one.expires_after))
        for one in found
    ]
    terminal.show_table(columns, rows)


def _short(one: Asset) -> str:
    from extractors.lists.exports import FORMATS

    return next((short for short, long in FORMATS.items() if long == one.export_format), one.export_format)


def _minute(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _state(one: Asset) -> str:
    from extractors.lists.exports import failure

    if one.has_content:
        return "ready"
    reason = failure(one)
    return "under way" if reason is None else f"failed: {reason[:60]}"


@app.command("get")
def get_export(
    asset_id: Id,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print one export as PostHog shows it."""
    from extractors.lists import exports
    from flows.cli.asking import asking
    from flows.report import documents

    with asking(project, destination, quiet=quiet) as at:
        one = exports.asset(at.client, at.project_id, asset_id)
        at.note(f"export {one.id}: {_state(one)}")
    documents.as_json(one.row)


# Longer than others: its parameters are the command's options, with their help.
@app.command()
def create(
    kind: Annotated[Kind, typer.Option("--format", help="Format of the export.")],
    insight: Annotated[int | None, typer.Option("--insight", help="Numeric id of an insight.")] = None,
    dashboard: Annotated[int | None, typer.Option("--dashboard", help="Numeric id of a dashboard.")] = None,
    context: Annotated[str | None, typer.Option("--context", help="export_context: a JSON object, or @FILE.")] = None,
    expires_after: Annotated[
        str | None, typer.Option("--expires-after", help="Time, or duration from now; today's servers ignore it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is ready, 36 minutes at most.")] = False,
    yes: Yes = False,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Order an export at PostHog, once. A lost answer makes no second one."""
    from extractors.lists import exact, exports
    from flows.assets import ordering
    from flows.cli.asking import agreed, asking
    from flows.report import documents, terminal
    from flows.runs import wiring

    now = wiring.now()
    order = _order(kind, insight, dashboard, context, expires_after=_later(expires_after, now))
    with asking(project, destination, quiet=quiet) as at:
        agreed(
            f"export {kind} of {_target(order)} will be made in project {at.project_id} of {at.client.host}", yes=yes
        )
        if kind is Kind.JSON:
            at.note("json: PostHog makes tables as csv and xlsx only; it may take this order and never end it")
        if order.context and "/events" in str(exact.loads(order.context.encode()).get("path", "")):
            at.note("an export of the events list by path loses events, as that list does: hedgerow sync does not")
        one = ordering.make(
            at.client,
            order,
            ordering.OrderNotes(at.settings.source.state_dir, at.settings.source.host, at.project_id, now),
            answer_s=WAITING_ANSWER_S if wait else ANSWER_S,
            pause=time.sleep,
            on_note=at.note,
        )
        at.note(f"export {one.id} is ordered; it expires {_minute(one.expires_after) or 'never'}")
        wanted = order.expires_after
        if wanted and one.expires_after and abs((one.expires_after - wanted).total_seconds()) > 86_400:
            at.note("the expiry is PostHog's own: what was asked is ignored")
        if wait:
            one = exports.finished(at.client, at.project_id, one, pause=time.sleep, on_look=_told(at))
        elif exports.failure(one):
            _raise_failed(one)
    if json_output:
        documents.as_json(one.row)
    else:
        terminal.say(
            f"export {one.id}: {_state(one)}" + ("" if one.has_content else f" (hedgerow exports get {one.id})")
        )


def _raise_failed(one: Asset) -> None:
    from extractors.errors import RequestRefused

    raise RequestRefused(f"export {one.id} failed: {str(one.exception)[:300]}")


def _told(at: Asking) -> Callable[[Asset], None]:
    """Says what is waited for when it changes; that it is ready, the result says."""
    last = ["ready"]

    def told(one: Asset) -> None:
        state = _state(one)
        if state not in last:
            at.note(f"export {one.id}: {state}")
            last[1:] = [state]

    return told


def _later(given: str | None, now: datetime) -> datetime | None:
    """A time, or a duration from now on."""
    if given is None:
        return None
    try:
        return now + duration(given)
    except (ValueError, OverflowError):
        return instant(given, now=now)


def _order(
    kind: Kind, insight: int | None, dashboard: int | None, context: str | None, *, expires_after: datetime | None
) -> NewExport:
    from extractors.lists import exact
    from extractors.lists.exports import FORMATS, NewExport
    from flows.cli.asking import json_of

    if context is not None:
        found = json_of("--context", context)
        if not isinstance(found, dict):
            raise SettingsError("--context is no JSON object")
        context = exact.dumps(found)
    try:
        return NewExport(FORMATS[kind], insight, dashboard, context, expires_after)
    except ValueError as exc:
        raise SettingsError(str(exc), hint="give --insight, --dashboard or --context") from exc


def _target(order: NewExport) -> str:
    parts = [
        f"{name} {number}" for name, number in (("insight", order.insight), ("dashboard", order.dashboard)) if number
    ]
    return " and ".join([*parts, *(["what --context says"] if order.context else [])])


@app.command()
def download(
    asset_id: Id,
    output: Annotated[Path | None, typer.Option("--output", help="File to write; else its own name, here.")] = None,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch the content of an export to a file, whole or not at all. Exit 3 if the source may have cut it."""
    from extractors.errors import SourceUnavailable
    from extractors.lists import contents, exports
    from flows.cli.asking import asking
    from flows.report import documents, terminal
    from flows.runs.destinations import check_output

    with asking(project, destination, quiet=quiet) as at:
        one = exports.asset(at.client, at.project_id, asset_id)
        if not one.has_content:
            if exports.failure(one):
                _raise_failed(one)
            raise SourceUnavailable(
                f"export {asset_id} is not ready", hint=f"look again later: hedgerow exports get {asset_id}"
            )
        path = _free(output, contents.safe_name(one))
        check_output(at.settings, path)
        try:
            with _progress(path.name, quiet=quiet) as heard:
                done = contents.download(at.client, at.project_id, one, path, on_bytes=heard)
        except OSError as exc:
            raise SettingsError(f"cannot write {path}: {exc.strerror}", hint="choose another --output") from exc
    problems = (
        [f"export {one.id} has exactly {done.rows:,} rows, a cap of PostHog's: it may be cut"]
        if done.possibly_cut
        else []
    )
    if json_output:
        documents.as_json(_downloaded(done, problems))
    elif not quiet:
        rows = "" if done.rows is None else f", {done.rows:,} rows"
        terminal.say(f"{path}: {done.bytes:,} bytes{rows}, sha256 {done.sha256}")
    for problem in problems:
        terminal.note(f"incomplete: {problem}", style="yellow")
    if problems:
        raise typer.Exit(INCOMPLETE)


def _downloaded(done: Any, problems: list[str]) -> Mapping[str, object]:
    names = ("sha256", "bytes", "rows", "possibly_cut")
    return {"path": str(done.path), **{name: getattr(done, name) for name in names}, "problems": problems}


def _free(output: Path | None, name: str) -> Path:
    """Where to write: what the user named, or a new file here. A name that PostHog chose replaces nothing."""
    path = output if output is not None and not output.is_dir() else (output or Path()) / name
    if path != output and (path.exists() or path.is_symlink()):
        raise SettingsError(f"{path} is there already", hint="give --output FILE to replace a file")
    if path.exists() and not path.is_file():
        raise SettingsError(f"{path} is no ordinary file", hint="give --output FILE")
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"no such directory: {path.absolute().parent}", hint="make it, or choose another --output")
    return path


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from flows.report import terminal

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    hidden = quiet or not terminal.stderr.is_terminal
    with Progress(*columns, console=terminal.stderr, transient=True, disable=hidden) as bar:
        task = bar.add_task(name[:40], total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
