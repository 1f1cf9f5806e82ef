r"""What else answers beside models: a sandbox for programs, toolboxes for calls.

    async with open_sandbox(config, folder=run, notice=print) as sandbox:
        done = await sandbox.run(Program(command=("python3", "main.py"), files={"main.py": "print(6 * 7)"}))

Each kind is a module that is imported only when it is asked for. Others add theirs by an entry point in the group
`selfinstruct.sandboxes` or `selfinstruct.toolboxes`: its name is the kind, its value a `SandboxOpener` or a
`ToolboxOpener`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from selfinstruct.inputs.config import SandboxConfig, ToolsConfig
from selfinstruct.inputs.plugins import Notice, Registry
from selfinstruct.tools.base import Sandbox, SandboxOpener, Toolbox, ToolboxOpener

__all__ = ["SANDBOXES", "TOOLBOXES", "Sandbox", "Toolbox", "open_sandbox", "open_toolbox"]

SANDBOXES = Registry(
    "sandbox", "selfinstruct.sandboxes", {"scripted": "selfinstruct.tools.scripted:open_scripted_sandbox"}
)
TOOLBOXES = Registry(
    "toolbox", "selfinstruct.toolboxes", {"scripted": "selfinstruct.tools.scripted:open_scripted_toolbox"}
)


@asynccontextmanager
async def open_sandbox(config: SandboxConfig, *, folder: Path | None = None, notice: Notice) -> AsyncIterator[Sandbox]:
    """Start what must be started, hand out the sandbox, and stop it again.

    Args:
        config: which kind, and its options.
        folder: the run's folder, for logs; None uses a temporary one.
        notice: is told what a person should know while it starts and while it runs.

    Raises:
        ConfigError: no sandbox of that kind, or not with such options; the message lists the known ones.
        EndpointError: it cannot be started.
    """
    opener: SandboxOpener = SANDBOXES.load(config.kind)
    async with opener(config, folder=folder, notice=notice) as sandbox:
        yield sandbox


@asynccontextmanager
async def open_toolbox(config: ToolsConfig, *, folder: Path | None = None, notice: Notice) -> AsyncIterator[Toolbox]:
    """Start what must be started, hand out the toolbox, and stop it again.

    Args:
        config: which kind, and its options.
        folder: the run's folder, for logs; None uses a temporary one.
        notice: is told what a person should know while it starts and while it is called.

    Raises:
        ConfigError: no toolbox of that kind, or not with such options; the message lists the known ones.
        EndpointError: it cannot be started or reached.
    """
    opener: ToolboxOpener = TOOLBOXES.load(config.kind)
    async with opener(config, folder=folder, notice=notice) as toolbox:
        yield toolbox
