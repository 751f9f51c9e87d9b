"""What look-ups and writes at PostHog share: one project's client, JSON arguments, the question before a write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import typer

from extractors.http.client import Client
from flows.report import terminal
from flows.runs import wiring
from flows.runs.wiring import Listener
from flows.settings.load import load
from flows.settings.model import Settings
from flows.settings.parse import SettingsError, json_value


@dataclass(frozen=True, slots=True)
class Asking:
    """A client and the one project that is asked."""

    settings: Settings
    project_id: int
    client: Client
    quiet: bool
    listener: Listener

    def note(self, text: str) -> None:
        """A line for people beside the result."""
        if not self.quiet:
            terminal.note(text)


@contextmanager
def asking(project: str | None, destination: str | None, *, quiet: bool) -> Iterator[Asking]:
    """Raises SettingsError unless exactly one project is set."""
    settings = load({"source.project_id": project, "destination.address": destination}).settings
    project_id, *others = wiring.projects(settings)
    if others:
        raise SettingsError("several projects are set", hint=f"name one, such as --project {project_id}")

    with (
        terminal.waits(quiet=quiet) as listener,
        wiring.client_of(settings, listener=listener, max_wait=None) as (client, _),
    ):
        yield Asking(settings, project_id, client, quiet, listener)


def agreed(what: str, *, yes: bool) -> None:
    """Say what will be written to PostHog and go on only if that is wanted. Raises SettingsError (exit 2) otherwise."""
    terminal.note(what)
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError("nothing was written: there is no terminal to ask on", hint="add --yes to do it")
    if not typer.confirm("Do it?", err=True):
        raise SettingsError("nothing was written, as you answered")


def text_of(given: str) -> str:
    """An argument, or for @FILE what the file holds. Raises SettingsError."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise SettingsError(f"cannot read {given[1:]}: {reason}", hint="give the path of a text file after @") from exc


def json_of(name: str, given: str) -> object:
    """The JSON of the argument *name*, or of the file it names, its numbers with their digits. Raises SettingsError."""
    try:
        return json_value(text_of(given))
    except ValueError as exc:
        raise SettingsError(f"{name} is no JSON: {exc}", hint=f"{name} takes JSON, or @FILE") from exc


def names_of(name: str, given: str | None) -> tuple[str, ...]:
    """A JSON array of texts, or one text by itself."""
    if given is None:
        return ()
    found = json_of(name, given) if given.lstrip()[:1] in ("[", "@") else [given]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise SettingsError(f"{name} is no list of expressions", hint=f"{name} takes a JSON array of texts")
    return tuple(found)


def uuid_of(given: str, what: str) -> UUID:
    """The uuid of one of *what* that `hedgerow WHAT list` shows. Raises SettingsError."""
    try:
        return UUID(given)
    except ValueError:
        hint = f"expected a uuid, as hedgerow {what} list shows them"
        raise SettingsError(f"{given!r} is no uuid", hint=hint) from None
