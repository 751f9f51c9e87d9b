"""What a whole sync of exports takes of memory, libraries included: the real program against the simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.exports import XLSX, ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import serve
from tests import stores
from tests.flows.assets.test_assets import FREE
from tests.program import surroundings
from tests.workbooks import cell, text, workbook

MB = 2**20
# A test's dependency brings pandas along, and pyarrow would load it: users do not have it. VmHWM and not ru_maxrss: the
# latter is inherited from the parent.
PROGRAM = """
import sys
class NoPandas:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoPandas)
from flows.cli import main
try:
    main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    sys.stderr.write(f"peak {peak.split()[1]}\\n")
"""


def lines() -> bytes:
    """45 MB, as many rows as PostHog exports."""
    head = "uuid,event,at,who,n,ratio,address,plan,label,flag\n"
    return (
        head
        + "".join(
            f"{n:032x},$pageview,2026-01-{n % 28 + 1:02d}T10:{n % 60:02d}:00Z,user-{n:012},{n},{n / 1000},"
            f"https://example.com/{n:020}/a,free,l{n % 7:03d},{'true' if n % 2 else 'false'}\n"
            for n in range(300_000)
        )
    ).encode()


def objects() -> bytes:
    """45 MB of objects with numbers, texts and objects inside."""
    return (
        "["
        + ",".join(
            f'{{"uuid":"{n:032x}","n":{n},"ratio":{n / 1000},"address":"https://example.com/{n:040}/a","p":{{"a":[{n},null]}}}}'
            for n in range(300_000)
        )
        + "]"
    ).encode()


def sheet() -> bytes:
    """Some 700,000 cells."""
    rows = [[text(f"{n:032x}"), text("$pageview"), *(cell(str(n + of)) for of in range(5))] for n in range(100_000)]
    return workbook([[text(name) for name in "abcdefg"], *rows])


CONTENTS: dict[str, tuple[str, Callable[[], bytes], str, int]] = {
    "CSV": ("text/csv", lines, "cut there", 300),
    "JSON": ("application/json", objects, "", 300),
    "one object": ("application/json", lambda: b'[{"a":[' + b"[]," * (50 * MB) + b"[]]}]", "is no table", 300),
    "one line": ("text/csv", lambda: b"a\n" + b"x" * (150 * MB), "is no table", 300),
    "a sheet": (XLSX, sheet, "", 350),
    "a bomb": (XLSX, lambda: workbook([], sheet="<row><c><v>1</v></c></row>" * (20 * MB)), "is no table", 300),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "duckdb") for name in CONTENTS), ("CSV", "file"), ("CSV", "s3"), ("JSON", "file")]
)
def test_the_memory_of_a_sync(name, kind, tmp_path, request):
    """45 MB of CSV within 300 MB of the process, and whatever a content does it is landed or named within its bound."""
    export_format, content, said, bound = CONTENTS[name]
    store = ExportStore()
    store.add(export_format, datetime.now(UTC), content=Blob.of(content()))
    more = {}
    address = f"{kind}:{tmp_path / 'here'}"
    if kind == "s3":
        server = request.getfixturevalue("moto")
        more, address = stores.environment(server), f"s3://{stores.new_bucket(server)}/p"
    with serve(Dataset([]), profile=FREE, exports=store) as simulator:
        more |= {"POSTHOG_HOST": simulator.url, "POSTHOG_PERSONAL_API_KEY": simulator.key, "POSTHOG_PROJECT_ID": "1"}
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, "sync", "exports", "--destination", address],
            env=surroundings(tmp_path, TMPDIR=os.environ.get("TMPDIR", "/tmp"), **more),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    assert (ended.returncode, said in ended.stderr) == (3 if said else 0, True), ended.stderr
    assert int(ended.stderr.split("peak ")[1]) < bound * 1024
