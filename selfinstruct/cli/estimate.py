"""`--dry-run`: the first prompt, and what the run may take."""

from __future__ import annotations

from random import Random

from selfinstruct.harmless import visible
from selfinstruct.prices import cost
from selfinstruct.prices import told as told_cost
from selfinstruct.prompts import compile_texts
from selfinstruct.recipes import open_recipe
from selfinstruct.recipes.base import Pool, Setting
from selfinstruct.records import Completion, Job, Rendered, Sampling
from selfinstruct.runs import Told

CHARACTERS_PER_TOKEN = 4.0
"""Of English text, roughly; enough for an estimate."""
ANSWER_SHARE = 0.25
"""How much of its room an answer takes, roughly (docs/lab.md)."""


class _Asked(Exception):
    """Ends `perform` at its first request."""

    def __init__(self, prompt: Rendered, sampling: Sampling) -> None:
        super().__init__()
        self.prompt = prompt
        self.sampling = sampling


def describe(told: Told) -> str:
    """The first prompt as it would be sent, and an estimate of requests, tokens and cost."""
    asked = _first_request(told)
    return f"{_shown(asked.prompt)}\n\n{_estimate(told, asked)}"


def _first_request(told: Told) -> _Asked:
    recipe = open_recipe(told.config.recipe, Setting.of(compile_texts(told.prompts), told.config.backend))
    plan = recipe.plan(Pool(told.seeds), Random(f"{told.config.seed}:1"))
    assert plan is not None

    async def generate(prompt: Rendered, sampling: Sampling, *, answer_schema: object = None) -> Completion:
        raise _Asked(prompt, sampling)

    try:
        # It asks before it awaits anything else, so one step of the coroutine is enough.
        recipe.perform(Job(1, *plan), generate).send(None)
    except _Asked as asked:
        return asked
    raise AssertionError("a recipe that asks nothing")


def _shown(prompt: Rendered) -> str:
    if isinstance(prompt, str):
        return f"--- the first prompt ---\n{visible(prompt, indent='')}"
    turns = (f"--- the first prompt: {turn.role} ---\n{visible(turn.content, indent='')}" for turn in prompt)
    return "\n".join(turns)


def _estimate(told: Told, asked: _Asked) -> str:
    config = told.config
    tasks = float(config.n)
    recipe = open_recipe(config.recipe, Setting.of(compile_texts(told.prompts), config.backend))
    lines: list[str] = []
    requests = tokens_in = tokens_out = 0.0
    for stage in reversed(recipe.stages):
        jobs = tasks / recipe.expected[stage]
        asks = 2 if stage == "instances" else 1
        prompt = _tokens(asked.prompt) if stage == recipe.stages[0] else _tokens_of(told, "input_first")
        room = asked.sampling.max_tokens or 512 if stage == recipe.stages[0] else 350
        requests += jobs * asks
        tokens_in += jobs * asks * prompt
        tokens_out += jobs * room * ANSWER_SHARE
        lines.insert(0, f"  {stage}: about {max(1.0, jobs):,.0f} jobs, {recipe.expected[stage]:g} kept from each")
        tasks = jobs
    price = cost(config.backend, config.backend.model, int(tokens_in), int(tokens_out))
    by = f"{config.recipe.name} ({config.backend.kind}, {config.backend.dialect} dialect)"
    head = f"Estimate for {config.n:,} tasks with {by}, by experience with small models:"
    totals = f"  about {requests:,.0f} requests, {tokens_in:,.0f} tokens in, {tokens_out:,.0f} out; {told_cost(price)}"
    return "\n".join([head, *lines, totals, "Nothing was asked."])


def _tokens(prompt: Rendered) -> float:
    text = prompt if isinstance(prompt, str) else "".join(message.content for message in prompt)
    return len(text) / CHARACTERS_PER_TOKEN


def _tokens_of(told: Told, name: str) -> float:
    return len(told.prompts.get(name, "")) / CHARACTERS_PER_TOKEN
