"""The command line for tests that need no process of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from extractors.simulator.server import Simulator
from flows.cli import app, ending
from tests.program import Command, Ended


@pytest.fixture
def hedgerow(tmp_path, monkeypatch, capsys) -> Iterator[Command]:
    """The command line in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)

    def run(simulator: Simulator, *arguments: str, **more: str) -> Ended:
        named = {
            "POSTHOG_HOST": simulator.url,
            "POSTHOG_PROJECT_ID": "1",
            "POSTHOG_PERSONAL_API_KEY": simulator.key,
            "HEDGEROW_STATE_DIR": str(tmp_path / "state"),
            "COLUMNS": "200",
            **more,
        }
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        error = ""
        try:
            status = app.app(arguments, standalone_mode=False) or 0
        except Exception as exc:
            status, failure = ending.explained(exc)
            error = failure.text
        said = capsys.readouterr()
        return Ended(status, said.out, said.err + error)

    yield run
    os.umask(before)


@pytest.fixture
def main(capsys, monkeypatch) -> Iterator[Callable[[Sequence[str], Path, Mapping[str, str]], Ended]]:
    """The whole program, from its entry point to its exit status, in this process: arguments, directory, environment.

    What it changes of the process is put back. A start of its own costs a second, and imports are not what it tests.
    """
    monkeypatch.setattr(os, "_exit", sys.exit)
    directory, environment, umask, term = (
        os.getcwd(),
        dict(os.environ),
        os.umask(0o022),
        signal.getsignal(signal.SIGTERM),
    )

    def back() -> None:
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        os.umask(umask)
        signal.signal(signal.SIGTERM, term)

    def run(arguments: Sequence[str], home: Path, variables: Mapping[str, str]) -> Ended:
        os.chdir(home)
        os.environ.clear()
        os.environ.update(variables)
        given = sys.argv
        sys.argv = ["hedgerow", *arguments]
        try:
            with pytest.raises(SystemExit) as ended:
                app.main()
        finally:
            sys.argv = given
            back()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    yield run
    back()
