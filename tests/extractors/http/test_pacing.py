"""The shared budget: limits hold in every sliding window, for every process of the key, across restarts.

The clock is a value that only sleep and the tests move.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.errors import LimitsExhausted
from extractors.http.pacing import HOUR_S, MARGIN_S, MINUTE_S, Limit, Pacing, Share, Wait, due_in_s
from extractors.request import Bucket

WIDE = Limit(10_000, 10_000)
HOST, KEY = "https://eu.example.com", "phx_secret"


@dataclass
class Clock:
    """Seconds since 1970 that pass only while somebody sleeps."""

    now: float = 1_800_000_000.0
    waits: list[Wait] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pacing(
    directory: Path,
    clock: Clock,
    limit: Limit = WIDE,
    *,
    key: str = KEY,
    max_wait_s: float | None = None,
    share: Share | None = None,
) -> Pacing:
    return Pacing(
        directory,
        host=HOST,
        key=key,
        limits=dict.fromkeys(Bucket, limit),
        max_wait_s=max_wait_s,
        share=share,
        clock=lambda: clock.now,
        sleep=clock.sleep,
        on_wait=clock.waits.append,
    )


def ask(pace: Pacing, clock: Clock, bucket: Bucket = Bucket.LIST) -> float:
    """One request; the moment it was let through."""
    with pace.turn(bucket, 1):
        return clock.now


def busiest(times: list[float], span_s: float) -> int:
    """The most requests that any half-open window of *span_s* holds."""
    return max(sum(start <= at < start + span_s for at in times) for start in times)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.builds(Limit, st.integers(1, 6), st.integers(1, 15)),
    st.lists(st.sampled_from([0.0, 0.3, 7.0, 59.9, 61.0, 400.0]), min_size=1, max_size=40),
)
def test_limits_hold_in_every_window(limit, pauses):
    """No 60 s and no 3,600 s hold more requests than allowed, however the caller's own pauses fall."""
    clock, times = Clock(), []
    with TemporaryDirectory() as directory:
        pace = pacing(Path(directory), clock, limit)
        for pause_s in pauses:
            clock.sleep(pause_s)
            times.append(ask(pace, clock))

    assert busiest(times, MINUTE_S) <= limit.per_minute
    assert busiest(times, HOUR_S) <= limit.per_hour


DUE = [
    pytest.param([], Limit(2, 9), 0.0, "", id="none used"),
    pytest.param([-1.0], Limit(2, 9), 0.0, "", id="one left"),
    pytest.param([-50.0, -1.0], Limit(2, 9), 10.0 + MARGIN_S, "2 requests a minute", id="minute"),
    pytest.param([-50.0, -40.0, -1.0], Limit(2, 9), 20.0 + MARGIN_S, "2 requests a minute", id="more than allowed"),
    pytest.param([-61.0, -60.5], Limit(2, 9), 0.0, "", id="one of the two is past the margin"),
    pytest.param([-3500.0, -70.0], Limit(2, 2), 100.0 + MARGIN_S, "2 requests an hour", id="hour"),
    pytest.param([-3500.0, -1.0, -1.0], Limit(2, 3), 100.0 + MARGIN_S, "3 requests an hour", id="the longer wait"),
]


@pytest.mark.parametrize(("times", "limit", "seconds", "reason"), DUE)
def test_wait_ends_when_the_oldest_request_leaves_the_window(times, limit, seconds, reason):
    """Exactly as long as the limit asks, a second of margin included, and no request is refused a free place."""
    assert due_in_s(times, limit, 0.0) == pytest.approx((seconds, reason) if reason else (0.0, ""))


def test_budget_is_shared_by_everyone_with_the_key(tmp_path):
    """Two processes of one key together stay inside the limit; one that starts later counts what went before."""
    clock = Clock()
    pair = [pacing(tmp_path, clock, Limit(4, 100)) for _ in range(2)]
    for number in range(4):
        ask(pair[number % 2], clock)
    assert clock.waits == []

    ask(pacing(tmp_path, clock, Limit(4, 100)), clock)

    assert [wait.seconds for wait in clock.waits] == [MINUTE_S + MARGIN_S]


APART = [
    pytest.param("phx_other", Bucket.LIST, id="another key"),
    pytest.param(KEY, Bucket.QUERY, id="another bucket"),
]


@pytest.mark.parametrize(("key", "bucket"), APART)
def test_budgets_of_other_keys_and_buckets_are_apart(tmp_path, key, bucket):
    """A used-up budget makes nobody else wait."""
    clock = Clock()
    ask(pacing(tmp_path, clock, Limit(1, 100)), clock)

    ask(pacing(tmp_path, clock, Limit(1, 100), key=key), clock, bucket)

    assert clock.waits == []


def test_used_counts_the_last_minute_and_hour(tmp_path):
    """What the report tells of the budget."""
    clock = Clock()
    pace = pacing(tmp_path, clock)
    for pause_s in (0, 3_000, 590, 5):
        clock.sleep(pause_s)
        ask(pace, clock)

    assert pace.used(Bucket.LIST) == (2, 4)


@pytest.mark.parametrize("seconds", [1.0, 37.0, 3600.0])
def test_block_is_waited_exactly_by_everyone(tmp_path, seconds):
    """After a 429 nobody asks before its Retry-After is over, nor waits any longer."""
    clock = Clock()
    start = clock.now
    pacing(tmp_path, clock).block(Bucket.LIST, seconds)

    assert ask(pacing(tmp_path, clock), clock) == start + seconds


def test_shorter_block_does_not_end_a_longer_one(tmp_path):
    """Of two Retry-After the later end counts."""
    clock = Clock()
    start, pace = clock.now, pacing(tmp_path, clock)
    pace.block(Bucket.LIST, 60)
    pace.block(Bucket.LIST, 5)

    assert ask(pace, clock) == start + 60


def test_wait_longer_than_allowed_is_an_error_and_frees_the_slots(tmp_path):
    """A run that may not wait so long ends with a hint, before it sleeps; a wait that is allowed is waited."""
    clock = Clock()
    start, impatient = clock.now, pacing(tmp_path, clock, max_wait_s=30)
    impatient.block(Bucket.LIST, 31)

    with pytest.raises(LimitsExhausted, match="31 s") as raised, impatient.turn(Bucket.LIST, 1, alone=True):
        pass

    assert "--max-wait" in raised.value.hint
    assert (clock.now, impatient.waited_s) == (start, 0)
    clock.sleep(1)
    assert ask(impatient, clock) == start + 31


def test_waits_of_a_run_are_bounded_in_sum(tmp_path):
    """Two waits that are allowed each are one too many together; what was waited counts, and what was not does not."""
    clock = Clock()
    impatient = pacing(tmp_path, clock, max_wait_s=30)
    impatient.block(Bucket.LIST, 20)
    ask(impatient, clock)
    impatient.block(Bucket.LIST, 20)

    with pytest.raises(LimitsExhausted, match=r"40 s, .* 30 s"):
        ask(impatient, clock)

    assert impatient.waited_s == 20


@pytest.mark.parametrize(
    ("allowed_s", "asked_s", "said"),
    [(600, 3420.004, "57 min 1 s, more than the 10 min allowed"), (3605, 7200, "2 h, more than the 1 h 5 s allowed")],
)
def test_a_wait_that_is_too_long_is_said_in_words(allowed_s, asked_s, said, tmp_path):
    """Hours, minutes and seconds, and never as much as is allowed where it is more."""
    clock = Clock()
    impatient = pacing(tmp_path, clock, max_wait_s=allowed_s)
    with pytest.raises(LimitsExhausted, match=said):
        impatient.pause(Wait(asked_s, "PostHog asked to wait (429)"))


def test_waits_for_a_slot_count(tmp_path):
    """A neighbour that keeps the project's slots is waited for no longer than all waits together may take."""
    clock = Clock()
    impatient = pacing(tmp_path, clock, max_wait_s=30)
    impatient.block(Bucket.LIST, 20)
    ask(impatient, clock)
    given_up_at = clock.now + 60
    impatient._sleep = lambda seconds: clock.sleep(seconds) if clock.now < given_up_at else pytest.fail("never ends")

    with (
        pacing(tmp_path, clock).turn(Bucket.LIST, 1, alone=True),
        pytest.raises(LimitsExhausted, match=r"other requests .* 30 s"),
    ):
        ask(impatient, clock)

    assert impatient.waited_s == pytest.approx(30, abs=0.05)


def test_slots_that_come_free_are_counted_as_waited(tmp_path):
    """What the report says was waited includes the neighbours' requests."""
    clock, neighbours = Clock(), ExitStack()
    waiting = pacing(tmp_path, clock)
    neighbours.enter_context(pacing(tmp_path, clock).turn(Bucket.LIST, 1, alone=True))
    free_at = clock.now + 5
    waiting._sleep = lambda seconds: (clock.sleep(seconds), clock.now >= free_at and neighbours.close())

    ask(waiting, clock)

    assert waiting.waited_s == pytest.approx(5, abs=0.05)


@pytest.mark.parametrize("back_s", [30, 86_400], ids=["half a minute", "a day"])
@pytest.mark.parametrize("blocked", [False, True])
def test_clock_set_back_does_not_block(tmp_path, back_s, blocked):
    """Requests and blocks noted in the future hold nobody up longer than a limit's own window."""
    clock = Clock()
    pace = pacing(tmp_path, clock, Limit(1, 2))
    ask(pace, clock)
    if blocked:
        pace.block(Bucket.LIST, 10)
    clock.now -= back_s
    start = clock.now

    assert ask(pace, clock) - start <= MINUTE_S + MARGIN_S


DAMAGED = [b"", b"{", b"[]", b"null", b'{"list": 1}', b'{"list": {"at": null}}', b'{"list": {"at": ["x"]}}', b"\xff"]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_state_counts_as_empty(tmp_path, content):
    """A file that is not ours stops no run; the source corrects us with a 429."""
    clock = Clock()
    ask(pacing(tmp_path, clock), clock)
    (state,) = tmp_path.glob("*.json")
    state.write_bytes(content)

    ask(pacing(tmp_path, clock, Limit(1, 1)), clock)

    assert clock.waits == []
    assert len(json.loads(state.read_text())["list"]["at"]) == 1


def test_state_files_are_private_and_tell_nothing(tmp_path):
    """Only the owner reads them, whatever the umask, and neither name nor content shows host or key."""
    before = os.umask(0)
    try:
        ask(pacing(tmp_path / "new", clock := Clock()), clock)
    finally:
        os.umask(before)
    files = list((tmp_path / "new").iterdir())

    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert sorted(file.suffix for file in files) == [".json", ".lock", ".slot0"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    shown = " ".join(file.name + file.read_text() for file in files)
    assert not any(secret in shown for secret in ("example", "phx", "secret", "eu."))


def taken(directory: Path) -> int:
    """How many slots somebody holds."""
    count = 0
    for file in directory.glob("*.slot*"):
        with file.open("a") as slot:
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                count += 1
    return count


@pytest.mark.parametrize(("bucket", "alone", "slots"), [("list", False, 1), ("list", True, 2), ("query", False, 0)])
def test_turn_holds_its_slots_until_it_ends(tmp_path, bucket, alone, slots):
    """One slot per request of the list, all of the project's for one that must be alone."""
    with pacing(tmp_path, Clock()).turn(Bucket(bucket), 1, alone=alone):
        assert taken(tmp_path) == slots

    assert taken(tmp_path) == 0


HOLD = """
import sys
from pathlib import Path
from extractors.http.pacing import Limit, Pacing
from extractors.request import Bucket
pace = Pacing(Path(sys.argv[1]), host=sys.argv[2], key=sys.argv[3], limits=dict.fromkeys(Bucket, Limit(99, 99)))
with pace.turn(Bucket.LIST, 1, alone=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_slot_dies_with_its_process(tmp_path):
    """A killed process leaves no slot taken: the next one goes on at once."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), HOST, KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert (holder.stdout.readline(), taken(tmp_path)) == ("held\n", 2)
        holder.kill()

    with pacing(tmp_path, Clock()).turn(Bucket.LIST, 1, alone=True):
        pass


def test_shares_are_kept_beside_the_limit(tmp_path):
    """Two parts of a backfill get their share each, whoever is faster, and the rest is the sync's; together the limit."""
    clock = Clock()
    limit = Limit(8, 10_000)
    first, second = (pacing(tmp_path, clock, limit, share=Share(f"{number} of 2", 0.375)) for number in (1, 2))
    sync = pacing(tmp_path, clock, limit)
    start = clock.now

    assert [ask(first, clock) - start for _ in range(3)] == [0, 0, 0]
    assert [ask(second, clock) - start for _ in range(3)] == [0, 0, 0]
    assert [ask(sync, clock) - start for _ in range(2)] == [0, 0]
    assert ask(first, clock) - start > MINUTE_S


def test_share_is_kept_across_restarts_and_machines(tmp_path):
    """A part that is started again has used what it used; one on another machine keeps to its share without knowing."""
    clock = Clock()
    limit, share = Limit(8, 10_000), Share("1 of 2", 0.5)
    for _ in range(4):
        ask(pacing(tmp_path, clock, limit, share=share), clock)
    elsewhere = pacing(tmp_path / "elsewhere", clock, limit, share=share)
    start = clock.now
    times = [ask(elsewhere, clock) - start for _ in range(5)]

    assert times[3] == 0
    assert times[4] > MINUTE_S
    clock.now = start
    assert ask(pacing(tmp_path, clock, limit, share=share), clock) - start > MINUTE_S


@pytest.mark.parametrize("of", [0, -0.5, 1.5])
def test_share_is_a_part(of):
    """Nothing, less or more than everything is no share."""
    with pytest.raises(ValueError, match="share"):
        Share("x", of)
