"""Alpaca: `instruction`, `input` ("" when none) and `output`, one row to an instance.

The columns of `alpaca_data.json` (Stanford Alpaca), as LLaMA-Factory, Axolotl and Unsloth read them.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields, exchanges, with_system
from selfinstruct.records import Sample

FILES = ("alpaca.json", "alpaca.jsonl")
LLAMA_FACTORY = {"columns": {"prompt": "instruction", "query": "input", "response": "output"}}
AXOLOTL = {"type": "alpaca"}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each exchange."""
    for instance in exchanges(sample):
        row = {"instruction": sample.instruction, "input": instance.input, "output": instance.output}
        yield with_system(row, sample, context)
