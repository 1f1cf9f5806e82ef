"""What a job asks through: each question numbered, keyed, and answered from the ledger where it was asked before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pydantic import JsonValue

from selfinstruct.errors import Refused
from selfinstruct.inputs.config import RunConfig
from selfinstruct.records import Completion, Job, Rendered, Request, Sampling
from selfinstruct.store.keys import canonical


class Asked(NamedTuple):
    """A model as a run asks it."""

    model: str
    """The name that requests carry."""
    extra: dict[str, JsonValue]
    """Fields added to every request."""


class Roles(NamedTuple):
    """Who writes and who judges; often the same."""

    writer: Asked
    judge: Asked

    @classmethod
    def of(cls, config: RunConfig, model: str, judge: str | None) -> Roles:
        """Those of a run, by its resolved configuration and the names that its backends gave."""
        writer = Asked(model, config.backend.extra)
        return cls(writer, Asked(judge or "", config.judge.extra) if config.judge else writer)


Answer = Callable[[Job, Request, str, int, bool], Awaitable[Completion]]
"""Finds or fetches the answer to a job's request; takes its canonical text, how often it was asked before, and whether
the judge is asked."""
LEAST_TOKENS = 64
"""Below this length of an answer, shortening it further is no cure for a prompt that is too long."""


class Asking:
    """The `generate` that a job is performed with.

    Numbers what the job asks. A request that the server finds too long is asked again with room for half the answer,
    down to `LEAST_TOKENS`; after that the refusal is the recipe's to deal with.
    """

    def __init__(self, job: Job, roles: Roles, answer: Answer) -> None:
        self._job = job
        self._roles = roles
        self._answer = answer
        self._asked: Counter[str] = Counter()

    async def __call__(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        answer_schema: dict[str, JsonValue] | None = None,
        judge: bool = False,
    ) -> Completion:
        """The answer to a prompt; see `Generate`."""
        while True:
            try:
                return await self._once(prompt, sampling, answer_schema, judge)
            except Refused as refusal:
                room = (sampling.max_tokens or 0) // 2
                if refusal.kind != "prompt_too_long" or room < LEAST_TOKENS:
                    raise
                sampling = sampling.model_copy(update={"max_tokens": room})

    async def _once(
        self, prompt: Rendered, sampling: Sampling, schema: dict[str, JsonValue] | None, judge: bool
    ) -> Completion:
        asked = self._roles.judge if judge else self._roles.writer
        request, text = make_request(asked, prompt, sampling, schema)
        nth = self._asked[text]
        self._asked[text] += 1
        completion = await self._answer(self._job, request, text, nth, judge)
        if completion.refused is not None:
            raise Refused(completion.refused, completion.text)
        return completion


def make_request(
    asked: Asked, prompt: Rendered, sampling: Sampling, answer_schema: dict[str, JsonValue] | None
) -> tuple[Request, str]:
    """A request and its canonical text, which is what answers are stored under."""
    if asked.extra:
        sampling = sampling.model_copy(update={"extra": {**asked.extra, **sampling.extra}})
    plain = isinstance(prompt, str)
    request = Request(
        model=asked.model,
        prompt=prompt if plain else None,
        messages=() if isinstance(prompt, str) else prompt,
        sampling=sampling,
        answer_schema=answer_schema,
    )
    return request, canonical(request.model_dump(mode="json", exclude_defaults=True))
