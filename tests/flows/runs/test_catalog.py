"""The table of streams: every place that offers streams offers those of the table, and a forgotten one is a failure here.

What follows from the table by itself is tried once for each of its rows; what is written by hand is compared with it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml

from extractors.simulator.assets import lists
from extractors.simulator.data.dataset import generate
from extractors.simulator.server import Simulator, serve
from flows.assets import copying, held, verified, verifying
from flows.assets import streams as assets
from flows.assets.synced import Synced
from flows.report import status
from flows.runs import catalog, check, loads
from flows.runs.catalog import BY_DEFAULT, STREAMS, Mechanism, Stream
from flows.runs.check import Verdict
from flows.runs.destinations import destination_of, lake_of
from flows.settings.load import load
from flows.settings.model import Settings, Snapshot
from flows.settings.parse import SettingsError
from sinks.destination import HISTORIES
from sinks.lake import tables as lake_tables
from sinks.lake.sink import LakeSink
from sinks.objects.local import LocalObjects
from tests.flows.assets.test_assets import FREE
from tests.second_server import assets as second_assets

ROOT = Path(__file__).parents[3]
NAMES = {stream.name for stream in STREAMS}
NOW = datetime(2026, 3, 20, tzinfo=UTC)
EACH = pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
WITH_HISTORY = [stream for stream in STREAMS if stream.mechanism is Mechanism.HISTORY]


# --- the table itself


def test_names_are_one_streams_alone():
    """No two streams share a name, a table or a view."""
    tables = [name for stream in STREAMS for name in (stream.table, *stream.views)]

    assert len(tables) == len(set(tables))
    assert len(NAMES) == len(STREAMS)


@EACH
def test_reader_and_transform_are_modules(stream):
    """What the table says reads and shapes a stream is there."""
    assert all(importlib.util.find_spec(name) for name in (stream.mechanism.reader, stream.mechanism.transform))


def test_a_row_that_is_not_whole_cannot_be():
    """A list with history has a list and columns, and nothing else has."""
    history = WITH_HISTORY[0]
    for wrong in ({"shape": None}, {"resource": None}, {"mechanism": Mechanism.WINDOWS}):
        with pytest.raises(ValueError, match="a list with history"):
            replace(history, **wrong)


def test_streams_come_in_the_order_of_the_table():
    """Whatever the order of their names, each once."""
    assert [one.name for one in catalog.chosen(["annotations", "events", "annotations"])] == ["events", "annotations"]


# --- what is made from it


@pytest.fixture
def heard(monkeypatch) -> list[str]:
    """Streams that the command line hands on, in order."""
    found: list[str] = []

    def events(settings: object, project_id: int, **more: object) -> None:
        found.append("events")

    def other(settings: object, project_id: int, stream: str, **more: object) -> Synced:
        found.append(stream)
        return Synced(project_id, stream)

    monkeypatch.setattr(loads, "load_events", events)
    monkeypatch.setattr(assets, "sync", other)
    return found


@dataclass(frozen=True, slots=True)
class Nowhere:
    """A server that nobody asks."""

    url: str = "http://127.0.0.1:1"
    key: str = "phx_a"


@EACH
def test_sync_takes_every_stream(stream, heard, hedgerow):
    """Its name is understood and reaches what lands it; --help says it."""
    hedgerow(Nowhere(), "sync", stream.name)
    told = hedgerow(Nowhere(), "sync", "--help").stdout

    assert heard == [stream.name]
    assert re.search(rf"\b{stream.name}\b", told)


def test_sync_without_a_name_lands_what_is_landed_unasked(heard, hedgerow):
    """Annotations only if they are named."""
    hedgerow(Nowhere(), "sync")

    assert heard == [stream.name for stream in BY_DEFAULT] == ["events", "exports", "evaluations"]


@pytest.mark.parametrize("named", [(), ("exports",)], ids=["none named", "one named"])
def test_settings_say_what_is_landed_unasked(named, heard, hedgerow, tmp_path):
    """`[streams] include`, in the table's order, where the command line names none; what is not there is no error then."""
    (tmp_path / "hedgerow.toml").write_text('[streams]\ninclude = ["annotations", "events"]\n')
    hedgerow(Nowhere(), "sync", *named)

    assert heard == (list(named) or ["events", "annotations"])


@pytest.mark.parametrize("given", ['["people"]', "[]", '"people"'])
def test_setting_that_names_no_stream_is_refused(given, tmp_path):
    """With all that could be meant."""
    (tmp_path / "hedgerow.toml").write_text(f"[streams]\ninclude = {given}\n")
    with pytest.raises(SettingsError, match=", ".join(stream.name for stream in STREAMS)):
        load(directory=tmp_path)


@EACH
def test_backfill_takes_what_lies_in_time(stream, heard, hedgerow):
    """Anything else is refused in two lines that say what to do, before anything is asked."""
    done = hedgerow(Nowhere(), "backfill", stream.name, "--since", "2026-03-01")

    if stream.ranged:
        assert heard == [stream.name]
        return
    assert (done.returncode, heard, done.stderr.count("\n")) == (2, [], 1)
    assert f"hedgerow sync {stream.name}" in done.stderr


def test_backfill_without_a_name_fills_events(heard, hedgerow):
    """As ever: nothing else lies in time."""
    hedgerow(Nowhere(), "backfill", "--since", "2026-03-01")

    assert heard == ["events"]


@pytest.mark.parametrize("command", [("sync",), ("backfill", "--since", "2026-03-01")], ids=["sync", "backfill"])
def test_unknown_stream_is_told_all_names(command, hedgerow):
    """Exit 2, with every stream there is."""
    done = hedgerow(Nowhere(), *command, "people")

    assert done.returncode == 2
    assert all(stream.name in done.stderr for stream in STREAMS)


def settings_of(simulator: Simulator, directory: Path, address: str) -> Settings:
    flags: dict[str, object] = {
        "source.host": simulator.url,
        "source.key": simulator.key,
        "source.project_id": 1,
        "source.state_dir": directory / "state",
        "destination.address": address,
    }
    return load(flags, directory=directory).settings


@pytest.mark.parametrize("stream", [one for one in STREAMS if not one.ranged], ids=lambda stream: stream.name)
def test_check_names_the_scope_of_every_stream(stream, tmp_path):
    """What is landed unasked is warned of; what is landed by name alone is said. With the scope the list answers."""
    found = {}
    for scopes in ({"query:read"}, {"query:read", stream.scope}):
        with serve(
            generate(events=5, start=NOW, end=NOW + timedelta(1)), profile=FREE, scopes=frozenset(scopes)
        ) as one:
            findings = check.check(settings_of(one, tmp_path, f"file:{tmp_path / 'lake'}"), 1)
            found[len(scopes)] = next(finding for finding in findings if finding.name == stream.name)

    assert stream.scope in found[1].mend
    assert (found[1].verdict, found[2].verdict) == (Verdict.WARN if stream.by_default else Verdict.SKIP, Verdict.OK)


def test_check_warns_of_what_is_included_by_the_settings(tmp_path):
    """A key that may not read annotations is no matter until they are to be landed."""
    (tmp_path / "hedgerow.toml").write_text('[streams]\ninclude = ["annotations"]\n')
    with serve(
        generate(events=5, start=NOW, end=NOW + timedelta(1)), profile=FREE, scopes=frozenset({"query:read"})
    ) as one:
        found = list(check.check(settings_of(one, tmp_path, f"file:{tmp_path / 'lake'}"), 1))

    assert {one.name: one.verdict for one in found if one.name in NAMES - {"events"}} == {
        "exports": Verdict.SKIP,
        "evaluations": Verdict.SKIP,
        "annotations": Verdict.WARN,
    }


@pytest.mark.parametrize("name", [*(n for s in STREAMS for n in (s.table, *s.views)), "persons", "cohorts_current"])
def test_no_snapshot_takes_the_name_of_a_table(name):
    """Tables and views of streams, and of those to come."""
    with pytest.raises(ValueError, match="hedgerow's own"):
        Snapshot(name=name, insight=1)


# --- what is written by hand


@pytest.mark.parametrize("stream", WITH_HISTORY, ids=lambda stream: stream.name)
def test_lake_has_a_place_for_every_table_with_history(stream, tmp_path):
    """Its own, not that of a user's snapshot, and queries find it there."""
    lake = LakeSink(LocalObjects(tmp_path, "lake"))
    lake.replace(stream.table, pa.table({"id": [1]}), version="")

    assert lake_tables.table_path(stream.table) == f"{stream.table}/{stream.table}.parquet"
    assert stream.table in lake_tables.found(lake.objects)
    assert {one.table: one.views for one in WITH_HISTORY} == HISTORIES
    assert f"{stream.table}_current" in stream.views


@EACH
def test_prefect_has_a_sync_of_every_stream(stream):
    """A deployment and a flow of that name; scheduled where the stream is landed unasked."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    found = {one["name"]: one for one in deployments}[stream.deployment]

    assert found["entrypoint"] == f"flows/{stream.name}.py:sync_{stream.name}"
    assert found["tags"] == ["hedgerow", stream.name]
    assert ("schedules" in found) == stream.by_default
    assert f"`{stream.deployment}`" in (ROOT / "docs/scheduling.md").read_text(encoding="utf-8")


def row(stream: Stream, *, whole: bool) -> str:
    """The line of a page's table of streams."""
    names = ", ".join(f"`{name}`" for name in (stream.table, *stream.views))
    cells = [
        f"`{stream.name}`",
        "unasked" if stream.by_default else "when named",
        f"`{stream.scope}`",
        names,
        ", ".join(f"`{field.split()[0]}`{field.removeprefix(field.split()[0])}" for field in stream.never_written)
        or "–",
    ]
    modules = (f"{name.replace('.', '/')}.py" for name in (stream.mechanism.reader, stream.mechanism.transform))
    return f"| {' | '.join([*cells, *(modules if whole else ())])} |"


@pytest.mark.parametrize(("page", "whole"), [("README.md", False), ("docs/streams.md", True)])
def test_pages_have_the_table_of_streams(page, whole):
    """Every stream, with its scope, its tables and what is never written; none that is not there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = re.search(r"^\| stream \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)

    assert table
    assert table[1].splitlines() == [row(stream, whole=whole) for stream in STREAMS]


@EACH
def test_pages_name_what_the_key_needs(stream):
    """Where a key is made: operations and the README's row of the command."""
    assert f"`{stream.scope}`" in (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    sync = re.search(r"^\| `hedgerow sync (.*?)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sync
    assert f"[{stream.name}]" in sync[1]


@pytest.mark.parametrize("stream", WITH_HISTORY, ids=lambda stream: stream.name)
def test_both_test_servers_have_every_list(stream):
    """Evaluations by hand, all others as a kind of plain list, each in both."""
    served = [set(kinds) | {"evaluations"} for kinds in (lists.KINDS, second_assets.KINDS)]

    assert all(stream.resource.path in names for names in served)


# --- what knows every stream


@pytest.fixture(scope="module")
def landed(tmp_path_factory) -> Iterator[tuple[Simulator, Settings, Path]]:
    """A lake in which every stream is landed, and the server that it came from."""
    home = tmp_path_factory.mktemp("every")
    start = NOW - timedelta(days=2)
    stores = lists.stores()
    for store in stores.values():
        store.add(start)
    with serve(
        generate(events=50, start=start, end=NOW - timedelta(1)), profile=FREE, now=lambda: NOW, lists=stores
    ) as one:
        settings = settings_of(one, home, f"file:{home / 'lake'}")
        for stream in STREAMS:
            if stream.ranged:
                loads.load_events(settings, 1, command="sync", since=start.isoformat(), until=NOW.isoformat())
            else:
                assets.sync(settings, 1, stream.name, named=True)
        yield one, settings, home


def checked(simulator: Simulator, settings: Settings, home: Path) -> set[str]:
    found = verified.verify(settings, 1)
    return {one.stream for one in found.others} | ({"events"} if found.events else set())


def shown(simulator: Simulator, settings: Settings, home: Path) -> set[str]:
    return {one.stream for one in status.summaries(settings)}


def copied(simulator: Simulator, settings: Settings, home: Path) -> set[str]:
    target = destination_of(settings, f"file:{home / 'copy'}")
    copying.copy(1, destination_of(settings), target)
    return {stream.name for stream in STREAMS if target.origin(1, stream.name)}


def attached(simulator: Simulator, settings: Settings, home: Path) -> set[str]:
    lake_of(settings).attach(home / "views.duckdb")
    with duckdb.connect(str(home / "views.duckdb"), read_only=True) as db:
        views = {name for (name,) in db.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
    return {stream.name for stream in STREAMS if stream.table in views}


@pytest.mark.parametrize("known", [checked, shown, copied, attached])
def test_command_knows_every_stream(known, landed):
    """Of what is landed each command knows all: a new stream is looked at, shown, copied and attached without a line there."""
    assert known(*landed) == NAMES


@pytest.mark.parametrize(
    "by_mechanism", [copying.BESIDE, verifying.BESIDE, held.BESIDE], ids=["copy", "verify", "status"]
)
def test_command_has_a_way_for_every_mechanism(by_mechanism):
    """Whatever is no window of time has a function of its own."""
    assert set(by_mechanism) == {one for one in Mechanism if one is not Mechanism.WINDOWS}
