"""The arrows of the design: who may import whom, and which effects live where."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("flows", "extractors", "transforms", "sinks")
PREFECT = {"adapter", "automations", "parts", "events", "exports", "evaluations", "backfill", "verify"}
FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    """Full names of the modules that *file* imports, wherever in it."""
    return names(file.read_text(encoding="utf-8"), package=file.relative_to(ROOT).parent.parts)


def names(code: str, *, package: tuple[str, ...]) -> set[str]:
    """Full names of what *code* imports as a module of *package*, relative ones too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            home = ".".join([*above, *([node.module] if node.module else [])])
            found |= {home} | {f"{home}.{alias.name}" for alias in node.names}
    return found


def tops(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("import a.b, c", {"a.b", "c"}, id="whole"),
        pytest.param("from a.b import c", {"a.b", "a.b.c"}, id="from"),
        pytest.param("from . import y", {"room.inner", "room.inner.y"}, id="beside"),
        pytest.param("from .x import y", {"room.inner.x", "room.inner.x.y"}, id="beside, of a module"),
        pytest.param("from ..queries import x", {"room.queries", "room.queries.x"}, id="above, of a module"),
        pytest.param("from .. import queries", {"room", "room.queries"}, id="above"),
        pytest.param("def f():\n    from ..a import b as c", {"room.a", "room.a.b"}, id="inside, under another name"),
    ],
)
def test_imports_are_seen_however_they_are_written(code, expected):
    """A relative import names the same module as an absolute one."""
    assert names(code, package=("room", "inner")) == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_room_imports_along_the_arrows(file):
    """flows knows all; extractors, transforms and sinks know no other room; Prefect only in @flow files and beside them."""
    room = file.relative_to(ROOT).parts[0]
    assert "tests" not in tops(file)
    if room != "flows":
        assert not tops(file) & (set(ROOMS) - {room})
    if room != "flows" or file.stem not in PREFECT:
        assert "prefect" not in tops(file)


@pytest.mark.parametrize("file", sorted((ROOT / "extractors/simulator").glob("*.py")), ids=lambda file: file.stem)
def test_simulator_stands_alone(file):
    """The simulator shares no code with the client it tests."""
    ours = {name for name in imported(file) if name.split(".")[0] in ROOMS}
    assert all(name.startswith("extractors.simulator") for name in ours)


SECOND = [file for file in (ROOT / "tests/second_server").glob("*.py") if not file.stem.startswith("test_")]


@pytest.mark.parametrize("file", sorted(SECOND), ids=lambda file: file.stem)
def test_second_server_stands_alone(file):
    """It shares no code with the simulator, the product or other tests: the standard library, chdb and its own files."""
    others = {name for name in imported(file) if name.split(".")[0] not in {*sys.stdlib_module_names, "chdb"}}
    assert all(name.startswith("tests.second_server") for name in others)


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("httpx", {"extractors/http/client.py"}),
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
