"""`--dry-run`: the first question, and what the run may take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NoReturn

from pydantic import JsonValue

from selfinstruct.cli.budgets import estimated_cost, reaches
from selfinstruct.inputs.config import models_of
from selfinstruct.inputs.prices import price_of
from selfinstruct.recipes.base import Stage
from selfinstruct.records import WRITER, Call, Program, Rendered, Role, Sampling, Tool, Usage
from selfinstruct.run import loop
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told
from selfinstruct.text.display import visible

CHARACTERS_PER_TOKEN = 4.0
"""Of English text, roughly; enough for an estimate."""
ANSWER_SHARE = 0.25
"""How much of its room an answer of the first stage takes, roughly (docs/lab.md)."""
ROOM = 512
"""Tokens that an answer is taken to have room for, where nothing is said."""
LATER_ANSWER = 90
"""Tokens of an answer of a later stage, roughly."""


class Asked(Exception):
    """Ends `perform` at its first question.

    Args:
        parts: the question, each part under its heading.
        room: tokens that the answer may have; 0 where no model is asked.
    """

    def __init__(self, parts: Sequence[tuple[str, str]], room: int = 0) -> None:
        super().__init__()
        self.parts = parts
        self.room = room


class Asking:
    """An `Ask` that answers nothing."""

    async def generate(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        role: Role = WRITER,
        tools: Sequence[Tool] = (),
        answer_schema: dict[str, JsonValue] | None = None,
    ) -> NoReturn:
        """See `Ask.generate`."""
        heading = "the first prompt" if role == WRITER else f"the first prompt, to the {role}"
        parts = (
            [(heading, prompt)] if isinstance(prompt, str) else [(f"{heading}: {t.role}", t.content) for t in prompt]
        )
        raise Asked(parts, sampling.max_tokens or ROOM)

    async def run(self, program: Program) -> NoReturn:
        """See `Ask.run`."""
        files = [(f"the first program: {path}", text) for path, text in program.files.items()]
        raise Asked([("the first program", " ".join(program.command)), *files])

    async def call(self, call: Call, *, session: str = "") -> NoReturn:
        """See `Ask.call`."""
        raise Asked([(f"the first call: {call.tool}", json.dumps(call.arguments, ensure_ascii=False, indent=2))])


def describe(told: Told) -> str:
    """The first question as it would be put, and an estimate of requests, tokens and cost."""
    asked = _first_question(told)
    shown = "\n".join(f"--- {heading} ---\n{visible(text, indent='')}" for heading, text in asked.parts)
    return f"{shown or 'The first job asks nobody.'}\n\n{_estimate(told, asked)}"


def _first_question(told: Told) -> Asked:
    state = RunState(told, target=None)
    job = state.plan()
    assert job is not None, "a run has something to begin with"
    try:
        loop.run(state.perform, job, Asking())
    except Asked as asked:
        return asked
    return Asked(())


def _estimate(told: Told, asked: Asked) -> str:
    config, stages = told.config, told.chain.stages
    jobs = _jobs(told)
    first, later = stages[0], sum(jobs[stage.name] * stage.asks for stage in stages[1:])
    prompt = sum(len(text) for _, text in asked.parts) / CHARACTERS_PER_TOKEN if asked.room else 0.0
    tokens_in = jobs[first.name] * prompt + later * _tokens_of_others(told)
    tokens_out = jobs[first.name] * asked.room * ANSWER_SHARE + later * LATER_ANSWER
    writer = models_of(config, WRITER)[0]
    recipes = ", then ".join(config.recipes)
    by = f"{recipes} ({writer.kind}, {writer.dialect} dialect)"
    wanted = f"{config.n:,} tasks" if config.n else f"all tasks that {len(told.seeds):,} seeds make"
    usage = Usage(round(jobs[first.name] * first.asks + later), int(tokens_in), 0, int(tokens_out))
    price = price_of(writer, writer.model)
    return "\n".join([
        f"Estimate for {wanted} with {by}, by experience with small models:",
        *(f"  {stage.name}: about {max(1.0, jobs[stage.name]):,.0f} jobs, {stage.brings:g} kept from each"
          for stage in stages),
        f"  about {usage.requests:,} requests, {usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out",
        f"  cost: {estimated_cost(price, usage)}",
        *(f"  {line}" for line in reaches(config.budget, usage, price, config.n)),
        "Nothing was asked.",
    ])  # fmt: skip


def _jobs(told: Told) -> dict[str, float]:
    """Jobs of each stage: backward from the tasks wanted, or forward from the seeds."""
    stages, target = told.chain.stages, told.config.n
    brought = 1.0
    for stage in stages:
        brought *= stage.brings
    extent = told.chain.first.recipe.extent(len(told.seeds))
    return dict(_counts(stages, float(extent or 0) if target is None else target / brought))


def _counts(stages: Sequence[Stage], first: float) -> Iterator[tuple[str, float]]:
    for stage in stages:
        yield stage.name, first
        first *= stage.brings


def _tokens_of_others(told: Told) -> float:
    """Of a prompt of a later stage, on average."""
    later = list(told.prompts.values())[1:]
    return sum(map(len, later)) / CHARACTERS_PER_TOKEN / max(1, len(later))
