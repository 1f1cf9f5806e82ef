"""The languages that texts are written in, and how sure that is.

`py3langid` knows 139 of them from a model of 5 MB in its wheel, loads in under a second and reads 13,000 instructions a
second. (lingua, the other well-kept library that needs no download, is surer about single short texts, which a share
of many does not need, and takes 96 MB of disk, 7 s to load and 1.3 GB of memory: bench/languages.py.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SURE = 0.5
"""Probability from which on a text counts for its likeliest language; a handful of words often does not reach it."""
NAMED = 0.05
"""Share of the texts from which on a language is named: below lie the mistakes about short texts."""


class Languages(NamedTuple):
    """What was found in a number of texts."""

    texts: int
    shares: dict[str, float]
    """Share of the texts by ISO 639 code, the largest first, each at least `NAMED`."""
    unsure: float
    """Share of the texts that no language is likely for."""


def detect(texts: Sequence[str]) -> Languages:
    """The languages of these texts.

    >>> detect(["Explain why the tide rises twice a day."] * 3).shares
    {'en': 1.0}
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)
    found = Counter(identifier.classify(text)[0] for text in texts)
    unsure = found.pop("und", 0)
    total = max(1, len(texts))
    shares = {language: count / total for language, count in found.most_common() if count >= NAMED * total}
    return Languages(len(texts), shares, unsure / total)
