"""Text: one column, for training a language model on the whole of it.

Parts stand under headings, those of Alpaca's prompt without its sentence of introduction. The trainer adds the end of
sequence of its model.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields, exchanges, system_of
from selfinstruct.records import Instance, Sample

FILES = ("text.jsonl",)
LLAMA_FACTORY = {"columns": {"prompt": "text"}}
AXOLOTL = {"type": "completion"}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each exchange."""
    for instance in exchanges(sample):
        yield {"text": "\n\n".join(_parts(sample, instance, context))}


def _parts(sample: Sample, instance: Instance, context: ExportContext) -> Iterator[str]:
    if system := system_of(sample, context):
        yield system
    yield f"### Instruction:\n{sample.instruction}"
    if instance.input:
        yield f"### Input:\n{instance.input}"
    yield f"### Response:\n{instance.output}"
