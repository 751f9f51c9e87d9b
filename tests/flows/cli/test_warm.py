"""What tests/warm.py forks is as a command that a user starts: else tests of commands would prove nothing."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.program import HEDGEROW, run, surroundings


@pytest.mark.parametrize(
    ("arguments", "status"), [(["settings"], 0), (["sql", "FROM nowhere"], 12), (["sinc"], 2)], ids=str
)
def test_a_forked_command_ends_as_a_started_one(arguments, status, tmp_path):
    """Status, output and error to the letter, by its own arguments, directory and environment."""
    around = surroundings(tmp_path, COLUMNS="90", HEDGEROW_DESTINATION="duckdb:here.duckdb", POSTHOG_PROJECT_ID="4711")
    forked = run(arguments, tmp_path, around)
    started = subprocess.run([HEDGEROW, *arguments], cwd=tmp_path, env=around, capture_output=True, check=False)

    assert forked.returncode == status
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_a_command_that_takes_too_long_is_killed_and_the_next_one_runs(tmp_path):
    """As subprocess.run has it."""
    os.mkfifo(tmp_path / "query.sql")
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sql", "@query.sql"], tmp_path, surroundings(tmp_path), timeout_s=0.2)

    assert time.monotonic() - began < 20
    assert run(["--version"], tmp_path, surroundings(tmp_path)).returncode == 0


def test_commands_at_one_time_are_each_their_own(tmp_path):
    """One that begins while another runs is started as a user does, and neither has the other's words."""
    words: list[str] = []

    def told(home: Path, *arguments: str) -> None:
        home.mkdir()
        words.append(run(arguments, home, surroundings(home)).stderr.decode())

    threads = [threading.Thread(target=told, args=(tmp_path / name, name)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(text.partition("'")[2].partition("'")[0] for text in words) == ["one", "two"]
