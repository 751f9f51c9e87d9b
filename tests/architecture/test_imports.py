"""The arrows of the design: who may import whom, and which effects live where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("flows", "extractors", "transforms", "sinks")
PREFECT = {"adapter", "automations", "parts", "events", "exports", "evaluations", "backfill", "verify"}
FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    """Full names of the modules that *file* imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_room_imports_along_the_arrows(file):
    """flows knows all; extractors, transforms and sinks know no other room; Prefect only in @flow files and beside them."""
    room = file.relative_to(ROOT).parts[0]
    if room != "flows":
        assert not tops(file) & (set(ROOMS) - {room})
    if room != "flows" or file.stem not in PREFECT:
        assert "prefect" not in tops(file)


@pytest.mark.parametrize("file", sorted((ROOT / "extractors/simulator").glob("*.py")), ids=lambda file: file.stem)
def test_simulator_stands_alone(file):
    """The simulator shares no code with the client it tests."""
    ours = {name for name in imported(file) if name.split(".")[0] in ROOMS}
    assert all(name.startswith("extractors.simulator") for name in ours)


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("httpx", {"extractors/client.py"}),
        ("polars", {f"transforms/{name}.py" for name in ("copies", "digest", "events", "privacy", "tables")}),
    ],
)
def test_library_stays_in_its_room(library, homes):
    """httpx is imported in one module, polars inside transforms."""
    assert {str(file.relative_to(ROOT)) for file in FILES if library in tops(file)} <= homes


def test_environment_is_read_in_one_place():
    """os.environ is read by the settings and nowhere else."""
    readers = {file.name for file in FILES if "os.environ" in file.read_text() or "getenv" in file.read_text()}
    assert readers == {"settings.py"}


def test_program_is_started_from_the_tree_that_is_tested():
    """Tests that choose its environment take it from tests/program.py: else the installed package would run."""
    path = "/usr" + "/bin"
    choosing = {
        str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("*.py") if f"{path}:" in file.read_text()
    }
    assert choosing == {"tests/program.py"}
