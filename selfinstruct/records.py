"""The words of the project as frozen records; what is on disk, and nothing that acts.

The flow they run down: a `Job` is planned, its questions are put (a `Request` to a model, a `Program` to the sandbox, a
`Call` to a tool) and answered (by a `Completion`, an `Execution`, a `Result`), a recipe makes `Draft`s of the answers,
each filter gives a `Verdict`, and a draft that is kept is a `Sample`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from operator import add, ge, sub
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

Role = str
"""Who is asked, by what is wanted of it: `writer`, `judge`, `user`, `answerer`, …"""
WRITER: Role = "writer"
"""The role that is asked where a run has no model of its own for another."""
SEED_STAGE = "seed"
"""The stage of samples that are seeds: filters are told of them, and an evolution's source rows are exported."""


class Reason(StrEnum):
    """Why a draft, or one instance of a draft, was dropped: each states what is wrong with it."""

    # What the answer was like, found while parsing.
    EMPTY_ANSWER = "empty_answer"
    UNPARSEABLE = "unparseable"
    TRUNCATED = "truncated"
    NUMBERING_SLIP = "numbering_slip"
    # What the instruction is like.
    EMPTY_INSTRUCTION = "empty_instruction"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    BANNED_WORD = "banned_word"
    ASKS_FOR_PROGRAM = "asks_for_program"
    STARTS_WITH_PUNCTUATION = "starts_with_punctuation"
    STARTS_WITH_NON_ASCII = "starts_with_non_ascii"
    NEAR_DUPLICATE = "near_duplicate"
    # What an evolution of it is like.
    NO_INFORMATION_GAIN = "no_information_gain"
    LEAKED_PROMPT = "leaked_prompt"
    TOO_FEW_ADDED_WORDS = "too_few_added_words"
    TOO_MANY_ADDED_WORDS = "too_many_added_words"
    REFUSAL = "refusal"
    NO_CONTENT = "no_content"
    REFUSED_BY_SERVER = "refused_by_server"
    # What the instances are like.
    EMPTY_OUTPUT = "empty_output"
    OUTPUT_IS_INPUT = "output_is_input"
    ENDS_WITH_COLON = "ends_with_colon"
    CONTRADICTORY_OUTPUTS = "contradictory_outputs"
    REPEATED_INSTANCE = "repeated_instance"
    OVER_LIMIT = "over_limit"
    NO_VALID_INSTANCE = "no_valid_instance"
    # What the run decided.
    SURPLUS = "surplus"
    PARENT_DROPPED = "parent_dropped"
    # What a person decided.
    REJECTED = "rejected"
    # Not a drop.
    PASSED = "passed"
    UNCLEAR_JUDGEMENT = "unclear_judgement"


class Record(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(Record):
    """One call of a tool, as an assistant made it."""

    id: str = ""
    """Its name within a conversation, by which the tool's turn refers to it; "" where it needs none."""
    tool: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    raw: str = ""
    """What was written instead of arguments, where it is no JSON object that can be kept; `arguments` is then empty."""


class Tool(Record):
    """A tool that may be called: its name, what it is for, and the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class Turn(Record):
    """One message of a conversation, in a prompt as in the data."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning: str = ""
    """What an assistant thought before it said this."""
    calls: tuple[Call, ...] = ()
    """The tools that an assistant calls in this turn."""
    call: str = ""
    """Of a tool's turn: the id of the call that it answers."""
    train: bool = True
    """Whether an assistant's turn is trained on; a wrong step that is mended later is not."""


class Rival(Record):
    """Another output to the same question, with its score."""

    output: str
    reasoning: str = ""
    score: float | None = None
    by: str = ""
    """Who wrote it: a role, or a role and its model."""


class Check(Record):
    """What a right output must satisfy."""

    kind: str
    """`tests`, `exact`, `numeric`, `choice`, `regex`, `math`, …"""
    text: str


class Instance(Record):
    """One worked case of a task: the question is the instruction with `input`, and `output` is what is trained on."""

    input: str = ""
    """What the instruction is applied to; "" when the task needs none."""
    turns: tuple[Turn, ...] = ()
    """What was said between the question and the output; () for a single exchange."""
    output: str = ""
    reasoning: str = ""
    """What was thought before the output."""
    score: float | None = None
    rivals: tuple[Rival, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it can be trained on: it has an output, or its last turn calls a tool."""
        return bool(self.output.strip()) or bool(self.turns and self.turns[-1].calls)

    def fields(self) -> dict[str, Any]:
        """Input and output as JSON, and of everything else what is there."""
        return {"input": self.input, "output": self.output, **self.model_dump(mode="json", exclude_defaults=True)}


class Seed(Record):
    """A human-written task; `id` is unique within its file."""

    id: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    is_classification: bool = False
    name: str = ""
    category: str = ""
    family: str = ""
    """What it must not be parted from in a split; "" stands for its own id."""


class Sampling(Record):
    """How an answer is drawn; a field that is None is not sent, so the server's own default holds."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """Alternatives to tell for each token of the answer, beside its own log-probability; None asks for none."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of the request body that the server understands, such as `top_k` or `min_p`."""


class Request(Record):
    """One question to a model: either `prompt` (a completion) or `messages` (a chat)."""

    model: str
    prompt: str | None = None
    messages: tuple[Turn, ...] = ()
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    """Tools that the model may call."""
    answer_schema: dict[str, JsonValue] | None = None
    """JSON schema that the answer must follow, for servers that can hold a model to one."""
    key: str = Field("", exclude=True)
    """The name that its answer is stored under, by which a batch knows it again after a crash; no part of the question,
    and so of no dump."""
    job: int = Field(0, exclude=True)
    """The number of the job that asks, which decides whether it is still wanted; no part of the question either."""


class TokenLogprob(Record):
    """One token of an answer and how likely it was."""

    token: str
    logprob: float
    top: dict[str, float] = Field(default_factory=dict)
    """The likeliest tokens at its place, with their log-probabilities."""


class Completion(Record):
    """A model's answer to one request."""

    text: str
    """What it said, its thoughts left out."""
    finish_reason: str = "stop"
    """`stop`, `length` when the answer was cut, or whatever else the server said."""
    model: str = ""
    """The model as the server names it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server took from its prefix cache."""
    reasoning_tokens: int = 0
    """Tokens of the answer that were thoughts, where the server counts them."""
    refused: str | None = None
    """The kind of refusal when the server will never answer this request; `text` is then its message."""
    reasoning: str = ""
    """What it thought before it answered, as it came."""
    reasoning_from: ReasoningFrom = ""
    """Where the thoughts stood: in a field of the answer, by its name; in `parts` of its content; or in its text:
    between `tags`, before a lone `closing_tag`, or behind an `open_tag` that is never closed."""
    marks: tuple[str, str] = ("", "")
    """What stood before and after the thoughts in the text, as written; where they came in a field, all that stood
    before the answer."""
    tail: str = ""
    """What stood after the answer, as written: thoughts again."""
    calls: tuple[Call, ...] = ()
    """The tools that it calls."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of each token, where they were asked for."""

    @property
    def whole(self) -> str:
        """The text as the model wrote it, with the thoughts that stood in it."""
        before, after = self.marks
        thoughts = self.reasoning if self.reasoning_from in ("tags", "closing_tag", "open_tag") else ""
        return f"{before}{thoughts}{after}{self.text}{self.tail}"


ReasoningFrom = Literal[
    "", "reasoning", "reasoning_content", "reasoning_details", "parts", "tags", "closing_tag", "open_tag"
]


class Program(Record):
    """A program for the sandbox, whole: all of its files in, its outputs out, and nothing that it leaves behind."""

    command: tuple[str, ...]
    """Program and arguments, run in a new folder that holds `files`."""
    files: dict[str, str] = Field(default_factory=dict)
    """Text of each file by its path in that folder."""
    stdin: str = ""
    seconds: float = 10.0
    """Wall-clock time after which it is stopped."""
    memory: int = 512
    """Megabytes that it may take."""
    outputs: tuple[str, ...] = ()
    """Files that are wanted back, by their paths."""


class Execution(Record):
    """What became of a program; one that crashed, looped or took too much memory has answered too."""

    status: str = "exit 0"
    """`exit N`, `signal N`, `timeout` or `memory`."""
    stdout: str = ""
    stderr: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    """Those of the wanted files that there are."""
    cut: tuple[str, ...] = ()
    """What is stored in part: `stdout`, `stderr`, or the path of a file."""

    @property
    def passed(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.status == "exit 0"


class Result(Record):
    """What a tool outside this process returned."""

    content: str
    failed: bool = False
    """Whether the tool says that it could not do it: an answer too."""
    cut: bool = False
    """Whether `content` is stored in part."""


Answer = Completion | Execution | Result
"""What comes back to a question."""
Question = Request | Program | Call
"""What is asked of the world."""


class Usage(NamedTuple):
    """What was sent, and what it took in tokens; cached ones are among those of the prompts."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """In and out together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(*map(add, self, other))

    def minus(self, other: Usage) -> Usage:
        """Without the other."""
        return Usage(*map(sub, self, other))

    def covers(self, other: Usage) -> bool:
        """Whether it is no less in anything."""
        return all(map(ge, self, other))


class Plan(NamedTuple):
    """What a recipe asks to be done: becomes a `Job` when the run numbers it."""

    stage: str
    payload: Any
    """All that `perform` needs: a record, or a dict that is JSON."""
    parent: str | None = None
    """The id of the draft that it follows from."""
    shown: tuple[str, ...] = ()
    """Ids of the seeds and samples that its prompt shows."""


class Job(NamedTuple):
    """One piece of work, planned."""

    number: int
    """Counts from 1 in order of planning, and seeds the randomness of the job."""
    stage: str
    payload: Any
    """As planned: JSON in a ledger, the record of its stage in a recipe's hands."""
    parent: str | None = None
    """The id of the draft that it follows from."""
    shown: tuple[str, ...] = ()
    """Ids of the seeds and samples that its prompt shows."""
    models: Mapping[str, str] = {}
    """By role, the model that was drawn for this job, where a role has several."""


class Draft(Record):
    """What a recipe made of answers, before any judgement."""

    stage: str
    """The stage of the job that made it; a recipe's last stage makes tasks, which `-n` counts."""
    instruction: str
    instances: tuple[Instance, ...] = ()
    flaw: Reason | None = None
    """What parsing found wrong; such a draft is dropped for it, with the answer's text in `meta`."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """What else the recipe knows."""
    system: str = ""
    """The system prompt of the data, not of the prompt that made it."""
    tools: tuple[Tool, ...] = ()
    """Tools that are offered in the data."""
    family: str = ""
    """What it must not be parted from in a split, such as the source that it goes back to; "" stands for its own id."""
    facets: dict[str, str] = Field(default_factory=dict)
    """Few short values worth counting and choosing by."""


class InstanceDrop(NamedTuple):
    """One instance of a draft that a filter refused: its place in `draft.instances`, and why."""

    place: int
    reason: str


class Verdict(Record):
    """One filter's word on one draft."""

    filter: str
    keep: bool
    reason: str = Reason.PASSED
    detail: dict[str, JsonValue] = Field(default_factory=dict)
    """What a person needs to understand it: for a near-duplicate `{"of": id, "score": 0.83}`."""
    instance_drops: tuple[InstanceDrop, ...] = ()
    """The instances that do not stay in a draft that does."""


class Sample(Record):
    """A kept draft, with the instances that stayed."""

    id: str
    """`<job>.<position>`, such as `17.3`: the third draft of job 17."""
    stage: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    parent: str | None = None
    """The id of the draft that its job followed from."""
    system: str = ""
    tools: tuple[Tool, ...] = ()
    family: str = ""
    facets: dict[str, str] = Field(default_factory=dict)


def question(sample: Sample, instance: Instance) -> str:
    """Instruction and input as one text, with a newline between them: as WizardLM and LLaMA-Factory join them."""
    return f"{sample.instruction}\n{instance.input}" if instance.input else sample.instruction


def conversation(sample: Sample, instance: Instance, system: str = "") -> list[Turn]:
    """The turns of one instance in order: system prompt, question, what was said in between, output.

    Args:
        system: the system prompt of a sample that has none of its own; "" for none.
    """
    opening = sample.system or system
    told: list[Turn | dict[str, str]] = [{"role": "system", "content": opening}] if opening else []
    told += [{"role": "user", "content": question(sample, instance)}, *instance.turns]
    if instance.output.strip() or not instance.turns:
        told.append({"role": "assistant", "content": instance.output, "reasoning": instance.reasoning})
    turns: list[Turn] = _TURNS.validate_python(told)
    return turns


_TURNS = TypeAdapter(list[Turn]).validator
"""Makes several at once, in two thirds of the time."""


class Review(Record):
    """What a person decided on a draft."""

    draft: str
    keep: bool | None
    """None takes a decision back: what the filters said holds again."""
    instruction: str | None = None
    """The instruction as edited; None where it stays as it was."""
    instances: tuple[Instance, ...] | None = None
    """The instances as edited; None where they stay as they were."""

    @property
    def edited(self) -> bool:
        """Whether the task is another one than the draft's."""
        return self.instruction is not None or self.instances is not None

    @property
    def word(self) -> str:
        """What became of the draft: `dropped`, `edited`, `kept`."""
        return "dropped" if not self.keep else "edited" if self.edited else "kept"

    @property
    def verdict(self) -> Verdict:
        """The decision as the last filter's word."""
        reason = Reason.PASSED if self.keep else Reason.REJECTED
        return Verdict(
            filter="human", keep=bool(self.keep), reason=reason, detail={"edited": True} if self.edited else {}
        )


class Outcome(NamedTuple):
    """A draft with the verdicts on it, and the sample that it became if it was kept."""

    id: str
    draft: Draft
    verdicts: tuple[Verdict, ...]
    sample: Sample | None


Rendered = str | tuple[Turn, ...]
"""A rendered prompt: text for a completion, messages for a chat."""
