"""A check that cannot fail proves nothing: each break of the product must turn its tests red."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.breaks import BREAKS, DECIDES_NOTHING, Break
from tests.mutants.copy import ROOT, Copy

ROOMS = ("flows", "extractors", "transforms", "sinks")
SAMPLED = 6  # breaks that CI sees red at each commit; about 8 s each


def of_commit(commit: str, count: int) -> list[Break]:
    """*count* breaks that the hash *commit* chooses: the same for the same commit, others for the next."""
    return sorted(BREAKS, key=lambda one: hashlib.sha256(f"{commit} {one.name}".encode()).digest())[:count]


def head() -> str:
    """Hash of the commit that is checked out; empty where there is no repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The product and its tests, to be broken."""
    return Copy.into(tmp_path_factory.mktemp("broken"))


def broken(one: Break) -> str:
    """Its file's text with the break."""
    return (ROOT / one.file).read_text(encoding="utf-8").replace(one.old, one.new)


@pytest.mark.parametrize("one", BREAKS, ids=lambda one: one.name)
def test_break_finds_its_place(one: Break):
    """The text to break stands once in its file, so that the table follows the code."""
    assert (ROOT / one.file).read_text(encoding="utf-8").count(one.old) == 1


def test_every_file_that_decides_has_a_break():
    """A file of the product without a break is one that decides nothing, and says why."""
    files = {str(file.relative_to(ROOT)) for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    files -= {file for file in files if file.endswith("__init__.py")}

    assert files - {one.file for one in BREAKS} == set(DECIDES_NOTHING)


def test_commit_chooses_its_breaks():
    """The same commit the same ones, and within two hundred commits most have their turn."""
    commits = [f"{number:040x}" for number in range(200)]

    assert of_commit(commits[0], SAMPLED) == of_commit(commits[0], SAMPLED) != of_commit(commits[1], SAMPLED)
    assert len({one.name for commit in commits for one in of_commit(commit, SAMPLED)}) > len(BREAKS) / 2


@pytest.mark.parametrize("one", of_commit(head(), SAMPLED), ids=lambda one: one.name)
def test_break_of_this_commit_turns_its_tests_red(one: Break, copy):
    """A sample of the breaks in each run of CI; the others in the long run."""
    assert copy.verdict(one.file, broken(one), one.tests) == ""


@pytest.mark.long
def test_copy_is_what_runs(copy):
    """The copy's packages are imported, not the installed ones."""
    code = "import flows, sinks; print(flows.__file__, sinks.__file__)"
    environment = os.environ | {"PYTHONPATH": str(copy.directory)}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=copy.directory, env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.count(str(copy.directory)) == 2


@pytest.mark.parametrize(
    ("text", "tests", "said"),
    [
        ("def limit():\n    return 1\n", "test_it.py", "no test failed (pytest's status 0)"),
        ("def limit():\n    return 2\n", "test_it.py", ""),
        ("def limit(:\n", "test_it.py", "no test failed (pytest's status 2)"),
        ("def limit():\n    return 2\n", "test_it.py -k nobody", "no test failed (pytest's status 5)"),
        ("def limit():\n    return 1\n", "test_red.py", "test_red.py::test_anyway fails without the break as well"),
    ],
    ids=["green", "red", "cannot be read", "no test chosen", "red anyway"],
)
def test_only_a_test_that_fails_by_the_break_counts(text, tests, said, tmp_path):
    """Green, not collected, and red without the break as well are no proof of a break."""
    (tmp_path / "it.py").write_text("def limit():\n    return 1\n")
    (tmp_path / "test_it.py").write_text("import it\n\n\ndef test_limit():\n    assert it.limit() == 1\n")
    (tmp_path / "test_red.py").write_text("def test_anyway():\n    assert False\n")

    verdict = Copy(Path(tmp_path)).verdict("it.py", text, tests)

    assert verdict.startswith(said)
    assert bool(verdict) == bool(said)


@pytest.mark.long
@pytest.mark.parametrize("one", BREAKS, ids=lambda one: one.name)
def test_break_turns_its_tests_red(one: Break, copy):
    """Red by a failing test that is green without the break, not by one that could not be collected or never ended."""
    assert copy.verdict(one.file, broken(one), one.tests) == ""
