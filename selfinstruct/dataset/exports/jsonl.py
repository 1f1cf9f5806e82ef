"""JSONL with lineage: one line to a sample, with all of its instances and how each step of its making went."""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import Fields, Setting
from selfinstruct.records import Sample

FILES = ("samples.jsonl",)
JSON_ONLY = True


def rows(sample: Sample, setting: Setting) -> Iterator[Fields]:
    """One row: the task, what the recipe knows of it, and its lineage from the first prompt on."""
    yield {
        "id": sample.id,
        "instruction": sample.instruction,
        "instances": [instance.model_dump() for instance in sample.instances],
        **sample.meta,
        "lineage": [step._asdict() for step in setting.lineage(sample)],
    }
