r"""Who answers: an embedded model, a local vLLM server, any OpenAI-compatible server, or a script.

    async with open_backend(config, folder=run, notice=print) as backend:
        answer = await backend.complete(Request(model=backend.model, prompt="1. Name a river.\n2."))

Each kind is a module that is imported only when it is asked for. Others add theirs by an entry point in the group
`selfinstruct.backends`: its name is the kind, its value an `Opener`; one that asks in
batches is named `KIND+batch`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from selfinstruct.backends.base import Backend, Opener
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import BackendConfig, unknown_name
from selfinstruct.inputs.plugins import Notice, Registry

__all__ = ["Backend", "Notice", "Opener", "check_kind", "kinds", "open_backend"]

BACKENDS = Registry(
    "backend",
    "selfinstruct.backends",
    {
        "llamacpp": "selfinstruct.backends.local.llamacpp:open_llamacpp",
        "openai": "selfinstruct.backends.openai.live:open_openai",
        "openai+batch": "selfinstruct.backends.openai.batch_api:open_batches",
        "scripted": "selfinstruct.backends.scripted:open_scripted",
        "vllm": "selfinstruct.backends.local.vllm:open_vllm",
    },
)

BATCH = "+batch"
"""What is added to the kind of a backend that answers in batches."""


@asynccontextmanager
async def open_backend(config: BackendConfig, *, folder: Path | None = None, notice: Notice) -> AsyncIterator[Backend]:
    """Start what must be started, hand out the backend, and stop it again.

    Args:
        config: which kind, which model, where.
        folder: the run's folder, for the log of a server that we start; None uses a temporary one.
        notice: is told what a person should know while it starts and while it is asked.

    Raises:
        ConfigError: no backend of that kind; the message lists the known ones.
        EndpointError: it cannot be started or reached, or does not know the model.
    """
    check_kind(config)
    opener: Opener = BACKENDS.load(f"{config.kind}{BATCH}" if config.batch else config.kind)
    async with opener(config, folder=folder, notice=notice) as backend:
        yield backend


def check_kind(config: BackendConfig) -> None:
    """Refuse a kind that there is not, or one that is to answer in batches and cannot.

    Raises:
        ConfigError: names those that there are.
    """
    if config.kind not in kinds():
        raise unknown_name("backend", config.kind, kinds())
    batches = [name.removesuffix(BATCH) for name in BACKENDS.names() if name.endswith(BATCH)]
    if config.batch and config.kind not in batches:
        raise ConfigError(f"`batch` is for kind `{'`, `'.join(batches)}`, not `{config.kind}`: leave it out")


def kinds() -> list[str]:
    """The names of all backends that can be opened, ours first."""
    return [name for name in BACKENDS.names() if not name.endswith(BATCH)]
