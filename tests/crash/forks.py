"""The command line in processes that are forked from one which has imported it: a start takes milliseconds, so that a
run can be killed hundreds of times. Each is a process of its own, with its own locks, files and end.

    with Forked("generate", …, before=dies_at(folder, 17)) as process: ...

What is done `before` the command begins stands in for the world: a clock that is set back, a limit, and death at an
instant of its own choosing.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

from selfinstruct.cli import main

Before = Callable[[], object]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([f"{__package__}.warm"])
TOUCHES = frozenset({"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree"})
"""What Python says of itself before it touches a folder."""


class Forked:
    """`selfinstruct` with these arguments, killed at the end of the block.

    Args:
        before: done in the process before the command begins.
    """

    def __init__(self, *arguments: str, before: Before | None = None) -> None:
        descriptor, self._said = tempfile.mkstemp()
        os.write(descriptor, b"not begun")
        os.close(descriptor)
        self._process = FORKS.Process(target=_perform, args=(arguments, self._said, before))
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        Path(self._said).unlink()

    @property
    def begun(self) -> bool:
        """Whether it is the command by now, and no longer what forks it."""
        return self.said != "not begun"

    @property
    def said(self) -> str:
        """What it wrote, on its standard output and error."""
        return Path(self._said).read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        self._process.join()

    def poll(self) -> int | None:
        """The exit code, or less than 0 the signal that it died of; None while it lives."""
        return self._process.exitcode

    def wait(self, seconds: float = 240.0) -> int:
        """The same, once it has ended."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"still there after {seconds} s"
        return code


def performed(*arguments: str, before: Before | None = None, code: int = 0) -> str:
    """What a command said that ended with this code."""
    with Forked(*arguments, before=before) as process:
        assert process.wait() == code, process.said
        assert "Traceback" not in process.said
        return process.said


def _perform(arguments: tuple[str, ...], said: str, before: Before | None) -> None:
    descriptor = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.argv = ["selfinstruct", *arguments]
    if before is not None:
        before()
    main.run()


# -- what the world does ----------------------------------------------------------------------------------------------


def dies_at(folder: Path, instant: int) -> Before:
    """SIGKILL as the process is about to do the so-manieth thing to its disk: touch a file under a folder, or execute a
    statement of SQL on any ledger."""
    return partial(_dies_at, str(folder), instant)


def _dies_at(folder: str, instant: int) -> None:
    instants = itertools.count(1)

    def pass_by(*_: object) -> None:
        if next(instants) == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, told: tuple[Any, ...]) -> None:
        if event in TOUCHES and str(told[0]).startswith(folder):
            pass_by()

    def connected(*told: Any, **how: Any) -> sqlite3.Connection:
        connection = connect(*told, **how)
        connection.set_trace_callback(pass_by)
        return connection

    connect, sqlite3.connect = sqlite3.connect, connected  # type: ignore[assignment]
    sys.addaudithook(hear)


def deaths(folder: Path, *arguments: str, stride: int = 1) -> Iterator[int]:
    """Perform a command again and again, each time with death at a later instant, until it outlives them all; the
    instant of each death, after it."""
    for instant in itertools.count(1, stride):
        with Forked(*arguments, before=dies_at(folder, instant)) as process:
            code = process.wait()
            assert code in (0, -signal.SIGKILL), process.said
        if code == 0:
            return
        yield instant


def clock(offset: float, rate: float = 1.0) -> Before:
    """The clock on the wall is set by so many seconds and goes at this rate from then on; below 0 it runs backwards."""
    return partial(_clock, offset, rate)


def _clock(offset: float, rate: float) -> None:
    now = time.time
    began = now()
    time.time = lambda: began + offset + rate * (now() - began)


def longest_file(size: int) -> Before:
    """No file may grow beyond so many bytes: what a disk that is full does, where none can be mounted."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
