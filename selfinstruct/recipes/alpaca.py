"""Alpaca (Taori et al. 2023): whole tasks, instruction, input and output, many to an answer.

    tasks   3 demonstrations, all seeds  ->  up to 16 new tasks in one answer

Numbers are those of the released code (tatsu-lab/stanford_alpaca). With `strict` the recipe decides item for item as
that code does on the same answers; every improvement is a switch. Kept tasks are never shown as demonstrations, as
published, unless `kept_demonstrations` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import Field, JsonValue

from selfinstruct.filters.validity import ALPACA_WORDS
from selfinstruct.inputs.config import Section
from selfinstruct.inputs.seeds import require_enough
from selfinstruct.recipes import reading
from selfinstruct.recipes.base import SamplingOptions, Setting, flawed, object_schema, with_fewer
from selfinstruct.recipes.demonstrations import DemonstrationOptions, draw
from selfinstruct.recipes.pool import Pool
from selfinstruct.recipes.self_instruct import validity_defaults
from selfinstruct.records import (
    Completion,
    Draft,
    Generate,
    Instance,
    Job,
    Outcome,
    Plan,
    Reason,
    Rendered,
    Sample,
    Seed,
)

STAGES = ("tasks",)
TARGET = 30
PUBLISHED_DIALECT = "completion"
JUDGE_PROMPTS = ()

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


def prompts(options: Options) -> tuple[str, ...]:
    """The names of the prompt files that these options ask for."""
    return ("tasks",)


def take(options: Options, seeds: Sequence[Seed], where: Path) -> Sequence[Seed]:
    """The seeds as they are; raises SourceError unless those that are whole tasks fill a first prompt."""
    require_enough([seed for seed in seeds if seed.instances], options.demonstrations, where)
    return seeds


def filter_defaults(options: Options) -> dict[str, dict[str, JsonValue]]:
    """Settings of the filters that suit these options; what the person sets wins."""
    switches = options.switches
    validity = validity_defaults(any_script=switches.any_script, exact=not switches.any_case_program)
    defaults: dict[str, dict[str, JsonValue]] = {
        "validity": {**validity, "banned_words": list(ALPACA_WORDS)},
        "rouge": {},
    }
    return {**defaults, "instances": {}} if switches.check_instances else defaults


def open(options: Options, setting: Setting) -> Alpaca:
    """The recipe for these options."""
    return Alpaca(options, setting)


class Alpaca:
    """The recipe `alpaca`; see `Options`."""

    name = "alpaca"
    stages = STAGES
    pooled = "tasks"
    expected: Mapping[str, float] = {"tasks": 5.0}
    requests: Mapping[str, float] = {"tasks": 1.0}

    def __init__(self, options: Options, setting: Setting) -> None:
        self._options = options
        self._switch = options.switches
        self.shows_kept = options.kept_demonstrations > 0
        self._setting = setting

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """The instruction by its words and against the pool, then its instance."""
        return ("validity", "rouge", *(("instances",) if self._switch.check_instances else ()))

    def extent(self, seeds: int) -> None:
        """The seeds are sampled without end."""

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """A prompt's demonstrations: seeds with an instance, each with its first (and kept tasks when asked for)."""
        tasks = draw(pool.kept, [seed for seed in pool.seeds if seed.instances], rng, self._options)
        return Plan("tasks", {"from": [task.id for task in tasks], "demonstrations": [_shown(task) for task in tasks]})

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """Nothing: an answer holds whole tasks."""
        return ()

    async def perform(self, job: Job, generate: Generate) -> list[Draft]:
        """Drafts of whole tasks."""
        schema = _SCHEMA if self._setting.structured else None
        sampling = self._options.sampling.sampling(self._stops())

        async def ask(shown: list[dict[str, str]]) -> Completion:
            return await generate(self._prompt(shown), sampling, answer_schema=schema)

        answer, shown = await with_fewer(job.payload["demonstrations"], ask)
        triples = self._read(answer, first=shown + 1)
        return [_draft(triple) for triple in triples] if triples else [flawed("tasks", "", answer)]

    def _prompt(self, shown: list[dict[str, str]]) -> Rendered:
        values: dict[str, Any] = {"demonstrations": shown, "next_number": len(shown) + 1, "last_number": LAST_NUMBER}
        if self._setting.dialect == "chat":
            values |= {"last_number": LAST_NUMBER - 1, "structured": self._setting.structured}
        return self._setting.prompts["tasks"].render(**values)

    def _stops(self) -> tuple[str, ...]:
        if self._setting.dialect == "chat":
            return ()
        return (f"\n{LAST_NUMBER}.",) if self._switch.anchored_stops else (f"\n{LAST_NUMBER}", f"{LAST_NUMBER}.")

    def _read(self, answer: Completion, first: int) -> list[reading.Triple]:
        text = reading.without_thinking(answer.text) if self._switch.skip_thinking else answer.text
        truncated, opened = answer.finish_reason == "length", self._setting.dialect == "completion"
        if self._setting.structured and (found := reading.json_object(text)) is not None:
            triples = list(_from_json(found))
        elif self._switch.recover_numbering:
            triples = reading.triples(text, first=first, truncated=truncated, opened=opened)
        else:
            triples = reading.published_triples(text, first=first, truncated=truncated)
        published = not self._switch.normalise_noinput
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
