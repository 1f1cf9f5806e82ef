"""What a recipe is: a way of making drafts, as one class with defaults.

    plan      what to do next, from the pool as settled: pure
    start     or, of a recipe that goes through sources, what to do with one of them: pure
    perform   ask and read the answers: the only await, and only through the `ask` handed in
    follow    what follows from a job once it is settled: pure

docs/adding-a-recipe.md shows three, which a test runs.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from pydantic import JsonValue, model_validator

from selfinstruct.errors import Refused
from selfinstruct.inputs.config import Dialect, Section
from selfinstruct.inputs.prompts import FrontMatter, Prompt
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import (
    WRITER,
    Call,
    Completion,
    Draft,
    Execution,
    Job,
    Outcome,
    Plan,
    Program,
    Reason,
    Record,
    Rendered,
    Result,
    Role,
    Sampling,
    Seed,
    Tool,
)


class Ask(Protocol):
    """The one door to the world: what a recipe asks through; the ledger, retries and limits are behind it.

    What was asked before is answered from the ledger, when a run is resumed or verified. Several questions of a job may
    be out at once (`asyncio.gather`), but which answer arrives first may decide nothing.
    """

    async def generate(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        role: Role = WRITER,
        tools: Sequence[Tool] = (),
        answer_schema: dict[str, JsonValue] | None = None,
    ) -> Completion:
        """A model's answer; the writer's where the run has no model of its own for the role.

        Args:
            tools: those that it may call.
            answer_schema: JSON schema that the answer must follow, for servers that can hold a model to one.

        Raises:
            Refused: the server will never answer this request.
        """
        ...

    async def run(self, program: Program) -> Execution:
        """What becomes of a program in the sandbox; one that crashes has answered."""
        ...

    async def call(self, call: Call, *, session: str = "") -> Result:
        """What a tool outside this process returns.

        Args:
            session: calls of the same session of a job meet the same state; "" for a tool without any. A session that
                was cut short begins anew as a whole.

        Raises:
            Fault: `in_doubt`, for a call that must not be repeated and may have been made before the run was killed.
        """
        ...


class Stage(NamedTuple):
    """One step of a recipe: a kind of jobs, and of the drafts that they make."""

    name: str
    brings: float = 1.0
    """What a job may be expected to bring while none was settled: jobs of the next stage, of the last one tasks."""
    asks: float = 1.0
    """Requests to models that a job makes."""
    prompts: tuple[str, ...] = ()
    """Names of the prompt files that its jobs render for the writer."""
    payload: type[Record] | None = None
    """The record that the payload of its jobs is; None leaves a dict."""
    doors: tuple[str, ...] = (WRITER,)
    """Whom its jobs ask, the first one first: roles of models, `sandbox`, `tools`."""


class Manner(NamedTuple):
    """How the models of a role are asked."""

    dialect: Dialect = "chat"
    structured: bool = False
    """Whether for JSON by schema."""


class RecipeContext(NamedTuple):
    """What a recipe is opened with, beside its options."""

    prompts: Mapping[str, Prompt] = {}
    manners: Mapping[Role, Manner] = {}
    """Of the writer, and of each role that has models of its own."""

    def manner(self, role: Role = WRITER) -> Manner:
        """How a role is asked: as the writer, where it has no model of its own."""
        return self.manners.get(role) or self.manners.get(WRITER) or Manner()


Opts = TypeVar("Opts", bound="RecipeOptions")


class Recipe(Generic[Opts]):
    """A way of making drafts; found by its name (`recipes.open`), ours and others'.

    What is left out has a default that suits a recipe which goes once through its sources and makes one task of each.

    Args:
        options: those of `Options`, checked.
    """

    name: ClassVar[str]
    takes: ClassVar[str] = "tasks: a file, or a run"
    """What it goes through or samples from, for `selfinstruct recipes`."""
    makes: ClassVar[str] = "tasks"
    """What comes out."""
    example: ClassVar[str] = ""
    """A command line that shows it."""
    words: ClassVar[tuple[str, ...]] = ()
    """Words of its own, which stand in no other file of the package."""
    target: ClassVar[int | None] = None
    """Tasks to keep when nothing is said; None keeps all that the sources make."""
    published: ClassVar[Dialect | None] = None
    """The dialect of the published code, in which alone `strict` holds; None where none was published."""
    stages: tuple[Stage, ...]
    """In order; the last makes the tasks. An instance may have others than its class, as its options want."""
    replaces: ClassVar[bool] = False
    """Whether what is kept takes the place of its source, which lives on where nothing was kept of it."""
    pooled: ClassVar[str] = ""
    """The stage whose samples join the pool; "" for the last."""
    Options: ClassVar[type[Any]]
    """The options, a kind of `RecipeOptions`, with the published numbers."""

    def __init__(self, options: Opts) -> None:
        self.options = options
        self.context = RecipeContext()

    def open(self, context: RecipeContext) -> None:
        """Take the prompts and the manner of asking: from here on it plans and performs.

        Raises:
            PromptError: a prompt does not suit the recipe.
        """
        self.context = context

    @classmethod
    def samples(cls) -> bool:
        """Whether it samples from the pool, over and over; otherwise it goes through its sources."""
        return cls.start is Recipe.start

    @property
    def home(self) -> Path | None:
        """The folder of its module: `prompts/NAME/` in it holds the prompts of a recipe that another package ships."""
        file = getattr(sys.modules.get(type(self).__module__), "__file__", None)
        return Path(file).parent if file else None

    @property
    def shows_kept(self) -> bool:
        """Whether prompts show samples of the pool; where they do not, it need not hold them."""
        return False

    def prompts(self) -> Mapping[str, Role]:
        """The prompt files that these options ask for, each with the role that is asked with it."""
        return dict.fromkeys((name for stage in self.stages for name in stage.prompts), WRITER)

    def front(self, prompt: str) -> type[FrontMatter]:
        """What the front matter of a prompt may say."""
        return FrontMatter

    def take(self, seeds: Sequence[Seed], where: str) -> Sequence[Seed]:
        """The seeds as the recipe wants them.

        Raises:
            SourceError: they are too few for a first prompt; `where` they are from is for the message.
        """
        return seeds

    def filter_defaults(self) -> dict[str, dict[str, JsonValue]]:
        """The filters, with the settings that suit these options; what the person sets wins."""
        return {}

    def filters(self, draft: Draft) -> tuple[str, ...]:
        """The filters that judge a draft, in order."""
        return tuple(self.filter_defaults())

    def extent(self, seeds: int) -> int | None:
        """Jobs of the first stage that so many seeds make, to the end; None where there is no end."""
        return None if self.samples() else seeds

    def plan(self, pool: Pool, rng: Random) -> Plan | None:
        """The next job from the pool, or None when nothing more can be planned from it."""
        return None if pool.planned >= len(pool.seeds) else self.start(pool.seeds[pool.planned], rng)

    def start(self, source: Seed, rng: Random) -> Plan:
        """The first job of a source, of a recipe that goes through sources."""
        raise NotImplementedError(f"{self.name} has neither a plan nor a start")

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        """Ask for and read what the job wants: at least one draft, if only to say what was wrong with the answer.

        Raises:
            Refused: the server will never answer a request of this job.
        """
        raise NotImplementedError

    def follow(self, job: Job, outcomes: Sequence[Outcome]) -> Iterable[Plan]:
        """The jobs that follow from a settled one."""
        return ()


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
    """What the options of recipes have in common; one that was published gives them its numbers and its `switches`."""

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
        """Every switch, off; none of a recipe that has none."""
        switches = cls.model_fields.get("switches")
        return dict.fromkeys(type(switches.default).model_fields, False) if switches else {}


def flawed(stage: str, instruction: str, answer: Completion) -> Draft:
    """The draft that stands for an answer from which nothing could be read; the answer lies in its `meta`."""
    if not answer.whole.strip():
        flaw = Reason.EMPTY_ANSWER
    else:
        flaw = Reason.TRUNCATED if answer.finish_reason == "length" else Reason.UNPARSEABLE
    return Draft(stage=stage, instruction=instruction, flaw=flaw, meta={"answer": answer.whole})


def said(answer: Completion, *, thoughts: bool = False) -> str:
    """What a model said, without the white space that thoughts leave behind them; with `thoughts` as it wrote it."""
    if thoughts:
        return answer.whole
    return answer.text.lstrip() if answer.reasoning_from else answer.text


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
