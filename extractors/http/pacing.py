"""Keeps requests inside the source's limits before they are refused, shared by every process of one key.

The limits are sliding windows per key (facts/posthog-api.md §5.4): 240 a minute and 1,200 an hour for the events list,
two at a time per project. Request times lie in a small JSON file, one section per bucket, changed under flock and
replaced whole, so that restarts and neighbours count too. A request is written down before it is sent: a crash can only
make us slower. Slots for requests in flight are locked files; the lock dies with its process.

Knows no HTTP. Clock and sleep are given.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from extractors.errors import LimitsExhausted, StateUnwritable, Stopped
from extractors.request import Bucket

MINUTE_S, HOUR_S = 60.0, 3600.0
# The server stamps a request later than we do, by the way there; a second more on each window absorbs the difference
# between two such ways (1.6 % of a minute, 0.03 % of an hour).
MARGIN_S = 1.0
SLOT_POLL_S, SLOT_TOLD_S = 0.02, 2.0


@dataclass(frozen=True, slots=True)
class Limit:
    """Requests allowed in any 60 s and in any 3,600 s."""

    per_minute: int
    per_hour: int

    def __post_init__(self) -> None:
        if self.per_minute < 1 or self.per_hour < 1:
            raise ValueError(f"a limit needs at least one request: {self.per_minute}/min, {self.per_hour}/h")

    def part(self, share: float) -> Limit:
        """The *share* of this limit, rounded down to whole requests, and one at least."""
        return Limit(max(1, int(self.per_minute * share)), max(1, int(self.per_hour * share)))


@dataclass(frozen=True, slots=True)
class Share:
    """A fixed part of every limit, kept by all runs of one *name* on this machine: what else the key does goes beside it.

    Machines do not see each other's requests, so that runs on several of them must divide the key's limits beforehand.
    """

    name: str
    of: float

    def __post_init__(self) -> None:
        if not 0 < self.of <= 1:
            raise ValueError(f"a share is more than nothing and at most everything: {self.of}")


# The list's limit is a setting; the others are PostHog's own (§5.4), the query one its newer form.
QUERY, VALUES, REST = Limit(240, 2400), Limit(60, 300), Limit(480, 4800)


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause that was decided: how long, and why in words for people."""

    seconds: float
    reason: str


@dataclass(slots=True)
class _Section:
    at: list[float] = field(default_factory=list)
    blocked_until: float = 0.0


def due_in_s(times: list[float], limit: Limit, now: float) -> tuple[float, str]:
    """Seconds until one more request keeps *limit*, and which limit says so. Pure; *times* ascending, seconds."""
    waits = []
    for allowed, span, name in ((limit.per_minute, MINUTE_S, "a minute"), (limit.per_hour, HOUR_S, "an hour")):
        recent = [at for at in times if at > now - span - MARGIN_S]
        if len(recent) >= allowed:
            waits.append((recent[-allowed] + span + MARGIN_S - now, f"{allowed} requests {name}"))
    return max(waits, default=(0.0, ""))


def finished_in_s(ages_s: Sequence[float], limit: Limit, *, requests: int, each_s: float) -> float:
    """Seconds until *requests* more, each taking *each_s*, are through. Pure; *ages_s* of earlier ones, oldest first."""
    times = [-age for age in ages_s]
    now = 0.0
    for _ in range(requests):
        for allowed, span in ((limit.per_minute, MINUTE_S), (limit.per_hour, HOUR_S)):
            if len(times) >= allowed:
                now = max(now, times[-allowed] + span + MARGIN_S)
        times.append(now)
        now += each_s
    return now


class Pacing:
    """The shared budget of one host and key. Thread-safe through the file locks.

    *share*: keep this part of the limits beside the limits themselves.
    *max_wait_s*: a wait that would make all waits together longer than this raises LimitsExhausted instead (None: no
    bound). *on_wait* hears every wait before it starts, but short ones for a slot. *before_rest* is called by whoever is
    about to sleep, in its own thread. *sleep*: if it is given, it is not ended by interrupted().
    Raises StateUnwritable where a request cannot be written down; it is not sent then.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str,
        key: str,
        limits: dict[Bucket, Limit],
        in_flight: int = 2,
        share: Share | None = None,
        max_wait_s: float | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] | None = None,
        on_wait: Callable[[Wait], None] = lambda wait: None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A name that tells neither host nor key.
        name = hashlib.sha256(f"{host}\n{key}".encode()).hexdigest()[:24]
        self._directory = directory
        self._file = directory / f"{name}.json"
        self._lock = directory / f"{name}.lock"
        self._slots = directory / name
        self._limits = limits
        self._in_flight = in_flight
        self._share = share
        self.max_wait_s = max_wait_s
        self.before_rest: Callable[[], None] = lambda: None
        self._stopped = threading.Event()
        self._clock, self._sleep, self._on_wait = clock, sleep or self.nap, on_wait
        self._waited_s = 0.0
        self._resting: tuple[float, float] | None = None  # since when, and for how long at most

    @property
    def waited_s(self) -> float:
        """Seconds that were waited so far, for slots too, and of the wait under way, which Ctrl-C leaves behind in its thread."""
        resting = self._resting
        return self._waited_s + (min(resting[1], time.monotonic() - resting[0]) if resting else 0.0)

    @contextmanager
    def turn(self, bucket: Bucket, project_id: int, *, alone: bool = False) -> Iterator[None]:
        """Wait for a free slot of the project and for the bucket's limits, then hold the slot for one request.

        *alone*: hold every slot of the project, for a question that failed beside a neighbour's.
        Raises Stopped while somebody is within interrupted().
        """
        count = self._in_flight if alone else 1
        while True:
            self._go_on()
            with ExitStack() as held:
                if bucket is Bucket.LIST:
                    self._take_slots(held, project_id, count)
                wait = self._reserve(bucket)
                if wait is None:
                    yield
                    return
            # Without the slot: another bucket's request or another process may go meanwhile.
            self.pause(wait)

    def block(self, bucket: Bucket, seconds: float) -> Wait:
        """Note a Retry-After for every process of the key; returns the wait it means."""
        with self._sections() as sections:
            section = sections.setdefault(bucket, _Section())
            section.blocked_until = max(section.blocked_until, self._clock() + seconds)
        return Wait(seconds, "PostHog asked to wait (429)")

    def pause(self, wait: Wait) -> None:
        """Say it, then sleep; raises LimitsExhausted where the run would have waited longer than it may."""
        self._allow(wait)
        self._on_wait(wait)
        self._rest(wait.seconds)

    def _allow(self, wait: Wait) -> None:
        """Raises LimitsExhausted where *wait* is one too many, before anybody sleeps."""
        total_s = self.waited_s + wait.seconds
        if self.max_wait_s is None or total_s <= self.max_wait_s:
            return
        raise LimitsExhausted(
            f"{wait.reason}: the waits of this run would come to {_spoken(total_s)}, more than the "
            f"{_spoken(self.max_wait_s)} allowed",
            hint="everything landed stays; run again later, or allow a longer --max-wait",
        )

    def _rest(self, seconds: float) -> None:
        """Sleep, and count it, as far as it went where it is broken off. Raises Stopped."""
        self.before_rest()
        begun_s = time.monotonic()
        whole, self._resting = False, (begun_s, seconds)
        try:
            self._sleep(seconds)
            whole = not self._stopped.is_set()
        finally:
            self._resting = None
            self._waited_s += seconds if whole else min(seconds, time.monotonic() - begun_s)
        self._go_on()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Within the block, which another thread enters, every wait ends at once and every turn raises Stopped.

        Leaving it by an error leaves it so.
        """
        self._stopped.set()
        yield
        self._stopped.clear()

    def nap(self, seconds: float) -> None:
        """Sleep, but not through interrupted()."""
        self._stopped.wait(seconds)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise Stopped("the reading was stopped")

    def used(self, bucket: Bucket) -> tuple[int, int]:
        """Requests of the last minute and of the last hour, by every process of the key."""
        ages = self.ages_s(bucket)
        return sum(age < MINUTE_S for age in ages), len(ages)

    def ages_s(self, bucket: Bucket) -> list[float]:
        """How long ago, in seconds, each request of the last hour was sent, oldest first, by every process of the key."""
        now = self._clock()
        ages = [now - at for at in _read(self._file).get(bucket, _Section()).at]
        return [age for age in ages if age < HOUR_S]

    def _reserve(self, bucket: Bucket) -> Wait | None:
        """Write the request down and return None, or the wait that comes first."""
        with self._sections() as sections:
            now = self._clock()
            section = sections.setdefault(bucket, _Section())
            kept = [(section, self._limits[bucket])]
            if self._share is not None:
                mine = sections.setdefault(f"{bucket} of {self._share.name}", _Section())
                kept.append((mine, self._limits[bucket].part(self._share.of)))
            for one, _ in kept:
                # A clock set back must not block for hours: what lies ahead of now counts as now.
                one.at = sorted(min(at, now) for at in one.at if at > now - HOUR_S - MARGIN_S)
            if section.blocked_until - now > 2 * HOUR_S:
                section.blocked_until = 0.0
            if section.blocked_until > now:
                return Wait(section.blocked_until - now, "PostHog asked to wait (429)")
            seconds, name = max(due_in_s(one.at, limit, now) for one, limit in kept)
            if seconds > 0:
                return Wait(seconds, f"the limit of {name} is used up")
            for one, _ in kept:
                one.at.append(now)
        return None

    @contextmanager
    def _sections(self) -> Iterator[dict[str, _Section]]:
        with ExitStack() as held:
            with self._writing():
                lock = held.enter_context(_private(self._lock, "a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            sections = _read(self._file)
            yield sections
            text = json.dumps({name: {"at": s.at, "blocked_until": s.blocked_until} for name, s in sections.items()})
            new = self._file.with_suffix(".new")
            with self._writing():
                with _private(new, "w") as file:
                    file.write(text)
                new.replace(self._file)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What the state directory refuses, in our words."""
        try:
            yield
        except OSError as exc:
            raise StateUnwritable(
                f"cannot write the state directory {self._directory}: {exc.strerror or exc}",
                hint="requests are counted there, for every process of the key: free space in it, or set "
                "HEDGEROW_STATE_DIR to a directory that can be written",
            ) from exc

    def _take_slots(self, held: ExitStack, project_id: int, count: int) -> None:
        """Lock *count* of the project's slots.

        One is whichever is free first; all are taken in order, so that two who want all cannot block each other. A long
        wait is told; every wait counts.
        """
        files = [Path(f"{self._slots}.{project_id}.slot{number}") for number in range(self._in_flight)]
        waited_s, told = 0.0, False
        while files and count:
            taken = None
            for file in files[:1] if count == len(files) else files:
                with self._writing():
                    slot = _private(file, "a")
                    try:
                        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        slot.close()
                        continue
                held.enter_context(slot)
                taken = file
                break
            if taken is not None:
                files.remove(taken)
                count -= 1
                continue
            if not told and waited_s >= SLOT_TOLD_S:
                told = True
                self._on_wait(
                    Wait(waited_s, f"other requests of the project are under way, {self._in_flight} at a time")
                )
            self._allow(Wait(SLOT_POLL_S, "other requests of the project are under way"))
            self._rest(SLOT_POLL_S)
            waited_s += SLOT_POLL_S


def _spoken(seconds: float) -> str:
    """Seconds, rounded up, for people: 40 s, 57 min, 1 h 5 s."""
    whole = math.ceil(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def _private(path: Path, mode: str) -> TextIO:
    """*path* opened for writing; a new file is its owner's alone from the first byte, whatever the umask."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))  # type: ignore[return-value]


def _read(file: Path) -> dict[str, _Section]:
    """The sections of *file*; a file that is missing or not ours counts as empty (a 429 corrects us)."""
    try:
        stored = json.loads(file.read_text())
        return {
            str(name): _Section([float(at) for at in section["at"]], float(section["blocked_until"]))
            for name, section in stored.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
