"""Self-Instruct (Wang et al. 2022, arXiv 2212.10560): instructions from the growing pool, then instances for each.

    instructions   8 demonstrations, up to 2 of them kept ones  ->  up to 7 new instructions
    instances      classification or not  ->  output first or input first  ->  one task with its instances

Numbers are those of the released code (yizhongw/self-instruct); docs/recipes.md tells where they differ from the
paper. With `strict` the recipe decides item for item as that code does on the same answers; every improvement is a
switch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import Random
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue

from selfinstruct.inputs.config import Section
from selfinstruct.inputs.seeds import require_enough
from selfinstruct.recipes import reading
from selfinstruct.recipes.base import Ask, Recipe, SamplingOptions, Stage, flawed, object_schema, said, with_fewer
from selfinstruct.recipes.demonstrations import DemonstrationOptions, draw, validity_settings
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import (
    Completion,
    Draft,
    Instance,
    Job,
    Outcome,
    Plan,
    Reason,
    Record,
    Rendered,
    Seed,
)

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


class Shown(Record):
    """The payload of a job for new instructions: those that its prompt shows."""

    demonstrations: tuple[str, ...]


class Invented(Record):
    """The payload of a job for instances: the instruction that was kept."""

    instruction: str


class SelfInstruct(Recipe[Options]):
    """The recipe `self-instruct`; see `Options`."""

    name = "self-instruct"
    takes = "seed tasks, whose pool it samples from"
    makes = "new instructions, each with up to 5 instances"
    example = "selfinstruct generate my.jsonl -n 500"
    words: ClassVar = ("input_first", "output_first")
    target = 30
    published = "completion"
    stages = (
        Stage("instructions", brings=3.0, asks=1.0, prompts=("instructions",), payload=Shown),
        Stage("instances", brings=0.7, asks=2.0, prompts=("classify", "input_first", "output_first"), payload=Invented),
    )
    pooled = "instructions"
    Options = Options

    @property
    def shows_kept(self) -> bool:
        """Whether some demonstrations are kept ones."""
        return self.options.kept_demonstrations > 0

    def take(self, seeds: Sequence[Seed], where: str) -> Sequence[Seed]:
        """The seeds as they are; raises SourceError unless they fill a first prompt."""
        require_enough(seeds, self.options.demonstrations, where)
        return seeds

    def filter_defaults(self) -> dict[str, dict[str, JsonValue]]:
        """Validity and ROUGE-L for instructions, the rules of instances for tasks."""
        switches = self.options.switches
        return {
            "validity": validity_settings(any_script=switches.any_script, exact=not switches.keep_capitals),
            "rouge": {},
            "instances": {"limit": self.options.instances},
        }

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """New instructions by their words and against the pool; then their instances."""
        return ("validity", "rouge") if draft.stage == "instructions" else ("instances",)

    # -- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """A prompt's demonstrations: kept ones first drawn, filled up with seeds, then shuffled together."""
        shown = draw(pool.kept, pool.seeds, rng, self.options)
        payload = Shown(demonstrations=tuple(_shown(item.instruction) for item in shown))
        return Plan("instructions", payload, shown=tuple(item.id for item in shown))

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """Instances for each kept instruction."""
        if job.stage == "instructions":
            for outcome in outcomes:
                if outcome.sample is not None:
                    yield Plan("instances", Invented(instruction=outcome.sample.instruction), parent=outcome.id)

    # -- perform ------------------------------------------------------------------------------------------------------

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        """Drafts of new instructions, or of one task with its instances."""
        if job.stage == "instructions":
            return await self._new_instructions(job.payload, ask)
        return [await self._task(job.payload.instruction, ask)]

    async def _new_instructions(self, payload: Shown, ask: Ask) -> list[Draft]:
        async def showing(shown: list[str]) -> Completion:
            sampling = self.options.sampling.sampling(self._list_stops(len(shown)))
            return await ask.generate(self._list_prompt(shown), sampling, answer_schema=self._schema(_TASKS))

        answer, _ = await with_fewer(list(payload.demonstrations), showing)
        pieces = self._read_instructions(answer)
        if not any(piece.text for piece in pieces):
            return [flawed("instructions", "", answer)]
        return [Draft(stage="instructions", instruction=piece.text, flaw=piece.flaw) for piece in pieces]

    def _list_prompt(self, shown: list[str]) -> Rendered:
        prompt = self.context.prompts["instructions"]
        if self.context.manner().dialect == "completion":
            return prompt.render(demonstrations=shown, next_number=len(shown) + 1)
        return prompt.render(demonstrations=shown, wanted=NEW_INSTRUCTIONS, structured=self.context.manner().structured)

    def _list_stops(self, shown: int) -> tuple[str, ...]:
        if self.context.manner().dialect == "chat":
            return ()
        stop = shown + NEW_INSTRUCTIONS + 1
        return (
            ("\n\n", f"\n{stop}.")
            if self.options.switches.anchored_stops
            else ("\n\n", f"\n{stop}", f"{stop}.", f"{stop} .")
        )

    def _read_instructions(self, answer: Completion) -> list[reading.Piece]:
        text, truncated = self._text(answer), answer.finish_reason == "length"
        if self.options.strict:
            return reading.published_instructions(text, truncated=truncated)
        if self.context.manner().structured and (found := reading.json_object(text)) is not None:
            pieces = list(_from_json(found.get("tasks")))
        else:
            opened, before = self.context.manner().dialect == "completion", self.options.switches.keep_before_truncation
            pieces = reading.numbered_instructions(
                text, truncated=truncated, opened=opened, keep_before_truncation=before
            )
        if self.options.switches.keep_capitals:
            return pieces
        return [piece._replace(text=piece.text.capitalize()) for piece in pieces]

    async def _task(self, instruction: str, ask: Ask) -> Draft:
        is_classification = await self._is_classification(instruction, ask)
        meta: dict[str, JsonValue] = {"is_classification": is_classification}
        name = "output_first" if is_classification else "input_first"
        answer = await self._ask(name, instruction, ask)
        instances = self._read_instances(self._text(answer), is_classification)
        if not instances:
            draft = flawed("instances", instruction, answer)
            return draft.model_copy(update={"meta": {**meta, **draft.meta}})
        if answer.finish_reason == "length":
            meta["truncated"] = True
        return Draft(stage="instances", instruction=instruction, instances=tuple(instances), meta=meta)

    async def _is_classification(self, instruction: str, ask: Ask) -> bool:
        chat = self.context.manner().dialect == "chat"
        stops, tokens = ((), 16) if chat else (("\n", "Task"), 3)
        sampling = self.options.classify.sampling(stops, max_tokens=tokens)
        answer = await ask.generate(self._prompt("classify", instruction), sampling, answer_schema=self._schema(_YES))
        text = self._text(answer)
        if self.context.manner().structured and (found := reading.json_object(text)) is not None:
            return found.get("is_classification") is True
        return reading.is_yes(text) if self.options.switches.any_yes else reading.published_yes(text)

    async def _ask(self, name: str, instruction: str, ask: Ask) -> Completion:
        options = self.options.output_first if name == "output_first" else self.options.input_first
        stops: tuple[str, ...] = ()
        if self.context.manner().dialect == "completion":
            example = f"Example {self.options.instances + 1}"
            stops = (f"\n{example}", "\nTask:") if self.options.switches.anchored_stops else (example, "Task:")
        return await ask.generate(
            self._prompt(name, instruction), options.sampling(stops), answer_schema=self._schema(_INSTANCES)
        )

    def _read_instances(self, text: str, is_classification: bool) -> list[Instance]:
        if self.context.manner().structured and (found := reading.json_object(text)) is not None:
            instances = _instances(found.get("instances"))
        elif is_classification:
            instances = reading.output_first(text, anchored=self.options.switches.anchored_markers)
        else:
            opened = self.context.manner().dialect == "completion"
            instances = reading.input_first(text, anchored=self.options.switches.anchored_markers, opened=opened)
        if not self.options.switches.normalise_noinput:
            return instances
        return [Instance(input=reading.without_noinput(i.input), output=i.output) for i in instances]

    def _prompt(self, name: str, instruction: str) -> Rendered:
        values: dict[str, Any] = {"instruction": instruction}
        if self.context.manner().dialect == "chat":
            values["structured"] = self.context.manner().structured
            if name != "classify":
                values["wanted"] = self.options.instances
        return self.context.prompts[name].render(**values)

    def _text(self, answer: Completion) -> str:
        return said(answer, thoughts=not self.options.switches.skip_thinking)

    def _schema(self, schema: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
        return schema if self.context.manner().structured else None


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
