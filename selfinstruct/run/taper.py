"""What open jobs may be expected to bring: pure arithmetic over how each stage has done so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from selfinstruct.recipes.base import Stage


class Tally:
    """How a stage has done so far."""

    def __init__(self) -> None:
        self.done = 0
        """Jobs settled or failed."""
        self.tasks = 0
        """Tasks that they kept; of the last stage alone."""
        self.follow_ups: Counter[str] = Counter()
        """Jobs that followed from them, by stage."""


class Taper:
    """The stages of a run and what a job of each is worth.

    Args:
        stages: of all recipes, in order.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._brings = {stage.name: stage.brings for stage in stages}
        self._names = tuple(self._brings)
        self.tallies = {name: Tally() for name in self._names}

    def value(self, stage: str) -> float:
        """How many tasks a job of this stage may be expected to bring, with what follows from it in later stages; a
        return to an earlier stage, another round, is not counted.

        The recipe's own expectation counts as one job, so that a stage without history has one too.
        """
        tally, expected = self.tallies[stage], self._brings[stage]
        after = self._names[self._names.index(stage) + 1 :]
        if not after:
            return (tally.tasks + expected) / (tally.done + 1)
        return sum(
            (tally.follow_ups[later] + expected * (later == after[0])) * self.value(later) for later in after
        ) / (tally.done + 1)

    def expected(self, jobs: Mapping[str, int]) -> float:
        """How many tasks so many jobs of each stage may be expected to bring."""
        return sum(count * self.value(stage) for stage, count in jobs.items() if count)
