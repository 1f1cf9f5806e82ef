"""Alpaca (Taori et al. 2023): whole tasks, instruction, input and output, many to an answer.

    tasks   3 demonstrations, all seeds  ->  up to 16 new tasks in one answer

Numbers are those of the released code (tatsu-lab/stanford_alpaca). With `strict` the recipe decides item for item as
that code does on the same answers; every improvement is a switch. Kept tasks are never shown as demonstrations, as
published, unless `kept_demonstrations` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import Random
from typing import Annotated, Any

from pydantic import Field, JsonValue

from selfinstruct.filters import validity
from selfinstruct.inputs.config import Section
from selfinstruct.inputs.seeds import require_enough
from selfinstruct.recipes import reading
from selfinstruct.recipes.base import Ask, Recipe, SamplingOptions, Stage, flawed, object_schema, said, with_fewer
from selfinstruct.recipes.demonstrations import DemonstrationOptions, draw, validity_settings
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import Completion, Draft, Instance, Job, Plan, Reason, Record, Rendered, Sample, Seed

BANNED_WORDS = (*validity.BANNED_WORDS, "video", "audio", "music", "flowchart", "diagram")
"""Words that no instruction may hold: those of the filter, and five of the released code."""
LAST_NUMBER = 20
"""The number at which the list ends, demonstrations included (`prompt.txt` asks for 20; the stop at 20 leaves 4 to
19)."""


class Switches(Section):
    """What is done better than published, each by name; `strict` turns all off."""

    anchored_stops: bool = True
    """Stop at number 20 at the start of a line only; the published "20." also fires in "in 2020." and "$120."."""
    recover_numbering: bool = True
    """Read fields by their names; published: one slip in the numbers, or a `###` in an output, loses all that
    follows."""
    any_script: bool = True
    """An instruction may begin with a letter of any script; published: dropped unless its first character is ASCII."""
    any_case_program: bool = True
    """"write a program" is recognised in any capitals; published: exactly "Write a program"."""
    normalise_noinput: bool = True
    """An input of `N/A`, `None` or `No input` means no input too; published: `<noinput>` alone."""
    check_instances: bool = True
    """Drop tasks whose output is empty or equals the input, or that end in a colon; published: nothing looks at
    them."""
    skip_thinking: bool = True
    """What a reasoning model puts between think tags before its answer is no part of it (unknown when published)."""


class Options(DemonstrationOptions):
    """Options of the recipe, with the published numbers."""

    strict: bool = False
    """Decide item for item as the released code."""
    demonstrations: Annotated[int, Field(ge=1, lt=LAST_NUMBER)] = 3
    """Tasks shown in a prompt (3)."""
    kept_demonstrations: Annotated[int, Field(ge=0)] = 0
    """How many of them are kept ones, once there are so many (published: none)."""
    sampling: SamplingOptions = SamplingOptions(
        max_tokens=3072, temperature=1.0, top_p=1.0, frequency_penalty=0, presence_penalty=0
    )
    """Drawing tasks."""
    switches: Switches = Switches()


class Shown(Record):
    """The payload of a job: the tasks that its prompt shows, each with `instruction`, `input` and `output`."""

    demonstrations: tuple[dict[str, str], ...]


class Alpaca(Recipe[Options]):
    """The recipe `alpaca`; see `Options`."""

    name = "alpaca"
    takes = "seed tasks with instances, which its prompts show"
    makes = "whole tasks, many to an answer"
    example = "selfinstruct generate my.jsonl --recipe alpaca -n 500"
    target = 30
    published = "completion"
    stages = (Stage("tasks", brings=5.0, asks=1.0, prompts=("tasks",), payload=Shown),)
    Options = Options

    @property
    def shows_kept(self) -> bool:
        """Whether some demonstrations are kept ones."""
        return self.options.kept_demonstrations > 0

    def take(self, seeds: Sequence[Seed], where: str) -> Sequence[Seed]:
        """The seeds as they are; raises SourceError unless those that are whole tasks fill a first prompt."""
        require_enough([seed for seed in seeds if seed.instances], self.options.demonstrations, where)
        return seeds

    def filter_defaults(self) -> dict[str, dict[str, JsonValue]]:
        """The instruction by its words and against the pool, then its instance."""
        switches = self.options.switches
        settings = validity_settings(any_script=switches.any_script, exact=not switches.any_case_program)
        defaults: dict[str, dict[str, JsonValue]] = {
            "validity": {**settings, "banned_words": list(BANNED_WORDS)},
            "rouge": {},
        }
        return {**defaults, "instances": {}} if switches.check_instances else defaults

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """A prompt's demonstrations: seeds with an instance, each with its first (and kept tasks when asked for)."""
        tasks = draw(pool.kept, [seed for seed in pool.seeds if seed.instances], rng, self.options)
        payload = Shown(demonstrations=tuple(map(_shown, tasks)))
        return Plan("tasks", payload, shown=tuple(task.id for task in tasks))

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        """Drafts of whole tasks."""
        schema = _SCHEMA if self.context.manner().structured else None
        sampling = self.options.sampling.sampling(self._stops())

        async def showing(shown: list[dict[str, str]]) -> Completion:
            return await ask.generate(self._prompt(shown), sampling, answer_schema=schema)

        answer, shown = await with_fewer(list(job.payload.demonstrations), showing)
        triples = self._read(answer, first=shown + 1)
        return [_draft(triple) for triple in triples] if triples else [flawed("tasks", "", answer)]

    def _prompt(self, shown: list[dict[str, str]]) -> Rendered:
        values: dict[str, Any] = {"demonstrations": shown, "next_number": len(shown) + 1, "last_number": LAST_NUMBER}
        if self.context.manner().dialect == "chat":
            values |= {"last_number": LAST_NUMBER - 1, "structured": self.context.manner().structured}
        return self.context.prompts["tasks"].render(**values)

    def _stops(self) -> tuple[str, ...]:
        if self.context.manner().dialect == "chat":
            return ()
        return (
            (f"\n{LAST_NUMBER}.",) if self.options.switches.anchored_stops else (f"\n{LAST_NUMBER}", f"{LAST_NUMBER}.")
        )

    def _read(self, answer: Completion, first: int) -> list[reading.Triple]:
        text = said(answer, thoughts=not self.options.switches.skip_thinking)
        truncated, opened = answer.finish_reason == "length", self.context.manner().dialect == "completion"
        if self.context.manner().structured and (found := reading.json_object(text)) is not None:
            triples = list(_from_json(found))
        elif self.options.switches.recover_numbering:
            triples = reading.triples(text, first=first, truncated=truncated, opened=opened)
        else:
            triples = reading.published_triples(text, first=first, truncated=truncated)
        published = not self.options.switches.normalise_noinput
        return [triple._replace(input=reading.without_noinput(triple.input, published=published)) for triple in triples]


def _shown(task: Seed | Sample) -> dict[str, str]:
    """A task as a prompt shows it."""
    instance = task.instances[0]
    instruction = re.sub(r"\s+", " ", task.instruction).strip().rstrip(":")
    return {"instruction": instruction, "input": instance.input or "<noinput>", "output": instance.output}


def _draft(triple: reading.Triple) -> Draft:
    if triple.flaw is not None:
        return Draft(stage="tasks", instruction="", flaw=triple.flaw, meta={"answer": triple.instruction})
    meta: dict[str, JsonValue] = {"recovered": True} if triple.recovered else {}
    instance = Instance(input=triple.input, output=triple.output)
    return Draft(stage="tasks", instruction=triple.instruction, instances=(instance,), meta=meta)


def _from_json(found: dict[str, Any]) -> Iterable[reading.Triple]:
    tasks = found.get("tasks")
    for task in tasks if isinstance(tasks, list) else []:
        if not isinstance(task, dict):
            yield reading.Triple(reading.json_text(task), flaw=Reason.UNPARSEABLE)
            continue
        instruction, given, made = (reading.json_text(task.get(key)) for key in ("instruction", "input", "output"))
        yield reading.Triple(" ".join(instruction.split()), given, made)


_TEXT: JsonValue = {"type": "string"}
_TASK = object_schema(instruction=_TEXT, input=_TEXT, output=_TEXT)
_SCHEMA = object_schema(tasks={"type": "array", "items": _TASK})
