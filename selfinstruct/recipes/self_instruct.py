"""Self-Instruct (Wang et al. 2022, arXiv 2212.10560): instructions from the growing pool, then instances for each.

    instructions   8 demonstrations, up to 2 of them kept ones  ->  up to 7 new instructions
    instances      classification or not  ->  output first or input first  ->  one task with its instances

Numbers are those of the released code (yizhongw/self-instruct); docs/recipes.md tells where they differ from the
paper. With `strict` the recipe decides item for item as that code does on the same answers; every improvement is a
switch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import Field, JsonValue

from selfinstruct.inputs.config import Section
from selfinstruct.inputs.seeds import require_enough
from selfinstruct.recipes import reading
from selfinstruct.recipes.base import SamplingOptions, Setting, flawed, object_schema, with_fewer
from selfinstruct.recipes.demonstrations import DemonstrationOptions, draw
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import Completion, Draft, Generate, Instance, Job, Outcome, Plan, Reason, Rendered, Seed

STAGES = ("instructions", "instances")
TARGET = 30
PUBLISHED_DIALECT = "completion"
JUDGE_PROMPTS = ()

NEW_INSTRUCTIONS = 7
"""New instructions asked for with 8 demonstrations: the published stop at number 16 leaves 9 to 15."""


class Switches(Section):
    """What is done better than published, each by name; `strict` turns all off."""

    anchored_stops: bool = True
    """Stop at the number that ends the list at the start of a line only; the published "16." also fires in "in
    2016."."""
    anchored_markers: bool = True
    """`Example`, `Output:`, `Input:` and `Class label:` count at the start of a line only; published: anywhere."""
    keep_before_truncation: bool = True
    """An answer that was cut loses its last item; published: all of them."""
    keep_capitals: bool = True
    """Leave capitals alone; published: `capitalize`, which turns NASA into nasa."""
    any_script: bool = True
    """An instruction may begin with a letter of any script; published: dropped unless its first character is ASCII."""
    any_yes: bool = True
    """Any answer that begins with yes means classification; published: exactly Yes, yes or YES."""
    normalise_noinput: bool = True
    """An input of `<noinput>`, `N/A` or `None` means no input; published: it is kept as text."""
    skip_thinking: bool = True
    """What a reasoning model puts between think tags before its answer is no part of it (unknown when published)."""


class Options(DemonstrationOptions):
    """Options of the recipe, with the published numbers."""

    strict: bool = False
    """Decide item for item as the released code."""
    demonstrations: Annotated[int, Field(ge=1)] = 8
    """Instructions shown in a prompt (paper section 2.2: 8)."""
    kept_demonstrations: Annotated[int, Field(ge=0)] = 2
    """How many of them are kept ones, once there are so many (2)."""
    instances: Annotated[int, Field(ge=1)] = 5
    """Instances to keep of one instruction (5)."""
    sampling: SamplingOptions = SamplingOptions(
        max_tokens=1024, temperature=0.7, top_p=0.5, frequency_penalty=0, presence_penalty=2
    )
    """Drawing new instructions."""
    classify: SamplingOptions = SamplingOptions(temperature=0)
    """Asking whether a task is classification: 3 tokens of a completion (published), 16 in a chat, which may open
    with a quote or a brace. Published top_p 0 is left out: at temperature 0 it changes nothing, and vLLM refuses it."""
    input_first: SamplingOptions = SamplingOptions(max_tokens=350, temperature=0, presence_penalty=1.5)
    """Instances of other tasks (350; the released code gives 300 to a task that shares a batch with a
    classification)."""
    output_first: SamplingOptions = SamplingOptions(max_tokens=300, temperature=0, presence_penalty=1.5)
    """Instances of classification tasks (300)."""
    switches: Switches = Switches()


def prompts(options: Options) -> tuple[str, ...]:
    """The names of the prompt files that these options ask for."""
    return "instructions", "classify", "input_first", "output_first"


def take(options: Options, seeds: Sequence[Seed], where: Path) -> Sequence[Seed]:
    """The seeds as they are; raises SourceError unless they fill a first prompt."""
    require_enough(seeds, options.demonstrations, where)
    return seeds


def filter_defaults(options: Options) -> dict[str, dict[str, JsonValue]]:
    """Settings of the filters that suit these options; what the person sets wins."""
    return {
        "validity": validity_defaults(any_script=options.switches.any_script, exact=not options.switches.keep_capitals),
        "rouge": {},
        "instances": {"limit": options.instances},
    }


def validity_defaults(*, any_script: bool, exact: bool) -> dict[str, JsonValue]:
    """`exact` recognises "Write a program" by its published capitals, which is all there is after `capitalize`."""
    return {"start": "any_script" if any_script else "ascii", "programs": "exact" if exact else "any_case"}


def open(options: Options, setting: Setting) -> SelfInstruct:
    """The recipe for these options."""
    return SelfInstruct(options, setting)


class SelfInstruct:
    """The recipe `self-instruct`; see `Options`."""

    name = "self-instruct"
    stages = STAGES
    pooled = "instructions"
    expected: Mapping[str, float] = {"instructions": 3.0, "instances": 0.7}
    requests: Mapping[str, float] = {"instructions": 1.0, "instances": 2.0}

    def __init__(self, options: Options, setting: Setting) -> None:
        self._options = options
        self._switch = options.switches
        self.shows_kept = options.kept_demonstrations > 0
        self._setting = setting

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """New instructions by their words and against the pool; then their instances."""
        return ("validity", "rouge") if draft.stage == "instructions" else ("instances",)

    def extent(self, seeds: int) -> None:
        """The pool is sampled without end."""

    # -- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """A prompt's demonstrations: kept ones first drawn, filled up with seeds, then shuffled together."""
        shown = draw(pool.kept, pool.seeds, rng, self._options)
        return Plan(
            "instructions",
            {"from": [item.id for item in shown], "demonstrations": [_shown(item.instruction) for item in shown]},
        )

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """Instances for each kept instruction."""
        if job.stage == "instructions":
            for outcome in outcomes:
                if outcome.sample is not None:
                    yield Plan("instances", {"instruction": outcome.sample.instruction}, parent=outcome.id)

    # -- perform ------------------------------------------------------------------------------------------------------

    async def perform(self, job: Job, generate: Generate) -> list[Draft]:
        """Drafts of new instructions, or of one task with its instances."""
        if job.stage == "instructions":
            return await self._new_instructions(job.payload["demonstrations"], generate)
        return [await self._task(job.payload["instruction"], generate)]

    async def _new_instructions(self, demonstrations: list[str], generate: Generate) -> list[Draft]:
        async def ask(shown: list[str]) -> Completion:
            sampling = self._options.sampling.sampling(self._list_stops(len(shown)))
            return await generate(self._list_prompt(shown), sampling, answer_schema=self._schema(_TASKS))

        answer, _ = await with_fewer(demonstrations, ask)
        pieces = self._read_instructions(answer)
        if not any(piece.text for piece in pieces):
            return [flawed("instructions", "", answer)]
        return [Draft(stage="instructions", instruction=piece.text, flaw=piece.flaw) for piece in pieces]

    def _list_prompt(self, shown: list[str]) -> Rendered:
        prompt = self._setting.prompts["instructions"]
        if self._setting.dialect == "completion":
            return prompt.render(demonstrations=shown, next_number=len(shown) + 1)
        return prompt.render(demonstrations=shown, wanted=NEW_INSTRUCTIONS, structured=self._setting.structured)

    def _list_stops(self, shown: int) -> tuple[str, ...]:
        if self._setting.dialect == "chat":
            return ()
        stop = shown + NEW_INSTRUCTIONS + 1
        return ("\n\n", f"\n{stop}.") if self._switch.anchored_stops else ("\n\n", f"\n{stop}", f"{stop}.", f"{stop} .")

    def _read_instructions(self, answer: Completion) -> list[reading.Piece]:
        text, truncated = self._text(answer), answer.finish_reason == "length"
        if self._options.strict:
            return reading.published_instructions(text, truncated=truncated)
        if self._setting.structured and (found := reading.json_object(text)) is not None:
            pieces = list(_from_json(found.get("tasks")))
        else:
            opened, before = self._setting.dialect == "completion", self._switch.keep_before_truncation
            pieces = reading.numbered_instructions(
                text, truncated=truncated, opened=opened, keep_before_truncation=before
            )
        if self._switch.keep_capitals:
            return pieces
        return [piece._replace(text=piece.text.capitalize()) for piece in pieces]

    async def _task(self, instruction: str, generate: Generate) -> Draft:
        is_classification = await self._is_classification(instruction, generate)
        meta: dict[str, JsonValue] = {"is_classification": is_classification}
        name = "output_first" if is_classification else "input_first"
        answer = await self._ask(name, instruction, generate)
        instances = self._read_instances(self._text(answer), is_classification)
        if not instances:
            draft = flawed("instances", instruction, answer)
            return draft.model_copy(update={"meta": {**meta, **draft.meta}})
        if answer.finish_reason == "length":
            meta["truncated"] = True
        return Draft(stage="instances", instruction=instruction, instances=tuple(instances), meta=meta)

    async def _is_classification(self, instruction: str, generate: Generate) -> bool:
        chat = self._setting.dialect == "chat"
        stops, tokens = ((), 16) if chat else (("\n", "Task"), 3)
        sampling = self._options.classify.sampling(stops, max_tokens=tokens)
        answer = await generate(self._prompt("classify", instruction), sampling, answer_schema=self._schema(_YES))
        text = self._text(answer)
        if self._setting.structured and (found := reading.json_object(text)) is not None:
            return found.get("is_classification") is True
        return reading.is_yes(text) if self._switch.any_yes else reading.published_yes(text)

    async def _ask(self, name: str, instruction: str, generate: Generate) -> Completion:
        options = self._options.output_first if name == "output_first" else self._options.input_first
        stops: tuple[str, ...] = ()
        if self._setting.dialect == "completion":
            example = f"Example {self._options.instances + 1}"
            stops = (f"\n{example}", "\nTask:") if self._switch.anchored_stops else (example, "Task:")
        return await generate(
            self._prompt(name, instruction), options.sampling(stops), answer_schema=self._schema(_INSTANCES)
        )

    def _read_instances(self, text: str, is_classification: bool) -> list[Instance]:
        if self._setting.structured and (found := reading.json_object(text)) is not None:
            instances = _instances(found.get("instances"))
        elif is_classification:
            instances = reading.output_first(text, anchored=self._switch.anchored_markers)
        else:
            opened = self._setting.dialect == "completion"
            instances = reading.input_first(text, anchored=self._switch.anchored_markers, opened=opened)
        if not self._switch.normalise_noinput:
            return instances
        return [Instance(input=reading.without_noinput(i.input), output=i.output) for i in instances]

    def _prompt(self, name: str, instruction: str) -> Rendered:
        values: dict[str, Any] = {"instruction": instruction}
        if self._setting.dialect == "chat":
            values["structured"] = self._setting.structured
            if name != "classify":
                values["wanted"] = self._options.instances
        return self._setting.prompts[name].render(**values)

    def _text(self, answer: Completion) -> str:
        return reading.without_thinking(answer.text) if self._switch.skip_thinking else answer.text

    def _schema(self, schema: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
        return schema if self._setting.structured else None


def _shown(instruction: str) -> str:
    """An instruction as a prompt shows it: on one line, without a colon at its end."""
    return re.sub(r"\s+", " ", instruction).strip().rstrip(":")


def _from_json(value: Any) -> Iterable[reading.Piece]:
    for item in value if isinstance(value, list) else []:
        flaw = None if isinstance(item, str) else Reason.UNPARSEABLE
        yield reading.Piece(" ".join(reading.json_text(item).split()), flaw)


def _instances(value: Any) -> list[Instance]:
    found = [item if isinstance(item, dict) else {"output": item} for item in value] if isinstance(value, list) else []
    return [Instance(input=reading.json_text(i.get("input")), output=reading.json_text(i.get("output"))) for i in found]


_STRING: JsonValue = {"type": "string"}
_TASKS = object_schema(tasks={"type": "array", "items": _STRING})
_YES = object_schema(is_classification={"type": "boolean"})
_INSTANCES = object_schema(instances={"type": "array", "items": object_schema(input=_STRING, output=_STRING)})
