"""What else answers: a sandbox, which runs programs, and a toolbox, which takes calls.

As with backends, an answer is whatever came back, and a fault is that nothing did. A program that crashes, loops or
takes too much memory has answered, and so has a tool that says that it could not do it. Not here: attempts, the order
of what waits, and the ledger; those stand before all that answers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from selfinstruct.inputs.config import SandboxConfig, ToolsConfig
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Call, Execution, Program, Result, Tool


class Sandbox(Protocol):
    """Where programs run that nobody has read."""

    @property
    def slots(self) -> int:
        """How many programs it runs at once, at least 1; more than that are not handed to it."""
        ...

    async def run(self, program: Program) -> Execution:
        """Run a program once, in a new folder that holds its files and nothing else.

        Nothing of one program is left for the next: the same program may be run again, here or elsewhere.

        Raises:
            Transient: it could not be started, or what became of it is not known; another attempt may do better.
            EndpointError: no program can be run; the run stops.
        """
        ...

    async def aclose(self) -> None:
        """End what still runs and remove what it left; nothing may be run afterwards."""
        ...


class Toolbox(Protocol):
    """Tools that are no part of this process, or are not to be trusted as if they were."""

    @property
    def slots(self) -> int:
        """How many calls it takes at once, at least 1; more than that are not handed to it."""
        ...

    def schemas(self) -> Sequence[Tool]:
        """The tools that may be called, in an order that does not change."""
        ...

    def repeatable(self, tool: str) -> bool:
        """Whether a call may be made again where a crash leaves open if it was made: reading is, paying is not."""
        ...

    async def call(self, call: Call, session: str) -> Result:
        """Call a tool once.

        A tool that there is not, or arguments that it does not take, are answered by a result that has `failed`.

        Args:
            call: which tool, with which arguments.
            session: the name of what keeps its state from one call to the next, such as a shell or a shop; it begins
                with the first call that names it. "" keeps none.

        Raises:
            Transient: nothing came back; another attempt may be answered.
            EndpointError: no call will be; the run stops.
        """
        ...

    async def aclose(self) -> None:
        """End all sessions and give back what is held; nothing may be called afterwards."""
        ...


class SandboxOpener(Protocol):
    """How a kind of sandbox is opened: what an entry point of the group `selfinstruct.sandboxes` names."""

    def __call__(
        self, config: SandboxConfig, *, folder: Path | None, notice: Notice
    ) -> AbstractAsyncContextManager[Sandbox]: ...


class ToolboxOpener(Protocol):
    """How a kind of toolbox is opened: what an entry point of the group `selfinstruct.toolboxes` names."""

    def __call__(
        self, config: ToolsConfig, *, folder: Path | None, notice: Notice
    ) -> AbstractAsyncContextManager[Toolbox]: ...
