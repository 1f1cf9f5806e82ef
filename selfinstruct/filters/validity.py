"""Is this a usable instruction? The rules of the lineage, one small function each, in the published order.

Published (Self-Instruct `bootstrap_instructions.py`, Alpaca `generate_instruction.py`): 4 to 150 words; none of the
words that ask for what a text model cannot do; not "Write a program"; first character neither punctuation nor outside
ASCII.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfinstruct.inputs.config import Section
from selfinstruct.records import Draft, Reason, Sample, Verdict
from selfinstruct.text.words import unicode_tokens

BANNED_WORDS = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
    "go to",
)  # fmt: skip


class Settings(Section):
    """What counts as a usable instruction."""

    min_words: Annotated[int, Field(ge=0)] = 4
    """Fewer words are too few (published: 4)."""
    max_words: Annotated[int, Field(ge=1)] = 150
    """More words are too many (published: 150)."""
    words: Literal["spaces", "unicode"] = "spaces"
    """What a word is: what stands between spaces (published), or a word of any script, a character where there are no
    spaces."""
    banned_words: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = BANNED_WORDS
    """Whole words, whatever their capitals, that no instruction may hold; words as `words` says."""
    programs: Literal["any_case", "exact", "allowed"] = "any_case"
    """How "Write a program" at the start is recognised; `exact` as published."""
    start: Literal["ascii", "any_script"] = "ascii"
    """What the first character may be: as published ASCII but no punctuation, or a letter or digit of any script."""

    @model_validator(mode="after")
    def _contradictions(self) -> Settings:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is more than max_words {self.max_words}: nothing would pass")
        return self


Rule = Callable[[str], tuple[Reason, dict[str, str | int]] | None]
"""A rule looks at an instruction and gives the reason to drop it with details, or None."""


class Validity:
    """The filter `validity`; see `Settings`."""

    name = "validity"

    def __init__(self, settings: Settings) -> None:
        self._rules: tuple[Rule, ...] = tuple(_rules(settings))

    def judge(self, draft: Draft) -> Verdict:
        if not draft.instruction:
            return Verdict(filter=self.name, keep=False, reason=Reason.EMPTY_INSTRUCTION)
        for rule in self._rules:
            if (objection := rule(draft.instruction)) is not None:
                return Verdict(filter=self.name, keep=False, reason=objection[0], detail=dict(objection[1]))
        return Verdict(filter=self.name, keep=True)

    def remember(self, sample: Sample) -> None:
        """Nothing: validity does not depend on the pool."""


def open(settings: Settings) -> Validity:
    """The filter for these settings."""
    return Validity(settings)


def _rules(settings: Settings) -> Iterator[Rule]:
    yield _length(settings)
    if settings.banned_words:
        yield _banned(settings.banned_words) if settings.words == "spaces" else _banned_tokens(settings.banned_words)
    if settings.programs != "allowed":
        yield _program(exact=settings.programs == "exact")
    yield _ascii_start if settings.start == "ascii" else _any_script_start


def _length(settings: Settings) -> Rule:
    split: Callable[[str], list[str]] = str.split if settings.words == "spaces" else unicode_tokens

    def rule(instruction: str) -> tuple[Reason, dict[str, str | int]] | None:
        words = len(split(instruction))
        if words < settings.min_words:
            return Reason.TOO_SHORT, {"words": words}
        return (Reason.TOO_LONG, {"words": words}) if words > settings.max_words else None

    return rule


def _banned(words: tuple[str, ...]) -> Rule:
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)

    def rule(instruction: str) -> tuple[Reason, dict[str, str | int]] | None:
        found = pattern.search(instruction)
        return (Reason.BANNED_WORD, {"word": found[0]}) if found else None

    return rule


def _banned_tokens(words: tuple[str, ...]) -> Rule:
    """As `_banned`, for scripts without spaces too, where no word has a boundary that a pattern could see."""
    banned = {f" {' '.join(unicode_tokens(word))} ": word for word in words}

    def rule(instruction: str) -> tuple[Reason, dict[str, str | int]] | None:
        text = f" {' '.join(unicode_tokens(instruction))} "
        found = next((word for tokens, word in banned.items() if tokens.strip() and tokens in text), None)
        return (Reason.BANNED_WORD, {"word": found}) if found else None

    return rule


def _program(*, exact: bool) -> Rule:
    def rule(instruction: str) -> tuple[Reason, dict[str, str | int]] | None:
        opening = instruction[: len("Write a program")]
        found = opening == "Write a program" if exact else opening.casefold() == "write a program"
        return (Reason.ASKS_FOR_PROGRAM, {}) if found else None

    return rule


def _ascii_start(instruction: str) -> tuple[Reason, dict[str, str | int]] | None:
    if instruction[0] in string.punctuation:
        return Reason.STARTS_WITH_PUNCTUATION, {"character": instruction[0]}
    return None if instruction[0].isascii() else (Reason.STARTS_WITH_NON_ASCII, {"character": instruction[0]})


def _any_script_start(instruction: str) -> tuple[Reason, dict[str, str | int]] | None:
    # Spanish opens its questions with a mark of their own; that is writing, not debris.
    usable = unicodedata.category(instruction[0])[0] in "LNM" or instruction[0] in "¿¡"
    return None if usable else (Reason.STARTS_WITH_PUNCTUATION, {"character": instruction[0]})
