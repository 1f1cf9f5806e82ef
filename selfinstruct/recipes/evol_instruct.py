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
from random import Random
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, JsonValue, field_validator, model_validator

from selfinstruct.errors import PromptError, Refused
from selfinstruct.inputs.config import Section, Words, merge
from selfinstruct.inputs.prompts import FrontMatter, Prompt, require_given
from selfinstruct.recipes import reading
from selfinstruct.recipes.base import (
    Ask,
    Recipe,
    RecipeContext,
    RecipeOptions,
    SamplingOptions,
    Stage,
    flawed,
    object_schema,
    said,
)
from selfinstruct.records import (
    WRITER,
    Completion,
    Draft,
    Instance,
    Job,
    Outcome,
    Plan,
    Reason,
    Record,
    Rendered,
    Role,
    Sampling,
    Seed,
)

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


class OperatorFront(FrontMatter):
    """What an operator's prompt file says of itself."""

    evolution: Literal["depth", "breadth"] | None = None
    """Whether it makes a task harder, or another task of its domain."""
    added_words: tuple[int, int] | None = None
    """How many words, at least and at most, it may add to a task."""


class Step(Record):
    """One round of a family, as it is drawn."""

    operator: str
    data_format: str = ""
    """The format of data, where the operator takes one."""

    @property
    def values(self) -> dict[str, str]:
        """What it gives the operator's prompt."""
        return {"data_format": self.data_format} if self.data_format else {}


class Evolution(Record):
    """The payload of a job: a live task and the round that it is in."""

    root: str
    """The id of the family's seed."""
    member: str
    """The id of the live task: a seed's, or a draft's of this run."""
    depth: int
    """Evolutions between the two."""
    task: str
    """The text of the live task."""
    round: int
    steps: tuple[Step, ...]
    """Those of this round and of those to come."""
    evolved: str = ""
    """The task to be answered, of a job that answers."""
    family: str = ""
    """What the family must not be parted from, where that is not its root."""

    @property
    def step(self) -> Step:
        """That of this round."""
        return self.steps[0]

    def next_round(self) -> Self | None:
        """The same task in its next round, if there is one."""
        left = {"round": self.round + 1, "steps": self.steps[1:], "evolved": ""}
        return self.model_copy(update=left) if self.steps[1:] else None


class EvolInstruct(Recipe[Options]):
    """The recipe `evol-instruct`; see `Options`."""

    name = "evol-instruct"
    takes = "tasks: a run, or a file of instructions"
    makes = "the same tasks made harder and rarer, each with an answer"
    example = "selfinstruct evolve alpaca_data.json --rounds 4"
    words = ("round", "rounds", "operator", "operators", "judgement", "judgements", "evolve", "evolved", "evolution")
    published = "chat"
    stages = (
        Stage("evolve", brings=0.7, asks=1.0, payload=Evolution),
        Stage("answer", brings=0.7, asks=2.0, prompts=("answer",), payload=Evolution, doors=("judge", WRITER)),
    )
    replaces = True
    pooled = "evolve"
    Options = Options

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        if not options.elimination:
            evolve, answer = self.stages
            self.stages = (evolve, answer._replace(asks=1.0, doors=(WRITER,)))

    def open(self, context: RecipeContext) -> None:
        """Take the prompts.

        Raises:
            PromptError: an operator's file does not say how it evolves, or uses what the recipe does not give.
        """
        super().open(context)
        for name in self.options.operators:
            _check_operator(self._operator(name))

    def prompts(self) -> Mapping[str, Role]:
        """The operators, the answer, and where something is eliminated the judge's."""
        names = (*(f"operators/{name}" for name in self.options.operators), "answer")
        return {**dict.fromkeys(names, WRITER), **({"judge": "judge"} if self.options.elimination else {})}

    def front(self, prompt: str) -> type[FrontMatter]:
        """Operators say more of themselves than other prompts."""
        return OperatorFront if prompt.startswith("operators/") else FrontMatter

    def take(self, seeds: Sequence[Seed], where: str) -> Sequence[Seed]:
        """A root for each input of each seed, since instruction and input are one task: what Alpaca's rows are."""
        return [root for seed in seeds for root in _roots(seed)]

    def filter_defaults(self) -> dict[str, dict[str, JsonValue]]:
        """The rules of elimination, and the index for what is evolved in breadth."""
        switches = self.options.switches
        eliminated: dict[str, JsonValue] = {
            "unchanged": switches.unchanged,
            "added_words": switches.bounded_words,
            "truncated": switches.complete_answers,
            "parent_words": switches.parent_words,
        }
        defaults = {"elimination": eliminated} if self.options.elimination else {}
        return {**defaults, "rouge": {}} if switches.breadth_by_index else defaults

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """The rules of elimination; an in-breadth child against the pool too."""
        chain = ("elimination",) if self.options.elimination else ()
        indexed = self.options.switches.breadth_by_index and draft.stage == "evolve"
        return (*chain, "rouge") if indexed and self._in_breadth(str(draft.meta["operator"])) else chain

    def extent(self, seeds: int) -> int:
        """Each seed evolves once a round."""
        return seeds * self.options.rounds

    # -- plan ---------------------------------------------------------------------------------------------------------

    def start(self, source: Seed, rng: Random) -> Plan:
        """The first round of a seed, with the operators of all of its rounds."""
        names, weights = list(self.options.operators), list(self.options.operators.values())
        steps = tuple(self._step(name, rng) for name in rng.choices(names, weights, k=self.options.rounds))
        task = self._joined(source)
        return _evolution(
            Evolution(root=source.id, member=source.id, depth=0, task=task, round=1, steps=steps, family=source.family)
        )

    def _step(self, operator: str, rng: Random) -> Step:
        takes_data = "data_format" in self._operator(operator).front.variables
        return Step(operator=operator, data_format=rng.choice(self.options.data_formats) if takes_data else "")

    def _joined(self, seed: Seed) -> str:
        """Instruction and input as one task."""
        given = seed.instances[0].input if seed.instances else ""
        if not self.options.switches.plain_join:
            return f"{seed.instruction.strip()}\r\n{given.strip()}"
        return f"{seed.instruction.strip()}\n{given.strip()}".strip()

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """The answer to an evolved task; then the next round, of the child where there is one."""
        payload: Evolution = job.payload
        [outcome] = outcomes
        if outcome.sample is not None and job.stage == "evolve":
            evolved = payload.model_copy(update={"evolved": outcome.sample.instruction})
            # The judge is shown what it was made from.
            yield Plan("answer", evolved, outcome.id, shown=(payload.member,))
            return
        if outcome.sample is not None:
            child = {"member": outcome.id, "depth": payload.depth + 1, "task": payload.evolved}
            payload = payload.model_copy(update=child)
        if (following := payload.next_round()) is not None:
            yield _evolution(following)

    # -- perform ------------------------------------------------------------------------------------------------------

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        """The draft of one evolved task, or of that task with its answer."""
        payload: Evolution = job.payload
        try:
            draft = await (self._evolve(payload, ask) if job.stage == "evolve" else self._answer(payload, ask))
        except Refused as refusal:
            if refusal.kind not in SERVER_REFUSALS:
                raise
            meta = {**self._meta(payload), "answer": str(refusal)}
            draft = Draft(stage=job.stage, instruction=payload.evolved, flaw=Reason.REFUSED_BY_SERVER, meta=meta)
        return [draft.model_copy(update={"family": payload.family or payload.root, "facets": _facets(draft, payload)})]

    async def _evolve(self, payload: Evolution, ask: Ask) -> Draft:
        prompt = self._operator(payload.step.operator)
        fewest, most = _front(prompt).added_words or (0, 0)
        structured = self.context.manner().structured
        values = {"instruction": payload.task, "fewest": fewest, "most": most, "structured": structured}
        rendered = _rendered(prompt, values | payload.step.values)
        # A base model that has written a paragraph to a task of one seldom stops at that.
        stops = ("\nTask:",) if "\n\n" in payload.task else ("\nTask:", "\n\n")
        sampling = _sampling(self.options.sampling, rendered, stops)
        answer = await ask.generate(rendered, sampling, answer_schema=_TASK if structured else None)
        text = self._read(answer)
        cut = answer.finish_reason == "length" and self.options.switches.complete_answers
        if cut or not (text or self.options.strict):
            draft = flawed("evolve", text, answer)
            return draft.model_copy(update={"meta": {**self._meta(payload), **draft.meta}})
        return Draft(stage="evolve", instruction=text, meta=self._meta(payload))

    async def _answer(self, payload: Evolution, ask: Ask) -> Draft:
        meta, evolved = self._meta(payload), payload.evolved
        if self._is_judged(payload):
            meta["judgement"] = await self._judgement(payload.task, evolved, ask)
            if meta["judgement"] == "equal":
                # Nobody will want the answer.
                return Draft(stage="answer", instruction=evolved, meta=meta)
        rendered = _rendered(self.context.prompts["answer"], {"instruction": evolved})
        answer = await ask.generate(rendered, _sampling(self.options.answer, rendered, ("\nTask:",)))
        if answer.finish_reason == "length":
            meta["truncated"] = True
        text = self._text(answer)
        output = text.strip() if self.options.switches.tidy else text
        return Draft(stage="answer", instruction=evolved, instances=(Instance(output=output),), meta=meta)

    def _is_judged(self, payload: Evolution) -> bool:
        by_index = self.options.switches.breadth_by_index and self._in_breadth(payload.step.operator)
        return self.options.elimination and not by_index

    async def _judgement(self, parent: str, child: str, ask: Ask) -> str:
        """`equal`, `not_equal` or `unclear`."""
        structured = self.context.manner("judge").structured
        values = {"first": parent, "second": child, "structured": structured}
        rendered = _rendered(self.context.prompts["judge"], values)
        sampling = self.options.judging.sampling(("\n",) if isinstance(rendered, str) else ())
        answer = await ask.generate(rendered, sampling, role="judge", answer_schema=_EQUAL if structured else None)
        return reading.equality(self._text(answer))

    def _meta(self, payload: Evolution) -> dict[str, JsonValue]:
        """What a draft of this job says of its family."""
        operator = payload.step.operator
        meta: dict[str, JsonValue] = {
            "operator": operator,
            "round": payload.round,
            "depth": payload.depth + 1,
            "root": payload.root,
            "parent": payload.member,
            "evolved_from": payload.task,
        }
        limits = _front(self._operator(operator)).added_words
        return {**meta, "added_words": list(limits)} if limits else meta

    # -- prompts and answers ------------------------------------------------------------------------------------------

    def _operator(self, name: str) -> Prompt:
        return self.context.prompts[f"operators/{name}"]

    def _in_breadth(self, operator: str) -> bool:
        return _front(self._operator(operator)).evolution == "breadth"

    def _text(self, answer: Completion) -> str:
        return said(answer, thoughts=not self.options.switches.skip_thinking)

    def _read(self, answer: Completion) -> str:
        text = self._text(answer)
        if self.context.manner().structured and (found := reading.json_object(text)) is not None:
            return reading.json_text(found.get("task"))
        return reading.without_wrapping(text) if self.options.switches.tidy else text


def _rendered(prompt: Prompt, values: dict[str, Any]) -> Rendered:
    """A prompt takes what it declares."""
    return prompt.render(**{name: values[name] for name in prompt.front.variables})


def _sampling(options: SamplingOptions, rendered: Rendered, stops: tuple[str, ...]) -> Sampling:
    """A document goes on until it is stopped; a chat model stops by itself."""
    plain = isinstance(rendered, str)
    sampling = options.sampling(stops if plain else ())
    tokens = options.max_tokens or (512 if plain else 2048)
    return sampling.model_copy(update={"max_tokens": tokens})


def _evolution(payload: Evolution) -> Plan:
    """The evolution of a live task; what it follows from is a draft, or for a root nothing of this run."""
    return Plan("evolve", payload, payload.member if payload.depth else None, shown=(payload.member,))


def _facets(draft: Draft, payload: Evolution) -> dict[str, str]:
    judged = {"judgement": str(draft.meta["judgement"])} if "judgement" in draft.meta else {}
    return {"operator": payload.step.operator, "round": str(payload.round), **judged}


def _front(prompt: Prompt) -> OperatorFront:
    return cast("OperatorFront", prompt.front)


def _roots(seed: Seed) -> Iterator[Seed]:
    by_input: dict[str, Instance] = {}
    for instance in seed.instances:
        by_input.setdefault(instance.input, instance)
    if len(by_input) < 2:
        yield seed.model_copy(update={"instances": seed.instances[:1]})
        return
    for number, instance in enumerate(by_input.values(), start=1):
        yield seed.model_copy(update={"id": f"{seed.id}/{number}", "instances": (instance,)})


def _check_operator(prompt: Prompt) -> None:
    if _front(prompt).evolution is None:
        raise PromptError(f'{prompt.where}: an operator says evolution = "depth" or "breadth" in its front matter')
    require_given(prompt, OPERATOR_VARIABLES)


_TASK = object_schema(task={"type": "string"})
_EQUAL = object_schema(equal={"type": "boolean"})
