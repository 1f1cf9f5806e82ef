"""A model's text to fields: pure functions that never guess.

What cannot be read is returned as a `Piece` with its flaw, so that nothing a model wrote goes missing without a reason.
Each function has the published behaviour (Self-Instruct, Alpaca: `reference` in docs/recipes.md) and, by switch, ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from selfinstruct.records import Instance, Reason


class Piece(NamedTuple):
    """One item read from an answer: its text, and what is wrong with it if anything is."""

    text: str
    flaw: Reason | None = None


class Triple(NamedTuple):
    """One Alpaca task read from an answer; with a flaw, `instruction` holds the raw text."""

    instruction: str
    input: str = ""
    output: str = ""
    flaw: Reason | None = None
    recovered: bool = False
    """Whether its number was not the one expected and was read all the same."""


# -- lists of instructions
# -----------------------------------------------------------------------------------------------

_PUBLISHED_NUMBER = re.compile(r"\n\d+\s?\. ")
_NUMBER = re.compile(
    r"^[ \t]*(?:[*_#]{1,3}[ \t]*)?(?:Task[ \t]+)?\d+[ \t]?[.):](?:[*_]{1,2})?(?:[ \t]+|$)", re.MULTILINE | re.IGNORECASE
)
_THINKING = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)\s*", re.DOTALL)
_SPACE = re.compile(r"\s+")


def published_instructions(text: str, *, truncated: bool) -> list[Piece]:
    """Instructions as Self-Instruct reads them from a continuation of `9.`.

    A truncated answer is lost whole; each item loses its line breaks and, by `capitalize`, all capitals but the first.
    """
    pieces = (_SPACE.sub(" ", piece).strip().capitalize() for piece in _PUBLISHED_NUMBER.split(text))
    return [Piece(piece, Reason.TRUNCATED if truncated else None) for piece in pieces]


def numbered_instructions(
    text: str, *, truncated: bool, opened: bool, keep_before_truncation: bool, keep_capitals: bool
) -> list[Piece]:
    """Instructions from a numbered list.

    Args:
        opened: the prompt ended in a number, so the text before the first number is an item and not a preamble.
        keep_before_truncation: an answer that was cut loses its last item only.
        keep_capitals: leave capitals as they are.
    """
    first, *rest = _NUMBER.split(text)
    pieces = [piece for piece in (_tidy(p) for p in ([first, *rest] if opened else rest)) if piece]
    if not keep_capitals:
        pieces = [piece.capitalize() for piece in pieces]
    lost = slice(-1, None) if keep_before_truncation else slice(None)
    cut = set(range(len(pieces))[lost]) if truncated else set()
    return [Piece(piece, Reason.TRUNCATED if i in cut else None) for i, piece in enumerate(pieces)]


def _tidy(text: str) -> str:
    """One line, without the emphasis that chat models put around list items."""
    line = _SPACE.sub(" ", text).strip()
    for mark in ("**", "__"):
        if line.startswith(mark) and line.endswith(mark) and len(line) > 2 * len(mark):
            line = line[2:-2].strip()
    return line


def without_thinking(text: str) -> str:
    """The answer after a `<think>…</think>` block that a reasoning model put before it."""
    return _THINKING.sub("", text, count=1)


# -- yes or no
# ---------------------------------------------------------------------------------------------------------------


def published_yes(text: str) -> bool:
    """Whether Self-Instruct reads the answer as yes: exactly Yes, yes or YES; all else is no."""
    return text.strip() in ("Yes", "yes", "YES")


def is_yes(text: str) -> bool:
    """Whether the first word of the answer is yes, whatever its capitals and what follows."""
    return re.match(r"\W*yes\b", text, re.IGNORECASE) is not None


# -- instances
# ---------------------------------------------------------------------------------------------------------------

_PUBLISHED_EXAMPLE = re.compile(r"Example\s?\d*\.?")
_PUBLISHED_OUTPUT = re.compile(r"Output\s*\d*\s*:")
_PUBLISHED_INPUT = re.compile(r"Input\s*\d*\s*:")
_EXAMPLE = re.compile(r"^[ \t*#]*Example[ \t]?\d*[.:]?[ \t*]*$", re.MULTILINE)
_OUTPUT = re.compile(r"^[ \t*]*Output[ \t]*\d*[ \t]*:[*]*", re.MULTILINE)
_INPUT = re.compile(r"^[ \t*]*Input[ \t]*\d*[ \t]*:[*]*", re.MULTILINE)
_PUBLISHED_LABEL = re.compile(r"Class label:")
_LABEL = re.compile(r"^[ \t*]*Class label[ \t]*:[*]*", re.MULTILINE)
_FIELD = re.compile(r"\A[ \t*]*Input[ \t]*\d*[ \t]*:[*]*", re.MULTILINE)
_NO_INPUT = frozenset(
    {"<noinput>", "noinput", "no input", "none", "n/a", "na", "-", "(none)", "(no input)", "no input needed"}
)


def input_first(text: str, *, anchored: bool) -> list[Instance]:
    """Instances of a task that is no classification (Self-Instruct, `Example`, `Input:`, `Output:`).

    Args:
        anchored: markers count only at the start of a line. As published they count anywhere, so that the word
            "Examples" inside an output splits it.

    Returns:
        the instances in order, unchecked; none when no marker is found.
    """
    example, output = (_EXAMPLE, _OUTPUT) if anchored else (_PUBLISHED_EXAMPLE, _PUBLISHED_OUTPUT)
    text = text.strip()
    if example.search(text):
        blocks = [block.strip() for block in example.split(text) if block.strip()]
    elif output.search(text):
        blocks = [text]
    else:
        blocks = []
    return [_input_output(block, anchored=anchored) for block in blocks]


def _input_output(block: str, *, anchored: bool) -> Instance:
    """Text before the first `Output:` and after it, up to a following `Input:`; all is output when there is none."""
    output_mark, input_mark = (_OUTPUT, _INPUT) if anchored else (_PUBLISHED_OUTPUT, _PUBLISHED_INPUT)
    parts = output_mark.split(block)
    given, made = ("", block.strip()) if len(parts) == 1 else (parts[0].strip(), parts[1].strip())
    made = input_mark.split(made)[0].strip()
    opening = input_mark.match(given)
    return Instance(input=(given[opening.end() :] if opening else given).strip(), output=made)


def output_first(text: str, *, anchored: bool) -> list[Instance]:
    """Instances of a classification task (Self-Instruct, `Class label:`, then the input that deserves it).

    The first line after the mark is the label, the rest the input. With `anchored`, marks count at line starts only and
    a leading `Input:` is no part of the input.
    """
    blocks = (_LABEL if anchored else _PUBLISHED_LABEL).split(text)[1:]
    instances = []
    for block in blocks:
        label, _, rest = block.strip().partition("\n")
        given = _FIELD.sub("", rest.strip(), count=1) if anchored else rest
        instances.append(Instance(input=given.strip(), output=label.strip()))
    return instances


def without_noinput(instance: Instance) -> Instance:
    """The instance with an input such as `<noinput>`, `N/A` or `None` taken for what it means: no input."""
    if instance.input.strip().lower() in _NO_INPUT:
        return Instance(input="", output=instance.output)
    return instance


# -- whole tasks
# ---------------------------------------------------------------------------------------------------------------


def published_triples(text: str, *, first: int, truncated: bool) -> list[Triple]:
    """Tasks as Alpaca reads them from a continuation of `<first>. Instruction:`.

    Pieces between `###` are numbered by their position; one that does not carry its number is lost, and so is all
    after a slip. Of a truncated answer the last piece is lost.
    """
    pieces = f"{first}. Instruction:{text}".split("###")
    triples = []
    for number, piece in enumerate(pieces, start=first):
        if truncated and number == first + len(pieces) - 1:
            triples.append(Triple(piece.strip(), flaw=Reason.TRUNCATED))
            continue
        parts = re.split(rf"{number}\.\s+(Instruction|Input|Output):", piece)
        if len(parts) != 7:
            triples.append(Triple(piece.strip(), flaw=Reason.NUMBERING_SLIP))
            continue
        given = parts[4].strip()
        triples.append(Triple(parts[2].strip(), "" if given.lower() == "<noinput>" else given, parts[6].strip()))
    return triples


_FIELDS = re.compile(
    r"^[ \t*#]*(\d+)?[ \t]*[.)]?[ \t*]*(Instruction|Input|Output)[ \t]*:[*]*", re.MULTILINE | re.IGNORECASE
)


def triples(text: str, *, first: int, truncated: bool, opened: bool) -> list[Triple]:
    """Tasks read by their field names, whatever their numbers: a slip costs nothing, `###` inside an output neither.

    Args:
        first: the number expected of the first task.
        opened: the prompt ended in `<first>. Instruction:`.
    """
    if opened:
        text = f"{first}. Instruction:{text}"
    _, *parts = _FIELDS.split(text)
    fields = [
        (number, name.capitalize(), body)
        for number, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]
    starts = [i for i, (_, name, _) in enumerate(fields) if name == "Instruction"]
    found = [fields[a:b] for a, b in zip(starts, [*starts[1:], len(fields)], strict=True)]
    read = [_triple(group, expected=first + i) for i, group in enumerate(found)]
    if truncated and read:
        read[-1] = Triple(read[-1].instruction, flaw=Reason.TRUNCATED)
    return read


def _triple(fields: list[tuple[str | None, str, str]], *, expected: int) -> Triple:
    number, _, instruction = fields[0]
    named = {name: body for _, name, body in reversed(fields)}
    if "Output" not in named:
        return Triple(_ended(instruction), flaw=Reason.UNPARSEABLE)
    return Triple(
        _SPACE.sub(" ", _ended(instruction)),
        _ended(named.get("Input", "")),
        _ended(named["Output"]),
        recovered=number is None or int(number) != expected,
    )


def _ended(body: str) -> str:
    """A field's text without the `###` that closes its task."""
    return re.sub(r"(?:\A|\n)[ \t]*#{3,}\Z", "", body.rstrip()).strip()


# -- JSON
# ----------------------------------------------------------------------------------------------------------------------


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in an answer, inside a code fence or not; None when there is none."""
    for start in _braces(text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _braces(text: str, most: int = 8) -> Iterator[int]:
    """Where an object may begin: the first few braces, so that a long text of braces costs little."""
    start = text.find("{")
    while start >= 0 and most:
        yield start
        start, most = text.find("{", start + 1), most - 1
