"""A model's text taken apart: what it thought, and what it said.

Some servers hand out thoughts in a field of their own. Others leave them in the text, between marks, and often the
first of these is missing, because the chat template had already written it. A mark may also be *meant*, in an answer
about HTML or about models that think: one that stands in code, in quotes or in the middle of a sentence marks nothing.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

from selfinstruct.records import ReasoningFrom


class Marks(NamedTuple):
    """What thoughts stand between, in each way in which one kind of model writes it; case makes no difference."""

    opening: tuple[str, ...]
    closing: tuple[str, ...]


def tag(name: str) -> Marks:
    """The marks that look like an element of HTML."""
    return Marks((f"<{name}>",), (f"</{name}>",))


_ANALYSIS, _FINAL = (f"<|channel|>{name}<|message|>" for name in ("analysis", "final"))

MARKS: tuple[Marks, ...] = (
    *map(tag, ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think")),
    Marks(("[THINK]",), ("[/THINK]",)),  # Magistral
    Marks(("◁think▷",), ("◁/think▷",)),  # Kimi
    Marks(("<|begin_of_thought|>",), ("<|end_of_thought|>",)),  # OpenThinker, Sky-T1
    Marks(("<|START_THINKING|>",), ("<|END_THINKING|>",)),  # Command A
    Marks(  # gpt-oss: all that comes before its final channel
        (_ANALYSIS, f"<|start|>assistant{_ANALYSIS}"),
        (_FINAL, f"<|start|>assistant{_FINAL}", f"<|end|><|start|>assistant{_FINAL}"),
    ),
)
"""The marks that are known."""


class Split(NamedTuple):
    """A text in its parts: `marks[0] + reasoning + marks[1] + text + tail` is the text as it was."""

    reasoning: str
    text: str
    where: ReasoningFrom = ""
    """`tags`, `closing_tag` or `open_tag`; "" where nothing is thought."""
    marks: tuple[str, str] = ("", "")
    """What stood before and after the thoughts."""
    tail: str = ""
    """What stood after the answer: thoughts again, with their marks."""


def split(text: str, marks: tuple[Marks, ...] = MARKS, *, thinks: bool = False) -> Split:
    r"""The thoughts in a text and the answer, neither of them changed.

    Thoughts stand at its beginning, between an opening mark and its closing one, or before a closing mark that nothing
    has opened. Several in a row are taken together. After an opening mark that is never closed, all is thought.

    A model that has thought may think again: what stands between marks on lines of their own is no part of the answer
    either. The answer is then what follows the last thoughts, or, where nothing does, what stands before them.

        >>> split("<think>Easy.</think>\n\nFour.")
        Split(reasoning='Easy.', text='\n\nFour.', where='tags', marks=('<think>', '</think>'), tail='')

    Args:
        thinks: whether the model is known to think, as where its server told thoughts beside the text.
    """
    if not _any(marks).search(text):
        return Split("", text)
    found = _found(text, marks)
    last, unclosed = _bounds(text, found)
    begin = found[0].end if found and found[0].opens and found[0].start == _next_word(text, 0) else 0
    if unclosed:
        return Split(text[begin:], "", "open_tag", (text[:begin], ""))
    tail = len(text)
    if last or thinks:
        last, tail = _again(text, found, last)
    if not last:
        return Split("", text) if tail == len(text) else Split("", text[:tail], "tags", tail=text[tail:])
    marked = (text[:begin], text[last.start : last.end])
    where: ReasoningFrom = "tags" if begin else "closing_tag"
    return Split(text[begin : last.start], text[last.end : tail], where, marked, text[tail:])


class _Mark(NamedTuple):
    start: int
    end: int
    kind: int
    """Its place in the table."""
    opens: bool
    doubtful: bool
    """Whether it may be meant: then it does no more than close what a mark beyond doubt has opened."""


def _bounds(text: str, found: Sequence[_Mark]) -> tuple[_Mark | None, bool]:
    """The closing mark that thoughts end with, and whether an opening one after it is never closed."""
    last = thinking = None
    beginning = _next_word(text, 0)
    held = Counter[int]()
    for mark in found:
        if thinking:
            if mark.kind == thinking.kind and not mark.opens:
                last, thinking, beginning = mark, None, _next_word(text, mark.end)
        elif mark.opens and mark.start == beginning:
            thinking = mark
        elif not mark.doubtful and (mark.opens or held[mark.kind]):
            held[mark.kind] += 1 if mark.opens else -1
        elif not mark.doubtful:
            last, beginning = mark, _next_word(text, mark.end)
    return last, thinking is not None


def _again(text: str, found: Sequence[_Mark], last: _Mark | None) -> tuple[_Mark | None, int]:
    """The closing mark that the answer follows, and where the answer ends, of a text that goes on after `last`."""
    thinking, tail = None, len(text)
    for mark in found[found.index(last) + 1 if last else 0 :]:
        if thinking is None and mark.opens and not mark.doubtful and _begins_line(text, mark.start):
            thinking = mark
        elif thinking and mark.kind == thinking.kind and not mark.opens:
            last, tail = (mark, tail) if _next_word(text, mark.end) < len(text) else (last, thinking.start)
            thinking = None
    return last, thinking.start if thinking else tail


def _begins_line(text: str, place: int) -> bool:
    return not text[text.rfind("\n", 0, place) + 1 : place].strip()


def _found(text: str, marks: tuple[Marks, ...]) -> list[_Mark]:
    """The marks in a text, but for those in quotes and in code within a line."""
    words, fenced, found = _words(marks), deque(_fenced(text)), list[_Mark]()
    for token in _code_or_mark(marks).finditer(text):
        start, end = token.span()
        if token.lastgroup is None or _in_quotes(text, start, end):
            continue
        while fenced and fenced[0].stop <= start:
            fenced.popleft()
        _, kind, opens = words[int(token.lastgroup[1:])]
        in_code = bool(fenced) and start in fenced[0]
        found.append(_Mark(start, end, kind, opens, in_code or _in_sentence(text, start, end)))
    return found


def _in_quotes(text: str, start: int, end: int) -> bool:
    """Whether quotes open right before a mark and close right after it; in `"Yes"</mark>"Yes"` they do not."""
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    if before and before in "\"'":
        return before == after and (start == 1 or text[start - 2] in " \t\n([{=,:")
    return bool(before and after) and before in "“‘«„「『（《([" and after in "“”’»」』）》)]"


def _in_sentence(text: str, start: int, end: int) -> bool:
    """Whether a sentence runs on over a mark: a word or a bullet stands before it, and no new sentence after it."""
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    word = before[1:] == " " and (before[0].isalnum() or before[0] in "_,*•-")
    return word and (after[:1] in tuple(",.;:?!)") or (after[:1] == " " and after[1:].islower()))


def _fenced(text: str) -> Iterator[range]:
    """The blocks of code in a text. A fence that is never closed makes none: thoughts break off."""
    if "```" not in text and "~~~" not in text:
        return
    fence, start = "", 0
    for line in _FENCE.finditer(text):
        if fence and line["fence"].startswith(fence) and not line["info"].strip():
            yield range(start, line.end())
            fence = ""
        elif line["fence"].startswith(fence):
            fence, start = line["fence"], line.start()


_SPACE = re.compile(r"\s*")
_FENCE = re.compile(r"^[ \t]*+(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$", re.MULTILINE)


def _next_word(text: str, place: int) -> int:
    """Where the first character stands that is no white space."""
    space = _SPACE.match(text, place)
    assert space
    return space.end()


class _Word(NamedTuple):
    """One spelling of a mark."""

    spelling: str
    kind: int
    opens: bool


@cache
def _words(marks: tuple[Marks, ...]) -> list[_Word]:
    """Every spelling there is, those with the same first character together, and the longer of two first."""
    words = [
        _Word(spelling, kind, opens)
        for kind, (opening, closing) in enumerate(marks)
        for spellings, opens in ((opening, True), (closing, False))
        for spelling in spellings
    ]
    return sorted(words, key=lambda word: (word.spelling[0], -len(word.spelling)))


@cache
def _any(marks: tuple[Marks, ...]) -> re.Pattern[str]:
    return re.compile(_one_of(marks))


@cache
def _code_or_mark(marks: tuple[Marks, ...]) -> re.Pattern[str]:
    """A piece of code within a line, or a mark."""
    return re.compile(f"`[^`\n]+`|{_one_of(marks)}")


def _one_of(marks: tuple[Marks, ...]) -> str:
    """A pattern for all marks, with a group for each of `_words`.

    First characters stand before what takes either case: `re` then looks for them alone, which is ten times as fast.
    """
    numbered = enumerate(_words(marks))
    heads = groupby(numbered, key=lambda one: one[1].spelling[0])
    return "|".join(
        _beginning(head, [(f"m{number}", word.spelling[1:]) for number, word in some]) for head, some in heads
    )


def _beginning(head: str, tails: Sequence[tuple[str, str]]) -> str:
    first = re.escape(head) if head.lower() == head.upper() else f"[{head.lower()}{head.upper()}]"
    return f"{first}(?i:{'|'.join(f'(?P<{name}>{re.escape(tail)})' for name, tail in tails)})"
