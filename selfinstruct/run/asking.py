"""The one door to the world, as a job has it: every question numbered, keyed, and put to whoever answers it.

What an answer is to a recipe is what the ledger holds: cut, made storable, stored, and only then seen (`as_stored`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from selfinstruct.errors import Refused
from selfinstruct.inputs.config import RunConfig, door_of, doors_of
from selfinstruct.records import (
    WRITER,
    Answer,
    Call,
    Completion,
    Execution,
    Job,
    Program,
    Question,
    Rendered,
    Request,
    Result,
    Role,
    Sampling,
    Tool,
)
from selfinstruct.store.keys import Kind, answer_key, canonical
from selfinstruct.text import thoughts
from selfinstruct.text.words import encodable, storable

LEAST_TOKENS = 64
"""Below this length of an answer, shortening it further is no cure for a prompt that is too long."""
LONGEST = 64_000
"""Characters of one output of a program, or of a tool's result, that are stored; what is longer loses its end."""


class Asked(NamedTuple):
    """A model as a run asks it."""

    model: str
    """The name that requests carry."""
    extra: Mapping[str, JsonValue]
    """Fields added to every request."""


def asked_of(config: RunConfig, models: Mapping[str, str]) -> dict[str, Asked]:
    """Each model of a run by its name in the run, with the name that its backend gave."""
    return {door: Asked(models.get(door, ""), backend.extra) for door, backend in doors_of(config).items()}


class Put(NamedTuple):
    """A question as a job puts it."""

    job: Job
    kind: Kind
    question: Question
    text: str
    """Its canonical text."""
    nth: int
    """How often the job has put it before."""
    door: str
    """Who is asked: a model by its name in the run, `sandbox`, or `tools`."""
    session: str = ""
    """The session of a call, by a name that no other job and no other try has; "" for none."""

    @property
    def key(self) -> str:
        """The name under which its answer is stored."""
        return answer_key(self.job.number, self.text, self.nth, self.kind)


class Asking:
    """The `Ask` that a job is performed with.

    A request that the server finds too long is asked again with room for half the answer, down to `LEAST_TOKENS`; after
    that the refusal is the recipe's to deal with.

    Args:
        asked: each model of the run.
        answer: finds or fetches the answer to a question.
        attempt: the number of the try, from 1, that the sessions of this job are in.
    """

    def __init__(
        self,
        job: Job,
        config: RunConfig,
        asked: Mapping[str, Asked],
        answer: Callable[[Put], Awaitable[Answer]],
        attempt: int = 1,
    ) -> None:
        self._job = job
        self._config = config
        self._asked = asked
        self._answer = answer
        self._attempt = attempt
        self._before: Counter[tuple[str, str]] = Counter()

    async def generate(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        role: Role = WRITER,
        tools: Sequence[Tool] = (),
        answer_schema: dict[str, JsonValue] | None = None,
    ) -> Completion:
        """See `Ask.generate`."""
        while True:
            try:
                return await self._complete(prompt, sampling, role, tuple(tools), answer_schema)
            except Refused as refusal:
                room = (sampling.max_tokens or 0) // 2
                if refusal.kind != "prompt_too_long" or room < LEAST_TOKENS:
                    raise
                sampling = sampling.model_copy(update={"max_tokens": room})

    async def run(self, program: Program) -> Execution:
        """See `Ask.run`."""
        text = canonical(program.model_dump(mode="json", exclude_defaults=True))
        return cast("Execution", await self._put("execution", program, text, "sandbox"))

    async def call(self, call: Call, *, session: str = "") -> Result:
        """See `Ask.call`."""
        told: dict[str, Any] = {"tool": call.tool, "arguments": call.arguments}
        if session:
            told |= {"session": session, "attempt": self._attempt}
            session = f"{self._job.number}/{session}/{self._attempt}"
        return cast("Result", await self._put("result", call, canonical(told), "tools", session))

    async def _complete(
        self,
        prompt: Rendered,
        sampling: Sampling,
        role: Role,
        tools: tuple[Tool, ...],
        schema: dict[str, JsonValue] | None,
    ) -> Completion:
        door = door_of(self._config, role, self._job.models)
        request, text = make_request(self._asked[door], prompt, sampling, schema, tools)
        completion = cast("Completion", await self._put("completion", request, text, door))
        if completion.refused is not None:
            raise Refused(completion.refused, completion.text)
        return completion

    async def _put(self, kind: Kind, question: Question, text: str, door: str, session: str = "") -> Answer:
        nth = self._before[kind, text]
        self._before[kind, text] += 1
        return await self._answer(Put(self._job, kind, question, text, nth, door, session))


def make_request(
    asked: Asked,
    prompt: Rendered,
    sampling: Sampling,
    answer_schema: dict[str, JsonValue] | None = None,
    tools: tuple[Tool, ...] = (),
) -> tuple[Request, str]:
    """A request and its canonical text, which is what its answer is stored under."""
    if asked.extra:
        sampling = sampling.model_copy(update={"extra": {**asked.extra, **sampling.extra}})
    plain = isinstance(prompt, str)
    request = Request(
        model=asked.model,
        prompt=prompt if plain else None,
        messages=() if isinstance(prompt, str) else prompt,
        sampling=sampling,
        tools=tools,
        answer_schema=answer_schema,
    )
    return request, canonical(request.model_dump(mode="json", exclude_defaults=True))


def as_stored(answer: Answer) -> Answer:
    """An answer as the ledger will have it: every text can be stored, none is longer than is kept, and a model's
    thoughts are told apart from what it said."""
    if isinstance(answer, Completion):
        return _told_apart(_storable(answer))
    if isinstance(answer, Result):
        content = storable(answer.content)
        return answer.model_copy(update={"content": content[:LONGEST], "cut": answer.cut or len(content) > LONGEST})
    return _cut(answer)


def _storable(answer: Completion) -> Completion:
    """Calls and log-probabilities are stored as JSON, whose escapes carry what UTF-8 cannot."""
    if all(map(encodable, (answer.text, answer.reasoning, answer.finish_reason, answer.model))):
        return answer
    said = ("text", "reasoning", "finish_reason", "model")
    return answer.model_copy(update={name: storable(getattr(answer, name)) for name in said})


def _told_apart(answer: Completion) -> Completion:
    """Thoughts that stand in the text go where those go that a server keeps apart; of a server that does both, what
    stood in the text is kept as it was."""
    if answer.refused is not None:
        return answer
    found = thoughts.split(answer.text, thinks=bool(answer.reasoning))
    if not found.where:
        return answer
    update: dict[str, Any] = {"text": found.text, "tail": found.tail}
    if answer.reasoning:
        before, after = found.marks
        return answer.model_copy(update={**update, "marks": (f"{before}{found.reasoning}{after}", "")})
    return answer.model_copy(
        update={**update, "reasoning": found.reasoning, "reasoning_from": found.where, "marks": found.marks}
    )


def _cut(answer: Execution) -> Execution:
    texts = {"stdout": storable(answer.stdout), "stderr": storable(answer.stderr)}
    files = {path: storable(text) for path, text in answer.files.items()}
    cut = [name for name, text in (*texts.items(), *files.items()) if len(text) > LONGEST]
    return answer.model_copy(
        update={
            **{name: text[:LONGEST] for name, text in texts.items()},
            "files": {storable(path): text[:LONGEST] for path, text in files.items()},
            "cut": tuple(dict.fromkeys([*answer.cut, *cut])),
        }
    )
