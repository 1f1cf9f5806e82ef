"""What an export is: the names of its files, and a pure function from a sample to rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from selfinstruct.records import Instance, Sample
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lineage import Step, steps

Fields = dict[str, Any]


class Setting(NamedTuple):
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

    Two more attributes are optional: `LLAMA_FACTORY` and `AXOLOTL`, the entries that make these trainers read its
    files (`exports.trainers`). `JSON_ONLY = True` says that its rows have no columns which a table could hold.
    """

    FILES: tuple[str, ...]
    """Names of the files it writes when nothing else is asked; the stem is its name in every layout, the suffix says
    how: `.json` is one array, `.jsonl` a row to a line."""

    def rows(self, sample: Sample, setting: Setting) -> Iterator[Fields]:
        """The rows of one sample, most often one for each instance that is `answered`; none if it holds no such."""
        ...


# What formats have in common


def answered(sample: Sample) -> Iterator[Instance]:
    """The instances that can be trained on: those with an output."""
    return (instance for instance in sample.instances if instance.output.strip())


def question(sample: Sample, instance: Instance) -> str:
    """Instruction and input as one text, with a newline between them: as WizardLM and LLaMA-Factory join them."""
    return f"{sample.instruction}\n{instance.input}" if instance.input else sample.instruction


def conversation(sample: Sample, instance: Instance, setting: Setting) -> list[tuple[str, str]]:
    """Role and text of each turn; the roles are `system`, `user` and `assistant`."""
    system = [("system", setting.system)] if setting.system else []
    return [*system, ("user", question(sample, instance)), ("assistant", instance.output)]


def with_system(row: Fields, setting: Setting) -> Fields:
    """A row of a format that has a column for the system prompt, with it where one was asked for."""
    return {"system": setting.system, **row} if setting.system else row
