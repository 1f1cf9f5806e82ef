r"""A backend that answers from a file or a function: for tests, documentation, and trying a recipe without a model.

A file is JSON, a list of answers, or JSONL, one a line (`inputs.scripts`). An answer is its text, or an object:

    "2. Name a river.\n3. Spell a word."
    {"text": "Yes", "finish_reason": "length"}
    {"when": "Is this a classification task?", "text": "No"}
    {"reasoning": "They want a forecast.", "calls": [{"tool": "weather", "arguments": {"city": "Graz"}}]}
    {"fault": "server_error", "delay": 0.5}

Answers with `when` are for prompts that contain it; the others are given in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from selfinstruct.backends.base import Backend
from selfinstruct.inputs import scripts
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Call, Completion, Request, TokenLogprob

Reply = Completion | str | Exception
Answer = Callable[[Request], Reply | Awaitable[Reply]]
"""What a script is in Python: an exception is raised as a server's fault would be."""


class Line(scripts.Line):
    """One answer of a script."""

    text: str = ""
    finish_reason: str = "stop"
    reasoning: str = ""
    """What was thought before, as from a server that has a field for it."""
    calls: tuple[Call, ...] = ()
    """The tools that are called: `tool`, `arguments`, and `id` where it is wanted."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """The tokens of the text: `token`, `logprob`, and `top` for the likeliest at its place."""

    plain = "text"


class ScriptedBackend:
    """Answers with what a function returns.

        backend = ScriptedBackend(lambda request: f"2. Say {len(request.prompt)}.")

    Args:
        answer: is called with each request; may be async; an exception that it returns is raised.
        model: the name it goes by; a name like `smollm2-135m` makes for the completion dialect.
        delay: seconds before each answer.
    """

    def __init__(self, answer: Answer, *, model: str = "scripted", delay: float = 0.0) -> None:
        self.model = model
        self._answer = answer
        self._delay = delay

    async def complete(self, request: Request) -> Completion:
        """See `Backend.complete`."""
        if self._delay:
            await asyncio.sleep(self._delay)
        reply: Completion | str = await scripts.outcome(self._answer(request))
        return _completion(Line(text=reply), request, self.model) if isinstance(reply, str) else reply

    async def aclose(self) -> None:
        """See `Backend.aclose`."""


@asynccontextmanager
async def open_scripted(
    config: BackendConfig,
    *,
    folder: Path | None = None,
    notice: Notice,
) -> AsyncIterator[Backend]:
    """The backend for the file that `config.script` names.

    Raises:
        ConfigError: there is no such file, or it is no script.
    """
    path = Path(config.script or "")
    script = scripts.read_script(path, scripts.Script[Line], Line)
    answer = scripts.play(script.answers, script.choose, str(path), said=prompt_of, given=_completion)
    yield ScriptedBackend(answer, model=config.model or "scripted")


def prompt_of(request: Request) -> str:
    """All that a request says, as one text."""
    return request.prompt if request.prompt is not None else "\n".join(turn.content for turn in request.messages)


def _completion(line: Line, request: Request, model: str = "scripted") -> Completion:
    """An answer with words counted for tokens."""
    thoughts = len(line.reasoning.split())
    return Completion(
        text=line.text,
        finish_reason=line.finish_reason,
        model=request.model or model,
        prompt_tokens=len(prompt_of(request).split()),
        completion_tokens=thoughts + len(line.text.split()),
        reasoning_tokens=thoughts,
        reasoning=line.reasoning,
        reasoning_from="reasoning" if line.reasoning else "",
        calls=line.calls,
        logprobs=line.logprobs,
    )
