"""Every endpoint through the command line, at two servers by two hands: what one of them misreads shows at the other."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import httpx
import pytest

from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import generate
from extractors.simulator.server import Simulator, serve
from tests.flows.cli.test_asking import FREE, hedgerow
from tests.second_server.api import SecondServer
from tests.second_server.assets import moment
from tests.second_server.rows import Row
from tests.second_server.server import second_server

NOW = datetime.now(UTC).replace(microsecond=0)
START, END = NOW - timedelta(days=3), NOW - timedelta(days=1)
RANGE = ("--since", START.isoformat(), "--until", END.isoformat())
CSV = b"day,count,label\r\n2026-01-01,7,007\r\n2026-01-02,8,x\r\n"
SHA256 = hashlib.sha256(CSV).hexdigest()
FILENAME = f"my-numbers-{NOW:%Y-%m-%d-%H%M%S}.csv"
EXPIRES_AT = (NOW + timedelta(days=7)).replace(hour=0, minute=0, second=0)
DATASET = generate(events=1_200, start=START, end=END, seed=31, tie_sizes=(1_050,))
IDS = sorted(event.uuid for event in DATASET.events)
USES = Counter(IDS)
ALONE = next(event for event in DATASET.events if event.event == "$pageview" and USES[event.uuid] == 1)
NAMES = {event.distinct_id for event in DATASET.events if event.event == ALONE.event}
HELPFUL, POLITE = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
JUDGES = [
    ("Helpful", NOW - timedelta(days=2), {"evaluation_config": {"prompt": "Is it helpful?"}}),
    ("Polite", NOW - timedelta(days=1), {"evaluation_config": {"prompt": "Is it polite?"}, "enabled": False}),
]


def simulator() -> AbstractContextManager[Simulator]:
    judges = EvaluationStore()
    for name, made_at, more in JUDGES:
        judges.add(name, made_at, **more)
    exports = ExportStore(made={"text/csv": Blob.of(CSV)})
    return serve(DATASET, profile=FREE, now=lambda: NOW, exports=exports, evaluations=judges)


def second() -> AbstractContextManager[SecondServer]:
    rows = [Row(e.uuid, e.event, e.distinct_id, e.timestamp, e.properties, e.elements_chain) for e in DATASET.events]
    judges = [
        {"id": number, "name": name, "created_at": moment(made_at), "updated_at": moment(made_at), **more}
        for number, (name, made_at, more) in zip((HELPFUL, POLITE), JUDGES, strict=True)
    ]
    return second_server(rows, now=lambda: NOW, export_content=CSV, evaluations=judges)


SERVERS = [pytest.param(simulator, id="simulator"), pytest.param(second, id="second server")]


def make_export(running: Simulator | SecondServer) -> None:
    """Export 1, as some other client of the same user makes it."""
    httpx.post(
        f"{running.url}/api/projects/1/exports/",
        json={"export_format": "text/csv", "export_context": {"filename": "My Numbers"}},
        headers={"Authorization": f"Bearer {running.key}"},
    ).raise_for_status()


pytestmark = pytest.mark.long  # some sixty processes


@pytest.fixture(scope="module", params=SERVERS)
def server(request) -> Iterator[Simulator | SecondServer]:
    """Either server, with export 1 made."""
    with request.param() as running:
        make_export(running)
        yield running


def suggested(told: Any) -> bool:
    names = {one["name"] for one in told["results"]}
    return len(names) == 10 and names <= NAMES and told["refreshing"] is False


ENDPOINTS = [
    pytest.param(
        ("events", "list", *RANGE),
        lambda told: sorted(row["id"] for row in told["results"]) == IDS and told["problems"] == [],
        id="events list",
    ),
    pytest.param(
        ("events", "get", ALONE.uuid),
        lambda told: (told["id"], told["properties"]) == (ALONE.uuid, json.loads(ALONE.properties)),
        id="events get",
    ),
    pytest.param(
        ("events", "values", "distinct_id", "--column", "--event", ALONE.event), suggested, id="events values"
    ),
    pytest.param(
        ("exports", "list"),
        lambda told: (told["exports"][-1]["id"], told["exports"][-1]["filename"]) == (1, FILENAME),
        id="exports list",
    ),
    pytest.param(
        ("exports", "create", "--format", "csv", "--insight", "1", "--yes"),
        lambda told: (told["id"] > 1, told["insight"], told["has_content"], told["exception"]) == (True, 1, True, None),
        id="exports create",
    ),
    pytest.param(
        ("exports", "get", "1"),
        lambda told: (told["filename"], told["expires_after"]) == (FILENAME, moment(EXPIRES_AT)),
        id="exports get",
    ),
    pytest.param(
        ("exports", "download", "1"),
        lambda told: (told["path"], told["sha256"], told["rows"]) == (FILENAME, SHA256, 2),
        id="exports download",
    ),
    pytest.param(
        ("evaluations", "list"),
        lambda told: [row["id"] for row in told["evaluations"]] == [POLITE, HELPFUL],
        id="evaluations list",
    ),
    pytest.param(
        ("evaluations", "get", HELPFUL),
        lambda told: (told["name"], told["status"]) == ("Helpful", "active"),
        id="evaluations get",
    ),
    pytest.param(
        ("evaluations", "update", POLITE, "--set", "name=Kind", "--enable", "--yes"),
        lambda told: (told["name"], told["status"], told["updated_at"]) == ("Kind", "active", moment(NOW)),
        id="evaluations update",
    ),
]


@pytest.mark.parametrize(("arguments", "right"), ENDPOINTS)
def test_endpoint_answers_the_same_at_either_server(arguments, right: Callable[[Any], bool], server, tmp_path):
    """Exit 0, and the document is what the source holds."""
    done = hedgerow(server, tmp_path, *arguments, "--json")

    assert done.returncode == 0, done.stderr
    assert right(json.loads(done.stdout)), done.stdout[:2_000]


TABLES = {
    "exports": "SELECT * EXCLUDE _loaded_at FROM exports",
    "content": "SELECT * FROM export_1 ORDER BY day",
    "evaluations": "SELECT * EXCLUDE (valid_from, raw), json_keys(raw) FROM evaluations ORDER BY id",
}


def test_sync_gives_the_same_tables_from_either_server(tmp_path):
    """Exports, their contents and evaluations in a DuckDB file: equal rows, and the same keys in `raw`."""
    found = []
    for make in (simulator, second):
        home = tmp_path / make.__name__
        home.mkdir()
        with make() as running:
            make_export(running)
            done = hedgerow(running, home, "sync", "exports", "evaluations")
        assert done.returncode == 0, done.stderr
        with duckdb.connect(str(home / "posthog.duckdb"), read_only=True) as db:
            found.append({name: db.execute(sql).fetchall() for name, sql in TABLES.items()})

    assert found[0] == found[1]
    assert {name: len(rows) for name, rows in found[0].items()} == {"exports": 1, "content": 2, "evaluations": 2}
