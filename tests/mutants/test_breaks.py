"""A check that cannot fail proves nothing: each break of the product must turn its tests red."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.breaks import BREAKS, Break

ROOT = Path(__file__).parents[2]
COPIED = ("flows", "extractors", "transforms", "sinks", "tests", "pyproject.toml")
FAILED = 1  # pytest's exit status for red tests; usage and collection errors have others


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product and its tests, to be broken."""
    directory = tmp_path_factory.mktemp("broken")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__", "mutants"))
        else:
            shutil.copy(source, directory / name)
    return directory


def run(copy: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """The named tests in *copy*, with its own packages."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not long", "-p", "no:cacheprovider", "--timeout=120"]
    return subprocess.run(
        [*command, *shlex.split(tests)],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("one", BREAKS, ids=lambda one: one.name)
def test_break_finds_its_place(one: Break):
    """The text to break stands once in its file, so that the table follows the code."""
    assert (ROOT / one.file).read_text(encoding="utf-8").count(one.old) == 1


@pytest.mark.long
def test_copy_is_what_runs(copy):
    """The copy's packages are imported, not the installed ones."""
    code = "import flows, sinks; print(flows.__file__, sinks.__file__)"
    environment = os.environ | {"PYTHONPATH": str(copy)}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.count(str(copy)) == 2


@pytest.mark.long
@pytest.mark.parametrize("one", BREAKS, ids=lambda one: one.name)
def test_break_turns_its_tests_red(one: Break, copy):
    """Red by a failing test, not by one that could not be collected or never ended."""
    file = copy / one.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole.replace(one.old, one.new), encoding="utf-8")
    try:
        done = run(copy, one.tests)
    finally:
        file.write_text(whole, encoding="utf-8")

    assert done.returncode == FAILED, done.stdout[-3000:]
    assert "Timeout" not in done.stdout
