"""Evol-Instruct (Xu et al. 2023, arXiv 2304.12244): tasks made harder, or rarer, round by round.

    evolve   a live task, an operator drawn at random  ->  one evolved task
    answer   is it equal to what it was evolved from?  ->  the evolved task with its answer

Each seed is the root of a family. What is kept takes its parent's place in the next round; when an evolution fails the
parent goes there unchanged, and the child is not kept. No family waits for another. The operators of all rounds are
drawn when the root is planned. An operator is a prompt file under `operators/` and a weight: its front matter says
whether it works in depth or in breadth, and how many words it may add.

docs/recipes.md tells what the paper says, what the released code (nlpxucan/WizardLM) does, and what is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from selfinstruct.errors import PromptError, Refused
from selfinstruct.inputs.config import Section, Words, merge
from selfinstruct.inputs.prompts import Prompt, require_given
from selfinstruct.recipes import reading
from selfinstruct.recipes.base import RecipeOptions, SamplingOptions, Setting, flawed, object_schema
from selfinstruct.recipes.pool import Pool
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
    Sampling,
    Seed,
)

STAGES = ("evolve", "answer")
TARGET = None
PUBLISHED_DIALECT = "chat"
JUDGE_PROMPTS = ("judge",)

GENERAL = ("add_constraints", "deepen", "concretise", "increase_reasoning", "complicate_input", "in_breadth")
CODE = ("code_constraints", "code_rarer", "code_reasoning", "code_misdirect", "code_complexity")
OPERATOR_SETS: dict[str, dict[str, float]] = {
    "general": dict.fromkeys(GENERAL, 1.0),
    "code": dict.fromkeys(CODE, 1.0) | {"code_complexity": 0.5},
}
"""The paper's six, drawn evenly (section 3.1); WizardCoder's five (Luo et al. 2023, arXiv 2306.08568), the last of
which it wants used "not too frequently"."""
OPERATOR_VARIABLES = ("instruction", "fewest", "most", "data_format", "structured")
"""What an operator's prompt may use."""
SERVER_REFUSALS = {"content_filter", "prompt_too_long"}
"""Kinds of refusal that are about one task, and so its evolution's failure."""

MODES: dict[str, dict[str, Any]] = {
    "released": {
        "rounds": 1,
        "operators": [name for name in GENERAL if name != "complicate_input"],
        "elimination": False,
        "sampling": {"top_p": 0.95},
        "answer": {"top_p": 0.95},
    },
    "paper": {},
}
"""What `strict` changes beside the switches; the numbers of the paper are the defaults."""


class Switches(Section):
    """What is done better than told in the paper or done in the released code, each by name; `strict` turns all off."""

    plain_join: bool = True
    """Instruction and input are joined by a newline, where there is an input; released: by CR LF, always."""
    tidy: bool = True
    """A heading, quotes or a fence around an evolved task are no part of it; released: kept as answered."""
    skip_thinking: bool = True
    """What a reasoning model puts between think tags before its answer is no part of it (unknown when published)."""
    unchanged: bool = True
    """An evolved task with the words of its parent is dropped without asking the judge; paper: the judge is asked."""
    bounded_words: bool = True
    """The words that an in-depth operator may add (paper: 10 to 20) are counted and enforced, within
    `filters.elimination.tolerance`; paper: asked for in the prompt alone."""
    breadth_by_index: bool = True
    """An in-breadth child is compared with the whole pool by exact ROUGE-L; paper: with its parent alone, by the
    judge."""
    complete_answers: bool = True
    """What was cut, an evolved task or an answer, is dropped; paper and code: kept."""
    parent_words: bool = True
    """Words of the prompt that the parent had already are no leak; paper: they are."""


class Options(RecipeOptions):
    """Options of the recipe, with the paper's numbers."""

    strict: Literal[False, "released", "paper"] = False
    """`released`: as the repository ran; `paper`: as the paper tells."""
    rounds: Annotated[int, Field(ge=1)] = 4
    """Times that every live task is evolved (paper: 4; released code: 1)."""
    operators: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = OPERATOR_SETS["general"]
    """Weight of each operator by its name; or a list such as `["deepen=2", "in_breadth"]`; or one name, of an operator
    or of a set: `general`, `code`."""
    data_formats: Annotated[Words, Field(min_length=1)] = (
        "a JSON document",
        "an XML document",
        "an SQL table",
        "a Python snippet",
        "an HTML page",
        "a shell session",
    )
    """What `complicate_input` adds data in, drawn evenly."""
    elimination: bool = True
    """Failed evolutions are eliminated; released code: never."""
    sampling: SamplingOptions = SamplingOptions(temperature=1.0, top_p=0.9)
    """Evolving (paper: temperature 1, 2048 tokens, top_p 0.9; released code: top_p 0.95). In the completion dialect 512
    tokens: what a base model has not ended by then it seldom ends."""
    answer: SamplingOptions = SamplingOptions(temperature=1.0, top_p=0.9)
    """Answering the evolved task (the same)."""
    judging: SamplingOptions = SamplingOptions(max_tokens=32, temperature=0)
    """Judging whether it is equal to what it was evolved from."""
    switches: Switches = Switches()

    @model_validator(mode="before")
    @classmethod
    def _mode(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        if tree.get("strict") is True:
            raise ValueError('strict of evol-instruct is "released" or "paper"')
        return merge(MODES.get(str(tree.get("strict")), {}), tree)

    @field_validator("operators", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if isinstance(value, str):
            return OPERATOR_SETS.get(value, {value: 1.0})
        if isinstance(value, list | tuple):
            pairs = [str(item).partition("=") for item in value]
            return {name: float(weight or 1) for name, _, weight in pairs}
        return value

    @field_validator("operators")
    @classmethod
    def _some_weight(cls, operators: dict[str, float]) -> dict[str, float]:
        if not sum(operators.values()) > 0:
            raise ValueError("the weights of the operators sum to nothing: give one of them a weight above 0")
        return {name: weight for name, weight in operators.items() if weight}


def prompts(options: Options) -> tuple[str, ...]:
    """The names of the prompt files that these options ask for."""
    return (*(f"operators/{name}" for name in options.operators), "answer", *(JUDGE_PROMPTS * options.elimination))


def take(options: Options, seeds: Sequence[Seed], where: Path) -> Sequence[Seed]:
    """A root for each input of each seed, since instruction and input are one task: what Alpaca's rows are."""
    return [root for seed in seeds for root in _roots(seed)]


def _roots(seed: Seed) -> Iterator[Seed]:
    by_input: dict[str, Instance] = {}
    for instance in seed.instances:
        by_input.setdefault(instance.input, instance)
    if len(by_input) < 2:
        yield seed.model_copy(update={"instances": seed.instances[:1]})
        return
    for number, instance in enumerate(by_input.values(), start=1):
        yield seed.model_copy(update={"id": f"{seed.id}/{number}", "instances": (instance,)})


def filter_defaults(options: Options) -> dict[str, dict[str, JsonValue]]:
    """Settings of the filters that suit these options; what the person sets wins."""
    switches = options.switches
    eliminated: dict[str, JsonValue] = {
        "unchanged": switches.unchanged,
        "added_words": switches.bounded_words,
        "truncated": switches.complete_answers,
        "parent_words": switches.parent_words,
    }
    defaults = {"elimination": eliminated} if options.elimination else {}
    return {**defaults, "rouge": {}} if switches.breadth_by_index else defaults


def open(options: Options, setting: Setting) -> EvolInstruct:
    """The recipe for these options.

    Raises:
        PromptError: an operator's file does not say how it evolves, or uses what the recipe does not give.
    """
    for name in options.operators:
        _check_operator(setting.prompts[f"operators/{name}"])
    return EvolInstruct(options, setting)


def _check_operator(prompt: Prompt) -> None:
    if prompt.front.evolution is None:
        raise PromptError(f'{prompt.where}: an operator says evolution = "depth" or "breadth" in its front matter')
    require_given(prompt, OPERATOR_VARIABLES)


class EvolInstruct:
    """The recipe `evol-instruct`; see `Options`.

    The payload of a job:

        root, member   ids of the family's seed and of the live task: a seed's, or a draft's of this run
        depth          evolutions between the two
        task           text of the live task
        round          the round that this is
        steps          operators of this round and those to come, with the format of data where one takes it
        evolved        with `answer`, the task to be answered
    """

    name = "evol-instruct"
    stages = STAGES
    pooled = "evolve"
    shows_kept = False
    expected: Mapping[str, float] = {"evolve": 0.7, "answer": 0.7}
    requests: Mapping[str, float] = {"evolve": 1.0, "answer": 2.0}

    def __init__(self, options: Options, setting: Setting) -> None:
        self._options = options
        self._switch = options.switches
        self._setting = setting

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """The rules of elimination; an in-breadth child against the pool too."""
        chain = ("elimination",) if self._options.elimination else ()
        indexed = self._switch.breadth_by_index and draft.stage == "evolve" and self._in_breadth(draft.meta["operator"])
        return (*chain, "rouge") if indexed else chain

    def extent(self, seeds: int) -> int:
        """Each seed evolves once a round."""
        return seeds * self._options.rounds

    # -- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """The first round of the next seed, with the operators of all of its rounds."""
        if pool.planned >= len(pool.seeds):
            return None
        seed = pool.seeds[pool.planned]
        names, weights = list(self._options.operators), list(self._options.operators.values())
        steps = [self._step(name, rng) for name in rng.choices(names, weights, k=self._options.rounds)]
        return _evolution(
            {"root": seed.id, "member": seed.id, "depth": 0, "task": self._joined(seed), "round": 1, "steps": steps}
        )

    def _step(self, operator: str, rng: Random) -> dict[str, str]:
        step = {"operator": operator}
        if "data_format" in self._operator(operator).front.variables:
            step["data_format"] = rng.choice(self._options.data_formats)
        return step

    def _joined(self, seed: Seed) -> str:
        """Instruction and input as one task."""
        given = seed.instances[0].input if seed.instances else ""
        if not self._switch.plain_join:
            return f"{seed.instruction.strip()}\r\n{given.strip()}"
        return f"{seed.instruction.strip()}\n{given.strip()}".strip()

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """The answer to an evolved task; then the next round, of the child where there is one."""
        payload, [outcome] = job.payload, outcomes
        if outcome.sample is None:
            yield from _next_round(payload)
        elif job.stage == "evolve":
            yield Plan("answer", {**payload, "evolved": outcome.sample.instruction}, parent=outcome.id)
        else:
            child = {"member": outcome.id, "depth": payload["depth"] + 1, "task": payload["evolved"]}
            yield from _next_round({**payload, **child})

    # -- perform ------------------------------------------------------------------------------------------------------

    async def perform(self, job: Job, generate: Generate) -> list[Draft]:
        """The draft of one evolved task, or of that task with its answer."""
        payload = job.payload
        try:
            if job.stage == "evolve":
                return [await self._evolve(payload, generate)]
            return [await self._answer(payload, generate)]
        except Refused as refusal:
            if refusal.kind not in SERVER_REFUSALS:
                raise
            meta = {**self._meta(payload), "answer": str(refusal)}
            return [
                Draft(
                    stage=job.stage,
                    instruction=payload.get("evolved", ""),
                    flaw=Reason.REFUSED_BY_SERVER,
                    meta=meta,
                )
            ]

    async def _evolve(self, payload: dict[str, Any], generate: Generate) -> Draft:
        step = payload["steps"][0]
        prompt = self._operator(step["operator"])
        fewest, most = prompt.front.added_words or (0, 0)
        structured = self._setting.structured
        values = {"instruction": payload["task"], "fewest": fewest, "most": most, "structured": structured, **step}
        rendered = _rendered(prompt, values)
        # A base model that has written a paragraph to a task of one seldom stops at that.
        stops = ("\nTask:",) if "\n\n" in payload["task"] else ("\nTask:", "\n\n")
        sampling = _sampling(self._options.sampling, rendered, stops)
        answer = await generate(rendered, sampling, answer_schema=_TASK if structured else None)
        text = self._read(answer)
        cut = answer.finish_reason == "length" and self._switch.complete_answers
        if cut or not (text or self._options.strict):
            draft = flawed("evolve", text, answer)
            return draft.model_copy(update={"meta": {**self._meta(payload), **draft.meta}})
        return Draft(stage="evolve", instruction=text, meta=self._meta(payload))

    async def _answer(self, payload: dict[str, Any], generate: Generate) -> Draft:
        meta, evolved = self._meta(payload), payload["evolved"]
        if self._is_judged(payload):
            meta["judgement"] = await self._judgement(payload["task"], evolved, generate)
            if meta["judgement"] == "equal":
                # Nobody will want the answer.
                return Draft(stage="answer", instruction=evolved, meta=meta)
        rendered = _rendered(self._setting.prompts["answer"], {"instruction": evolved})
        answer = await generate(rendered, _sampling(self._options.answer, rendered, ("\nTask:",)))
        if answer.finish_reason == "length":
            meta["truncated"] = True
        text = self._text(answer)
        output = text.strip() if self._switch.tidy else text
        return Draft(stage="answer", instruction=evolved, instances=(Instance(output=output),), meta=meta)

    def _is_judged(self, payload: dict[str, Any]) -> bool:
        by_index = self._switch.breadth_by_index and self._in_breadth(payload["steps"][0]["operator"])
        return self._options.elimination and not by_index

    async def _judgement(self, parent: str, child: str, generate: Generate) -> str:
        """`equal`, `not_equal` or `unclear`."""
        structured = self._setting.judge_structured
        values = {"first": parent, "second": child, "structured": structured}
        rendered = _rendered(self._setting.prompts["judge"], values)
        sampling = self._options.judging.sampling(("\n",) if isinstance(rendered, str) else ())
        answer = await generate(rendered, sampling, answer_schema=_EQUAL if structured else None, judge=True)
        return reading.judgement(self._text(answer))

    def _meta(self, payload: dict[str, Any]) -> dict[str, JsonValue]:
        """What a draft of this job says of its family."""
        operator = payload["steps"][0]["operator"]
        meta = {
            "operator": operator,
            "round": payload["round"],
            "depth": payload["depth"] + 1,
            "root": payload["root"],
            "parent": payload["member"],
            "evolved_from": payload["task"],
        }
        limits = self._operator(operator).front.added_words
        return {**meta, "added_words": list(limits)} if limits else meta

    # -- prompts and answers ------------------------------------------------------------------------------------------

    def _operator(self, name: str) -> Prompt:
        return self._setting.prompts[f"operators/{name}"]

    def _in_breadth(self, operator: Any) -> bool:
        return self._operator(operator).front.evolution == "breadth"

    def _text(self, answer: Completion) -> str:
        return reading.without_thinking(answer.text) if self._switch.skip_thinking else answer.text

    def _read(self, answer: Completion) -> str:
        text = self._text(answer)
        if self._setting.structured and (found := reading.json_object(text)) is not None:
            return reading.json_text(found.get("task"))
        return reading.without_wrapping(text) if self._switch.tidy else text


def _rendered(prompt: Prompt, values: dict[str, Any]) -> Rendered:
    """A prompt takes what it declares."""
    return prompt.render(**{name: values[name] for name in prompt.front.variables})


def _sampling(options: SamplingOptions, rendered: Rendered, stops: tuple[str, ...]) -> Sampling:
    """A document goes on until it is stopped; a chat model stops by itself."""
    plain = isinstance(rendered, str)
    sampling = options.sampling(stops if plain else ())
    tokens = options.max_tokens or (512 if plain else 2048)
    return sampling.model_copy(update={"max_tokens": tokens})


def _evolution(payload: dict[str, Any]) -> Plan:
    """The evolution of a live task; what it follows from is a draft, or for a root nothing of this run."""
    return Plan("evolve", {**payload, "from": [payload["member"]]}, payload["member"] if payload["depth"] else None)


def _next_round(payload: dict[str, Any]) -> Iterable[Plan]:
    """The next round of the live task, if there is one."""
    left = payload["steps"][1:]
    if left:
        kept = {key: value for key, value in payload.items() if key != "evolved"}
        yield _evolution({**kept, "round": payload["round"] + 1, "steps": left})


_TASK = object_schema(task={"type": "string"})
_EQUAL = object_schema(equal={"type": "boolean"})
