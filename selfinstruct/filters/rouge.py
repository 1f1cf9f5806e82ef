"""Is this instruction a near-duplicate of one in the pool? Exact ROUGE-L against every pool item.

The decision equals `rouge_score.RougeScorer(["rougeL"], use_stemmer=False)` with fmeasure > threshold (Self-Instruct,
section 2.2; Alpaca), however the index finds it; a pair at exactly the threshold passes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfinstruct.filters.rouge_index import RougeIndex
from selfinstruct.inputs.config import Section
from selfinstruct.records import Draft, Reason, Sample, Verdict
from selfinstruct.text.packed import Packed
from selfinstruct.text.words import TOKENIZERS


class Settings(Section):
    """What counts as a near-duplicate."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Drop when the F-measure with any pool item is above it (published: 0.7)."""
    tokenizer: Literal["rouge", "unicode"] = "rouge"
    """`rouge`: words of a-z and 0-9 (published); `unicode`: words of any script. Equal on ASCII text."""


class Rouge:
    """The filter `rouge`; see `Settings`."""

    name = "rouge"

    def __init__(self, settings: Settings) -> None:
        self._index = RougeIndex(settings.threshold, TOKENIZERS[settings.tokenizer])
        self._ids = Packed()

    def judge(self, draft: Draft) -> Verdict:
        match = self._index.match(draft.instruction)
        if match is None:
            return Verdict(filter=self.name, keep=True)
        detail = {"of": self._ids[match.number], "score": match.score}
        return Verdict(filter=self.name, keep=False, reason=Reason.NEAR_DUPLICATE, detail=dict(detail))

    def remember(self, sample: Sample) -> None:
        self._index.add(sample.instruction)
        self._ids.append(sample.id)


def open(settings: Settings) -> Rouge:
    """The filter for these settings, with an empty pool."""
    return Rouge(settings)
