"""Alpaca: `instruction`, `input` ("" when none) and `output`, one row to an instance.

The columns of `alpaca_data.json` (Stanford Alpaca), as LLaMA-Factory, Axolotl and Unsloth read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfinstruct.exports.base import Lineage
from selfinstruct.records import Sample

FILES = ("alpaca.json", "alpaca.jsonl")


def rows(sample: Sample, lineage: Lineage) -> Iterator[dict[str, Any]]:
    """One row for each instance."""
    for instance in sample.instances:
        yield {"instruction": sample.instruction, "input": instance.input, "output": instance.output}
