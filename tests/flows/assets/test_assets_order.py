"""Exports and evaluations when runs meet, end early, or are shown less than before: what is landed stays true."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from extractors import files
from extractors.lists import exports
from extractors.lists import history as listing
from extractors.lists.history import Reading
from extractors.simulator.assets.blobs import Blob
from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.server import Simulator, serve
from flows.assets import history, ordering, snapshots, streams, tables
from flows.evaluations import sync_evaluations
from flows.orchestration import adapter
from flows.runs.destinations import destination_of
from flows.settings.load import load
from flows.settings.model import Snapshot
from flows.settings.parse import SettingsError
from sinks.destination import Table
from sinks.errors import DestinationUnusable, GenerationConflict
from tests.flows.assets.test_assets import CSV, FREE, NOW, Place
from tests.program import surroundings

CLOCKED = (streams, history, tables)  # modules that read the clock
HISTORY = "SELECT name, valid_from, valid_to FROM evaluations WHERE id = '{}' ORDER BY valid_from, valid_to NULLS LAST"


class Heard:
    """A destination of which every call is heard before it is made."""

    def __init__(self, sink: Any, before: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._sink, self._before = sink, before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._sink, name)
        if not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            self._before(name, given)
            return found(*given, **named)

        return call


@pytest.fixture
def store() -> ExportStore:
    return ExportStore()


@pytest.fixture
def judges() -> EvaluationStore:
    made = EvaluationStore()
    for number in range(3):
        made.add(f"Judge {number}", NOW - timedelta(days=1))
    return made


@pytest.fixture
def simulator(store: ExportStore, judges: EvaluationStore) -> Iterator[Simulator]:
    with serve(Dataset([]), profile=FREE, exports=store, evaluations=judges) as running:
        yield running


@pytest.fixture(params=["duckdb", "file"])
def place(request, simulator, tmp_path) -> Place:
    return Place(f"{request.param}:{tmp_path / 'here'}", tmp_path, simulator)


@pytest.fixture
def before_call(place, monkeypatch) -> Callable[[str, Callable[[], object]], None]:
    """Has something happen before the first call of that name, `replace weekly` or `keep`, of the next run."""

    def arrange(wanted: str, happens: Callable[[], object]) -> None:
        waiting = [happens]

        def before(name: str, given: tuple[Any, ...]) -> None:
            if waiting and wanted in (name, f"{name} {given[0]}" if given else ""):
                monkeypatch.undo()
                waiting.pop()()

        def sink_of(*_: Any) -> Any:
            return Heard(destination_of(place.settings()), before)

        monkeypatch.setattr(streams, "sink_of", sink_of)

    return arrange


def sound(rows: list[tuple[Any, datetime, datetime | None]]) -> bool:
    """The periods of one id follow each other without gap or overlap, and none is empty."""
    ends = [row[2] for row in rows]
    return (
        ends[-1] is None
        and ends[:-1] == [row[1] for row in rows[1:]]
        and all(end is not None and row[1] < end for row, end in zip(rows[:-1], ends, strict=False))
    )


# --- two runs at once


@pytest.mark.parametrize("call", ["table evaluations", "replace evaluations"])
def test_an_older_reading_does_not_replace_a_newer_one(call, place, judges, before_call):
    """The slower of two runs reads again: the newer name stays the current one, and history goes forward."""
    place.sync("evaluations")

    def other_run() -> None:
        judges.rows[0]["name"] = "Newer"
        place.sync("evaluations")

    judges.rows[0]["name"] = "Older"
    before_call(call, other_run)
    place.sync("evaluations")
    rows = place.rows(HISTORY.format(judges.rows[0]["id"]))

    assert [row[0] for row in rows] == ["Judge 0", "Newer"]
    assert sound(rows)


@pytest.mark.parametrize("skew", [timedelta(days=-1), timedelta(days=1)], ids=["behind", "ahead"])
def test_clocks_of_machines_do_not_matter(skew, place, judges, monkeypatch):
    """A run on a machine whose clock is a day off, then one on another: times are the server's."""
    with monkeypatch.context() as patch:
        for module in CLOCKED:
            patch.setattr(module, "now", lambda: datetime.now(UTC) + skew)
        place.sync("evaluations")
    judges.rows[0]["name"] = "Later"
    place.sync("evaluations")
    rows = place.rows(HISTORY.format(judges.rows[0]["id"]))

    assert [row[0] for row in rows] == ["Judge 0", "Later"]
    assert sound(rows)
    assert all(abs(row[1] - datetime.now(UTC)) < timedelta(hours=1) for row in rows)


class Tables:
    """A destination's tables in memory, with their versions."""

    def __init__(self) -> None:
        self.kept: dict[str, Table] = {}

    def table(self, name: str) -> Table | None:
        return self.kept.get(name)

    def replace(self, name: str, rows: Any, *, version: str, **_: Any) -> None:
        found = self.kept[name].version if name in self.kept else ""
        if found != version:
            raise GenerationConflict(name, expected=0, found=1)
        self.kept[name] = Table(rows, str(int(found or 0) + 1))

    def exists(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def held(self) -> Any:
        return nullcontext()


class Racer:
    """A run in a thread of its own that waits for its turn before each step."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._go, self._stopped, self.ended = threading.Semaphore(0), threading.Semaphore(0), False
        self.error: BaseException | None = None
        self._work = work
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._work()
        except BaseException as exc:
            self.error = exc
        self.ended = True
        self._stopped.release()

    def wait(self) -> None:
        """Called by the run before a step."""
        self._stopped.release()
        self._go.acquire()

    def step(self) -> None:
        """Let the run do one step."""
        if not self.ended:
            self._go.release()
            self._stopped.acquire()


RUNS = st.tuples(st.sampled_from(["one", "other"]), st.integers(1, 4))
CHANGES = st.tuples(st.integers(0, 1), st.sampled_from(["change", "change", "hide", "show"]), st.integers(-1, 2))
MEETINGS = st.lists(st.tuples(RUNS, CHANGES), max_size=8)
"""Which run goes on and for how many steps; then what becomes of which evaluation, and of the server's clock in seconds."""


@examples(max_examples=300, deadline=None)
@given(MEETINGS)
def test_history_is_sound_however_two_runs_meet(meetings):
    """Any order of their steps and of the source's changes, by any clocks: periods follow each other, readings too."""
    source = {number: {"id": f"{number}", "name": "0"} for number in range(2)}
    shown, tables, clock = set(source), Tables(), [NOW]
    racers: dict[int, Racer] = {}

    def pause() -> None:
        racer = racers.get(threading.get_ident())
        if racer:
            racer.wait()

    class Client:
        def __init__(self) -> None:
            self.requests: Counter[str] = Counter()
            self.served_at: datetime | None = None

    @contextmanager
    def client_of(*_: Any, **__: Any) -> Iterator[tuple[Client, None]]:
        yield Client(), None

    def listed(client: Client, project_id: int, resource: object) -> Reading:
        pause()
        client.served_at = clock[0]
        return Reading(tuple(dict(source[number]) for number in sorted(shown)), len(shown))

    def skewed() -> datetime:
        return clock[0] + timedelta(days=1 if threading.current_thread() is one.thread else -1)

    def sync() -> None:
        flags: dict[str, object] = {"source.host": "http://127.0.0.1:1", "source.key": "phx_a"}
        streams.sync(load(flags).settings, 1, "evaluations", named=True)

    with pytest.MonkeyPatch.context() as patch:
        sink = Heard(tables, lambda name, given: pause() if name in ("table", "replace") else None)
        patch.setattr(streams, "sink_of", lambda *_: sink)
        patch.setattr(streams, "client_of", client_of)
        patch.setattr(listing, "read", listed)
        for module in CLOCKED:
            patch.setattr(module, "now", skewed)
        one, other = Racer(sync), Racer(sync)
        racers |= {racer.thread.ident or 0: racer for racer in (one, other)}
        for (runner, count), (number, what, seconds) in meetings:
            for _ in range(count):
                (one if runner == "one" else other).step()
            clock[0] += timedelta(seconds=seconds)
            if what == "change":
                source[number]["name"] = f"{int(source[number]['name']) + 1}"
            (shown.discard if what == "hide" else shown.add)(number)
        while not (one.ended and other.ended):
            one.step()
            other.step()
        sync()  # and one that meets no other
    landed = tables.kept["evaluations"].rows.to_pylist()

    assert (one.error, other.error) == (None, None)
    for name in {row["id"] for row in landed}:
        rows = sorted((row for row in landed if row["id"] == name), key=lambda row: row["valid_from"])
        assert sound([(row["name"], row["valid_from"], row["valid_to"]) for row in rows])
        read = [int(row["name"]) for row in rows]
        assert read == sorted(read)
        if int(name) in shown:
            assert rows[-1]["name"] == source[int(name)]["name"]


# --- a source that shows less


def test_an_empty_list_deletes_no_evaluation(place, judges):
    """Kept and named by every run until it is accepted; what the list does show is landed."""
    place.sync("evaluations")
    for row in judges.rows:
        row["deleted"] = True
    judges.add("Fresh", NOW)
    runs = [place.sync("evaluations") for _ in range(2)]
    kept = place.rows("SELECT count(*) FROM evaluations WHERE valid_to IS NULL AND NOT deleted")
    accepted = streams.sync(place.settings(), 1, "evaluations", named=True, accept_deletions=True)
    after = place.sync("evaluations")
    said = (
        "the source does not show 3 of {} evaluations any more: kept; "
        "if they were deleted on purpose, run with --accept-deletions"
    )

    assert [(one.new, one.deleted, one.problems) for one in runs] == [
        (1, 0, [said.format(3)]),
        (0, 0, [said.format(4)]),
    ]
    assert kept == [(4,)]
    assert (accepted.deleted, accepted.problems) == (3, [])
    assert (after.deleted, after.problems) == (0, [])
    assert place.rows("SELECT name FROM evaluations WHERE valid_to IS NULL AND NOT deleted") == [("Fresh",)]


def test_deletions_are_accepted_on_the_command_line(place, judges):
    """Exit status 3 without the flag, 0 with it."""
    place.sync("evaluations")
    judges.rows.clear()
    environment = surroundings(
        place.directory,
        POSTHOG_HOST=place.simulator.url,
        POSTHOG_PERSONAL_API_KEY=place.simulator.key,
        POSTHOG_PROJECT_ID="1",
        HEDGEROW_STATE_DIR=str(place.directory / "state"),
        HEDGEROW_DESTINATION=place.address,
    )
    command = [sys.executable, "-m", "flows.cli.app", "sync", "evaluations"]
    ended = [
        subprocess.run(
            [*command, *more], env=environment, cwd=place.directory, capture_output=True, text=True, check=False
        )
        for more in ([], ["--accept-deletions"], [])
    ]

    assert [one.returncode for one in ended] == [3, 0, 0], [one.stderr for one in ended]
    assert "does not show 3 of 3 evaluations any more" in ended[0].stderr
    assert place.rows("SELECT DISTINCT deleted FROM evaluations WHERE valid_to IS NULL") == [(True,)]


def test_deletions_are_accepted_in_prefect(place, judges, monkeypatch):
    """The flow's parameter reaches the work."""
    place.sync("evaluations")
    judges.rows.clear()
    monkeypatch.setattr(adapter, "settings", lambda project_ids: place.settings())
    monkeypatch.setattr(adapter, "step", lambda name, work: work())
    monkeypatch.setattr(adapter, "listener", lambda project_id: None)
    kept = sync_evaluations.fn()
    accepted = sync_evaluations.fn(accept_deletions=True)

    assert kept.name == "Incomplete"
    assert [(one.deleted, one.problems) for one in accepted.data] == [(3, [])]


# --- contents


def test_a_slower_run_does_not_forget_a_content(place, store, before_call):
    """It read the asset before its content was there; another run has stored it meanwhile, and PostHog lets it expire."""
    late = store.add("text/csv", NOW, content=None)
    place.sync()
    store.add("image/png", NOW)  # something that the slower run lands

    def other_run() -> None:
        late.content = Blob.of(CSV)
        place.sync()
        store.remove(late.id)

    late.filename = "renamed.csv"
    before_call("replace exports", other_run)
    place.sync()
    place.sync()

    assert place.rows("SELECT has_content, content_rows FROM exports WHERE id = 1") == [(True, 2)]
    assert place.content(place.rows("SELECT content_path FROM exports WHERE id = 1")[0][0]) == CSV


@pytest.mark.parametrize("call", ["replace export_1_1", "replace exports", "store_content"])
def test_two_runs_fetch_the_same_content(call, place, store, before_call):
    """Both land it, none fails: one table, one row."""
    store.add("text/csv", NOW, content=Blob.of(CSV))
    before_call(call, place.sync)
    done = place.sync()

    assert done.problems == []
    assert place.rows("SELECT count(*) FROM export_1_1") == [(2,)]
    assert place.rows("SELECT id, content_rows FROM exports") == [(1, 2)]


# --- snapshots

WEEKLY = Snapshot(name="weekly", insight=7)


class Killed(BaseException):
    """The process has ended: whatever it would do then, it does not."""


def whole(place: Place, store: ExportStore) -> bool:
    """Every export of the store is in its snapshot's table once, is kept, and has no table of its own."""
    made = sorted(one.id for one in store.assets)
    names = {row[0] for row in place.rows("SELECT table_name FROM information_schema.tables")}
    return (
        place.rows("SELECT _export_id, count(*) FROM weekly GROUP BY ALL ORDER BY ALL") == [(one, 2) for one in made]
        and place.rows("SELECT id, content_rows FROM exports ORDER BY id") == [(one, 2) for one in made]
        and not any(name.startswith("export_") for name in names)
    )


WRITES = frozenset({"prepare", "replace", "store_content", "record"})
CALLS = WRITES | {"check", "table", "exists", "origin"}


@pytest.mark.parametrize(
    "calls", [pytest.param(WRITES, id="writes"), pytest.param(CALLS, id="all", marks=pytest.mark.long)]
)
def test_a_snapshot_is_whole_whenever_its_run_was_killed(calls, place, store, monkeypatch):
    """Killed before each of the destination's calls in turn: the next run has the rows of each snapshot once."""
    store.made["text/csv"] = Blob.of(CSV)
    killed, number = True, 0
    met: set[str] = set()
    while killed:
        number, killed, count = number + 1, False, 0
        store.assets.clear()
        fresh = Place(f"{place.address}-{number}", place.directory, place.simulator)

        def before(name: str, given: tuple[Any, ...], last: int = number) -> None:
            nonlocal count
            count += name in calls
            if count >= last:
                met.add(name)
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(streams, "sink_of", lambda *_, fresh=fresh: Heard(destination_of(fresh.settings()), before))
            try:
                fresh.sync("exports", WEEKLY)
            except Killed:
                killed = True
        done = fresh.sync("exports", WEEKLY)

        assert done.problems == []
        assert whole(fresh, store), f"killed before call {number}"
    assert calls <= met


def test_a_snapshot_whose_order_was_killed_is_taken_once(place, store, monkeypatch):
    """The order has arrived, its answer has not: the next run lands what it made, and orders no second one."""
    store.made["text/csv"] = Blob.of(CSV)
    create = ordering.exports.create

    def killed(*given: Any, **named: Any) -> None:
        create(*given, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ordering.exports, "create", killed)
        with pytest.raises(Killed):
            place.sync("exports", WEEKLY)
    done = place.sync("exports", WEEKLY)

    assert (done.snapshots, done.problems, len(store.assets)) == (1, [], 1)
    assert whole(place, store)


def test_snapshots_are_those_of_this_run(place, store, monkeypatch):
    """A run that was killed when the table had grown has landed that one: the next keeps its content, and counts its own."""
    store.made["text/csv"] = Blob.of(CSV)

    def before(name: str, given: tuple[Any, ...]) -> None:
        if name == "store_content":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(streams, "sink_of", lambda *_: Heard(destination_of(place.settings()), before))
        with pytest.raises(Killed):
            place.sync("exports", WEEKLY)
    done = place.sync("exports", WEEKLY)

    assert (done.contents, done.snapshots, done.problems) == (2, 1, [])
    assert whole(place, store)


def test_a_snapshot_that_was_not_ready_is_landed_later(place, store, monkeypatch):
    """A run that gives up waiting, and one that cannot fetch: a later one lands it, before it takes its own."""
    store.made["text/csv"] = Blob.of(CSV)
    store.looks = 10**6
    monkeypatch.setattr(exports, "finished", partial(exports.finished, longest=timedelta(0)))
    monkeypatch.setattr(time, "sleep", lambda wait_s: None)
    first = place.sync("exports", WEEKLY)
    monkeypatch.undo()
    store.looks, store.assets[0].looks_left = 0, 0
    second = place.sync("exports", WEEKLY)

    assert (first.snapshots, len(first.problems)) == (0, 1)
    assert (second.snapshots, second.problems) == (2, [])
    assert whole(place, store)


def test_snapshots_of_one_thing_are_orders_of_their_own(place, store, monkeypatch):
    """The same insight in two tables: an order that one of them lost is not taken by the other."""
    store.made["text/csv"] = Blob.of(CSV)
    create = ordering.exports.create

    def killed(*given: Any, **named: Any) -> None:
        create(*given, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ordering.exports, "create", killed)
        with pytest.raises(Killed):
            place.sync("exports", WEEKLY)
    daily = Snapshot(name="daily", insight=7)
    place.sync("exports", daily, WEEKLY)

    assert place.rows("SELECT DISTINCT _export_id FROM weekly") == [(1,)]
    assert place.rows("SELECT DISTINCT _export_id FROM daily") == [(2,)]


@pytest.mark.parametrize("mark", ["events:" + "0" * 32, "weekly:" + "0" * 32, "../x:" + "0" * 32, "weekly", 7, [1]])
def test_only_snapshots_of_the_settings_grow(mark, place, store):
    """Marks are text that the source shows: they name no table that the settings do not."""
    store.add("text/csv", NOW, content=Blob.of(CSV), export_context={"hedgerow": mark})
    done = place.sync("exports", Snapshot(name="daily", insight=7, format="json"))
    found = {row[0] for row in place.rows("SELECT table_name FROM information_schema.tables")}

    assert not found & {"weekly", "events:", "x"}
    assert place.rows("SELECT content_rows FROM exports WHERE id = 1") == [(2,)]
    named = str(mark).startswith(("weekly:", "events:"))
    assert ("export_1_1" in found) is not named
    assert any("not in the settings" in note for note in done.notes) is named


def test_the_history_does_not_hide_what_ended_a_run(place, monkeypatch):
    """The destination fails, and then again when the run is to be written into its history: the first is told."""

    def fails(name: str, given: tuple[Any, ...]) -> None:
        if name in ("replace", "record"):
            raise DestinationUnusable(f"no {name}")

    monkeypatch.setattr(streams, "sink_of", lambda *_: Heard(destination_of(place.settings()), fails))
    with pytest.raises(DestinationUnusable, match="no replace"):
        place.sync("evaluations")


# --- what stands in the way


def test_a_snapshot_that_another_run_orders_is_waited_for(place, store, monkeypatch):
    """Two runs at once both take theirs, one after the other."""
    order = exports.NewExport("text/csv", insight=7)
    (place.directory / "state").mkdir(exist_ok=True)
    desk = ordering.OrderNotes(place.directory / "state", place.simulator.url, 1, NOW, "weekly")
    monkeypatch.setattr(snapshots, "POLL_S", 0.01)
    with ExitStack() as other_run:
        other_run.enter_context(files.locked(desk.note_of(order)))
        ended = threading.Timer(0.3, other_run.close)
        ended.start()
        done = place.sync("exports", WEEKLY)
        ended.join()

    assert (done.problems, done.snapshots) == ([], 1)


def test_a_snapshot_that_another_run_orders_for_long_is_a_problem(place, store, monkeypatch):
    """The run names it and lands everything else."""
    monkeypatch.setattr(snapshots, "BUSY_S", 0.0)
    store.add("text/csv", NOW, content=Blob.of(CSV))
    order = exports.NewExport("text/csv", insight=7)
    (place.directory / "state").mkdir(exist_ok=True)
    desk = ordering.OrderNotes(place.directory / "state", place.simulator.url, 1, NOW, "weekly")
    with files.locked(desk.note_of(order)):
        done = place.sync("exports", WEEKLY, Snapshot(name="daily", insight=7))

    assert done.problems == ["snapshot weekly was not taken: another run is ordering the same"]
    assert (done.contents, done.snapshots) == (2, 1)


def test_a_full_disk_is_named(place, store):
    """A content that finds no room while it comes: the directory and what to do, no bug."""
    store.add("image/png", NOW, content=Blob.of(b"\x89PNG" * 2**21))
    place.sync("evaluations")  # the destination is there
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, hard))
    try:
        with pytest.raises(DestinationUnusable, match="File too large") as raised:
            place.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert str(destination_of(place.settings()).spool_directory) in str(raised.value)
    assert raised.value.hint
    assert place.sync().contents == 1


def test_no_place_for_contents_is_named(place, store, monkeypatch):
    """The directory for what comes cannot be made."""
    store.add("text/csv", NOW, content=Blob.of(CSV))
    place.sync("evaluations")
    (place.directory / "taken").write_text("")
    monkeypatch.setattr(streams, "sink_of", lambda *_: _with_spool(place, place.directory / "taken"))
    with pytest.raises(DestinationUnusable, match="taken"):
        place.sync()


def _with_spool(place: Place, directory: Path) -> Heard:
    heard = Heard(destination_of(place.settings()), lambda name, given: None)
    heard.spool_directory = directory  # type: ignore[attr-defined]
    return heard


def test_no_place_for_orders_is_named(place, store):
    """The state directory cannot be written where orders are noted: no order is sent."""
    order = exports.NewExport("text/csv", insight=7)
    desk = ordering.OrderNotes(place.directory / "state", place.simulator.url, 1, NOW, "weekly")
    desk.directory.mkdir(exist_ok=True)
    desk.note_of(order).symlink_to(place.directory / "elsewhere")
    with pytest.raises(SettingsError, match="state directory"):
        place.sync("exports", WEEKLY)

    assert store.assets == []
