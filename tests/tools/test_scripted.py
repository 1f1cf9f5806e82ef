"""The scripted sandbox and toolbox: answers from a function or a file, and what they say of a file that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.errors import ConfigError, EndpointError, RateLimited, Transient
from selfinstruct.inputs.config import SandboxConfig, ToolsConfig, build
from selfinstruct.records import Call, Execution, Program, Result, Tool
from selfinstruct.tools import Toolbox, open_sandbox, open_toolbox
from selfinstruct.tools.scripted import ScriptedSandbox, ScriptedToolbox


def program(text: str, *command: str, stdin: str = "") -> Program:
    return Program(command=command or ("python3", "main.py"), files={"main.py": text}, stdin=stdin)


def script(folder: Path, value: Any) -> str:
    path = folder / "script.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(path)


async def executions(path: str, *programs: Program, **settings: Any) -> list[Execution]:
    config = build(SandboxConfig, {"kind": "scripted", "script": path, **settings}, where="sandbox")
    async with open_sandbox(config, notice=print) as sandbox:
        return [await sandbox.run(one) for one in programs]


async def results(path: str, *calls: Call) -> list[Result]:
    async with open_toolbox(ToolsConfig(kind="scripted", script=path), notice=print) as toolbox:
        return [await toolbox.call(call, "") for call in calls]


# -- programs ---------------------------------------------------------------------------------------------------------


async def test_a_function_runs_programs() -> None:
    """What a function returns is the execution, and a text is what the program wrote."""
    sandbox = ScriptedSandbox(lambda one: one.stdin.upper() if one.stdin else Execution(status="signal 9"), slots=3)
    assert await sandbox.run(program("", stdin="a")) == Execution(stdout="A")
    assert (await sandbox.run(program(""))).status == "signal 9"
    assert sandbox.slots == 3


async def test_a_function_may_wait_and_fail() -> None:
    """A function may be async, and an exception that it returns is raised."""

    async def runs(one: Program) -> Transient:
        return Transient("no_sandbox", "not now")

    with pytest.raises(Transient, match="not now"):
        await ScriptedSandbox(runs).run(program(""))


async def test_executions_come_in_order(tmp_path: Path) -> None:
    """A list is answered in order, and then stops the run."""
    path = script(tmp_path, ["42\n", {"status": "exit 1", "stderr": "boom", "files": {"a": "b"}, "cut": ["stderr"]}])
    assert await executions(path, program("a"), program("b")) == [
        Execution(stdout="42\n"),
        Execution(status="exit 1", stderr="boom", files={"a": "b"}, cut=("stderr",)),
    ]
    with pytest.raises(EndpointError, match="all 2 answers are given"):
        await executions(path, *[program("a")] * 3)


@pytest.mark.parametrize(
    "where", [{"text": "needle"}, {"text": "", "stdin": "needle"}, {"text": "", "argument": "needle"}]
)
async def test_conditions_look_at_whole_programs(tmp_path: Path, where: dict[str, str]) -> None:
    """A condition is met by a file, by the input and by the command."""
    path = script(tmp_path, [{"when": "needle", "status": "timeout"}, "fine"])
    asked = program(where["text"], "run", where.get("argument", ""), stdin=where.get("stdin", ""))
    assert [done.status for done in await executions(path, asked, program("hay"))] == ["timeout", "exit 0"]


async def test_the_same_program_ends_the_same(tmp_path: Path) -> None:
    """By hash, a program's execution depends on nothing but the program."""
    path = script(tmp_path, {"choose": "hash", "answers": [f"{n}" for n in range(9)]})
    programs = [program(f"print({number})") for number in range(20)]
    forwards, backwards = await executions(path, *programs), await executions(path, *programs[::-1])
    assert forwards == backwards[::-1]
    assert len({done.stdout for done in forwards}) > 1


@pytest.mark.parametrize(("fault", "error"), [("no_sandbox", Transient), ("rate_limited", RateLimited)])
async def test_a_script_has_faults(tmp_path: Path, fault: str, error: type[Exception]) -> None:
    """A fault is raised in place of an execution."""
    with pytest.raises(error):
        await executions(script(tmp_path, [{"fault": fault}]), program(""))


# -- calls ------------------------------------------------------------------------------------------------------------


WEATHER = Tool(name="weather", description="Tell the weather.")


async def test_a_function_takes_calls() -> None:
    """A function gets the call and its session; a text is the result."""
    toolbox = ScriptedToolbox(lambda call, session: f"{call.arguments['city']} in {session}", [WEATHER], once=["pay"])
    assert await toolbox.call(Call(tool="weather", arguments={"city": "Graz"}), "s1") == Result(content="Graz in s1")
    assert toolbox.schemas() == (WEATHER,)
    assert (toolbox.repeatable("weather"), toolbox.repeatable("pay")) == (True, False)


async def test_a_tool_that_is_not_there_fails() -> None:
    """A call of a tool that is not offered is answered by a failed result, which names those that are."""
    came = await ScriptedToolbox(lambda call, session: "", [WEATHER]).call(Call(tool="wether"), "")
    assert came.failed
    assert "weather" in came.content


async def test_results_go_by_tool_and_arguments(tmp_path: Path) -> None:
    """Each tool has lines of its own, those with a condition for arguments that hold it."""
    path = script(tmp_path, {"choose": "cycle", "answers": [
        {"tool": "weather", "content": "no such city", "failed": True},
        {"tool": "weather", "when": "Graz", "content": "Rain"},
        {"tool": "time", "content": "noon"},
    ]})  # fmt: skip
    asked = [("weather", "Graz"), ("time", "Graz"), ("weather", "Nowhere"), ("weather", "Graz")]
    came = await results(path, *(Call(tool=tool, arguments={"city": city}) for tool, city in asked))
    assert [one.content for one in came] == ["Rain", "noon", "no such city", "Rain"]
    assert [one.failed for one in came] == [False, False, True, False]


async def test_an_id_asks_nothing_else(tmp_path: Path) -> None:
    """By hash, a call's result does not depend on what the conversation calls the call."""
    path = script(tmp_path, {"choose": "hash", "answers": [{"tool": "dice", "content": f"{n}"} for n in range(9)]})
    came = await results(path, *(Call(id=f"{number}", tool="dice") for number in range(9)))
    assert len(set(came)) == 1


async def test_a_script_tells_of_tools(tmp_path: Path) -> None:
    """Tools are offered as the script tells them, and by their names where only answers have them."""
    tools = [{"name": "pay", "description": "Pay.", "parameters": {"type": "object"}}]
    path = script(tmp_path, {"tools": tools, "once": ["pay"], "answers": [{"tool": "look", "content": "dark"}]})

    def told(toolbox: Toolbox) -> list[tuple[str, str, bool]]:
        return [(tool.name, tool.description, toolbox.repeatable(tool.name)) for tool in toolbox.schemas()]

    async with open_toolbox(ToolsConfig(kind="scripted", script=path, slots=2), notice=print) as toolbox:
        assert told(toolbox) == [("look", "", True), ("pay", "Pay.", False)]
        assert toolbox.slots == 2
        with pytest.raises(EndpointError, match="tool pay: all 0 answers"):
            await toolbox.call(Call(tool="pay"), "")


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opens", "told", "complaint"),
    [
        (open_sandbox, '[{"stdot": "x"}]', "stdot"),
        (open_sandbox, "[", "not JSON"),
        (open_toolbox, '["Rain"]', "`answers.0.tool` is missing"),
        (open_toolbox, '{"answers": [], "twice": []}', "unknown key `twice`"),
    ],
)
async def test_a_bad_script_gets_one_line(tmp_path: Path, opens: Any, told: str, complaint: str) -> None:
    """A file that is no script is refused in one line that says where and what."""
    kind = SandboxConfig if opens is open_sandbox else ToolsConfig
    with pytest.raises(ConfigError) as caught:
        async with opens(kind(kind="scripted", script=script(tmp_path, told)), notice=print):
            pass
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("opens", "settings", "complaint"),
    [
        (open_sandbox, {"kind": "bubble"}, "unknown sandbox 'bubble'; known: scripted"),
        (open_toolbox, {"kind": "scripte"}, "unknown toolbox 'scripte'; did you mean scripted? known: scripted"),
        (open_sandbox, {"kind": "scripted", "script": "x", "slot": 3}, "unknown option 'slot'; did you mean slots?"),
    ],
)
async def test_a_bad_table_gets_one_line(opens: Any, settings: dict[str, Any], complaint: str) -> None:
    """A kind or an option that there is not is answered with those that there are."""
    kind = SandboxConfig if opens is open_sandbox else ToolsConfig
    with pytest.raises(ConfigError, match=complaint.replace("?", r"\?")):
        async with opens(kind(**settings), notice=print):
            pass


@pytest.mark.parametrize(
    "settings", [{"kind": "scripted"}, {"kind": "other", "script": "x"}, {}, {"kind": "x", "slots": 0}]
)
@pytest.mark.parametrize("model", [SandboxConfig, ToolsConfig])
def test_contradicting_settings_are_refused(model: type[SandboxConfig], settings: dict[str, Any]) -> None:
    """A script goes with the kind that plays it, a kind is named, and there is a slot at least."""
    with pytest.raises(ConfigError):
        build(model, settings, where="sandbox")


def test_other_kinds_have_their_options() -> None:
    """What is no setting of ours is an option of the kind."""
    config = build(SandboxConfig, {"kind": "theirs", "slots": 2, "languages": {"js": 1}}, where="sandbox")
    assert config.options == {"languages": {"js": 1}}
