"""Evol: `instruction` and `output`, the columns of WizardLM's files; an input is part of the instruction."""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import Fields, Setting, answered, question, with_system
from selfinstruct.records import Sample

FILES = ("evol.jsonl",)
LLAMA_FACTORY = {"columns": {"prompt": "instruction", "response": "output"}}
AXOLOTL = {"type": "alpaca"}


def rows(sample: Sample, setting: Setting) -> Iterator[Fields]:
    """One row for each instance."""
    for instance in answered(sample):
        yield with_system({"instruction": question(sample, instance), "output": instance.output}, setting)
