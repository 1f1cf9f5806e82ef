"""Scripts: files of answers, for whatever answers without a model, a sandbox or a tool behind it.

A file is JSON, a list of answers, or JSONL, one a line. An answer is an object, or one text where the rest needs no
saying. What it may hold is its reader's to know; what all have in common is here: `when` it is given, after which
`delay`, and the `fault` that takes its place. A JSON file may also be an object, `{"choose": "cycle", "answers": […]}`:
`order` stops the run when the answers are used up, `cycle` begins again, and `hash` gives the same question the same
answer, whenever it is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, NoReturn, TypeVar

from pydantic import Field

from selfinstruct.errors import ConfigError, EndpointError, RateLimited, Refused, SelfInstructError, Transient
from selfinstruct.inputs.config import build
from selfinstruct.records import Record


class Line(Record):
    """One answer of a script."""

    when: str = ""
    """Given only to questions that contain this; "" to any."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Seconds to wait before it is given."""
    fault: str = ""
    """The kind of fault to raise instead: `refused` and `rate_limited` as such, any other as worth another attempt."""

    plain: ClassVar[str]
    """The field that a text alone stands for."""


SomeLine = TypeVar("SomeLine", bound=Line)
Choose = Literal["order", "cycle", "hash"]


class Script(Record, Generic[SomeLine]):
    """A file of answers."""

    answers: tuple[SomeLine, ...]
    choose: Choose = "order"


SomeScript = TypeVar("SomeScript", bound=Script[Any])
Asked = TypeVar("Asked", bound=Record)
Given = TypeVar("Given")


def read_script(path: Path, kind: type[SomeScript], line: type[Line]) -> SomeScript:
    """The script in a JSON or JSONL file.

    Args:
        kind: what the file as a whole is.
        line: what one answer in it is.

    Raises:
        ConfigError: it cannot be read, or is no script; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"script {path}: cannot be read: {error}") from None
    if path.suffix == ".jsonl":
        return kind(answers=tuple(_lines(text, path, line)))
    tree = _parsed(text, f"script {path}")
    tree = tree if isinstance(tree, dict) else {"answers": tree}
    if isinstance(tree.get("answers"), list):
        tree["answers"] = [_as_object(entry, line) for entry in tree["answers"]]
    return build(kind, tree, where=f"script {path}")


def play(
    lines: Sequence[SomeLine],
    choose: Choose,
    name: str,
    *,
    said: Callable[[Asked], str],
    given: Callable[[SomeLine, Asked], Given],
) -> Callable[[Asked], Awaitable[Given | SelfInstructError]]:
    """The function that answers as a script says.

    Args:
        lines: the answers; those with `when` are given round and round, the others as `choose` says.
        choose: see `Script`.
        name: what messages call the script.
        said: the text of a question, in which `when` is looked for.
        given: the answer that a line stands for.
    """
    by_when: dict[str, list[SomeLine]] = {"": []}
    for line in lines:
        by_when.setdefault(line.when, []).append(line)
    picks = {"order": _in_order, "cycle": _in_cycles, "hash": _by_hash}
    plain = picks[choose](by_when.pop(""), name)
    among = _by_hash if choose == "hash" else _in_cycles
    special = {when: among(some, name) for when, some in by_when.items()}

    async def answer(question: Asked) -> Given | SelfInstructError:
        text = said(question)
        chosen = next((pick for when, pick in special.items() if when in text), plain)(question)
        await asyncio.sleep(chosen.delay)
        return _fault(chosen) if chosen.fault else given(chosen, question)

    return answer


async def outcome(reply: Given | Exception | Awaitable[Given | Exception]) -> Given:
    """What a function that plays a part returned, waited for; an exception among it is raised."""
    came: Any = await reply if inspect.isawaitable(reply) else reply
    if isinstance(came, Exception):
        raise came
    answer: Given = came
    return answer


def _lines(text: str, path: Path, line: type[SomeLine]) -> Iterator[SomeLine]:
    for number, written in enumerate(text.split("\n"), start=1):
        if written.strip():
            where = f"script {path}: line {number}"
            entry = _as_object(_parsed(written, where), line)
            if not isinstance(entry, dict):
                raise ConfigError(f"{where}: an answer is a string or an object, not {type(entry).__name__}")
            yield build(line, entry, where=where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from None


def _as_object(entry: Any, line: type[Line]) -> Any:
    return {line.plain: entry} if isinstance(entry, str) else entry


def _in_order(lines: Sequence[SomeLine], name: str) -> Callable[[Record], SomeLine]:
    left = iter(lines)

    def pick(_: Record) -> SomeLine:
        line = next(left, None)
        if line is None:
            raise EndpointError(f'script {name}: all {len(lines)} answers are given: add more, or "choose": "cycle"')
        return line

    return pick


def _in_cycles(lines: Sequence[SomeLine], name: str) -> Callable[[Record], SomeLine]:
    turns = itertools.cycle(lines)
    return lambda _: next(turns) if lines else _nothing_fits(name)


def _by_hash(lines: Sequence[SomeLine], name: str) -> Callable[[Record], SomeLine]:
    def pick(question: Record) -> SomeLine:
        digest = hashlib.sha256(question.model_dump_json().encode()).digest()
        return lines[int.from_bytes(digest[:8], "big") % len(lines)] if lines else _nothing_fits(name)

    return pick


def _nothing_fits(name: str) -> NoReturn:
    raise EndpointError(f"script {name}: no answer fits the question: add one without `when`")


def _fault(line: Line) -> SelfInstructError:
    message = getattr(line, line.plain) or "as the script says"
    kinds: dict[str, type[Transient | Refused]] = {"rate_limited": RateLimited, "refused": Refused}
    return kinds.get(line.fault, Transient)(line.fault, message)
