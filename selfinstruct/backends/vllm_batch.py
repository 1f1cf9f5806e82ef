"""Batches without a server: vLLM reads a file of requests, answers all of it, and ends.

One file after another, in a child process each. vLLM writes what it answered only at the end, so a file that it was
not done with, because it or we were killed, is run again from its start; nothing is paid for it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from selfinstruct.backends.base import Backend, Notice
from selfinstruct.backends.batch import BatchBackend
from selfinstruct.backends.batch_files import FOLDER, Batch, Journal
from selfinstruct.backends.boundary import Server
from selfinstruct.backends.child import Child, child
from selfinstruct.backends.vllm import LOG, engine_arguments, environment, interpreter, reason
from selfinstruct.config import BackendConfig
from selfinstruct.errors import EndpointError

TOLD_AGAIN = 60.0
"""Seconds between two words on a file that is being run."""

_WATCH = Path(__file__).with_name("watch.py")


@asynccontextmanager
async def open_offline(config: BackendConfig, *, folder: Path | None = None, notice: Notice) -> AsyncIterator[Backend]:
    """A backend that lets vLLM run its files, which are in `folder`; None uses a temporary one.

    Raises:
        EndpointError: there is no vLLM here, or no model was named.
        RunError: the files cannot be read or written.
    """
    python = await interpreter(config)
    place = folder or Path(tempfile.mkdtemp(prefix="selfinstruct-"))
    runner = Offline(config, python, log=place / LOG, notice=notice)
    backend = BatchBackend(
        runner, Journal(place / FOLDER), Server(url="vLLM", key_env=""), model=config.model, notice=notice
    )
    try:
        backend.load()
        yield backend
        backend.retire()
    finally:
        await backend.aclose()


class Offline:
    """Runs files, one at a time.

    Args:
        config: the model, and what vLLM is told besides.
        python: the interpreter that has vLLM.
        log: what vLLM says is appended here.
        notice: is told what is being run.
    """

    def __init__(self, config: BackendConfig, python: str, *, log: Path, notice: Notice) -> None:
        self._config = config
        self._python = python
        self._log = log
        self._notice = notice
        self._turn = asyncio.Lock()

    async def carry(self, batch: Batch) -> None:
        """See `Runner.carry`."""
        async with self._turn:
            part = batch.result("output").with_suffix(".part")
            command = [sys.executable, "-P", str(_WATCH), self._python, *arguments(self._config, batch.input, part)]
            self._notice(f"{batch.title}: vLLM runs its {batch.state.lines} requests; its log: {self._log}")
            async with child(command, log=self._log, env=environment()) as running:
                await self._done(running, batch)
            if running.process.returncode or not part.exists():
                raise EndpointError(f"vLLM did not run {batch.input}: {reason(running)}; all of it: {self._log}")
            part.replace(batch.result("output"))
            batch.save(stage="fetched", status="completed")

    async def aclose(self) -> None:
        """See `Runner.aclose`."""

    async def _done(self, running: Child, batch: Batch) -> None:
        began = time.monotonic()
        ended = asyncio.ensure_future(running.process.wait())
        while not (await asyncio.wait([ended], timeout=TOLD_AGAIN))[0]:
            self._notice(f"{batch.title}: {time.monotonic() - began:.0f} s so far")


def arguments(config: BackendConfig, requests: Path, answers: Path) -> list[str]:
    """What vLLM is told; `config.server_args` come last, so that they win."""
    files = ("-i", str(requests), "-o", str(answers))
    return ["-m", "vllm.entrypoints.openai.run_batch", *files, *engine_arguments(config)]
