"""What a recipe is: a way of making drafts, in three methods and a handful of facts.

plan      what to do next, from the pool as settled: pure
perform   ask the model and read its answers: the only await, and only through the `generate` handed in
follow    what follows from a job once it is settled: pure
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import JsonValue, model_validator

from selfinstruct.errors import Refused
from selfinstruct.inputs.config import Dialect, RunConfig, Section
from selfinstruct.inputs.prompts import Prompt
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import (
    Completion,
    Draft,
    Generate,
    Job,
    Outcome,
    Plan,
    Reason,
    Sampling,
    Seed,
)


class Setting(NamedTuple):
    """What a recipe is opened with, beside its options."""

    prompts: Mapping[str, Prompt]
    dialect: Dialect
    structured: bool
    """Whether the backend is asked for JSON by schema."""
    judge_structured: bool
    """Whether the judge is."""

    @classmethod
    def of(cls, prompts: Mapping[str, Prompt], config: RunConfig) -> Setting:
        """The setting that a resolved configuration means."""
        backend = config.backend
        assert backend.dialect is not None
        return cls(prompts, backend.dialect, backend.structured, (config.judge or backend).structured)


class Recipe(Protocol):
    """A way of making drafts. Found by name; made by a factory `open(options, setting) -> Recipe`."""

    name: str
    stages: tuple[str, ...]
    """Stages of jobs and drafts in order; the last makes the tasks that `-n` counts."""
    pooled: str
    """The stage whose samples join the pool."""
    shows_kept: bool
    """Whether prompts show samples of the pool; where they do not, it need not hold them."""
    expected: Mapping[str, float]
    """What a job of each stage may be expected to bring while none has been settled: jobs of the next stage, tasks at
    the last."""

    requests: Mapping[str, float]
    """Requests that a job of each stage makes."""

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """The filters that judge a draft, in order."""
        ...

    def extent(self, seeds: int) -> int | None:
        """Jobs of the first stage that so many seeds make, to the end; None where there is no end."""
        ...

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """The next job from the pool, or None when nothing more can be planned from it."""
        ...

    async def perform(self, job: Job, generate: Generate) -> list[Draft]:
        """Ask for and read what the job wants: at least one draft, if only to say what was wrong with the answer.

        Raises:
            Refused: the server will never answer a request of this job.
        """
        ...

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """The jobs that follow from a settled one."""
        ...


class RecipeModule(Protocol):
    """What a recipe's name stands for: a module, or an object like one."""

    Options: type[RecipeOptions]
    """The recipe's options, with the published numbers."""
    STAGES: tuple[str, ...]
    """As `Recipe.stages`."""
    TARGET: int | None
    """Tasks to keep when nothing is said; None: as many as the seeds make."""
    PUBLISHED_DIALECT: Dialect
    """What the published code asks in: `strict` holds for no other."""
    JUDGE_PROMPTS: tuple[str, ...]
    """Those of its prompts that the judge is asked with."""

    def prompts(self, options: Any) -> tuple[str, ...]:
        """The names of the prompt files that these options ask for."""

    def take(self, options: Any, seeds: Sequence[Seed], where: Path) -> Sequence[Seed]:
        """The seeds as the recipe wants them.

        Raises:
            SourceError: they are too few for a first prompt.
        """

    def filter_defaults(self, options: Any) -> dict[str, dict[str, JsonValue]]:
        """Settings of the recipe's filters that suit these options; what the person sets wins."""

    def open(self, options: Any, setting: Setting) -> Recipe:
        """The recipe."""


class SamplingOptions(Section):
    """How answers of one stage are drawn; a value left out keeps the published one."""

    max_tokens: int | None = None
    """Tokens that an answer may have."""
    temperature: float | None = None
    """How freely tokens are drawn; at 0 always the likeliest."""
    top_p: float | None = None
    """Draw from the likeliest tokens that together have this share."""
    presence_penalty: float | None = None
    """Against tokens that the answer has already."""
    frequency_penalty: float | None = None
    """Against tokens, by how often the answer has them."""

    def sampling(self, stop: tuple[str, ...] = (), max_tokens: int | None = None) -> Sampling:
        """These options as a request carries them, with `max_tokens` where they say nothing of it."""
        return _sampling(self, stop, max_tokens)


@lru_cache(1024)
def _sampling(options: SamplingOptions, stop: tuple[str, ...], max_tokens: int | None) -> Sampling:
    values = options.model_dump()
    return Sampling(**values | {"max_tokens": options.max_tokens or max_tokens}, stop=stop)


class RecipeOptions(Section):
    """What the options of a published recipe have in common; a recipe gives them its numbers and its `switches`."""

    strict: bool | str = False

    @model_validator(mode="before")
    @classmethod
    def _published(cls, tree: Any) -> Any:
        """Of a table of sampling only what it names is changed, the rest stays as published."""
        if not isinstance(tree, Mapping):
            return tree
        published = {
            name: field.default.model_dump(exclude_none=True)
            for name, field in cls.model_fields.items()
            if isinstance(field.default, SamplingOptions) and isinstance(tree.get(name), Mapping)
        }
        return {**tree, **{name: {**values, **tree[name]} for name, values in published.items()}}

    @model_validator(mode="before")
    @classmethod
    def _strictly(cls, tree: Any) -> Any:
        """With `strict` all switches are off; one turned on beside it is a contradiction."""
        if not isinstance(tree, Mapping) or not tree.get("strict"):
            return tree
        chosen = dict(tree.get("switches") or {})
        if on := [name for name, value in chosen.items() if value is True]:
            raise ValueError(f"strict turns every switch off, but switches.{on[0]} is on: drop one of the two")
        return {**tree, "switches": {**cls.all_off(), **chosen}}

    @classmethod
    def all_off(cls) -> dict[str, bool]:
        """Every switch, off."""
        return dict.fromkeys(type(cls.model_fields["switches"].default).model_fields, False)


def flawed(stage: str, instruction: str, answer: Completion) -> Draft:
    """The draft that stands for an answer from which nothing could be read; the answer lies in its `meta`."""
    if not answer.text.strip():
        flaw = Reason.EMPTY_ANSWER
    else:
        flaw = Reason.TRUNCATED if answer.finish_reason == "length" else Reason.UNPARSEABLE
    return Draft(stage=stage, instruction=instruction, flaw=flaw, meta={"answer": answer.text})


def object_schema(**properties: JsonValue) -> dict[str, JsonValue]:
    """A JSON schema of an object that has exactly these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


Shown = TypeVar("Shown")


async def with_fewer(
    demonstrations: list[Shown], ask: Callable[[list[Shown]], Awaitable[Completion]]
) -> tuple[Completion, int]:
    """The answer to a prompt that shows these demonstrations, or half of them as long as the server finds it too long.

    Returns:
        the answer, and how many demonstrations the prompt showed.

    Raises:
        Refused: not even one demonstration fits, or the server refuses for another reason.
    """
    while True:
        try:
            return await ask(demonstrations), len(demonstrations)
        except Refused as refusal:
            if refusal.kind != "prompt_too_long" or len(demonstrations) == 1:
                raise
            demonstrations = demonstrations[: len(demonstrations) // 2]
