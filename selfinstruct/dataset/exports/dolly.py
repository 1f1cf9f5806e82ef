"""Dolly: `instruction`, `context` ("" when none), `response` and `category`, the columns of databricks-dolly-15k.

The category is the sample's own where the recipe knows one, `classification` where it knows that much, else "".
"""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields, exchanges, with_system
from selfinstruct.records import Sample

FILES = ("dolly.jsonl",)
LLAMA_FACTORY = {"columns": {"prompt": "instruction", "query": "context", "response": "response"}}
AXOLOTL = {
    "type": {
        "field_instruction": "instruction",
        "field_input": "context",
        "field_output": "response",
        "format": "{instruction}\n\n{input}\n\n",
        "no_input_format": "{instruction}\n\n",
    }
}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each exchange."""
    category = sample.meta.get("category") or ("classification" if sample.meta.get("is_classification") else "")
    for instance in exchanges(sample):
        row = {
            "instruction": sample.instruction,
            "context": instance.input,
            "response": instance.output,
            "category": category,
        }
        yield with_system(row, sample, context)
