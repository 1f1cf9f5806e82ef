"""The words of the project as frozen records; what is on disk, and nothing that acts.

The flow they run down: a `Job` is planned, its `Request`s are answered by `Completion`s, a recipe makes `Draft`s of
them, each filter gives a `Verdict`, and a draft that is kept is a `Sample`.
"""

from __future__ import annotations

from enum import StrEnum
from operator import add, ge, sub
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

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


class Instance(Record):
    """One worked case of a task: `input` is "" when the task needs none."""

    input: str = ""
    output: str


class Seed(Record):
    """A human-written task; `id` is unique within its file."""

    id: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    is_classification: bool = False
    name: str = ""
    category: str = ""


class Message(Record):
    """One turn of a chat; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


class Sampling(Record):
    """How an answer is drawn; a field that is None is not sent, so the server's own default holds."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, JsonValue] = {}
    """Further fields of the request body that the server understands, such as `top_k` or `min_p`."""


class Request(Record):
    """One question to a model: either `prompt` (a completion) or `messages` (a chat)."""

    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    sampling: Sampling = Sampling()
    answer_schema: dict[str, JsonValue] | None = None
    """JSON schema that the answer must follow, for servers that can hold a model to one."""
    key: str = Field("", exclude=True)
    """The name that its answer is stored under, by which a batch knows it again after a crash; no part of the question,
    and so of no dump."""


class Completion(Record):
    """A model's answer to one request."""

    text: str
    finish_reason: str = "stop"
    """`stop`, `length` when the answer was cut, or whatever else the server said."""
    model: str = ""
    """The model as the server names it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server took from its prefix cache."""
    refused: str | None = None
    """The kind of refusal when the server will never answer this request; `text` is then its message."""


Role = Literal["writer", "judge"]
"""Who is asked; where a run has no judge of its own, the writer judges too."""


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
    """What a recipe asks to be done: becomes a `Job` when the engine numbers it.

    `payload` is all that `perform` needs, as JSON; `parent` the id of the draft it follows from.
    """

    stage: str
    payload: dict[str, Any]
    parent: str | None = None


class Job(NamedTuple):
    """One piece of work, planned; `number` counts from 1 in order of planning and seeds its randomness."""

    number: int
    stage: str
    payload: dict[str, Any]
    parent: str | None = None


class Draft(Record):
    """What a recipe made of answers, before any judgement."""

    stage: str
    """The stage of the job that made it; a recipe's last stage makes tasks, which `-n` counts."""
    instruction: str
    instances: tuple[Instance, ...] = ()
    flaw: Reason | None = None
    """What parsing found wrong; such a draft is dropped for it, with the answer's text in `meta`."""
    meta: dict[str, JsonValue] = {}
    """What else the recipe knows: `is_classification`, `category`, `operator`, …"""


class InstanceDrop(NamedTuple):
    """One instance of a draft that a filter refused: its place in `draft.instances`, and why."""

    place: int
    reason: str


class Verdict(Record):
    """One filter's word on one draft."""

    filter: str
    keep: bool
    reason: str = Reason.PASSED
    detail: dict[str, JsonValue] = {}
    """What a person needs to understand it: for a near-duplicate `{"of": id, "score": 0.83}`."""
    instance_drops: tuple[InstanceDrop, ...] = ()
    """The instances that do not stay in a draft that does."""


class Sample(Record):
    """A kept draft, with the instances that stayed and its family."""

    id: str
    """`<job>.<position>`, such as `17.3`: the third draft of job 17."""
    stage: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    meta: dict[str, JsonValue] = {}
    parent: str | None = None
    """The id of the draft that its job followed from."""


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


class Generate(Protocol):
    """What a recipe asks a model through; the ledger, retries and limits are behind it.

    Answers the same question again from the ledger when the run is resumed or verified. Raises `Refused` when the
    server will never answer this request.
    """

    async def __call__(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        answer_schema: dict[str, JsonValue] | None = None,
        judge: bool = False,
    ) -> Completion:
        """The answer; with `judge` that of the model which judges, where the run has one of its own."""
        ...


Rendered = str | tuple[Message, ...]
"""A rendered prompt: text for a completion, messages for a chat."""
