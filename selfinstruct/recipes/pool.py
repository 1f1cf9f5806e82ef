"""What is sampled from: seeds, and the kept samples in the order in which they joined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import overload

from selfinstruct.records import Instance, Sample, Seed
from selfinstruct.text.packed import Packed


class Kept(Sequence[Sample]):
    """Kept ones in the order in which they joined, held as what a prompt may show: without `meta` and `parent`.

    Built anew at each look, for of hundreds of thousands a prompt shows a few.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._ids, self._instructions, self._instances = Packed(), Packed(), Packed()

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, sample: Sample) -> None:
        """Add one that joins."""
        instances = [[instance.input, instance.output] for instance in sample.instances]
        self._ids.append(sample.id)
        self._instructions.append(sample.instruction)
        self._instances.append(json.dumps(instances) if instances else "")

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        instances = json.loads(self._instances[place] or "[]")
        return Sample(
            id=self._ids[place],
            stage=self._stage,
            instruction=self._instructions[place],
            instances=tuple(Instance(input=given, output=made) for given, made in instances),
        )


class Pool:
    """Seeds and the kept instructions, in the order in which they joined; what is sampled from.

    Args:
        stage: of the samples that join.
        shows_kept: as `Recipe.shows_kept`.
    """

    def __init__(self, seeds: Sequence[Seed], stage: str = "", *, shows_kept: bool = True) -> None:
        self.seeds = seeds
        self.kept = Kept(stage)
        """Samples that joined; empty where no prompt shows any."""
        self.planned = 0
        """Jobs planned from it so far: where a recipe that goes through its seeds once has come to."""
        self._shows_kept = shows_kept

    def join(self, sample: Sample) -> None:
        """Take in a sample that was kept."""
        if self._shows_kept:
            self.kept.append(sample)
