"""The simulated PostHog over HTTP on loopback, for tests, the demo and users' own CI."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import uvicorn

from extractors.simulator.assets.evaluations import EvaluationStore
from extractors.simulator.assets.evaluations import seeded as seeded_evaluations
from extractors.simulator.assets.exports import ExportStore
from extractors.simulator.assets.exports import seeded as seeded_exports
from extractors.simulator.assets.lists import ListStore, stores
from extractors.simulator.assets.lists import seeded as seeded_lists
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.faults import Faults
from extractors.simulator.http.app import App
from extractors.simulator.http.asked import Behaviour, RequestSeen, Simulator
from extractors.simulator.profiles import CLOUD, Profile

__all__ = ["RequestSeen", "Simulator", "run", "serve"]


# Longer than others: its parameters are what a user's own tests set, one by one (docs/simulator.md).
@contextmanager
def serve(
    datasets: Dataset | Mapping[int, Dataset],
    *,
    profile: Profile = CLOUD,
    faults: Faults | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    key: str = "phx_simulator",
    now: Callable[[], datetime] | None = None,
    on_request: Callable[[RequestSeen], None] = lambda seen: None,
    on_hook: Callable[[str], None] = lambda name: None,
    exports: ExportStore | None = None,
    evaluations: EvaluationStore | None = None,
    lists: Mapping[str, ListStore] | None = None,
    scopes: frozenset[str] = frozenset({"*"}),
    foreign_projects: frozenset[int] = frozenset(),
) -> Iterator[Simulator]:
    """Serve *datasets* (one means project 1) until the block ends.

    *now*: the server's clock for the `Date` header and relative times. *on_request* is called before each answer,
    *on_hook* for each `POST /_simulator/hook {"name": …}`: tests end a client there. *exports* and *evaluations* of the
    first project are a few seeded ones unless they are given, its other *lists* are empty. *scopes*: what the key may.
    *foreign_projects*: those of another organization.
    """
    clock = now or _now
    with socket.create_server((host, port)) as listener:
        simulator = Simulator(
            f"http://{host}:{listener.getsockname()[1]}",
            key,
            exports or seeded_exports(clock()),
            evaluations or seeded_evaluations(clock()),
            stores() | dict(lists or {}),
        )
        behaviour = Behaviour(profile, faults or Faults(()), clock, on_request, on_hook, scopes, foreign_projects)
        app = App({1: datasets} if isinstance(datasets, Dataset) else datasets, behaviour, simulator)
        config = uvicorn.Config(
            app.asgi(),
            http=app.connections.protocol(),
            log_level="critical",
            date_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not running.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.01)
        try:
            yield simulator
        finally:
            running.should_exit = True
            thread.join(timeout=10)
            simulator.exports.storage.close()


def run(*, port: int, profile: Profile, dataset: Dataset, key: str) -> None:
    """Serve in the foreground until interrupted, telling address, key and project."""
    with serve(dataset, profile=profile, port=port, key=key, lists=seeded_lists(_now())) as simulator:
        sys.stdout.write(
            f"POSTHOG_HOST={simulator.url}\nPOSTHOG_PERSONAL_API_KEY={simulator.key}\nPOSTHOG_PROJECT_ID=1\n"
            f"# {len(dataset):,} events\n"
        )
        sys.stdout.flush()
        threading.Event().wait()


def _now() -> datetime:
    return datetime.now(UTC)
