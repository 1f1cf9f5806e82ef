r"""Who answers: an embedded model, a local vLLM server, any OpenAI-compatible server, or a script.

    async with open_backend(config, folder=run, notice=print) as backend:
        answer = await backend.complete(Request(model=backend.model, prompt="1. Name a river.\n2."))

Each kind is a module that is imported only when it is asked for. Others add theirs by an entry point in the group
`selfinstruct.backends`: its name is the kind, its value an `Opener`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from selfinstruct.backends.base import Backend, Notice, Opener
from selfinstruct.config import BackendConfig, unknown_name

__all__ = ["Backend", "Notice", "Opener", "kinds", "open_backend"]

GROUP = "selfinstruct.backends"

_OURS = {
    "llamacpp": "selfinstruct.backends.llamacpp:open_llamacpp",
    "openai": "selfinstruct.backends.openai:open_openai",
    "scripted": "selfinstruct.backends.scripted:open_scripted",
    "vllm": "selfinstruct.backends.vllm:open_vllm",
}


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
    async with _opener(config.kind)(config, folder=folder, notice=notice) as backend:
        yield backend


def kinds() -> list[str]:
    """The names of all backends that can be opened, ours first."""
    return [*_OURS, *(point.name for point in entry_points(group=GROUP) if point.name not in _OURS)]


def _opener(kind: str) -> Opener:
    if kind in _OURS:
        module, _, name = _OURS[kind].partition(":")
        return cast("Opener", getattr(import_module(module), name))
    for point in entry_points(group=GROUP, name=kind):
        return cast("Opener", point.load())
    raise unknown_name("backend", kind, kinds())
