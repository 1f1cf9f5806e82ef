"""A model's text to fields: pure functions that never guess.

What cannot be read is returned as a `Piece` with its flaw, so that nothing a model wrote goes missing without a reason.
Each function has the published behaviour (Self-Instruct, Alpaca: docs/recipes.md) and, by switch, ours.

No two parts of a pattern that stand side by side can match the same character, so that each takes time in proportion to
the text, whatever a model wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from selfinstruct.records import Instance, Reason
from selfinstruct.text.words import storable


class Piece(NamedTuple):
    """One item read from an answer: its text, and what is wrong with it if anything is."""

    text: str
    flaw: Reason | None = None


class Triple(NamedTuple):
    """One Alpaca task read from an answer; with a flaw, `instruction` holds the task as it was written."""

    instruction: str
    input: str = ""
    output: str = ""
    flaw: Reason | None = None
    recovered: bool = False
    """Whether its number was not the one expected and was read all the same."""


# -- lists of instructions --------------------------------------------------------------------------------------------

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


def numbered_instructions(text: str, *, truncated: bool, opened: bool, keep_before_truncation: bool) -> list[Piece]:
    """Instructions from a numbered list.

    Args:
        opened: the prompt ended in a number, so the text before the first number is an item and not a preamble.
        keep_before_truncation: an answer that was cut loses its last item only.
    """
    first, *rest = _NUMBER.split(text)
    pieces = [piece for piece in (_tidy(p) for p in ([first, *rest] if opened else rest)) if piece]
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


# -- yes or no --------------------------------------------------------------------------------------------------------


def published_yes(text: str) -> bool:
    """Whether Self-Instruct reads the answer as yes: exactly Yes, yes or YES; all else is no."""
    return text.strip() in ("Yes", "yes", "YES")


def is_yes(text: str) -> bool:
    """Whether the first word of the answer is yes, whatever its capitals and what follows."""
    return re.match(r"\W*yes\b", text, re.IGNORECASE) is not None


# -- evolved tasks ----------------------------------------------------------------------------------------------------

_HEADING = re.compile(
    r"\A[#*\s]*(?:(?:rewritten|revised|evolved|created|inspired|harder|sister|other|new)\s+)?(?:task|prompt|instruction)"
    r"[ \t]*(?:[#*]*[ \t]*:[#*]*|[#*]+[ \t]*$)\s*",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"\A```(?:text|txt|markdown|plaintext)?[ \t]*\n(.*)\n```\Z", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "«": "»"}
_BETWEEN = r"[\s\-*_:\"'“”‘’]"
_NOT_EQUAL = re.compile(
    rf"(?:\b(?:can)?not|\bnever|n[’'′]t)(?:{_BETWEEN}++[^\W_]++){{0,3}}?{_BETWEEN}*+equal"
    r"|\b(?:un|in|non-?)equal"
    r"|\bequal\b[\"'”*]*+\s*+[:=?]\s*+[\"'“*]*+(?:no|false)\b",
    re.IGNORECASE,
)
"""A denial at most three words before "equal", whatever marks stand between; or "equal", answered with no."""
_EQUAL = re.compile(r"\bequal\b", re.IGNORECASE)


def without_wrapping(text: str) -> str:
    """A task without what a chat model puts around it: a heading, a fence, quotes around the whole."""
    text = _HEADING.sub("", text.strip(), count=1).strip()
    if (fenced := _FENCE.match(text)) and "```" not in fenced[1]:
        text = fenced[1].strip()
    closing = _QUOTES.get(text[:1])
    if closing and text.endswith(closing) and not {text[0], closing} & set(text[1:-1]) and len(text) > 2:
        text = text[1:-1].strip()
    return text


def equality(text: str) -> str:
    """What a judge of equality said: `equal`, `not_equal`, or `unclear`.

    "Not equal" is looked for first, for "equal" stands in it.
    """
    found = json_object(text) or {}
    if isinstance(found.get("equal"), bool):
        return "equal" if found["equal"] else "not_equal"
    if _NOT_EQUAL.search(text):
        return "not_equal"
    return "equal" if _EQUAL.search(text) else "unclear"


# -- instances --------------------------------------------------------------------------------------------------------

_PUBLISHED_EXAMPLE = re.compile(r"Example\s?\d*\.?")
_PUBLISHED_OUTPUT = re.compile(r"Output\s*(?:\d+\s*)?:")
_PUBLISHED_INPUT = re.compile(r"Input\s*(?:\d+\s*)?:")
_PUBLISHED_LABEL = re.compile(r"Class label:")
_EXAMPLE = re.compile(r"^[ \t*#]*Example(?:[ \t]?\d+[ \t*]*(?:[.:)][ \t*]*|$)|[.:]?[ \t*]*$)", re.MULTILINE)
_OUTPUT = re.compile(r"^[ \t*]*Output[ \t]*(?:\d+[ \t]*)?:[*]*", re.MULTILINE)
_INPUT = re.compile(r"^[ \t*]*Input[ \t]*(?:\d+[ \t]*)?:[*]*", re.MULTILINE)
_LABEL = re.compile(r"^[ \t*]*Class label[ \t]*:[*]*", re.MULTILINE)
_NO_INPUT = frozenset(
    {"<noinput>", "noinput", "no input", "none", "n/a", "na", "-", "(none)", "(no input)", "no input needed"}
)


def input_first(text: str, *, anchored: bool, opened: bool = True) -> list[Instance]:
    """Instances of a task that is no classification (Self-Instruct, `Example`, `Input:`, `Output:`).

    Args:
        anchored: markers count only at the start of a line. As published they count anywhere, so that the word
            "Examples" inside an output splits it.
        opened: the answer continues the prompt, so the text before the first marker belongs to an instance and is
            no preamble.

    Returns:
        the instances in order, unchecked; none when no marker is found.
    """
    example, output = (_EXAMPLE, _OUTPUT) if anchored else (_PUBLISHED_EXAMPLE, _PUBLISHED_OUTPUT)
    text = text.strip()
    if example.search(text):
        first, *rest = example.split(text)
        blocks = [first, *rest] if opened or output.search(first) else rest
    elif output.search(text):
        blocks = [text]
    else:
        blocks = []
    return [_input_output(block.strip(), anchored=anchored, opened=opened) for block in blocks if block.strip()]


def _input_output(block: str, *, anchored: bool, opened: bool) -> Instance:
    """Text before the first `Output:` and after it, up to a following `Input:`; all is output when there is none."""
    output_mark, input_mark = (_OUTPUT, _INPUT) if anchored else (_PUBLISHED_OUTPUT, _PUBLISHED_INPUT)
    parts = output_mark.split(block, maxsplit=2)
    given, made = ("", block) if len(parts) == 1 else (parts[0].strip(), parts[1].strip())
    made = input_mark.split(made, maxsplit=1)[0].strip()
    opening = input_mark.match(given) if opened else input_mark.search(given)
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
        given = rest.strip()
        if anchored and (opening := _INPUT.match(given)):
            given = given[opening.end() :].strip()
        instances.append(Instance(input=given, output=label.strip()))
    return instances


def without_noinput(given: str, *, published: bool = False) -> str:
    """An input as it is meant: "" for `<noinput>` and, unless only what is published counts, for `N/A` or `None`."""
    said = given.strip().lower()
    return "" if said == "<noinput>" or (not published and said in _NO_INPUT) else given


# -- whole tasks ------------------------------------------------------------------------------------------------------


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
        # A piece without its number needs no pattern made for it, of which an answer of a megabyte has many.
        marked = piece.count(f"{number}.") >= 3
        parts = re.split(rf"{number}\.\s+(Instruction|Input|Output):", piece) if marked else []
        if len(parts) != 7:
            triples.append(Triple(piece.strip(), flaw=Reason.NUMBERING_SLIP))
            continue
        given = without_noinput(parts[4].strip(), published=True)
        triples.append(Triple(parts[2].strip(), given, parts[6].strip()))
    return triples


_FIELDS = re.compile(
    r"^[ \t*#]*(?:(?P<number>\d+)[ \t]*(?:[.)*][ \t*]*)?)?(?P<name>Instruction|Input|Output)[ \t]*:[*]*",
    re.MULTILINE | re.IGNORECASE,
)


def triples(text: str, *, first: int, truncated: bool, opened: bool) -> list[Triple]:
    """Tasks read by their field names, whatever their numbers: a slip costs nothing, `###` inside an output neither.

    Each `Instruction:` begins a task, and the first `Input:` and `Output:` after it are its fields; further ones are
    text, such as an output that shows what a program reads and prints.

    Args:
        first: the number expected of the first task.
        opened: the prompt ended in `<first>. Instruction:`.
    """
    if opened:
        text = f"{first}. Instruction:{text}"
    starts = [mark.start() for mark in _FIELDS.finditer(text) if _name(mark) == "instruction"]
    read = []
    for number, (start, end) in enumerate(pairwise([*starts, len(text)]), start=first):
        lost = truncated and end == len(text)
        whole = text[start:end]
        read.append(Triple(_ended(whole), flaw=Reason.TRUNCATED) if lost else _triple(whole, expected=number))
    return read


def _triple(text: str, *, expected: int) -> Triple:
    """One task; `text` begins with its `Instruction:`."""
    found: dict[str, re.Match[str]] = {}
    for mark in _FIELDS.finditer(text):
        found.setdefault(_name(mark), mark)
    if "output" not in found:
        return Triple(_ended(text), flaw=Reason.UNPARSEABLE)
    ends = [*(mark.start() for mark in list(found.values())[1:]), len(text)]
    body = {name: _ended(text[mark.end() : end]) for (name, mark), end in zip(found.items(), ends, strict=True)}
    number = found["instruction"]["number"]
    return Triple(
        _SPACE.sub(" ", body["instruction"]),
        body.get("input", ""),
        body["output"],
        recovered=number is None or number.lstrip("0") != str(expected),
    )


def _name(mark: re.Match[str]) -> str:
    return mark["name"].lower()


def _ended(body: str) -> str:
    """A field's text without the `###` that closes its task."""
    body = body.strip()
    above, _, last = body.rpartition("\n")
    return above.rstrip() if len(last.strip()) >= 3 and not last.strip().strip("#") else body


# -- JSON -------------------------------------------------------------------------------------------------------------


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in an answer, inside a code fence or not; None when there is none."""
    for start in _braces(text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            # An escape can stand for half a surrogate pair, which no file and no server takes.
            return dict(json.loads(storable(json.dumps(value, ensure_ascii=False)))) if "\\u" in text else value
    return None


def json_text(value: Any) -> str:
    """A field of a JSON answer as text: null is "", and what should have been text is shown as it was written."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _braces(text: str, most: int = 8) -> Iterator[int]:
    """Where an object may begin: the first few braces, so that a long text of braces costs little."""
    start = text.find("{")
    while start >= 0 and most:
        yield start
        start, most = text.find("{", start + 1), most - 1
