"""The command line for tests that need no process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from extractors.simulator.server import Simulator
from flows import cli
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
            status = cli.app(arguments, standalone_mode=False) or 0
        except Exception as exc:
            status, error = cli._explained(exc)
        said = capsys.readouterr()
        return Ended(status, said.out, said.err + error)

    yield run
    os.umask(before)
