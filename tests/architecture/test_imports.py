"""The arrows of the design: who may import whom, and which effects live where."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ("flows", "extractors", "transforms", "sinks")
FILES = [file for name in HOUSE for file in sorted((ROOT / name).rglob("*.py"))]
BASE = ("extractors", "transforms", "sinks")
ARROWS: dict[str, tuple[str, ...]] = {
    # The @flow files, whose addresses prefect.yaml names, stand at the top of flows/; nothing else does.
    "flows": (*BASE, "flows.orchestration", "flows.runs", "flows.assets", "flows.settings"),
    "flows.orchestration": (*BASE, "flows.report", "flows.runs", "flows.assets", "flows.settings", "flows.landing"),
    "flows.cli": (*BASE, "flows.report", "flows.runs", "flows.assets", "flows.settings", "flows.landing"),
    "flows.report": (*BASE, "flows.runs", "flows.assets", "flows.settings", "flows.landing"),
    "flows.assets": (*BASE, "flows.runs", "flows.settings", "flows.landing", "flows.report.words"),
    "flows.runs": (*BASE, "flows.settings", "flows.landing", "flows.report.words"),
    "flows.landing": BASE,
    # What the table of streams reserves, no setting may take; that table is a leaf.
    "flows.settings": ("flows.runs.catalog",),
    "extractors": (),
    "extractors.http": ("extractors",),
    "extractors.reading": ("extractors", "extractors.http"),
    "extractors.lists": ("extractors", "extractors.http", "extractors.reading"),
    "extractors.simulator": (),
    "extractors.simulator.data": ("extractors.simulator",),
    "extractors.simulator.assets": ("extractors.simulator",),
    "extractors.simulator.http": ("extractors.simulator", "extractors.simulator.data", "extractors.simulator.assets"),
    "transforms": (),
    "sinks": (),
    "sinks.objects": ("sinks",),
    "sinks.lake": ("sinks", "sinks.objects"),
    "sinks.duckdb_file": ("sinks",),
}
"""Which rooms each room may know, beside itself. `flows` knows of other rooms whatever they hold, as `extractors` stands
there for all its rooms; among themselves a name means the modules that lie in that room, and in none inside it."""
WHOLE = {
    "extractors.simulator": ("extractors.simulator.http", "extractors.simulator.data", "extractors.simulator.assets"),
}
"""Modules at the top of a room that put its rooms together: server.py is where users find the simulator."""
PREFECT = ("flows", "flows.orchestration")


def room_of(module: str) -> str:
    """The innermost room that a module lies in."""
    parts = module.split(".")
    return next(".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in ARROWS)


def may(room: str, module: str) -> bool:
    """Whether modules of *room* may import *module*."""
    other = room_of(module)
    return (
        other == room
        or module in ARROWS[room]
        or other in (*ARROWS[room], *WHOLE.get(room, ()))
        or (room.startswith("flows") and other.split(".")[0] in ARROWS[room] and not other.startswith("flows"))
    )


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


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
    """Every import goes along an arrow of the table; Prefect is known in one wing and the @flow files."""
    room = room_of(module_of(file))
    assert "tests" not in tops(file)
    assert [name for name in sorted(imported(file) & set(MODULES)) if not may(room, name) and name not in ARROWS] == []
    assert "prefect" not in tops(file) or room in PREFECT


LONGEST_FILE, LONGEST_FUNCTION, LONGER = 350, 45, 5


def test_files_and_functions_can_be_read_at_a_sitting():
    """A handful of functions are longer, and say why in the line above."""
    assert {str(file): lines for file in FILES if (lines := len(file.read_text().splitlines())) > LONGEST_FILE} == {}
    longer = []
    for file in FILES:
        lines = file.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION:
                    longer.append((node.name, lines[first - 2].startswith("# Longer than others: ")))
    assert [name for name, said in longer if not said] == []
    assert len(longer) <= LONGER


def test_top_of_flows_holds_what_prefect_is_told_of():
    """Whoever looks for the way in sees the deployments' flows, and nothing beside them."""
    named = re.findall(r"entrypoint: (\S+):", (ROOT / "prefect.yaml").read_text())
    there = {str(file.relative_to(ROOT)) for file in (ROOT / "flows").glob("*.py")} - {"flows/__init__.py"}
    assert there == set(named)


def test_page_of_the_rooms_shows_them_as_they_are():
    """Every room has its line, and its figures are true to a sixth."""
    lines = re.findall(r"^\| `(\S+)` \| (\d+) \| ([\d,]+) \|", (ROOT / "docs/rooms.md").read_text(), re.MULTILINE)
    inside = {name.replace(".", "/") for name in ARROWS if not name.startswith("extractors.simulator.")}

    assert {name for name, _, _ in lines} == inside
    for name, files, length in lines:
        glob = "**/*.py" if name.endswith("simulator") else "*.py"
        there = [file for file in (ROOT / name).glob(glob) if file.name != "__init__.py"]
        written = sum(len(file.read_text().splitlines()) for file in there)
        assert abs(len(there) - int(files)) <= len(there) / 6, name
        assert abs(written - int(length.replace(",", ""))) <= written / 6, name


def test_no_circle_of_imports():
    """Not even one that a function's own import or a name for the type checker closes."""
    knows = {name: imported(file) & set(MODULES) - {name} for name, file in MODULES.items()}
    packages = {name for name, file in MODULES.items() if file.name == "__init__.py"}
    left = {name: others - packages for name, others in knows.items() if name not in packages}
    while free := {name for name, others in left.items() if not others & set(left)}:
        left = {name: others for name, others in left.items() if name not in free}
    assert sorted(left) == []


SECOND = [file for file in (ROOT / "tests/second_server").glob("*.py") if not file.stem.startswith("test_")]


@pytest.mark.parametrize("file", sorted(SECOND), ids=lambda file: file.stem)
def test_second_server_stands_alone(file):
    """It shares no code with the simulator, the product or other tests: the standard library, chdb and its own files."""
    others = {name for name in imported(file) if name.split(".")[0] not in {*sys.stdlib_module_names, "chdb"}}
    assert all(name.startswith("tests.second_server") for name in others)


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("httpx", {"extractors/http/exchange.py"}),
        (
            "polars",
            {f"transforms/{name}.py" for name in ("columns", "copies", "differences", "digest", "events", "sheets")},
        ),
    ],
)
def test_library_stays_in_its_room(library, homes):
    """httpx is imported in one module, polars inside transforms."""
    assert {str(file.relative_to(ROOT)) for file in FILES if library in tops(file)} <= homes


def test_environment_is_read_in_one_place():
    """os.environ is read by the settings and nowhere else."""
    readers = {
        str(file.relative_to(ROOT))
        for file in FILES
        if "os.environ" in file.read_text() or "getenv" in file.read_text()
    }
    assert readers == {"flows/settings/load.py"}


def test_program_is_started_from_the_tree_that_is_tested():
    """Tests that choose its environment take it from tests/program.py: else the installed package would run."""
    path = "/usr" + "/bin"
    choosing = {
        str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("*.py") if f"{path}:" in file.read_text()
    }
    assert choosing == {"tests/program.py"}
