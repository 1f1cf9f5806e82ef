"""A server that we start: a child process with a log, waited for until it answers, and gone when we are.

Its standard input is a pipe that only we hold. Whatever ends us, SIGKILL included, closes that pipe, and the child
ends itself: so this needs no cooperation of ours at the end, and no signal that could be missed. It is the head of
a process group of its own, which Ctrl-C in our terminal does not reach: answers that are on their way still arrive.
"""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

GRACE = 15.0
"""Seconds that a child may take to end when asked to."""

_NOISE = re.compile(r"^(Traceback|\s+File |\s+\^|\s*$)")


class Child:
    """A running child process; made by `child`."""

    def __init__(self, process: Process, log: Path, log_start: int) -> None:
        self.process = process
        self.log = log
        self._log_start = log_start

    @property
    def gone(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.returncode is not None

    def output(self) -> list[str]:
        """The lines that it has written, of this start only."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", errors="replace").splitlines()

    def last_words(self, lines: int = 1) -> str:
        """The last lines that say something, as one."""
        telling = [line.strip() for line in self.output() if not _NOISE.match(line)]
        return " / ".join(telling[-lines:])[:600] or "it wrote nothing"

    async def stop(self) -> None:
        """Close its input, and see that it ends."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), GRACE)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def child(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[Child]:
    """Start a command that ends when its standard input does; end it on leaving.

    Args:
        command: the program and its arguments.
        log: its output is appended here.
        env: its environment; None gives it ours.
    """
    with log.open("ab") as file:
        start = file.tell()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=file, stderr=file, env=env, start_new_session=True
        )
    running = Child(process, log, start)
    try:
        yield running
    finally:
        await asyncio.shield(running.stop())
