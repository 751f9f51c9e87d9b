"""Random datasets × servers × faults: nothing is lost and nothing doubled, or the gap is named. Seeds are the test ids."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from extractors.errors import SourceError
from extractors.simulator.data.dataset import Dataset, generate
from extractors.simulator.faults import KINDS, ROW_KINDS, Fault, Faults
from extractors.simulator.profiles import CLOUD, OLD_2023, SELF_HOSTED, Profile
from extractors.simulator.server import serve
from flows.landing.outcome import Log
from sinks.duckdb_file.sink import DuckDBSink
from sinks.memory import MemorySink
from sinks.sink import Sink
from tests import stores
from tests.flows.harness import landed, sync, truth

START, NOW = datetime(2024, 2, 28, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
END = START + timedelta(days=4)
ROOT = Path(__file__).parents[2]
MOST_RUNS = 8


@dataclass(frozen=True)
class Scene:
    """One server with its data and its faults."""

    dataset: Dataset
    profile: Profile
    faults: tuple[Fault, ...]
    since: datetime
    until: datetime


def scene(seed: int) -> Scene:
    """Everything about a run, from its seed."""
    rng = random.Random(seed)
    cap = rng.choice((7, 50, 200, 1000))
    ties = [rng.choice((cap - 1, cap, cap + 1, 3 * cap)) for _ in range(rng.randrange(3))]
    dataset = generate(events=rng.choice((0, 5, 300, 1500)), start=START, end=END, seed=seed, tie_sizes=ties)
    if len(dataset) > 20:
        chosen = rng.sample([event.uuid for event in dataset.events], 3)
        dataset.copy(chosen[:2], times=rng.randrange(3))
        if rng.random() < 0.3:
            dataset.copy(chosen[2:], properties='{"copy":1}')
    profile = replace(
        rng.choice((CLOUD, SELF_HOSTED, OLD_2023)),
        page_cap=cap,
        per_minute=None,
        per_hour=None,
        query_per_minute=None,
        query_per_hour=None,
        query_allowed=rng.random() < 0.7,
        query_refused_with=rng.choice((403, 404, 500)),
        hogql_filter_allowed=rng.random() < 0.8,
        prefixes=rng.choice((("environments", "projects"), ("projects",), ("environments",))),
    )
    # A status that means "wait a second" is waited for, so these stay rare.
    kinds = rng.sample([kind for kind in KINDS if kind not in ("429", "503-after")], rng.randrange(4))
    faults = [Fault(kind, rate=rng.choice((0.02, 0.1)), endpoint="any", seconds=0.02) for kind in kinds]
    if rng.random() < 0.05:
        faults.append(Fault(rng.choice(("429", "503-after")), at=(rng.randrange(1, 9),)))
    if rng.random() < 0.25 and len(dataset):
        victim = rng.choice(dataset.events).uuid
        faults.append(Fault(rng.choice([kind for kind in ROW_KINDS if kind != "stray-row"]), rate=1.0, uuid=victim))
    edges = sorted(START + timedelta(microseconds=rng.randrange(4 * 86_400 * 10**6)) for _ in range(2))
    since, until = (START, END) if rng.random() < 0.5 or edges[0] == edges[1] else edges
    return Scene(dataset, profile, tuple(faults), since, until)


def identities(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """uuid, event, distinct_id, timestamp: what of different copies of one event cannot differ."""
    return [row[:4] for row in rows]


@dataclass
class End:
    """How the last run ended, whether any run named something that is missing, and the microseconds that were named."""

    error: SourceError | None = None
    named: bool = False
    moments: set[datetime] = field(default_factory=set)


def load(made: Scene, seed: int, sink: Sink, directory: Path, *, port: int = 0) -> End:
    """Sync until a run ends without an error, a few times at most."""
    end = End()
    faults = Faults(made.faults, seed=seed)
    with serve(made.dataset, profile=made.profile, faults=faults, now=lambda: NOW, port=port) as simulator:
        for _ in range(MOST_RUNS):
            log = Log()
            try:
                sync(simulator.url, simulator.key, sink, directory, since=made.since, until=made.until, log=log)
                end.error = None
            except SourceError as exc:
                end.error = exc
            outcome = log.outcome()
            end.named = end.named or not outcome.complete
            end.moments.update(chain(*outcome.unproven.values(), *outcome.unserved.values()))
            if end.error is None:
                break
    return end


def assert_nothing_lost_in_silence(made: Scene, sink: Sink, end: End, *, killed: bool = False) -> None:
    """Every row is landed once, or named: by its microsecond, or by the count of those in quarantine.

    The last run has no error. What a *killed* run named only the ledger tells: a window with unread microseconds.
    """
    rows = identities(landed(sink, START - timedelta(days=999), NOW))
    wanted = identities(truth_of(made))
    assert end.error is None
    assert len(rows) == len(set(rows)), "doubled"
    assert set(rows) <= set(wanted), "invented"
    lost = [row[3] for row in set(wanted) - set(rows)]
    entries = list(sink.ledger(1, "events").entries.values())
    quarantined = sum(entry.tally.quarantined_rows for entry in entries)
    unread = [entry for entry in entries if killed and entry.facts.unread is not None]
    elsewhere = [
        at for at in lost if at not in end.moments and not any(entry.start <= at < entry.end for entry in unread)
    ]
    assert len(elsewhere) <= quarantined, f"lost at {elsewhere}, {quarantined} quarantined"
    assert end.named or killed or not lost


def truth_of(made: Scene) -> list[tuple[object, ...]]:
    merged = {event.identity: event for event in made.dataset.events}
    return truth(merged.values(), made.since, made.until)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.chance
def test_random_run_loses_nothing_in_silence(seed, tmp_path):
    """A dozen of the seeds below, in every test run."""
    made, sink = scene(seed), MemorySink()

    assert_nothing_lost_in_silence(made, sink, load(made, seed, sink, tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12, 450))
@pytest.mark.chance
def test_450_random_runs_lose_nothing_in_silence(seed, tmp_path):
    """The rest of 450 seeds, in turn into a DuckDB file, a lake, and memory."""
    made = scene(seed)
    sinks = (lambda: DuckDBSink(tmp_path / "a.duckdb"), lambda: stores.local_lake(tmp_path / "lake"), MemorySink)
    sink: Sink = sinks[seed % 3]()

    assert_nothing_lost_in_silence(made, sink, load(made, seed, sink, tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1050))
@pytest.mark.chance
def test_50_random_runs_with_kill_9_lose_nothing_in_silence(seed, tmp_path):
    """Killed at random requests and commits, then run to an end: the same promise, for a file and for a lake."""
    made, rng = scene(seed), random.Random(seed)
    address = f"duckdb:{tmp_path / 'a.duckdb'}" if seed % 2 else f"file:{tmp_path / 'lake'}"
    sink: Sink = DuckDBSink(tmp_path / "a.duckdb") if seed % 2 else stores.local_lake(tmp_path / "lake")
    children: list[subprocess.Popen[bytes]] = []
    countdown = 0

    def strike() -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0 and children:
            children[-1].send_signal(signal.SIGKILL)

    with serve(
        made.dataset,
        profile=made.profile,
        faults=Faults(made.faults, seed=seed),
        now=lambda: NOW,
        on_request=lambda seen: strike(),
        on_hook=lambda name: strike(),
    ) as simulator:
        arguments = [simulator.url, simulator.key, str(tmp_path), address]
        arguments += [made.since.isoformat(), made.until.isoformat()]
        for kill in (True, True, True, False):
            countdown = rng.randrange(2, 12) if kill else 0
            children.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.flows.crash_child", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL
                )
            )
            children[-1].wait(timeout=120)
    end = load(made, seed, sink, tmp_path, port=int(simulator.url.rsplit(":", 1)[1]))

    assert_nothing_lost_in_silence(made, sink, end, killed=True)
