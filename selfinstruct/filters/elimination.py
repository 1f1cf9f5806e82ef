"""Did an evolution fail? The elimination rules of Evol-Instruct (Xu et al. 2023, arXiv 2304.12244, section 3.2), and
what its prompts ask for and nobody enforces.

Of an evolved instruction: words of the prompt that leaked into it (rule 4), and how many words it added. Of its answer:
the judge found no information gain (rule 1), a refusal (rule 2), nothing but punctuation and stop words (rule 3), or
cut short. What the judge said was asked before the answer, and is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from selfinstruct.inputs.config import Section, Words
from selfinstruct.records import Draft, Reason, Sample, Verdict
from selfinstruct.text.words import unicode_tokens

LEAKS = (
    "given prompt", "rewritten prompt", "created prompt", "given task", "rewritten task", "created task",
    "task to rewrite", "inspiring task", "inspired task", "harder task:", "sister task:", "data given as:",
)  # fmt: skip
"""Words of evolving prompts: the published ones, and those of the prompts that ship."""


class Settings(Section):
    """Which evolutions have failed."""

    information_gain: bool = True
    """Drop what the judge calls equal to what it was evolved from (rule 1)."""
    unclear: Literal["keep", "drop"] = "keep"
    """What becomes of an evolution that the judge was asked about and gave no clear word on; kept, it carries that as
    its reason."""
    unchanged: bool = True
    """Drop what has the words of its parent in their order, without asking the judge."""
    refusal_words: Annotated[int, Field(ge=0)] = 80
    """Drop an answer that contains a marker of refusal and has fewer words than this (rule 2: 80); 0 drops none."""
    refusal_markers: Words = ("sorry",)
    """Words that mark a refusal, in any capitals."""
    content: bool = True
    """Drop an answer that is only punctuation and stop words (rule 3)."""
    stop_words: Words = ()
    """Stop words beside the English ones."""
    leaked_words: Words = LEAKS
    """Drop what contains one of these, in any capitals (rule 4)."""
    parent_words: bool = True
    """Leaked words that the parent had already are none."""
    added_words: bool = True
    """Drop an in-depth evolution that adds fewer or more words than its operator says."""
    tolerance: Annotated[int, Field(ge=0)] = 10
    """Words that may be missing or too many."""
    truncated: bool = True
    """Drop an answer that was cut."""


class Elimination:
    """The filter `elimination`; see `Settings`."""

    name = "elimination"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._leaked = tuple(word.casefold() for word in settings.leaked_words)
        self._markers = tuple(marker.casefold() for marker in settings.refusal_markers)
        self._stop_words = STOP_WORDS | {word for text in settings.stop_words for word in unicode_tokens(text)}

    def judge(self, draft: Draft) -> Verdict:
        faults = self._of_task(draft) if draft.instances or "judgement" in draft.meta else self._of_instruction(draft)
        for reason, detail in faults:
            return Verdict(filter=self.name, keep=False, reason=reason, detail=detail)
        unclear = draft.meta.get("judgement") == "unclear"
        return Verdict(filter=self.name, keep=True, reason=Reason.UNCLEAR_JUDGEMENT if unclear else Reason.PASSED)

    def remember(self, sample: Sample) -> None:
        """Nothing: an evolution is judged beside its parent."""

    def _of_instruction(self, draft: Draft) -> Iterator[tuple[Reason, dict[str, JsonValue]]]:
        parent = str(draft.meta.get("evolved_from", ""))
        if word := self._leak(draft.instruction, parent):
            yield Reason.LEAKED_PROMPT, {"word": word}
        before, after = unicode_tokens(parent), unicode_tokens(draft.instruction)
        if self._settings.unchanged and before == after:
            yield Reason.NO_INFORMATION_GAIN, {"judgement": "unchanged"}
        limits: Any = draft.meta.get("added_words")
        if self._settings.added_words and limits:
            added, (fewest, most) = len(after) - len(before), limits
            if added < fewest - self._settings.tolerance:
                yield Reason.TOO_FEW_ADDED_WORDS, {"added": added, "fewest": fewest}
            if added > most + self._settings.tolerance:
                yield Reason.TOO_MANY_ADDED_WORDS, {"added": added, "most": most}

    def _leak(self, text: str, parent: str) -> str:
        """The first leaked word; plain substrings, for word boundaries fail beside a `#`."""
        there = parent.casefold() if self._settings.parent_words else ""
        return next((word for word in self._leaked if word in text.casefold() and word not in there), "")

    def _of_task(self, draft: Draft) -> Iterator[tuple[Reason, dict[str, JsonValue]]]:
        judgement = draft.meta.get("judgement")
        if self._settings.information_gain and judgement == "equal":
            yield Reason.NO_INFORMATION_GAIN, {"judgement": "equal"}
        if self._settings.unclear == "drop" and judgement == "unclear":
            yield Reason.UNCLEAR_JUDGEMENT, {}
        answer = draft.instances[0].output if draft.instances else ""
        if self._settings.truncated and draft.meta.get("truncated"):
            yield Reason.TRUNCATED, {}
        words = unicode_tokens(answer)
        marker = next((marker for marker in self._markers if marker in answer.casefold()), "")
        if marker and len(answer.split()) < self._settings.refusal_words:
            yield Reason.REFUSAL, {"marker": marker, "words": len(answer.split())}
        if self._settings.content and self._stop_words.issuperset(words):
            yield Reason.NO_CONTENT, {}


def open(settings: Settings) -> Elimination:
    """The filter for these settings."""
    return Elimination(settings)


STOP_WORDS = frozenset(
    unicode_tokens(
        "a about after all also am an and any are as at be because been before but by can could did do does for from"
        " had has have he her here him his how i if in into is it its just me more my nor of on or our out over own s"
        " so some such t than that the their them then there these they this those to too under up very was we were"
        " what when where which while who why will with would you your"
    )
)
"""English words that say nothing by themselves; "no" and "not" may be a whole answer, so they are not among them."""
