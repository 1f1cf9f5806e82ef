"""`--dry-run` shows the first question, whoever it is put to."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from selfinstruct.cli.estimate import describe
from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.inputs.plugins import Registry
from selfinstruct.recipes.base import Ask, Recipe, RecipeOptions, Stage
from selfinstruct.records import Call, Draft, Job, Plan, Program, Sampling, Seed
from selfinstruct.run.told import read


class First(Recipe[RecipeOptions]):
    """Asks what its class says first, and a model after it."""

    name = "first"
    makes = "nothing"
    Options = RecipeOptions

    def start(self, source: Seed, rng: Random) -> Plan:
        return Plan("only", {})

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        await self.begin(ask)
        await ask.generate("Go on.", Sampling())
        return []

    async def begin(self, ask: Ask) -> None:
        """What is asked before the model."""


class Runs(First):
    stages = (Stage("only", doors=("sandbox", "writer")),)

    async def begin(self, ask: Ask) -> None:
        await ask.run(Program(command=("python", "main.py"), files={"main.py": "print(6 * 7)"}))


class Calls(First):
    stages = (Stage("only", doors=("tools", "writer")),)

    async def begin(self, ask: Ask) -> None:
        await ask.call(Call(tool="weather", arguments={"city": "Graz"}), session="one")


class Silent(First):
    stages = (Stage("only", doors=()),)

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        return []


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        (Runs, "--- the first program ---\npython main.py\n--- the first program: main.py ---\nprint(6 * 7)\n"),
        (Calls, '--- the first call: weather ---\n{\n  "city": "Graz"\n}\n'),
        (Silent, "The first job asks nobody.\n"),
    ],
)
def test_the_first_question_is_shown(recipe: type[First], shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that begins with a program or a call, or asks nobody, is told like one that asks a model."""
    registry = Registry("recipe", "none", {"first": f"{__name__}:{recipe.__name__}"})
    monkeypatch.setattr("selfinstruct.recipes.RECIPES", registry)
    scripted = {"kind": "scripted", "script": "unused"}
    tree: dict[str, Any] = {"recipe": {"name": "first"}, "backend": {"kind": "llamacpp"}}
    doors = recipe.stages[0].doors
    tree |= {name: scripted for name in ("sandbox", "tools") if name in doors}
    told = describe(read(build(RunConfig, tree, where="a test")))
    assert told.startswith(shown)
    assert "\nEstimate for" in told
