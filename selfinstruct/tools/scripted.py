r"""A sandbox that runs nothing and a toolbox that calls nothing: they answer from a file or a function.

For tests, documentation, and trying a recipe without either. A file is JSON, a list of answers, or JSONL, one a line
(`inputs.scripts`). An execution is what the program wrote, or an object; a result is an object that names its tool:

    "42\n"
    {"when": "assert add(2, 2)", "status": "exit 1", "stderr": "AssertionError"}
    {"when": "while True", "status": "timeout", "delay": 0.5}

    {"tool": "weather", "when": "Graz", "content": "Rain, 4 degrees"}
    {"tool": "weather", "content": "no such city", "failed": true}
    {"tool": "pay", "fault": "timeout"}

`when` is looked for in a program's command, in its files and their names and in what it reads, and in the arguments of
a call as JSON. A JSON file for a toolbox may also say more of its tools, and which of them must not be called again
where a crash leaves a call in doubt:

    {"tools": [{"name": "pay", "description": "Pay a bill."}], "once": ["pay"], "answers": […]}
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from selfinstruct.inputs import scripts
from selfinstruct.inputs.config import SandboxConfig, ToolsConfig, unknown_name
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Call, Execution, Program, Result, Tool
from selfinstruct.tools.base import Sandbox, Toolbox

SLOTS = 8
"""What is answered at once where nothing else is said."""

Ran = Execution | str | Exception
Runs = Callable[[Program], Ran | Awaitable[Ran]]
"""What a sandbox's script is in Python: a text is what the program wrote, an exception is raised."""
Came = Result | str | Exception
Calls = Callable[[Call, str], Came | Awaitable[Came]]
"""What a toolbox's script is in Python: takes a call and its session; a text is the result, an exception is raised."""


class ExecutionLine(scripts.Line, Execution):
    """One execution of a script."""

    plain = "stdout"


class ResultLine(scripts.Line, Result):
    """One result of a script."""

    content: str = ""
    tool: str
    """The tool whose calls it answers."""

    plain = "content"


class ToolboxScript(scripts.Script[ResultLine]):
    """A file of results."""

    tools: tuple[Tool, ...] = ()
    """What is offered; of tools that only the answers name, no more than the name."""
    once: tuple[str, ...] = ()
    """Tools whose calls must not be repeated."""


class ScriptedSandbox:
    """Answers with what a function returns.

        sandbox = ScriptedSandbox(lambda program: Execution(status="exit 1" if "bug" in program.stdin else "exit 0"))

    Args:
        runs: is called with each program; may be async; an exception that it returns is raised.
        slots: how many programs at once.
        delay: seconds before each answer.
    """

    def __init__(self, runs: Runs, *, slots: int = SLOTS, delay: float = 0.0) -> None:
        self.slots = slots
        self._runs = runs
        self._delay = delay

    async def run(self, program: Program) -> Execution:
        """See `Sandbox.run`."""
        await asyncio.sleep(self._delay)
        came: Execution | str = await scripts.outcome(self._runs(program))
        return Execution(stdout=came) if isinstance(came, str) else came

    async def aclose(self) -> None:
        """See `Sandbox.aclose`."""


class ScriptedToolbox:
    """Answers with what a function returns; a tool that it does not offer, with a result that has failed.

        toolbox = ScriptedToolbox(lambda call, session: "Rain", [Tool(name="weather")])

    Args:
        calls: is called with each call and its session; may be async; an exception that it returns is raised.
        tools: what may be called.
        once: names of the tools whose calls must not be repeated.
        slots: how many calls at once.
        delay: seconds before each answer.
    """

    def __init__(
        self,
        calls: Calls,
        tools: Sequence[Tool],
        *,
        once: Collection[str] = (),
        slots: int = SLOTS,
        delay: float = 0.0,
    ) -> None:
        self.slots = slots
        self._calls = calls
        self._tools = {tool.name: tool for tool in tools}
        self._once = once
        self._delay = delay

    def schemas(self) -> Sequence[Tool]:
        """See `Toolbox.schemas`."""
        return tuple(self._tools.values())

    def repeatable(self, tool: str) -> bool:
        """See `Toolbox.repeatable`."""
        return tool not in self._once

    async def call(self, call: Call, session: str) -> Result:
        """See `Toolbox.call`."""
        await asyncio.sleep(self._delay)
        if call.tool not in self._tools:
            return Result(content=str(unknown_name("tool", call.tool, self._tools)), failed=True)
        came: Result | str = await scripts.outcome(self._calls(call, session))
        return Result(content=came) if isinstance(came, str) else came

    async def aclose(self) -> None:
        """See `Toolbox.aclose`."""


@asynccontextmanager
async def open_scripted_sandbox(
    config: SandboxConfig, *, folder: Path | None = None, notice: Notice
) -> AsyncIterator[Sandbox]:
    """The sandbox for the file that `config.script` names.

    Raises:
        ConfigError: there is no such file, it is no script, or the table has an option that means nothing here.
    """
    _refuse_options(config)
    path = Path(config.script or "")
    script = scripts.read_script(path, scripts.Script[ExecutionLine], ExecutionLine)
    runs = scripts.play(script.answers, script.choose, str(path), said=_text_of, given=_execution)
    yield ScriptedSandbox(runs, slots=config.slots or SLOTS)


@asynccontextmanager
async def open_scripted_toolbox(
    config: ToolsConfig, *, folder: Path | None = None, notice: Notice
) -> AsyncIterator[Toolbox]:
    """The toolbox for the file that `config.script` names.

    Raises:
        ConfigError: there is no such file, it is no script, or the table has an option that means nothing here.
    """
    _refuse_options(config)
    path = Path(config.script or "")
    script = scripts.read_script(path, ToolboxScript, ResultLine)
    yield ScriptedToolbox(_calls(script, str(path)), _offered(script), once=script.once, slots=config.slots or SLOTS)


def _calls(script: ToolboxScript, name: str) -> Calls:
    """The function that answers as a script says, each tool by its own lines; sessions make no difference."""
    lines: dict[str, list[ResultLine]] = defaultdict(list)
    for line in script.answers:
        lines[line.tool].append(line)
    by_tool = {
        tool.name: scripts.play(
            lines[tool.name], script.choose, f"{name}: tool {tool.name}", said=_arguments_of, given=_result
        )
        for tool in _offered(script)
    }

    def answer(call: Call, session: str) -> Came | Awaitable[Came]:
        # The id of a call is its conversation's, and no part of what is asked.
        return by_tool[call.tool](call.model_copy(update={"id": ""}))

    return answer


def _offered(script: ToolboxScript) -> list[Tool]:
    """The tools of a script: as it tells them, and those that only its answers name."""
    named = {line.tool: Tool(name=line.tool) for line in script.answers}
    return list((named | {tool.name: tool for tool in script.tools}).values())


def _text_of(program: Program) -> str:
    named = (f"{path}\n{text}" for path, text in program.files.items())
    return "\n".join([*program.command, *named, program.stdin])


def _arguments_of(call: Call) -> str:
    return call.raw or json.dumps(call.arguments, ensure_ascii=False, sort_keys=True)


def _execution(line: ExecutionLine, _: Program) -> Execution:
    return Execution(**_of(Execution, line))


def _result(line: ResultLine, _: Call) -> Result:
    return Result(**_of(Result, line))


def _of(kind: type[Execution | Result], line: scripts.Line) -> dict[str, Any]:
    return {name: getattr(line, name) for name in kind.model_fields}


def _refuse_options(config: SandboxConfig | ToolsConfig) -> None:
    for option in config.options:
        raise unknown_name("option", option, ["script", "slots"])
