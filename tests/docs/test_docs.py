"""What README and docs claim is run."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.settings.load import ENVIRONMENT, load, open_keys
from tests.program import surroundings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOOKUPS = (ROOT / "docs/lookups.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`hedgerow (\w+)", README + LOOKUPS)))
GROUPS = ("events", "exports", "evaluations")


def hedgerow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = surroundings(cwd, COLUMNS="120")
    command = [str(Path(sys.executable).parent / "hedgerow"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_readme_demo_prints_what_it_shows(tmp_path):
    """The first screen's output is real: every line but the timing comes out of the demo."""
    done = hedgerow("demo", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    shown = re.search(r"\$ make demo\n(.*?)```", README, re.DOTALL)
    assert shown
    for line in shown[1].strip().splitlines():
        assert re.sub(r", [\d.]+ s$", "", line) in done.stdout


def test_every_command_stands_in_the_readme(tmp_path):
    """What --help lists, the README's table or the page of look-ups has."""
    listed = re.findall(r"^  ([a-z]+) ", hedgerow("--help", cwd=tmp_path).stdout, re.MULTILINE)

    assert sorted(listed) == COMMANDS


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page):
    """Every relative link of README and docs is a file."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


CONTRIBUTING = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:flows|extractors|transforms|sinks)\.[\w.]+)`", CONTRIBUTING)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", CONTRIBUTING)))


@pytest.mark.parametrize("name", PATHS)
def test_way_of_a_row_names_what_is_there(name):
    """Who follows it in an editor finds each step."""
    resolved = pkgutil.resolve_name(name)

    assert resolved.__qualname__ == name.removeprefix(f"{resolved.__module__}.")


@pytest.mark.parametrize("named", TESTS)
def test_tests_that_a_page_names_are_there(named):
    """Who wants to know what reaches a branch finds the test: its file and its name."""
    file, _, name = named.partition("::")

    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_command_has_help(command, tmp_path):
    """Every command of the README exists and explains itself."""
    done = hedgerow(command, "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_every_look_up_stands_on_its_page(group, tmp_path):
    """What a group's --help lists, its page shows, and each explains itself."""
    listed = re.findall(r"^  ([a-z]+) ", hedgerow(group, "--help", cwd=tmp_path).stdout, re.MULTILINE)

    assert sorted(listed) == sorted(set(re.findall(rf"`hedgerow {group} ([a-z]+)", LOOKUPS)))
    for command in listed:
        assert "Usage" in hedgerow(group, command, "--help", cwd=tmp_path).stdout


def test_first_run_tells_what_to_set(tmp_path):
    """Without settings the first run says what to set and where to make a key; exit 2, no traceback."""
    done = hedgerow("sync", cwd=tmp_path)

    assert done.returncode == 2
    assert "POSTHOG_PERSONAL_API_KEY" in done.stderr
    assert "query:read" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_does_not_import_prefect(tmp_path):
    """--help is quick: neither Prefect nor what reads, shapes or lands rows is imported."""
    heavy = "name.split('.')[0] in ('prefect', 'duckdb', 'polars', 'pyarrow', 'httpx')"
    code = f"import sys, flows.cli.app; sys.exit(any({heavy} for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_ledger_page_sql_equals_the_ledger(tmp_path):
    """The SQL of docs/ledger.md recomputes the digest that the ledger has."""
    assert hedgerow("demo", "--quiet", cwd=tmp_path).returncode == 0
    sql = re.search(r"```sql\n(.*?)```", (ROOT / "docs/ledger.md").read_text(encoding="utf-8"), re.DOTALL)
    assert sql
    ledger = "SELECT landed_digest FROM hedgerow.windows WHERE window_start = '2026-01-01'"
    digests = [
        hedgerow("sql", query, "--csv", "--destination", "duckdb:demo.duckdb", cwd=tmp_path).stdout.split()[1]
        for query in (sql[1], ledger)
    ]
    assert digests[0] == digests[1]


def test_settings_page_has_every_setting_and_its_example_is_accepted(tmp_path):
    """Each key of the file, and each variable, stands on the page; the example is a hedgerow.toml."""
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example
    (tmp_path / "hedgerow.toml").write_text(example[1], encoding="utf-8")
    load(directory=tmp_path)

    by_variable = set(ENVIRONMENT.values())
    assert [name for name in ENVIRONMENT if f"`{name}`" not in page] == []
    assert [key for key in open_keys() if key not in by_variable and key.split(".")[1] not in example[1]] == []


@pytest.mark.long
def test_bench_runs(tmp_path):
    """The bench runs whole, finds every row landed, and writes its page and chart."""
    figures, page = tmp_path / "figures.json", tmp_path / "benchmarks.md"
    command = [
        sys.executable,
        "-m",
        "bench",
        "--only",
        "pages-10000",
        "--only",
        "stages",
        "--rows",
        "5000",
        "--rounds",
        "1",
    ]
    command += ["--json", str(figures), "--docs", str(page)]
    surrounding = surroundings(tmp_path, BENCH_DATA=str(tmp_path / "data"))
    done = subprocess.run(command, cwd=ROOT, env=surrounding, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert [(line["landed_rows"], line["fault"]) for line in found["lines"]] == [(5000, "")] * 4
    assert len(found["stages"]) == 3
    assert "pages of 10,000" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".svg").exists()
