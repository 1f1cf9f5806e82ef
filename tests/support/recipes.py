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
from selfinstruct.recipes import evol_instruct
from selfinstruct.records import Completion, Instance, Job, Outcome, Rendered, Sampling, Seed
from selfinstruct.run.state import RunState
from selfinstruct.run.told import prompts_of, resolve

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
    judge: bool = False

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else "\n".join(turn.content for turn in self.prompt)


class Answers:
    """A `Generate` that gives these answers in order; a `Refused` is raised."""

    def __init__(self, *answers: str | tuple[str, str] | Refused) -> None:
        self.asked: list[Asked] = []
        self._left = list(answers)

    async def __call__(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        answer_schema: dict[str, JsonValue] | None = None,
        judge: bool = False,
    ) -> Completion:
        self.asked.append(Asked(prompt, sampling, answer_schema, judge))
        answer = self._left.pop(0)
        if isinstance(answer, Refused):
            raise answer
        text, reason = (answer, "stop") if isinstance(answer, str) else answer
        return Completion(text=text, finish_reason=reason)


def state_of(
    recipe: str,
    *,
    dialect: str = "completion",
    structured: bool = False,
    seeds: Sequence[Seed] = SEEDS,
    **options: Any,
) -> RunState:
    """A run that has only its seeds."""
    config, texts = _told(recipe, dialect, structured, json.dumps(options))
    return RunState(config, seeds, texts, target=None)


@cache
def _told(recipe: str, dialect: str, structured: bool, options: str) -> tuple[RunConfig, dict[str, str]]:
    tree: dict[str, Any] = {
        "recipe": {"name": recipe, "demonstrations": 3, "kept_demonstrations": 0},
        "backend": {"kind": "openai", "dialect": dialect, "structured": structured},
    }
    config = resolve(build(RunConfig, merge(tree, {"recipe": json.loads(options)}), where="test"), SEEDS)
    assert config.backend.dialect is not None
    return config, prompts_of(config, None)


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
    seeds = list(evol_instruct.take(evol_instruct.Options(), seeds, Path("tasks.json")))
    backend = {"kind": "openai", "dialect": dialect, "structured": structured}
    tree = {"recipe": {"name": "evol-instruct", **options}, "backend": backend, "filters": filters or {}, "seed": seed}
    config = resolve(build(RunConfig, tree, where="test"), seeds)
    return RunState(config, seeds, prompts_of(config, prompts), target=None)


def settled(state: RunState, job: Job, *answers: str | tuple[str, str] | Refused) -> tuple[Outcome, list[Job], Answers]:
    """What becomes of a job that makes one draft, what follows from it, and what was asked: all answers are used."""
    ask = Answers(*answers)
    [outcome], follow_ups = state.settle(job, play(state.recipe.perform(job, ask)))
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


def first(state: RunState, generate: Answers) -> tuple[list[Outcome], list[Job]]:
    """Plan, perform and settle the next job of the pool."""
    job = state.plan()
    assert job is not None
    return state.settle(job, play(state.recipe.perform(job, generate)))


def instances(state: RunState, instruction: str, generate: Answers) -> Outcome:
    """Perform and settle the job of a kept instruction (Self-Instruct)."""
    job = Job(state.jobs + 1, "instances", {"instruction": instruction}, "1.1")
    [outcome], _ = state.settle(job, play(state.recipe.perform(job, generate)))
    return outcome


def kept(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.sample.instruction for outcome in outcomes if outcome.sample is not None]


def reasons(outcomes: Sequence[Outcome]) -> list[str]:
    """The word on each draft: `passed`, or why it was dropped."""
    return [str(outcome.verdicts[-1].reason) for outcome in outcomes]
