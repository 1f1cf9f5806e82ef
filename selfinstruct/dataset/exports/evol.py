"""Evol: `instruction` and `output`, the columns of WizardLM's files; an input is part of the instruction."""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields, exchanges, with_system
from selfinstruct.records import Sample, question

FILES = ("evol.jsonl",)
LLAMA_FACTORY = {"columns": {"prompt": "instruction", "response": "output"}}
AXOLOTL = {"type": "alpaca"}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each exchange."""
    for instance in exchanges(sample):
        yield with_system({"instruction": question(sample, instance), "output": instance.output}, sample, context)
