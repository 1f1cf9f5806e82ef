"""What an export is: the names of its files, and a pure function from a sample to rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from selfinstruct.records import Instance, Sample, Tool
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lineage import Step, steps

Fields = dict[str, Any]


class ExportContext(NamedTuple):
    """What a format is told beside the sample."""

    ledger: Ledger
    system: str = ""
    """The system prompt, "" where none was asked for."""
    seed: int = 42
    """Number that whatever is drawn derives from."""

    def lineage(self, sample: Sample) -> list[Step]:
        """How a sample came about, from the job that invented it on."""
        return steps(self.ledger, sample)


class Export(Protocol):
    """A format.

    More attributes are optional: `LLAMA_FACTORY` and `AXOLOTL`, the entries that make these trainers read its files
    (`dataset.trainers`), and `LLAMA_FACTORY_CALLS` and `AXOLOTL_CALLS`, what they need beside where tools are called.
    `JSON_ONLY = True` says that its rows have no columns which a table could hold.
    """

    FILES: tuple[str, ...]
    """Names of the files it writes when nothing else is asked; the stem is its name in every layout, the suffix says
    how: `.json` is one array, `.jsonl` a row to a line."""

    def rows(self, sample: Sample, context: ExportContext) -> Iterator[Fields]:
        """The rows of one sample, most often one for each instance that is `complete`; none if it holds no such."""
        ...


# What formats have in common


def complete(sample: Sample) -> Iterator[Instance]:
    """The instances that can be trained on."""
    return (instance for instance in sample.instances if instance.complete)


def exchanges(sample: Sample) -> Iterator[Instance]:
    """Of these the single exchanges without tools, which is all that a flat format has columns for."""
    if sample.tools:
        return iter(())
    return (instance for instance in sample.instances if not instance.turns and instance.complete)


def system_of(sample: Sample, context: ExportContext) -> str:
    """The system prompt of a row: the sample's own, else the one asked for; "" for none."""
    return sample.system or context.system


def with_system(row: Fields, sample: Sample, context: ExportContext) -> Fields:
    """A row of a format that has a column for the system prompt, with it where there is one."""
    system = system_of(sample, context)
    return {"system": system, **row} if system else row


def with_tools(row: Fields, sample: Sample) -> Fields:
    """A row with a column for the tools that are offered, where there are any.

    JSON in a text, which every trainer reads: as columns, all schemas of a table would get the properties of all.
    """
    if not sample.tools:
        return row
    return {**row, "tools": json.dumps([_schema(tool) for tool in sample.tools], ensure_ascii=False)}


def _schema(tool: Tool) -> Fields:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
