"""JSONL with lineage: one line to a sample, with all of its instances and how each step of its making went.

Nothing is left out: thoughts, rivals, scores and checks are there where a sample has them.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields
from selfinstruct.records import Sample

FILES = ("samples.jsonl",)
JSON_ONLY = True
_MORE = {"system", "tools", "family", "facets"}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row: the task whole, what the recipe knows of it, and its lineage from the first prompt on."""
    yield {
        "id": sample.id,
        "instruction": sample.instruction,
        "instances": [instance.fields() for instance in sample.instances],
        **sample.meta,
        **sample.model_dump(mode="json", include=_MORE, exclude_defaults=True),
        "lineage": [step._asdict() for step in context.lineage(sample)],
    }
