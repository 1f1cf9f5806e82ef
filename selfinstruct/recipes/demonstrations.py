"""Tasks shown in a prompt: how many, and which."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Self

from pydantic import JsonValue, model_validator

from selfinstruct.recipes.base import RecipeOptions
from selfinstruct.records import Sample, Seed


class DemonstrationOptions(RecipeOptions):
    """Options of a recipe whose prompts show tasks of the pool."""

    strict: bool = False
    demonstrations: int
    kept_demonstrations: int

    @model_validator(mode="after")
    def _contradictions(self) -> Self:
        if self.kept_demonstrations > self.demonstrations:
            raise ValueError("kept_demonstrations is more than demonstrations: lower it")
        return self


def draw(
    kept: Sequence[Sample], seeds: Sequence[Seed], rng: Random, options: DemonstrationOptions
) -> list[Sample | Seed]:
    """What a prompt shows: kept ones first, filled up with seeds, then shuffled together (Self-Instruct)."""
    shown: list[Sample | Seed] = [*rng.sample(kept, min(options.kept_demonstrations, len(kept)))]
    shown += rng.sample(seeds, options.demonstrations - len(shown))
    rng.shuffle(shown)
    return shown


def validity_settings(*, any_script: bool, exact: bool) -> dict[str, JsonValue]:
    """Settings of the filter `validity`; `exact` recognises "Write a program" by its published capitals, which is all
    there is after `capitalize`."""
    return {"start": "any_script" if any_script else "ascii", "programs": "exact" if exact else "any_case"}
