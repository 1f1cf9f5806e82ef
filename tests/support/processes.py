"""The command line as processes of their own, asking a real server on this machine, to be signalled and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.support.runs import evolves, says, written_seeds
from tests.support.server import Body, ModelServer


def model_server(**fields: Any) -> ModelServer:
    """A server whose answers are a function of the request."""
    return ModelServer(answer=answer, **fields)


def answer(body: Body) -> str:
    return says(body["prompt"], body["max_tokens"])


def evolving_server(**fields: Any) -> ModelServer:
    """The same for an evolution."""
    return ModelServer(answer=lambda body: evolves(body["prompt"]), **fields)


class Command:
    """`selfinstruct generate` on one run of one server.

    Args:
        server: who is asked.
        folder: in which the run is, with its seeds.
        flags: further ones.
    """

    def __init__(self, server: ModelServer, folder: Path, *flags: str, concurrency: int = 8, n: int = 20) -> None:
        self.server = server
        self.run = folder / "run"
        self.concurrency = concurrency
        told = {"--seeds": written_seeds(folder), "--base-url": server.base_url, "--dialect": "completion", "-n": n}
        self.arguments = ["generate", "--run", f"{self.run}/.", "--concurrency", str(concurrency), *flags]
        self.arguments += [str(part) for pair in told.items() for part in pair]

    @classmethod
    def evolution(cls, server: ModelServer, folder: Path, *flags: str, concurrency: int = 8, tasks: int = 20) -> Self:
        """`selfinstruct evolve` of so many tasks, two rounds and no target."""
        command = cls(server, folder, *flags, concurrency=concurrency)
        source = folder / "source.jsonl"
        rows = ({"instruction": f"Write {i} lines on topic {i}{i} for me.", "output": "Done."} for i in range(tasks))
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        told = {"--base-url": server.base_url, "--dialect": "completion", "--rounds": "2"}
        command.arguments = ["evolve", str(source), "--run", f"{command.run}/.", "--concurrency", str(concurrency)]
        command.arguments += [*flags, *(part for pair in told.items() for part in pair)]
        return command

    def start(self, **how: Any) -> subprocess.Popen[str]:
        """A process that runs it; its standard error is a pipe."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*program(), *self.arguments], env=environment(), **{**pipes, **how})

    @contextmanager
    def started(self, asked: int, **how: Any) -> Iterator[subprocess.Popen[str]]:
        """The process, once it has asked so many requests more; killed at the end."""
        wanted = len(self.server.requests) + asked
        with self.start(**how) as process:
            try:
                until(lambda: len(self.server.requests) >= wanted or process.poll() is not None)
                yield process
            finally:
                process.kill()

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return command(*self.arguments)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command's end."""
    return subprocess.run(
        [*program(), *arguments], env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def program() -> list[str]:
    return [sys.executable, "-m", "selfinstruct"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "200"}


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
