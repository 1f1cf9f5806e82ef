"""vLLM, started and stopped by us, or attached to when its address is given.

Not here: vLLM itself, which is large and wants a Python environment to its liking. It runs as a child process of
whichever interpreter has it: ours, or the one that SELFINSTRUCT_VLLM_PYTHON names.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from selfinstruct.backends.base import Backend
from selfinstruct.backends.flow.capacity import SEQUENCES
from selfinstruct.backends.local.child import Child, child
from selfinstruct.backends.openai.live import at, open_openai
from selfinstruct.errors import EndpointError
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.inputs.plugins import Notice

PYTHON = "SELFINSTRUCT_VLLM_PYTHON"
"""Environment variable that names the interpreter which has vLLM."""
LOG = "vllm.log"
PATIENCE_BETWEEN_NOTICES = 15.0
"""Seconds."""

_WATCH = Path(__file__).with_name("watch.py")
_ERROR = re.compile(r"(\w*(Error|Exception): |Value error, )\S.*")
_HARMLESS = re.compile(r"\b(INFO|WARNING|DEBUG)\b|root cause above|validation errors? for")
_HAS_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


@asynccontextmanager
async def open_vllm(config: BackendConfig, *, folder: Path | None = None, notice: Notice) -> AsyncIterator[Backend]:
    """The servers at `config.base_url`, or one of our own for `config.model`, with its log in `folder`.

    Raises:
        EndpointError: there is no vLLM here, it ended before it was ready, or nothing answers at the address.
    """
    if config.base_url:
        async with open_openai(config, notice=notice) as backend:
            yield backend
        return
    python = await _interpreter(config)
    log = (folder or Path(tempfile.mkdtemp(prefix="selfinstruct-"))) / LOG
    url = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-P", str(_WATCH), python, *arguments(config, url)]
    async with child(command, log=log, env=_environment()) as server:
        notice(f"starting vLLM with {config.model}; its log: {log}")
        await _until_healthy(server, url, config.model, notice)
        async with open_openai(at((f"{url}/v1",), config, config.model), notice=notice) as backend:
            yield backend


def arguments(config: BackendConfig, url: str) -> list[str]:
    """What vLLM is told; `config.server_args` come last, so that they win."""
    host, _, port = url.removeprefix("http://").partition(":")
    return [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--host", host, "--port", port),
        *("--max-num-seqs", str(config.concurrency or SEQUENCES)),
        "--disable-uvicorn-access-log",
        *("--model", config.model, "--served-model-name", config.model),
        *("--max-model-len", str(config.context)),
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        *config.server_args,
    ]


async def _interpreter(config: BackendConfig) -> str:
    """The Python that has vLLM, if there is one and it has something to serve."""
    python = os.environ.get(PYTHON) or sys.executable
    if not config.model:
        raise EndpointError("the vllm backend needs a model: name one with --model, such as Qwen/Qwen3-8B")
    try:
        looked = await asyncio.to_thread(subprocess.run, [python, "-c", _HAS_VLLM], capture_output=True)
    except OSError as error:
        raise EndpointError(f"{PYTHON}={python}: {error.strerror}: name a Python interpreter that has vLLM") from None
    if looked.returncode:
        raise EndpointError(
            f"vLLM is not installed for {python}: pip install vllm, or let {PYTHON} name an interpreter that has it, "
            "or give the base_url of a server that is running"
        )
    return python


async def _until_healthy(server: Child, url: str, model: str, notice: Notice) -> None:
    began = told = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while not await _healthy(session, url):
            if server.gone:
                raise EndpointError(f"vLLM ended before it was ready: {_reason(server)}; all of it: {server.log}")
            if time.monotonic() - told > PATIENCE_BETWEEN_NOTICES:
                told = time.monotonic()
                notice(f"vLLM is loading {model}: {told - began:.0f} s so far")
            await asyncio.sleep(0.25)
    notice(f"vLLM is up after {time.monotonic() - began:.0f} s")


def _reason(server: Child) -> str:
    """The first error in its log: those after it are of processes that waited for the one that failed."""
    lines = (_ERROR.search(line) for line in server.output() if not _HARMLESS.search(line))
    return next((found[0][:400] for found in lines if found), server.last_words())


async def _healthy(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health", allow_redirects=False) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _environment() -> dict[str, str]:
    """Ours, without what vLLM would do that nobody asked for: usage reports, and imports from the working folder."""
    return os.environ | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONSAFEPATH": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
