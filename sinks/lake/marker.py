"""What a lake says of itself: its format, and from which host each of its projects comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from sinks import errors
from sinks.lake.journal import HOME
from sinks.objects.base import Exists, Missing, Objects
from sinks.sink import FORMAT

FORMAT_PATH = f"{HOME}/format"
PROJECTS = f"{HOME}/projects"


def check_format(objects: Objects, *, write: bool, attempt: Callable[[], None] = lambda: None) -> None:
    """Look whether a lake is there, or may be made. *attempt*: tries the store, and hears of no place that is not ours."""
    found = _format(objects)
    if found is None:
        other = next((one.path for one in objects.list() if not one.path.startswith(f"{HOME}/")), None)
        if other is not None and _format(objects) is None:  # else another process has begun the lake meanwhile
            raise errors.DestinationUnusable(
                f"{objects.name} holds files that are not hedgerow's: {other}",
                hint="give a prefix or directory of its own; nothing was changed",
            )
    elif found > FORMAT:
        raise errors.DestinationUnusable(
            f"{objects.name} was written by a newer hedgerow: format {found}, this one knows {FORMAT}",
            hint="upgrade hedgerow",
        )
    attempt()
    if found is None and write:
        with suppress(Exists):
            objects.put(FORMAT_PATH, json_of(format=FORMAT), create=True)
    elif found is not None and found < FORMAT and write:
        objects.put(FORMAT_PATH, json_of(format=FORMAT))  # an older hedgerow would not see what this one notes


def _format(objects: Objects) -> int | None:
    """The lake's format; None where there is no lake yet."""
    try:
        return int(msgspec.json.decode(objects.get(FORMAT_PATH)[0])["format"])
    except Missing:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise errors.DestinationUnusable(
            f"{objects.name}: {FORMAT_PATH} cannot be read", hint="is this a lake of hedgerow? nothing was changed"
        ) from exc


def check_host(objects: Objects, project_id: int, host: str, *, write: bool) -> None:
    path = f"{PROJECTS}/{project_id}.json"
    known = host_of(objects, project_id)
    if known is None and write:
        with suppress(Exists):
            objects.put(path, json_of(host=host), create=True)
        known = host_of(objects, project_id)
    if known is not None and known != host:
        raise errors.HostChanged(
            f"project {project_id} in {objects.name} comes from {known}, not from {host}",
            hint="use another destination for another PostHog host",
        )


def projects_of(objects: Objects) -> tuple[int, ...]:
    """The projects that were begun here, in order."""
    found = (project_of(one.path) for one in objects.list(PROJECTS))
    return tuple(sorted(project_id for project_id in found if project_id is not None))


def project_of(path: str) -> int | None:
    """The project that the object at *path* tells of; None for any other object."""
    name = path.removeprefix(f"{PROJECTS}/").removesuffix(".json")
    return int(name) if name.isdigit() and path == f"{PROJECTS}/{name}.json" else None


def host_of(objects: Objects, project_id: int) -> str | None:
    """The PostHog host of a project; None for one that was never landed."""
    try:
        return str(msgspec.json.decode(objects.get(f"{PROJECTS}/{project_id}.json")[0])["host"])
    except Missing:
        return None


def json_of(**values: object) -> bytes:
    return msgspec.json.encode(values)
