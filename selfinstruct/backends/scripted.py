r"""A backend that answers from a file or a function: for tests, documentation, and trying a recipe without a model.

A file is JSON, a list of answers, or JSONL, one a line. An answer is its text, or an object:

    "2. Name a river.\n3. Spell a word."
    {"text": "Yes", "finish_reason": "length"}
    {"when": "Is this a classification task?", "text": "No"}
    {"fault": "server_error", "delay": 0.5}

Answers with `when` are for prompts that contain it; the others are given in order. A JSON file may also be an object,
`{"choose": "cycle", "answers": […]}`: `order` stops the run when the answers are used up, `cycle` begins again, and
`hash` gives the same request the same answer, whenever it is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, Field

from selfinstruct.backends.base import Backend, Notice
from selfinstruct.errors import ConfigError, EndpointError, RateLimited, Refused, SelfInstructError, Transient
from selfinstruct.inputs.config import BackendConfig, build
from selfinstruct.records import Completion, Record, Request

Reply = Completion | str | Exception
Answer = Callable[[Request], Reply | Awaitable[Reply]]
"""What a script is in Python: an exception is raised as a server's fault would be."""


class Line(Record):
    """One answer of a script."""

    text: str = ""
    finish_reason: str = "stop"
    when: str = ""
    """Given only to prompts that contain this."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Seconds to wait before it is given."""
    fault: str = ""
    """The kind of fault to raise instead: `refused` and `rate_limited` as such, any other as worth another attempt."""


class Script(Record):
    """A file of answers."""

    answers: tuple[Line, ...]
    choose: Literal["order", "cycle", "hash"] = "order"


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
        reply = self._answer(request)
        if inspect.isawaitable(reply):
            reply = await reply
        if isinstance(reply, Exception):
            raise reply
        return _completion(reply, request, self.model) if isinstance(reply, str) else reply

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
    yield ScriptedBackend(play(read_script(path), str(path)), model=config.model or "scripted")


def play(script: Script, name: str) -> Answer:
    """The function that answers as a script says; `name` is what messages call it."""
    choose = {"order": _in_order, "cycle": _in_cycles, "hash": _by_hash}[script.choose]
    by_when: dict[str, list[Line]] = {"": []}
    for line in script.answers:
        by_when.setdefault(line.when, []).append(line)
    plain = choose(by_when.pop(""), name)
    among = _by_hash if script.choose == "hash" else _in_cycles
    special = {when: among(lines, name) for when, lines in by_when.items()}

    async def answer(request: Request) -> Reply:
        prompt = prompt_of(request)
        chosen = next((pick for when, pick in special.items() if when in prompt), plain)(request)
        await asyncio.sleep(chosen.delay)
        return _reply(chosen, request)

    return answer


def read_script(path: Path) -> Script:
    """The script in a JSON or JSONL file.

    Raises:
        ConfigError: it cannot be read, or is no script; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"script {path}: cannot be read: {error}") from None
    if path.suffix == ".jsonl":
        return Script(answers=tuple(_lines(text, path)))
    tree = _parsed(text, f"script {path}")
    tree = tree if isinstance(tree, dict) else {"answers": tree}
    if isinstance(tree.get("answers"), list):
        tree["answers"] = [_as_object(entry) for entry in tree["answers"]]
    return _valid(Script, tree, f"script {path}")


def prompt_of(request: Request) -> str:
    """All that a request says, as one text."""
    return request.prompt if request.prompt is not None else "\n".join(turn.content for turn in request.messages)


Pick = Callable[[Request], Line]
Model = TypeVar("Model", bound=BaseModel)


def _lines(text: str, path: Path) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"script {path}: line {number}"
            yield _valid(Line, _as_object(_parsed(line, where)), where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from None


def _as_object(entry: Any) -> Any:
    return {"text": entry} if isinstance(entry, str) else entry


def _valid(model: type[Model], tree: Any, where: str) -> Model:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: an answer is a string or an object, not {type(tree).__name__}")
    return build(model, tree, where=where)


def _in_order(lines: Sequence[Line], name: str) -> Pick:
    left = iter(lines)

    def pick(_: Request) -> Line:
        line = next(left, None)
        if line is None:
            raise EndpointError(f'script {name}: all {len(lines)} answers are given: add more, or "choose": "cycle"')
        return line

    return pick


def _in_cycles(lines: Sequence[Line], name: str) -> Pick:
    turns = itertools.cycle(lines)
    return lambda _: next(turns) if lines else _nothing_fits(name)


def _by_hash(lines: Sequence[Line], name: str) -> Pick:
    def pick(request: Request) -> Line:
        digest = hashlib.sha256(request.model_dump_json().encode()).digest()
        return lines[int.from_bytes(digest[:8], "big") % len(lines)] if lines else _nothing_fits(name)

    return pick


def _nothing_fits(name: str) -> NoReturn:
    raise EndpointError(f"script {name}: no answer fits the prompt: add one without `when`")


def _reply(line: Line, request: Request) -> Reply:
    if line.fault:
        return _fault(line)
    return _completion(line.text, request, "scripted", line.finish_reason)


def _fault(line: Line) -> SelfInstructError:
    message = line.text or "as the script says"
    kinds: dict[str, type[Transient | Refused]] = {"rate_limited": RateLimited, "refused": Refused}
    return kinds.get(line.fault, Transient)(line.fault, message)


def _completion(text: str, request: Request, model: str, finish_reason: str = "stop") -> Completion:
    """An answer with words counted for tokens."""
    return Completion(
        text=text,
        finish_reason=finish_reason,
        model=request.model or model,
        prompt_tokens=len(prompt_of(request).split()),
        completion_tokens=len(text.split()),
    )
