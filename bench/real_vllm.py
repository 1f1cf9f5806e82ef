"""A real vLLM for the scripts beside this one, started by our own backend; it tells its counters and can forget."""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from selfinstruct.backends import Backend, open_backend
from selfinstruct.backends.local.vllm import LOG, PYTHON
from selfinstruct.inputs.config import BackendConfig

GENERATED = "vllm:generation_tokens_total"


class Server(NamedTuple):
    """A vLLM that runs."""

    backend: Backend
    url: str

    def counters(self, *names: str) -> list[float]:
        """What it has counted so far."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            text = answer.read().decode()
        found = (re.findall(rf"^{re.escape(name)}\{{.*\}} (\S+)$", text, re.MULTILINE) for name in names)
        return [sum(map(float, values)) for values in found]

    def forget(self) -> None:
        """Empty its prefix cache, once it has let go of what was cancelled."""
        asked = urllib.request.Request(f"{self.url}/reset_prefix_cache", method="POST")
        while not json.load(urllib.request.urlopen(asked))["success"]:
            time.sleep(0.2)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser that knows what a server needs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--vllm-python", required=True, metavar="PATH", help="an interpreter that has vLLM")
    parser.add_argument("--model", required=True, help="what it is to serve")
    parser.add_argument("--in-flight", type=int, help="requests; left out: as a run finds for itself")
    parser.add_argument(
        "--server-arg", action="append", default=[], help="for vLLM, such as --server-arg=--block-size=32"
    )
    return parser


def backend_of(options: argparse.Namespace) -> BackendConfig:
    """The backend that these options ask for."""
    return BackendConfig(
        kind="vllm",
        model=options.model,
        dialect="completion",
        concurrency=options.in_flight,
        context=2048,
        server_args=("--enforce-eager", *options.server_arg),
    )


@asynccontextmanager
async def served(config: BackendConfig, python: str) -> AsyncIterator[Server]:
    """A server of its own; in vLLM's development mode, for there alone the prefix cache can be emptied."""
    os.environ |= {PYTHON: python, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        async with open_backend(config, folder=Path(folder), notice=print) as backend:
            found = re.search(r"http://127\.0\.0\.1:\d+", (Path(folder) / LOG).read_text())
            assert found
            yield Server(backend, found[0])
