"""A recipe played through: a scripted model answers, the run judges, and what was asked is kept for reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from selfinstruct.errors import Refused
from selfinstruct.inputs.config import RunConfig, build, merge
from selfinstruct.recipes.chain import Chain
from selfinstruct.records import (
    Call,
    Completion,
    Execution,
    Instance,
    Job,
    Outcome,
    Program,
    Rendered,
    Result,
    Sampling,
    Seed,
    Tool,
)
from selfinstruct.run.asking import as_stored
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, prompts_of, resolve

POOL = (
    "Name three rivers that cross a border.",
    "Explain to a child why bread rises.",
    "Turn the recipe below into a shopping list.",
    "Say whether the remark is a complaint or a compliment.",
)
SEEDS = [
    Seed(id=f"s{i}", instruction=text, instances=(Instance(input="x", output=f"answer {i}"),))
    for i, text in enumerate(POOL, start=1)
]


class Asked(NamedTuple):
    """One question that the recipe asked."""

    prompt: Rendered
    sampling: Sampling
    schema: dict[str, JsonValue] | None
    role: str = "writer"

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else "\n".join(turn.content for turn in self.prompt)


class Answers:
    """An `Ask` that gives these answers in order; a `Refused` is raised."""

    def __init__(self, *answers: str | tuple[str, str] | Refused) -> None:
        self.asked: list[Asked] = []
        self._left = list(answers)

    async def generate(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        role: str = "writer",
        tools: Sequence[Tool] = (),
        answer_schema: dict[str, JsonValue] | None = None,
    ) -> Completion:
        self.asked.append(Asked(prompt, sampling, answer_schema, role))
        answer = self._left.pop(0)
        if isinstance(answer, Refused):
            raise answer
        text, reason = (answer, "stop") if isinstance(answer, str) else answer
        said = as_stored(Completion(text=text, finish_reason=reason))
        assert isinstance(said, Completion)
        return said

    async def run(self, program: Program) -> Execution:
        raise AssertionError("no program is expected")

    async def call(self, call: Call, *, session: str = "") -> Result:
        raise AssertionError("no call is expected")


def state_of(
    recipe: str,
    *,
    dialect: str = "completion",
    structured: bool = False,
    seeds: Sequence[Seed] = SEEDS,
    **options: Any,
) -> RunState:
    """A run that has only its seeds."""
    return RunState(_told(recipe, dialect, structured, json.dumps(options))._replace(seeds=list(seeds)), target=None)


@cache
def _told(recipe: str, dialect: str, structured: bool, options: str) -> Told:
    tree: dict[str, Any] = {
        "recipe": {"name": recipe, "demonstrations": 3, "kept_demonstrations": 0},
        "backend": {"kind": "openai", "dialect": dialect, "structured": structured},
    }
    return told_of(build(RunConfig, merge(tree, {"recipe": json.loads(options)}), where="test"), SEEDS)


def told_of(config: RunConfig, seeds: Sequence[Seed], prompts: Path | None = None) -> Told:
    """What a run is told that has these seeds."""
    chain = Chain.of(config)
    taken = chain.take(seeds, "tasks.json")
    config = resolve(config, chain, taken)
    told = Told(config, chain, taken, prompts_of(config, chain, prompts))
    chain.open(told.prompts, config)
    return told


def evolution(
    *tasks: Seed | str,
    dialect: str = "chat",
    structured: bool = False,
    prompts: Path | None = None,
    filters: dict[str, Any] | None = None,
    seed: int = 42,
    **options: Any,
) -> RunState:
    """An evolution of these tasks of which nothing is planned yet."""
    seeds = [
        task if isinstance(task, Seed) else Seed(id=f"s{i}", instruction=task) for i, task in enumerate(tasks, start=1)
    ]
    backend = {"kind": "openai", "dialect": dialect, "structured": structured}
    tree = {"recipe": {"name": "evol-instruct", **options}, "backend": backend, "filters": filters or {}, "seed": seed}
    return RunState(told_of(build(RunConfig, tree, where="test"), seeds, prompts), target=None)


def settled(state: RunState, job: Job, *answers: str | tuple[str, str] | Refused) -> tuple[Outcome, list[Job], Answers]:
    """What becomes of a job that makes one draft, what follows from it, and what was asked: all answers are used."""
    ask = Answers(*answers)
    [outcome], follow_ups = state.settle(job, play(state.perform(job, ask)))
    assert len(ask.asked) == len(answers)
    return outcome, follow_ups, ask


def planned(state: RunState) -> Job:
    """The next job of the pool."""
    job = state.plan()
    assert job is not None
    return job


def play(coroutine: Any) -> Any:
    """What a coroutine returns that waits for nothing: no loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited for something")


def first(state: RunState, ask: Answers) -> tuple[list[Outcome], list[Job]]:
    """Plan, perform and settle the next job of the pool."""
    job = state.plan()
    assert job is not None
    return state.settle(job, play(state.perform(job, ask)))


def instances(state: RunState, instruction: str, ask: Answers) -> Outcome:
    """Perform and settle the job of a kept instruction (Self-Instruct)."""
    job = Job(state.jobs + 1, "instances", {"instruction": instruction}, "1.1")
    [outcome], _ = state.settle(job, play(state.perform(job, ask)))
    return outcome


def kept(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.sample.instruction for outcome in outcomes if outcome.sample is not None]


def reasons(outcomes: Sequence[Outcome]) -> list[str]:
    """The word on each draft: `passed`, or why it was dropped."""
    return [str(outcome.verdicts[-1].reason) for outcome in outcomes]
