"""A tiny recipe that asks all that can be asked: a model, the sandbox, and a tool in a session."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import ClassVar

import pytest

from selfinstruct import recipes
from selfinstruct.errors import Fault
from selfinstruct.inputs.plugins import Registry
from selfinstruct.recipes.base import Ask, Recipe, RecipeOptions, Stage
from selfinstruct.records import (
    Call,
    Draft,
    Execution,
    Instance,
    Job,
    Outcome,
    Plan,
    Program,
    Reason,
    Record,
    Result,
    Sampling,
    Seed,
    Tool,
)  # fmt: skip
from selfinstruct.store.keys import canonical


class Options(RecipeOptions):
    """None but those of every recipe."""

    candidates: int = 2
    """Answers that are asked for at once."""


class Task(Record):
    """The payload of its jobs."""

    task: str
    source: str


class Tried(Recipe[Options]):
    """Two answers at once, each run as a program; what passed is entered in a register, whose number is the output."""

    name = "tried"
    makes = "tasks whose answer ran"
    stages = (Stage("try", payload=Task, doors=("writer", "sandbox", "tools")),)
    Options = Options
    waits: ClassVar[bool] = False
    """Whether a job makes a call that must not be repeated, too."""

    def start(self, source: Seed, rng: Random) -> Plan:
        return Plan("try", Task(task=source.instruction, source=source.id), shown=(source.id,))

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        task: Task = job.payload
        sampling = Sampling(max_tokens=50)
        answers = await asyncio.gather(
            *(ask.generate(f"{task.task}\nCode:", sampling) for _ in range(self.options.candidates))
        )
        runs = await asyncio.gather(
            *(ask.run(Program(command=("run", "main"), files={"main": answer.text})) for answer in answers)
        )
        if not any(run.passed for run in runs):
            flaw = Reason.NO_VALID_INSTANCE
            return [
                Draft(stage="try", instruction=task.task, flaw=flaw, facets={"tests": "failed"}, family=task.source)
            ]
        await ask.call(Call(tool="open", arguments={"of": task.source}), session="register")
        entered = await ask.call(Call(tool="enter", arguments={"task": task.task}), session="register")
        if self.waits:
            await ask.call(Call(tool="pay", arguments={"for": task.source}))
        # A fitting answer is the first that passed, not the first that arrived.
        best = next(answer for answer, run in zip(answers, runs, strict=True) if run.passed)
        return [
            Draft(
                stage="try", instruction=task.task, instances=(Instance(input=best.text, output=entered.content),),
                facets={"tests": "passed"}, family=task.source,
            )
        ]  # fmt: skip

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> tuple[Plan, ...]:
        return ()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> type[Tried]:
    """The recipe, found by its name."""
    ours = {**recipes.RECIPES.ours, "tried": f"{__name__}:Tried"}
    monkeypatch.setattr(recipes, "RECIPES", Registry("recipe", "selfinstruct.recipes", ours))
    monkeypatch.setattr(Tried, "waits", False)
    return Tried


class Machine:
    """A sandbox that takes some turns; what a program prints and whether it passes follows from its text."""

    def __init__(self, slots: int = 3, timing: int = 0) -> None:
        self.slots = slots
        self.ran: list[str] = []
        self.most_at_once = self._now = 0
        self._rng = Random(timing)

    async def run(self, program: Program) -> Execution:
        self.ran.append(canonical(program.model_dump(mode="json", exclude_defaults=True)))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            for _ in range(self._rng.randrange(8)):
                await asyncio.sleep(0)
        finally:
            self._now -= 1
        text = program.files["main"]
        return Execution(status="exit 0" if Random(text).random() < 0.6 else "exit 1", stdout=f"ran {text}")

    async def aclose(self) -> None:
        pass


class Register:
    """A toolbox with state: each session has a register of its own, that must be opened before anything is entered."""

    def __init__(self, once: Sequence[str] = (), fault: Fault | None = None) -> None:
        self.slots = 2
        self.called: Counter[str] = Counter()
        self._once = tuple(once)
        self._fault = fault
        self._opened: dict[str, int] = {}

    def schemas(self) -> Sequence[Tool]:
        return tuple(Tool(name=name) for name in ("open", "enter", "pay"))

    def repeatable(self, tool: str) -> bool:
        return tool not in self._once

    async def call(self, call: Call, session: str) -> Result:
        self.called[f"{call.tool} {canonical(call.arguments)}"] += 1
        await asyncio.sleep(0)
        if self._fault is not None and call.tool == "pay":
            raise self._fault
        if call.tool == "open":
            self._opened[session] = 0
        elif call.tool == "enter":
            assert session in self._opened, "entered in a register that nobody has opened"
            self._opened[session] += 1
            return Result(content=f"number {self._opened[session]}")
        return Result(content="done")

    async def aclose(self) -> None:
        pass
