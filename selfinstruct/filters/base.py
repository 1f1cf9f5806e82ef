"""What a filter is: one method that judges, one that remembers."""

from __future__ import annotations

from typing import Protocol

from selfinstruct.records import Draft, Sample, Verdict


class Filter(Protocol):
    """Judges drafts one at a time; what it knows of earlier ones it was told by `remember`.

    A filter is made by a factory `open(settings) -> Filter` and found by its name (`selfinstruct.filters.open_filter`).
    """

    name: str

    def judge(self, draft: Draft) -> Verdict:
        """The verdict on a draft; changes nothing, and depends on nothing but the draft, the settings and what was
        remembered."""
        ...

    def remember(self, sample: Sample) -> None:
        """Take note of a seed or of a sample that joins the pool; called in order, and again in that order on
        resume."""
        ...
