"""The progress artifact of a backfill, with a stand-in for Prefect's server."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from flows.landing.session import Progress
from flows.orchestration import adapter, progress


@dataclass
class Shown:
    """The artifact as the server has it, and each state that it had. *away*: the server does not answer."""

    states: list[tuple[float, str]] = field(default_factory=list)
    away: bool = False

    def create(self, share: float, *, key: str, description: str) -> str:
        if self.away:
            raise OSError("connection refused")
        self.states.append((share, description))
        return key

    def update(self, key: str, share: float, description: str) -> None:
        self.states.append((share, description))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    server = Shown()
    monkeypatch.setattr(adapter, "run_id", lambda: "a run")
    monkeypatch.setattr(progress, "create_progress_artifact", lambda *a, **more: server.create(*a, **more))
    monkeypatch.setattr(progress, "update_progress_artifact", lambda *a, **more: server.update(*a, **more))
    return server


def at(done: int, *, planned: int = 31, left_s: float | None = None) -> Progress:
    return Progress(done, planned, 10 * done, None, done, left_s)


def test_first_window_moves_it_at_once_and_later_ones_now_and_then(shown):
    """A backfill of a few seconds moves, too; a fast one does not drown Prefect's server."""
    seconds = iter([0.0, 1.0, 1.0, 2.0, 5.9, 6.0, 6.0])
    with progress.bar("key", 1, monotonic=lambda: next(seconds)) as moved:
        for done in (0, 3, 4, 5, 11):
            moved(at(done))
        assert [share for share, _ in shown.states] == [0.0, 9.7, 35.5]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=["cancelled", "failed"])
def test_an_early_end_says_where_it_stopped(shown, error):
    """Whatever was shown last, and when."""

    def work() -> None:
        with progress.bar("key", 7, monotonic=lambda: 0.0) as moved:
            moved(at(1))
            moved(at(11, left_s=60.0))
            raise error

    with pytest.raises(error):
        work()

    assert shown.states[-1] == (35.5, "Project 7: stopped at 11 of 31 windows, 110 rows, 11 requests")


def test_an_early_end_before_the_first_window_is_no_success(shown):
    """A refused key, say: nothing was planned yet, and nothing is not all of it."""

    def work() -> None:
        with progress.bar("key", 7):
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        work()

    assert shown.states[-1] == (0.0, "Project 7: stopped before the first window")


ENDS = [
    pytest.param([at(30), at(31, left_s=0.5)], (100.0, "31 of 31 windows, 310 rows, 31 requests"), id="all landed"),
    pytest.param([], (100.0, "nothing to land"), id="all were landed before"),
    pytest.param([at(30)], (96.8, "30 of 31 windows, 300 rows, 30 requests"), id="one held"),
]


@pytest.mark.parametrize(("moves", "said"), ENDS)
def test_the_end_is_always_shown(shown, moves, said):
    """Where the work is through, however soon after the last change; with nothing to land it is through as well."""
    with progress.bar("key", 7, monotonic=lambda: 0.0) as moved:
        for to in moves:
            moved(to)

    assert shown.states[-1] == (said[0], f"Project 7: {said[1]}")


def test_what_is_left_is_said(shown):
    """In time, where it is foreseen."""
    with progress.bar("key", 1) as moved:
        moved(at(11, left_s=7_260.0))

        assert shown.states[-1][1].endswith("11 requests, about 2 h 1 min left")


def test_a_backfill_goes_on_without_the_artifact(shown):
    """Prefect's server was away when it was to be made."""
    shown.away = True
    with progress.bar("key", 1) as moved:
        moved(at(11))

    assert shown.states == []


def test_outside_of_prefect_nothing_is_shown(shown, monkeypatch):
    """`python -m flows.backfill` without a server."""
    monkeypatch.setattr(adapter, "run_id", lambda: "")
    with progress.bar("key", 1) as moved:
        moved(at(11))

    assert shown.states == []
