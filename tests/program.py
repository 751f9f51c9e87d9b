"""The program as a user starts it: with few settings around it, and from the tree that is being tested.

Without the tree's path the installed package would run, and a break of the tree would turn no such test red.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TREE = Path(__file__).parents[1]
HEDGEROW = str(Path(sys.executable).parent / "hedgerow")
# What the interpreter, the C library or a package reads only as it starts.
AT_START = re.compile(r"PYTHON(?!PATH$)|LC_|LANG|LD_|MALLOC|POLARS_|ARROW_|RUST|TERM$|NO_COLOR|FORCE_COLOR")


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """The environment of a program whose user lives in *home*, and *more* variables."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(TREE), **more}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


def run(
    arguments: Sequence[str], home: Path, environment: Mapping[str, str], *, timeout_s: float = 120
) -> subprocess.CompletedProcess[bytes]:
    """The program's end, and what it wrote, as a process of its own in the directory *home*.

    It is forked from one that has imported the program (tests/warm.py), but where *environment* has what is read as a
    program starts, or another one is being run: then it is started as a user does. Raises subprocess.TimeoutExpired.
    """
    command = [HEDGEROW, *arguments]
    warm = _warm()
    if any(map(AT_START.match, environment)) or not warm.free.acquire(blocking=False):
        return subprocess.run(
            command,
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    try:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error, open(os.devnull, "rb") as nothing:
            request = {
                "arguments": command,
                "directory": str(home),
                "environment": dict(environment),
                "mask": _mask(),
            }
            status = warm.status(request, [nothing.fileno(), out.fileno(), error.fileno()], timeout_s)
            out.seek(0)
            error.seek(0)
            return subprocess.CompletedProcess(command, status, out.read(), error.read())
    finally:
        warm.free.release()


def told(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    """*done* with what it wrote as text, lines as Python reads them."""
    texts = [text.decode().replace("\r\n", "\n").replace("\r", "\n") for text in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


class _Warm:
    """The process that others are forked from; *free*: it runs one at a time."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._ask, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asked:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(TREE / "tests/warm.py"), str(asked.fileno())],
                env=surroundings(Path("/nowhere")),
                pass_fds=[asked.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def status(self, request: Mapping[str, object], files: Sequence[int], timeout_s: float) -> int:
        """The exit status of what *request* starts."""
        socket.send_fds(self._ask, [json.dumps(request).encode()], files)
        process = int(self._ask.recv(64))
        try:
            self._ask.settimeout(timeout_s)
            status = int(self._ask.recv(64))
        except BaseException as exc:
            self._ask.settimeout(None)
            os.kill(process, signal.SIGKILL)
            self._ask.recv(64)
            if isinstance(exc, TimeoutError):
                raise subprocess.TimeoutExpired(request["arguments"], timeout_s) from None
            raise
        self._ask.settimeout(None)
        return status

    def end(self) -> None:
        self._ask.close()
        self._process.wait()


@cache
def _warm() -> _Warm:
    warm = _Warm()
    atexit.register(warm.end)
    return warm


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
