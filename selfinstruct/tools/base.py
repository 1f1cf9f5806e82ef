from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from selfinstruct.records import Call, Execution, Program, Result, Tool


class Sandbox(Protocol):
    slots: int

    async def run(self, program: Program) -> Execution: ...
    async def aclose(self) -> None: ...


class Toolbox(Protocol):
    slots: int

    def schemas(self) -> Sequence[Tool]: ...
    def repeatable(self, tool: str) -> bool: ...
    async def call(self, call: Call, session: str) -> Result: ...
    async def aclose(self) -> None: ...
