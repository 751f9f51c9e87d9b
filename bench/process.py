"""A program as a process of its own, and what it cost by the kernel's account."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEAK_EVERY_S = 0.02
SAID_BYTES = 10_000
PEAK = re.compile(r"VmHWM:\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Cost:
    """*cpu_s*: user and system, with the children that it waited for; *peak_mb*: of the process itself, MiB."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    status: int
    said: str


def environment(**more: str) -> dict[str, str]:
    """For a child: nothing of the caller's settings, and this tree's code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEDGEROW_", "POSTHOG_", "AWS_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def measured(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float = 1800, output: Path | None = None
) -> Cost:
    """Run *command* to its end. Raises TimeoutError after *timeout_s*; *said* is the end of what it printed.

    *output*: where that is kept.
    """
    with output.open("w+b") if output else tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        child = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        watch = _Peak(child.pid, timeout_s)
        watch.start()
        _, status, used = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - began
        watch.ended.set()
        watch.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        if watch.late:
            raise TimeoutError(f"{command[:4]} took more than {timeout_s:.0f} s")
        out.seek(max(0, out.seek(0, os.SEEK_END) - SAID_BYTES))
        said = out.read().decode(errors="replace")
    return Cost(wall_s, used.ru_utime + used.ru_stime, watch.peak_kb / 1024, child.returncode, said)


class _Peak(threading.Thread):
    """Looks at the process now and then: ru_maxrss would do it at the end, but a child inherits its parent's."""

    def __init__(self, pid: int, timeout_s: float) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.peak_kb, self.late = 0, False
        self._pid, self._deadline_s = pid, time.monotonic() + timeout_s

    def run(self) -> None:
        while not self.ended.wait(PEAK_EVERY_S):
            try:
                found = PEAK.search(Path(f"/proc/{self._pid}/status").read_text(encoding="ascii"))
            except OSError:
                return
            self.peak_kb = max(self.peak_kb, int(found[1]) if found else 0)
            if time.monotonic() > self._deadline_s and not self.late:
                self.late = True
                os.kill(self._pid, 9)
