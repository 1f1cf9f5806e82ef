"""The recipes of one run: the first makes tasks, each further one goes on with what the one before keeps (`--then`).

    chain = Chain.of(config)                  # options checked, nothing read yet
    chain.open(prompts, config)               # from here on it plans and performs

What the recipes call their stages and prompts is unique in the run: those of the first as they are, those of a further
one after its name, `evol-instruct/answer`. A recipe knows nothing of that: jobs and drafts are translated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from pydantic import BaseModel, JsonValue

from selfinstruct import recipes
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import RecipeConfig, RunConfig, models_of
from selfinstruct.inputs.prompts import compile_texts
from selfinstruct.recipes.base import Ask, Manner, Recipe, RecipeContext, Stage
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import WRITER, Draft, Job, Outcome, Plan, Role, Sample, Seed


class PromptFile(NamedTuple):
    """A prompt that a run wants."""

    recipe: Recipe[Any]
    name: str
    """As the recipe calls it."""
    role: Role
    """Who is asked with it."""


class Link:
    """One recipe at its place in a run.

    Args:
        prefix: what its stages and prompts are called after; "" for the first.
    """

    def __init__(self, recipe: Recipe[Any], prefix: str = "") -> None:
        self.recipe = recipe
        self.prefix = prefix
        self.stages = tuple(stage._replace(name=f"{prefix}{stage.name}") for stage in recipe.stages)
        """In order, by their names in the run."""
        self.pooled = f"{prefix}{recipe.pooled or recipe.stages[-1].name}"
        """The stage whose samples join the pool, by its name in the run."""
        self._payloads = {stage.name: stage.payload for stage in recipe.stages}

    @property
    def last(self) -> str:
        """The stage whose kept drafts are its tasks, by its name in the run."""
        return self.stages[-1].name

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """See `Recipe.filters`; the draft is the recipe's own."""
        return self.recipe.filters(draft)

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """See `Recipe.plan`."""
        plan = self.recipe.plan(pool, rng)
        return None if plan is None else self._planned(plan)

    def start(self, source: Seed, rng: Random) -> Plan:
        """See `Recipe.start`."""
        return self._planned(self.recipe.start(source, rng))

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        """See `Recipe.perform`; the drafts are the recipe's own (`named`)."""
        return await self.recipe.perform(self._own(job), ask)

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterator[Plan]:
        """See `Recipe.follow`; the outcomes are of the recipe's own drafts."""
        return map(self._planned, self.recipe.follow(self._own(job), outcomes))

    def named(self, outcome: Outcome) -> Outcome:
        """An outcome with its draft and sample under the name that their stage has in the run."""
        if not self.prefix:
            return outcome
        draft, sample = outcome.draft, outcome.sample
        stage = {"stage": f"{self.prefix}{draft.stage}"}
        return outcome._replace(draft=draft.model_copy(update=stage), sample=sample and sample.model_copy(update=stage))

    def own(self, draft: Draft) -> Draft:
        """A stored draft under the recipe's own name for its stage."""
        stage = draft.stage.removeprefix(self.prefix)
        return draft if stage == draft.stage else draft.model_copy(update={"stage": stage})

    def _own(self, job: Job) -> Job:
        stage = job.stage.removeprefix(self.prefix)
        record = self._payloads[stage]
        return job._replace(stage=stage, payload=record.model_validate(job.payload) if record else job.payload)

    def _planned(self, plan: Plan) -> Plan:
        payload: Any = plan.payload
        if isinstance(payload, BaseModel):
            payload = payload.model_dump(mode="json", exclude_defaults=True)
        return plan._replace(stage=f"{self.prefix}{plan.stage}", payload=payload)


class Chain:
    """The recipes of a run, in order.

    Raises:
        ConfigError: one after the first samples from a pool.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)
        self.first, self.last = self.links[0], self.links[-1]
        self.stages: tuple[Stage, ...] = tuple(stage for link in self.links for stage in link.stages)
        """All stages in order, by their names in the run."""
        self.task_stage = self.last.last
        """The stage whose kept drafts are the tasks that `-n` counts."""
        self._by_stage = {stage.name: link for link in self.links for stage in link.stages}
        for link in self.links[1:]:
            if link.recipe.samples():
                raise ConfigError(
                    f"then: {link.recipe.name} samples from a pool and cannot go on with single tasks; put it first, "
                    "or name one that goes through sources"
                )

    @classmethod
    def of(cls, config: RunConfig) -> Chain:
        """The recipes that a configuration names, with their options.

        Raises:
            ConfigError: no such recipe, options that it does not take, or a chain that cannot be.
        """
        return cls([Link(recipes.open(told), prefix) for told, prefix in _prefixed(config)])

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The stages of each recipe, by their names in the run: what a line of its work goes through."""
        return [tuple(stage.name for stage in link.stages) for link in self.links]

    def link(self, stage: str) -> Link:
        """The recipe that a stage belongs to, by its name in the run."""
        return self._by_stage[stage]

    def next(self, link: Link) -> Link | None:
        """The recipe that goes on with what this one keeps; None after the last."""
        place = self.links.index(link) + 1
        return self.links[place] if place < len(self.links) else None

    @property
    def prompts(self) -> dict[str, PromptFile]:
        """The prompts that the recipes want, by their names in the run."""
        return {
            f"{link.prefix}{name}": PromptFile(link.recipe, name, role)
            for link in self.links
            for name, role in link.recipe.prompts().items()
        }

    @property
    def doors(self) -> tuple[str, ...]:
        """Whom the jobs ask: roles, `sandbox`, `tools`; each once."""
        asked = (prompt.role for prompt in self.prompts.values())
        return tuple(dict.fromkeys([*(door for stage in self.stages for door in stage.doors), *asked]))

    @property
    def filter_defaults(self) -> dict[str, dict[str, JsonValue]]:
        """The filters of all recipes; what the first that has one sets holds in the whole run."""
        merged: dict[str, dict[str, JsonValue]] = {}
        for link in self.links:
            for name, settings in link.recipe.filter_defaults().items():
                merged.setdefault(name, settings)
        return merged

    def take(self, seeds: Sequence[Seed], where: str) -> list[Seed]:
        """The seeds as the first recipe wants them."""
        return list(self.first.recipe.take(seeds, where))

    def open(self, texts: Mapping[str, str], config: RunConfig) -> None:
        """Hand each recipe its prompts, by their names in the run, and the manner in which its models are asked.

        Raises:
            PromptError: a prompt does not suit its recipe.
        """
        manners = {role: _manner(config, role) for role in (WRITER, *config.roles)}
        for link in self.links:
            own = {name: texts[f"{link.prefix}{name}"] for name in link.recipe.prompts()}
            link.recipe.open(RecipeContext(compile_texts(own, link.recipe.front), manners))

    def continued(self, link: Link, sample: Sample, next_job: int, seed: int) -> Iterator[Plan]:
        """What the next recipe makes of a task that one kept.

        Args:
            next_job: the number of the first job that will be planned of it.
            seed: the run's number, which all randomness derives from.
        """
        following = self.next(link)
        if following is None or sample.stage != link.last:
            return
        source = Seed(
            id=sample.id, instruction=sample.instruction, instances=sample.instances, family=sample.family or sample.id
        )
        for number, own in enumerate(following.recipe.take([source], sample.id), start=next_job):
            yield following.start(own, Random(f"{seed}:{number}"))._replace(parent=sample.id)


def _prefixed(config: RunConfig) -> Iterable[tuple[RecipeConfig, str]]:
    """Each recipe with what its stages are called after."""
    yield config.recipe, ""
    met: dict[str, int] = {}
    for told in config.then:
        met[told.name] = met.get(told.name, 0) + 1
        yield told, f"{told.name}/" if met[told.name] == 1 else f"{told.name}-{met[told.name]}/"


def _manner(config: RunConfig, role: Role) -> Manner:
    model = models_of(config, role)[0]
    assert model.dialect is not None, "a resolved configuration knows how each role is asked"
    return Manner(model.dialect, model.structured)
