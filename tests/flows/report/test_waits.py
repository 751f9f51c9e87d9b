"""What is waited for is seen on a terminal the whole time: counted down, with the time of day when it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from extractors.http.pacing import Limit, Pacing, Wait
from extractors.request import Bucket
from extractors.simulator.faults import Fault, Faults
from extractors.simulator.server import RequestSeen, Simulator, serve
from flows.landing.session import Progress
from flows.report import terminal
from flows.runs import check
from flows.runs.remaining import foreseeing, remaining_s
from flows.runs.wiring import Listener
from flows.settings.model import Settings
from tests.flows.cli.test_cli import DATASET, RANGE, environment
from tests.flows.harness import UNLIMITED
from tests.program import HEDGEROW, run, surroundings, told

WAITING = re.compile(r"waiting (\d+):(\d\d):(\d\d) more, until (\d\d:\d\d:\d\d) \S+: ([^\r\x1b]*)")
Frame = tuple[float, int, str, str]  # when it was drawn, seconds left, until when, why


def on_terminal(simulator: Simulator, home: Path, *arguments: str) -> tuple[int, list[Frame], str]:
    """A command whose stderr is a terminal: its exit status, every frame of a wait, and all that it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [HEDGEROW, *arguments],
        cwd=home,
        env=environment(simulator, home, TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    frames, said = [], ""
    while True:
        try:
            came = os.read(ours, 65536).decode(errors="replace")
        except OSError:  # the terminal is closed
            break
        if not came:
            break
        said += came
        for hours, minutes, seconds, until, why in WAITING.findall(came):
            left = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
            frames.append((time.monotonic(), left, until, why.strip()))
    os.close(ours)
    return process.wait(timeout=60), frames, said


def used_up(home: Path, *, free_in_s: float) -> None:
    """Note that the minute's requests were sent so long ago that the next may go in *free_in_s*."""
    (file,) = (home / "state").glob("*.json")
    sections = json.loads(file.read_text())
    sections[Bucket.LIST] = {"at": [time.time() - 61 + free_in_s] * 240, "blocked_until": 0.0}
    file.write_text(json.dumps(sections))


@pytest.mark.parametrize(
    ("faults", "ours", "why"),
    [
        (Faults([Fault("429", at=(3,), seconds=2)]), False, "PostHog asked to wait (429)"),
        (Faults([]), True, "the limit of 240 requests a minute is used up"),
    ],
    ids=["the server's 429", "our own limit"],
)
def test_a_wait_is_seen_until_it_is_over(faults, ours, why, tmp_path):
    """Drawn at least each second and a half, counting down, whatever else is told meanwhile; gone at the end."""

    def seen(request: RequestSeen) -> None:
        if ours and (request.endpoint, request.number) == (
            "query",
            1,
        ):  # the program has begun, and no page is asked yet
            used_up(tmp_path, free_in_s=2.2)

    with serve(DATASET, profile=UNLIMITED, faults=faults, on_request=seen) as simulator:
        status, frames, said = on_terminal(simulator, tmp_path, "backfill", *RANGE)

    assert status == 0, said
    drawn = [at for at, *_ in frames]
    left = [seconds for _, seconds, *_ in frames]
    assert {why for *_, why in frames} == {why}
    assert left == sorted(left, reverse=True)
    assert set(left) >= {2, 1}
    assert max(later - earlier for earlier, later in pairwise(drawn)) < 1.5
    assert len({until for _, _, until, _ in frames}) == 1
    assert "waiting" not in said[said.rindex(why) + len(why) :]


def test_a_wait_of_a_look_up_counts_down(tmp_path):
    """Where no bar of progress draws it."""
    with serve(DATASET, profile=UNLIMITED, faults=Faults([Fault("429", at=(1,), seconds=2)])) as simulator:
        status, frames, said = on_terminal(simulator, tmp_path, "events", "list", *RANGE, "--limit", "1")

    assert status == 0, said
    assert {left for _, left, *_ in frames} >= {2, 1}


@pytest.fixture
def simulator_that_asks_to_wait() -> Iterator[Simulator]:
    with serve(DATASET, profile=UNLIMITED, faults=Faults([Fault("429", at=(1,))])) as running:
        yield running


def test_a_wait_elsewhere_is_one_line(simulator_that_asks_to_wait, tmp_path):
    """Without a terminal one line when it begins, with how long and until when."""
    asked = ["events", "list", *RANGE, "--limit", "1"]
    done = told(run(asked, tmp_path, environment(simulator_that_asks_to_wait, tmp_path)))
    lines = [line for line in done.stderr.splitlines() if "waiting" in line]

    assert done.returncode == 0, done.stderr
    assert len(lines) == 1
    assert re.fullmatch(r"waiting 1\.0 s, until \d\d:\d\d:\d\d \S+: PostHog asked to wait \(429\)", lines[0]), lines


def test_a_wait_that_follows_another_keeps_its_line():
    """The first one's end may come when the second has begun: it takes away its own line only."""
    countdown = terminal._Countdown()
    countdown.begin(Wait(60, "the first"))
    first = countdown._live
    countdown.begin(Wait(60, "the second"))
    second = countdown._live
    countdown.end(first)

    assert countdown._live is second is not None
    countdown.end(second)
    assert countdown._live is None


def test_a_wait_names_the_time_of_day_when_it_ends():
    """By this machine's clock, with its zone, because logs are read elsewhere."""
    before = datetime.now().astimezone()
    said = terminal.waiting(Wait(3600, "the limit is used up"))
    until = re.search(r"waiting 1 h, until (\d\d:\d\d:\d\d) (\S+): the limit is used up", said)

    assert until is not None, said
    assert f"{before + timedelta(hours=1):%H:%M:%S}" <= until[1] or until[1] < "00:01"
    assert until[2] == before.tzname()


REMAINING = [
    # windows done, planned, requests, busy seconds; ages of earlier requests; limit; seconds left
    (Progress(0, 10, 0, None, 3), 3.0, [], Limit(240, 1200), None),  # nothing is done: nothing is known
    (Progress(5, 10, 0, None, 10), 10.0, [], Limit(240, 1200), 10.0),  # as fast as until now
    (Progress(10, 10, 0, None, 10), 10.0, [], Limit(240, 1200), 0.0),
    (Progress(1, 2, 0, None, 100), 10.0, [5.0] * 100, Limit(100, 1200), 66.0),  # a minute's requests are used up
    (Progress(1, 11, 0, None, 240), 24.0, [], Limit(2400, 1200), 3600 + 120.0),  # the hour's
    (Progress(1, 1001, 0, None, 1200), 120.0, [], Limit(2400, 1200), 1000 * 3600.0),  # weeks
]


@pytest.mark.parametrize(("at", "busy_s", "ages", "limit", "left_s"), REMAINING)
def test_what_is_left_knows_the_limits(at, busy_s, ages, limit, left_s):
    """Requests of the windows to come, at the pace until now, and not faster than the limits allow."""
    found = remaining_s(at, busy_s=busy_s, ages_s=ages, limit=limit)

    assert found == (None if left_s is None else pytest.approx(left_s, rel=0.02, abs=1.0))


def test_what_is_left_counts_down_between_two_reckonings(tmp_path):
    """A progress told a second later than another has a second less, although it is not reckoned anew."""
    budget = Pacing(tmp_path, host="h", key="k", limits={Bucket.LIST: Limit(240, 1200)})
    now, told = [0.0], []
    progress = foreseeing(told.append, budget, Limit(240, 1200), monotonic=lambda: now[0])
    progress(Progress(0, 10, 0, None, 0))
    for at_s in (10.0, 10.6):
        now[0] = at_s
        progress(Progress(5, 10, 0, None, 10))

    assert [one.left_s for one in told[1:]] == [pytest.approx(10.0), pytest.approx(9.4)]


def test_nothing_is_left_when_all_is_landed(tmp_path):
    """At once, although it was reckoned a moment ago."""
    budget = Pacing(tmp_path, host="h", key="k", limits={Bucket.LIST: Limit(240, 1200)})
    now, told = [0.0], []
    progress = foreseeing(told.append, budget, Limit(240, 1200), monotonic=lambda: now[0])
    progress(Progress(0, 10, 0, None, 0))
    for at_s, windows_done in ((10.0, 9), (10.2, 10)):
        now[0] = at_s
        progress(Progress(windows_done, 10, 0, None, 10))

    assert [one.left_s for one in told[1:]] == [pytest.approx(1.1, abs=0.2), 0.0]


def test_what_is_left_forgets_what_was_asked_before_the_first_window(tmp_path):
    """Questions at the start cost no window to come: a thousand empty days were said to take a day."""
    budget = Pacing(tmp_path, host="h", key="k", limits={Bucket.LIST: Limit(240, 1200)})
    told: list[Progress] = []
    foreseeing(told.append, budget, Limit(240, 1200), monotonic=iter([0.0, 0.1]).__next__)(
        Progress(1, 201, 0, None, 33)
    )

    assert told[0].left_s == pytest.approx(200 * 0.1 / 33, abs=1.0)


def test_a_wait_that_is_broken_off_counts_as_long_as_it_was(tmp_path):
    """Ctrl-C after a moment of a long wait: what was waited is that moment."""
    budget = Pacing(tmp_path, host="h", key="k", limits={Bucket.LIST: Limit(240, 1200)})
    raised = threading.Event()

    def sleep(seconds: float) -> None:
        time.sleep(0.05)
        raised.set()
        raise KeyboardInterrupt

    budget._sleep = sleep
    with pytest.raises(KeyboardInterrupt):
        budget.pause(Wait(3480, "the limit is used up"))

    assert raised.is_set()
    assert 0.04 < budget.waited_s < 5


def test_a_wait_under_way_counts_as_long_as_it_has_been(tmp_path):
    """Ctrl-C ends the run while its reading thread waits, and nobody waits for that thread."""
    asleep, over = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        asleep.set()
        over.wait(5)

    budget = Pacing(tmp_path, host="h", key="k", limits={Bucket.LIST: Limit(240, 1200)}, sleep=sleep)
    reading = threading.Thread(target=budget.pause, args=(Wait(3480, "the limit is used up"),))
    reading.start()
    asleep.wait(5)
    time.sleep(0.05)
    waited_s = budget.waited_s
    over.set()
    reading.join()

    assert 0.04 < waited_s < 5
    assert budget.waited_s == 3480


def test_a_run_that_waits_has_at_least_the_wait_left(monkeypatch):
    """The source's 429 is foreseen by nobody: what was reckoned before it does not run down to nothing meanwhile."""
    said = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=said, force_terminal=True, width=100))
    with terminal.progress(1, quiet=False, verbose=False) as listener:
        listener.progress(Progress(5, 10, 0, None, 10, left_s=2.0))
        listener.wait(Wait(47.5, "PostHog asked to wait (429)"))

    assert re.findall(r"\d:\d\d:\d\d left", said.getvalue())[-1] in ("0:00:47 left", "0:00:48 left")


def test_a_wait_for_a_file_counts_down_until_it_is_free(monkeypatch):
    """Nobody knows when its holder lets go, but when hedgerow gives up; the line goes as soon as the file is free."""
    said = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=said, force_terminal=True, width=100))
    with terminal.waits() as listener:
        listener.busy(Wait(47.5, "a.duckdb is open in another process"))
        drawn = said.getvalue()
        listener.busy(None)
        taken_away = said.getvalue()[len(drawn) :]
        listener.busy(None)

    assert re.search(r"waiting up to 0:00:4[78] more, until \d\d:\d\d:\d\d \S+: a\.duckdb is open", drawn), drawn
    assert taken_away.endswith("\x1b[2K"), taken_away  # the line is emptied


HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"
)


@pytest.fixture(scope="module")
def held_file(tmp_path_factory) -> Iterator[Path]:
    """A DuckDB file that another process has open, in a home that waits a moment for it."""
    home = tmp_path_factory.mktemp("held")
    duckdb.connect(str(home / "posthog.duckdb")).close()
    (home / "hedgerow.toml").write_text('[duckdb]\nlock_timeout = "0.1s"\n')
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home / "posthog.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield home / "posthog.duckdb"
        holder.kill()


@pytest.mark.parametrize("line", ["sql x", "status", "copy --from duckdb:posthog.duckdb --to file:lake"])
def test_every_command_tells_that_it_waits_for_a_file(line, held_file, main):
    """One line when it begins, also of commands that land nothing; then exit 12."""
    done = main(line.split(), held_file.parent, surroundings(held_file.parent))
    (told,) = (said for said in done.stderr.splitlines() if said.startswith("waiting"))

    assert done.returncode == 12, done.stderr
    assert re.fullmatch(r"waiting up to 0\.1 s, until \S+ \S+: posthog\.duckdb is open in another process.*", told)


def test_check_tells_that_it_waits_for_the_file(held_file):
    """As it asks the source, too."""
    settings = Settings.model_validate(
        {"destination": {"address": f"duckdb:{held_file}"}, "duckdb": {"lock_timeout": "0.1s"}}
    )
    heard: list[Wait | None] = []
    finding = check._destination(settings, 1, Listener(busy=heard.append))

    assert (finding.verdict, [wait and wait.seconds for wait in heard]) == (check.Verdict.FAIL, [0.1, None])


def test_each_stream_has_a_bar_of_its_own(monkeypatch, tmp_path, main):
    """That of events would stand there as done while contents of exports come."""
    said = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=said, force_terminal=True, width=100))
    monkeypatch.setattr("flows.cli.loading._load_stream", lambda *given: None)
    key = {"POSTHOG_PERSONAL_API_KEY": "phx_a", "POSTHOG_PROJECT_ID": "1"}
    done = main(["sync", "events", "exports"], tmp_path, surroundings(tmp_path, **key))

    assert done.returncode == 0, done.stderr
    assert list(dict.fromkeys(re.findall(r"events|exports", said.getvalue()))) == ["events", "exports"]
