"""Processes of the program that need not import it: each is forked from one that has imported everything and run nothing.

A start costs a second, nearly all of it imports. What is forked here is a process of its own all the same: its own
arguments, directory, environment, mask, files and end. `tests.program.run` asks for them; run by itself this file is the
process that they are forked from, whose first argument is the socket on which it is asked.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable

FLOWS = ("assets", "cli", "landing", "report", "runs", "settings")
ROOMS = ("extractors", "transforms", "sinks", *(f"flows.{name}" for name in FLOWS))
ELSEWHERE = "extractors.simulator."
LONGEST = 1 << 17  # bytes of a request: arguments and environment


def imported() -> None:
    """Import whatever the command line may: all but the simulator, and Prefect with the flows that are for it."""
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            if not module.name.startswith(ELSEWHERE):
                importlib.import_module(module.name)


def forked(asked: socket.socket) -> None:
    """Fork a process for each request and answer its id, then its status; returns in each of them, ready to run."""
    while True:
        message, files, _, _ = socket.recv_fds(asked, LONGEST, 3)
        if not message:
            os._exit(0)  # whoever asked has ended
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads: those that the imports started wait, and hold nothing
            process = os.fork()
        if not process:
            asked.close()
            become(json.loads(message), files)
            return
        for file in files:
            os.close(file)
        asked.send(str(process).encode())
        asked.send(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())


def become(request: dict[str, object], files: list[int]) -> None:
    """Be as a process that was started by *request*, with *files* as standard input, output and error."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.umask(request["mask"])
    time.tzset()
    sys.argv = request["arguments"]


def ended(main: Callable[[], object]) -> int:
    """The status with which a process ends that runs *main*, once what it began has ended and all is written."""
    status: object = 0
    try:
        main()
    except SystemExit as exc:
        status = exc.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    assert isinstance(status, int)
    return status


if __name__ == "__main__":
    imported()
    gc.freeze()  # else each process would look through all of it, and have a copy of it
    forked(socket.socket(fileno=int(sys.argv[1])))
    from flows.cli import main

    os._exit(ended(main))  # taking the imported modules apart would take longer than all else
