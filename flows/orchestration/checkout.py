"""The pull step of every deployment (prefect.yaml): finds the checkout on the worker's machine when a run starts.

It runs before Prefect's engine does. Imports little, as it delays every run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Failed

from flows.settings.load import environment
from flows.settings.parse import SettingsError

HOME = "HEDGEROW_HOME"
_HINT = f"set {HOME} in the environment of the worker to the checkout of hedgerow on its machine, and start it again"


def enter() -> dict[str, str]:
    """Change into the worker's checkout; give its `directory`, as Prefect's own steps do. Raises SettingsError.

    Whatever a pull step raises, Prefect calls the run Crashed, "exited with status code: 1". So a run without a checkout
    is ended here, as Failed and with the reason: Prefect does not let a run that has ended crash.
    """
    given = environment({})
    try:
        home = found(given)
    except SettingsError as exc:
        _fail(given.get("PREFECT__FLOW_RUN_ID", ""), f"{exc} → {exc.hint}")
        raise
    os.chdir(home)
    return {"directory": str(home)}


def found(given: Mapping[str, str]) -> Path:
    """The checkout that the environment *given* names. Raises SettingsError where it names none, or none that can be read."""
    named = given.get(HOME, "").strip()
    if not named:
        raise SettingsError(f"{HOME} is not set on this worker", hint=_HINT)
    home = Path(named)
    if not home.is_absolute():
        raise SettingsError(f"{HOME} is {named!r} on this worker: expected an absolute path", hint=_HINT)
    try:
        there = (home / "flows" / "__init__.py").is_file()
    except OSError:  # not ours to look into
        there = False
    if not there:
        raise SettingsError(f"{HOME} is {named} on this worker, and no checkout of hedgerow is there", hint=_HINT)
    return home


def _fail(run_id: str, message: str) -> None:
    if not run_id:
        return
    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(run_id), Failed(message=message))
    except Exception as exc:
        logging.getLogger("hedgerow").warning("Prefect could not be told: %s: %s", type(exc).__name__, exc)
