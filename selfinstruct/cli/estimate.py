"""`--dry-run`: the first prompt, and what the run may take."""

from __future__ import annotations

from random import Random

from selfinstruct.backends.flow.capacity import SLOTS
from selfinstruct.cli.budgets import estimated_cost, reaches
from selfinstruct.inputs.config import BackendConfig, RunConfig
from selfinstruct.inputs.prices import price_of
from selfinstruct.inputs.prompts import compile_texts
from selfinstruct.recipes import open_recipe
from selfinstruct.recipes.base import Recipe, Setting
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import Completion, Job, Rendered, Sampling, Usage
from selfinstruct.run.told import Told
from selfinstruct.text.display import duration, visible

CHARACTERS_PER_TOKEN = 4.0
"""Of English text, roughly; enough for an estimate."""
ANSWER_SHARE = 0.25
"""How much of its room an answer of the first stage takes, roughly (docs/lab.md)."""
LATER_ANSWER = 90
"""Tokens of an answer of a later stage, roughly."""
TOKENS_PER_SECOND = {"llamacpp": 130, "vllm": 4000}
"""That a server of ours writes to all who ask, roughly: the embedded model on two cores, an 8B model on one GPU."""
AT_ONCE = 32
"""Requests that such a server answers at once, where nothing is said."""
TOKENS_PER_SECOND_EACH = 50
"""That any other server writes to each who asks, roughly."""


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
    recipe = open_recipe(told.config.recipe, Setting.of(compile_texts(told.prompts), told.config))
    plan = recipe.plan(Pool(told.seeds), Random(f"{told.config.seed}:1"))
    assert plan is not None

    async def generate(
        prompt: Rendered, sampling: Sampling, *, answer_schema: object = None, judge: bool = False
    ) -> Completion:
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
    recipe = open_recipe(config.recipe, Setting.of(compile_texts(told.prompts), config))
    jobs = _jobs(recipe, config.n, len(told.seeds))
    first, later = recipe.stages[0], sum(jobs[stage] * recipe.requests[stage] for stage in recipe.stages[1:])
    tokens_in = jobs[first] * _tokens(asked.prompt) + later * _tokens_of_others(told)
    tokens_out = jobs[first] * (asked.sampling.max_tokens or 512) * ANSWER_SHARE + later * LATER_ANSWER
    by = f"{config.recipe.name} ({config.backend.kind}, {config.backend.dialect} dialect)"
    wanted = f"{config.n:,} tasks" if config.n else f"all tasks that {len(told.seeds):,} seeds make"
    lines = [f"Estimate for {wanted} with {by}, by experience with small models:"]
    lines += [
        f"  {stage}: about {max(1.0, jobs[stage]):,.0f} jobs, {recipe.expected[stage]:g} kept from each"
        for stage in recipe.stages
    ]
    usage = Usage(round(jobs[first] * recipe.requests[first] + later), int(tokens_in), 0, int(tokens_out))
    lines.append(
        f"  about {usage.requests:,} requests, {usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out"
    )
    return "\n".join([*lines, *_taking(config, usage), "Nothing was asked."])


def _taking(config: RunConfig, usage: Usage) -> list[str]:
    """What so much costs, how long it takes, and how far the budget would reach; a judge is taken for the writer."""
    price = price_of(config.backend, config.backend.model)
    seconds, assumed = _time(config.backend, usage)
    lines = [f"cost: {estimated_cost(price, usage)}", f"time: about {duration(seconds)}, if {assumed}"]
    return [f"  {line}" for line in (*lines, *reaches(config.budget, usage, price, seconds, config.n))]


def _time(backend: BackendConfig, usage: Usage) -> tuple[float, str]:
    """Seconds to write so many tokens, and what that assumes."""
    if backend.batch:
        return 86400.0, "the batches take the day that they may"
    at_once = backend.concurrency or SLOTS.get(backend.kind, AT_ONCE)
    ours = None if backend.base_url else TOKENS_PER_SECOND.get(backend.kind)
    speed = ours or TOKENS_PER_SECOND_EACH * at_once
    how = "" if ours else f" ({TOKENS_PER_SECOND_EACH} to each of {at_once} requests in flight)"
    seconds, assumed = usage.completion_tokens / speed, f"the server writes {speed:,} tokens a second{how}"
    for name, cap, count in (("rpm", backend.rpm, usage.requests), ("tpm", backend.tpm, usage.tokens)):
        if cap and 60 * count / cap > seconds:
            seconds, assumed = 60 * count / cap, f"{name} {cap:,g} is what holds it back"
    return seconds, assumed


def _jobs(recipe: Recipe, target: int | None, seeds: int) -> dict[str, float]:
    """Jobs of each stage: backward from the tasks wanted, or forward from the seeds."""
    brought = 1.0
    for stage in recipe.stages:
        brought *= recipe.expected[stage]
    first = float(recipe.extent(seeds) or 0) if target is None else target / brought
    jobs = {}
    for stage in recipe.stages:
        jobs[stage], first = first, first * recipe.expected[stage]
    return jobs


def _tokens(prompt: Rendered) -> float:
    text = prompt if isinstance(prompt, str) else "".join(message.content for message in prompt)
    return len(text) / CHARACTERS_PER_TOKEN


def _tokens_of_others(told: Told) -> float:
    """Of a prompt of a later stage, on average."""
    later = list(told.prompts.values())[1:]
    return sum(map(len, later)) / CHARACTERS_PER_TOKEN / max(1, len(later))
