"""Are the instances of a task usable? Drops single instances, and the whole task when none stays.

Published (Self-Instruct `prepare_for_finetuning.py`), in this order: input equal to output, empty output, input or
output that ends in a colon; then two instances with the same non-empty input and different outputs drop the whole
task; then exact repeats; then at most 5 are kept, drawn at random.
"""

from __future__ import annotations

from random import Random
from typing import Annotated

from pydantic import Field

from selfinstruct.inputs.config import Section
from selfinstruct.records import Draft, Instance, InstanceDrop, Reason, Sample, Verdict


class Settings(Section):
    """What counts as a usable instance."""

    limit: Annotated[int, Field(ge=1)] = 5
    """Instances to keep of one task, drawn at random when there are more."""
    seed: int = 123
    """Number that the draw derives from, with the instruction (published: 123)."""


class Instances:
    """The filter `instances`; see `Settings`."""

    name = "instances"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def judge(self, draft: Draft) -> Verdict:
        drops = self._drops(draft)
        if len(drops) < len(draft.instances):
            return Verdict(filter=self.name, keep=True, instance_drops=tuple(drops))
        reasons = {drop.reason for drop in drops}
        reason = Reason.CONTRADICTORY_OUTPUTS if Reason.CONTRADICTORY_OUTPUTS in reasons else Reason.NO_VALID_INSTANCE
        return Verdict(filter=self.name, keep=False, reason=reason, instance_drops=tuple(drops))

    def remember(self, sample: Sample) -> None:
        """Nothing: instances are judged within their task."""

    def _drops(self, draft: Draft) -> list[InstanceDrop]:
        drops = {i: why for i, instance in enumerate(draft.instances) if (why := _invalid(instance))}
        if draft.meta.get("truncated") and draft.instances:
            # The last instance of an answer that was cut is likely incomplete.
            drops[len(draft.instances) - 1] = Reason.TRUNCATED
        valid = [i for i in range(len(draft.instances)) if i not in drops]
        if _contradict([draft.instances[i] for i in valid]):
            drops |= dict.fromkeys(valid, Reason.CONTRADICTORY_OUTPUTS)
        else:
            once = _first_of_each(draft.instances, valid)
            drops |= dict.fromkeys(set(valid) - set(once), Reason.REPEATED_INSTANCE)
            drops |= dict.fromkeys(set(once) - set(self._draw(draft, once)), Reason.OVER_LIMIT)
        return [InstanceDrop(i, drops[i]) for i in sorted(drops)]

    def _draw(self, draft: Draft, indices: list[int]) -> list[int]:
        if len(indices) <= self._settings.limit:
            return indices
        return Random(f"{self._settings.seed}:{draft.instruction}").sample(indices, self._settings.limit)


def open(settings: Settings) -> Instances:
    """The filter for these settings."""
    return Instances(settings)


def _invalid(instance: Instance) -> Reason | None:
    """Why one instance is unusable by itself, in the published order."""
    if instance.input == instance.output != "":
        return Reason.OUTPUT_IS_INPUT
    if not instance.output and not instance.complete:
        return Reason.EMPTY_OUTPUT
    return Reason.ENDS_WITH_COLON if instance.input.endswith(":") or instance.output.endswith(":") else None


def _contradict(instances: list[Instance]) -> bool:
    """Whether some non-empty input has two different outputs."""
    outputs: dict[str, str] = {}
    return any(i.input and outputs.setdefault(i.input, i.output) != i.output for i in instances)


def _first_of_each(instances: tuple[Instance, ...], indices: list[int]) -> list[int]:
    first: dict[str, int] = {}
    for i in indices:
        # By its text: the arguments of a call have no hash.
        first.setdefault(instances[i].model_dump_json(), i)
    return list(first.values())
