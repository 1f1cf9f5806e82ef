"""What the published code decides, told again from its description: the oracle for `strict = true`.

Nothing here is shared with the package, and ROUGE is scored by `rouge_score` itself.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

from rouge_score.rouge_scorer import RougeScorer

Case = tuple[str, str]
"""Input and output of one instance."""

BANNED = ["image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot"]
BANNED += ["go to"]
BANNED_BY_ALPACA = [*BANNED, "video", "audio", "music", "flowchart", "diagram"]
_ROUGE = RougeScorer(["rougeL"], use_stemmer=False)


def usable(instruction: str, banned: Iterable[str]) -> bool:
    """Four to 150 words, none banned, not "Write a program", and an ASCII character that is no punctuation first."""
    words = len(instruction.split())
    if words < 4 or words > 150:
        return False
    for word in banned:
        if re.search(rf"\b{word}\b", instruction, re.IGNORECASE):
            return False
    first = instruction[0]
    return not instruction.startswith("Write a program") and first not in string.punctuation and ord(first) < 128


def unlike(instruction: str, pool: Sequence[str]) -> bool:
    """No text of the pool is more than 0.7 like it."""
    return all(_ROUGE.score(instruction, other)["rougeL"].fmeasure <= 0.7 for other in pool)


def new_instructions(text: str, finish_reason: str, pool: Sequence[str]) -> list[str]:
    """Self-Instruct, stage 1: what joins the pool, in order."""
    if finish_reason == "length":
        return []
    grown, joined = list(pool), []
    for item in re.split("\n[0-9]+\\s?[.] ", _ascii_numbers(text)):
        instruction = " ".join(item.split()).capitalize()
        if instruction and usable(instruction, BANNED) and unlike(instruction, grown):
            grown.append(instruction)
            joined.append(instruction)
    return joined


def _ascii_numbers(text: str) -> str:
    """Digits of every script count as numbers to a regular expression."""
    return re.sub(r"(?<=\n)\d+(?=\s?\. )", "0", text)


def is_classification(text: str) -> bool:
    """Self-Instruct, stage 2."""
    return text.strip() in {"Yes", "yes", "YES"}


def cases(text: str, finish_reason: str, *, classification: bool) -> set[Case]:
    """Self-Instruct, stages 3 and 4: the instances of one task before the draw of at most five."""
    found = _labelled(text) if classification else _worked(text)
    if finish_reason == "length":
        found = found[:-1]
    valid = [
        (given, made)
        for given, made in found
        if given != made and made and not given.endswith(":") and not made.endswith(":")
    ]
    for given, made in valid:
        if given and any(other == given and answer != made for other, answer in valid):
            return set()
    return set(valid)


def _labelled(text: str) -> list[Case]:
    found = []
    for part in text.split("Class label:")[1:]:
        label, _, rest = part.strip().partition("\n")
        found.append((rest.strip(), label.strip()))
    return found


def _worked(text: str) -> list[Case]:
    text = text.strip()
    if "Example" in text:
        return [_case(part.strip()) for part in re.split(r"Example\s?\d*\.?", text) if part.strip()]
    return [_case(text)] if re.search(r"Output\s*\d*\s*:", text) else []


def _case(text: str) -> Case:
    before, *after = re.split(r"Output\s*\d*\s*:", text)
    given, made = (before.strip(), after[0].strip()) if after else ("", text)
    made = re.split(r"Input\s*\d*\s*:", made)[0].strip()
    if field := re.match(r"Input\s*\d*\s*:", given):
        given = given[field.end() :].strip()
    return given, made


def new_tasks(text: str, finish_reason: str, shown: int, pool: Sequence[str]) -> list[tuple[str, str, str]]:
    """Alpaca: what joins the pool, in order, as (instruction, input, output)."""
    grown, joined = list(pool), []
    parts = f"{shown + 1}. Instruction:{text}".split("###")
    if finish_reason == "length":
        parts.pop()
    for number, part in enumerate(parts, start=shown + 1):
        fields = re.split(rf"{number}\.\s+(?:Instruction|Input|Output):", part)
        if len(fields) != 4:
            continue
        instruction, given, made = (field.strip() for field in fields[1:])
        if usable(instruction, BANNED_BY_ALPACA) and unlike(instruction, grown):
            grown.append(instruction)
            joined.append((instruction, "" if given.lower() == "<noinput>" else given, made))
    return joined
